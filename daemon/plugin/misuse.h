// What a plugin must not do to the process that it is part of: end it or one of connectd's threads,
// close connectd's descriptors, change the working directory. Whoever does is named, like one that
// crashes (plugin/crash.h), and the process ends with the code for failed plugins, so that systemd
// starts it again:
//
//   plugin counter 1.0.0 called exit(0) in apply at index 812: a plugin must not end the process
//
// Calls are caught because connectd defines these functions and exports them: a plugin binds to
// them and not to the C library's (plugin/interposed.cc; docs/adr/0034-what-a-plugin-binds-to.md).
// Where the C library calls exit() itself, as in err(), a function for atexit() notices.
#pragma once

#include <string_view>

namespace connectd::plugin {

inline constexpr std::string_view kMustNotEnd = "a plugin must not end the process";

// Before the first plugin is loaded, on the main thread. Until then, and in processes that are
// forked from this one, nothing is caught.
void install_misuse_guard(int exit_code);

// main() is about to return.
void expect_exit();

// Whether `caller`, an address in code, belongs to a plugin or a library while the guard is
// installed. False in a forked child.
bool is_foreign(const void* caller);

// Whether it does not belong to connectd's own code, in whichever process.
bool is_outside(const void* caller);

// Whether the guard is installed in this process.
bool is_guarded();

// Closes a standard descriptor that was opened anew, and makes descriptor 2 standard error again,
// so that last words go where they belong.
void give_back_standard(int descriptor);

// Names the caller and its plugin call, and ends the process. `did`: "called exit(0)".
[[noreturn]] void end_for_misuse(std::string_view did, std::string_view why, const void* caller);

}  // namespace connectd::plugin

// Errors that are values: expected outcomes, bad input, and an environment that cannot be trusted.
// Broken invariants are not errors; they are CHECKs (base/log.h).
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace connectd {

// How the process ends when an error cannot be handled: sysexits(3), and 81 for the plugin.
enum class ExitCode : int {
  kOk = 0,
  kNegative = 1,      // connectctl: the answer is "no"
  kUsage = 64,        // command line
  kData = 65,         // data refused or corrupt
  kNoInput = 66,      // a file is missing
  kUnavailable = 69,  // connectctl: nobody reachable
  kInternal = 70,     // our bug
  kCannotCreate = 73,
  kStorage = 74,   // write or sync failed
  kTryAgain = 75,  // connectctl: try again later
  kMismatch = 76,  // version or cluster mismatch
  kPermission = 77,
  kConfig = 78,
  kPlugin = 81,  // the plugin failed
};

// What happened, why, and what to do next, in one text for people; and how it ends the process if
// nobody handles it.
struct Error {
  ExitCode code = ExitCode::kInternal;
  std::string text;
  // The disk (or its quota) is full: the same may succeed when there is space.
  bool no_space = false;
};

template <class T = void>
using Result = tl::expected<T, Error>;

// `return failure(ExitCode::kData, "...")`
[[nodiscard]] inline tl::unexpected<Error> failure(ExitCode code, std::string text) {
  return tl::unexpected<Error>(Error{code, std::move(text)});
}
[[nodiscard]] inline tl::unexpected<Error> failure(Error error) {
  return tl::unexpected<Error>(std::move(error));
}

// "No such file or directory (2)" for an errno value. Any thread.
std::string errno_text(int error_number);

}  // namespace connectd

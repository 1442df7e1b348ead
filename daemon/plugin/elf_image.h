// What the headers of a plugin's file say, read before the dynamic loader sees them. The bytes may
// be anything: every offset is checked.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace connectd::plugin {

// Why the dynamic loader cannot load the file, or would die of it: it maps a truncated file without
// complaint, and touching what is missing is a SIGBUS. Empty: nothing is wrong.
std::string elf_problem(std::string_view bytes);

// Whether a library or a search path that the file names begins in the file's own directory
// ($ORIGIN). Such a file has to be mapped from where it lies.
bool uses_origin(std::string_view bytes);

// The symbols that the file exports besides its entry connectd_plugin_v1, in the file's order. Left
// out is what the author cannot hide by -fvisibility=hidden: weak definitions of the C++ library's
// templates and inline functions, and what the linker makes. Without section headers: none.
std::vector<std::string> exported_symbols(std::string_view bytes);

}  // namespace connectd::plugin

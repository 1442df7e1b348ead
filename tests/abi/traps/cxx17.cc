// Expected: connect/plugin.hpp needs C++20: compile with -std=c++20
// Standard: c++17
#include <connect/plugin.hpp>

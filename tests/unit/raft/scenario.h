// A file of tests/scenarios: commands for the stage, and the traces that they must leave.
#pragma once

#include <string>
#include <vector>

namespace connectd::raft {

// The names of the scenarios in a folder, in order.
std::vector<std::string> scenario_names(const std::string& folder);

// Plays a file. What is wrong, with file and line; empty: each trace is as it is written there.
// `rewrite`: writes the actual trace into the file instead.
std::string play_scenario(const std::string& path, bool rewrite);

}  // namespace connectd::raft

#include "tests/unit/raft/scenario.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <fstream>

#include "tests/unit/raft/stage.h"

namespace connectd::raft {

std::vector<std::string> scenario_names(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.path().extension() == ".txt") names.push_back(file.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string play_scenario(const std::string& path, bool rewrite) {
  std::ifstream in(path);
  if (!in) return path + ": cannot be read";
  Stage stage;
  std::string played;
  int number = 0;
  std::vector<std::string> commands;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line != "----") {
      played += line + "\n";
      if (!line.empty() && line[0] != '#') commands.push_back(line);
      continue;
    }
    std::string expected;
    while (std::getline(in, line) && !line.empty()) {
      ++number;
      expected += line + "\n";
    }
    ++number;
    std::string trace;
    for (const std::string& command : commands) {
      std::string part;
      try {
        part = stage.run(command);
      } catch (const std::exception& error) {
        return fmt::format("{}:{}: {}: {}", path, number, command, error.what());
      }
      if (part != "ok\n") trace += part;
      if (!stage.broken().empty()) {
        return fmt::format("{}:{}: after {}: {}", path, number, command, stage.broken());
      }
    }
    if (trace.empty()) trace = "ok\n";
    if (!rewrite && trace != expected) {
      return fmt::format("{}:{}: the trace is\n{}and not\n{}", path, number, trace, expected);
    }
    played += "----\n" + trace + "\n";
    commands.clear();
  }
  if (!commands.empty()) return path + " ends without ----";
  if (rewrite) {
    while (played.ends_with("\n\n")) played.pop_back();
    std::ofstream(path) << played;
  }
  return {};
}

}  // namespace connectd::raft

#include "tests/mutants/runners.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "base/log.h"
#include "plugin/plugin.h"
#include "sim/simulation.h"
#include "tests/paths.h"
#include "tests/unit/raft/faults_then_calm.h"
#include "tests/unit/raft/scenario.h"

namespace connectd::mutants {
namespace {

const std::string kScenarios = CONNECTD_SOURCE_DIR "/tests/scenarios";

std::vector<std::shared_ptr<const plugin::Plugin>>& plugins() {
  static std::vector<std::shared_ptr<const plugin::Plugin>> loaded;
  return loaded;
}

std::vector<std::string>& scenarios() {
  static std::vector<std::string> names;
  return names;
}

std::string run_simulator(uint64_t seed, bool trace) {
  sim::SimOptions options;
  options.seed = seed;
  options.nodes = std::array<size_t, 8>{3, 3, 5, 3, 3, 1, 3, 5}[seed % 8];
  options.plugin = plugins()[seed % plugins().size()];
  if (trace) {
    options.trace = [](std::string_view line) { fmt::print("{}\n", line); };
  }
  return sim::Simulation(options).run().failure;
}

std::string run_scenario(uint64_t number) {
  const std::string& name = scenarios()[(number - 1) % scenarios().size()];
  std::string failure = raft::play_scenario(kScenarios + "/" + name + ".txt", false);
  return failure.empty() ? failure : "scenario " + name + ": " + failure;
}

}  // namespace

void prepare() {
  set_log_level(LogLevel::kError);
  for (const char* file :
       {"plugins/libkv.so", "plugins/libcounter.so", "tests/plugins/libchain.so"}) {
    plugin::LoadOptions options;
    options.path = std::string(CONNECTD_BINARY_DIR "/") + file;
    auto loaded = plugin::Plugin::load(options);
    CHECK(loaded.has_value()) << loaded.error().text;
    plugins().push_back(std::move(*loaded));
  }
  scenarios() = raft::scenario_names(kScenarios);
  CHECK(!scenarios().empty());
}

std::string run(Killer killer, uint64_t number, bool trace) {
  switch (killer) {
    case Killer::kSimulator:
      return run_simulator(number, trace);
    case Killer::kCores:
      return raft::run_faults_then_calm(number);
    case Killer::kScenarios:
      return run_scenario(number);
    case Killer::kStorageUnits:
    case Killer::kNodeUnits:
    case Killer::kTransportUnits:
    case Killer::kConversationUnits:
    case Killer::kOfflineUnits:
      break;
  }
  return {};
}

uint64_t runs_there_are(Killer killer) {
  return killer == Killer::kScenarios ? scenarios().size() : 0;
}

const char* killer_name(Killer killer) {
  switch (killer) {
    case Killer::kSimulator:
      return "simulator";
    case Killer::kCores:
      return "cores";
    case Killer::kScenarios:
      return "scenarios";
    case Killer::kStorageUnits:
      return "storage";
    case Killer::kNodeUnits:
      return "node";
    case Killer::kTransportUnits:
      return "transport";
    case Killer::kConversationUnits:
      return "conversation";
    case Killer::kOfflineUnits:
      return "offline";
  }
  return "";
}

bool is_units(Killer killer) {
  return killer == Killer::kStorageUnits || killer == Killer::kNodeUnits ||
         killer == Killer::kTransportUnits || killer == Killer::kConversationUnits ||
         killer == Killer::kOfflineUnits;
}

void become_units(Killer killer, int mutant) {
  setenv("CONNECTD_MUTANT", std::to_string(mutant).c_str(), 1);
  const std::string program =
      fmt::format(CONNECTD_BINARY_DIR "/bin/{}_mutants", killer_name(killer));
  execl(program.c_str(), program.c_str(), "--gtest_brief=1", "--gtest_fail_fast", nullptr);
  std::perror(program.c_str());
  std::abort();
}

}  // namespace connectd::mutants

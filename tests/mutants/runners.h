// What can notice a mutant. Each way to run takes a number, and returns what broke; empty: nothing.
#pragma once

#include <cstdint>
#include <string>

namespace connectd::mutants {

enum class Killer : uint8_t {
  kSimulator,     // a whole cluster from a seed: sim/simulation.h
  kCores,         // cores from a seed, learners and joint configurations among them
  kScenarios,     // tests/scenarios, one after the other
  kStorageUnits,  // the unit tests of a module, a program of their own
  kNodeUnits,
  kTransportUnits,
  kConversationUnits,
  kOfflineUnits,
};

// Loads what the runners need. Before the first run.
void prepare();
// `number`: the seed, from 1 on; of scenarios, their number, and after the last one
// again from the first. `trace`: what happens goes to stdout (the simulator only).
std::string run(Killer killer, uint64_t number, bool trace);
// How many different runs there are; 0: as many as there are seeds.
uint64_t runs_there_are(Killer killer);
// Becomes the program of the unit tests, with this mutant on. Does not return.
[[noreturn]] void become_units(Killer killer, int mutant);
// "simulator", "cores", ...
const char* killer_name(Killer killer);
bool is_units(Killer killer);

}  // namespace connectd::mutants

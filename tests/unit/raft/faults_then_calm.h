// One seed of cores: faults of all kinds for a while, then calm.
#pragma once

#include <cstdint>
#include <string>

namespace connectd::raft {

// What broke, of the invariants or of the demands for progress; empty: nothing did.
std::string run_faults_then_calm(uint64_t seed);

}  // namespace connectd::raft

// Limits that more than one module keeps to, once each. They are part of formats: a value that is
// raised is refused by older builds.
#pragma once

#include <cstddef>
#include <cstdint>

namespace connectd {

// Members of a cluster; in a configuration file, in the genesis and in every member list.
inline constexpr size_t kMaxMembers = 64;
// Disasters that one cluster may have lived through, and entries that its operators may have had
// skipped: all of them are in each hello, which has a bound, and in the identity file.
inline constexpr size_t kMaxFormerClusters = 16;
inline constexpr size_t kMaxSkippedEntries = 64;
inline constexpr size_t kMaxGenesisBytes = 1 << 20;
// One entry's payload, and so the largest client.max_request. Checked before anything is allocated
// for a declared length.
inline constexpr uint32_t kMaxEntryPayloadBytes = 64u << 20;
// The largest raft.max_clock_drift_percent.
inline constexpr uint8_t kMaxClockDriftPercent = 40;

}  // namespace connectd

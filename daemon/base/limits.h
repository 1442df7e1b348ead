// Limits that more than one module keeps to, once each. They are part of formats: a value that is
// raised is refused by older builds.
#pragma once

#include <cstddef>
#include <cstdint>

namespace connectd {

// Terms, indexes, sessions and sequences. Storage refuses a larger one when it reads, so a larger
// one must never be written: the log CHECKs it.
inline constexpr uint64_t kMaxNumber = uint64_t{1} << 62;
// The largest one that is accepted from another node. It leaves this node room to count on from
// there. Honest numbers never come near: a term a microsecond takes 146,000 years.
inline constexpr uint64_t kMaxReceivedNumber = kMaxNumber - (uint64_t{1} << 32);
// The largest node.id.
inline constexpr uint64_t kMaxNodeId = (uint64_t{1} << 63) - 1;
// The latest time stamp of an entry that is accepted from another node, in ns since 1970: past the
// year 2180, and far enough from the end of the type for a log to go on from there. And the latest
// wall clock that counts: 2116.
inline constexpr int64_t kMaxReceivedStampNs = (int64_t{1} << 62) + (int64_t{1} << 61);
inline constexpr int64_t kMaxWallNs = int64_t{1} << 62;

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

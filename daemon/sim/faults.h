// The faults that the simulator can inject, by name: one list for drawing, counting, --faults and
// the docs.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace connectd::sim {

enum class Fault : uint8_t {
  kMessageLoss = 0,
  kMessageDuplicate,
  kMessageDelay,     // out of order
  kCloggedLink,      // nothing passes for a while, then all of it
  kConnectionBreak,  // what is on its way is lost, both sides learn of it
  kPartition,        // two groups
  kPartitionOneWay,  // one node does not hear, or is not heard
  kPartitionBridge,  // one node sees both halves, which do not see each other
  kPartitionFlapping,
  kPartitionSwizzle,  // nodes are cut off one by one, and come back in another order
  kCrashPower,        // what was not synced may be gone, whole or in part
  kCrashProcess,      // kill -9: what was written stays
  kCrashAll,          // the power of the whole cluster
  kPause,             // SIGSTOP; the clocks go on
  kClockRate,         // each clock 0.5 to 2 times as fast as time
  kClockJump,         // of a wall clock, up to 10 s either way
  kDiskSlow,
  kDiskStall,   // nothing completes for a while
  kWriteLost,   // sectors that a power cut took, or left as they were
  kWriteTorn,   // ... some of a file's, and some not
  kWriteError,  // EIO: the process must end
  kSyncError,   // likewise; what was to be synced may be lost though reads still see it
  kDiskFull,
  kBitFlip,           // in what was sealed long ago: the node must not serve from it
  kMisdirectedWrite,  // a sector in another one's place, likewise
  kDiskWiped,         // an empty disk in place of the old one: the node must not vote
  kTinyLimits,        // batches of one entry, segments of a few, a snapshot every few entries
  kMembership,        // members come, go and are exchanged, and leadership is handed over
  kSlowReader,        // a client takes no bytes for a while
  kNoDescriptors,     // EMFILE for a while: no file can be opened
  kChangedBit,        // of a frame on its way; TCP's own checksum did not notice
  kStranger,          // who is no member sends messages, or one that cannot be true
  kSlowPlugin,        // calls on the apply thread take long, or do not come back for a while
  kSlowTurn,          // each turn of the loop takes a while
  kClone,             // a copy of a node's machine runs beside it
  kHostileBytes,      // on the ports of clients and peers
  kForeignCluster,    // a node of another cluster dials the members, and is dialled
  kSmallLinks,  // buffers and windows of the links between nodes are nearly as small as a message
  kLargeRequests,       // requests near and over the largest one
  kBootstrap,           // the run begins with empty disks: the cluster forms, disturbed
  kWrongClock,          // a wall clock is off by minutes to decades when its machine starts
  kConnectionReplaced,  // connections that work are replaced, as when TLS is turned on
};
inline constexpr size_t kFaults = 42;

// "message_loss", ...
std::string_view fault_name(Fault fault);

class FaultSet {
 public:
  static FaultSet all();
  static FaultSet none() { return FaultSet(); }
  // "all", "none", names with commas between, each also with '-' in front ("all,-bit_flip").
  static Result<FaultSet> parse(std::string_view text);

  bool has(Fault fault) const { return bits_[static_cast<size_t>(fault)]; }
  void set(Fault fault, bool on = true) { bits_[static_cast<size_t>(fault)] = on; }
  size_t count() const { return bits_.count(); }
  // What parse() takes.
  std::string to_string() const;
  bool operator==(const FaultSet&) const = default;

 private:
  std::bitset<kFaults> bits_;
};

// A fault that had no effect tests nothing, so injected and effective faults are counted
// separately.
struct FaultCount {
  uint64_t injected = 0;
  uint64_t bitten = 0;
  uint64_t seeds = 0;  // runs in which it was effective
};
struct FaultCounts {
  std::array<FaultCount, kFaults> counts;
  FaultCount& operator[](Fault fault) { return counts[static_cast<size_t>(fault)]; }
  const FaultCount& operator[](Fault fault) const { return counts[static_cast<size_t>(fault)]; }
  void add(const FaultCounts& other);
};

}  // namespace connectd::sim

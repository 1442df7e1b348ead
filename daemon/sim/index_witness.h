// The first of the two methods of sim/linearizability.h: the index in each reply, and the log, are
// the witness that the history is linearizable.
//
// Put every write at its index and every read right after the index that it saw. The rules say that
// this order keeps real time and the order of each connection, that the log holds what clients were
// told and nothing else, and that a replay of the log gives every reply. Together they are what
// linearizable means, so nothing has to be searched: n log n in the operations.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "node/membership/genesis.h"
#include "plugin/instance.h"
#include "raft/types.h"
#include "sim/history.h"

namespace connectd::sim {

// The whole committed log as it was applied, from index 1 on, without gaps.
struct WitnessEntry {
  raft::Entry entry;
  bool is_applied = false;  // a command, and the sessions admitted it
};
using WitnessLog = std::vector<WitnessEntry>;

// Applies the log once more.
class Replayer {
 public:
  struct Answer {
    int32_t status = 0;
    std::string reply;
    bool changed_state = false;  // of a read: the state is another one after it
  };
  virtual ~Replayer() = default;
  // Each entry of the log, in its order. The answer counts only when the entry is applied.
  virtual Result<Answer> apply(const WitnessEntry& entry) = 0;
  // On the state after `last`, the entry applied last.
  virtual Result<Answer> read(const WitnessEntry& last, const std::string& request) = 0;
};

// Into a fresh instance of the plugin, as a node would: with the time, seed, term and index of each
// entry, and ticks where the log has them. A read that reports a time left is not repeatable; what
// has expired is.
//
// What classify calls a read is open to callers that may not write, so it must change nothing. Each
// read, with its classify, is between two snapshots of the state, which must be equal. That is for
// plugins whose equal states give equal snapshots, and ends after kComparedBytesMax of snapshots.
class PluginReplayer final : public Replayer {
 public:
  static Result<std::unique_ptr<PluginReplayer>> make(std::shared_ptr<const plugin::Plugin> plugin,
                                                      const node::Genesis& genesis);
  Result<Answer> apply(const WitnessEntry& entry) override;
  Result<Answer> read(const WitnessEntry& last, const std::string& request) override;

  static constexpr uint64_t kComparedBytesMax = 64 << 20;

 private:
  PluginReplayer(std::unique_ptr<plugin::Instance> instance, const node::Genesis& genesis);
  // The checksum of the state; none: it is not compared, or not any longer.
  Result<std::optional<uint64_t>> state_after(const WitnessEntry& last);

  const std::unique_ptr<plugin::Instance> instance_;
  const node::Genesis genesis_;
  bool compares_states_;
  uint64_t compared_bytes_ = 0;
  std::optional<uint64_t> state_;  // of the present state, if it is known
};

enum class WitnessRule {
  kLabel,           // an acknowledged write has an index, and no index is beyond the log
  kDistinct,        // no two acknowledged writes have the same one
  kOwnEntry,        // the entry at a write's index is that write, applied
  kOnce,            // nothing is applied more often than it was called
  kRefused,         // what was refused is not applied
  kAskedFor,        // what is applied was called
  kUnknownInTime,   // a write of unknown outcome comes after what was answered before its call
  kRealTime,        // what is called after a reply comes after it
  kReadAfterWrite,  // on one connection: a read sees the writes called before it,
  kWriteAfterRead,  // a write comes behind what the reads before it saw,
  kPipeline,        // and requests of one kind keep their order
  kReadOnly,        // a read changes nothing
  kReplayedWrite,   // the replay replies to a write what its client saw
  kReplayedRead,    // and to a read
  kReplay,          // the log can be replayed
};
const char* rule_name(WitnessRule rule);

struct BrokenRule {
  WitnessRule rule{};
  std::string text;  // the rule's name, and the first operations that break it
};

// Every rule that is broken, once. Empty: the history is linearizable.
//
// Exactly once is told by the bytes of the requests: kOnce, kRefused and kAskedFor compare how
// often a request was called with how often it is in the log, and kUnknownInTime holds for requests
// that were called once. They say most when no two writes of the run are the same bytes, which is
// how the simulator's workloads are made; of writes that are the same bytes the log cannot tell
// which is which, and what is left is their number and the indexes that were acknowledged.
std::vector<BrokenRule> check_index_witness(const History& history, const WitnessLog& log,
                                            Replayer& replayer);

}  // namespace connectd::sim

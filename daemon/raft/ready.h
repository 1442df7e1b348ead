// The effects that Core::take_ready() returns, and what the host must do with each. Values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "raft/types.h"

namespace connectd::raft {

// One batch for the log writer. The writer makes batches durable in order, possibly several with
// one sync; then the host sends `after_durable` and steps AppendDone{id}.
struct AppendBatch {
  uint64_t id = 0;                      // increases by one from batch to batch
  HardState hard_state;                 // always written
  std::optional<Index> replaces_from;   // logical truncation: the entries replace all from here on
  std::vector<Entry> entries;           // contiguous; may be empty (hard state only)
  std::vector<Envelope> after_durable;  // votes and append responses that depend on this batch
};

// Read `[from, to)` from the log, at most `max_bytes` but at least one entry; then step Loaded.
struct LoadRequest {
  Index from;
  Index to;
  size_t max_bytes = 0;
};

// Start a snapshot stream to this peer, of a snapshot that covers the log up to `least`.
struct SnapshotNeed {
  NodeId peer;
  Index least;
};

// The read may be served when applied >= index.
struct ReadState {
  uint64_t context = 0;
  Index index;
};

struct Ready {
  std::vector<Envelope> messages;     // send at once
  std::optional<AppendBatch> append;  // give to the log writer
  std::vector<Entry> committed;       // apply in order; each entry is handed out exactly once
  std::vector<ReadState> reads;
  std::vector<uint64_t> reads_dropped;  // contexts; retry (leader unknown or lost)
  size_t proposals_dropped = 0;         // number of Propose events dropped since the last Ready
  std::vector<LoadRequest> loads;
  std::vector<SnapshotNeed> snapshots;
  bool soft_state_changed = false;  // role(), leader() or term() changed
};

}  // namespace connectd::raft

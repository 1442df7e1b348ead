// What a core asks of its host: the result of Core::take_ready(). Each field says what the host does
// with it. Values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "raft/types.h"

namespace connectd::raft {

// One batch for the log writer. The writer makes batches durable in order and may merge the sync of
// several; then the host sends `after_durable` and steps AppendDone{id}.
struct AppendBatch {
  uint64_t id = 0;                     // rises by one from batch to batch
  HardState hard_state;                // always written along
  std::optional<Index> replaces_from;  // logical truncation: these entries replace all from here on
  std::vector<Entry> entries;          // contiguous; may be empty (hard state only)
  std::vector<Envelope> after_durable;  // votes and append responses that speak of this batch
};

// Read `[from, to)` from the log, at most `max_bytes` (at least one entry), step Loaded.
struct LoadRequest {
  Index from;
  Index to;
  size_t max_bytes = 0;
};

// May be served when applied >= index.
struct ReadState {
  uint64_t context = 0;
  Index index;
};

struct Ready {
  std::vector<Envelope> messages;     // may leave now
  std::optional<AppendBatch> append;  // to the log writer
  std::vector<Entry> committed;       // to apply, in order; each exactly once
  std::vector<ReadState> reads;
  std::vector<uint64_t> reads_dropped;  // contexts: ask again (leader unknown or lost)
  size_t proposals_dropped = 0;         // Propose events refused whole, since the last Ready
  std::vector<LoadRequest> loads;
  std::vector<NodeId> snapshots;    // start a snapshot stream to each of these peers
  bool soft_state_changed = false;  // role(), leader() or term() changed
};

}  // namespace connectd::raft

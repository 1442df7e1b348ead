// What a node counts of itself for GET /metrics (admin/metrics.h has the names), grouped by the
// thread that writes it (base/metrics.h). It decides nothing.
#pragma once

#include <array>
#include <cstddef>

#include "base/metrics.h"
#include "node/service.h"

namespace connectd::node {

inline constexpr size_t kReplyCodes = static_cast<size_t>(ReplyCode::kNoPerm) + 1;

struct Metrics {
  struct Loop {
    // Of this node's clients, by the code of their replies.
    std::array<Counter, kReplyCodes> requests;
    // From the submission to the reply: those that the plugin answered. As exact as a turn is long.
    TimeHistogram write_time;
    TimeHistogram read_time;
    // On the leader, from the append to the commit; one for each append.
    TimeHistogram commit_time;
    Counter elections;       // that this node began
    Counter leader_changes;  // that it learned of
    TimeHistogram turn_time;
  };
  struct Writer {
    TimeHistogram append_time;  // of what was written together: with its fdatasync
    SizeHistogram append_entries;
    Counter bytes;  // of payloads
  };
  struct Apply {  // the applying threads take turns
    // Of one call of the plugin, and what belongs to it.
    TimeHistogram apply_time;
    TimeHistogram read_time;
  };
  Loop loop;
  Writer writer;
  Apply apply;
};

}  // namespace connectd::node

// What the applier hands to the loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "node/apply/session_table.h"
#include "node/jobs.h"
#include "node/requests/request.h"
#include "plugin/instance.h"
#include "raft/types.h"

namespace connectd::node {

// An empty buffer that has grown is freed.
void clear_buffer(std::string& buffer);

// Results for the loop, in the order in which they happened.
struct ApplyResults {
  struct CommandApplied {  // of this node's own session
    SessionId session;
    Sequence sequence;
    Index index;
    int32_t status = 0;
    size_t reply_offset = 0;  // in `bytes`
    size_t reply_size = 0;
  };
  struct ReadDone {
    RequestRef ref;
    ReplyCode code = ReplyCode::kOk;
    int32_t status = 0;
    Index index;
    size_t reply_offset = 0;
    size_t reply_size = 0;
  };
  // Not executed: enough replies wait for the loop. In order.
  struct ReadsLeft {
    std::vector<ReadTask> tasks;
  };
  struct SessionOpened {
    SessionId id;
    uint64_t incarnation = 0;
  };
  struct SnapshotTaken {  // on this thread
    raft::SnapshotMark mark;
    uint64_t file_bytes = 0;
  };
  struct Captured {  // for the snapshotter
    jobs::SnapshotterTask task;
  };
  struct Replaced {
    std::shared_ptr<plugin::Instance> instance;
    SessionTable sessions;
  };
  struct StateHashed {  // at a compare entry
    Index index;
    uint64_t hash = 0;
  };
  using Item = std::variant<CommandApplied, ReadDone, ReadsLeft, SessionOpened, SnapshotTaken,
                            SnapshotFailed, Captured, Replaced, StateHashed>;

  std::vector<Item> items;
  std::string bytes;
  Index applied;
  uint64_t digest = 0;
  // Of the entries up to `applied`, without gaps; those before a replaced state are left out.
  std::vector<uint64_t> digests;
  int64_t stamp_ns = 0;
  // When the newest question whether this node is up to date was asked, of those that were reached.
  std::optional<Time> fresh_since;
  // When the plugin wants a tick (log time); INT64_MAX: never.
  int64_t next_deadline_ns = INT64_MAX;

  void clear();
  // Adds what happened after these, which is empty then.
  void append(ApplyResults&& later);
};

}  // namespace connectd::node

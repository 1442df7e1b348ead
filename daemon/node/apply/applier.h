// The replicated state machine of one node: the plugin's instance, the sessions, the digest chain
// and the applied index. Gets committed entries and reads in order, gives replies.
//
// Who holds the baton applies. Usually that is the apply thread (run()); when nothing is queued the
// loop takes the baton and applies a small batch itself (advance()), which saves two thread
// hand-overs on the path of a request. A plugin that is slow loses that privilege. The plugin sees
// one call at a time in both cases. The simulator turns the crank with poll_once().
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/supervisor.h"
#include "base/work_channel.h"
#include "node/apply/restored_state.h"
#include "node/jobs.h"
#include "node/requests/request.h"
#include "plugin/capture.h"
#include "plugin/instance.h"
#include "raft/types.h"
#include "storage/snapshot_store.h"

namespace connectd::node {

// What applying `entry` may depend on: the same on every node.
plugin::ApplyContext apply_context(const raft::Entry& entry, const Genesis& genesis);

// Sees all that a replica applies, on the thread that applies: for the simulator's checkers.
class ApplyObserver {
 public:
  // `state` is as it is behind `entry`. A command that the sessions did not admit has a negative
  // status and no reply.
  virtual void on_applied(const raft::Entry& entry, int32_t status, ByteView reply,
                          const ReplicatedState& state) = 0;
  // A snapshot took the state's place: at start, or one from the leader.
  virtual void on_restored(const ReplicatedState& state) = 0;

 protected:
  ~ApplyObserver() = default;
};

// What the applier tells the loop, in the order in which it happened.
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
  using Item = std::variant<CommandApplied, ReadDone, SessionOpened, SnapshotTaken, SnapshotFailed,
                            Captured, Replaced, StateHashed>;

  std::vector<Item> items;
  std::string bytes;
  Index applied;
  uint64_t digest = 0;
  // Of the entries up to `applied`, without gaps; what was before a replaced state is left out.
  std::vector<uint64_t> digests;
  int64_t stamp_ns = 0;
  // The plugin wants a tick then (log time); INT64_MAX: none.
  int64_t next_deadline_ns = INT64_MAX;

  bool empty() const { return items.empty() && !applied; }
  void clear();
};

class Applier final {
 public:
  struct Options {
    NodeId self;
    uint64_t incarnation = 0;
    bool allow_inline = true;
    int64_t inline_ns_max = 200'000;  // CPU time; a turn that takes longer is the last one inline
    // Unix time for reads that report a time left; never decides anything.
    std::function<int64_t()> wall_clock;
    ApplyObserver* observer = nullptr;
    std::vector<raft::EntryId> skips{};  // entries that the plugin is not given; sorted
    // How the state is captured; none: snapshots are written on the apply thread. Lives as long.
    plugin::Capturer* capturer = nullptr;
  };
  // `supervisor` is woken on the apply thread when there are results, and told when the replica
  // must stop. `snapshots` is used on the applying thread only for writing.
  Applier(const Options& options, RestoredState start, storage::SnapshotStore& snapshots,
          Supervisor& supervisor);

  // ---- loop thread
  void apply(std::vector<raft::Entry> entries);
  void read(std::vector<ReadTask> tasks);
  using How = SnapshotHow;
  // SnapshotTaken, Captured or SnapshotFailed follows.
  void take_snapshot(How how = How::kCapture);
  // What was captured has been written, or will not be: the next capture may begin.
  void release(std::unique_ptr<plugin::Capture> capture);
  void replace(RestoredState state);
  // Called behind the five above: runs what is queued on the calling thread, if nobody else does,
  // it is little and no snapshot; else wakes the apply thread.
  void advance();
  // Results since the last call; null: none. Valid until the next call.
  ApplyResults* take_results() { return channel_.take_results(taken_) ? &taken_ : nullptr; }
  bool has_results() const { return channel_.has_results(); }
  size_t queued_bytes() const { return queued_bytes_.load(std::memory_order_relaxed); }

  // ---- apply thread
  void run();                         // until close()
  void close() { channel_.close(); }  // any thread
  // Does what is queued; false when there was nothing. (Simulator, tests.)
  bool poll_once();
  bool has_work() const { return channel_.has_work(); }

 private:
  struct TakeSnapshot {
    How how = How::kCapture;
  };
  struct Release {
    std::unique_ptr<plugin::Capture> capture;
  };
  struct Entries {
    std::vector<raft::Entry> entries;
    size_t weight = 0;  // more than the loop may do inline when the state is hashed on the way
  };
  using Task = std::variant<Entries, std::vector<ReadTask>, TakeSnapshot, Release, RestoredState>;

  static size_t weight_of(const Task& task);
  void push(Task task);
  bool try_inline();
  void work(std::vector<Task>& tasks);
  void publish();
  void look_at_deadline();
  void apply_entry(const raft::Entry& entry);
  bool is_skipped(const raft::Entry& entry) const;
  void read_one(ReadTask& task);
  plugin::SnapshotContext snapshot_context() const;
  void snapshot(How how);
  Result<uint64_t> write_snapshot();
  Result<void> hash_state();

  const Options options_;
  storage::SnapshotStore& snapshots_;
  Supervisor& supervisor_;

  WorkChannel<Task, ApplyResults> channel_;
  std::atomic<size_t> queued_bytes_{0};
  std::atomic<size_t> queued_weight_{0};  // a snapshot weighs too much for inline
  bool inline_allowed_;                   // loop thread, as the next
  bool pushed_ = false;                   // since the last advance()
  ApplyResults taken_;                    // loop thread; kept for its capacity

  std::mutex baton_;  // held while the state below is in use
  ReplicatedState state_;
  std::shared_ptr<plugin::Instance> instance_;
  SessionId local_session_;  // opened by this incarnation of this node
  bool failed_ = false;
  bool capturing_ = false;  // a capture of this instance, or the one before, was not released yet
  std::vector<Task> tasks_;
  std::string scratch_;
  ApplyResults fresh_;  // of the present batch
};

}  // namespace connectd::node

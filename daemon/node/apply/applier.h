// The replicated state machine of one node: the plugin's instance, the sessions, the digest chain
// and the applied index. Executes committed entries and reads in order, and returns replies.
//
// The thread that holds the mutex baton_ applies. Usually that is the apply thread (run()); when
// nothing is queued, the loop applies a small batch itself (advance()), which saves two thread
// switches per request. A slow plugin runs on the apply thread, from the call on that was too slow,
// and so does the replay of the log after a start: an entry that made the loop hang before must not
// do so again. Either way the plugin sees one call at a time. The simulator calls poll_once().
//
// The loop gets the results at the end of a batch; of a batch that takes long, before that, so that
// no reply waits for the calls after its own.
//
// While the loop has not taken replies_max bytes of replies, nothing more is executed: entries wait
// here, and reads return to the holder, which knows which clients have room for replies.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/supervisor.h"
#include "base/thread_role.h"
#include "base/work_channel.h"
#include "node/apply/apply_context.h"
#include "node/apply/apply_results.h"
#include "node/apply/inline_privilege.h"
#include "node/apply/restored_state.h"
#include "node/metrics.h"
#include "plugin/capture.h"
#include "plugin/instance.h"
#include "raft/types.h"
#include "storage/snapshot_store.h"

namespace connectd::node {

// Observes everything that a replica applies, on the applying thread. For the simulator's checkers.
class ApplyObserver {
 public:
  // `state` is the state after `entry`. A command that the sessions did not admit has a negative
  // status and no reply.
  virtual void on_applied(const raft::Entry& entry, int32_t status, ByteView reply,
                          const ReplicatedState& state) = 0;
  // A snapshot replaced the state: at start, or one from the leader.
  virtual void on_restored(const ReplicatedState& state) = 0;

 protected:
  ~ApplyObserver() = default;
};

class Applier final {
 public:
  struct Options {
    NodeId self;
    uint64_t incarnation = 0;
    bool allow_inline = true;
    // CPU time of a turn; a longer one ends the privilege. INT64_MAX: time is not measured at all,
    // so that the same calls give the same batches.
    int64_t inline_ns_max = 200'000;
    // Unix time for reads that report a time left; never decides anything.
    std::function<int64_t()> wall_clock;
    ApplyObserver* observer = nullptr;
    std::vector<raft::EntryId> skips{};  // entries not passed to the plugin; sorted
    Index replay_to{};                   // the log's end at the start; nothing up to it runs inline
    // Captures the state; null: snapshots are written on the apply thread. Outlives the applier.
    plugin::Capturer* capturer = nullptr;
    size_t replies_max = 4 << 20;        // bytes of replies that the loop has not taken
    size_t run_replies_max = 256 << 10;  // of one client's reads that are handed out together
    std::shared_ptr<Metrics> metrics = std::make_shared<Metrics>();
  };
  // `supervisor` is woken from the apply thread when there are results, and notified when the
  // replica must stop. The applying thread uses `snapshots` only for writing.
  Applier(const Options& options, RestoredState start, storage::SnapshotStore& snapshots,
          Supervisor& supervisor);

  // ---- loop thread
  // Reads with an earlier deadline are not executed any more: they get kNotExecuted.
  void set_now(Time now) { now_.store(now, std::memory_order_relaxed); }
  void apply(std::vector<raft::Entry> entries);
  // `question`: when this node asked whether it is up to date (requests/ready_check.h). Its answer
  // is that its turn comes, after `tasks`.
  void read(std::vector<ReadTask> tasks, std::optional<Time> question = std::nullopt);
  using How = SnapshotHow;
  // SnapshotTaken, Captured or SnapshotFailed follows.
  void take_snapshot(How how = How::kCapture);
  // The capture has been written or dropped: the next one may begin.
  void release(std::unique_ptr<plugin::Capture> capture);
  void replace(RestoredState state);
  // Call it after the five functions above. Runs the queued tasks on the calling thread if they are
  // few, contain no snapshot, and no other thread is running them; otherwise, or after a call that
  // was too slow, wakes the apply thread.
  void advance();
  // Results since the last call; null: none. Valid until the next call.
  ApplyResults* take_results();
  bool has_results() const { return channel_.has_results(); }
  // When the newest question of read() was asked whose turn has come. The state has every write
  // that was acknowledged before.
  std::optional<Time> fresh_since() const {
    loop_.check();
    return fresh_since_;
  }
  // A question waits: for the plugin.
  bool is_asked() const {
    loop_.check();
    return question_ != fresh_since_;
  }

  // ---- apply thread
  void run();  // until close(): after the call in progress
  // Any thread.
  void close() {
    is_closed_ = true;
    channel_.close();
  }
  // Executes the queued tasks; false: there were none. (Simulator, tests.)
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
    size_t weight = 0;   // above the inline limit if they must not be applied inline
    size_t applied = 0;  // of the entries
  };
  struct Reads {
    std::vector<ReadTask> tasks;
    std::optional<Time> question;
    size_t done = 0;  // of the tasks
  };
  struct Resume {};  // the loop has taken the replies, or leaves the rest to the apply thread
  using Task = std::variant<Entries, Reads, TakeSnapshot, Release, RestoredState, Resume>;
  using SteadyTime = InlineTurn::SteadyTime;

  static size_t weight_of(const Task& task);
  void push(Task task);
  bool try_inline() REQUIRES(loop_);
  bool poll(bool until_closed);
  bool take_tasks() REQUIRES(baton_);
  void work() REQUIRES(baton_);
  bool work_on(Task& task) REQUIRES(baton_);
  bool apply_some(Entries& batch) REQUIRES(baton_);
  bool read_some(Reads& reads) REQUIRES(baton_);
  void restore(RestoredState& restored) REQUIRES(baton_);
  bool is_full() const REQUIRES(baton_) {
    return waiting_bytes_.load(std::memory_order_relaxed) + fresh_.bytes.size() >=
           options_.replies_max;
  }
  bool is_over() const REQUIRES(baton_) {
    return (inline_turn_ != nullptr && inline_turn_->is_over()) || (until_closed_ && is_closed_);
  }
  void called(TimeHistogram& times) REQUIRES(baton_);
  bool publish() REQUIRES(baton_);
  void publish_early() REQUIRES(baton_);
  void look_at_deadline() REQUIRES(baton_);
  void fail(Error error) REQUIRES(baton_);
  void apply_entry(const raft::Entry& entry) REQUIRES(baton_);
  bool is_skipped(const raft::Entry& entry) const;
  bool is_pointless(const ReadTask& task) const;
  void skip_read(ReadTask& task) REQUIRES(baton_);
  size_t read_one(ReadTask& task) REQUIRES(baton_);
  plugin::SnapshotContext snapshot_context() const REQUIRES(baton_);
  void snapshot(How how) REQUIRES(baton_);
  Result<uint64_t> write_snapshot() REQUIRES(baton_);
  Result<void> hash_state() REQUIRES(baton_);

  const Options options_;
  const bool measures_time_;
  storage::SnapshotStore& snapshots_;
  Supervisor& supervisor_;

  WorkChannel<Task, ApplyResults> channel_;
  std::atomic<size_t> queued_weight_{0};  // a snapshot's weight is above the inline limit
  std::atomic<size_t> waiting_bytes_{0};  // replies that the loop has not taken
  std::atomic<bool> is_paused_{false};    // tasks_ waits until they are taken
  std::atomic<Time> now_{Time::min()};    // the loop's
  std::atomic<bool> is_closed_{false};

  ThreadRole loop_{"loop"};
  InlinePrivilege inline_ GUARDED_BY(loop_);
  bool pushed_ GUARDED_BY(loop_) = false;              // since the last advance()
  ApplyResults taken_ GUARDED_BY(loop_);               // kept for its capacity
  std::optional<Time> question_ GUARDED_BY(loop_);     // the last one of read()
  std::optional<Time> fresh_since_ GUARDED_BY(loop_);  // the last one that was reached

  Mutex baton_;
  ReplicatedState state_ GUARDED_BY(baton_);
  std::shared_ptr<plugin::Instance> instance_ GUARDED_BY(baton_);
  SessionId local_session_ GUARDED_BY(baton_);  // opened by this incarnation of this node
  bool failed_ GUARDED_BY(baton_) = false;
  // A capture of this or the previous instance is not released.
  bool capturing_ GUARDED_BY(baton_) = false;
  std::deque<Task> tasks_ GUARDED_BY(baton_);
  std::vector<Task> drained_ GUARDED_BY(baton_);
  std::string scratch_ GUARDED_BY(baton_);
  ApplyResults fresh_ GUARDED_BY(baton_);  // not published

  int64_t next_deadline_ns_ GUARDED_BY(baton_) = INT64_MAX;

  InlineTurn* inline_turn_ GUARDED_BY(baton_) = nullptr;  // null: not the loop's turn
  bool until_closed_ GUARDED_BY(baton_) = false;          // run() ends when is_closed_
  SteadyTime call_ended_ GUARDED_BY(baton_);              // or the batch began
  SteadyTime published_ GUARDED_BY(baton_);
  SteadyTime slow_until_ GUARDED_BY(baton_);  // each call may be slow
};

}  // namespace connectd::node

#include "node/apply/applier.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "base/log.h"
#include "base/log_event.h"
#include "base/overloaded.h"

namespace connectd::node {
namespace {

// Tasks that may wait for the apply thread. The core's bound on unapplied entries keeps the loop
// well below this number.
constexpr size_t kMaxQueuedWeight = 1 << 20;
// How many entries and reads the loop may execute inline in one turn.
constexpr size_t kInlineWeight = 512;
// Results wait for the end of a batch no longer than this.
constexpr auto kPublishInterval = std::chrono::milliseconds(10);
// After a call that took so long, the next ones may, too: for a while nothing waits for them.
constexpr auto kSlowCall = std::chrono::milliseconds(100);
constexpr auto kSlowTime = std::chrono::minutes(1);

}  // namespace

Applier::Applier(const Options& options, RestoredState start, storage::SnapshotStore& snapshots,
                 Supervisor& supervisor)
    : options_(options),
      measures_time_(options.inline_ns_max != INT64_MAX),
      snapshots_(snapshots),
      supervisor_(supervisor),
      channel_(kMaxQueuedWeight, supervisor),
      inline_(options.allow_inline, options.inline_ns_max),
      state_(std::move(start.state)),
      instance_(std::move(start.instance)) {
  if (options_.observer && state_.applied) options_.observer->on_restored(state_);
  look_at_deadline();
}

size_t Applier::weight_of(const Task& task) {
  if (const auto* entries = std::get_if<Entries>(&task)) return entries->weight;
  if (const auto* reads = std::get_if<Reads>(&task)) {
    return reads->tasks.size() + (reads->question ? 1 : 0);
  }
  if (std::holds_alternative<Resume>(task)) return 0;
  return kInlineWeight + 1;  // snapshots: never inline
}

void Applier::push(Task task) {
  loop_.check();
  queued_weight_.fetch_add(weight_of(task), std::memory_order_relaxed);
  pushed_ = true;
  CHECK(channel_.submit_quietly(std::move(task)))
      << "more tasks for the plugin than the core lets out";
}

void Applier::apply(std::vector<raft::Entry> entries) {
  size_t weight = entries.size();
  for (const raft::Entry& entry : entries) {
    const bool is_replay = entry.index <= options_.replay_to;
    if (is_replay || raft::row_of(entry.kind).is_slow_to_apply) weight = kInlineWeight + 1;
  }
  push(Entries{std::move(entries), weight});
}

void Applier::read(std::vector<ReadTask> tasks, std::optional<Time> question) {
  loop_.check();
  // A plugin that does not come back is not asked for ever.
  if (queued_weight_.load(std::memory_order_relaxed) > kMaxQueuedWeight / 2) question.reset();
  if (question) question_ = question;
  if (question || !tasks.empty()) push(Reads{std::move(tasks), question});
}
void Applier::take_snapshot(How how) { push(TakeSnapshot{how}); }
void Applier::release(std::unique_ptr<plugin::Capture> capture) {
  push(Release{std::move(capture)});
}
void Applier::replace(RestoredState state) { push(std::move(state)); }

ApplyResults* Applier::take_results() {
  loop_.check();
  const bool has_results = channel_.take_results(taken_);
  if (has_results) {
    waiting_bytes_.fetch_sub(taken_.bytes.size(), std::memory_order_relaxed);
    if (taken_.fresh_since) fresh_since_ = taken_.fresh_since;
  }
  if (is_paused_.exchange(false)) push(Resume());
  return has_results ? &taken_ : nullptr;
}

void Applier::advance() {
  loop_.check();
  if (std::exchange(pushed_, false) && !try_inline()) channel_.wake_worker();
}

bool Applier::try_inline() {
  // Counts all queued tasks, not only this turn's: an earlier turn's snapshot may still be queued.
  if (queued_weight_.load(std::memory_order_relaxed) > kInlineWeight) return false;
  if (!inline_.is_granted(read_clocks().time)) return false;
  if (!baton_.try_lock()) return false;
  MutexLock baton(baton_, std::adopt_lock);
  if (!take_tasks()) return true;
  InlineTurn turn(inline_, std::chrono::steady_clock::now());
  inline_turn_ = &turn;
  work();
  turn.called(std::chrono::steady_clock::now());  // next_deadline
  inline_turn_ = nullptr;
  if (!turn.is_over()) return true;
  log_event(LogEvent::kApplySlowCall,
            "plugin call {}; for the next {} s it runs only on the apply thread", *turn.why(),
            inline_.penalty() / std::chrono::seconds(1));
  // The apply thread continues, and asks for the next deadline.
  push(Resume());
  pushed_ = false;
  return false;
}

bool Applier::poll_once() { return poll(false); }

void Applier::run() {
  channel_.run_batches([this] { return poll(true); });
}

bool Applier::poll(bool until_closed) {
  MutexLock baton(baton_);
  if (!take_tasks()) return false;
  until_closed_ = until_closed;
  work();
  until_closed_ = false;
  return true;
}

// Adds the queued tasks to those that an earlier call left. False: there are none.
bool Applier::take_tasks() {
  if (channel_.drain(drained_)) std::ranges::move(drained_, std::back_inserter(tasks_));
  drained_.clear();
  return !tasks_.empty();
}

void Applier::work() {
  if (measures_time_) call_ended_ = published_ = std::chrono::steady_clock::now();
  while (!tasks_.empty() && !failed_ && !is_full() && !is_over()) {
    const size_t weight = weight_of(tasks_.front());
    if (!work_on(tasks_.front())) break;
    queued_weight_.fetch_sub(weight, std::memory_order_relaxed);
    tasks_.pop_front();
    if (measures_time_) call_ended_ = std::chrono::steady_clock::now();  // a snapshot is no call
  }
  if (failed_) tasks_.clear();
  if (!tasks_.empty() && !is_over()) is_paused_.store(true);
  if (!failed_ && !is_over()) look_at_deadline();
  publish();
}

// After a call of the plugin. A call reads one clock.
void Applier::called(TimeHistogram& times) {
  if (!measures_time_) return;
  const SteadyTime now = std::chrono::steady_clock::now();
  times.observe(now - call_ended_);
  if (now - call_ended_ >= kSlowCall) slow_until_ = now + kSlowTime;
  call_ended_ = now;
  if (inline_turn_ != nullptr) {
    inline_turn_->called(now);
  } else if (now - published_ >= kPublishInterval || now < slow_until_) {
    published_ = now;
    publish_early();
  }
}

// False: a part of it is left.
bool Applier::work_on(Task& task) {
  return std::visit(Overloaded{
                        [&](Entries& batch) {
                          baton_.assert_held();
                          return apply_some(batch);
                        },
                        [&](Reads& reads) {
                          baton_.assert_held();
                          return read_some(reads);
                        },
                        [&](TakeSnapshot& take) {
                          baton_.assert_held();
                          publish_early();
                          snapshot(take.how);
                          return true;
                        },
                        [&](Release& release) {
                          baton_.assert_held();
                          release.capture.reset();
                          capturing_ = false;
                          return true;
                        },
                        [&](RestoredState& restored) {
                          baton_.assert_held();
                          restore(restored);
                          return true;
                        },
                        [](Resume&) { return true; },
                    },
                    task);
}

bool Applier::apply_some(Entries& batch) {
  while (batch.applied < batch.entries.size() && !failed_ && !is_full() && !is_over()) {
    const raft::Entry& entry = batch.entries[batch.applied++];
    if (raft::row_of(entry.kind).is_slow_to_apply) publish_early();
    apply_entry(entry);
    called(options_.metrics->apply.apply_time);
  }
  return batch.applied == batch.entries.size();
}

// The reads of one client are contiguous. After enough replies, of this client or of all, the rest
// is returned unexecuted, also when the loop takes replies meanwhile: reads of a client keep their
// order. The first one is always executed, so there is progress. False: the loop's turn is over.
bool Applier::read_some(Reads& reads) {
  ApplyResults::ReadsLeft left;
  const Stream* stream = nullptr;
  size_t run_bytes = 0;  // of the stream's replies
  size_t bytes = 0;      // of all
  bool is_enough = false;
  for (; reads.done < reads.tasks.size() && !failed_ && !is_over(); ++reads.done) {
    ReadTask& read = reads.tasks[reads.done];
    if (read.ref.stream.get() != stream) {
      stream = read.ref.stream.get();
      run_bytes = 0;
    }
    is_enough = is_enough || is_full() || bytes >= options_.replies_max;
    if (is_pointless(read)) {
      skip_read(read);
    } else if (is_enough || run_bytes >= options_.run_replies_max) {
      left.tasks.push_back(std::move(read));
    } else {
      const size_t reply_bytes = read_one(read);
      run_bytes += reply_bytes;
      bytes += reply_bytes;
      called(options_.metrics->apply.read_time);
    }
  }
  if (!left.tasks.empty()) fresh_.items.emplace_back(std::move(left));
  if (reads.done < reads.tasks.size()) return false;
  if (reads.question) fresh_.fresh_since = reads.question;
  return true;
}

void Applier::restore(RestoredState& restored) {
  // Before this, the loop hands out nothing after a snapshot's mark.
  CHECK(state_.applied <= restored.state.applied);
  state_ = std::move(restored.state);
  instance_ = std::move(restored.instance);
  if (options_.observer) options_.observer->on_restored(state_);
  const auto* local = state_.sessions.find(local_session_);
  if (local == nullptr) local_session_ = SessionId();
  fresh_.items.emplace_back(ApplyResults::Replaced{instance_, state_.sessions});
  fresh_.applied = state_.applied;
  fresh_.digests.assign(1, state_.digest);
}

// True: the loop has taken all that was published before.
bool Applier::publish() {
  fresh_.digest = state_.digest;
  fresh_.stamp_ns = state_.stamp_ns;
  fresh_.next_deadline_ns = next_deadline_ns_;
  bool was_collected = false;
  // Before: the loop takes them off when it takes the results.
  waiting_bytes_.fetch_add(fresh_.bytes.size(), std::memory_order_relaxed);
  channel_.merge([&](ApplyResults& results, bool collected) {
    baton_.assert_held();
    was_collected = collected;
    if (collected) {
      std::swap(results, fresh_);
    } else {
      results.append(std::move(fresh_));
    }
  });
  fresh_.clear();
  return was_collected;
}

// Before the end of the batch. The loop need not be woken for its own turn. A stamp goes with the
// deadline of the same state: else a deadline that was met would be overdue until the batch ends.
void Applier::publish_early() {
  if (failed_) return;
  look_at_deadline();
  if (publish() && inline_turn_ == nullptr) supervisor_.wake();
}

void Applier::look_at_deadline() {
  auto deadline = instance_->next_deadline();
  if (!deadline) {
    fail(deadline.error());
    return;
  }
  next_deadline_ns_ = deadline->value_or(INT64_MAX);
}

// An operator chose to skip exactly this entry, not another one with the same index
// (docs/operations.md, "An entry that makes the plugin fail").
bool Applier::is_skipped(const raft::Entry& entry) const {
  return std::ranges::binary_search(options_.skips,
                                    raft::EntryId{entry.index, entry.term, entry.checksum});
}

void Applier::fail(Error error) {
  failed_ = true;
  supervisor_.fail(std::move(error));
}

void Applier::apply_entry(const raft::Entry& entry) {
  CHECK_EQ(entry.index.value(), state_.applied.value() + 1) << "entries are applied in order";
  CHECK_EQ(entry.checksum, raft::entry_checksum(entry))
      << "entry " << entry.index.value() << " changed in memory before it was applied";
  int32_t status = 0;
  size_t reply_offset = fresh_.bytes.size();
  // The plugin failed on this entry and will fail on it at every start, on every replica.
  auto plugin_failed = [&](Error error) {
    baton_.assert_held();
    error.text += fmt::format(
        ". If every member fails like this, none has applied the entry, and the plugin cannot be "
        "fixed, skip the entry at index {} on every member: connectctl recover --data-dir DIR "
        "--skip-entry {}",
        entry.index, entry.index);
    fail(std::move(error));
  };
  const bool skipped = !options_.skips.empty() && is_skipped(entry);
  auto context = apply_context(entry, state_.genesis.cluster_id, state_.genesis.plugin_level);
  clear_buffer(scratch_);
  switch (entry.kind) {
    case raft::EntryKind::kCommand: {
      auto verdict = state_.sessions.admit(entry.session, entry.sequence, entry.acked_below);
      if (verdict != SessionTable::Verdict::kApply) {
        // No node applies it, which the digest records.
        status = -static_cast<int32_t>(verdict);
        break;
      }
      if (skipped) {
        // The session continues after it, and its holder gets a definite answer.
        status = kSkippedStatus;
      } else {
        auto done = instance_->apply(context, entry.payload.view(), scratch_);
        if (!done) return plugin_failed(done.error());
        status = *done;
      }
      if (entry.session == local_session_) {
        fresh_.bytes += scratch_;
        fresh_.items.emplace_back(ApplyResults::CommandApplied{
            entry.session, entry.sequence, entry.index, status, reply_offset, scratch_.size()});
      }
      break;
    }
    case raft::EntryKind::kSessionOpen: {
      wire::SessionOwner owner;
      if (!wire::SessionOwner::decode(entry.payload.view(), owner)) break;
      SessionId id(entry.index.value());
      state_.sessions.open(id, owner);
      if (owner.node == options_.self) {
        if (owner.incarnation == options_.incarnation) local_session_ = id;
        fresh_.items.emplace_back(ApplyResults::SessionOpened{id, owner.incarnation});
      }
      break;
    }
    case raft::EntryKind::kTick: {
      if (skipped) status = kSkippedStatus;
      if (skipped || !instance_->has_timers()) break;
      auto done = instance_->on_tick(context);
      if (!done) return plugin_failed(done.error());
      break;
    }
    case raft::EntryKind::kConfChange:
    case raft::EntryKind::kRecovery: {
      ByteReader in(entry.payload.view());
      raft::ConfState conf;
      CHECK(raft::ConfState::decode(in, conf)) << "a membership entry that the core took";
      auto members = MemberList::decode(entry.payload.view().last(in.left()));
      if (!members) return fail(members.error());
      state_.conf = conf;
      state_.members = std::move(*members);
      // In a joint configuration, a leaving member still serves its clients.
      if (!conf.is_joint()) {
        for (NodeId id : state_.members.removed) state_.sessions.close_all_of(id);
      }
      break;
    }
    case raft::EntryKind::kCompare:  // after the entry itself, below
    case raft::EntryKind::kNoop:
    case raft::EntryKind::kGenesis:
    case raft::EntryKind::kLevelProbe:
      break;
    case raft::EntryKind::kSettings: {
      ByteReader in(entry.payload.view());
      CHECK(raft::Settings::decode(in, state_.settings)) << "settings that the core took";
      break;
    }
  }
  if (status == kSkippedStatus) {
    state_.skipped.push_back({entry.index, entry.term, entry.checksum});
    log_event(LogEvent::kApplySkipped, "entry skipped by operator index={}", entry.index);
  }
  state_.extend_digest(entry.index, entry.kind, status, as_bytes(scratch_));
  state_.applied = entry.index;
  state_.applied_term = entry.term;
  state_.stamp_ns = entry.stamp_ns;
  fresh_.applied = entry.index;
  fresh_.digests.push_back(state_.digest);
  if (entry.kind == raft::EntryKind::kCompare) {
    if (auto hashed = hash_state(); !hashed) return fail(hashed.error());
  }
  if (options_.observer) {
    options_.observer->on_applied(entry, status, as_bytes(scratch_), state_);
  }
}

// Nobody waits for its answer any more.
bool Applier::is_pointless(const ReadTask& task) const {
  return task.deadline <= now_.load(std::memory_order_relaxed) || is_gone(task.ref);
}

void Applier::skip_read(ReadTask& task) {
  fresh_.items.emplace_back(ApplyResults::ReadDone{std::move(task.ref), ReplyCode::kPlugin, 0,
                                                   state_.applied, fresh_.bytes.size(),
                                                   kNotExecuted.size()});
  fresh_.bytes += kNotExecuted;
}

// Returns the bytes of the reply.
size_t Applier::read_one(ReadTask& task) {
  ApplyResults::ReadDone done;
  done.index = state_.applied;
  done.reply_offset = fresh_.bytes.size();
  plugin::ReadContext context;
  context.applied_index = state_.applied;
  context.applied_time_ns = state_.stamp_ns;
  context.now_ns = std::max(state_.stamp_ns, options_.wall_clock());
  context.level = state_.genesis.plugin_level;
  auto status = instance_->read(context, task.request.view(), fresh_.bytes);
  if (status) {
    done.status = *status;
  } else {
    fresh_.bytes += status.error().text;
    done.code = ReplyCode::kPlugin;
    if (status.error().kind != ErrorKind::kRequestFailed) {  // the plugin reports a broken state
      fail(status.error());
    }
  }
  done.reply_size = fresh_.bytes.size() - done.reply_offset;
  done.ref = std::move(task.ref);
  const size_t size = done.reply_size;
  fresh_.items.emplace_back(std::move(done));
  return size;
}

}  // namespace connectd::node

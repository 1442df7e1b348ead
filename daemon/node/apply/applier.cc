#include "node/apply/applier.h"

#include <algorithm>
#include <iterator>

#include "base/checksum.h"
#include "base/log.h"
#include "base/overloaded.h"

namespace connectd::node {
namespace {

// Tasks that may wait for the apply thread. The core's bound on unapplied entries keeps the loop
// well below this number.
constexpr size_t kMaxQueuedTasks = 1 << 20;
// How many entries and reads the loop may execute inline in one turn.
constexpr size_t kInlineWeight = 512;
// A buffer of replies that has grown beyond this is freed when it is empty.
constexpr size_t kKeepReplyBytes = size_t{1} << 20;

void clear_buffer(std::string& buffer) {
  if (buffer.capacity() > kKeepReplyBytes) {
    std::string().swap(buffer);
  } else {
    buffer.clear();
  }
}

uint64_t mix(uint64_t z) {  // splitmix64's finalizer
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

}  // namespace

plugin::ApplyContext apply_context(const raft::Entry& entry, const Genesis& genesis) {
  plugin::ApplyContext context;
  context.index = entry.index;
  context.term = entry.term;
  context.time_ns = entry.stamp_ns;
  context.level = genesis.plugin_level;
  uint64_t cluster = load_le<uint64_t>(genesis.cluster_id.bytes.data());
  context.seed[0] = mix(cluster ^ mix(entry.index.value() + 0x9e3779b97f4a7c15));
  context.seed[1] = mix(context.seed[0] ^ mix(entry.term.value()));
  return context;
}

void ApplyResults::clear() {
  items.clear();
  clear_buffer(bytes);
  digests.clear();
  applied = Index();
}

Applier::Applier(const Options& options, RestoredState start, storage::SnapshotStore& snapshots,
                 Supervisor& supervisor)
    : options_(options),
      snapshots_(snapshots),
      supervisor_(supervisor),
      channel_(kMaxQueuedTasks, supervisor),
      inline_(options.allow_inline, options.inline_ns_max),
      state_(std::move(start.state)),
      instance_(std::move(start.instance)) {
  if (options_.observer && state_.applied) options_.observer->on_restored(state_);
  look_at_deadline();
}

size_t Applier::weight_of(const Task& task) {
  if (const auto* entries = std::get_if<Entries>(&task)) return entries->weight;
  if (const auto* reads = std::get_if<std::vector<ReadTask>>(&task)) return reads->size();
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

void Applier::read(std::vector<ReadTask> tasks) { push(std::move(tasks)); }
void Applier::take_snapshot(How how) { push(TakeSnapshot{how}); }
void Applier::release(std::unique_ptr<plugin::Capture> capture) {
  push(Release{std::move(capture)});
}
void Applier::replace(RestoredState state) { push(std::move(state)); }

ApplyResults* Applier::take_results() {
  loop_.check();
  const bool has_results = channel_.take_results(taken_);
  waiting_bytes_.store(0, std::memory_order_relaxed);
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
  const TurnUsage before = TurnUsage::of_this_thread();
  work();
  if (auto why = inline_.judge(before)) {
    LOG_INFO("apply", "plugin call {}; for the next {} s it runs only on the apply thread", *why,
             inline_.penalty() / std::chrono::seconds(1));
  }
  return true;
}

bool Applier::poll_once() {
  MutexLock baton(baton_);
  if (!take_tasks()) return false;
  work();
  return true;
}

void Applier::run() {
  channel_.run_batches([this] { return poll_once(); });
}

// Adds the queued tasks to those that an earlier call left. False: there are none.
bool Applier::take_tasks() {
  if (channel_.drain(drained_)) std::ranges::move(drained_, std::back_inserter(tasks_));
  drained_.clear();
  return !tasks_.empty();
}

void Applier::work() {
  while (!tasks_.empty() && !failed_ && !is_full()) {
    const size_t weight = weight_of(tasks_.front());
    if (!work_on(tasks_.front())) break;
    queued_weight_.fetch_sub(weight, std::memory_order_relaxed);
    tasks_.pop_front();
  }
  if (failed_) tasks_.clear();
  if (!tasks_.empty()) is_paused_.store(true);
  fresh_.digest = state_.digest;
  fresh_.stamp_ns = state_.stamp_ns;
  if (!failed_) look_at_deadline();
  publish();
}

// False: a part of it is left.
bool Applier::work_on(Task& task) {
  return std::visit(Overloaded{
                        [&](Entries& batch) {
                          baton_.assert_held();
                          return apply_some(batch);
                        },
                        [&](std::vector<ReadTask>& reads) {
                          baton_.assert_held();
                          read_some(reads);
                          return true;
                        },
                        [&](TakeSnapshot& take) {
                          baton_.assert_held();
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
  while (batch.applied < batch.entries.size() && !failed_ && !is_full()) {
    apply_entry(batch.entries[batch.applied++]);
  }
  return batch.applied == batch.entries.size();
}

// The reads of one client are contiguous. After enough replies, of this client or of all, the rest
// is returned unexecuted. The first one is always executed, so there is progress.
void Applier::read_some(std::vector<ReadTask>& reads) {
  ApplyResults::ReadsLeft left;
  const Stream* stream = nullptr;
  size_t begin = 0;  // of the stream's replies
  for (ReadTask& read : reads) {
    if (failed_) return;
    if (read.ref.stream.get() != stream) {
      stream = read.ref.stream.get();
      begin = fresh_.bytes.size();
    }
    if (is_full() || fresh_.bytes.size() - begin >= options_.run_replies_max) {
      left.tasks.push_back(std::move(read));
    } else {
      read_one(read);
    }
  }
  if (!left.tasks.empty()) fresh_.items.emplace_back(std::move(left));
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

void Applier::publish() {
  channel_.merge([this](ApplyResults& results, bool collected) {
    baton_.assert_held();
    if (collected) {
      std::swap(results, fresh_);
      waiting_bytes_.store(results.bytes.size(), std::memory_order_relaxed);
      return;
    }
    // The loop has not fetched the previous results: append this batch to them.
    size_t shift = results.bytes.size();
    results.bytes += fresh_.bytes;
    for (ApplyResults::Item& item : fresh_.items) {
      if (auto* command = std::get_if<ApplyResults::CommandApplied>(&item)) {
        command->reply_offset += shift;
      } else if (auto* read = std::get_if<ApplyResults::ReadDone>(&item)) {
        read->reply_offset += shift;
      }
      results.items.push_back(std::move(item));
    }
    if (fresh_.applied) {
      bool follows = fresh_.applied - fresh_.digests.size() == results.applied;
      if (!follows) results.digests.clear();
      results.digests.insert(results.digests.end(), fresh_.digests.begin(), fresh_.digests.end());
      results.applied = fresh_.applied;
    }
    results.digest = fresh_.digest;
    results.stamp_ns = fresh_.stamp_ns;
    results.next_deadline_ns = fresh_.next_deadline_ns;
    waiting_bytes_.store(results.bytes.size(), std::memory_order_relaxed);
  });
  fresh_.clear();
}

void Applier::look_at_deadline() {
  auto deadline = instance_->next_deadline();
  if (!deadline) {
    fail(deadline.error());
    return;
  }
  fresh_.next_deadline_ns = deadline->value_or(INT64_MAX);
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
  plugin::ApplyContext context = apply_context(entry, state_.genesis);
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
    LOG_WARNING("apply", "entry skipped by operator index={}", entry.index);
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

void Applier::read_one(ReadTask& task) {
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
  fresh_.items.emplace_back(std::move(done));
}

plugin::SnapshotContext Applier::snapshot_context() const {
  plugin::SnapshotContext context;
  context.index = state_.applied;
  context.term = state_.applied_term;
  context.time_ns = state_.stamp_ns;
  context.level = state_.genesis.plugin_level;
  return context;
}

// The hash is not part of the digest chain: builds of the plugin may write different bytes for the
// same state, and incomparable hashes must not look like a divergence.
Result<void> Applier::hash_state() {
  if (!instance_->plugin().has_flag(CONNECTD_F_CANONICAL_SNAPSHOT)) return {};
  if (options_.capturer != nullptr) {
    // While another capture is in progress, this member skips the comparison at this index.
    if (capturing_) return {};
    auto capture = options_.capturer->begin(instance_, snapshot_context());
    if (!capture) {
      LOG_WARNING("divergence", "state comparison skipped index={}: {}", state_.applied,
                  capture.error().error.text);
      return {};
    }
    capturing_ = true;
    fresh_.items.emplace_back(
        ApplyResults::Captured{jobs::HashState{state_.applied, std::move(*capture)}});
    return {};
  }
  Checksum64 checksum;
  auto written = instance_->snapshot(snapshot_context(), [&](ByteView bytes) -> Result<void> {
    checksum.add(bytes);
    return {};
  });
  if (!written) return failure(written.error());
  fresh_.items.emplace_back(ApplyResults::StateHashed{state_.applied, checksum.value()});
  return {};
}

// Mark, metadata and the plugin's bytes are consistent: they are taken between two entries, on this
// thread.
void Applier::snapshot(How how) {
  const raft::SnapshotMark mark{state_.applied, state_.applied_term};
  state_.plugin_version = instance_->plugin().version();
  if (capturing_) {
    fresh_.items.emplace_back(SnapshotFailed{mark, SnapshotFailed::Why::kBusy, {}});
    return;
  }
  if (how == How::kCapture && options_.capturer != nullptr) {
    auto capture = options_.capturer->begin(instance_, snapshot_context());
    if (!capture) {
      fresh_.items.emplace_back(failed_snapshot(mark, capture.error()));
      return;
    }
    capturing_ = true;
    fresh_.items.emplace_back(
        ApplyResults::Captured{jobs::WriteSnapshot{mark, state_.encode(), std::move(*capture)}});
    return;
  }
  auto taken = write_snapshot();
  if (taken) {
    fresh_.items.emplace_back(ApplyResults::SnapshotTaken{mark, *taken});
  } else if (is_out_of_resources(taken.error().kind)) {
    fresh_.items.emplace_back(
        SnapshotFailed{mark, SnapshotFailed::Why::kNoSpace, taken.error().text});
  } else {
    fail(taken.error());
  }
}

Result<uint64_t> Applier::write_snapshot() {
  auto writer = snapshots_.begin({state_.applied, state_.applied_term}, as_bytes(state_.encode()));
  if (!writer) return failure(writer.error());
  auto written = instance_->snapshot(snapshot_context(),
                                     [&](ByteView bytes) { return (*writer)->write(bytes); });
  if (!written) return failure(written.error());
  auto info = (*writer)->finish();
  if (!info) return failure(info.error());
  return info->file_bytes;
}

}  // namespace connectd::node

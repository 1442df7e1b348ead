#include "node/requests/holder.h"

#include <algorithm>

#include "base/log.h"
#include "node/apply/replicated_state.h"

namespace connectd::node {
namespace {
constexpr Duration kExpiryInterval = std::chrono::milliseconds(50);
// Reads that the apply thread has at a time. Of one stream: as many as are likely to give this many
// bytes of replies, so that a client that does not take them is noticed before there are many; of
// all together: this many, so that they never hold up the writes for long.
constexpr size_t kStreamReplyBytes = 256 << 10;
constexpr size_t kStreamReadsMax = 256;
constexpr size_t kFirstReplyBytes = 64 << 10;  // what is assumed of a new client's replies
constexpr size_t kReadsExecuting = 4096;
// Read indexes that were learned and not reached yet; beyond them the newest takes the last place.
constexpr size_t kMaxComing = 64;
}  // namespace

std::string_view reply_code_name(ReplyCode code) {
  switch (code) {
    case ReplyCode::kOk:
      return "OK";
    case ReplyCode::kNoLeader:
      return "NOLEADER";
    case ReplyCode::kOverloaded:
      return "OVERLOADED";
    case ReplyCode::kTooLarge:
      return "TOOLARGE";
    case ReplyCode::kRejected:
      return "REJECTED";
    case ReplyCode::kDiskFull:
      return "DISKFULL";
    case ReplyCode::kShutdown:
      return "SHUTDOWN";
    case ReplyCode::kBadFrame:
      return "BADFRAME";
    case ReplyCode::kPlugin:
      return "PLUGIN";
    case ReplyCode::kSessionGone:
      return "SESSION_GONE";
    case ReplyCode::kUnknown:
      return "UNKNOWN";
    case ReplyCode::kStale:
      return "STALE";
  }
  return "UNKNOWN";
}

// ---- Stream

// Slots in order of submission. The first `started_` ones are with the holder (or answered, waiting
// for those before them); the others wait behind the barrier.
class Stream final : public std::enable_shared_from_this<Stream> {
 public:
  Stream(std::shared_ptr<Holder*> link, ReplyHandler* handler)
      : link_(std::move(link)), handler_(handler) {}

  void submit(ByteView bytes, const ReadOptions& read) {
    Holder* holder = *link_;
    Slot slot;
    slot.read = read;
    slot.cost = bytes.size() + kRequestOverhead;
    if (holder == nullptr || holder->stopping_) {
      push_answered(std::move(slot), ReplyCode::kShutdown,
                    "this node is stopping; try another one");
      return;
    }
    if (bytes.size() > holder->limits_.max_request) {
      push_answered(std::move(slot), ReplyCode::kTooLarge,
                    fmt::format("the request has {} bytes, client.max_request is {}", bytes.size(),
                                holder->limits_.max_request));
      return;
    }
    Classified classified = holder->host_.classify(bytes);
    switch (classified.kind) {
      case RequestKind::kReply:
        slot.answered = true;
        slot.text = std::move(classified.reply);
        push(std::move(slot));
        return;
      case RequestKind::kReject:
        slot.answered = true;
        slot.code = classified.plugin_failed ? ReplyCode::kPlugin : ReplyCode::kRejected;
        slot.plugin_refused = !classified.plugin_failed && !classified.reply.empty();
        slot.text = classified.reply.empty() ? "the plugin refused the request"
                                             : std::move(classified.reply);
        push(std::move(slot));
        return;
      case RequestKind::kWrite:
      case RequestKind::kRead:
      case RequestKind::kReadLocal:
        break;
    }
    if (!holder->writes_refused_.empty() && classified.kind == RequestKind::kWrite) {
      push_answered(std::move(slot), ReplyCode::kPlugin, holder->writes_refused_);
      return;
    }
    if (!holder->disk_full_.empty() && classified.kind == RequestKind::kWrite) {
      push_answered(std::move(slot), ReplyCode::kDiskFull, holder->disk_full_);
      return;
    }
    if (holder->held_bytes_ + slot.cost > holder->limits_.max_inflight_bytes) {
      push_answered(
          std::move(slot), ReplyCode::kOverloaded,
          "this node holds client.max_inflight_bytes of requests; slow down and try again");
      return;
    }
    slot.kind = classified.kind;
    slot.request = Slice::copy_of(bytes);
    slot.deadline = holder->now_ + holder->limits_.request_timeout;
    push(std::move(slot));
  }

  // The holder's answer to a started request.
  void answer(uint64_t ordinal, const Reply& reply) {
    CHECK_GE(ordinal, first_) << "a request of a stream was answered twice";
    Slot& slot = slots_[ordinal - first_];
    CHECK(!slot.answered);
    slot.answered = true;
    settle(slot);
    if (ordinal == first_) {
      deliver(reply);
      slots_.pop_front();
      ++first_;
      --started_;
      flush();
    } else {
      slot.code = reply.code;
      slot.status = reply.status;
      slot.index = reply.index;
      slot.plugin_refused = reply.plugin_refused;
      slot.text.assign(as_text(reply.bytes));
    }
    start();
  }

  void close() {
    handler_ = nullptr;
    resume();
  }
  bool is_closed() const { return handler_ == nullptr; }
  bool is_congested() const { return handler_ != nullptr && handler_->is_congested(); }
  void resume() {
    make_ready();
    // The time that the client took for itself is not the cluster's.
    if (Holder* holder = *link_; holder != nullptr) {
      for (size_t i = started_; i < slots_.size(); ++i) {
        slots_[i].deadline = holder->now_ + holder->limits_.request_timeout;
      }
    }
    start();
    flush();  // what needed no cluster is answered
  }
  // A read whose index is reached.
  void add_ready(ReadTask task) {
    task.ref.stream.reset();  // no stream holds itself
    ready_reads_.push_back(std::move(task));
    make_ready();
  }
  // Moves some into `out`. False: none is left, or the client is congested (then resume() follows).
  bool take_ready(std::vector<ReadTask>& out) {
    is_ready_ = false;
    if (is_congested()) return false;
    size_t allowed = std::clamp<size_t>(kStreamReplyBytes / reply_bytes_, 1, kStreamReadsMax);
    for (; executing_ < allowed && !ready_reads_.empty(); ++executing_) {
      out.push_back(std::move(ready_reads_.front()));
      out.back().ref.stream = shared_from_this();
      ready_reads_.pop_front();
    }
    is_ready_ = executing_ < allowed && !ready_reads_.empty();
    return is_ready_;
  }
  // A read that take_ready() gave was executed.
  void executed(size_t reply_bytes) {
    --executing_;
    // Rises at once, falls slowly.
    reply_bytes_ = std::max({reply_bytes, reply_bytes_ - reply_bytes_ / 8, size_t{1}});
    make_ready();
  }
  void end_replies() {
    dirty_ = false;
    if (handler_ != nullptr) handler_->on_replies_end();
  }
  size_t pending() const { return slots_.size(); }
  size_t pending_bytes() const { return bytes_; }

 private:
  struct Slot {
    RequestKind kind = RequestKind::kReply;
    ReplyCode code = ReplyCode::kOk;
    bool answered = false;
    bool plugin_refused = false;
    bool held = false;  // counted in the holder's totals
    int32_t status = 0;
    size_t cost = 0;
    Index index;
    Time deadline;
    Slice request;
    ReadOptions read;
    std::string text;
  };
  static bool is_write(const Slot& slot) { return slot.kind == RequestKind::kWrite; }

  void make_ready() {
    Holder* holder = *link_;
    if (is_ready_ || ready_reads_.empty() || holder == nullptr) return;
    is_ready_ = true;
    holder->ready_streams_.push_back(shared_from_this());
  }

  void push_answered(Slot slot, ReplyCode code, std::string text) {
    slot.answered = true;
    slot.code = code;
    slot.text = std::move(text);
    push(std::move(slot));
  }

  void push(Slot slot) {
    bytes_ += slot.cost;
    if (!slot.answered) {
      slot.held = true;
      ++(*link_)->held_;
      (*link_)->held_bytes_ += slot.cost;
    }
    slots_.push_back(std::move(slot));
    start();
    flush();
  }

  // Reads of one level, with the same bounds, are executed in the order in which they came. Those
  // of others go ways of their own, and a later one could meet an older state.
  bool runs_with(const Slot& slot) const {
    if (running_kind_ != slot.kind) return false;
    return slot.kind != RequestKind::kRead || running_read_ == slot.read;
  }

  // Starts what the barrier lets through: while requests of one kind are out, only that kind.
  void start() {
    Holder* holder = *link_;
    if (holder == nullptr || is_congested()) return;
    while (started_ < slots_.size()) {
      Slot& slot = slots_[started_];
      if (!slot.answered) {
        if (running_ > 0 && !runs_with(slot)) return;
        running_kind_ = slot.kind;
        running_read_ = slot.read;
        ++running_;
        RequestRef ref{shared_from_this(), first_ + started_};
        ++started_;
        if (is_write(slot)) {
          holder->start_write(std::move(ref), slot.request, slot.deadline);
        } else {
          holder->start_read({std::move(ref), slot.request, slot.deadline, slot.read},
                             slot.kind == RequestKind::kReadLocal);
        }
      } else {
        ++started_;
      }
    }
  }

  void settle(Slot& slot) {
    CHECK_GT(running_, 0u);
    --running_;
    slot.request = Slice();
    if (Holder* holder = *link_; slot.held && holder != nullptr) {
      --holder->held_;
      holder->held_bytes_ -= slot.cost;
      slot.held = false;
    }
  }

  void flush() {
    while (started_ > 0 && slots_.front().answered) {
      Slot& slot = slots_.front();
      deliver({slot.code, as_bytes(slot.text), slot.plugin_refused, slot.status, slot.index});
      slots_.pop_front();
      ++first_;
      --started_;
    }
  }

  void deliver(const Reply& reply) {
    bytes_ -= slots_.front().cost;
    if (handler_ == nullptr) return;
    if (Holder* holder = *link_; !dirty_ && holder != nullptr) {
      dirty_ = true;
      holder->replied_.push_back(shared_from_this());
    }
    handler_->on_reply(reply);
  }

  const std::shared_ptr<Holder*> link_;
  ReplyHandler* handler_;
  std::deque<Slot> slots_;
  uint64_t first_ = 0;  // ordinal of slots_.front()
  size_t started_ = 0;
  size_t running_ = 0;  // started and not answered; all of one kind
  RequestKind running_kind_ = RequestKind::kWrite;
  ReadOptions running_read_;
  bool dirty_ = false;
  size_t bytes_ = 0;
  std::deque<ReadTask> ready_reads_;
  bool is_ready_ = false;  // in the holder's ready_streams_
  size_t executing_ = 0;   // reads given to the apply thread
  size_t reply_bytes_ = kFirstReplyBytes;
};

namespace {
class StreamHandle final : public RequestStream {
 public:
  explicit StreamHandle(std::shared_ptr<Stream> stream) : stream_(std::move(stream)) {}
  ~StreamHandle() override { stream_->close(); }
  void submit(ByteView request, const ReadOptions& read) override {
    stream_->submit(request, read);
  }
  void resume() override { stream_->resume(); }
  size_t pending() const override { return stream_->pending(); }
  size_t pending_bytes() const override { return stream_->pending_bytes(); }

 private:
  std::shared_ptr<Stream> stream_;
};
}  // namespace

// ---- Holder

Holder::Holder(NodeId self, uint64_t incarnation, const HolderLimits& limits, Host host)
    : self_(self),
      incarnation_(incarnation),
      limits_(limits),
      host_(std::move(host)),
      link_(std::make_shared<Holder*>(this)) {}

Holder::~Holder() { *link_ = nullptr; }

std::unique_ptr<RequestStream> Holder::open_stream(ReplyHandler& handler) {
  return std::make_unique<StreamHandle>(std::make_shared<Stream>(link_, &handler));
}

void Holder::answer(const RequestRef& ref, const Reply& reply) {
  ref.stream->answer(ref.ordinal, reply);
}

void Holder::answer_error(const RequestRef& ref, ReplyCode code, std::string_view text) {
  answer(ref, Reply{code, as_bytes(text), false, 0, Index()});
}

void Holder::start_write(RequestRef ref, Slice request, Time deadline) {
  // By deadline: one that waited behind its stream's barrier goes before younger ones. Within a
  // stream deadlines rise, so its order stays.
  auto place = queued_.end();
  while (place != queued_.begin() && std::prev(place)->deadline > deadline) --place;
  queued_.insert(place, Write{std::move(ref), std::move(request), deadline});
}

void Holder::start_read(ReadTask task, bool local) {
  if (local) {
    indexed_reads_[Index()].push_back(std::move(task));
    return;
  }
  switch (task.options.level) {
    case ReadLevel::kLinearizable:
      new_reads_.push_back(std::move(task));
      break;
    case ReadLevel::kLease:
      new_lease_reads_.push_back(std::move(task));
      break;
    case ReadLevel::kStale:
      stale_reads_.push_back(std::move(task));
      look_at_stale_reads_ = true;
      break;
  }
}

void Holder::leader_changed(NodeId leader, Term term, bool takes_proposals) {
  leader_ = leader;
  term_ = term;
  leader_takes_proposals_ = takes_proposals;
  // Numbered writes that went to another leader, or in another term, may be lost.
  if ((!numbered_.empty() || open_sent_) && (sent_to_ != leader || sent_term_ != term)) reopen();
}

void Holder::forward_lost(NodeId peer) {
  if ((!numbered_.empty() || open_sent_) && sent_to_ == peer) reopen();
}

void Holder::forward_refused(Term leader_term) {
  if ((numbered_.empty() && !open_sent_) || sent_term_ != leader_term) return;
  reopen();
  refused_until_ = now_ + limits_.tick;
}

void Holder::reopen() {
  session_open_ = false;
  open_sent_ = false;
}

void Holder::session_opened(SessionId id, uint64_t incarnation) {
  if (incarnation != incarnation_) {
    // A former life of this node. Its open came late: it closed the session of this one.
    if (session_open_) reopen();
    return;
  }
  session_ = id;
  session_open_ = true;
  open_sent_ = false;
  next_sequence_ = Sequence(1);
  numbered_bytes_ = 0;
  // All earlier sessions of this node are closed: what was not applied so far never will be. It
  // goes again, before what came after it.
  while (!numbered_.empty()) {
    Write& last = numbered_.back();
    if (!last.answered) queued_.push_front(std::move(last));
    numbered_.pop_back();
  }
}

void Holder::applied(SessionId session, Sequence sequence, Index index, int32_t status,
                     ByteView reply) {
  if (session != session_ || numbered_.empty()) return;
  Sequence first = next_sequence_ - numbered_.size();
  CHECK_EQ(sequence.value(), first.value()) << "a session's writes are applied in order";
  Write write = std::move(numbered_.front());
  numbered_.pop_front();
  numbered_bytes_ -= write.request.size() + kRequestOverhead;
  last_progress_ = now_;
  if (write.answered) return;
  if (status == kSkippedStatus) {
    answer_error(write.ref, ReplyCode::kPlugin,
                 "the plugin failed on this request, and an operator had it skipped; it was not "
                 "executed");
    return;
  }
  answer(write.ref, Reply{ReplyCode::kOk, reply, false, status, index});
}

void Holder::state_replaced(const SessionTable& table) {
  // The replies of what the snapshot covers were never seen here.
  const SessionTable::Session* session = table.find(session_);
  Sequence first = next_sequence_ - numbered_.size();
  size_t settled = numbered_.size();
  if (session != nullptr) {
    settled = session->last < first ? 0 : std::min(settled, session->last - first + 1);
  }
  for (; settled > 0; --settled) {
    Write write = std::move(numbered_.front());
    numbered_.pop_front();
    numbered_bytes_ -= write.request.size() + kRequestOverhead;
    if (!write.answered) {
      answer_error(write.ref, ReplyCode::kUnknown,
                   "the node caught up by a snapshot and did not learn the outcome");
    }
  }
  if (session == nullptr) reopen();
}

// An answer lets its stream start what waited behind the barrier, which may be another write.
void Holder::refuse_queued(ReplyCode code, std::string_view text) {
  while (!queued_.empty()) {
    for (auto queued = std::exchange(queued_, {}); Write & write : queued) {
      answer_error(write.ref, code, text);
    }
  }
}

void Holder::hand_on() {
  // Also what has just come back, because its session was closed before it was applied.
  if (!disk_full_.empty()) refuse_queued(ReplyCode::kDiskFull, disk_full_);
  if (!leader_ || !leader_takes_proposals_ || now_ < refused_until_) return;
  bool local = leader_ == self_;
  if (!session_open_) {
    if (!disk_full_.empty() && numbered_.empty()) return;
    if (open_sent_ && now_ - open_sent_at_ < limits_.retry_interval) return;
    raft::Proposal open;
    open.kind = raft::EntryKind::kSessionOpen;
    open.payload = Slice::copy_of(SessionOwner{self_, incarnation_}.encode());
    std::vector<raft::Proposal> proposals;
    proposals.push_back(std::move(open));
    open_sent_ = true;
    open_sent_at_ = now_;
    sent_to_ = leader_;
    sent_term_ = term_;
    if (local) {
      host_.propose({std::move(proposals)});
    } else {
      host_.forward(leader_, term_, std::move(proposals));
    }
    return;
  }
  while (!queued_.empty() && session_open_) {
    std::vector<raft::Proposal> proposals;
    size_t bytes = 0;
    Sequence acked_below = next_sequence_ - numbered_.size();
    while (!queued_.empty()) {
      Write& write = queued_.front();
      size_t cost = write.request.size() + kRequestOverhead;
      if (!numbered_.empty() && numbered_bytes_ + cost > limits_.credit_bytes) break;
      if (!proposals.empty() && bytes + write.request.size() > limits_.forward_bytes) break;
      proposals.push_back(
          {raft::EntryKind::kCommand, session_, next_sequence_, acked_below, write.request});
      bytes += write.request.size();
      numbered_bytes_ += cost;
      ++next_sequence_;
      numbered_.push_back(std::move(write));
      queued_.pop_front();
    }
    if (proposals.empty()) return;
    if (numbered_.size() == proposals.size()) last_progress_ = now_;
    sent_to_ = leader_;
    sent_term_ = term_;
    if (local) {
      host_.propose({std::move(proposals)});
    } else {
      host_.forward(leader_, term_, std::move(proposals));
    }
  }
}

void Holder::ask_reads() {
  for (auto& [context, batch] : read_batches_) {
    // The question or its answer was lost.
    if (leader_ && now_ - batch.asked >= limits_.retry_interval) {
      batch.asked = now_;
      host_.ask_read_index(context, batch.lease);
    }
  }
  for (ReadTask& task : stale_reads_) task.came = std::min(task.came, now_);
  if (!leader_) return;
  // First those that a lease may answer: the answer to a round is good for them, too.
  if (!new_lease_reads_.empty()) ask(std::exchange(new_lease_reads_, {}), true);
  if (!new_reads_.empty()) ask(std::exchange(new_reads_, {}), false);
  bool too_old = false;
  for (ReadTask& task : stale_reads_) too_old |= !is_fresh(task);
  if (age_context_ != 0 || !too_old) return;
  // One question for all of them; its answer makes the state fresh when it is reached.
  age_context_ = next_context_;
  ask({}, false);
}

void Holder::ask(std::vector<ReadTask> tasks, bool lease) {
  uint64_t context = next_context_++;
  read_batches_[context] = ReadBatch{std::move(tasks), lease, now_, now_};
  host_.ask_read_index(context, lease);
}

void Holder::read_index(uint64_t context, Index index) {
  auto found = read_batches_.find(context);
  if (found == read_batches_.end()) return;  // answered twice, or given up
  // An index that a lease may have given is worth what clocks are worth. It answers lease reads and
  // tells nothing else: neither how fresh this state is, nor what waits for a round.
  const bool lease = found->second.lease;
  if (!lease) {
    learn_age(found->second.first_asked, index);
    if (context >= age_context_) age_context_ = 0;
  }
  // An index is good for all reads that were asked for before it, too. So reads are executed in the
  // order in which they came, and no stream sees an older state after a newer one.
  if (!indexed_reads_.empty()) index = std::max(index, indexed_reads_.rbegin()->first);
  std::vector<ReadTask> tasks;
  for (auto it = read_batches_.begin(); it != read_batches_.end() && it->first <= context;) {
    if (lease && !it->second.lease) {
      ++it;
      continue;
    }
    std::ranges::move(it->second.tasks, std::back_inserter(tasks));
    it = read_batches_.erase(it);
  }
  if (!tasks.empty()) std::ranges::move(tasks, std::back_inserter(indexed_reads_[index]));
}

// Once `index` is reached, the state has every write that was acknowledged before `asked`.
void Holder::learn_age(Time asked, Index index) {
  if (coming_.size() >= kMaxComing || (!coming_.empty() && coming_.back().index >= index)) {
    // The later of the two covers both, as soon as it is reached.
    coming_.back() = {asked, std::max(coming_.back().index, index)};
  } else {
    coming_.push_back({asked, index});
  }
}

bool Holder::is_fresh(const ReadTask& task) const {
  return !task.options.max_age || fresh_at_ >= task.came - *task.options.max_age;
}

bool Holder::is_met(const ReadTask& task) const {
  return task.options.min_index <= handed_ && is_fresh(task);
}

void Holder::take_stale_reads(Index handed) {
  look_at_stale_reads_ |= handed != handed_;
  handed_ = handed;
  for (; !coming_.empty() && coming_.front().index <= handed; coming_.pop_front()) {
    fresh_at_ = std::max(fresh_at_, coming_.front().asked);
    look_at_stale_reads_ = true;
  }
  if (!std::exchange(look_at_stale_reads_, false) || stale_reads_.empty()) return;
  auto waiting = std::stable_partition(stale_reads_.begin(), stale_reads_.end(),
                                       [&](const ReadTask& task) { return is_met(task); });
  for (auto it = stale_reads_.begin(); it != waiting; ++it) {
    std::shared_ptr<Stream> stream = it->ref.stream;
    stream->add_ready(std::move(*it));
  }
  stale_reads_.erase(stale_reads_.begin(), waiting);
}

void Holder::take_reads(Index handed, std::vector<ReadTask>& out) {
  take_stale_reads(handed);
  while (!indexed_reads_.empty() && indexed_reads_.begin()->first <= handed) {
    for (ReadTask& task : indexed_reads_.begin()->second) {
      std::shared_ptr<Stream> stream = task.ref.stream;
      stream->add_ready(std::move(task));
    }
    indexed_reads_.erase(indexed_reads_.begin());
  }
  size_t before = out.size();
  for (size_t left = ready_streams_.size();
       left > 0 && executing_reads_ + (out.size() - before) < kReadsExecuting; --left) {
    std::shared_ptr<Stream> stream = std::move(ready_streams_.front());
    ready_streams_.pop_front();
    if (stream->take_ready(out)) ready_streams_.push_back(std::move(stream));
  }
  executing_reads_ += out.size() - before;
}

void Holder::read_dropped(uint64_t context) {
  auto found = read_batches_.find(context);
  if (found == read_batches_.end()) return;
  // Asked again at the next turn with a leader, no sooner than a little later.
  found->second.asked = now_ - limits_.retry_interval + limits_.tick;
}

void Holder::read_done(const RequestRef& ref, const Reply& reply) {
  --executing_reads_;
  size_t reply_bytes = reply.bytes.size();
  answer(ref, reply);
  ref.stream->executed(reply_bytes);
}

void Holder::expire() {
  expire_queued();
  if (now_ < next_expiry_) return;
  next_expiry_ = now_ + kExpiryInterval;
  // An answer starts what waited behind it on its connection, and that may be over its time, too.
  size_t before = 0;
  do {
    before = held_;
    expire_queued();
    expire_numbered();
    expire_reads(new_reads_);
    expire_reads(new_lease_reads_);
    expire_stale_reads();
    for (auto it = read_batches_.begin(); it != read_batches_.end();) {
      expire_reads(it->second.tasks);
      const bool is_for_age = it->first == age_context_ && !stale_reads_.empty();
      if (it->first == age_context_ && !is_for_age) age_context_ = 0;
      it = it->second.tasks.empty() && !is_for_age ? read_batches_.erase(it) : std::next(it);
    }
    for (auto it = indexed_reads_.begin(); it != indexed_reads_.end();) {
      expire_reads(it->second);
      it = it->second.empty() ? indexed_reads_.erase(it) : std::next(it);
    }
  } while (held_ < before);
}

void Holder::expire_queued() {
  while (!queued_.empty() && queued_.front().deadline <= now_) {
    Write write = std::move(queued_.front());
    queued_.pop_front();
    answer_error(write.ref, ReplyCode::kNoLeader,
                 "no leader took the request within client.request_timeout; it was not executed");
  }
}

void Holder::expire_numbered() {
  for (Write& write : numbered_) {
    if (write.answered || write.deadline > now_) continue;
    write.answered = true;
    answer_error(write.ref, ReplyCode::kUnknown,
                 "the outcome was not learned within client.request_timeout; the request may still "
                 "be executed");
    write.ref.stream.reset();
  }
}

void Holder::expire_reads(std::vector<ReadTask>& tasks) {
  auto late = std::stable_partition(tasks.begin(), tasks.end(),
                                    [&](const ReadTask& task) { return task.deadline > now_; });
  // Answering starts what waited behind the barrier, which may add to `tasks`.
  std::vector<ReadTask> expired(std::make_move_iterator(late),
                                std::make_move_iterator(tasks.end()));
  tasks.erase(late, tasks.end());
  for (ReadTask& task : expired) {
    answer_error(task.ref, ReplyCode::kNoLeader,
                 "no leader confirmed the read within client.request_timeout");
  }
}

void Holder::expire_stale_reads() {
  auto late = std::stable_partition(stale_reads_.begin(), stale_reads_.end(),
                                    [&](const ReadTask& task) { return task.deadline > now_; });
  std::vector<ReadTask> expired(std::make_move_iterator(late),
                                std::make_move_iterator(stale_reads_.end()));
  stale_reads_.erase(late, stale_reads_.end());
  for (ReadTask& task : expired) {
    auto ms = [](Duration time) { return time / std::chrono::milliseconds(1); };
    const ReadOptions& options = task.options;
    if (is_met(task)) {
      answer_error(task.ref, ReplyCode::kStale,
                   "what its connection had asked before took client.request_timeout");
    } else if (options.min_index > handed_) {
      answer_error(task.ref, ReplyCode::kStale,
                   fmt::format("this node has the entries up to {} and did not get to min-index {} "
                               "within client.request_timeout; ask another node",
                               handed_, options.min_index));
    } else if (fresh_at_ == Time::min()) {
      answer_error(task.ref, ReplyCode::kStale,
                   fmt::format("this node has not known itself up to date since it started, "
                               "max-age is {} ms; ask another node",
                               ms(options.max_age.value_or(Duration()))));
    } else {
      answer_error(task.ref, ReplyCode::kStale,
                   fmt::format("this node knew itself up to date {} ms ago, max-age is {} ms; ask "
                               "another node",
                               ms(now_ - fresh_at_), ms(options.max_age.value_or(Duration()))));
    }
  }
}

void Holder::advance(Time now) {
  now_ = now;
  expire();
  if (session_open_ && !numbered_.empty() && now_ - last_progress_ > limits_.stuck_timeout)
    reopen();
  hand_on();
  ask_reads();
}

void Holder::end_replies() {
  // A handler may close its stream, or submit again; what that replies to comes next turn.
  std::vector<std::shared_ptr<Stream>> streams;
  streams.swap(replied_);
  for (auto& stream : streams) stream->end_replies();
  if (replied_.empty()) {
    streams.clear();
    replied_.swap(streams);  // keeps the capacity
  }
}

Time Holder::next_deadline() const {
  if (!ready_streams_.empty() && executing_reads_ < kReadsExecuting) return now_;
  if (held_ == 0 && (session_open_ || !open_sent_)) return Time::max();
  return now_ + limits_.tick;
}

void Holder::refuse_writes(const std::string& why) {
  writes_refused_ = why;
  if (!writes_refused_.empty()) refuse_queued(ReplyCode::kPlugin, writes_refused_);
}

void Holder::shut_down() {
  stopping_ = true;
  constexpr std::string_view kText = "this node is stopping; try another one";
  // An answer lets its stream start what waited behind the barrier, which is refused in its turn.
  while (!queued_.empty() || !new_reads_.empty() || !new_lease_reads_.empty() ||
         !stale_reads_.empty()) {
    for (auto queued = std::exchange(queued_, {}); Write & write : queued) {
      answer_error(write.ref, ReplyCode::kShutdown, kText);
    }
    for (auto* reads : {&new_reads_, &new_lease_reads_, &stale_reads_}) {
      for (auto taken = std::exchange(*reads, {}); ReadTask & task : taken) {
        answer_error(task.ref, ReplyCode::kShutdown, kText);
      }
    }
  }
}

}  // namespace connectd::node

#include "node/requests/holder.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace connectd::node {
namespace {
constexpr Duration kExpiryInterval = std::chrono::milliseconds(50);
// Maximum of reads on the apply thread, of all streams together: so few that they never delay the
// writes for long.
constexpr size_t kReadsExecuting = 4096;
constexpr std::string_view kMayNothing =
    "the plugin's requests need the role read or write, and the caller has neither";
constexpr std::string_view kStopping = "this node is stopping; use another one";
}  // namespace

Holder::Holder(NodeId self, uint64_t incarnation, const HolderLimits& limits,
               Classifier& classifier, std::shared_ptr<Metrics> metrics)
    : limits_(limits),
      classifier_(classifier),
      metrics_(std::move(metrics)),
      writes_(self, incarnation, limits),
      reads_({limits.retry_interval, limits.tick, limits.checks_ready}),
      link_(std::make_shared<Holder*>(this)) {}

Holder::~Holder() { *link_ = nullptr; }

// ---- streams

// The part of a stream that a client's connection has.
class Holder::StreamHandle final : public RequestStream {
 public:
  StreamHandle(std::shared_ptr<Holder*> link, StreamPtr stream)
      : link_(std::move(link)), stream_(std::move(stream)) {}
  ~StreamHandle() override {
    stream_->close();
    resume();
  }
  void submit(ByteView request, const ReadOptions& read) override {
    if (Holder* holder = *link_; holder != nullptr) return holder->submit(stream_, request, read);
    stream_->push_answered(ReplyCode::kShutdown, std::string(kStopping), request.size());
    while (stream_->start_next()) {
    }
    stream_->flush();
  }
  void set_rights(Rights rights) override { stream_->set_rights(rights); }
  void resume() override {
    if (Holder* holder = *link_; holder != nullptr) holder->resume(stream_);
  }
  size_t pending() const override { return stream_->pending(); }
  size_t pending_bytes() const override { return stream_->pending_bytes(); }

 private:
  const std::shared_ptr<Holder*> link_;
  const StreamPtr stream_;
};

std::unique_ptr<RequestStream> Holder::open_stream(ReplyHandler& handler) {
  return std::make_unique<StreamHandle>(link_, std::make_shared<Stream>(&handler));
}

void Holder::submit(const StreamPtr& stream, ByteView request, const ReadOptions& read) {
  const size_t cost = request.size() + kRequestOverhead;
  auto answered = [&](ReplyCode code, std::string text, bool plugin_refused = false) {
    count(code);
    stream->push_answered(code, std::move(text), cost, plugin_refused);
    move_along(stream);
  };
  const Rights rights = stream->rights();
  if (!rights.read && !rights.write) {
    return answered(ReplyCode::kNoPerm, std::string(kMayNothing));
  }
  if (stopping_) return answered(ReplyCode::kShutdown, std::string(kStopping));
  if (request.size() > limits_.max_request) {
    return answered(ReplyCode::kTooLarge,
                    fmt::format("the request has {} bytes, client.max_request is {}",
                                request.size(), limits_.max_request));
  }
  Classified classified = classifier_.classify(request);
  if (classified.kind == RequestKind::kReply) {
    return answered(ReplyCode::kOk, std::move(classified.reply));
  }
  if (classified.kind == RequestKind::kReject) {
    const bool own_text = !classified.plugin_failed && !classified.reply.empty();
    return answered(
        classified.plugin_failed ? ReplyCode::kPlugin : ReplyCode::kRejected,
        classified.reply.empty() ? "the plugin refused the request" : std::move(classified.reply),
        own_text);
  }
  const bool is_write = classified.kind == RequestKind::kWrite;
  if (is_write ? !rights.write : !rights.read) {
    return answered(ReplyCode::kNoPerm,
                    fmt::format("the request is a {0}, and the caller has not the role {0}",
                                is_write ? "write" : "read"));
  }
  if (classified.kind == RequestKind::kWrite && !writes_refused_.empty()) {
    return answered(ReplyCode::kPlugin, writes_refused_);
  }
  if (classified.kind == RequestKind::kWrite && !disk_full_.empty()) {
    return answered(ReplyCode::kDiskFull, disk_full_);
  }
  if (held_bytes_ + cost > limits_.max_inflight_bytes) {
    return answered(
        ReplyCode::kOverloaded,
        "this node holds client.max_inflight_bytes of requests; slow down and try again");
  }
  stream->push(classified.kind, Slice::copy_of(request), read, now_, now_ + limits_.request_timeout,
               cost);
  ++held_;
  held_bytes_ += cost;
  move_along(stream);
}

void Holder::resume(const StreamPtr& stream) {
  note_ready(stream);
  // The time for which the client did not read its replies does not count.
  stream->renew(now_ + limits_.request_timeout);
  move_along(stream);
}

// Starts the requests that the barrier permits, and delivers replies.
void Holder::move_along(const StreamPtr& stream) {
  while (auto started = stream->start_next()) {
    RequestRef ref{stream, started->ordinal};
    if (started->kind == RequestKind::kWrite) {
      writes_.add(std::move(ref), std::move(started->request), started->deadline);
    } else {
      reads_.add({std::move(ref), std::move(started->request), started->deadline, started->read},
                 started->kind == RequestKind::kReadLocal);
    }
  }
  stream->flush();
  note_replies(stream);
}

void Holder::note_replies(const StreamPtr& stream) {
  if (stream->take_replied()) replied_.push_back(stream);
}

void Holder::note_ready(const StreamPtr& stream) {
  if (stream->becomes_ready()) ready_streams_.push_back(stream);
}

// ---- answers

void Holder::answer(const RequestRef& ref, const Reply& reply) {
  const Stream::Answered answered = ref.stream->answer(ref.ordinal, reply);
  count(reply.code);
  if (reply.code == ReplyCode::kOk) {
    Metrics::Loop& counts = metrics_->loop;
    const bool is_write = answered.kind == RequestKind::kWrite;
    (is_write ? counts.write_time : counts.read_time).observe(now_ - answered.begin);
  }
  held_bytes_ -= answered.cost;
  --held_;
  move_along(ref.stream);
}

void Holder::answer_all(const std::vector<RequestRef>& refs, ReplyCode code,
                        std::string_view text) {
  for (const RequestRef& ref : refs) answer(ref, Reply{code, as_bytes(text), false, 0, Index()});
}

void Holder::applied(SessionId session, Sequence sequence, Index index, int32_t status,
                     ByteView reply) {
  auto ref = writes_.applied(session, sequence, now_);
  if (!ref) return;
  if (status == kSkippedStatus) {
    constexpr std::string_view kText =
        "an operator skipped this request because the plugin failed on it; it was not executed";
    return answer(*ref, Reply{ReplyCode::kPlugin, as_bytes(kText), false, 0, Index()});
  }
  answer(*ref, Reply{ReplyCode::kOk, reply, false, status, index});
}

void Holder::state_replaced(std::optional<Sequence> last) {
  // This node never saw the replies of the writes that the snapshot covers.
  answer_all(writes_.state_replaced(last), ReplyCode::kUnknown,
             "the node caught up by a snapshot and lost track of the outcome");
}

void Holder::read_done(const RequestRef& ref, const Reply& reply) {
  came_back(ref);
  if (ref.stream->awaits(ref.ordinal)) answer(ref, reply);
  note_ready(ref.stream);
}

void Holder::came_back(const RequestRef& read) {
  auto is_it = [&](const Executing& one) {
    return one.ref.ordinal == read.ordinal && one.ref.stream == read.stream;
  };
  const auto found = std::ranges::find_if(executing_, is_it);
  CHECK(found != executing_.end());
  executing_.erase(found);
  read.stream->executed();
}

void Holder::reads_left(std::vector<ReadTask>& reads) {
  std::vector<StreamPtr> streams;
  for (const ReadTask& read : reads) {
    came_back(read.ref);
    if (streams.empty() || streams.back() != read.ref.stream) streams.push_back(read.ref.stream);
  }
  for (auto read = reads.rbegin(); read != reads.rend(); ++read) {
    const StreamPtr stream = std::move(read->ref.stream);  // no stream holds itself
    if (stream->awaits(read->ref.ordinal)) stream->put_back(std::move(*read));
  }
  for (const StreamPtr& stream : streams) note_ready(stream);
}

// A reply lets its stream start the next request, which may be another write.
void Holder::refuse_queued(ReplyCode code, std::string_view text) {
  for (auto refs = writes_.take_queued(); !refs.empty(); refs = writes_.take_queued()) {
    answer_all(refs, code, text);
  }
}

// ---- the turn

void Holder::advance(Time now, const Progress& progress, Effects& out) {
  now_ = now;
  expire();
  // Including writes just returned because their session was closed before they were applied.
  if (!disk_full_.empty()) refuse_queued(ReplyCode::kDiskFull, disk_full_);
  writes_.forward_queued(now, progress, !disk_full_.empty(), out);
  reads_.ask(has_leader_, now, out);
}

void Holder::expire_queued() {
  for (auto refs = writes_.expire_queued(now_); !refs.empty(); refs = writes_.expire_queued(now_)) {
    answer_all(refs, ReplyCode::kNoLeader,
               "no leader accepted the request within client.request_timeout; it was not executed");
  }
}

void Holder::expire() {
  expire_queued();
  if (now_ < next_expiry_) return;
  next_expiry_ = now_ + kExpiryInterval;
  // A reply starts the next request of its connection, which may have expired, too.
  size_t before = 0;
  do {
    before = held_;
    expire_queued();
    answer_all(writes_.expire_numbered(now_), ReplyCode::kUnknown,
               "the outcome was not learned within client.request_timeout; the request may still "
               "be executed");
    std::vector<Refused> expired;
    reads_.expire(now_, expired);
    for (const Refused& one : expired) {
      answer(one.ref, Reply{one.code, as_bytes(one.text), false, 0, Index()});
    }
    expire_executing();
  } while (held_ < before);
}

// A call of the plugin takes longer than clients wait: what waits for its end expires, too. Reads
// that only wait for their client to take replies do not.
void Holder::expire_executing() {
  auto is_late = [&](const Executing& one) { return one.deadline <= now_; };
  if (std::ranges::none_of(executing_, is_late)) return;
  std::vector<RequestRef> late;
  auto add_waiting = [&](const StreamPtr& stream) {
    for (uint64_t ordinal : stream->take_late(now_)) late.push_back({stream, ordinal});
  };
  for (const Executing& one : executing_) {
    if (is_late(one) && one.ref.stream->awaits(one.ref.ordinal)) late.push_back(one.ref);
    add_waiting(one.ref.stream);
  }
  std::ranges::for_each(ready_streams_, add_waiting);
  answer_all(late, ReplyCode::kPlugin, kNotExecuted);
}

void Holder::take_reads(Index handed, std::vector<ReadTask>& out) {
  std::vector<ReadTask> reached;
  reads_.take_reached(handed, reached);
  for (ReadTask& task : reached) {
    const StreamPtr stream = std::move(task.ref.stream);  // no stream holds itself
    stream->add_ready(std::move(task));
    note_ready(stream);
  }
  const size_t before = out.size();
  for (size_t left = ready_streams_.size();
       left > 0 && executing_.size() + (out.size() - before) < kReadsExecuting; --left) {
    StreamPtr stream = std::move(ready_streams_.front());
    ready_streams_.pop_front();
    const size_t first = out.size();
    stream->take_ready(out);
    for (size_t i = first; i < out.size(); ++i) out[i].ref.stream = stream;
  }
  for (size_t i = before; i < out.size(); ++i) {
    executing_.push_back({out[i].ref, out[i].deadline});
  }
}

void Holder::end_replies() {
  // A handler may close its stream, or submit a request; replies to those follow in the next turn.
  std::vector<StreamPtr> streams;
  streams.swap(replied_);
  for (auto& stream : streams) stream->end_replies();
  if (replied_.empty()) {
    streams.clear();
    replied_.swap(streams);  // keeps the capacity
  }
}

Time Holder::next_deadline() const {
  if (!ready_streams_.empty() && executing_.size() < kReadsExecuting) return now_;
  if (held_ == 0 && !writes_.is_opening()) return Time::max();
  return now_ + limits_.tick;
}

void Holder::refuse_writes(const std::string& why) {
  writes_refused_ = why;
  if (!writes_refused_.empty()) refuse_queued(ReplyCode::kPlugin, writes_refused_);
}

void Holder::shut_down() {
  stopping_ = true;
  // A reply lets its stream start the next request, which is rejected in the next iteration.
  for (bool any = true; any;) {
    auto writes = writes_.take_queued();
    auto reads = reads_.take_unasked();
    any = !writes.empty() || !reads.empty();
    answer_all(writes, ReplyCode::kShutdown, kStopping);
    answer_all(reads, ReplyCode::kShutdown, kStopping);
  }
}

void Holder::give_up() {
  const Time end = now_ + limits_.request_timeout;
  size_t before = 0;
  do {
    before = held_;
    answer_all(writes_.expire_numbered(end), ReplyCode::kUnknown,
               "this node was removed from the cluster and does not learn the outcome; the request "
               "may still be executed");
    std::vector<Refused> reads;
    reads_.expire(end, reads);
    for (const Refused& read : reads) {
      answer(read.ref, Reply{ReplyCode::kShutdown, as_bytes(kStopping), false, 0, Index()});
    }
    shut_down();  // the next requests of those streams
  } while (held_ < before);
}

}  // namespace connectd::node

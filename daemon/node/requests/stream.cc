#include "node/requests/stream.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace connectd::node {
namespace {
// Reads of one stream on the apply thread at a time. It executes fewer of them when their replies
// are large (Applier::Options).
constexpr size_t kRunMax = 256;
// Writes of one stream in progress are expected to give no more bytes of replies than this. Their
// replies cannot wait: a write is applied when its turn in the log comes.
constexpr size_t kWriteRepliesMax = size_t{4} << 20;
}  // namespace

bool is_gone(const RequestRef& request) {
  return request.stream != nullptr && request.stream->is_closed();
}

void Stream::push_answered(ReplyCode code, std::string text, size_t cost, bool plugin_refused) {
  Slot& slot = slots_.emplace_back();
  slot.answered = true;
  slot.code = code;
  slot.text = std::move(text);
  slot.plugin_refused = plugin_refused;
  slot.cost = cost;
  bytes_ += cost;
}

void Stream::push(plugin::RequestKind kind, Slice request, const ReadOptions& read, Time begin,
                  Time deadline, size_t cost) {
  Slot& slot = slots_.emplace_back();
  slot.kind = kind;
  slot.request = std::move(request);
  slot.read = read;
  slot.begin = begin;
  slot.deadline = deadline;
  slot.cost = cost;
  bytes_ += cost;
}

// Reads of one level and with the same bounds are executed in the order in which they arrived.
// Between different levels there is no order, and a later read could see an older state.
bool Stream::runs_with(const Slot& slot) const {
  if (running_kind_ != slot.kind) return false;
  return slot.kind != plugin::RequestKind::kRead || running_read_ == slot.read;
}

std::optional<Stream::Started> Stream::start_next() {
  if (is_congested()) return std::nullopt;
  for (; started_ < slots_.size(); ++started_) {
    Slot& slot = slots_[started_];
    if (slot.answered) continue;
    if (running_ > 0 && !runs_with(slot)) return std::nullopt;
    if (slot.kind == plugin::RequestKind::kWrite && running_ > 0 &&
        running_ * write_reply_bytes_ >= kWriteRepliesMax) {
      return std::nullopt;
    }
    running_kind_ = slot.kind;
    running_read_ = slot.read;
    ++running_;
    return Started{first_ + started_++, slot.kind, slot.request, slot.read, slot.deadline};
  }
  return std::nullopt;
}

void Stream::renew(Time deadline) {
  for (size_t i = started_; i < slots_.size(); ++i) slots_[i].deadline = deadline;
  for (ReadTask& task : ready_reads_) task.deadline = deadline;
  waits_for_client_ = false;
}

Stream::Answered Stream::answer(uint64_t ordinal, const Reply& reply) {
  CHECK_GE(ordinal, first_) << "a request of a stream was answered twice";
  Slot& slot = slots_[ordinal - first_];
  CHECK(!slot.answered);
  CHECK_GT(running_, 0u);
  slot.answered = true;
  slot.request = Slice();
  --running_;
  if (slot.kind == plugin::RequestKind::kWrite) {
    // Rises at once, falls slowly.
    write_reply_bytes_ =
        std::max({reply.bytes.size(), write_reply_bytes_ - write_reply_bytes_ / 8, size_t{1}});
  }
  const Answered answered{slot.kind, slot.begin, slot.cost};
  if (ordinal == first_) {
    deliver(reply);
    drop_front();
    flush();
  } else {
    slot.code = reply.code;
    slot.status = reply.status;
    slot.index = reply.index;
    slot.plugin_refused = reply.plugin_refused;
    slot.text.assign(as_text(reply.bytes));
  }
  return answered;
}

void Stream::flush() {
  while (started_ > 0 && slots_.front().answered) {
    const Slot& slot = slots_.front();
    deliver({slot.code, as_bytes(slot.text), slot.plugin_refused, slot.status, slot.index});
    drop_front();
  }
}

void Stream::deliver(const Reply& reply) {
  bytes_ -= slots_.front().cost;
  if (handler_ == nullptr) return;
  replied_ = true;
  handler_->on_reply(reply);
}

void Stream::drop_front() {
  slots_.pop_front();
  ++first_;
  --started_;
}

bool Stream::take_replied() { return replied_ && !std::exchange(replied_taken_, true); }

void Stream::end_replies() {
  replied_ = replied_taken_ = false;
  if (handler_ != nullptr) handler_->on_replies_end();
}

bool Stream::becomes_ready() {
  if (is_ready_ || executing_ > 0 || ready_reads_.empty()) return false;
  is_ready_ = true;
  return true;
}

void Stream::take_ready(std::vector<ReadTask>& out) {
  is_ready_ = false;
  waits_for_client_ = is_congested();
  if (waits_for_client_) return;  // renew() follows
  for (; executing_ < kRunMax && !ready_reads_.empty(); ++executing_) {
    out.push_back(std::move(ready_reads_.front()));
    ready_reads_.pop_front();
  }
}

std::vector<uint64_t> Stream::take_late(Time now) {
  std::vector<uint64_t> late;
  if (waits_for_client_ || is_congested()) return late;
  std::erase_if(ready_reads_, [&](const ReadTask& task) {
    if (task.deadline > now) return false;
    late.push_back(task.ref.ordinal);
    return true;
  });
  return late;
}

void Stream::put_back(ReadTask task) { ready_reads_.push_front(std::move(task)); }

}  // namespace connectd::node

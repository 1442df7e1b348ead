#include "node/requests/stream.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace connectd::node {
namespace {
// Limits the reads of one stream on the apply thread to about this many bytes of replies, so that
// a client that does not read its replies is noticed early.
constexpr size_t kReplyBytes = 256 << 10;
constexpr size_t kReadsMax = 256;
}  // namespace

void Stream::push_answered(ReplyCode code, std::string text, size_t cost, bool plugin_refused) {
  Slot& slot = slots_.emplace_back();
  slot.answered = true;
  slot.code = code;
  slot.text = std::move(text);
  slot.plugin_refused = plugin_refused;
  slot.cost = cost;
  bytes_ += cost;
}

void Stream::push(plugin::RequestKind kind, Slice request, const ReadOptions& read, Time deadline,
                  size_t cost) {
  Slot& slot = slots_.emplace_back();
  slot.kind = kind;
  slot.request = std::move(request);
  slot.read = read;
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
    running_kind_ = slot.kind;
    running_read_ = slot.read;
    ++running_;
    return Started{first_ + started_++, slot.kind, slot.request, slot.read, slot.deadline};
  }
  return std::nullopt;
}

void Stream::renew(Time deadline) {
  for (size_t i = started_; i < slots_.size(); ++i) slots_[i].deadline = deadline;
}

size_t Stream::answer(uint64_t ordinal, const Reply& reply) {
  CHECK_GE(ordinal, first_) << "a request of a stream was answered twice";
  Slot& slot = slots_[ordinal - first_];
  CHECK(!slot.answered);
  CHECK_GT(running_, 0u);
  slot.answered = true;
  slot.request = Slice();
  --running_;
  const size_t cost = slot.cost;
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
  return cost;
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
  if (is_ready_ || ready_reads_.empty()) return false;
  is_ready_ = true;
  return true;
}

bool Stream::take_ready(std::vector<ReadTask>& out) {
  is_ready_ = false;
  if (is_congested()) return false;  // resume() follows
  const size_t allowed = std::clamp<size_t>(kReplyBytes / reply_bytes_, 1, kReadsMax);
  for (; executing_ < allowed && !ready_reads_.empty(); ++executing_) {
    out.push_back(std::move(ready_reads_.front()));
    ready_reads_.pop_front();
  }
  is_ready_ = executing_ < allowed && !ready_reads_.empty();
  return is_ready_;
}

void Stream::executed(size_t reply_bytes) {
  --executing_;
  // Rises at once, falls slowly.
  reply_bytes_ = std::max({reply_bytes, reply_bytes_ - reply_bytes_ / 8, size_t{1}});
}

}  // namespace connectd::node

#include "client/conversation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/log.h"

namespace connectd::client {
namespace {

// The part of a buffer that counts against input_bytes_max.
size_t large_part(size_t capacity) { return capacity - std::min(capacity, kBusyInputBytes); }

}  // namespace

std::unique_ptr<wire::FrameParser> make_parser(const Shared& shared) {
  size_t max_request = shared.service.max_request();
  switch (shared.options.framing.value_or(shared.service.framing())) {
    case node::Framing::kLine:
      return wire::make_line_parser(max_request);
    case node::Framing::kResp:
      return wire::make_resp_parser(max_request);
    case node::Framing::kLength:
      return wire::make_length_parser(max_request);
  }
  LOG(FATAL) << "unknown framing";
  return nullptr;
}

Conversation::Conversation(Shared& shared, ConversationDriver& driver, SteadyTime now)
    : shared_(shared),
      driver_(driver),
      parser_(make_parser(shared)),
      stream_(shared.service.open_stream(*this)),
      last_read_(now),
      last_send_(now),
      progress_since_(now) {}

Conversation::~Conversation() {
  shared_.large_input_bytes -= large_part(capacity_);
  shared_.unsent_bytes -= counted_;
  if (is_waiting_) std::erase(shared_.waiting, &driver_);
}

// ---- what comes next

Conversation::Wants Conversation::next() {
  if (is_failed_) return {.close = true};
  if (is_lingering_) return {.close = is_eof_, .read = !is_eof_ && prepare_read()};
  resume_stream();
  parse();
  resume_stream();
  if (is_failed_) return {.close = true};
  wait_for_room();
  const bool again = may_parse();
  if (owes_nothing() && (has_ended_ || (is_draining_ && !again))) {
    return {.close = is_eof_, .shut_down = !is_eof_};
  }
  Wants wants;
  wants.again = again;
  wants.read = !again && !is_reading_ && !has_ended_ && !is_blocked() && prepare_read();
  // Replies of several turns are sent together, as long as they fit into the buffer that is kept.
  wants.send = unsent() > 0 && (!again || unsent() >= kKeepOutputBytes);
  return wants;
}

bool Conversation::is_blocked() const {
  const ClientPortOptions& options = shared_.options;
  return stream_->pending() + own_replies_.size() >= options.pipelined_max ||
         stream_->pending_bytes() >= options.pending_bytes_max || is_congested();
}

bool Conversation::is_congested() const {
  if (has_room()) return false;
  owes_resume_ = true;
  return true;
}

bool Conversation::owes_nothing() const {
  return unsent() == 0 && submitted_ == replied_ && own_replies_.empty();
}

// ---- requests

bool Conversation::is_native(ByteView start) {
  std::string_view magic = wire::kNativeMagic;
  size_t length = std::min(start.size(), magic.size());
  if (as_text(start.first(length)) != magic.substr(0, length)) {
    may_be_native_ = false;
    return false;
  }
  if (length < magic.size()) return true;  // not known yet
  shared_.counters.bad_frames++;
  append_own_error(node::ReplyCode::kBadFrame,
                   "this version of connectd does not support the native protocol; use the "
                   "plugin's own framing");
  end_requests();
  return true;
}

void Conversation::parse() {
  if (has_ended_) return;
  if (may_be_native_ && is_native({input_.get() + begin_, held()})) {
    wanted_ = held() + 1;
    return;
  }
  while (may_parse() && turn_requests_ < shared_.options.requests_per_turn) {
    wire::Parsed parsed = parser_->next({input_.get() + begin_, held()});
    begin_ += parsed.consumed;
    wanted_ = 1;
    if (parsed.outcome != wire::ParseOutcome::kNeedMore) ++turn_requests_;
    switch (parsed.outcome) {
      case wire::ParseOutcome::kNeedMore:
        wanted_ = parsed.wanted;
        break;
      case wire::ParseOutcome::kRequest:
        submitted_++;
        shared_.counters.requests++;
        stream_->submit(parsed.bytes);
        break;
      case wire::ParseOutcome::kReply:
        append_own(std::string(as_text(parsed.bytes)));
        break;
      case wire::ParseOutcome::kQuit:
        append_own(std::string(as_text(parsed.bytes)));
        end_requests();
        break;
      case wire::ParseOutcome::kTooLarge:
        shared_.counters.too_large++;
        append_own_error(node::ReplyCode::kTooLarge,
                         fmt::format("the request is larger than client.max_request ({} bytes)",
                                     shared_.service.max_request()));
        break;
      case wire::ParseOutcome::kBadFrame:
        shared_.counters.bad_frames++;
        append_broken(as_text(parsed.bytes));
        end_requests();
        break;
    }
  }
}

void Conversation::end_requests() {
  has_ended_ = true;
  begin_ = end_ = 0;
}

// ---- replies

void Conversation::append_own(std::string bytes) {
  if (submitted_ == replied_) {
    output_.append(bytes);
    count_output();
  } else {
    own_replies_.push_back({submitted_, std::move(bytes)});
  }
}

void Conversation::append_broken(std::string_view text) {
  std::string bytes;
  parser_->append_broken(bytes, node::reply_code_name(node::ReplyCode::kBadFrame), text);
  append_own(std::move(bytes));
}

void Conversation::append_own_error(node::ReplyCode code, std::string_view text) {
  std::string bytes;
  parser_->append_error(bytes, node::reply_code_name(code), text);
  append_own(std::move(bytes));
}

void Conversation::append_due_own_replies() {
  size_t due = 0;
  while (due < own_replies_.size() && own_replies_[due].after == replied_) {
    output_.append(own_replies_[due++].bytes);
  }
  if (due == 0) return;
  own_replies_.erase(own_replies_.begin(), own_replies_.begin() + static_cast<ptrdiff_t>(due));
}

void Conversation::on_reply(const node::Reply& reply) {
  replied_++;
  CHECK(replied_ <= submitted_) << "more replies than requests";
  if (is_failed_) return;
  if (reply.code == node::ReplyCode::kOk || reply.plugin_refused) {
    parser_->append_reply(output_, reply.bytes);
  } else {
    parser_->append_error(output_, node::reply_code_name(reply.code), as_text(reply.bytes));
  }
  append_due_own_replies();
  count_output();
  if (!is_over_limit()) return;
  driver_.relieve_output();
  if (!is_over_limit()) return;
  shared_.counters.stalled++;
  is_failed_ = true;
}

// Replies to writes cannot wait for the client. Over the limit of one connection; or far over the
// common one, and this connection holds a lot of it.
bool Conversation::is_over_limit() const {
  const ClientPortOptions& options = shared_.options;
  return unsent() > options.output_bytes_max ||
         (unsent() > options.output_pause_bytes &&
          shared_.unsent_bytes > options.replies_bytes_max + options.replies_bytes_max / 2);
}

void Conversation::count_output() {
  shared_.unsent_bytes += unsent() - counted_;
  counted_ = unsent();
  shared_.note_most();
}

void Conversation::sent(size_t bytes) {
  CHECK_LE(bytes, unsent()) << "more was sent than there was";
  sent_ += bytes;
  progress_bytes_ += bytes;
  if (unsent() == 0) {
    sent_ = 0;
    output_.clear();
    if (output_.capacity() > kKeepOutputBytes) output_.shrink_to_fit();
  }
  count_output();
}

void Conversation::cannot_send(SteadyTime now) {
  last_send_ = now;
  if (sent_ <= kKeepOutputBytes || sent_ <= output_.size() / 2) return;
  output_.erase(0, sent_);
  sent_ = 0;
}

// Only from next(): sent() may be called within on_reply(), where no request may start.
void Conversation::resume_stream() {
  if (!owes_resume_ || !has_room()) return;
  owes_resume_ = false;
  stream_->resume();
}

// Only without replies of its own: sending those leads to the next call of next().
void Conversation::wait_for_room() {
  if (!owes_resume_ || unsent() > 0 || is_waiting_) return;
  is_waiting_ = true;
  shared_.waiting.push_back(&driver_);
}

// ---- input

std::span<uint8_t> Conversation::begin_read() {
  CHECK(!is_reading_) << "two reads at a time";
  is_reading_ = true;
  return {input_.get() + end_, capacity_ - end_};
}

void Conversation::received(size_t bytes, SteadyTime now) {
  CHECK_LE(bytes, capacity_ - end_) << "more was received than there was room for";
  is_reading_ = false;
  last_read_ = now;
  if (is_lingering_) return;
  // A read that fills the buffer indicates that more input is available.
  was_full_ = bytes == capacity_ - end_;
  end_ += bytes;
}

void Conversation::end_of_input() {
  is_reading_ = false;
  is_eof_ = has_ended_ = true;
}

void Conversation::read_cancelled() {
  is_reading_ = false;
  was_full_ = false;
  if (held() == 0) resize_input(kIdleInputBytes);
}

// Makes room for the next read. False: a read is in progress; or there is no memory for it, and
// the connection ends.
bool Conversation::prepare_read() {
  if (is_reading_) return false;
  if (begin_ == end_) begin_ = end_ = 0;
  size_t capacity = std::max(capacity_, was_full_ ? kBusyInputBytes : kIdleInputBytes);
  if (held() == 0) capacity = std::min(capacity, kBusyInputBytes);
  if (held() == capacity) {
    // The buffer grows with the received bytes, not with an announced length.
    capacity *= 2;
    size_t more = large_part(capacity) - large_part(capacity_);
    if (shared_.large_input_bytes + more > shared_.options.input_bytes_max) {
      append_own_error(node::ReplyCode::kOverloaded,
                       "too many large requests in progress on this node; try again");
      end_requests();
      return false;
    }
  }
  if (capacity != capacity_) {
    resize_input(capacity);
  } else if (begin_ > 0 && begin_ + std::min(wanted_, capacity_) > capacity_) {
    std::memmove(input_.get(), input_.get() + begin_, held());
    end_ -= begin_;
    begin_ = 0;
  }
  return true;
}

void Conversation::resize_input(size_t capacity) {
  shared_.large_input_bytes += large_part(capacity);
  shared_.large_input_bytes -= large_part(capacity_);
  shared_.note_most();
  size_t bytes = std::min(held(), capacity);
  std::unique_ptr<uint8_t[]> input;
  if (capacity > 0) input = std::make_unique_for_overwrite<uint8_t[]>(capacity);
  if (bytes > 0) std::memcpy(input.get(), input_.get() + begin_, bytes);
  input_ = std::move(input);
  capacity_ = capacity;
  begin_ = 0;
  end_ = bytes;
}

// ---- the end

void Conversation::was_shut_down(SteadyTime now) {
  is_lingering_ = true;
  has_ended_ = true;
  stream_.reset();
  last_send_ = now;
  begin_ = end_ = 0;
}

void Conversation::close() {
  is_failed_ = has_ended_ = true;
  stream_.reset();
  std::string().swap(output_);
  sent_ = 0;
  count_output();
  if (std::exchange(is_waiting_, false)) std::erase(shared_.waiting, &driver_);
  if (!is_reading_) resize_input(0);
}

Conversation::Sweep Conversation::sweep(SteadyTime now) {
  const ClientPortOptions& options = shared_.options;
  if (is_lingering_) {
    // Even if the client still sends: it has got the error, and its time is over.
    return now - last_send_ > options.linger_time ? Sweep::kClose : Sweep::kNothing;
  }
  if (unsent() > 0 && now - last_send_ > options.stall_timeout) {
    shared_.counters.stalled++;
    return Sweep::kClose;
  }
  if (unsent() == 0 || progress_bytes_ >= kProgressBytes) {
    progress_since_ = now;
    progress_bytes_ = 0;
  }
  if (shared_.is_short() && now - progress_since_ > options.short_stall_timeout) {
    shared_.counters.stalled++;
    return Sweep::kClose;
  }
  const bool is_idle = is_reading_ && unsent() == 0 && held() == 0;
  if (is_idle && capacity_ > kIdleInputBytes && now - last_read_ > options.idle_time) {
    return Sweep::kShrink;
  }
  return Sweep::kNothing;
}

}  // namespace connectd::client

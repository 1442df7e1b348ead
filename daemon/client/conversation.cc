#include "client/conversation.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
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
      progress_since_(now),
      input_since_(now) {}

Conversation::~Conversation() {
  stop_waiting();
  shared_.large_input_bytes -= counted_input_;
  shared_.unsent_bytes -= counted_;
  stream_.reset();
  count_begun();
}

// ---- what comes next

Conversation::Wants Conversation::next() {
  if (is_failed_) return {.close = true};
  if (is_lingering_) return {.close = is_eof_, .read = !is_eof_ && prepare_read()};
  count_begun();
  resume_stream();
  parse();
  resume_stream();
  if (is_failed_) return {.close = true};
  wait_for_room();
  wait_to_begin();
  count_begun();
  // What came before the end of the input is served.
  if (is_eof_ && held() < wanted_) has_ended_ = true;
  const bool again = may_parse();
  // One that waits for its turn is still answered.
  const bool has_request = !has_ended_ && held() >= wanted_;
  if (owes_nothing() && (has_ended_ || (is_draining_ && !has_request))) {
    return {.close = is_eof_, .shut_down = !is_eof_};
  }
  Wants wants;
  wants.again = again;
  wants.read = !again && !has_ended_ && !is_eof_ && prepare_read();
  // Replies of several turns are sent together, as long as they fit into the buffer that is kept.
  wants.send = unsent() > 0 && (!again || unsent() >= kKeepOutputBytes);
  return wants;
}

bool Conversation::is_blocked() const { return is_blocked_itself() || !may_begin(); }

// By its own limits, or the bound of all replies.
bool Conversation::is_blocked_itself() const {
  const ClientPortOptions& options = shared_.options;
  return stream_->pending() + own_replies_.size() >= options.pipelined_max ||
         stream_->pending_bytes() >= options.pending_bytes_max || is_congested();
}

// A connection without requests in progress does not wait for those that pipeline. Many large
// requests would not be answered in time, though.
bool Conversation::may_begin() const {
  if (stream_->pending() == 0 && held() <= kBusyInputBytes) return true;
  return shared_.may_begin(&driver_);
}

bool Conversation::is_congested() const {
  if (has_room()) return false;
  owes_resume_ = true;
  // Also outside of next(): a connection without replies of its own is told by nobody else.
  wait_for_room();
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
  while (may_parse() && turn_requests_ < shared_.options.requests_per_turn &&
         turn_bytes_ < shared_.options.bytes_per_turn) {
    wire::Parsed parsed = parser_->next({input_.get() + begin_, held()});
    begin_ += parsed.consumed;
    wanted_ = 1;
    if (parsed.outcome != wire::ParseOutcome::kNeedMore) {
      ++turn_requests_;
      release_input();
    }
    take(parsed);
  }
}

void Conversation::take(const wire::Parsed& parsed) {
  switch (parsed.outcome) {
    case wire::ParseOutcome::kNeedMore:
      wanted_ = parsed.wanted;
      break;
    case wire::ParseOutcome::kRequest:
      submitted_++;
      turn_bytes_ += parsed.bytes.size();
      shared_.counters.requests++;
      begin();
      stream_->submit(parsed.bytes);
      count_begun();
      break;
    case wire::ParseOutcome::kReply:
      append_own(std::string(as_text(parsed.bytes)));
      break;
    case wire::ParseOutcome::kReset:
      append_own(std::string(as_text(parsed.bytes)));
      driver_.on_reset();
      break;
    case wire::ParseOutcome::kCredentials:
      authenticate(parsed);
      break;
    case wire::ParseOutcome::kQuit:
      append_own(std::string(as_text(parsed.bytes)));
      end_requests();
      break;
    case wire::ParseOutcome::kTooLarge:
      shared_.counters.too_large++;
      append_own_error(
          node::ReplyCode::kTooLarge,
          unknown_since_
              ? fmt::format("the request is larger than {} bytes, and nobody has said who asks",
                            wire::kUnknownRequestBytes)
              : fmt::format("the request is larger than client.max_request ({} bytes)",
                            shared_.service.max_request()));
      break;
    case wire::ParseOutcome::kBadFrame:
      shared_.counters.bad_frames++;
      append_broken(as_text(parsed.bytes));
      end_requests();
      break;
  }
}

void Conversation::authenticate(const wire::Parsed& shown) {
  const auto error = driver_.on_credentials(shown.user, shown.secret);
  if (!error) return take(parser_->authenticated());
  std::string bytes;
  parser_->append_error(bytes, error->code, error->text);
  append_own(std::move(bytes));
}

void Conversation::set_caller(node::Rights rights, bool is_known, SteadyTime now) {
  if (stream_) stream_->set_rights(rights);
  parser_->set_known(is_known);
  if (is_known) {
    unknown_since_.reset();
    unknown_bytes_ = 0;
  } else if (!unknown_since_) {
    unknown_since_ = now;
  }
}

// It takes its turn, if it has waited for one.
void Conversation::begin() {
  if (!waits_to_begin_ || shared_.begin_waiting.front() != &driver_) return;
  shared_.begin_waiting.pop_front();
  waits_to_begin_ = false;
  shared_.in_turn = &driver_;
}

void Conversation::wait_to_begin() {
  if (shared_.in_turn == &driver_) shared_.in_turn = nullptr;
  if (waits_to_begin_ || has_ended_ || held() < wanted_) return;
  if (is_blocked_itself() || may_begin()) return;
  waits_to_begin_ = true;
  shared_.begin_waiting.push_back(&driver_);
}

void Conversation::count_begun() {
  const bool counts = stream_ != nullptr && !owes_resume_;
  const size_t requests = counts ? stream_->pending() : 0;
  const size_t bytes = counts ? stream_->pending_bytes() : 0;
  if (counts && bytes < counted_begun_bytes_) {
    shared_.answered_bytes += counted_begun_bytes_ - bytes;
  }
  shared_.begun_requests += requests - counted_begun_;
  shared_.begun_bytes += bytes - counted_begun_bytes_;
  counted_begun_ = requests;
  counted_begun_bytes_ = bytes;
}

void Conversation::end_requests() {
  has_ended_ = true;
  begin_ = end_ = 0;
  release_input();
}

// ---- replies

void Conversation::append_own(std::string bytes) {
  const size_t size = bytes.size();
  if (submitted_ != replied_) {
    own_replies_.push_back({submitted_, std::move(bytes)});
  } else {
    output_.append(bytes);
    count_output();
  }
  if (unknown_since_) bound_unknown(size);
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
    parser_->append_reply(output_, reply.bytes, replied_ - 1);
  } else {
    parser_->append_error(output_, node::reply_code_name(reply.code), as_text(reply.bytes));
  }
  append_due_own_replies();
  count_output();
  if (reply.code == node::ReplyCode::kNoPerm) {
    driver_.on_no_permission();
    if (unknown_since_) bound_unknown(reply.bytes.size());
  }
  bound_output();
}

// What is owed from before counts as ever: only answers to one who is not known are few.
void Conversation::bound_unknown(size_t bytes) {
  unknown_bytes_ += bytes;
  if (unknown_bytes_ <= kUnknownOutputBytes || is_failed_) return;
  driver_.relieve_output();
  if (unknown_bytes_ <= kUnknownOutputBytes) return;
  shared_.counters.stalled++;
  is_failed_ = true;
}

void Conversation::bound_output() {
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
    if (own_replies_.empty()) unknown_bytes_ = 0;
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
void Conversation::wait_for_room() const {
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
  input_bytes_ += bytes;
}

void Conversation::end_of_input() {
  is_reading_ = false;
  is_eof_ = true;
}

void Conversation::read_cancelled() {
  is_reading_ = false;
  was_full_ = false;
  if (held() == 0) resize_input(kIdleInputBytes);
}

// Makes room for the next read. False: a read is in progress; or nothing more is read for now.
bool Conversation::prepare_read() {
  if (is_reading_) return false;
  if (begin_ == end_) begin_ = end_ = 0;
  // A request is complete, as far as is known, and cannot begin: what comes is only kept.
  const bool keeps = held() > 0 && held() >= wanted_;
  if (keeps && held() >= shared_.options.kept_bytes_max) return false;
  const size_t capacity = wanted_capacity(keeps);
  if (capacity > capacity_ && !may_grow(capacity, keeps)) return false;
  if (capacity != capacity_) {
    resize_input(capacity);
  } else if (keeps ? end_ == capacity_ : begin_ + std::min(wanted_, capacity_) > capacity_) {
    move_to_front();
  }
  return true;
}

size_t Conversation::wanted_capacity(bool keeps) const {
  size_t capacity = std::max(capacity_, was_full_ ? kBusyInputBytes : kIdleInputBytes);
  if (held() == 0) return std::min(capacity, kBusyInputBytes);
  const size_t needed = std::max(held(), std::min(wanted_, capacity));
  while (capacity > kBusyInputBytes && 4 * needed <= capacity) capacity /= 2;
  // The buffer grows with the received bytes, not with an announced length. To move what is kept
  // costs little when as much has been taken in front of it.
  const bool is_full = keeps ? end_ == capacity_ && begin_ < capacity_ / 2 : held() == capacity;
  return is_full && capacity == capacity_ ? 2 * capacity : capacity;
}

bool Conversation::may_grow(size_t capacity, bool keeps) {
  if (large_part(capacity) <= counted_input_) return true;
  if (keeps) return shared_.may_keep(large_part(capacity) - counted_input_);
  // For the whole request, so that requests do not wait for each other in the middle. A framing
  // that does not announce the length may need all that is allowed.
  const size_t whole = wanted_ > held() + 1 ? wanted_ : shared_.service.max_request();
  const size_t reserved = large_part(std::bit_ceil(std::max(capacity, whole)));
  if (shared_.may_receive(reserved - counted_input_, &driver_)) {
    reserved_ = reserved;
    count_input();
    return true;
  }
  if (!std::exchange(waits_for_input_, true)) shared_.input_waiting.push_back(&driver_);
  return false;
}

void Conversation::release_input() {
  if (reserved_ == 0) return;
  reserved_ = 0;
  if (shared_.over_bound == &driver_) shared_.over_bound = nullptr;
  count_input();
}

void Conversation::count_input() {
  const size_t bytes = std::max(large_part(capacity_), reserved_);
  shared_.large_input_bytes += bytes - counted_input_;
  counted_input_ = bytes;
  shared_.note_most();
}

void Conversation::move_to_front() {
  std::memmove(input_.get(), input_.get() + begin_, held());
  end_ -= begin_;
  begin_ = 0;
}

void Conversation::resize_input(size_t capacity) {
  size_t bytes = std::min(held(), capacity);
  std::unique_ptr<uint8_t[]> input;
  if (capacity > 0) input = std::make_unique_for_overwrite<uint8_t[]>(capacity);
  if (bytes > 0) std::memcpy(input.get(), input_.get() + begin_, bytes);
  input_ = std::move(input);
  capacity_ = capacity;
  begin_ = 0;
  end_ = bytes;
  count_input();
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
  count_begun();
  std::string().swap(output_);
  sent_ = 0;
  count_output();
  stop_waiting();
  if (!is_reading_) resize_input(0);
}

void Conversation::stop_waiting() {
  for (const Room room : {Room::kReplies, Room::kInput, Room::kTurn}) stopped_waiting(room);
  if (!shared_.begin_waiting.empty()) std::erase(shared_.begin_waiting, &driver_);
  if (shared_.in_turn == &driver_) shared_.in_turn = nullptr;
  if (!shared_.waiting.empty()) std::erase(shared_.waiting, &driver_);
  if (!shared_.input_waiting.empty()) std::erase(shared_.input_waiting, &driver_);
  if (shared_.over_bound == &driver_) shared_.over_bound = nullptr;
  reserved_ = 0;
  count_input();
}

Conversation::Sweep Conversation::sweep(SteadyTime now) {
  if (is_lingering_) {
    // Even if the client still sends: it has got the error, and its time is over.
    return now - last_send_ > shared_.options.linger_time ? Sweep::kClose : Sweep::kNothing;
  }
  if (unknown_since_ && now - *unknown_since_ > shared_.options.unknown_timeout) {
    shared_.counters.unknown++;
    return Sweep::kClose;
  }
  const Sweep result = sweep_output(now);
  return result == Sweep::kNothing ? sweep_input(now) : result;
}

Conversation::Sweep Conversation::sweep_output(SteadyTime now) {
  const ClientPortOptions& options = shared_.options;
  if (unsent() == 0 || progress_bytes_ >= kProgressBytes) {
    progress_since_ = now;
    progress_bytes_ = 0;
  }
  const bool is_stalled = unsent() > 0 && now - last_send_ > options.stall_timeout;
  const bool is_slow = shared_.is_short() && now - progress_since_ > options.short_stall_timeout;
  if (!is_stalled && !is_slow) return Sweep::kNothing;
  shared_.counters.stalled++;
  return Sweep::kClose;
}

Conversation::Sweep Conversation::sweep_input(SteadyTime now) {
  const ClientPortOptions& options = shared_.options;
  const bool is_large =
      held() > 0 && held() < wanted_ && (capacity_ > kBusyInputBytes || waits_for_input_);
  if (has_ended_ || !is_large || input_bytes_ >= kProgressBytes) {
    input_since_ = now;
    input_bytes_ = 0;
  }
  const auto time = now - input_since_;
  if (waits_for_input_) {
    // Not the client's fault, but it cannot wait for ever.
    if (time <= options.half_sent_timeout) return Sweep::kNothing;
    return give_up_request(node::ReplyCode::kOverloaded,
                           "too many large requests in progress on this node; try again");
  }
  if (time >
      (shared_.input_waiting.empty() ? options.half_sent_timeout : options.short_stall_timeout)) {
    shared_.counters.half_sent++;
    return give_up_request(node::ReplyCode::kBadFrame,
                           "the rest of the request did not arrive in time");
  }
  const auto idle_time = capacity_ > kBusyInputBytes ? SteadyTime::duration() : options.idle_time;
  const bool is_idle = is_reading_ && unsent() == 0 && held() == 0;
  if (is_idle && capacity_ > kIdleInputBytes && now - last_read_ > idle_time) return Sweep::kShrink;
  return Sweep::kNothing;
}

Conversation::Sweep Conversation::give_up_request(node::ReplyCode code, std::string_view text) {
  append_own_error(code, text);
  end_requests();
  stop_waiting();
  return is_reading_ ? Sweep::kShrink : Sweep::kTurn;
}

}  // namespace connectd::client

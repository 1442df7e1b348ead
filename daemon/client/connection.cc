#include "client/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "net/tcp.h"

namespace connectd::client {
namespace {

using boost::system::error_code;

// A client that has gone without a word gives its place back after two minutes.
constexpr net::KeepAlive kKeepAlive{.idle_seconds = 60, .interval_seconds = 10, .probes = 6};

SteadyTime now() { return std::chrono::steady_clock::now(); }

// What of a buffer counts against input_bytes_max.
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
  LOG(FATAL) << "a framing that is none";
  return nullptr;
}

Connection::Connection(Socket socket, std::shared_ptr<Shared> shared, ConnectionOwner& owner,
                       SteadyTime time)
    : socket_(std::move(socket)),
      shared_(std::move(shared)),
      owner_(owner),
      parser_(make_parser(*shared_)),
      stream_(shared_->service.open_stream(*this)),
      last_read_(time),
      last_write_(time) {}

void Connection::start() {
  error_code error;
  socket_.non_blocking(true, error);
  if (error) return close();
  net::set_options(socket_, kKeepAlive);
  read();
}

void Connection::close() {
  if (std::exchange(is_closed_, true)) return;
  auto keep = shared_from_this();
  has_ended_ = true;
  error_code ignored;  // closing what the client may have closed
  socket_.close(ignored);
  stream_.reset();
  if (!is_reading_) resize_input(0);
  owner_.on_closed(*this);
}

void Connection::drain() {
  is_draining_ = true;
  turn();
}

// ---- a turn

// Whatever can go on, does: parses what is there, writes what is answered, and sees to it that
// something will call this again. Replies may come while a request is submitted; they are written
// at this turn's end.
void Connection::turn() {
  if (is_in_turn_ || is_closed_) return;
  auto keep = shared_from_this();
  is_in_turn_ = true;
  do {
    parse();
    write();
    // A write that makes room lets the parse go on; a full socket, or the node, will call again.
  } while (!has_ended_ && held() >= wanted_ && !is_blocked() && !is_failed_);
  is_in_turn_ = false;
  if (is_failed_) return close();
  if (is_lingering_) return;
  if (owes_nothing() && (has_ended_ || is_draining_)) return is_eof_ ? close() : linger();
  if (!has_ended_ && !is_blocked()) read();
}

bool Connection::is_blocked() const {
  const ClientPortOptions& options = shared_->options;
  return stream_->pending() + own_replies_.size() >= options.pipelined_max ||
         stream_->pending_bytes() >= options.pending_bytes_max ||
         unsent() >= options.output_pause_bytes;
}

bool Connection::owes_nothing() const {
  return unsent() == 0 && submitted_ == replied_ && own_replies_.empty();
}

// ---- requests

bool Connection::is_native(ByteView start) {
  std::string_view magic = wire::kNativeMagic;
  size_t length = std::min(start.size(), magic.size());
  if (as_text(start.first(length)) != magic.substr(0, length)) {
    is_first_ = false;
    return false;
  }
  if (length < magic.size()) return true;  // not yet known
  shared_->counters.bad_frames++;
  append_own_error(node::ReplyCode::kBadFrame,
                   "this version of connectd does not speak the native protocol; use the plugin's "
                   "own framing");
  end_requests();
  return true;
}

void Connection::parse() {
  if (has_ended_ || is_lingering_) return;
  if (is_first_ && is_native({input_.get() + begin_, held()})) {
    wanted_ = held() + 1;
    return;
  }
  while (held() >= wanted_ && !has_ended_ && !is_blocked()) {
    wire::Parsed parsed = parser_->next({input_.get() + begin_, held()});
    begin_ += parsed.consumed;
    wanted_ = 1;
    switch (parsed.outcome) {
      case wire::ParseOutcome::kNeedMore:
        wanted_ = parsed.wanted;
        break;
      case wire::ParseOutcome::kRequest:
        submitted_++;
        shared_->counters.requests++;
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
        shared_->counters.too_large++;
        append_own_error(node::ReplyCode::kTooLarge,
                         fmt::format("the request is over client.max_request ({} bytes)",
                                     shared_->service.max_request()));
        break;
      case wire::ParseOutcome::kBadFrame:
        shared_->counters.bad_frames++;
        append_own_error(node::ReplyCode::kBadFrame, as_text(parsed.bytes));
        end_requests();
        break;
    }
  }
}

void Connection::end_requests() {
  has_ended_ = true;
  begin_ = end_ = 0;
}

// ---- replies

void Connection::append_own(std::string bytes) {
  if (submitted_ == replied_) {
    output_.append(bytes);
  } else {
    own_replies_.push_back({submitted_, std::move(bytes)});
  }
}

void Connection::append_own_error(node::ReplyCode code, std::string_view text) {
  std::string bytes;
  parser_->append_error(bytes, node::reply_code_name(code), text);
  append_own(std::move(bytes));
}

void Connection::on_reply(const node::Reply& reply) {
  replied_++;
  CHECK(replied_ <= submitted_) << "more replies than requests";
  if (is_failed_) return;
  if (reply.code == node::ReplyCode::kOk || reply.plugin_refused) {
    parser_->append_reply(output_, reply.bytes);
  } else {
    parser_->append_error(output_, node::reply_code_name(reply.code), as_text(reply.bytes));
  }
  size_t due = 0;
  while (due < own_replies_.size() && own_replies_[due].after == replied_) {
    output_.append(own_replies_[due++].bytes);
  }
  if (due > 0) {
    own_replies_.erase(own_replies_.begin(), own_replies_.begin() + static_cast<ptrdiff_t>(due));
  }
  if (unsent() <= shared_->options.output_bytes_max) return;
  write();
  if (unsent() <= shared_->options.output_bytes_max) return;
  shared_->counters.stalled++;
  is_failed_ = true;
}

void Connection::on_replies_end() { turn(); }

bool Connection::is_congested() const { return unsent() >= shared_->options.output_pause_bytes; }

void Connection::write() {
  if (is_waiting_writable_ || is_failed_) return;
  bool was_congested = is_congested();
  while (unsent() > 0) {
    error_code error;
    size_t bytes = socket_.write_some(boost::asio::buffer(output_.data() + sent_, unsent()), error);
    sent_ += bytes;
    if (error == boost::asio::error::would_block) {
      wait_writable();
      break;
    }
    if (error) {
      is_failed_ = true;
      return;
    }
  }
  if (unsent() == 0) {
    sent_ = 0;
    output_.clear();
    if (output_.capacity() > kKeepOutputBytes) output_.shrink_to_fit();
  }
  if (was_congested && !is_congested() && stream_) stream_->resume();
}

void Connection::wait_writable() {
  if (sent_ > kKeepOutputBytes && sent_ > output_.size() / 2) {
    output_.erase(0, sent_);
    sent_ = 0;
  }
  last_write_ = now();
  is_waiting_writable_ = true;
  socket_.async_wait(Socket::wait_write, [self = shared_from_this()](error_code error) {
    self->is_waiting_writable_ = false;
    if (!error) self->turn();
  });
}

// ---- reading

void Connection::read() {
  if (is_reading_ || is_closed_ || !make_room()) return;
  is_reading_ = true;
  socket_.async_read_some(boost::asio::buffer(input_.get() + end_, capacity_ - end_),
                          [self = shared_from_this()](error_code error, size_t bytes) {
                            self->is_reading_ = false;
                            self->on_read(error, bytes);
                          });
}

void Connection::on_read(error_code error, size_t bytes) {
  if (is_closed_) return resize_input(0);
  if (std::exchange(is_shrinking_, false) && error == boost::asio::error::operation_aborted) {
    if (held() == 0) resize_input(kIdleInputBytes);
    return read();
  }
  if (error == boost::asio::error::eof) {
    is_eof_ = has_ended_ = true;
    return is_lingering_ ? close() : turn();
  }
  if (error) return close();
  last_read_ = now();
  if (is_lingering_) return read();
  // A read that fills the buffer says that more is there than it holds.
  was_full_ = bytes == capacity_ - end_;
  end_ += bytes;
  turn();
}

// Room for the next read. False: there is no memory for it, and the connection ends.
bool Connection::make_room() {
  if (begin_ == end_) begin_ = end_ = 0;
  size_t capacity = std::max(capacity_, was_full_ ? kBusyInputBytes : kIdleInputBytes);
  if (held() == 0) capacity = std::min(capacity, kBusyInputBytes);
  if (held() == capacity) {
    // It grows with what has come, not with what is announced.
    capacity *= 2;
    size_t more = large_part(capacity) - large_part(capacity_);
    if (shared_->large_input_bytes + more > shared_->options.input_bytes_max) {
      append_own_error(node::ReplyCode::kOverloaded,
                       "too many large requests are on their way to this node; try again");
      end_requests();
      turn();
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

void Connection::resize_input(size_t capacity) {
  shared_->large_input_bytes += large_part(capacity);
  shared_->large_input_bytes -= large_part(capacity_);
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

void Connection::linger() {
  is_lingering_ = true;
  has_ended_ = true;
  stream_.reset();
  error_code error;
  socket_.shutdown(Socket::shutdown_send, error);
  if (error) return close();
  last_write_ = now();
  begin_ = end_ = 0;
  read();
}

void Connection::sweep(SteadyTime time) {
  if (is_lingering_) {
    // Also while the client still sends: it has been told, and has had its time.
    if (time - last_write_ > shared_->options.linger_time) close();
    return;
  }
  if (unsent() > 0 && time - last_write_ > shared_->options.stall_timeout) {
    shared_->counters.stalled++;
    return close();
  }
  if (is_reading_ && !is_waiting_writable_ && held() == 0 && capacity_ > kIdleInputBytes &&
      time - last_read_ > shared_->options.idle_time) {
    is_shrinking_ = true;
    error_code error;
    socket_.cancel(error);
    if (error) is_shrinking_ = false;
  }
}

}  // namespace connectd::client

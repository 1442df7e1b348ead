#include "sim/client_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "sim/describe.h"

namespace connectd::sim {
namespace {
constexpr std::string_view kReset = "RESET\r\n";
constexpr std::string_view kResetReply = "+RESET\r\n";
constexpr std::string_view kQuit = "QUIT\r\n";
constexpr std::string_view kQuitReply = "+OK\r\n";
}  // namespace

class ClientLink::Handle final : public node::RequestStream {
 public:
  explicit Handle(ClientLink& link) : link_(link) {}
  ~Handle() override { link_.stream_.reset(); }
  void submit(ByteView request, const node::ReadOptions& read) override {
    link_.submit(request, read);
  }
  void set_rights(node::Rights rights) override { link_.set_rights(rights); }
  void resume() override { link_.resume(); }
  size_t pending() const override { return link_.pending(); }
  size_t pending_bytes() const override { return link_.pending_bytes(); }

 private:
  ClientLink& link_;
};

std::unique_ptr<node::RequestStream> SimPort::open_stream(node::ReplyHandler& handler) {
  CHECK(opening_ != nullptr);
  return opening_->open_stream(handler);
}

ClientLink::ClientLink(SimPort& port, size_t socket_bytes, Random& random, Owner& owner,
                       const Timeline& timeline)
    : node_(port.node()),
      random_(random),
      owner_(owner),
      socket_bytes_(socket_bytes),
      timeline_(timeline),
      shared_(port.shared()),
      framing_(shared_.options.framing.value_or(node_.framing())),
      framer_(client::make_parser(shared_)) {
  port.opens(this);
  conversation_.emplace(shared_, static_cast<client::ConversationDriver&>(*this), steady_now());
  turn();
}

ClientLink::~ClientLink() = default;

// ---- the client

std::string ClientLink::framed(std::string_view request) const {
  if (framing_ == node::Framing::kResp) return std::string(request);
  if (framing_ == node::Framing::kLine) return std::string(request) + "\n";
  std::string bytes;
  for (int i = 0; i < 4; ++i) bytes += static_cast<char>(request.size() >> (8 * i) & 0xff);
  return bytes.append(request);
}

void ClientLink::send(size_t operation, std::string_view request) {
  CHECK(!is_ending_ && !is_closed_);
  awaited_.push_back({false, false, operation, std::string(request)});
  to_node_ += framed(request);
}

void ClientLink::send_own() {
  CHECK(!is_ending_ && !is_closed_);
  if (framing_ != node::Framing::kResp) {
    return send_too_large(std::string(node_.max_request() + 1, 'x'));
  }
  to_node_ += kReset;
  awaited_.push_back({true, false, 0, std::string(kResetReply)});
}

void ClientLink::send_too_large(std::string_view request) {
  CHECK(!is_ending_ && !is_closed_);
  Awaited own;
  own.is_own = true;
  to_node_ += framed(request);
  framer_->append_error(
      own.bytes, node::reply_code_name(node::ReplyCode::kTooLarge),
      fmt::format("the request is larger than client.max_request ({} bytes)", node_.max_request()));
  awaited_.push_back(std::move(own));
}

void ClientLink::end() {
  is_ending_ = true;
  if (framing_ == node::Framing::kResp && random_.chance(50)) {
    to_node_ += kQuit;
    awaited_.push_back({true, false, 0, std::string(kQuitReply)});
  } else {
    is_half_closed_ = true;
  }
}

// The received bytes must be exactly the framed replies.
void ClientLink::take(size_t bytes) {
  expect_own_replies();
  const std::string_view taken = std::string_view(in_flight_).substr(0, bytes);
  if (!expected_.starts_with(taken)) {
    owner_.violation(fmt::format("client bytes: {} arrives where {} should", quoted(taken),
                                 quoted(std::string_view(expected_).substr(0, bytes))));
  }
  expected_.erase(0, std::min(bytes, expected_.size()));
  in_flight_.erase(0, bytes);
}

void ClientLink::expect_own_replies() {
  for (; !awaited_.empty() && awaited_.front().is_own; awaited_.pop_front()) {
    expected_ += awaited_.front().bytes;
  }
}

bool ClientLink::is_settled() const {
  return awaited_.empty() && expected_.empty() && in_flight_.empty();
}

// ---- between the conversation and the node

std::unique_ptr<node::RequestStream> ClientLink::open_stream(node::ReplyHandler& handler) {
  conversation_handler_ = &handler;
  stream_ = node_.open_stream(tap_);
  return std::make_unique<Handle>(*this);
}

void ClientLink::submit(ByteView request, const node::ReadOptions&) {
  auto next = std::find_if(awaited_.begin(), awaited_.end(), [](const Awaited& awaited) {
    return !awaited.is_own && !awaited.is_submitted;
  });
  if (next == awaited_.end() || next->bytes != as_text(request)) {
    return owner_.violation(fmt::format("client bytes: the node is given {} in place of {}",
                                        quoted(as_text(request)),
                                        next == awaited_.end() ? "nothing" : quoted(next->bytes)));
  }
  if (pending() >= shared_.options.pipelined_max || conversation_handler_->is_congested()) {
    owner_.violation(
        fmt::format("client limits: a request is handed on while {} are unanswered and {} bytes "
                    "of replies are not taken",
                    pending(), conversation_ ? conversation_->output().size() : 0));
  }
  next->is_submitted = true;
  stream_->submit(request, owner_.submitting(next->operation));
}

void ClientLink::tap(const node::Reply& reply) {
  expect_own_replies();
  CHECK(!awaited_.empty()) << "a reply to nothing";
  awaited_.pop_front();
  if (reply.code == node::ReplyCode::kOk || reply.plugin_refused) {
    framer_->append_reply(expected_, reply.bytes, 0);  // no workload sends HELLO
  } else {
    framer_->append_error(expected_, node::reply_code_name(reply.code), as_text(reply.bytes));
  }
  owner_.replied(reply);
  const uint64_t stalled = shared_.counters.stalled;
  conversation_handler_->on_reply(reply);
  is_stalled_ |= shared_.counters.stalled > stalled;
}

// ---- the node's end of the connection, in place of client/connection.cc

void ClientLink::turn() {
  if (is_in_turn_ || is_closed_) return;
  is_in_turn_ = true;
  while (step()) {
  }
  is_in_turn_ = false;
  if (has_bytes(true) || is_closed_) owner_.bytes_wait();
  if (shared_.may_wake()) owner_.others_may_go_on();
}

bool ClientLink::step() {
  conversation_->begin_turn();
  const uint64_t bad_frames = shared_.counters.bad_frames;
  client::Conversation::Wants wants = conversation_->next();
  if (shared_.counters.bad_frames > bad_frames) {
    owner_.violation("client bytes: the node does not understand a request");
  }
  if (wants.close) {
    close();
    return false;
  }
  if (wants.shut_down) {
    is_shut_down_ = true;
    conversation_->was_shut_down(steady_now());
    return true;
  }
  if (wants.send && in_flight_.size() < socket_bytes_) {
    send_output();
    return true;
  }
  if (wants.again) return true;
  if (wants.read) space_ = conversation_->begin_read();
  if (space_.empty()) return false;
  if (!at_node_.empty()) {
    // A read returns all buffered bytes, or those of one packet.
    size_t bytes = std::min(space_.size(), at_node_.size());
    if (random_.chance(30)) bytes = random_.between(1, bytes);
    std::memcpy(std::exchange(space_, {}).data(), at_node_.data(), bytes);
    at_node_.erase(0, bytes);
    conversation_->received(bytes, steady_now());
    return true;
  }
  // The client closes the connection that the node has shut down, once it has read everything.
  const bool client_closes = is_shut_down_ && in_flight_.empty();
  if (!client_closes && !(is_half_closed_ && to_node_.empty())) return false;
  space_ = {};
  conversation_->end_of_input();
  return true;
}

void ClientLink::send_output() {
  const std::string_view output = conversation_->output();
  size_t room = socket_bytes_ - std::min(socket_bytes_, in_flight_.size());
  const size_t bytes = std::min(room, output.size());
  in_flight_ += output.substr(0, bytes);
  conversation_->sent(bytes);
  if (conversation_->output().empty()) return;
  has_waited_ = true;
  conversation_->cannot_send(steady_now());
}

void ClientLink::close() {
  is_closed_ = true;
  expect_own_replies();
  if (!is_stalled_ && (!awaited_.empty() || in_flight_ != expected_)) {
    owner_.violation("client bytes: the connection closes while replies are owed");
  }
  has_failed_ = is_stalled_;
  conversation_->close();
  if (shared_.may_wake()) owner_.others_may_go_on();
}

// ---- time passes

bool ClientLink::has_bytes(bool client_takes) const {
  return (!to_node_.empty() && !is_closed_) || (client_takes && !in_flight_.empty());
}

void ClientLink::carry(bool client_takes) {
  if (!to_node_.empty() && !is_closed_) {
    size_t bytes = to_node_.size();
    if (random_.chance(30)) bytes = random_.between(1, bytes);
    at_node_.append(to_node_, 0, bytes);
    to_node_.erase(0, bytes);
  }
  if (client_takes && !in_flight_.empty()) {
    size_t bytes = in_flight_.size();
    if (random_.chance(30)) bytes = random_.between(1, bytes);
    take(bytes);
  }
  turn();
}

void ClientLink::sweep() {
  if (is_closed_) return;
  const uint64_t stalled = shared_.counters.stalled;
  const client::Conversation::Sweep result = conversation_->sweep(steady_now());
  is_stalled_ |= shared_.counters.stalled > stalled;
  switch (result) {
    case client::Conversation::Sweep::kNothing:
      return;
    case client::Conversation::Sweep::kClose:
      close();
      return owner_.bytes_wait();
    case client::Conversation::Sweep::kShrink:
      space_ = {};
      conversation_->read_cancelled();
      turn();
      return;
    case client::Conversation::Sweep::kTurn:
      turn();
  }
}

}  // namespace connectd::sim

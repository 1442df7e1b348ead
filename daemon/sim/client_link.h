// A simulated client's connection: bytes both ways, cut at random places, with the production
// protocol (client/conversation.h) at the node's end. Only the socket is replaced.
//
// The checkers need more of a reply than its bytes: the log index, the status, the kind of refusal.
// So the link sits between the conversation and the node and records each node::Reply. The client
// must then receive exactly these replies, framed, in the order of the requests, with the framing's
// own replies in their places.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/random.h"
#include "client/conversation.h"
#include "node/service.h"
#include "sim/timeline.h"

namespace connectd::sim {

class ClientLink;

// What the connections of a node's client port have in common.
class SimPort final : private node::Service {
 public:
  // `node` must outlive it.
  SimPort(node::Service& node, const client::ClientPortOptions& options)
      : node_(node), shared_{.options = options, .service = *this} {}

  client::Shared& shared() { return shared_; }
  node::Service& node() { return node_; }
  // Whose stream is opened next.
  void opens(ClientLink* link) { opening_ = link; }

 private:
  // node::Service
  std::unique_ptr<node::RequestStream> open_stream(node::ReplyHandler& handler) override;
  node::Framing framing() const override { return node_.framing(); }
  size_t max_request() const override { return node_.max_request(); }

  node::Service& node_;
  ClientLink* opening_ = nullptr;
  client::Shared shared_;
};

class ClientLink final : private client::ConversationDriver, private node::RequestStream {
 public:
  class Owner {
   public:
    // The conversation submits this operation to the node now; returns its options.
    virtual node::ReadOptions submitting(size_t operation) = 0;
    // The client reads again: the timeouts of requests that waited for it restart.
    virtual void resumed() = 0;
    // The node answers its oldest operation.
    virtual void replied(const node::Reply& reply) = 0;
    // Bytes are waiting, or the link has closed: the owner calls carry() later.
    virtual void bytes_wait() = 0;
    // Connections of its port that wait may have room now: SimPort's shared().wake().
    virtual void others_may_go_on() = 0;
    virtual void violation(std::string text) = 0;

   protected:
    ~Owner() = default;
  };

  // All arguments must outlive it. `socket_bytes`: how many bytes the node's socket buffers for the
  // client.
  ClientLink(SimPort& port, size_t socket_bytes, Random& random, Owner& owner,
             const Timeline& timeline);
  ~ClientLink() override;

  // From its port.
  std::unique_ptr<node::RequestStream> open_stream(node::ReplyHandler& handler);

  // ---- the client
  // Sends a request; its reply must come after those of all earlier requests.
  void send(size_t operation, std::string_view request);
  // Sends a request that the framing itself answers.
  void send_own();
  // Likewise: it has more than max_request bytes.
  void send_too_large(std::string_view request);
  // QUIT or a half-close: earlier requests are answered, then the link closes.
  void end();
  bool is_ending() const { return is_ending_; }

  // ---- time passes
  // Delivers some bytes to the node and, if the client reads, some to the client.
  void carry(bool client_takes);
  // carry() has something to do.
  bool has_bytes(bool client_takes) const;
  // Timeouts of the port.
  void sweep();
  // The client has received all its replies.
  bool is_settled() const;
  // Closed, and nothing is in flight.
  bool is_closed() const { return is_closed_ && (in_flight_.empty() || has_failed_); }
  // The node starts no requests because the client does not read its replies; also if there is room
  // for more by now, of which the connection hears when the client reads. The same for a closed
  // link: it holds no replies, and gets none.
  bool is_congested() const {
    return is_closed_ || conversation_->is_congested() || conversation_->is_held_back();
  }
  // True: since the last call, the socket was too full for some replies.
  bool take_waited() { return std::exchange(has_waited_, false); }

 private:
  // An expected reply: of an operation, or of the framing itself.
  struct Awaited {
    bool is_own = false;
    bool is_submitted = false;
    size_t operation = 0;
    std::string bytes;  // of the request; of the own reply
  };
  // Sees the node's replies before the conversation does.
  class Tap final : public node::ReplyHandler {
   public:
    explicit Tap(ClientLink& link) : link_(link) {}
    void on_reply(const node::Reply& reply) override { link_.tap(reply); }
    void on_replies_end() override { link_.conversation_handler_->on_replies_end(); }
    bool is_congested() const override { return link_.conversation_handler_->is_congested(); }

   private:
    ClientLink& link_;
  };
  // Held by the conversation; the link owns the node's stream.
  class Handle;

  // node::RequestStream
  void submit(ByteView request, const node::ReadOptions& read) override;
  void set_rights(node::Rights rights) override { stream_->set_rights(rights); }
  void resume() override {
    owner_.resumed();
    stream_->resume();
  }
  size_t pending() const override { return stream_->pending(); }
  size_t pending_bytes() const override { return stream_->pending_bytes(); }
  // client::ConversationDriver
  void on_replies_end() override { turn(); }
  void relieve_output() override { send_output(); }
  // Nobody is known by credentials here.
  std::optional<client::CredentialsError> on_credentials(std::string_view,
                                                         std::string_view) override {
    return client::CredentialsError{"ERR", "no password is configured"};
  }
  void on_reset() override {}
  void on_no_permission() override {}
  void on_room(client::Room room) override {
    conversation_->stopped_waiting(room);
    turn();
  }

  void tap(const node::Reply& reply);
  void turn();
  bool step();
  void send_output();
  void close();
  void take(size_t bytes);
  void expect_own_replies();
  std::string framed(std::string_view request) const;
  client::SteadyTime steady_now() const {
    return client::SteadyTime(timeline_.now().time_since_epoch());
  }

  node::Service& node_;
  Random& random_;
  Owner& owner_;
  const size_t socket_bytes_;
  const Timeline& timeline_;
  client::Shared& shared_;
  const node::Framing framing_;
  const std::unique_ptr<wire::FrameParser> framer_;  // makes the expected bytes
  Tap tap_{*this};
  node::ReplyHandler* conversation_handler_ = nullptr;
  std::unique_ptr<node::RequestStream> stream_;
  std::optional<client::Conversation> conversation_;

  std::string to_node_;    // sent, not at the node yet
  std::string at_node_;    // in the node's socket, not read yet
  std::string in_flight_;  // sent by the node, not taken by the client
  std::string expected_;   // by the client, next
  std::deque<Awaited> awaited_;
  std::span<uint8_t> space_;  // of the read in progress; empty: none
  bool is_ending_ = false;
  bool is_half_closed_ = false;  // the client sends no more
  bool is_shut_down_ = false;
  bool is_closed_ = false;
  bool has_failed_ = false;  // closed while replies were owed
  bool is_stalled_ = false;  // the port closes it because the client does not read
  bool has_waited_ = false;
  bool is_in_turn_ = false;
};

}  // namespace connectd::sim

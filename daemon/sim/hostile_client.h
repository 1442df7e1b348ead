// A client that sends what it should not: another protocol's bytes, half requests, broken frames.
// It has a socket of its own in place of client/connection.h, and its replies are not looked at.
// What must not take effect is a write: the checkers find it in the log.
#pragma once

#include <optional>
#include <string>

#include "base/random.h"
#include "client/conversation.h"
#include "node/service.h"
#include "sim/timeline.h"

namespace connectd::sim {

// What such a client sends before it closes its side; `number` is in no other request of the run.
struct HostileBytes {
  std::string bytes;
  bool must_close = false;  // the port must end the connection because of it
};
HostileBytes hostile_bytes(node::Framing framing, uint64_t number, Random& random);

class HostileClient final : private client::ConversationDriver {
 public:
  // `node` must outlive it.
  HostileClient(node::Service& node, const client::ClientPortOptions& options, HostileBytes bytes,
                Random& random, const Timeline& timeline);
  ~HostileClient();

  // Why the port's behaviour is wrong; empty: it is not.
  std::string complaint() const;
  // The port answered with an error, or closed.
  bool was_noticed() const { return has_error_ || shared_.counters.bad_frames > 0; }

 private:
  // client::ConversationDriver
  void on_replies_end() override { turn(); }
  void relieve_output() override { send(); }
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
  void turn();
  bool step();
  void send();
  void close();
  client::SteadyTime steady_now() const {
    return client::SteadyTime(timeline_.now().time_since_epoch());
  }

  const HostileBytes hostile_;
  std::string left_;
  Random& random_;
  const Timeline& timeline_;
  client::Shared shared_;
  std::optional<client::Conversation> conversation_;
  std::span<uint8_t> space_;  // of the read in progress; empty: none
  bool has_error_ = false;
  bool is_closed_ = false;
  bool is_in_turn_ = false;
};

}  // namespace connectd::sim

// The socket of one client's connection. It does what the conversation wants
// (client/conversation.h): read, send, shut down, close; and reports to it what came of that.
//
// Loop thread. Held by shared pointers: the port's, and one in each outstanding Asio handler.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <optional>

#include "client/access.h"
#include "client/conversation.h"
#include "net/stream.h"

namespace connectd::client {

class Connection;

class ConnectionOwner {
 public:
  // The connection is closed; called once.
  virtual void on_closed(Connection& connection) = 0;
  // The connection has sent what it could: those that wait for room may have some now.
  virtual void on_turn_end() = 0;
  // As ConversationDriver says.
  virtual std::optional<CredentialsError> on_credentials(Connection& connection,
                                                         std::string_view user,
                                                         std::string_view secret) = 0;
  virtual void on_reset(Connection& connection) = 0;
  virtual void on_no_permission(Connection& connection) = 0;

 protected:
  ~ConnectionOwner() = default;
};

class Connection final : public ConversationDriver,
                         public std::enable_shared_from_this<Connection> {
 public:
  Connection(net::Stream stream, std::shared_ptr<Shared> shared, ConnectionOwner& owner,
             SteadyTime now);

  void start();
  // Closes when no reply is owed.
  void drain();
  void close();
  // Timeouts, and the buffers of the idle.
  void sweep(SteadyTime now);
  // What the client may do, from the next request on; and whether it is known.
  void set_caller(node::Rights rights, bool is_known, SteadyTime now) {
    conversation_.set_caller(rights, is_known, now);
  }
  // Null: it is plain.
  const tls::Session* session() const { return stream_.session(); }
  net::Stream& stream() { return stream_; }

  // ConversationDriver
  void on_replies_end() override { turn(); }
  void relieve_output() override { send(); }
  void on_room(Room room) override;
  std::optional<CredentialsError> on_credentials(std::string_view user,
                                                 std::string_view secret) override {
    return owner_.on_credentials(*this, user, secret);
  }
  void on_reset() override { owner_.on_reset(*this); }
  void on_no_permission() override { owner_.on_no_permission(*this); }

  // The owner's.
  size_t place = 0;  // in its list
  Caller caller;
  bool was_refused = false;                                       // a request of this caller
  std::optional<std::list<Connection*>::iterator> unknown_place;  // in its list of unknown callers

 private:
  void turn();
  void send();
  void wait_writable();
  void shut_down();
  void turn_later();
  void read();
  void on_read(boost::system::error_code error, size_t bytes);

  net::Stream stream_;
  const std::shared_ptr<Shared> shared_;
  ConnectionOwner& owner_;
  Conversation conversation_;

  bool is_in_turn_ = false;
  bool has_turn_later_ = false;
  bool is_shrinking_ = false;  // the read was cancelled for a smaller buffer
  bool is_waiting_writable_ = false;
  bool is_closed_ = false;
};

}  // namespace connectd::client

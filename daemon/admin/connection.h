// One connection to the HTTP port: reads a request, hands it on, writes the answer, reads the next.
// All limits and time-outs of a connection are here, and Beast is here and in
// admin/request_parser. On the server's thread.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "admin/http_message.h"
#include "admin/reply.h"
#include "auth/principal.h"
#include "base/clock.h"
#include "net/stream.h"

namespace connectd::admin {

// A connection as its server sees it when it needs room for another.
class OpenConnection {
 public:
  struct Waiting {
    bool has_begun = false;  // a part of the request is here, or its answer is being sent
    Time since;
    auto operator<=>(const Waiting&) const = default;
  };
  // None: it must not be closed, because its request is in progress.
  virtual std::optional<Waiting> waiting() const = 0;
  // Bytes wait in its socket: it must not be closed, and does not wait any longer.
  virtual bool has_unread() = 0;
  virtual size_t body_bytes() const = 0;  // reserved for the body of the request
  // A client that has sent a part of a request is told so. Gives back at once what it held.
  virtual void close_for_another() = 0;
  // Null: it is plain.
  virtual const tls::Session* session() const = 0;
  // Ends after the answer to the request that is in progress, or at once.
  virtual void close_when_idle() = 0;

 protected:
  ~OpenConnection() = default;
};

// What all connections of a server share, and outlives them.
class ConnectionHost {
 public:
  // `request` is the callee's.
  virtual void handle(Request&& request, const Reply& reply) = 0;
  virtual size_t max_request() const = 0;  // bytes of a body
  // Whom a client's certificate, which was checked, names at this moment.
  virtual auth::Principal owner_of(const tls::Certificate& certificate) const = 0;
  // More connections are open than may send calls.
  virtual bool is_full() const = 0;
  virtual std::function<void(std::function<void()>)> poster() = 0;

  // For a body of so many bytes. False: too many are in progress. give_back_body() with
  // the same number.
  virtual bool reserve_body(size_t bytes) = 0;
  virtual void give_back_body(size_t bytes) = 0;
  // What else a connection holds: never refused, and leaves less for bodies.
  virtual void hold(size_t bytes) = 0;
  virtual void give_back(size_t bytes) = 0;

  virtual void opened(OpenConnection& connection) = 0;  // it began, or
  virtual void closed(OpenConnection& connection) = 0;  // ended

 protected:
  ~ConnectionHost() = default;
};

// Kept alive by its own operations, until its io_context goes. `beyond_limit`: it carries one
// request, which must not be a call unless there is room again by then.
void start_connection(ConnectionHost& host, net::Stream stream, bool beyond_limit);

}  // namespace connectd::admin

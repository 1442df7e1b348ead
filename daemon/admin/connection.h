// One connection to the HTTP port: reads a request, hands it on, writes the answer, reads the next.
// All limits and time-outs of a connection are here, and all of Beast is in the .cc. On the
// server's thread.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "admin/http_message.h"
#include "admin/reply.h"
#include "base/clock.h"

namespace connectd::admin {

// What all connections of a server share, and outlives them.
class ConnectionHost {
 public:
  // `request` is the callee's.
  virtual void handle(Request&& request, const Reply& reply) = 0;
  virtual size_t max_request() const = 0;  // bytes of a body
  virtual std::function<void(std::function<void()>)> poster() = 0;

  virtual void opened() = 0;  // a connection began, or
  virtual void closed() = 0;  // ended

 protected:
  ~ConnectionHost() = default;
};

// Kept alive by its own operations, until its io_context goes.
void start_connection(ConnectionHost& host, boost::asio::ip::tcp::socket socket);

// Where a connection from `remote` to `local` was made from. The kernel gives a connection to one
// of its own addresses that address as its source, which no other machine can use.
Origin origin_of(const boost::asio::ip::address& remote, const boost::asio::ip::address& local);

}  // namespace connectd::admin

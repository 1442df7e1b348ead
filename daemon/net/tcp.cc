#include "net/tcp.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/address.h"
#include "net/port_holder.h"

namespace connectd::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

void set_option(int socket, int level, int name, int value) {
  // Where the kernel knows an option not, the connection is slower to notice a dead peer; no more.
  (void)setsockopt(socket, level, name, &value, sizeof value);
}

tl::unexpected<Error> cannot_listen(const Address& address, const tcp::endpoint& endpoint,
                                    const Port& port, int error) {
  ErrorKind kind = ErrorKind::kCannotListen;
  std::string next = fmt::format("set {} to an address of this machine", port.key);
  if (error == EADDRINUSE) {
    kind = ErrorKind::kAddressInUse;
    next = advice(look_for_holder(endpoint), endpoint.port(), port.key);
  } else if (error == EACCES) {
    kind = ErrorKind::kPermission;
    next = fmt::format("set {} to a port from 1024 on, or give the process CAP_NET_BIND_SERVICE",
                       port.key);
  } else if (error == EADDRNOTAVAIL || error == ENODEV) {
    kind = ErrorKind::kNoSuchAddress;
  }
  return failure(kind,
                 fmt::format("cannot listen for {} at {}: {}; {}", port.whom, address.to_string(),
                             std::generic_category().message(error), next));
}

}  // namespace

std::string endpoint_text(const tcp::endpoint& endpoint) {
  return Address{endpoint.address().to_string(), endpoint.port()}.to_string();
}

Result<BoundPort> BoundPort::bind(const Address& address, const tcp::endpoint& endpoint,
                                  const Port& port) {
  const int type = SOCK_STREAM | SOCK_CLOEXEC;
  BoundPort bound(::socket(endpoint.protocol().family(), type, IPPROTO_TCP), address, endpoint,
                  port);
  if (bound.socket_ < 0) return cannot_listen(address, endpoint, port, errno);
  // Linux lets two sockets with SO_REUSEADDR share a port until one of them listens. So without it
  // first: then another process that is about to listen, too, is noticed. With it, because the port
  // may still have connections of a process that has ended.
  const auto size_of = static_cast<socklen_t>(endpoint.size());
  if (::bind(bound.socket_, endpoint.data(), size_of) != 0) {
    set_option(bound.socket_, SOL_SOCKET, SO_REUSEADDR, 1);
    if (::bind(bound.socket_, endpoint.data(), size_of) != 0) {
      return cannot_listen(address, endpoint, port, errno);
    }
  }
  auto size = static_cast<socklen_t>(bound.endpoint_.capacity());
  ::getsockname(bound.socket_, bound.endpoint_.data(), &size);  // port 0 has become one
  return bound;
}

BoundPort::BoundPort(BoundPort&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)),
      address_(std::move(other.address_)),
      // It has no move constructor. NOLINTNEXTLINE(performance-move-constructor-init)
      endpoint_(other.endpoint_),
      port_(other.port_) {}

BoundPort::~BoundPort() {
  if (socket_ >= 0) ::close(socket_);
}

std::string BoundPort::text() const {
  const std::string as_configured = address_.to_string();
  const std::string bound = endpoint_text(endpoint_);
  return as_configured == bound ? bound : fmt::format("{} bound={}", as_configured, bound);
}

Result<void> BoundPort::listen(tcp::acceptor& acceptor) {
  // Connections inherit it, and what is left of them does not keep the next process from the port.
  set_option(socket_, SOL_SOCKET, SO_REUSEADDR, 1);
  error_code error;
  acceptor.assign(endpoint_.protocol(), socket_, error);
  if (!error) {
    socket_ = -1;
    acceptor.listen(port_.backlog, error);
  }
  if (!error) return {};
  error_code ignored;
  acceptor.close(ignored);
  return cannot_listen(address_, endpoint_, port_, error.value());
}

Result<void> listen(tcp::acceptor& acceptor, const Address& address, const Port& port) {
  error_code error;
  tcp::resolver resolver(acceptor.get_executor());
  auto found = resolver.resolve(address.host, std::to_string(address.port),
                                tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error) {
    return failure(ErrorKind::kBadConfig,
                   fmt::format("cannot listen for {} at {}: cannot resolve the name: {}; "
                               "check {} and this machine's names",
                               port.whom, address.to_string(), error.message(), port.key));
  }
  auto bound = BoundPort::bind(address, found.begin()->endpoint(), port);
  return bound ? bound->listen(acceptor) : failure(bound.error());
}

void set_options(tcp::socket& socket, const KeepAlive& keep_alive) {
  const int native = socket.native_handle();
  set_option(native, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(native, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(native, IPPROTO_TCP, TCP_KEEPIDLE, keep_alive.idle_seconds);
  set_option(native, IPPROTO_TCP, TCP_KEEPINTVL, keep_alive.interval_seconds);
  set_option(native, IPPROTO_TCP, TCP_KEEPCNT, keep_alive.probes);
  if (keep_alive.user_timeout_ms != 0) {
    set_option(native, IPPROTO_TCP, TCP_USER_TIMEOUT, keep_alive.user_timeout_ms);
  }
}

}  // namespace connectd::net

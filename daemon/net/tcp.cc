#include "net/tcp.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/address.h"

namespace connectd::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

void set_option(int socket, int level, int name, int value) {
  // Where the kernel knows an option not, the connection is slower to notice a dead peer; no more.
  (void)setsockopt(socket, level, name, &value, sizeof value);
}

}  // namespace

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
  tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(port.backlog, error);
  if (!error) return {};
  error_code ignored;
  acceptor.close(ignored);
  ErrorKind kind = ErrorKind::kCannotListen;
  std::string next = fmt::format("set {} to an address of this machine", port.key);
  if (error == asio::error::address_in_use) {
    kind = ErrorKind::kAddressInUse;
    next = fmt::format("`ss -ltnp sport = :{}` shows which process uses it", address.port);
  } else if (error == asio::error::access_denied) {
    kind = ErrorKind::kPermission;
    next = fmt::format("set {} to a port from 1024 on, or give the process CAP_NET_BIND_SERVICE",
                       port.key);
  }
  return failure(kind, fmt::format("cannot listen for {} at {}: {}; {}", port.whom,
                                   address.to_string(), error.message(), next));
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

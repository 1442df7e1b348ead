// Getting one of this node's ports when the machine may not be ready: its name cannot be resolved
// yet, an address is not there yet (DHCP, a floating address, a slow interface), or another process
// still has the port. Only the last is given up after a while: a machine that boots gets ready.
//
// Of the addresses of a name, the first that is this machine's and not loopback is bound: Debian
// writes the machine's own name as 127.0.1.1 into /etc/hosts, and "::1" often comes first. If there
// are only loopback addresses, the first is bound; loopback_warning() has a text for that.
//
// Loop thread; no function waits.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "base/error.h"
#include "config/config.h"
#include "net/names.h"
#include "net/tcp.h"

namespace connectd::app {

// A port that another process has may be free again soon: a restart, a former process that ends.
inline constexpr Duration kPortInUse = std::chrono::seconds(10);

class OwnPort final {
 public:
  using Bind = std::function<Result<net::BoundPort>(
      const Address&, const boost::asio::ip::tcp::endpoint&, const net::Port&)>;
  // `names` must live as long as this does. `bind`: net::BoundPort::bind; another one in tests.
  OwnPort(net::Names& names, Address address, const net::Port& port,
          Bind bind = net::BoundPort::bind);
  ~OwnPort();
  OwnPort(const OwnPort&) = delete;
  OwnPort& operator=(const OwnPort&) = delete;

  // Tries what can be tried now. The port, an error that waiting does not mend, or nothing: call it
  // again in a moment.
  std::optional<Result<net::BoundPort>> advance(Time now);
  // What it waits for, one line for people.
  const std::string& waiting() const { return waiting_; }

 private:
  struct Answer {
    std::optional<net::Names::Found> found;
  };

  std::optional<Result<net::BoundPort>> try_all(const net::Names::Addresses& addresses, Time now);

  net::Names& names_;
  const Address address_;
  const net::Port port_;
  const Bind bind_;
  std::shared_ptr<Answer> answer_;  // to the question that is open; the resolver has it, too
  Time ask_at_{};
  std::optional<Time> in_use_since_;
  std::string waiting_;
};

// The addresses to bind, in this order: those that are not loopback; if there is none, the others.
net::Names::Addresses bind_order(const net::Names::Addresses& addresses);

// Why the others of the cluster cannot reach what is bound; empty: nothing is known.
std::string loopback_warning(const config::Config& config, const Address& address,
                             const boost::asio::ip::tcp::endpoint& bound, const net::Port& port);

// One attempt, for --check: waits for the resolver, but for nothing else.
Result<net::BoundPort> bind_now(const Address& address, const net::Port& port);

}  // namespace connectd::app

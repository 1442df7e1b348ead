#include "app/own_port.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

namespace connectd::app {
namespace {

using boost::asio::ip::tcp;

constexpr Duration kAskInterval = std::chrono::milliseconds(500);

// A name of this machine that everybody knows to be loopback, or the number itself.
bool is_meant_as_loopback(const Address& address) { return address.is_loopback(); }

}  // namespace

net::Names::Addresses bind_order(const net::Names::Addresses& addresses) {
  net::Names::Addresses order;
  std::ranges::copy_if(addresses, std::back_inserter(order),
                       [](const auto& address) { return !address.is_loopback(); });
  return order.empty() ? addresses : order;
}

OwnPort::OwnPort(net::Names& names, Address address, const net::Port& port, Bind bind)
    : names_(names),
      address_(std::move(address)),
      port_(port),
      bind_(std::move(bind)),
      waiting_(fmt::format("looking up {} ({})", address_.host, port_.key)) {}

OwnPort::~OwnPort() = default;

std::optional<Result<net::BoundPort>> OwnPort::advance(Time now) {
  if (!answer_) {
    if (now < ask_at_) return std::nullopt;
    ask_at_ = now + kAskInterval;
    answer_ = std::make_shared<Answer>();
    names_.ask(address_.host,
               [answer = answer_](const net::Names::Found& found) { answer->found = found; });
  }
  if (!answer_->found) return std::nullopt;
  const net::Names::Found found = std::move(*std::exchange(answer_, nullptr)->found);
  if (found) return try_all(*found, now);
  waiting_ =
      fmt::format("waiting for the name {} ({}): {}", address_.host, port_.key, found.error());
  return std::nullopt;
}

std::optional<Result<net::BoundPort>> OwnPort::try_all(const net::Names::Addresses& addresses,
                                                       Time now) {
  std::optional<Error> last;
  for (const auto& address : bind_order(addresses)) {
    auto bound = bind_(address_, tcp::endpoint(address, address_.port), port_);
    if (bound) return bound;
    last = bound.error();
    if (last->kind != ErrorKind::kNoSuchAddress) break;
  }
  if (!last) return std::nullopt;
  if (last->kind == ErrorKind::kAddressInUse) {
    if (!in_use_since_) in_use_since_ = now;
    if (now - *in_use_since_ >= kPortInUse) return failure(*last);
  } else if (last->kind != ErrorKind::kNoSuchAddress) {
    return failure(*last);
  }
  waiting_ = fmt::format("waiting for {} ({}): {}", address_.to_string(), port_.key, last->text);
  return std::nullopt;
}

std::string loopback_warning(const config::Config& config, const Address& address,
                             const tcp::endpoint& bound, const net::Port& port) {
  if (!bound.address().is_loopback()) return {};
  const std::string number = bound.address().to_string();
  if (!is_meant_as_loopback(address)) {
    return fmt::format(
        "{} is {}, and this machine's resolver knows only {} for it, a loopback address: other "
        "machines cannot connect. Correct the name in /etc/hosts, or set {} to a number",
        port.key, address.host, number, port.key);
  }
  auto elsewhere = std::ranges::find_if(config.cluster.members, [](const config::Member& member) {
    return !is_meant_as_loopback(member.peer);
  });
  if (elsewhere == config.cluster.members.end() || elsewhere->id == config.node.id) return {};
  return fmt::format(
      "{} is {}, a loopback address, and node {} is on another machine ({}): it cannot connect",
      port.key, number, elsewhere->id, elsewhere->peer.to_string());
}

Result<net::BoundPort> bind_now(const Address& address, const net::Port& port) {
  const auto found = net::Names::look_up(address.host);
  if (!found) {
    return failure(ErrorKind::kBadConfig,
                   fmt::format("cannot listen for {} at {}: cannot resolve the name: {}; check {} "
                               "and this machine's names",
                               port.whom, address.to_string(), found.error(), port.key));
  }
  Error last;
  for (const auto& number : bind_order(*found)) {
    auto bound = net::BoundPort::bind(address, tcp::endpoint(number, address.port), port);
    if (bound) return bound;
    last = bound.error();
    if (last.kind != ErrorKind::kNoSuchAddress) break;
  }
  return failure(last);
}

}  // namespace connectd::app

#include "net/origin.h"

#include <algorithm>

namespace connectd::net {

namespace ip = boost::asio::ip;

Origin origin_of(const ip::address& remote, const ip::address& local) {
  const ip::address caller = without_mapping(remote);
  if (caller.is_loopback()) return Origin::kLoopback;
  return caller == without_mapping(local) ? Origin::kThisMachine : Origin::kOtherMachine;
}

ip::address without_mapping(const ip::address& address) {
  if (!address.is_v6() || !address.to_v6().is_v4_mapped()) return address;
  return ip::make_address_v4(ip::v4_mapped, address.to_v6());
}

std::string network_of(const ip::address& remote) {
  const ip::address address = without_mapping(remote);
  if (!address.is_v6()) return address.to_string();
  ip::address_v6::bytes_type bytes = address.to_v6().to_bytes();
  std::fill(bytes.begin() + bytes.size() / 2, bytes.end(), uint8_t{0});
  return ip::address_v6(bytes).to_string();
}

}  // namespace connectd::net

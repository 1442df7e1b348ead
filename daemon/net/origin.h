// Where the other end of a connection is, as its addresses say. Pure; any thread.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <cstdint>
#include <string>

namespace connectd::net {

enum class Origin : uint8_t {
  kOtherMachine,
  kThisMachine,  // from the address that it was made to
  kLoopback,
};

// Where a connection from `remote` to `local` was made from. The kernel gives a connection to one
// of its own addresses that address as its source, which no other machine can use.
Origin origin_of(const boost::asio::ip::address& remote, const boost::asio::ip::address& local);

// An IPv4 address that a socket for both families shows as ::ffff:10.0.0.1.
boost::asio::ip::address without_mapping(const boost::asio::ip::address& address);

// Whom limits count as one: an IPv4 address; of an IPv6 address the half that one customer has.
// Mapped addresses count as what they are.
std::string network_of(const boost::asio::ip::address& address);

}  // namespace connectd::net

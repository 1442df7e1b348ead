// The ports that the kernel gives to outgoing connections (net.ipv4.ip_local_port_range): a process
// that wants to listen on one of them may find it taken by any connection of this machine. Values;
// any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace connectd {

class EphemeralPorts final {
 public:
  // Those of this process's network namespace. None if /proc/sys cannot be read.
  static EphemeralPorts read();
  // `range`: "32768\t60999". `reserved`: net.ipv4.ip_local_reserved_ports, "7101-7109,8080".
  // Texts of another form count as empty.
  static EphemeralPorts parse(std::string_view range, std::string_view reserved);

  bool contains(uint16_t port) const;
  // "32768 to 60999", also where some of them are reserved; empty: none is known.
  std::string text() const;

 private:
  using Range = std::pair<uint16_t, uint16_t>;  // first and last
  Range range_{1, 0};
  std::vector<Range> reserved_;
};

}  // namespace connectd

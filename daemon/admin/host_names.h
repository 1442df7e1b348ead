// The names under which a server is asked: what a Host header, or the authority of an absolute
// target, may say (RFC 9110 §7.2). A web page that had its own name resolve to this server would
// ask under that name. Pure; any thread.
#pragma once

#include <string_view>
#include <vector>

#include "base/address.h"

namespace connectd::admin {

// The port that a Host without one means.
inline constexpr uint16_t kDefaultHttpPort = 80;

class HostNames final {
 public:
  // An address of this server.
  void add_own(const Address& address);
  // An item of http.hosts: "name", with any port, or "name:port". Ignores what the configuration
  // would reject.
  void add_further(std::string_view text);

  bool is_own(const Address& asked) const;
  bool is_further(const Address& asked) const;

 private:
  std::vector<Address> own_;
  std::vector<Address> further_;  // port 0: any
};

}  // namespace connectd::admin

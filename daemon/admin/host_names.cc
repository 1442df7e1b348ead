#include "admin/host_names.h"

#include <algorithm>

#include "admin/http_message.h"

namespace connectd::admin {

void HostNames::add_own(const Address& address) {
  own_.push_back({lower_case(address.host), address.port});
}

void HostNames::add_further(std::string_view text) {
  constexpr uint16_t kAnyPort = 0;
  auto host = parse_host(text, kAnyPort);
  if (host) further_.push_back({lower_case(host->host), host->port});
}

bool HostNames::is_own(const Address& asked) const {
  return std::ranges::find(own_, Address{lower_case(asked.host), asked.port}) != own_.end();
}

bool HostNames::is_further(const Address& asked) const {
  const std::string name = lower_case(asked.host);
  return std::ranges::any_of(further_, [&](const Address& known) {
    return known.host == name && (known.port == 0 || known.port == asked.port);
  });
}

}  // namespace connectd::admin

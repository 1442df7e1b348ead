#include "config/config.h"

#include <fmt/format.h>

namespace connectd::config {

std::string Address::to_string() const {
  if (port == 0) return "";
  bool v6 = host.find(':') != std::string::npos;
  return v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

bool Address::is_loopback() const {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

bool Address::is_wildcard() const { return host == "0.0.0.0" || host == "::"; }

const Member& Config::self() const {
  for (const Member& member : cluster.members) {
    if (member.id == node.id) return member;
  }
  LOG(FATAL) << "node.id " << node.id.value() << " is not a member, which load() refuses";
}

}  // namespace connectd::config

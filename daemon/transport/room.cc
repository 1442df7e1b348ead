#include "transport/room.h"

#include <map>
#include <tuple>

#include "base/log.h"

namespace connectd::transport {

std::shared_ptr<Channel> first_to_close(const std::vector<std::shared_ptr<Channel>>& channels,
                                        const std::set<std::string>& member_hosts) {
  CHECK(!channels.empty()) << "nobody can make room";
  std::map<std::string, size_t> from;
  for (const auto& channel : channels) from[channel->host()]++;
  using Claim = std::tuple<size_t, bool, uint64_t>;  // the largest goes
  std::shared_ptr<Channel> first;
  Claim largest;
  for (const auto& channel : channels) {
    const std::string host = channel->host();
    const Claim claim{from.at(host), !member_hosts.contains(host), UINT64_MAX - channel->id()};
    if (first && claim <= largest) continue;
    first = channel;
    largest = claim;
  }
  return first;
}

}  // namespace connectd::transport

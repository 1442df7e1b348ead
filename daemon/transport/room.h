// Who gives way when the connections of nodes that need not be members fill their places.
//
// A flood comes from few hosts, so one of the host with the most connections goes: another host
// keeps its own whatever that one does. Among hosts with as many, one where no member is; then the
// oldest connection. Bytes do not count: who is flooding can send some, and who has just come has
// sent none. Any thread.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "transport/channel.h"

namespace connectd::transport {

// `channels`: at least one.
std::shared_ptr<Channel> first_to_close(const std::vector<std::shared_ptr<Channel>>& channels,
                                        const std::set<std::string>& member_hosts);

}  // namespace connectd::transport

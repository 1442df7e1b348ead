#include "sim/network.h"

#include <memory>
#include <utility>

namespace connectd::sim {
namespace {
using std::chrono::microseconds;
using std::chrono::milliseconds;

// Whether a run can tell that this message did not come: heartbeats come again by themselves.
bool matters(const wire::PeerMessage& message) {
  const auto* envelope = std::get_if<raft::Envelope>(&message);
  if (envelope == nullptr) return true;
  return !std::holds_alternative<raft::Heartbeat>(envelope->message) &&
         !std::holds_alternative<raft::HeartbeatResponse>(envelope->message);
}
}  // namespace

Network::Network(size_t nodes, uint64_t seed, Timeline& timeline, Endpoints& endpoints,
                 FaultCounts& counts)
    : nodes_(nodes),
      timeline_(timeline),
      endpoints_(endpoints),
      counts_(counts),
      random_(seed),
      loss_random_(seed + 1),
      duplicate_random_(seed + 2),
      late_random_(seed + 3),
      links_(nodes * nodes) {}

void Network::dial(NodeId from, NodeId to) {
  Link& l = link(from, to);
  if (l.dialling || is_connected(from, to) || !endpoints_.is_up(from)) return;
  l.dialling = true;
  try_connect(from, to, endpoints_.life_of(from));
}

void Network::try_connect(NodeId from, NodeId to, uint64_t life) {
  timeline_.after(draw(random_, milliseconds(1), milliseconds(100)), [this, from, to, life] {
    Link& l = link(from, to);
    if (!endpoints_.is_up(from) || endpoints_.life_of(from) != life) {
      l.dialling = false;
      dial(from, to);  // a later life
      return;
    }
    if (!endpoints_.is_up(to) || is_cut(from, to) || is_cut(to, from) ||
        !endpoints_.greet(from, to)) {
      try_connect(from, to, life);
      return;
    }
    l.dialling = false;
    ++l.connection;
    l.in_flight = 0;
    timeline_.note('C', from.value(), to.value());
    timeline_.trace("node {} reaches node {}", from, to);
    endpoints_.reached(from, to);
  });
}

void Network::break_connection(NodeId a, NodeId b) {
  for (auto [from, to] : {std::pair(a, b), std::pair(b, a)}) {
    if (!is_connected(from, to)) continue;
    Link& l = link(from, to);
    ++l.connection;
    ++connections_broken_;
    if (!endpoints_.is_up(from)) continue;
    // Each side notices by itself, a little later, or much later when the link is cut.
    bool quiet = is_cut(a, b) || is_cut(b, a);
    Duration notice = quiet ? draw(random_, milliseconds(1), milliseconds(2000))
                            : draw(random_, microseconds(50), milliseconds(5));
    timeline_.after(notice, [this, node = from, peer = to, life = endpoints_.life_of(from)] {
      if (!endpoints_.is_up(node) || endpoints_.life_of(node) != life) return;
      endpoints_.lost(node, peer);
      dial(node, peer);
    });
  }
}

void Network::cut(NodeId from, NodeId to, uint64_t episode, Fault why) {
  link(from, to).cuts.push_back({episode, why});
}

void Network::heal(uint64_t episode) {
  for (Link& l : links_) {
    std::erase_if(l.cuts, [&](const Cut& cut) { return cut.episode == episode; });
  }
}

void Network::heal_between(NodeId from, NodeId to) {
  link(from, to).cuts.clear();
  link(from, to).clogged_until = Time{};
}

void Network::clog(NodeId from, NodeId to, Time until) {
  Link& l = link(from, to);
  ++counts_[Fault::kCloggedLink].injected;
  l.clogged_until = std::max(l.clogged_until, until);
  l.clog_has_bitten = false;
}

void Network::swallow(Link& l) {
  const Cut& cut = l.cuts.front();
  if (bitten_episodes_.insert(cut.episode).second) ++counts_[cut.why].bitten;
}

void Network::send(NodeId from, NodeId to, wire::PeerMessage message) {
  if (!is_connected(from, to)) return;
  Link& l = link(from, to);
  const bool raft_message = std::holds_alternative<raft::Envelope>(message);
  if (!l.cuts.empty()) {
    swallow(l);
    if (!raft_message) break_connection(from, to);
    return;
  }
  const bool clean = is_clean(from, to);
  if (!clean && knobs_.loss_percent > 0 && loss_random_.chance(knobs_.loss_percent)) {
    ++counts_[Fault::kMessageLoss].injected;
    if (matters(message)) ++counts_[Fault::kMessageLoss].bitten;
    if (!raft_message) break_connection(from, to);
    return;
  }
  int copies = 1;
  if (raft_message && !clean && knobs_.duplicate_percent > 0 &&
      duplicate_random_.chance(knobs_.duplicate_percent)) {
    ++counts_[Fault::kMessageDuplicate].injected;
    copies = 2;
  }
  const uint64_t connection = l.connection;
  const uint64_t number = ++l.sent;
  // The second copy of a message is moved from, the first is not.
  auto shared = std::make_shared<wire::PeerMessage>(std::move(message));
  for (int copy = 0; copy < copies; ++copy) {
    Duration delay = draw(random_, knobs_.delay_low, knobs_.delay_high);
    bool late = false;
    if (!clean && knobs_.late_percent > 0 && late_random_.chance(knobs_.late_percent)) {
      delay += draw(late_random_, Duration(0), knobs_.late);
      ++counts_[Fault::kMessageDelay].injected;
      late = true;
    }
    Time arrival = timeline_.now() + delay;
    if (l.clogged_until > arrival) {
      arrival = l.clogged_until;
      if (!std::exchange(l.clog_has_bitten, true)) ++counts_[Fault::kCloggedLink].bitten;
    }
    if (!raft_message) {
      arrival = std::max(arrival, l.ordered_until + Duration(1));
      l.ordered_until = arrival;
    }
    ++l.in_flight;
    timeline_.at(arrival, [this, from, to, shared, connection, raft_message, number, copy, late] {
      Link& there = link(from, to);
      if (there.connection != connection) return;
      if (there.in_flight > 0) --there.in_flight;
      if (!endpoints_.is_up(to)) return;
      if (!there.cuts.empty()) {
        swallow(there);
        if (!raft_message) break_connection(from, to);
        return;
      }
      if (copy > 0) ++counts_[Fault::kMessageDuplicate].bitten;
      if (late && number < there.newest_delivered) ++counts_[Fault::kMessageDelay].bitten;
      there.newest_delivered = std::max(there.newest_delivered, number);
      timeline_.note('M', from.value(), to.value(), shared->index());
      endpoints_.deliver(from, to, *shared);
    });
  }
}

}  // namespace connectd::sim

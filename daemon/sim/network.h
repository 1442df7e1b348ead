// The virtual network between the nodes of a run: connections with a delay, and all that can happen
// to them. Raft's own messages may be lost, doubled and overtaken one by one, which is more than
// TCP would do; all others keep to the contract of wire::Transport (in order, without gaps, until
// the connection breaks).
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "base/random.h"
#include "sim/faults.h"
#include "sim/timeline.h"
#include "wire/peer_messages.h"

namespace connectd::sim {

// The nodes, as the network sees them.
class Endpoints {
 public:
  virtual bool is_up(NodeId node) const = 0;
  // Differs from one life of the process to the next.
  virtual uint64_t life_of(NodeId node) const = 0;
  // The handshake of a new connection; false: one of the two refuses.
  virtual bool greet(NodeId dialler, NodeId answerer) = 0;
  virtual void deliver(NodeId from, NodeId to, wire::PeerMessage message) = 0;
  virtual void reached(NodeId node, NodeId peer) = 0;
  virtual void lost(NodeId node, NodeId peer) = 0;

 protected:
  ~Endpoints() = default;
};

class Network {
 public:
  struct Knobs {
    double loss_percent = 0;
    double duplicate_percent = 0;
    Duration delay_low = std::chrono::microseconds(50);
    Duration delay_high = std::chrono::microseconds(500);
    double late_percent = 0;  // of messages that take up to `late` more
    Duration late{};
  };

  Network(size_t nodes, uint64_t seed, Timeline& timeline, Endpoints& endpoints,
          FaultCounts& counts);

  void set_knobs(const Knobs& knobs) { knobs_ = knobs; }
  const Knobs& knobs() const { return knobs_; }
  // No more losses, doubles and late messages between these two.
  void set_clean(NodeId a, NodeId b) { clean_.insert({std::min(a, b), std::max(a, b)}); }

  void send(NodeId from, NodeId to, wire::PeerMessage message);
  // Each of the two dials until it is connected, or its process ends.
  void dial(NodeId from, NodeId to);
  void break_connection(NodeId a, NodeId b);
  bool is_connected(NodeId from, NodeId to) const { return link(from, to).connection % 2 == 1; }

  // Nothing passes in this direction until heal(episode).
  void cut(NodeId from, NodeId to, uint64_t episode, Fault why);
  void heal(uint64_t episode);
  void heal_between(NodeId from, NodeId to);  // whatever cut it
  bool is_cut(NodeId from, NodeId to) const { return !link(from, to).cuts.empty(); }
  void clog(NodeId from, NodeId to, Time until);
  uint64_t connections_broken() const { return connections_broken_; }

 private:
  struct Cut {
    uint64_t episode;
    Fault why;
  };
  struct Link {               // directed
    uint64_t connection = 0;  // odd: it stands; rises with each change
    std::vector<Cut> cuts;
    Time ordered_until{};  // the last ordered message arrives then
    Time clogged_until{};
    bool clog_has_bitten = false;
    uint64_t sent = 0;
    uint64_t newest_delivered = 0;
    uint64_t in_flight = 0;
    bool dialling = false;
  };

  Link& link(NodeId from, NodeId to) {
    return links_[(from.value() - 1) * nodes_ + to.value() - 1];
  }
  const Link& link(NodeId from, NodeId to) const {
    return links_[(from.value() - 1) * nodes_ + to.value() - 1];
  }
  bool is_clean(NodeId a, NodeId b) const {
    return !clean_.empty() && clean_.contains({std::min(a, b), std::max(a, b)});
  }
  Duration draw(Random& random, Duration low, Duration high) {
    return low + Duration(random.below(static_cast<uint64_t>((high - low).count()) + 1));
  }
  void swallow(Link& l);
  void try_connect(NodeId from, NodeId to, uint64_t life);

  const size_t nodes_;
  Timeline& timeline_;
  Endpoints& endpoints_;
  FaultCounts& counts_;
  Knobs knobs_;
  // One a purpose: that a fault is switched off changes nothing else.
  Random random_;
  Random loss_random_;
  Random duplicate_random_;
  Random late_random_;
  std::vector<Link> links_;
  std::set<std::pair<NodeId, NodeId>> clean_;
  std::set<uint64_t> bitten_episodes_;
  uint64_t connections_broken_ = 0;
};

}  // namespace connectd::sim

// The virtual network between the nodes of a run: it drives each node's transport::Peers, as
// PeerNetwork does with sockets, and carries bytes with a delay. Readers get them in pieces of any
// size, as from TCP. Whole frames of Raft messages may be lost, duplicated and reordered, which TCP
// would not do. All other frames keep the contract of wire::Transport: in order, without gaps,
// until the connection breaks.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "sim/faults.h"
#include "sim/timeline.h"
#include "transport/peers.h"

namespace connectd::sim {

// The nodes, as the network sees them.
class Endpoints {
 public:
  // Its connections; null while it is down.
  virtual transport::Peers* peers_of(NodeId node) = 0;
  // Runs `action` now or, while the process is paused, later; never after the process has ended.
  virtual void arrive(NodeId node, std::function<void()> action) = 0;

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
    double changed_percent = 0;  // of frames of which a bit changes
  };

  Network(size_t nodes, uint64_t seed, Timeline& timeline, Endpoints& endpoints,
          FaultCounts& counts);

  // Where a node listens.
  static Address address_of(NodeId node) { return {"sim", static_cast<uint16_t>(node.value())}; }

  // Of both sockets of a connection: the sender's is full beyond them. Where nothing is lost or
  // late, messages then keep their order, as in TCP: what is sent again after a message that was
  // overtaken would not fit, and the connection would break without end.
  void set_small_sockets(size_t bytes) {
    socket_bytes_ = bytes;
    clean_is_ordered_ = true;
  }
  void set_knobs(const Knobs& knobs) { knobs_ = knobs; }
  const Knobs& knobs() const { return knobs_; }
  // No more lost, duplicated or late messages between these two.
  void set_clean(NodeId a, NodeId b) { clean_.insert({std::min(a, b), std::max(a, b)}); }

  // Carries out the effects of the node's Peers. Call it after every call into Peers from outside.
  void carry_out(NodeId node);
  // The process ends: its kernel closes every connection.
  void went_down(NodeId node);
  // Breaks both connections between these two; each side notices by itself.
  void break_connection(NodeId a, NodeId b);
  // Of those that the node has dialled.
  void replace_connections(NodeId node);
  // Whether a connection that `from` dialled is established.
  bool is_connected(NodeId from, NodeId to) const { return connection_of(from, to) != 0; }
  // Its number, which no other connection has; 0: there is none.
  uint64_t connection_of(NodeId from, NodeId to) const;
  // Whether a connection between these two is gone, and one side does not know it yet.
  bool has_unnoticed_end(NodeId a, NodeId b) const {
    return std::max(path(a, b).unnoticed_until, path(b, a).unnoticed_until) >= timeline_.now();
  }

  // Nothing passes in this direction until heal(episode).
  void cut(NodeId from, NodeId to, uint64_t episode, Fault why);
  void heal(uint64_t episode);
  void heal_between(NodeId from, NodeId to);  // whatever cut it
  bool is_cut(NodeId from, NodeId to) const { return !path(from, to).cuts.empty(); }
  void clog(NodeId from, NodeId to, Time until);
  // Whoever dials `to` from now on reaches `by`.
  void divert(NodeId to, NodeId by) { diverted_[to.value() - 1] = by; }
  uint64_t connections_broken() const { return connections_broken_; }

 private:
  using ChannelPtr = std::shared_ptr<transport::Channel>;
  struct Cut {
    uint64_t episode;
    Fault why;
  };
  struct Path {  // from one node to another, whatever connection
    std::vector<Cut> cuts;
    Time clogged_until{};
    bool clog_has_bitten = false;
    // The reader learns then of each connection that has ended.
    Time unnoticed_until{};
  };
  struct Direction {  // of a connection
    NodeId from;
    NodeId to;
    ChannelPtr source;
    ChannelPtr sink;      // none: the connection is not accepted yet
    std::string cutting;  // left the source; its last frame is not whole yet
    bool says_magic = true;
    size_t in_flight = 0;  // bytes that left the source and have not arrived
    uint64_t sent = 0;     // frames
    uint64_t newest_delivered = 0;
    Time ordered_until{};  // the last ordered frame arrives then
    std::string arrived;   // and not read yet
    bool reads_later = false;
    bool has_ended = false;  // the end was sent
  };
  struct Connection {
    uint64_t number = 0;
    Direction there;  // from the dialler
    Direction back;
    bool stands = true;
  };
  // Pending events keep a connection alive.
  using ConnectionPtr = std::shared_ptr<Connection>;

  Path& path(NodeId from, NodeId to) {
    return paths_[(from.value() - 1) * nodes_ + to.value() - 1];
  }
  const Path& path(NodeId from, NodeId to) const {
    return paths_[(from.value() - 1) * nodes_ + to.value() - 1];
  }
  bool is_clean(NodeId a, NodeId b) const {
    return !clean_.empty() && clean_.contains({std::min(a, b), std::max(a, b)});
  }
  Duration draw(Random& random, Duration low, Duration high) {
    return low + Duration(random.below(static_cast<uint64_t>((high - low).count()) + 1));
  }
  // Calls `action` with the node's Peers, and carries out the effects.
  void tell(NodeId node, std::function<void(transport::Peers&)> action);
  void connect(NodeId from, ChannelPtr channel, NodeId to);
  void establish(NodeId from, const ChannelPtr& channel, NodeId to);
  void write(NodeId node, const ChannelPtr& channel);
  void pump(const ConnectionPtr& connection, Direction& direction);
  bool change_a_bit(std::string& frame);
  void send(const ConnectionPtr& connection, Direction& direction, std::string frame);
  void deliver(const ConnectionPtr& connection, Direction& direction, const std::string& frame);
  void read(const ConnectionPtr& connection, Direction& direction, size_t bytes);
  void close(NodeId node, const ChannelPtr& channel);
  void end(const ConnectionPtr& connection);
  void report_broken(const Direction& direction, Duration after, const char* why);
  // Calls `action` with the reader's Peers, which then know of the end.
  void notice_end(const Direction& direction, Duration after,
                  std::function<void(transport::Peers&)> action);
  void set_timer(NodeId node);
  void swallow(Path& p);

  const size_t nodes_;
  Timeline& timeline_;
  Endpoints& endpoints_;
  FaultCounts& counts_;
  Knobs knobs_;
  size_t socket_bytes_ = size_t{256} << 10;
  bool clean_is_ordered_ = false;
  // One for each purpose, so that switching off a fault changes nothing else.
  Random random_;
  Random loss_random_;
  Random duplicate_random_;
  Random late_random_;
  Random piece_random_;
  Random changed_random_;
  std::vector<Path> paths_;
  std::set<std::pair<NodeId, NodeId>> clean_;
  std::set<uint64_t> bitten_episodes_;
  // Established ones, by node and channel; each is listed twice.
  std::map<std::pair<NodeId, uint64_t>, ConnectionPtr> connections_;
  uint64_t next_connection_ = 1;
  std::vector<NodeId> diverted_;  // where the address of each node leads
  std::vector<Time> timers_;      // per node; Time::max(): none
  uint64_t connections_broken_ = 0;
};

}  // namespace connectd::sim

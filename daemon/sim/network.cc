#include "sim/network.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "wire/peer_codec.h"

namespace connectd::sim {
namespace {
using std::chrono::microseconds;
using std::chrono::milliseconds;
using transport::Channel;
using transport::Peers;

wire::FrameType type_of(std::string_view frame) {
  auto header = wire::decode_frame_header(as_bytes(frame));
  CHECK(header) << "a node sends a frame that it would not take: " << header.error().text;
  return header->type;
}

// Raft messages, which may be lost.
bool is_raft(wire::FrameType type) {
  return type >= wire::FrameType::kPreVoteRequest && type <= wire::FrameType::kReadIndexResponse;
}

// Whether the loss of this message has an effect: heartbeats are repeated anyway.
bool matters(wire::FrameType type) {
  return type != wire::FrameType::kHeartbeat && type != wire::FrameType::kHeartbeatResponse;
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
      piece_random_(seed + 4),
      changed_random_(seed + 5),
      paths_(nodes * nodes),
      timers_(nodes, Time::max()) {
  for (size_t i = 1; i <= nodes; ++i) diverted_.emplace_back(i);
}

// ---- effects of Peers

void Network::tell(NodeId node, std::function<void(Peers&)> action) {
  endpoints_.arrive(node, [this, node, action = std::move(action)] {
    Peers* peers = endpoints_.peers_of(node);
    if (peers == nullptr) return;
    action(*peers);
    carry_out(node);
  });
}

void Network::carry_out(NodeId node) {
  Peers* peers = endpoints_.peers_of(node);
  if (peers == nullptr) return;
  transport::SocketWork work;
  peers->take_work(work);
  for (auto& [channel, address] : work.dial) connect(node, channel, NodeId(address.port));
  for (auto& channel : work.write) write(node, channel);
  for (auto& channel : work.close) close(node, channel);
  set_timer(node);
}

void Network::set_timer(NodeId node) {
  Time& timer = timers_[node.value() - 1];
  const Time next = std::max(endpoints_.peers_of(node)->next_deadline(), timeline_.now());
  if (next == Time::max() || next >= timer) return;  // an earlier one looks again
  timer = next;
  timeline_.at(next, [this, node, next] {
    Time& now_set = timers_[node.value() - 1];
    if (now_set != next) return;
    now_set = Time::max();
    tell(node, [this](Peers& p) { p.advance(timeline_.now()); });
  });
}

// ---- connecting

void Network::connect(NodeId from, ChannelPtr channel, NodeId to) {
  timeline_.after(draw(random_, microseconds(50), milliseconds(2)),
                  [this, from, to, channel = std::move(channel)] {
                    if (channel->is_closed() || endpoints_.peers_of(from) == nullptr) return;
                    if (is_cut(from, to) || is_cut(to, from)) {
                      // Retries until Peers aborts the attempt.
                      timeline_.after(draw(random_, milliseconds(10), milliseconds(200)),
                                      [this, from, to, channel] { connect(from, channel, to); });
                      return;
                    }
                    establish(from, channel, diverted_[to.value() - 1]);
                  });
}

void Network::establish(NodeId from, const ChannelPtr& channel, NodeId to) {
  Peers* acceptor = endpoints_.peers_of(to);
  if (acceptor == nullptr) {
    return tell(from, [this, channel](Peers& p) {
      p.dial_failed(channel, "Connection refused", timeline_.now());
    });
  }
  auto connection = std::make_shared<Connection>();
  connection->number = next_connection_++;
  connection->there.from = connection->back.to = from;
  connection->there.to = connection->back.from = to;
  connection->there.source = connection->back.sink = channel;
  // The kernel accepts; the process, which may be paused, learns of it later.
  const ChannelPtr accepted = acceptor->accepted(address_of(from).to_string(), timeline_.now());
  if (!accepted) {
    return tell(from, [this, channel](Peers& p) {
      p.dial_failed(channel, "Connection reset by peer", timeline_.now());
    });
  }
  connection->there.sink = connection->back.source = accepted;
  connections_.emplace(std::pair(from, channel->id()), connection);
  connections_.emplace(std::pair(to, accepted->id()), connection);
  timeline_.note('C', from.value(), to.value());
  timeline_.trace("node {} connects to node {}", from, to);
  carry_out(to);
  tell(from, [this, channel, to](Peers& p) {
    p.connected(channel, fmt::format("node {}", to), timeline_.now());
  });
}

uint64_t Network::connection_of(NodeId from, NodeId to) const {
  for (auto at = connections_.lower_bound({from, 0}); at != connections_.end(); ++at) {
    if (at->first.first != from) break;
    if (at->second->there.from == from && at->second->there.to == to) return at->second->number;
  }
  return 0;
}

// ---- bytes

void Network::write(NodeId node, const ChannelPtr& channel) {
  auto at = connections_.find({node, channel->id()});
  if (at == connections_.end()) return;
  const ConnectionPtr connection = at->second;
  pump(connection, connection->there.source == channel ? connection->there : connection->back);
}

// Takes the channel's output frame by frame, as long as there is space.
void Network::pump(const ConnectionPtr& connection, Direction& direction) {
  Channel& channel = *direction.source;
  while (connection->stands && !channel.unsent().empty() && direction.in_flight < socket_bytes_) {
    // Also half a frame, when the room ends there.
    const std::string_view bytes = channel.unsent().substr(0, socket_bytes_ - direction.in_flight);
    direction.in_flight += bytes.size();
    direction.cutting += bytes;
    channel.sent(bytes.size());
    size_t begin = 0;
    while (true) {
      const std::string_view rest = std::string_view(direction.cutting).substr(begin);
      size_t length = wire::kPeerMagic.size();
      if (!direction.says_magic) {
        if (rest.size() < wire::kFrameHeaderBytes) break;
        auto header = wire::decode_frame_header(as_bytes(rest));
        CHECK(header) << "a node sends a header that it would not take";
        length = wire::kFrameHeaderBytes + header->length;
        // A frame larger than the buffers is taken as a whole.
        if (rest.size() < length && direction.in_flight >= socket_bytes_) {
          const size_t more = std::min(length - rest.size(), channel.unsent().size());
          direction.in_flight += more;
          direction.cutting += channel.unsent().substr(0, more);
          channel.sent(more);
        }
      }
      if (direction.cutting.size() - begin < length) break;
      send(connection, direction, direction.cutting.substr(begin, length));
      direction.says_magic = false;
      begin += length;
      if (!connection->stands) return;
    }
    direction.cutting.erase(0, begin);
  }
  if (!connection->stands || !channel.is_closing() || !channel.unsent().empty()) return;
  if (std::exchange(direction.has_ended, true)) return;
  // The end of the stream, after the last byte. The other side closes, and so does this one.
  const Duration left =
      std::max(direction.ordered_until - timeline_.now(), Duration(0)) + microseconds(100);
  timeline_.after(left, [this, connection, &direction] {
    if (!connection->stands) return;
    read(connection, direction, direction.arrived.size());
    // Refused connections end like this, too, without any.
    if (direction.sink->phase() == Channel::Phase::kMessages) {
      ++counts_[Fault::kConnectionReplaced].bitten;
    }
    tell(direction.to, [this, sink = direction.sink](Peers& p) { p.ended(sink, timeline_.now()); });
  });
}

void Network::replace_connections(NodeId node) {
  // Virtual connections are never inside TLS: each call replaces them.
  tell(node, [this](Peers& p) { p.set_tls(true, true, true, timeline_.now()); });
}

// In some frames.
bool Network::change_a_bit(std::string& frame) {
  if (knobs_.changed_percent <= 0 || !changed_random_.chance(knobs_.changed_percent)) return false;
  ++counts_[Fault::kChangedBit].injected;
  const uint64_t bit = changed_random_.below(frame.size() * 8);
  frame[bit / 8] = static_cast<char>(frame[bit / 8] ^ (1 << bit % 8));
  return true;
}

// One frame, or the magic before them.
void Network::send(const ConnectionPtr& connection, Direction& direction, std::string frame) {
  const NodeId from = direction.from;
  const NodeId to = direction.to;
  Path& p = path(from, to);
  const bool is_magic = direction.says_magic;
  const wire::FrameType type = is_magic ? wire::FrameType::kHello : type_of(frame);
  const bool may_be_lost = !is_magic && is_raft(type);
  const size_t bytes = frame.size();
  if (!p.cuts.empty()) {
    swallow(p);
    direction.in_flight -= bytes;
    if (!may_be_lost) break_connection(from, to);
    return;
  }
  const bool clean = is_clean(from, to);
  if (!clean && knobs_.loss_percent > 0 && loss_random_.chance(knobs_.loss_percent)) {
    ++counts_[Fault::kMessageLoss].injected;
    if (matters(type)) ++counts_[Fault::kMessageLoss].bitten;
    direction.in_flight -= bytes;
    if (!may_be_lost) break_connection(from, to);
    return;
  }
  int copies = 1;
  if (may_be_lost && !clean && knobs_.duplicate_percent > 0 &&
      duplicate_random_.chance(knobs_.duplicate_percent)) {
    ++counts_[Fault::kMessageDuplicate].injected;
    copies = 2;
  }
  const uint64_t number = ++direction.sent;
  const bool is_changed = !clean && !is_magic && change_a_bit(frame);
  auto shared = std::make_shared<const std::string>(std::move(frame));
  for (int copy = 0; copy < copies; ++copy) {
    Duration delay = draw(random_, knobs_.delay_low, knobs_.delay_high);
    bool late = false;
    if (!clean && knobs_.late_percent > 0 && late_random_.chance(knobs_.late_percent)) {
      delay += draw(late_random_, Duration(0), knobs_.late);
      ++counts_[Fault::kMessageDelay].injected;
      late = true;
    }
    Time arrival = timeline_.now() + delay;
    if (p.clogged_until > arrival) {
      arrival = p.clogged_until;
      if (!std::exchange(p.clog_has_bitten, true)) ++counts_[Fault::kCloggedLink].bitten;
    }
    if (!may_be_lost || (clean && clean_is_ordered_)) {
      arrival = std::max(arrival, direction.ordered_until + Duration(1));
      direction.ordered_until = arrival;
    }
    timeline_.at(arrival, [=, this, &direction] {
      if (!connection->stands) return;
      if (copy == 0) direction.in_flight -= shared->size();
      Path& there = path(from, to);
      if (!there.cuts.empty()) {
        swallow(there);
        if (!may_be_lost) break_connection(from, to);
      } else {
        if (copy > 0) ++counts_[Fault::kMessageDuplicate].bitten;
        if (late && number < direction.newest_delivered) ++counts_[Fault::kMessageDelay].bitten;
        direction.newest_delivered = std::max(direction.newest_delivered, number);
        if (is_changed && copy == 0) ++counts_[Fault::kChangedBit].bitten;
        timeline_.note('M', from.value(), to.value(), static_cast<uint64_t>(type));
        deliver(connection, direction, *shared);
      }
      if (connection->stands) pump(connection, direction);
    });
  }
}

// The reader gets it at once, or a part of it now and the rest a moment later or with what comes
// next.
void Network::deliver(const ConnectionPtr& connection, Direction& direction,
                      const std::string& frame) {
  direction.arrived += frame;
  size_t now = direction.arrived.size();
  if (piece_random_.chance(10)) now = piece_random_.below(now);
  if (now < direction.arrived.size() && !std::exchange(direction.reads_later, true)) {
    timeline_.after(draw(piece_random_, microseconds(1), microseconds(200)),
                    [this, connection, &direction] {
                      direction.reads_later = false;
                      read(connection, direction, direction.arrived.size());
                    });
  }
  read(connection, direction, now);
}

void Network::read(const ConnectionPtr& connection, Direction& direction, size_t bytes) {
  if (bytes == 0) return;
  std::string piece = direction.arrived.substr(0, bytes);
  direction.arrived.erase(0, bytes);
  tell(direction.to, [this, connection, sink = direction.sink, piece = std::move(piece)](Peers& p) {
    std::string_view rest = piece;
    while (!rest.empty() && connection->stands && !sink->is_closed()) {
      const std::span<uint8_t> space = sink->read_space();
      const size_t length = std::min(space.size(), rest.size());
      std::memcpy(space.data(), rest.data(), length);
      rest.remove_prefix(length);
      p.received(sink, length, timeline_.now());
    }
  });
}

// ---- ending

// Closed by its own process: sent data still arrives, then the other side notices.
void Network::close(NodeId node, const ChannelPtr& channel) {
  auto at = connections_.find({node, channel->id()});
  if (at == connections_.end()) return;
  const ConnectionPtr connection = at->second;
  Direction& direction = connection->there.source == channel ? connection->there : connection->back;
  const bool quiet = is_cut(direction.from, direction.to);
  const Duration notice = quiet ? draw(random_, milliseconds(1), milliseconds(2000))
                                : draw(random_, knobs_.delay_low, milliseconds(5));
  timeline_.after(notice, [this, connection] { end(connection); });
  notice_end(direction, notice,
             [this, sink = direction.sink](Peers& p) { p.ended(sink, timeline_.now()); });
}

void Network::notice_end(const Direction& direction, Duration after,
                         std::function<void(Peers&)> action) {
  Time& until = path(direction.from, direction.to).unnoticed_until;
  until = std::max(until, timeline_.now() + after);
  timeline_.after(after,
                  [this, node = direction.to, action = std::move(action)] { tell(node, action); });
}

void Network::end(const ConnectionPtr& connection) {
  if (!std::exchange(connection->stands, false)) return;
  connections_.erase({connection->there.from, connection->there.source->id()});
  connections_.erase({connection->back.from, connection->back.source->id()});
}

// To the reader of this direction.
void Network::report_broken(const Direction& direction, Duration after, const char* why) {
  notice_end(direction, after, [this, sink = direction.sink, why](Peers& p) {
    p.broken(sink, why, timeline_.now());
  });
}

void Network::break_connection(NodeId a, NodeId b) {
  std::vector<ConnectionPtr> between;
  for (const auto& [at, connection] : connections_) {
    const bool is_between =
        std::minmax(connection->there.from, connection->there.to) == std::minmax(a, b);
    if (is_between && at.first == connection->there.from) between.push_back(connection);
  }
  for (const ConnectionPtr& connection : between) {
    end(connection);
    ++connections_broken_;
    // Each side notices by itself, a little later, or much later when the link is cut.
    for (Direction* direction : {&connection->there, &connection->back}) {
      const bool quiet = is_cut(a, b) || is_cut(b, a);
      const Duration notice = quiet ? draw(random_, milliseconds(1), milliseconds(2000))
                                    : draw(random_, microseconds(50), milliseconds(5));
      report_broken(*direction, notice, "Connection reset by peer");
    }
  }
}

void Network::went_down(NodeId node) {
  timers_[node.value() - 1] = Time::max();
  for (size_t other = 1; other <= nodes_; ++other) {
    if (NodeId(other) != node) break_connection(node, NodeId(other));
  }
}

// ---- cuts

void Network::cut(NodeId from, NodeId to, uint64_t episode, Fault why) {
  path(from, to).cuts.push_back({episode, why});
}

void Network::heal(uint64_t episode) {
  for (Path& p : paths_) {
    std::erase_if(p.cuts, [&](const Cut& cut) { return cut.episode == episode; });
  }
}

void Network::heal_between(NodeId from, NodeId to) {
  path(from, to).cuts.clear();
  path(from, to).clogged_until = Time{};
}

void Network::clog(NodeId from, NodeId to, Time until) {
  Path& p = path(from, to);
  ++counts_[Fault::kCloggedLink].injected;
  p.clogged_until = std::max(p.clogged_until, until);
  p.clog_has_bitten = false;
}

void Network::swallow(Path& p) {
  const Cut& cut = p.cuts.front();
  if (bitten_episodes_.insert(cut.episode).second) ++counts_[cut.why].bitten;
}

}  // namespace connectd::sim

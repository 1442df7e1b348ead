#include "transport/peers.h"

#include <fmt/format.h>

#include <algorithm>
#include <variant>

#include "base/log_event.h"
#include "transport/room.h"
#include "wire/peer_codec.h"

namespace connectd::transport {
namespace {

using std::chrono::milliseconds;
using Phase = Channel::Phase;

// A peer wrote it, and it goes to the log: one line of printable characters.
std::string printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return text;
}

// Where the dialler may be dialled, beside the addresses that are listed: at the port that it says,
// of the host that it comes from. At any address that it says, strangers could have this node dial
// anybody.
std::optional<Address> dialler_address(const wire::Hello& hello, const Channel& channel) {
  const auto said = parse_address(hello.peer_address);
  if (!said) return std::nullopt;
  return Address{channel.host(), said->port};
}

}  // namespace

// Whose lines count together.
uint64_t Peers::log_key(const Peer& peer) {
  return peer.addresses.empty() ? kStrangers : peer.id.value();
}

// ---- connections that come in

Peers::ChannelPtr Peers::accepted(std::string remote, Time now) {
  if (is_stopped_) return nullptr;
  if (const ChannelPtr slowest = in_excess(&Channel::is_shaking_hands)) {
    close(slowest);
    log_event(LogEvent::kPeerHandshakesFull,
              "connection closed to make room address={}: too many handshakes in progress max={}",
              slowest->remote(), kMaxPendingHandshakes);
  }
  auto channel = std::make_shared<Channel>(next_channel_++, NodeId(), std::move(remote));
  channel->set_phase(Phase::kMagic);
  channel->set_deadline(now + options_.handshake_timeout);
  loose_.emplace(channel->id(), channel);
  return channel;
}

void Peers::turn_away(const ChannelPtr& channel, const wire::Refusal& refusal, Time now) {
  loose_.erase(channel->id());
  refuse(channel, refusal, true, now);
}

void Peers::handshake_failed(const std::string& remote, const std::string& why) {
  log_event_of(LogEvent::kPeerTlsFailed, kStrangers, "TLS handshake failed address={}: {}", remote,
               printable(why));
}

void Peers::accept_failed(const std::string& why) {
  log_event(LogEvent::kPeerNotAccepted, "cannot accept a peer connection: {}", why);
}

// Which loose connection of a kind gives way to the next one; none: there is room.
Peers::ChannelPtr Peers::in_excess(bool (Channel::*is_of_kind)() const) const {
  std::vector<ChannelPtr> kind;
  for (const auto& [id, channel] : loose_) {
    if ((*channel.*is_of_kind)()) kind.push_back(channel);
  }
  if (kind.size() < kMaxPendingHandshakes) return nullptr;
  return first_to_close(kind, member_hosts());
}

// Where members are dialled, and were reached.
std::set<std::string> Peers::member_hosts() const {
  std::set<std::string> hosts;
  for (const auto& [id, peer] : peers_) {
    if (peer->addresses.empty()) continue;
    for (const Address& address : peer->addresses) hosts.insert(address.host);
    if (!peer->reached_host.empty()) hosts.insert(peer->reached_host);
  }
  return hosts;
}

// ---- the handshake

wire::Hello Peers::hello_to(NodeId peer) const {
  wire::Hello hello = hooks_.hello();
  hello.node_id = options_.self;
  hello.to = peer;
  hello.protocol_max = std::min(hello.protocol_max, options_.protocol_max);
  return hello;
}

std::optional<wire::Refusal> Peers::judge(const wire::Hello& mine,
                                          const wire::Hello& theirs) const {
  auto refusal = wire::check_hello(mine, theirs);
  if (!refusal) refusal = hooks_.check(theirs);
  return refusal;
}

// The connection is nobody's from here on: it closes when the refusal is written.
void Peers::refuse(const ChannelPtr& channel, const wire::Refusal& refusal, bool says_magic,
                   Time now) {
  // Each kind of refusal has its lines.
  log_event_of(LogEvent::kPeerRejected, static_cast<uint64_t>(refusal.code),
               "connection rejected address={}: {}{}", channel->remote(), printable(refusal.text),
               refusal.own);
  if (const ChannelPtr oldest = in_excess(&Channel::is_closing)) close(oldest);
  if (says_magic) channel->output().append(wire::kPeerMagic);
  wire::append_refusal(channel->output(), refusal);
  channel->set_phase(Phase::kClosing);
  channel->set_deadline(now + options_.handshake_timeout);
  loose_.emplace(channel->id(), channel);
  work_.write.push_back(channel);
}

void Peers::on_handshake(const ChannelPtr& channel, const wire::Handshake& handshake, Time now) {
  if (const auto* refusal = std::get_if<wire::Refusal>(&handshake)) {
    return on_refusal(channel, *refusal, now);
  }
  if (const auto* probe = std::get_if<wire::Probe>(&handshake)) {
    return on_probe(channel, *probe, now);
  }
  const auto& hello = std::get<wire::Hello>(handshake);
  if (const PeerPtr replaced = find_replaced(channel)) {
    answered_replacement(replaced, hello, now);
  } else if (PeerPtr peer = find_out(channel)) {
    answered(peer, hello, now);
  } else {
    welcome(channel, hello, now);
  }
}

// The answer to our dialling, or the dialler's second thought about our answer.
void Peers::on_refusal(const ChannelPtr& channel, const wire::Refusal& refusal, Time now) {
  if (const PeerPtr replaced = find_replaced(channel); replaced && replaced->next_out == channel) {
    return replacement_failed(*replaced, "refused: " + printable(refusal.text), now);
  }
  const PeerPtr out = find_out(channel);
  const PeerPtr peer = out ? out : find_in(channel);
  if (!peer) return broken(channel, "a refusal instead of a hello", now);
  wire::Refusal copy{refusal.code, printable(refusal.text)};
  log_event_of(LogEvent::kPeerRefused, log_key(*peer), "refused by node={} address={}: {}",
               peer->id, channel->remote(), copy.text);
  if (out) {
    out->was_tried = true;
    drop_out(*out);
    dial_later(*out, options_.reconnect_max, now);
  } else {
    drop_in(*peer);
  }
  tell_lost(peer);
  forget_if_unlisted(peer);
  if (!is_stopped_) hooks_.on_refused(peer->id, copy, channel->hello_at());
}

// A peer that dialled us says hello.
void Peers::welcome(const ChannelPtr& channel, const wire::Hello& hello, Time now) {
  loose_.erase(channel->id());
  wire::Hello mine = hello_to(hello.node_id);
  PeerPtr peer = find(hello.node_id);
  auto refusal = judge(mine, hello);
  if (!refusal && channel->certified() && channel->certified() != hello.node_id) {
    refusal = wire::Refusal{
        wire::RefusalCode::kTls,
        fmt::format("node {} dialled node {} with the certificate of node {}: check tls.peer.cert "
                    "of the node that dials",
                    hello.node_id, options_.self, channel->certified())};
  }
  if (refusal) {
    refuse(channel, *refusal, true, now);
    if (peer) forget_if_unlisted(peer);
    return;
  }
  if (!peer) {
    make_room_for_stranger(now);
    if (is_stopped_) return close(channel);
    peer = peers_.emplace(hello.node_id, std::make_shared<Peer>(hello.node_id)).first->second;
  }
  if (has_other_process(*peer, hello)) return hold(peer, channel, hello, now);
  if (is_standing(*peer, hello)) refuse_newcomer(peer, channel, now);
  if (park_replacement(*peer, channel, mine, hello, now)) return;
  if (peer->in) {
    // The peer has restarted, or lost the connection before we did.
    drop_in(*peer);
    tell_lost(peer);
    // The handler may have taken the peer off the list, or stopped us.
    if (is_stopped_ || find(hello.node_id) != peer) return close(channel);
  }
  if (peer->is_out_up && peer->out_hello.disk_id != hello.disk_id) {
    // Two processes with one id, before and after a replacement. What is heard and what is sent
    // must be of one of them.
    drop_out(*peer);
    tell_lost(peer);
    if (is_stopped_ || find(hello.node_id) != peer) return close(channel);
  }
  channel->set_peer(peer->id);
  peer->in = channel;
  peer->in_hello = hello;
  peer->hint = dialler_address(hello, *channel);
  channel->output().append(wire::kPeerMagic);
  wire::append_hello(channel->output(), mine);
  channel->set_hello_at(now);
  channel->set_phase(Phase::kMessages);
  channel->set_frame_version(wire::common_version(mine, hello));
  channel->set_deadline(Time::max());
  work_.write.push_back(channel);
  log_event_of(LogEvent::kPeerAccepted, log_key(*peer), "peer connected node={} address={}",
               peer->id, channel->remote());
  if (peer->is_out_up) {
    tell_reached(peer);
  } else if (!peer->out) {
    peer->back_off = milliseconds(0);  // it lives: no need to wait
    dial(*peer, now);
  }
}

// A peer that we dialled answers.
void Peers::answered(const PeerPtr& peer, const wire::Hello& hello, Time now) {
  const ChannelPtr channel = peer->out;
  peer->was_tried = true;
  const wire::Hello mine = hello_to(peer->id);
  std::optional<wire::Refusal> refusal;
  if (hello.node_id != peer->id) {
    refusal = wire::Refusal{
        wire::RefusalCode::kWrongNode,
        fmt::format("node {} dialled node {} at {}, but node {} answered: check the members' "
                    "peer addresses",
                    options_.self, peer->id, channel->remote(), hello.node_id)};
  } else {
    refusal = judge(mine, hello);
  }
  if (refusal) {
    peer->out = nullptr;
    refuse(channel, *refusal, false, now);
    return dial_later(*peer, options_.reconnect_max, now);
  }
  if (has_other_process(*peer, hello)) return hold(peer, channel, hello, now);
  if (is_standing(*peer, hello)) refuse_newcomer(peer, channel, now);
  if (peer->in && peer->in_hello.disk_id != hello.disk_id) drop_in(*peer);
  channel->set_phase(Phase::kRefusalOnly);
  channel->set_frame_version(wire::common_version(mine, hello));
  channel->set_deadline(Time::max());
  peer->is_out_up = true;
  peer->reached_host = channel->host();
  peer->up_since = now;
  peer->out_hello = hello;
  if (should_replace(*peer)) replace_later(*peer, now);
  log_event_of(LogEvent::kPeerConnected, log_key(*peer), "connected node={} address={}", peer->id,
               channel->remote());
  tell_reached(peer);
}

// ---- two processes of one node

// Whether a connection to another process of this node stands that can be probed. Builds without
// incarnations cannot be: then the newest connection counts. A hello without one is of an old build
// that came after that process, or of somebody who would avoid the probe. So may be one with
// another disk, unless the disk that stands was given up.
bool Peers::has_other_process(const Peer& peer, const wire::Hello& hello) const {
  const auto differs = [&](const wire::Hello& stands) {
    if (stands.incarnation == 0 || stands.incarnation == hello.incarnation) return false;
    return stands.disk_id == hello.disk_id || !hooks_.check(stands);
  };
  return (peer.in && differs(peer.in_hello)) || (peer.is_out_up && differs(peer.out_hello));
}

// Whether the hello is of the process that stands while another one waits: it lives.
bool Peers::is_standing(const Peer& peer, const wire::Hello& hello) {
  return peer.newcomer && (peer.in || peer.is_out_up) && hello.incarnation != 0 &&
         hello.incarnation != peer.newcomer->hello.incarnation;
}

void Peers::hold(const PeerPtr& peer, const ChannelPtr& channel, const wire::Hello& hello,
                 Time now) {
  const bool is_probing = peer->newcomer.has_value();
  if (is_probing) {
    // It has dialled again, or there is a third one: the newest is kept.
    const uint64_t probe = peer->newcomer->probe;
    const Time until = peer->newcomer->until;
    drop_newcomer(*peer, now);
    peer->newcomer = Newcomer{channel, hello, probe, until};
  } else {
    peer->newcomer = Newcomer{channel, hello, 0, Time()};
    send_probe(*peer, now);
  }
  channel->set_phase(Phase::kHeld);
  channel->set_deadline(Time::max());
  if (peer->out != channel) {
    channel->set_peer(peer->id);
    loose_.emplace(channel->id(), channel);
  }
}

void Peers::send_probe(Peer& peer, Time now) {
  peer.newcomer->probe = next_probe_++;
  peer.newcomer->until = now + options_.probe_timeout;
  const wire::Probe probe{false, peer.newcomer->probe};
  if (peer.in) {
    wire::append_probe(peer.in->output(), probe);
    work_.write.push_back(peer.in);
  }
  if (peer.is_out_up) {
    wire::append_probe(peer.out->output(), probe);
    write_out(peer);
  }
}

void Peers::on_probe(const ChannelPtr& channel, const wire::Probe& probe, Time now) {
  const PeerPtr out = find_out(channel);
  const PeerPtr peer = out ? out : find_in(channel);
  if (!peer) return;
  if (!probe.is_answer) {
    // Behind the messages of a connection that we dialled; else there is nothing but answers.
    const size_t most = out ? options_.output_bytes_max : kMaxUnreadAnswers;
    if (channel->unsent().size() > most) return broken(channel, "it does not read answers", now);
    wire::append_probe(channel->output(), {true, probe.number});
    if (out) {
      write_out(*peer);
    } else {
      work_.write.push_back(channel);
    }
  } else if (peer->newcomer && peer->newcomer->probe == probe.number) {
    refuse_newcomer(peer, channel, now);
  }
}

wire::Refusal Peers::twin_refusal(const Peer& peer, const Channel& stands, const Channel& other) {
  return {wire::RefusalCode::kTwin,
          fmt::format("two processes say that they are node {}, with the same disk: one is "
                      "connected from {} and answers, so the other one, at {}, is refused. Is one "
                      "a copy of the other's machine or data directory? Stop it: a copy of a node "
                      "loses acknowledged writes. A new node needs another id and an empty data "
                      "directory",
                      peer.id, stands.remote(), other.remote())};
}

// This node may not have heard yet that the disk of the first one was given up: nobody ends.
wire::Refusal Peers::disk_refusal(const Peer& peer, const Channel& stands, const Channel& other) {
  return {wire::RefusalCode::kRunsElsewhere,
          fmt::format("two processes say that they are node {}, with different disks: one is "
                      "connected from {} and answers, so the other one, at {}, is refused until "
                      "that one stops",
                      peer.id, stands.remote(), other.remote())};
}

// The first process lives.
void Peers::refuse_newcomer(const PeerPtr& peer, const ChannelPtr& stands, Time now) {
  const Newcomer newcomer = *std::exchange(peer->newcomer, std::nullopt);
  if (newcomer.channel->is_closed()) return;
  const bool is_copy =
      (peer->in == stands ? peer->in_hello : peer->out_hello).disk_id == newcomer.hello.disk_id;
  const wire::Refusal refusal = is_copy ? twin_refusal(*peer, *stands, *newcomer.channel)
                                        : disk_refusal(*peer, *stands, *newcomer.channel);
  const bool was_dialled = peer->out == newcomer.channel;
  loose_.erase(newcomer.channel->id());
  if (was_dialled) peer->out = nullptr;
  refuse(newcomer.channel, refusal, !was_dialled, now);
  if (was_dialled) dial_later(*peer, options_.reconnect_max, now);
}

// The first process has not answered, or its connections are gone.
void Peers::admit_newcomer(const PeerPtr& peer, Time now) {
  const Newcomer newcomer = *std::exchange(peer->newcomer, std::nullopt);
  loose_.erase(newcomer.channel->id());
  if (peer->in && peer->in_hello.incarnation != newcomer.hello.incarnation) drop_in(*peer);
  if (peer->out != newcomer.channel && peer->is_out_up &&
      peer->out_hello.incarnation != newcomer.hello.incarnation) {
    drop_out(*peer);
    peer->back_off = milliseconds(0);
    dial_later(*peer, milliseconds(0), now);
  }
  tell_lost(peer);
  if (is_stopped_) return;
  if (newcomer.channel->is_closed()) return forget_if_unlisted(peer);
  if (peer->out == newcomer.channel) {
    if (find(peer->id) == peer) answered(peer, newcomer.hello, now);
  } else {
    welcome(newcomer.channel, newcomer.hello, now);
  }
}

void Peers::settle_newcomer(const PeerPtr& peer, Time now) {
  if (is_stopped_ || !peer->newcomer) return;
  if (!has_other_process(*peer, peer->newcomer->hello)) admit_newcomer(peer, now);
}

// There was no answer in time. After a pause of this process it may still wait to be read.
void Peers::end_probe(const PeerPtr& peer, Time now) {
  if (is_stopped_ || !peer->newcomer) return;
  if (now > peer->newcomer->until + options_.probe_timeout / 2) return send_probe(*peer, now);
  log_event_of(LogEvent::kPeerReplaced, log_key(*peer),
               "connection replaced node={} address={}: another process has this node id, and the "
               "one before does not answer",
               peer->id, peer->newcomer->channel->remote());
  admit_newcomer(peer, now);
}

void Peers::drop_newcomer(Peer& peer, Time now) {
  if (!peer.newcomer) return;
  const Newcomer newcomer = *std::exchange(peer.newcomer, std::nullopt);
  if (peer.out == newcomer.channel) {
    drop_out(peer);
    dial_later(peer, options_.reconnect_max, now);
  } else {
    close(newcomer.channel);
  }
}

void Peers::recheck_peers(Time now) {
  std::vector<PeerPtr> all;
  for (const auto& [id, peer] : peers_) all.push_back(peer);
  for (const PeerPtr& peer : all) {
    // The handler may take peers off the list, or stop us.
    if (is_stopped_ || find(peer->id) != peer) continue;
    if (peer->is_out_up) {
      drop_refused(peer, now);
    } else if (peer->in) {
      // Who has dialled us and has not been reached is judged when it dials again.
      drop_in(*peer);
      forget_if_unlisted(peer);
    }
  }
}

// Disconnects the peer if its last hello would be refused now.
void Peers::drop_refused(const PeerPtr& peer, Time now) {
  if (!peer->is_out_up || !judge(hello_to(peer->id), peer->out_hello)) return;
  drop_in(*peer);
  drop_out(*peer);
  dial_later(*peer, options_.reconnect_max, now);
  tell_lost(peer);
  forget_if_unlisted(peer);
}

// ---- replacing a connection

void Peers::set_tls(bool dials_tls, bool takes_plain, bool takes_tls, Time now) {
  dials_tls_ = dials_tls;
  std::vector<PeerPtr> all;
  for (const auto& [id, peer] : peers_) all.push_back(peer);
  for (const PeerPtr& peer : all) {
    if (is_stopped_ || find(peer->id) != peer) continue;
    if (should_replace(*peer)) replace_later(*peer, now);
    if (!peer->in) continue;
    if (!(peer->in->certified() ? takes_tls : takes_plain)) {
      broken(peer->in, "this node does not take it any longer (tls.peer.mode)", now);
    }
  }
}

bool Peers::should_replace(const Peer& peer) const {
  return peer.is_out_up && static_cast<bool>(peer.out->certified()) != dials_tls_;
}

void Peers::replace_later(Peer& peer, Time at) {
  if (!peer.next_out && !peer.last_out) peer.replace_at = at;
}

void Peers::dial_replacement(Peer& peer, Time now) {
  peer.replace_at = Time::max();
  if (!should_replace(peer) || peer.newcomer || !peer.break_reason.empty()) return;
  peer.next_out = std::make_shared<Channel>(next_channel_++, peer.id, peer.dialled.to_string());
  peer.next_out->set_deadline(now + options_.handshake_timeout);
  work_.dial.push_back({peer.next_out, peer.dialled});
}

// The connection that stands goes on.
void Peers::replacement_failed(Peer& peer, const std::string& why, Time now) {
  close(std::exchange(peer.next_out, nullptr));
  peer.replace_at = now + kReplaceAgain;
  log_event_of(LogEvent::kPeerNotReplaced, log_key(peer),
               "the connection stays {} node={} address={}: its replacement failed: {}; retrying",
               peer.out->certified() ? "inside TLS" : "plain", peer.id, peer.dialled.to_string(),
               why);
}

// What is sent from now on waits until the peer has read all that was sent before.
void Peers::answered_replacement(const PeerPtr& peer, const wire::Hello& hello, Time now) {
  const wire::Hello mine = hello_to(peer->id);
  if (auto refusal = judge(mine, hello)) return replacement_failed(*peer, refusal->text, now);
  if (hello.node_id != peer->id || hello.incarnation != peer->out_hello.incarnation) {
    return replacement_failed(*peer, "another process answers", now);
  }
  peer->last_out = std::exchange(peer->out, std::exchange(peer->next_out, nullptr));
  peer->last_out->set_phase(Phase::kClosing);
  peer->last_out->set_deadline(now + options_.handshake_timeout);
  work_.write.push_back(peer->last_out);
  peer->out->set_phase(Phase::kRefusalOnly);
  peer->out->set_frame_version(wire::common_version(mine, hello));
  peer->out->set_deadline(Time::max());
  peer->out_hello = hello;
  log_event_of(LogEvent::kPeerSwitched, log_key(*peer),
               "connection replaced node={} address={}: it is {}", peer->id, peer->out->remote(),
               peer->out->certified() ? "inside TLS" : "plain");
}

// Answers a hello that replaces `in`; its messages come when that has ended. False: it is the hello
// of a new connection.
bool Peers::park_replacement(Peer& peer, const ChannelPtr& channel, const wire::Hello& mine,
                             const wire::Hello& hello, Time now) {
  if (!hello.replaces || hello.incarnation == 0 || !peer.in || peer.newcomer ||
      peer.in_hello.incarnation != hello.incarnation || peer.in_hello.disk_id != hello.disk_id) {
    return false;
  }
  if (peer.next_in) close(peer.next_in);
  channel->set_peer(peer.id);
  channel->output().append(wire::kPeerMagic);
  wire::append_hello(channel->output(), mine);
  channel->set_hello_at(now);
  channel->set_phase(Phase::kHeld);
  channel->set_frame_version(wire::common_version(mine, hello));
  channel->set_deadline(now + options_.handshake_timeout);
  work_.write.push_back(channel);
  peer.next_in = channel;
  peer.next_in_hello = hello;
  return true;
}

// The connection that the peer dialled before has ended, behind its last message.
void Peers::take_replacement(Peer& peer) {
  close(peer.in);
  peer.in = std::exchange(peer.next_in, nullptr);
  peer.in_hello = std::exchange(peer.next_in_hello, {});
  peer.hint = dialler_address(peer.in_hello, *peer.in);
  peer.in->set_phase(Phase::kMessages);
  peer.in->set_deadline(Time::max());
}

// ---- dialling

void Peers::set_peers(const std::map<NodeId, std::vector<Address>>& peers, Time now) {
  std::vector<NodeId> gone;
  for (const auto& [id, peer] : peers_) {
    if (!peer->addresses.empty() && !peers.contains(id)) gone.push_back(id);
  }
  for (NodeId id : gone) {
    auto node = peers_.extract(id);
    if (node.empty()) continue;  // the handler, told of the one before, has called this again
    const PeerPtr peer = node.mapped();
    drop_newcomer(*peer, now);
    drop_out(*peer);
    drop_in(*peer);
    tell_lost(peer);
  }
  std::vector<PeerPtr> listed;
  for (const auto& [id, addresses] : peers) {
    CHECK(id != options_.self) << "a node is not its own peer";
    auto& peer = peers_[id];
    if (!peer) peer = std::make_shared<Peer>(id);
    listed.push_back(peer);
    if (peer->addresses == addresses) continue;
    peer->addresses = addresses;
    peer->next_address = 0;
    if (!peer->out) dial(*peer, now);
  }
  for (const PeerPtr& peer : listed) {
    if (!is_stopped_ && find(peer->id) == peer) drop_refused(peer, now);
  }
}

void Peers::dial(Peer& peer, Time now) {
  std::vector<Address> addresses = peer.addresses;
  if (peer.hint && std::ranges::find(addresses, *peer.hint) == addresses.end()) {
    addresses.push_back(*peer.hint);
  }
  peer.redial_at = Time::max();
  if (is_stopped_ || addresses.empty()) return;
  if (peer.addresses.empty()) {
    // At random, so that none of many keeps another from its turn.
    if (now < next_stranger_dial_) {
      const auto gap = static_cast<uint64_t>(kStrangerDialGap.count());
      peer.redial_at = now + milliseconds(random_.between(gap, kMaxStrangers * gap));
      return;
    }
    next_stranger_dial_ = now + kStrangerDialGap;
  }
  CHECK(!peer.out) << "one connection to a peer at a time";
  peer.dialled = addresses[peer.next_address++ % addresses.size()];
  peer.out = std::make_shared<Channel>(next_channel_++, peer.id, peer.dialled.to_string());
  peer.out->set_deadline(now + options_.handshake_timeout);
  work_.dial.push_back({peer.out, peer.dialled});
}

void Peers::connected(const ChannelPtr& channel, std::string remote, Time now) {
  const PeerPtr replaced = find_replaced(channel);
  const PeerPtr peer = replaced ? replaced : find_out(channel);
  if (!peer || channel->phase() != Phase::kDialling) return;
  channel->set_remote(std::move(remote));
  channel->set_phase(Phase::kMagic);
  channel->set_deadline(now + options_.handshake_timeout);
  channel->output().append(wire::kPeerMagic);
  wire::Hello mine = hello_to(peer->id);
  mine.replaces = replaced != nullptr;
  wire::append_hello(channel->output(), mine);
  channel->set_hello_at(now);
  work_.write.push_back(channel);
}

void Peers::dial_failed(const ChannelPtr& channel, const std::string& why, Time now) {
  if (const PeerPtr replaced = find_replaced(channel)) {
    return replacement_failed(*replaced, why, now);
  }
  const PeerPtr peer = find_out(channel);
  if (!peer) return;
  log_event_of(LogEvent::kPeerUnreachable, log_key(*peer),
               "peer unreachable node={} address={}: {}; retrying", peer->id,
               peer->dialled.to_string(), why);
  peer->was_tried = true;
  drop_out(*peer);
  dial_later(*peer, milliseconds(0), now);
}

void Peers::dial_later(Peer& peer, milliseconds least, Time now) {
  if (is_stopped_ || peer.redial_at != Time::max()) return;
  peer.back_off = std::clamp(std::max(peer.back_off * 2, least), options_.reconnect_min,
                             options_.reconnect_max);
  // Between a half and the whole: peers that broke together do not come back together.
  auto whole = static_cast<uint64_t>(peer.back_off.count());
  peer.redial_at = now + milliseconds(random_.between((whole + 1) / 2, whole));
}

// ---- time

Time Peers::next_deadline() const {
  Time next = Time::max();
  for (const auto& [id, channel] : loose_) next = std::min(next, channel->deadline());
  for (const auto& [id, peer] : peers_) {
    if (!peer->break_reason.empty()) return Time();
    next = std::min({next, peer->redial_at, peer->replace_at});
    for (const ChannelPtr& channel : {peer->next_out, peer->last_out, peer->next_in}) {
      if (channel) next = std::min(next, channel->deadline());
    }
    if (peer->out) next = std::min(next, peer->out->deadline());
    if (peer->newcomer) next = std::min(next, peer->newcomer->until);
    if (peer->in) next = std::min(next, peer->in->deadline());
  }
  return next;
}

void Peers::advance(Time now) {
  if (now < next_deadline()) return;
  std::vector<ChannelPtr> late;
  std::vector<PeerPtr> probed;
  std::vector<ChannelPtr> failed;
  for (const auto& [id, channel] : loose_) {
    if (channel->deadline() <= now) late.push_back(channel);
  }
  for (const auto& [id, peer] : peers_) {
    if (!peer->break_reason.empty()) {
      failed.push_back(peer->out);
    } else if (peer->out && peer->out->deadline() <= now) {
      late.push_back(peer->out);
    }
    if (peer->in && peer->in->deadline() <= now) late.push_back(peer->in);
    for (const ChannelPtr& channel : {peer->next_out, peer->last_out, peer->next_in}) {
      if (channel && channel->deadline() <= now) late.push_back(channel);
    }
    if (peer->redial_at <= now && !peer->out) dial(*peer, now);
    if (peer->replace_at <= now) dial_replacement(*peer, now);
    if (peer->newcomer && peer->newcomer->until <= now) probed.push_back(peer);
  }
  for (const ChannelPtr& channel : failed) {
    // Whoever is told of one loss may take another peer away.
    if (PeerPtr peer = find_out(channel)) broken(channel, std::string(peer->break_reason), now);
  }
  for (const ChannelPtr& channel : late) {
    if (channel->phase() == Phase::kDialling) {
      dial_failed(channel, "no answer in time", now);
    } else if (channel->has_partial_message()) {
      broken(channel, "a message was begun, and the rest of it did not come in time", now);
    } else {
      broken(channel, "no handshake in time", now);
    }
  }
  for (const PeerPtr& peer : probed) end_probe(peer, now);
}

// ---- up and down

void Peers::tell_reached(const PeerPtr& peer) {
  if (peer->is_reached || is_stopped_) return;
  peer->is_reached = true;
  peer->counters.times_reached++;
  handler_.on_peer_reached(peer->id, peer->out_hello);
}

void Peers::tell_lost(const PeerPtr& peer) {
  if (!peer->is_reached || is_stopped_) return;
  peer->is_reached = false;
  peer->counters.times_lost++;
  handler_.on_peer_lost(peer->id);
}

void Peers::close(const ChannelPtr& channel) {
  loose_.erase(channel->id());
  if (channel->is_closed()) return;
  channel->set_phase(Phase::kClosed);
  channel->set_deadline(Time::max());
  work_.close.push_back(channel);
}

void Peers::drop_out(Peer& peer) {
  for (ChannelPtr* channel : {&peer.out, &peer.next_out, &peer.last_out}) {
    if (*channel) close(std::exchange(*channel, nullptr));
  }
  peer.replace_at = Time::max();
  peer.is_out_up = peer.needs_flush = false;
  peer.break_reason.clear();
}

void Peers::drop_in(Peer& peer) {
  if (peer.in) close(std::exchange(peer.in, nullptr));
  if (peer.next_in) close(std::exchange(peer.next_in, nullptr));
  peer.hint.reset();
}

void Peers::forget_if_unlisted(const PeerPtr& peer) {
  if (is_stopped_ || !peer->addresses.empty() || peer->in || find(peer->id) != peer) return;
  drop_out(*peer);
  if (peer->newcomer) close(std::exchange(peer->newcomer, std::nullopt)->channel);
  peers_.erase(peer->id);
}

void Peers::make_room_for_stranger(Time now) {
  std::vector<ChannelPtr> strangers;
  for (const auto& [id, peer] : peers_) {
    if (peer->addresses.empty() && peer->in) strangers.push_back(peer->in);
  }
  if (strangers.size() < kMaxStrangers) return;
  const ChannelPtr first = first_to_close(strangers, member_hosts());
  drop_newcomer(*find_in(first), now);
  broken(first, "another node that is not listed takes its place", now);
}

void Peers::bound_strangers_bytes(Time now) {
  size_t bytes = 0;
  ChannelPtr most;
  for (const auto& [id, peer] : peers_) {
    if (!peer->addresses.empty() || !peer->in) continue;
    bytes += peer->in->partial_bytes();
    if (!most || peer->in->partial_bytes() > most->partial_bytes()) most = peer->in;
  }
  if (bytes > kMaxStrangersBytes) {
    broken(most, "nodes that are not listed have begun too many large messages", now);
  }
}

void Peers::ended(const ChannelPtr& channel, Time now) {
  if (const PeerPtr peer = find_replaced(channel); peer && peer->last_out == channel) {
    close(std::exchange(peer->last_out, nullptr));
    write_out(*peer);
    return;
  }
  if (const PeerPtr peer = find_in(channel);
      peer && peer->next_in && !channel->has_partial_message()) {
    return take_replacement(*peer);
  }
  broken(channel, "closed by the peer", now);
}

void Peers::broken(const ChannelPtr& channel, const std::string& why, Time now) {
  if (channel->is_closed()) return;
  if (loose_.contains(channel->id())) {
    const bool was_closing = channel->is_closing();
    close(channel);
    if (!was_closing) {
      log_event(LogEvent::kPeerHandshakeBroken,
                "connection closed before the handshake address={}: {}", channel->remote(), why);
    }
    return;
  }
  if (const PeerPtr peer = find_replaced(channel)) {
    if (peer->next_out == channel) return replacement_failed(*peer, why, now);
    if (peer->next_in == channel) return close(std::exchange(peer->next_in, nullptr));
    // The peer may not have read all of it: there would be a gap.
    return broken(peer->out, why, now);
  }
  if (PeerPtr peer = find_out(channel)) {
    peer->was_tried = true;
    // A connection that breaks as soon as it is established is neither a reason to hurry nor news.
    // Nor is one that this side breaks: the same message may break the next one.
    if (peer->is_out_up && peer->break_reason.empty() &&
        now - peer->up_since >= options_.reconnect_max) {
      peer->back_off = milliseconds(0);
    }
    log_event_of(LogEvent::kPeerLost, log_key(*peer),
                 "lost the connection node={} address={} opened_by=this: {}", peer->id,
                 channel->remote(), why);
    drop_out(*peer);
    dial_later(*peer, milliseconds(0), now);
    tell_lost(peer);
    return settle_newcomer(peer, now);
  }
  if (PeerPtr peer = find_in(channel)) {
    log_event_of(LogEvent::kPeerLost, log_key(*peer),
                 "lost the connection node={} address={} opened_by=peer: {}", peer->id,
                 channel->remote(), why);
    drop_in(*peer);
    tell_lost(peer);
    settle_newcomer(peer, now);
    forget_if_unlisted(peer);
  }
}

// ---- messages

void Peers::received(const ChannelPtr& channel, size_t bytes, Time now) {
  channel->received(bytes);
  while (!channel->is_closed()) {
    Channel::Input input = channel->next();
    if (auto* message = std::get_if<Channel::Message>(&input)) {
      on_message(channel, std::move(*message), now);
    } else if (const auto* handshake = std::get_if<wire::Handshake>(&input)) {
      on_handshake(channel, *handshake, now);
    } else if (const auto* failed = std::get_if<Channel::Broken>(&input)) {
      broken(channel, failed->why, now);
    } else {
      channel->expect_rest(now);
      break;
    }
  }
  if (channel->partial_bytes() > kBlockBytes) bound_strangers_bytes(now);
}

void Peers::on_message(const ChannelPtr& channel, Channel::Message input, Time now) {
  const auto at = peers_.find(channel->peer());
  if (at == peers_.end() || at->second->in != channel) return;
  const PeerPtr peer = at->second;
  if (const auto* envelope = std::get_if<raft::Envelope>(&input.message);
      envelope != nullptr && (envelope->from != peer->id || envelope->to != options_.self)) {
    return broken(
        channel,
        fmt::format("invalid message, from node {} to node {}", envelope->from, envelope->to), now);
  }
  peer->counters.messages_received++;
  peer->counters.bytes_received += input.frame_bytes;
  const std::string fault = handler_.on_message(peer->in_hello, std::move(input.message));
  if (!fault.empty()) broken(channel, fault, now);
}

void Peers::send(NodeId to, wire::PeerMessage message) {
  const auto at = peers_.find(to);
  if (at == peers_.end() || is_stopped_) return;
  Peer& peer = *at->second;
  if (!peer.is_out_up || !peer.break_reason.empty()) {
    peer.counters.messages_dropped++;
    return;
  }
  std::string& output = peer.out->output();
  size_t before = output.size();
  // Without a broken connection the peer would see a gap. It breaks at the next advance(): the
  // handler is never told from inside send().
  if (!wire::append_frame(output, message, peer.out->frame_version())) {
    peer.counters.messages_dropped++;
    peer.break_reason = fmt::format("a message is larger than {} bytes", wire::kMaxFrameBytes);
    return;
  }
  if (peer.out->unsent().size() > options_.output_bytes_max) {
    peer.counters.messages_dropped++;
    peer.break_reason = fmt::format("the peer is too slow: more than {} bytes are queued",
                                    options_.output_bytes_max);
    return;
  }
  peer.counters.messages_sent++;
  peer.counters.bytes_sent += output.size() - before;
  peer.needs_flush = true;
}

void Peers::flush() {
  for (auto& [id, peer] : peers_) {
    if (std::exchange(peer->needs_flush, false)) write_out(*peer);
  }
}

// Unless the peer still reads what was sent on the connection before.
void Peers::write_out(Peer& peer) {
  if (!peer.last_out) work_.write.push_back(peer.out);
}

// ---- the rest

Peers::PeerPtr Peers::find(NodeId id) const {
  auto it = peers_.find(id);
  return it == peers_.end() ? nullptr : it->second;
}

Peers::PeerPtr Peers::find_out(const ChannelPtr& channel) const {
  PeerPtr peer = find(channel->peer());
  return peer && peer->out == channel ? peer : nullptr;
}

Peers::PeerPtr Peers::find_in(const ChannelPtr& channel) const {
  PeerPtr peer = find(channel->peer());
  return peer && peer->in == channel ? peer : nullptr;
}

Peers::PeerPtr Peers::find_replaced(const ChannelPtr& channel) const {
  PeerPtr peer = find(channel->peer());
  const bool is_its =
      peer && (peer->next_out == channel || peer->last_out == channel || peer->next_in == channel);
  return is_its ? peer : nullptr;
}

void Peers::stop() {
  if (std::exchange(is_stopped_, true)) return;
  while (!loose_.empty()) close(ChannelPtr(loose_.begin()->second));
  for (auto& [id, peer] : peers_) {
    drop_out(*peer);
    drop_in(*peer);
    peer->redial_at = Time::max();
  }
}

bool Peers::has_tried_all() const {
  return std::ranges::all_of(peers_, [](const auto& peer) {
    return peer.second->addresses.empty() || peer.second->was_tried;
  });
}

std::vector<NodeId> Peers::plain_peers() const {
  std::vector<NodeId> plain;
  for (const auto& [id, peer] : peers_) {
    const bool is_out_plain = peer->is_out_up && !peer->out->certified();
    if (is_out_plain || (peer->in && !peer->in->certified())) plain.push_back(id);
  }
  return plain;
}

std::map<NodeId, PeerCounters> Peers::counters() const {
  std::map<NodeId, PeerCounters> out;
  for (const auto& [id, peer] : peers_) out.emplace(id, peer->counters);
  return out;
}

}  // namespace connectd::transport

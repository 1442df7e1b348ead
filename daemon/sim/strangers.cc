// Bytes that changed on their way; messages that must have no effect and are refused by name: those
// of a node that is no member, and of a liar that says that it knows later members; and bytes that
// are no protocol of the port that gets them.
#include <algorithm>
#include <cstring>

#include "base/limits.h"
#include "raft/term_limits.h"
#include "sim/describe.h"
#include "sim/simulation_impl.h"
#include "wire/peer_codec.h"

namespace connectd::sim {

using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

// A connection that says no hello is closed by then: the handshake's time, the refusal's, and a
// slow turn.
constexpr Duration kNoHello = seconds(7);

const NodeId kStrangerId(0x7001);

raft::Entry invented(Index index, Term term, Random& random) {
  raft::Entry entry;
  entry.index = index;
  entry.term = term;
  entry.kind = random.chance(50) ? raft::EntryKind::kCommand : raft::EntryKind::kNoop;
  entry.session = SessionId(random.below(index.value() + 1));
  entry.sequence = Sequence(random.below(20));
  entry.payload = Slice::copy_of("of a stranger");
  entry.checksum = raft::entry_checksum(entry);
  return entry;
}

raft::Message raft_message(const raft::Core& core, Term term, Random& random) {
  const Index last = core.last_index();
  const Index any = Index(random.below(last.value() + 2));
  switch (random.below(9)) {
    case 0:
      return raft::Heartbeat{any, random.below(1000)};
    case 1:
      return raft::VoteRequest{last + random.below(3), term, random.chance(50)};
    case 2:
      return raft::PreVoteRequest{last + random.below(3), term};
    case 3:
      return raft::VoteResponse{true, 0};
    case 4:
      return raft::PreVoteResponse{true};
    case 5: {
      raft::AppendResponse response;
      response.success = random.chance(80);
      response.index = response.hint_index = any;
      response.round = random.below(1000);
      return response;
    }
    case 6:
      return raft::HeartbeatResponse{random.below(1000), 0};
    case 7:
      return raft::TimeoutNow{};
    default: {
      raft::AppendRequest append;
      append.prev_index = any;
      append.prev_term = core.term_at(any);
      append.commit = any + random.below(3);
      append.round = random.below(1000);
      append.entries.push_back(invented(any + 1, std::max(term, Term(1)), random));
      return append;
    }
  }
}

wire::SnapshotOffer offer(const raft::Core& core, Term term, Random& random) {
  wire::SnapshotOffer offer;
  offer.file.mark = {core.last_index() + random.below(10), term};
  offer.file.bytes = random.between(1, 100'000);
  offer.leader_term = term;
  return offer;
}

wire::PeerMessage message_of(const node::Node& node, NodeId to, Random& random) {
  const raft::Core& core = node.core();
  const Term term = core.term() + random.below(3);
  switch (random.below(12)) {
    case 0:
      return wire::ForwardProposals{core.term(),
                                    {{raft::EntryKind::kCommand, SessionId(random.below(50)),
                                      Sequence(1), Sequence(), Slice::copy_of("of a stranger")}}};
    case 1:
      return wire::DiskReport{term, random.chance(50), true, true};
    case 2:
      return wire::ChangeRequest{random.below(100), "of a stranger"};
    case 3:
      return wire::DivergenceVerdict{};
    case 4:
      return wire::DigestReport{};
    case 5:
      return wire::SnapshotAck{{}, 0, wire::SnapshotAck::State::kInstalled};
    case 6:
      return offer(core, term, random);
    default:
      return raft::Envelope{kStrangerId, to, term, raft_message(core, term, random)};
  }
}

// What only the leader of this term may say.
wire::PeerMessage second_leader(const node::Node& node, NodeId to, Random& random) {
  const raft::Core& core = node.core();
  if (random.chance(30)) return offer(core, core.term(), random);
  raft::AppendRequest append;
  append.prev_index = core.last_index();
  append.prev_term = core.term_at(core.last_index());
  append.commit = core.last_index();
  raft::Envelope envelope{kStrangerId, to, core.term(), append};
  if (random.chance(50)) envelope.message = raft::Heartbeat{core.last_index(), 1};
  return envelope;
}

// Whoever adopted its term at once could never be elected again.
wire::PeerMessage message_out_of_reach(const node::Node& node, NodeId to, Random& random) {
  // Not one within reach: the node would follow the liar, which nothing prevents.
  const Term term(random.chance(50)
                      ? kMaxReceivedNumber - random.below(3)
                      : raft::reach_of(node.core().term()).value() + random.between(1, 1'000'000));
  switch (random.below(3)) {
    case 0:
      return offer(node.core(), term, random);
    case 1:
      return raft::Envelope{kStrangerId, to, term, raft::Heartbeat{Index(), 1}};
    default:
      return raft::Envelope{kStrangerId, to, term,
                            raft::VoteRequest{node.core().last_index() + 1, term, true}};
  }
}

std::string noise(Random& random, size_t most) {
  std::string bytes(random.between(1, most), ' ');
  for (char& c : bytes) c = static_cast<char>(random.below(256));
  return bytes;
}

void flip_a_bit(std::string& bytes, Random& random) {
  const uint64_t bit = random.below(bytes.size() * 8);
  bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
}

// `hello`: of a stranger.
std::string hostile_peer_bytes(const node::Node& node, const wire::Hello& hello, NodeId to,
                               Random& random) {
  std::string magic(wire::kPeerMagic);
  std::string frame;
  wire::append_hello(frame, hello);
  switch (random.below(6)) {
    case 0:
      return noise(random, 2000);
    case 1:
      return "GET / HTTP/1.1\r\nHost: db1:7101\r\n\r\n";
    case 2:
      return magic + noise(random, 200);
    case 3:
      return magic + frame.substr(0, random.between(1, frame.size() - 1));
    case 4:
      flip_a_bit(frame, random);
      return magic + frame;
    default:
      if (!wire::append_frame(frame, message_of(node, to, random), wire::FrameVersion::kFirst)) {
        return magic;
      }
      return magic + frame;
  }
}

auto state_of(const node::Node& node) {
  const raft::Core& core = node.core();
  return std::make_tuple(core.term(), core.role(), core.leader(), core.last_index(),
                         core.commit_index(), core.hard_state().vote);
}

}  // namespace

Network::Knobs Simulation::Impl::with_changed_bits(Network::Knobs knobs) {
  if (!active_.has(Fault::kChangedBit)) return knobs;
  Random& random = fault_random_[static_cast<size_t>(Fault::kChangedBit)];
  knobs.changed_percent = static_cast<double>(random.between(1, 50)) / 100;
  return knobs;
}

void Simulation::Impl::arm_strangers() {
  every(Fault::kStranger, milliseconds(20), milliseconds(1500),
        [this](Random& random) { meet_stranger(victim(random), random); });
}

void Simulation::Impl::meet_stranger(Process& p, Random& random) {
  // While its newest list is not committed, it listens to anybody.
  if (!p.up() || p.paused || !p.node->core().conf_is_settled()) return;
  count(Fault::kStranger);
  const raft::Core& core = p.node->core();
  wire::Hello sender;
  sender.node_id = kStrangerId;
  sender.cluster_id = p.node->cluster_id();
  sender.disk_id.bytes[0] = 0x71;
  sender.members_index = Index(random.below(core.conf_index().value() + 1));
  const bool lies = random.chance(30) && core.leader();
  if (lies) sender.members_index = core.conf_index() + random.between(1, 100);
  if (lies && random.chance(10)) return send_term_out_of_reach(p, sender, random);
  wire::PeerMessage message =
      lies ? second_leader(*p.node, p.id, random) : message_of(*p.node, p.id, random);
  const auto before = state_of(*p.node);
  const std::string text = describe(message);
  if (deliver(p, sender, std::move(message)).empty()) {
    return checkers_.fail(fmt::format("stranger: node {} takes {}", p.id, text));
  }
  if (state_of(*p.node) != before) {
    return checkers_.fail(fmt::format("stranger: {} changes node {}", text, p.id));
  }
  bite(Fault::kStranger);
}

// A liar may do so, but only step by step. What becomes of the cluster in such terms is seen later.
void Simulation::Impl::send_term_out_of_reach(Process& p, const wire::Hello& sender,
                                              Random& random) {
  const Term before = p.node->core().term();
  wire::PeerMessage message = message_out_of_reach(*p.node, p.id, random);
  const std::string text = describe(message);
  deliver(p, sender, std::move(message));
  if (p.node->core().term() > raft::reach_of(before) || p.node->core().leader() == kStrangerId) {
    return checkers_.fail(fmt::format("stranger: {} takes node {} too far", text, p.id));
  }
  bite(Fault::kStranger);
}

// ---- bytes that are no protocol of this port

void Simulation::Impl::arm_hostile_bytes() {
  every(Fault::kHostileBytes, milliseconds(20), milliseconds(1500), [this](Random& random) {
    Process& p = victim(random);
    if (!p.up() || p.paused || now() < p.in_turn_until) return;
    count(Fault::kHostileBytes);
    p.node->set_now(p.clock.now(now()));
    random.chance(50) ? meet_hostile_client(p, random) : meet_hostile_peer(p, random);
    schedule_turn(p, now());
  });
}

void Simulation::Impl::meet_hostile_client(Process& p, Random& random) {
  client::ClientPortOptions options;
  options.framing = port_.framing;
  const node::Framing framing = port_.framing.value_or(p.node->framing());
  p.hostile.reset();
  p.hostile = std::make_unique<HostileClient>(
      *p.node, options, hostile_bytes(framing, workload_->fresh_number(), random), random,
      timeline_);
  if (std::string wrong = p.hostile->complaint(); !wrong.empty()) checkers_.fail(std::move(wrong));
  if (p.hostile->was_noticed()) bite(Fault::kHostileBytes);
}

void Simulation::Impl::meet_hostile_peer(Process& p, Random& random) {
  if (!p.node->core().conf_is_settled()) return;
  wire::Hello hello = hello_of(p, p.id);
  // A member that was added without a disk comes with any.
  hello.node_id = changes_ || random.chance(50) ? kStrangerId : NodeId(random.between(1, 7));
  hello.disk_id.bytes[0] = 0x71;
  hello.incarnation = random.next();
  hello.members_index = Index();
  std::string bytes = hostile_peer_bytes(*p.node, hello, p.id, random);
  const auto channel = p.peers->accepted("a hostile address", now());
  if (!channel) return;  // it has stopped
  const auto before = state_of(*p.node);
  while (!bytes.empty() && !channel->is_closed() && !channel->is_closing()) {
    const std::span<uint8_t> space = channel->read_space();
    const size_t length = std::min(space.size(), random.between(1, bytes.size()));
    std::memcpy(space.data(), bytes.data(), length);
    bytes.erase(0, length);
    p.peers->received(channel, length, now());
  }
  network_.carry_out(p.id);
  if (state_of(*p.node) != before) {
    return checkers_.fail(fmt::format("hostile bytes: they change node {}", p.id));
  }
  timeline_.after(kNoHello, [this, at = &p, life = p.life, pauses = p.pauses, channel] {
    if (at->life != life || at->pauses != pauses || at->paused) return;
    if (channel->is_closed()) return bite(Fault::kHostileBytes);
    checkers_.fail(fmt::format(
        "hostile bytes: node {} keeps the connection of who has not said hello", at->id));
  });
}

}  // namespace connectd::sim

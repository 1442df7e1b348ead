// Bytes that changed on their way, and messages that must have no effect and are refused by name:
// those of a node that is no member, and of a liar that says that it knows later members.
#include <algorithm>

#include "sim/describe.h"
#include "sim/simulation_impl.h"

namespace connectd::sim {
namespace {

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
  every(Fault::kStranger, std::chrono::milliseconds(20), std::chrono::milliseconds(1500),
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

}  // namespace connectd::sim

#include "node/membership/membership.h"

#include <fmt/format.h>

#include <algorithm>
#include <type_traits>
#include <utility>

#include "base/log.h"
#include "base/log_event.h"
#include "base/overloaded.h"
#include "node/membership/settings.h"

namespace connectd::node {
namespace {

constexpr std::string_view kLevelProbeKey = "test.level_probe";

// "WHAT; NEXT". Without a majority no retry succeeds: then the reason and the remedy of the status.
std::string with_next_step(const std::string& what, const Membership& membership,
                           const raft::Core& core,
                           std::string_view next = "try again in a moment") {
  const std::string lost = membership.lost_majority(core).full();
  return fmt::format("{}; {}", what, lost.empty() ? next : lost);
}

Membership::Decision refused(ChangeCode code, std::string text, Index index = Index()) {
  return {{code, std::move(text), index}, std::nullopt, {}};
}
Membership::Decision nothing_to_do(std::string text, Index index = Index()) {
  return {{ChangeCode::kDone, std::move(text), index}, std::nullopt, {}};
}
Membership::Decision hand_to_core(raft::Event event, std::string text) {
  return {{ChangeCode::kDone, std::move(text), Index()}, std::move(event), {}};
}

template <class... Kinds>
bool is_one_of(const wire::PeerMessage& message) {
  return std::visit(
      Overloaded{[](const raft::Envelope& envelope) {
                   return std::visit(
                       []<class M>(const M&) { return (std::is_same_v<M, Kinds> || ...); },
                       envelope.message);
                 },
                 []<class M>(const M&) { return (std::is_same_v<M, Kinds> || ...); }},
      message);
}
bool is_part_of_a_quorum(const wire::PeerMessage& message) {
  return is_one_of<raft::VoteResponse, raft::PreVoteResponse, raft::AppendResponse,
                   raft::HeartbeatResponse, wire::SnapshotAck, wire::DigestReport,
                   wire::DiskReport>(message);
}
// Of a candidate, or of a leader to whoever follows it.
bool is_of_a_candidate_or_leader(const wire::PeerMessage& message) {
  return is_one_of<raft::PreVoteRequest, raft::VoteRequest, raft::AppendRequest, raft::Heartbeat,
                   raft::TimeoutNow, raft::ReadIndexResponse, wire::SnapshotOffer,
                   wire::SnapshotChunk, wire::ForwardRefused, wire::ChangeAnswer>(message);
}

}  // namespace

void Membership::peer_reached(NodeId peer, const wire::Hello& hello) {
  connected_[peer] = {peer, hello.disk_id, hello.peer_address, hello.client_address,
                      hello.http_address};
  feature_levels_.announced(peer, hello.disk_id, hello.feature_level_max);
  refused_by_.erase(peer);
}

void Membership::refused_by(NodeId peer, wire::RefusalCode code, Time now) {
  if (list_.find(peer) == nullptr) return;
  refused_by_[peer] = {wire::is_of_stranger(code), now + wire::kRefusalStands};
}

void Membership::peer_lost(NodeId peer) { connected_.erase(peer); }

const GenesisMember* Membership::connected(NodeId id) const {
  auto found = connected_.find(id);
  return found == connected_.end() ? nullptr : &found->second;
}

void Membership::follow(const raft::Core& core, Effects& out) {
  const Slice& details = core.conf_details();
  if (details.data() == list_bytes_.data() && details.size() == list_bytes_.size()) return;
  auto list = MemberList::decode(details.view());
  CHECK(list.has_value()) << "a list of members that the log took: " << list.error().text;
  list_bytes_ = details;
  // A disk that was given up may be the one that was seen last.
  for (const GenesisMember& member : list->members) {
    const GenesisMember* before = list_.find(member.id);
    const GenesisMember* seen = connected(member.id);
    if (!member.disk_id && before != nullptr && seen != nullptr &&
        seen->disk_id == before->disk_id) {
      connected_.erase(member.id);
    }
  }
  list_ = std::move(*list);
  const GenesisMember* listed = list_.find(self());
  // Until the log has the record of the recovery, its members are those of the cluster that is
  // gone: with them, this node could elect a leader that knows nothing of the recovery.
  const bool list_counts = list_.cluster_id(genesis_) == cluster_id();
  const bool disk_counts = listed == nullptr || listed->disk_id == options_.self.disk_id;
  out.events.push_back(raft::Suffrage{list_counts && disk_counts});
}

Membership::LostMajority Membership::lost_majority(const raft::Core& core) const {
  for (const auto* voters : {&core.conf().voters, &core.conf().voters_outgoing}) {
    std::string missing;
    size_t reached = 0;
    bool is_refused = false;
    bool may_lead = false;
    for (NodeId id : *voters) {
      if (id == self() || connected(id) != nullptr) {
        ++reached;
        may_lead = may_lead || core.priority_of(id) > 0;
        continue;
      }
      const GenesisMember* listed = list_.find(id);
      const auto refusal = refused_by_.find(id);
      const bool by_stranger = refusal != refused_by_.end() && refusal->second.by_stranger;
      missing += fmt::format("{}{}", missing.empty() ? "" : ", ", id);
      if (refusal != refused_by_.end() && !by_stranger) {
        is_refused = true;
        missing += ", which refuses it";
      } else if (listed != nullptr) {
        missing += " at " + listed->peer_address;
        if (by_stranger) missing += ", where another node answers";
      }
    }
    const size_t needed = voters->size() / 2 + 1;
    if (voters->empty() || (reached >= needed && may_lead)) continue;
    if (reached >= needed) {
      return {fmt::format("none of the voters that node {} reaches may lead: their raft.priority "
                          "is 0 (not reached: {}). Start another, or raise it in a file and "
                          "restart that node",
                          self(), missing),
              ""};
    }
    LostMajority lost;
    lost.text = fmt::format("node {} reaches {} of {} voters (not: {}), {} are required", self(),
                            reached, voters->size(), missing, needed);
    if (!is_refused) {
      lost.remedy =
          "start the others; if they run, check the network and these addresses. Only if they are "
          "lost for good: connectctl recover (docs/operations.md, \"A majority is lost\")";
    }
    return lost;
  }
  return {};
}

std::optional<wire::Refusal> Membership::check_peer(const wire::Hello& hello,
                                                    const raft::Core& core) const {
  auto refusal =
      check_member(list_, core.conf_index(), core.conf_is_settled(), genesis_.cluster_name, hello);
  const GenesisMember* listed = list_.find(hello.node_id);
  const GenesisMember* other = connected(hello.node_id);
  const bool is_replaced = refusal && refusal->code == wire::RefusalCode::kDiskId &&
                           other != nullptr && other->disk_id == listed->disk_id;
  if (is_replaced) {
    refusal->code = wire::RefusalCode::kRunsElsewhere;
    refusal->text = fmt::format(
        "node {0} of cluster '{1}' runs elsewhere; the disk of this process is not the cluster's, "
        "or no longer is. Stop it, and do not replace node {0} again",
        hello.node_id, genesis_.cluster_name);
  }
  return refusal;
}

Membership::Hearing Membership::hearing(const wire::Hello& sender, const wire::PeerMessage& message,
                                        const raft::Core& core) const {
  const GenesisMember* listed = list_.find(sender.node_id);
  // Who is being removed may lead until that is committed.
  if (list_.is_removed(sender.node_id) && (core.conf_is_settled() || listed == nullptr)) {
    return Hearing::kStranger;
  }
  if (listed == nullptr) {
    // The index of what is not committed proves nothing: the sender may be of the list that wins.
    if (core.conf_is_settled() && sender.members_index <= core.conf_index()) {
      return Hearing::kStranger;
    }
    return is_of_a_candidate_or_leader(message) ? Hearing::kCounts : Hearing::kIgnored;
  }
  if (!listed->disk_id || listed->disk_id == sender.disk_id) return Hearing::kCounts;
  return is_part_of_a_quorum(message) ? Hearing::kIgnored : Hearing::kCounts;
}

std::string Membership::fault_of(const raft::AppendRequest& request) {
  for (const raft::Entry& entry : request.entries) {
    if (!raft::brings_conf(entry.kind)) continue;
    ByteReader in(entry.payload.view());
    raft::ConfState conf;
    if (!raft::ConfState::decode(in, conf)) return "an entry with a malformed configuration";
    auto list = MemberList::decode(entry.payload.view().last(in.left()));
    if (!list)
      return fmt::format("an entry with a malformed list of members: {}", list.error().text);
  }
  return {};
}

// ---- steps that follow by themselves

void Membership::advance(const raft::Core& core, Time now, Effects& out) {
  expire(core, now);
  std::erase_if(refused_by_, [&](const auto& refusal) { return refusal.second.until <= now; });
  if (core.change_refusal() != raft::ChangeRefusal::kNone) return;
  auto plan = next_step(core);
  if (!plan) return;
  Decision decision = append(*plan, true, core);
  CHECK(decision.event) << "a step that follows by itself is forced";
  out.events.push_back(std::move(*decision.event));
  out.wake = true;
}

// What the list wants and the configuration is not yet: each step is a change of its own, and any
// leader continues with it.
std::optional<PlannedChange> Membership::next_step(const raft::Core& core) const {
  const raft::ConfState& conf = core.conf();
  for (const GenesisMember& member : list_.members) {
    if (list_.is_removed(member.id)) continue;
    if (auto plan = step_of(member, core)) return plan;
  }
  for (const raft::PeerStatus& peer : core.peers()) {
    const GenesisMember* member = list_.find(peer.id);
    if (member == nullptr || !list_.will_promote(peer.id) || conf.is_voter(peer.id)) continue;
    if (!member->disk_id) continue;
    const bool caught_up = peer.is_near && peer.state == raft::PeerStatus::State::kReplicate &&
                           has_caught_up(peer.match, core.last_index(),
                                         std::max(core.conf_index(), core.settings_index()));
    if (!caught_up) continue;
    log_event(LogEvent::kMemberPromoting, "learner caught up, promoting node={}", peer.id);
    return promote_now(peer.id, conf, list_);
  }
  return std::nullopt;
}

std::optional<PlannedChange> Membership::step_of(const GenesisMember& member,
                                                 const raft::Core& core) const {
  const raft::ConfState& conf = core.conf();
  if (!conf.is_member(member.id)) return add_learner(member.id, conf, list_);
  // Addresses are hints: the peer is connected and says where it wants to be reached.
  const GenesisMember* found = member.id == self() ? &options_.self : connected(member.id);
  if (found == nullptr) return std::nullopt;
  if (!member.disk_id && member.id != self() && found->disk_id) {
    log_event(LogEvent::kMemberDiskBound, "disk bound node={} disk={}", member.id,
              found->disk_id.to_string());
    return bind_disk(member.id, found->disk_id, conf, list_);
  }
  if (found->peer_address.empty()) return std::nullopt;
  PlannedChange plan = move_member(*found, conf, list_);
  if (*plan.list.find(member.id) == member) return std::nullopt;
  log_event(LogEvent::kMemberMoved, "address changed node={} address={} was={}", member.id,
            found->peer_address, member.peer_address);
  return plan;
}

// ---- changes that are asked for

void Membership::ask_leader(const MemberChange& change, const raft::Core& core, Time now, Done done,
                            Effects& out) {
  if (!core.leader()) {
    return done({ChangeCode::kNoLeader, with_next_step("no known leader", *this, core), Index()});
  }
  if (asked_.size() >= kMaxAsked) {
    return done(
        {ChangeCode::kBusy, with_next_step("too many changes in progress", *this, core), Index()});
  }
  const uint64_t number = next_number_++;
  asked_[number] = {std::move(done), now + kAnswerTimeout};
  out.send(core.leader(), wire::ChangeRequest{number, change.encode()});
}

void Membership::on_answer(const wire::ChangeAnswer& answer) {
  auto asked = asked_.find(answer.number);
  if (asked == asked_.end()) return;
  auto outcome = ChangeOutcome::decode(as_bytes(answer.outcome));
  Done done = std::move(asked->second.done);
  asked_.erase(asked);
  done(outcome ? *outcome
               : ChangeOutcome{ChangeCode::kRefused, "invalid answer from the leader", Index()});
}

void Membership::expire(const raft::Core& core, Time now) {
  while (!asked_.empty() && asked_.begin()->second.until <= now) {
    Done done = std::move(asked_.begin()->second.done);
    asked_.erase(asked_.begin());
    const std::string lost = lost_majority(core).full();
    done({ChangeCode::kTimeout,
          "no answer from the leader; check whether the change happened: connectctl member list" +
              (lost.empty() ? "" : ". Now " + lost),
          Index()});
  }
}

Membership::Decision Membership::decide(const MemberChange& change, const raft::Core& core,
                                        const DiskProblems& disks) const {
  const bool is_setting = change.kind == MemberChange::Kind::kSetting;
  switch (core.change_refusal()) {
    case raft::ChangeRefusal::kNone:
      break;
    case raft::ChangeRefusal::kNotLeader:
      return refused(ChangeCode::kNoLeader,
                     with_next_step("this node lost leadership", *this, core));
    case raft::ChangeRefusal::kNotReady:
      return refused(ChangeCode::kBusy, with_next_step("the leader was just elected", *this, core));
    case raft::ChangeRefusal::kUnderWay:
      if (is_setting) break;  // settings do not wait for a membership change
      return refused(ChangeCode::kBusy,
                     with_next_step(fmt::format("another change, at index {}, is in progress",
                                                core.conf_index()),
                                    *this, core, "try again when it is done"),
                     core.conf_index());
    case raft::ChangeRefusal::kTransferring:
      return refused(ChangeCode::kBusy,
                     with_next_step("a leadership transfer is in progress", *this, core));
  }
  if (is_setting) return decide_setting(change, core);
  if (change.kind == MemberChange::Kind::kTransfer)
    return decide_transfer(change.member.id, core, disks);
  if (auto so = is_so_already(change, core.conf(), list_)) {
    return nothing_to_do(std::move(*so), core.conf_index());
  }
  if (change.kind == MemberChange::Kind::kReplace && !change.force) {
    if (auto decision = decide_replace_of_connected(change.member.id, core)) return *decision;
  }
  if (change.expected && change.expected != core.conf_index()) {
    return refused(
        ChangeCode::kConflict,
        fmt::format("the member list has index {}, not {}: check it again: connectctl member list",
                    core.conf_index(), change.expected),
        core.conf_index());
  }
  auto plan = plan_change(change, core.conf(), list_);
  if (!plan) return refused(ChangeCode::kRefused, plan.error().text);
  return append(*plan, change.force, core);
}

Membership::Decision Membership::decide(const wire::ChangeRequest& request, const raft::Core& core,
                                        const DiskProblems& disks) const {
  auto change = MemberChange::decode(as_bytes(request.change));
  if (!change) return refused(ChangeCode::kRefused, "the leader does not support this change");
  return decide(*change, core, disks);
}

std::optional<Membership::Decision> Membership::decide_replace_of_connected(
    NodeId id, const raft::Core& core) const {
  const GenesisMember* listed = list_.find(id);
  const GenesisMember* seen = id == self() ? &options_.self : connected(id);
  if (listed == nullptr || seen == nullptr || seen->disk_id != listed->disk_id) return std::nullopt;
  // One with which the cluster was formed was never replaced. Any other may have been, and the
  // command be repeated because its answer was lost.
  const GenesisMember* founder = genesis_.find(id);
  if (founder != nullptr && founder->disk_id == listed->disk_id) {
    return refused(ChangeCode::kRefused,
                   fmt::format("node {} is up with the disk that it has had from the beginning; "
                               "stop it first",
                               id));
  }
  return nothing_to_do(fmt::format("node {} is up with disk {} already. To replace that one, stop "
                                   "it first",
                                   id, listed->disk_id.to_string()),
                       core.conf_index());
}

// One that is a little behind catches up meanwhile: new entries wait for the transfer.
std::string Membership::transfer_problem(NodeId id, const raft::Core& core,
                                         const DiskProblems& disks) const {
  constexpr uint64_t kFarBehind = 10'000;  // entries
  const std::vector<raft::PeerStatus> peers = core.peers();
  auto peer = std::ranges::find(peers, id, &raft::PeerStatus::id);
  if (core.priority_of(id) == 0) {
    return fmt::format("node {} never leads: its raft.priority is 0", id);
  }
  // A new leader has yet to hear of its peers.
  const bool is_heard = peer != peers.end() && (peer->is_near || core.is_new_leader());
  if (!is_heard || connected(id) == nullptr) {
    return fmt::format("node {} does not answer this leader", id);
  }
  if (const auto disk = disks.find(id); disk != disks.end()) {
    return fmt::format("the disk of node {} {}", id, disk->second);
  }
  if (peer->state == raft::PeerStatus::State::kSnapshot ||
      peer->match + kFarBehind < core.last_index()) {
    return fmt::format("node {} is {} entries behind", id,
                       core.last_index().value() - peer->match.value());
  }
  return {};
}

Membership::Decision Membership::decide_transfer(NodeId to, const raft::Core& core,
                                                 const DiskProblems& disks) const {
  if (to && !core.conf().is_voter(to)) {
    return refused(ChangeCode::kRefused, fmt::format("node {} is not a voter", to));
  }
  if (to == self()) return nothing_to_do(fmt::format("node {} leads already", to));
  std::string problems;
  for (NodeId id : core.conf().voters) {
    if (id == self() || (to && id != to)) continue;
    const std::string problem = transfer_problem(id, core, disks);
    if (problem.empty()) return hand_to_core(raft::TransferLeadership{to}, "handing over");
    problems += (problems.empty() ? "" : "; ") + problem;
  }
  if (problems.empty()) problems = fmt::format("node {} is the only voter", self());
  if (to && core.priority_of(to) == 0) {
    problems += ". Change it in its configuration and restart it, or name another node";
  }
  return refused(ChangeCode::kRefused, std::move(problems));
}

// In builds for tests: an entry of the kind that came with their level.
Membership::Decision Membership::decide_level_probe(const raft::Core& core) const {
  const raft::EntryKind kind = raft::EntryKind::kLevelProbe;
  const uint32_t level = raft::row_of(kind).since_level;
  if (!core.settings().allow(level)) {
    return refused(
        ChangeCode::kRefused,
        fmt::format("an entry of kind {} requires feature level {}; the cluster is at {}",
                    static_cast<int>(kind), level, core.settings().feature_level));
  }
  raft::Proposal probe;
  probe.kind = kind;
  return hand_to_core(raft::Propose{{std::move(probe)}}, "appended");
}

Membership::Decision Membership::decide_setting(const MemberChange& change,
                                                const raft::Core& core) const {
  const bool has_probe = raft::highest_feature_level() >= raft::kNextFeatureLevel;
  if (has_probe && change.key == kLevelProbeKey) return decide_level_probe(core);
  auto settings =
      with_setting(core.settings(), change.key, change.value, options_.heartbeat_interval);
  if (!settings) return refused(ChangeCode::kRefused, settings.error().text);
  if (settings->changed_to(*settings) == core.settings()) {
    return nothing_to_do("already in effect", core.settings_index());
  }
  if (settings->feature_level > core.settings().feature_level) {
    auto may = feature_levels_.check_raise(settings->feature_level, list_.members);
    if (!may) return refused(ChangeCode::kRefused, may.error().text);
  }
  Decision decision = hand_to_core(raft::ChangeSettings{*settings}, "appended");
  decision.notice = fmt::format("{} is {}", change.key, change.value);
  return decision;
}

Membership::Decision Membership::append(const PlannedChange& plan, bool force,
                                        const raft::Core& core) const {
  size_t reached = 0;
  std::string missing;
  const std::vector<raft::PeerStatus> peers = core.peers();
  for (NodeId id : plan.conf.voters) {
    auto peer = std::ranges::find(peers, id, &raft::PeerStatus::id);
    if (id == self() || (peer != peers.end() && peer->is_near && connected(id) != nullptr)) {
      ++reached;
    } else {
      missing += fmt::format("{}{}", missing.empty() ? "" : ", ", id);
    }
  }
  const size_t majority = plan.conf.voters.size() / 2 + 1;
  if (reached < majority && !force) {
    // Without a majority of the present voters nothing is committed, with --force or without.
    const std::string lost = lost_majority(core).full();
    return refused(
        ChangeCode::kQuorum,
        fmt::format("only {} of the {} new voters are reachable (not: {}), {} are required: the "
                    "cluster {}",
                    reached, plan.conf.voters.size(), missing, majority,
                    lost.empty() ? "would lose its quorum. --force overrides this check"
                                 : "has no quorum now: " + lost));
  }
  return hand_to_core(
      raft::ChangeConf{plan.conf, Slice::copy_of(plan.list.encode()), plan.other_disk}, "appended");
}

ChangeOutcome Membership::concluded(const Decision& decision, const raft::Core& core) const {
  ChangeOutcome outcome = decision.outcome;
  if (!decision.event) return outcome;
  if (std::holds_alternative<raft::ChangeConf>(*decision.event)) {
    outcome.index = core.conf_index();
  } else if (std::holds_alternative<raft::ChangeSettings>(*decision.event)) {
    outcome.index = core.settings_index();
  } else if (std::holds_alternative<raft::Propose>(*decision.event)) {
    outcome.index = core.last_index();
  } else if (!core.is_transferring()) {
    return refused(ChangeCode::kRefused,
                   "the transfer did not begin: the voters have changed; try again")
        .outcome;
  }
  if (!decision.notice.empty()) {
    log_event(LogEvent::kSettingChanged, "{} index={}", decision.notice, outcome.index);
  }
  return outcome;
}

}  // namespace connectd::node

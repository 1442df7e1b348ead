// Changes of members and settings: who asks for them, who takes the next step.
// Loop thread, like all of Node: what is owned here is in node.h.

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "node/membership/settings.h"
#include "node/node.h"

namespace connectd::node {
namespace {
// The leader answers at once; what takes longer is lost.
constexpr Duration kChangeTimeout = std::chrono::seconds(3);
constexpr size_t kMaxAskedChanges = 64;
constexpr std::string_view kLevelProbeKey = "test.level_probe";
}  // namespace

// The list changes with the configuration: when its entry is appended, and when it is truncated.
void Node::follow_members() {
  const Slice& details = core_->conf_details();
  if (details.data() == members_bytes_.data() && details.size() == members_bytes_.size()) return;
  auto members = MemberList::decode(details.view());
  CHECK(members.has_value()) << "a list of members that the log took: " << members.error().text;
  members_bytes_ = details;
  // A disk that was given up may be the one that was seen last.
  for (const GenesisMember& member : members->members) {
    const GenesisMember* before = members_.find(member.id);
    auto seen = seen_.find(member.id);
    if (!member.disk_id && before != nullptr && seen != seen_.end() &&
        seen->second.disk_id == before->disk_id) {
      seen_.erase(seen);
    }
  }
  members_ = std::move(*members);
  const GenesisMember* self = members_.find(options_.id);
  // Until the log has the record of the recovery, its members are those of the cluster that is
  // gone: with them, this node could elect a leader that knows nothing of the recovery.
  const bool list_counts = members_.cluster_id(genesis_) == cluster_id();
  step(raft::Suffrage{list_counts && (self == nullptr || self->disk_id == options_.disk_id)});
}

ClusterId Node::cluster_id() const {
  return options_.cluster_id ? options_.cluster_id : genesis_.cluster_id;
}

std::optional<wire::Refusal> Node::check_peer(const wire::Hello& hello) const {
  return check_member(members_, core_->conf_index(), core_->conf_is_settled(),
                      genesis_.cluster_name, hello);
}

// What the list wants and the configuration is not yet: each step is a change of its own, and any
// leader goes on with it.
void Node::advance_members() {
  if (core_->change_refusal() != raft::ChangeRefusal::kNone) return;
  const raft::ConfState& conf = core_->conf();
  for (const GenesisMember& member : members_.members) {
    if (members_.is_removed(member.id)) continue;
    if (!conf.is_member(member.id)) {
      append_change(add_learner(member.id, conf, members_), true);
      return;
    }
    auto seen = seen_.find(member.id);
    if (!member.disk_id && seen != seen_.end() && seen->second.disk_id) {
      LOG_INFO("members", "node {} comes with disk {}", member.id,
               seen->second.disk_id.to_string());
      append_change(bind_disk(member.id, seen->second.disk_id, conf, members_), true);
      return;
    }
    // Addresses are hints: the connection stands, and its other end says where it wants to be
    // found.
    const GenesisMember* found = seen == seen_.end() ? nullptr : &seen->second;
    const GenesisMember self{options_.id, options_.disk_id, options_.peer_address,
                             options_.client_address, options_.http_address};
    if (member.id == options_.id) found = &self;
    if (found == nullptr || found->peer_address.empty()) continue;
    PlannedChange plan = move_member(*found, conf, members_);
    if (*plan.list.find(member.id) == member) continue;
    LOG_INFO("members", "node {} is found at {} now, and not at {}", member.id, found->peer_address,
             member.peer_address);
    append_change(plan, true);
    return;
  }
  for (const raft::PeerStatus& peer : core_->peers()) {
    const GenesisMember* member = members_.find(peer.id);
    if (!members_.will_promote(peer.id) || conf.is_voter(peer.id) || !member->disk_id) continue;
    const bool caught_up = peer.is_near && peer.state == raft::PeerStatus::State::kReplicate &&
                           has_caught_up(peer.match, core_->last_index(),
                                         std::max(core_->conf_index(), core_->settings_index()));
    if (!caught_up) continue;
    LOG_INFO("members", "node {} has caught up and becomes a voter", peer.id);
    append_change(promote_now(peer.id, conf, members_), true);
    return;
  }
}

void Node::change_members(const MemberChange& change, std::function<void(ChangeOutcome)> done) {
  if (core_->role() == raft::Role::kLeader) return done(try_change(change));
  if (!core_->leader()) {
    return done({ChangeCode::kNoLeader, "no leader is known; try again in a moment", Index()});
  }
  if (asked_changes_.size() >= kMaxAskedChanges) {
    return done({ChangeCode::kBusy, "too many changes are being asked for", Index()});
  }
  const uint64_t number = next_change_++;
  asked_changes_[number] = {std::move(done), now_.time + kChangeTimeout};
  host_.transport->send(core_->leader(), wire::ChangeRequest{number, change.encode()});
}

void Node::expire_changes() {
  while (!asked_changes_.empty() && asked_changes_.begin()->second.until <= now_.time) {
    auto done = std::move(asked_changes_.begin()->second.done);
    asked_changes_.erase(asked_changes_.begin());
    done({ChangeCode::kTimeout,
          "the leader did not answer; whether it took the change shows: connectctl member list",
          Index()});
  }
}

ChangeOutcome Node::try_change(const MemberChange& change) {
  // Settings do not wait for a change of members.
  if (change.kind == MemberChange::Kind::kSetting &&
      core_->change_refusal() == raft::ChangeRefusal::kUnderWay) {
    return change_setting(change);
  }
  switch (core_->change_refusal()) {
    case raft::ChangeRefusal::kNone:
      break;
    case raft::ChangeRefusal::kNotLeader:
      return {ChangeCode::kNoLeader, "this node leads no more; try again in a moment", Index()};
    case raft::ChangeRefusal::kNotReady:
      return {ChangeCode::kBusy, "the leader has just been elected; try again in a moment",
              Index()};
    case raft::ChangeRefusal::kUnderWay:
      return {ChangeCode::kBusy,
              fmt::format("another change, at index {}, is under way; try again when it is over",
                          core_->conf_index()),
              core_->conf_index()};
    case raft::ChangeRefusal::kTransferring:
      return {ChangeCode::kBusy, "leadership is being handed over; try again in a moment", Index()};
  }
  if (change.kind == MemberChange::Kind::kSetting) return change_setting(change);
  if (change.kind == MemberChange::Kind::kTransfer) {
    const NodeId to = change.member.id;
    if (to && !core_->conf().is_voter(to)) {
      return {ChangeCode::kRefused, fmt::format("node {} is no voter", to), Index()};
    }
    if (to == options_.id)
      return {ChangeCode::kDone, fmt::format("node {} leads already", to), Index()};
    if (to && core_->priority_of(to) == 0) {
      return {ChangeCode::kRefused,
              fmt::format("node {} never leads: its raft.priority is 0. Give it another in its "
                          "configuration and start it anew, or name another node",
                          to),
              Index()};
    }
    step(raft::TransferLeadership{to});
    if (!core_->is_transferring()) {
      return {ChangeCode::kRefused,
              "there is no other voter that answers and may lead (raft.priority 0: never)",
              Index()};
    }
    host_.wake();
    return {ChangeCode::kDone, "handing over", Index()};
  }
  if (auto so = is_so_already(change, core_->conf(), members_)) {
    return {ChangeCode::kDone, std::move(*so), core_->conf_index()};
  }
  if (change.expected && change.expected != core_->conf_index()) {
    return {ChangeCode::kConflict,
            fmt::format("the members are those of index {}, not {}: look again, then decide",
                        core_->conf_index(), change.expected),
            core_->conf_index()};
  }
  if (change.kind == MemberChange::Kind::kReplace && !change.force) {
    const GenesisMember* listed = members_.find(change.member.id);
    auto seen = seen_.find(change.member.id);
    if (listed != nullptr && seen != seen_.end() && seen->second.disk_id == listed->disk_id) {
      return {ChangeCode::kRefused,
              fmt::format("node {} is up, with the disk that it always had; stop it first",
                          change.member.id),
              Index()};
    }
    if (change.member.id == options_.id) {
      return {ChangeCode::kRefused, "this node leads, with the disk that it always had", Index()};
    }
  }
  auto plan = plan_change(change, core_->conf(), members_);
  if (!plan) return {ChangeCode::kRefused, plan.error().text, Index()};
  return append_change(*plan, change.force);
}

// In builds for tests: an entry of the kind that came with their level.
ChangeOutcome Node::propose_level_probe() {
  const raft::EntryKind kind = raft::EntryKind::kLevelProbe;
  const uint32_t level = raft::row_of(kind).since_level;
  if (!core_->settings().allow(level)) {
    return {ChangeCode::kRefused,
            fmt::format("an entry of kind {} needs feature level {}, and {} is in force",
                        static_cast<int>(kind), level, core_->settings().feature_level),
            Index()};
  }
  raft::Proposal probe;
  probe.kind = kind;
  step(raft::Propose{{std::move(probe)}});
  host_.wake();
  return {ChangeCode::kDone, "appended", core_->last_index()};
}

ChangeOutcome Node::change_setting(const MemberChange& change) {
  const bool has_probe = raft::highest_feature_level() >= raft::kNextFeatureLevel;
  if (has_probe && change.key == kLevelProbeKey) return propose_level_probe();
  auto settings =
      with_setting(core_->settings(), change.key, change.value, options_.raft.heartbeat_interval);
  if (!settings) return {ChangeCode::kRefused, settings.error().text, Index()};
  if (settings->changed_to(*settings) == core_->settings()) {
    return {ChangeCode::kDone, "it is so already", core_->settings_index()};
  }
  if (settings->feature_level > core_->settings().feature_level) {
    auto may = feature_levels_.check_raise(settings->feature_level, members_.members);
    if (!may) return {ChangeCode::kRefused, may.error().text, Index()};
  }
  step(raft::ChangeSettings{*settings});
  LOG_INFO("settings", "{} is {} from index {} on", change.key, change.value,
           core_->settings_index());
  host_.wake();
  return {ChangeCode::kDone, "appended", core_->settings_index()};
}

ChangeOutcome Node::append_change(const PlannedChange& plan, bool force) {
  size_t reached = 0;
  std::string missing;
  std::vector<raft::PeerStatus> peers = core_->peers();
  for (NodeId id : plan.conf.voters) {
    auto peer = std::ranges::find(peers, id, &raft::PeerStatus::id);
    if (id == options_.id || (peer != peers.end() && peer->is_near && seen_.contains(id))) {
      ++reached;
    } else {
      missing += fmt::format("{}{}", missing.empty() ? "" : ", ", id);
    }
  }
  const size_t majority = plan.conf.voters.size() / 2 + 1;
  if (reached < majority && !force) {
    return {ChangeCode::kQuorum,
            fmt::format("{} of the {} voters that there would be can be reached (not: {}), and {} "
                        "are needed: the cluster would stand still. --force does it all the same",
                        reached, plan.conf.voters.size(), missing, majority),
            Index()};
  }
  step(raft::ChangeConf{plan.conf, Slice::copy_of(plan.list.encode())});
  host_.wake();
  return {ChangeCode::kDone, "appended", core_->conf_index()};
}

}  // namespace connectd::node

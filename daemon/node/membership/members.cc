#include "node/membership/members.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/limits.h"

namespace connectd::node {
namespace {

constexpr uint32_t kMembersVersion = 2;
constexpr size_t kMaxAddress = 1024;
constexpr size_t kMaxRemoved = 1 << 16;  // a list with more is invalid
static_assert(kMaxRemovedByChanges + kMaxMembers <= kMaxRemoved);
constexpr size_t kMaxSettingText = 4096;

bool contains(const std::vector<NodeId>& ids, NodeId id) {
  return std::ranges::find(ids, id) != ids.end();
}
void insert(std::vector<NodeId>& ids, NodeId id) {
  auto place = std::ranges::lower_bound(ids, id);
  if (place == ids.end() || *place != id) ids.insert(place, id);
}

void write(ByteWriter& out, const GenesisMember& member) {
  out.number<uint64_t>(member.id.value());
  out.bytes(member.disk_id.bytes);
  out.counted(member.peer_address);
  out.counted(member.client_address);
  out.counted(member.http_address);
}
GenesisMember read_member(ByteReader& in) {
  GenesisMember member;
  member.id = NodeId(in.number<uint64_t>());
  ByteView disk = in.bytes(member.disk_id.bytes.size());
  if (disk.size() == member.disk_id.bytes.size()) {
    std::ranges::copy(disk, member.disk_id.bytes.begin());
  }
  member.peer_address = in.counted(kMaxAddress);
  member.client_address = in.counted(kMaxAddress);
  member.http_address = in.counted(kMaxAddress);
  return member;
}

void write(ByteWriter& out, const std::vector<NodeId>& ids) {
  out.number<uint32_t>(static_cast<uint32_t>(ids.size()));
  for (NodeId id : ids) out.number<uint64_t>(id.value());
}
std::vector<NodeId> read_ids(ByteReader& in) {
  std::vector<NodeId> ids;
  auto count = in.number<uint32_t>();
  if (count > kMaxRemoved) in.fail();
  for (; count > 0 && in.ok(); --count) {
    NodeId id(in.number<uint64_t>());
    if (!id || (!ids.empty() && !(ids.back() < id))) in.fail();
    ids.push_back(id);
  }
  return ids;
}

template <class Kind>
void read(ByteReader& in, Uuid<Kind>& id) {
  ByteView bytes = in.bytes(id.bytes.size());
  if (bytes.size() == id.bytes.size()) std::ranges::copy(bytes, id.bytes.begin());
}

void write(ByteWriter& out, const RecoveryRecord& record) {
  out.bytes(record.former.bytes);
  out.bytes(record.id.bytes);
  out.number<uint64_t>(record.best.value());
  out.number<int64_t>(record.wall_ns);
  out.number<uint32_t>(static_cast<uint32_t>(record.survivors.size()));
  for (const SurvivorEnd& end : record.survivors) {
    out.number<uint64_t>(end.node.value());
    out.number<uint64_t>(end.last_term.value());
    out.number<uint64_t>(end.last_index.value());
    out.number<uint64_t>(end.term.value());
  }
}
RecoveryRecord read_recovery(ByteReader& in) {
  RecoveryRecord record;
  read(in, record.former);
  read(in, record.id);
  record.best = NodeId(in.number<uint64_t>());
  record.wall_ns = in.number<int64_t>();
  auto count = in.number<uint32_t>();
  if (count > kMaxMembers) in.fail();
  for (; count > 0 && in.ok(); --count) {
    SurvivorEnd end;
    end.node = NodeId(in.number<uint64_t>());
    end.last_term = Term(in.number<uint64_t>());
    end.last_index = Index(in.number<uint64_t>());
    end.term = Term(in.number<uint64_t>());
    if (!record.survivors.empty() && !(record.survivors.back().node < end.node)) in.fail();
    record.survivors.push_back(end);
  }
  if (!record.former || !record.id || record.former == record.id) in.fail();
  return record;
}

GenesisMember* find_in(MemberList& list, NodeId id) {
  auto found = std::ranges::find(list.members, id, &GenesisMember::id);
  return found == list.members.end() ? nullptr : &*found;
}

void take_addresses(const GenesisMember& from, GenesisMember& to) {
  for (auto field : {&GenesisMember::peer_address, &GenesisMember::client_address,
                     &GenesisMember::http_address}) {
    if (!(from.*field).empty()) to.*field = from.*field;
  }
}

// A change is planned when the one before is over: then nobody needs those who were removed.
MemberList without_removed(MemberList list) {
  std::erase_if(list.members,
                [&](const GenesisMember& member) { return contains(list.removed, member.id); });
  return list;
}

// Why no change can be about this id.
std::optional<std::string> id_problem(const MemberChange& change, const MemberList& before) {
  const NodeId id = change.member.id;
  if (!id || id.value() > kMaxNodeId) {
    return fmt::format("a node id must be a number from 1 to {}", kMaxNodeId);
  }
  if (before.is_removed(id)) {
    return fmt::format("node {} was removed; ids are not reused: use another id", id);
  }
  const bool uses_up_an_id =
      change.kind == MemberChange::Kind::kAdd || change.kind == MemberChange::Kind::kRemove;
  if (uses_up_an_id && before.removed.size() >= kMaxRemovedByChanges) {
    return fmt::format(
        "{} members were removed from this cluster, the maximum: no member can be added or removed "
        "any more. Restore a snapshot into a new cluster: connectctl help snapshot restore",
        before.removed.size());
  }
  return std::nullopt;
}

}  // namespace

std::string end_text(const SurvivorEnd& end, const ClusterId& cluster) {
  return fmt::format("{}:{}:{}:{}:{}", end.node, end.last_term, end.last_index, end.term,
                     cluster.to_string().substr(0, kClusterDigits));
}

std::string recover_command(const std::string& directory, const RecoveryRecord& record) {
  std::string list;
  for (const SurvivorEnd& end : record.survivors) {
    list += (list.empty() ? "" : ",") + end_text(end, record.former);
  }
  return fmt::format("connectctl recover --data-dir {} --members {}", directory, list);
}

MemberList MemberList::of(const Genesis& genesis) { return {genesis.members, {}, {}, {}}; }

std::string MemberList::encode() const {
  std::string bytes;
  ByteWriter out(bytes);
  out.number<uint32_t>(kMembersVersion);
  out.number<uint32_t>(static_cast<uint32_t>(members.size()));
  for (const GenesisMember& member : members) write(out, member);
  write(out, promote);
  write(out, removed);
  out.number<uint32_t>(static_cast<uint32_t>(recoveries.size()));
  for (const RecoveryRecord& record : recoveries) write(out, record);
  return bytes;
}

Result<MemberList> MemberList::decode(ByteView bytes) {
  ByteReader in(bytes);
  auto version = in.number<uint32_t>();
  if (in.ok() && version != kMembersVersion) {
    return failure(ErrorKind::kNewerVersion,
                   fmt::format("the list of members has format version {}, this connectd reads "
                               "version {}: run the connectd that wrote it",
                               version, kMembersVersion));
  }
  MemberList list;
  auto count = in.number<uint32_t>();
  // Beside the members there may be one that is being removed.
  if (count > kMaxMembers + 1) in.fail();
  for (; count > 0 && in.ok(); --count) {
    GenesisMember member = read_member(in);
    if (!member.id || (!list.members.empty() && !(list.members.back().id < member.id))) in.fail();
    list.members.push_back(std::move(member));
  }
  list.promote = read_ids(in);
  list.removed = read_ids(in);
  auto recoveries = in.number<uint32_t>();
  if (recoveries > kMaxRecoveries) in.fail();
  for (; recoveries > 0 && in.ok(); --recoveries) list.recoveries.push_back(read_recovery(in));
  if (!in.done() || list.members.empty()) {
    return failure(ErrorKind::kCorrupt, "invalid member list");
  }
  return list;
}

const GenesisMember* MemberList::find(NodeId id) const {
  auto found = std::ranges::find(members, id, &GenesisMember::id);
  return found == members.end() ? nullptr : &*found;
}
bool MemberList::will_promote(NodeId id) const { return contains(promote, id); }
bool MemberList::is_removed(NodeId id) const { return contains(removed, id); }
ClusterId MemberList::cluster_id(const Genesis& genesis) const {
  return recoveries.empty() ? genesis.cluster_id : recoveries.back().id;
}

std::string MemberChange::encode() const {
  std::string bytes;
  ByteWriter out(bytes);
  out.number<uint8_t>(static_cast<uint8_t>(kind));
  out.number<uint8_t>(learner_only ? 1 : 0);
  out.number<uint8_t>(force ? 1 : 0);
  out.number<uint64_t>(expected.value());
  write(out, member);
  if (kind == Kind::kSetting) {
    out.counted(key);
    out.counted(value);
  }
  return bytes;
}

Result<MemberChange> MemberChange::decode(ByteView bytes) {
  ByteReader in(bytes);
  MemberChange change;
  auto kind = in.number<uint8_t>();
  if (kind < 1 || kind > 6) in.fail();
  change.kind = static_cast<Kind>(kind);
  change.learner_only = in.number<uint8_t>() != 0;
  change.force = in.number<uint8_t>() != 0;
  change.expected = Index(in.number<uint64_t>());
  change.member = read_member(in);
  if (change.kind == Kind::kSetting) {
    change.key = in.counted(kMaxSettingText);
    change.value = in.counted(kMaxSettingText);
  }
  if (!in.done()) return failure(ErrorKind::kMalformed, "invalid membership change");
  return change;
}

std::optional<std::string> is_so_already(const MemberChange& change, const raft::ConfState& conf,
                                         const MemberList& list) {
  const NodeId id = change.member.id;
  if (change.kind == MemberChange::Kind::kRemove && list.is_removed(id)) {
    return fmt::format("node {} is already removed", id);
  }
  const GenesisMember* member = list.find(id);
  if (member == nullptr || list.is_removed(id)) return std::nullopt;
  const bool votes = conf.is_voter(id) || list.will_promote(id);
  if (change.kind == MemberChange::Kind::kAdd && change.learner_only != votes &&
      member->peer_address == change.member.peer_address) {
    return fmt::format("node {} is already a member", id);
  }
  if (change.kind == MemberChange::Kind::kPromote && conf.is_voter(id)) {
    return fmt::format("node {} is already a voter", id);
  }
  if (change.kind == MemberChange::Kind::kPromote && list.will_promote(id)) {
    return fmt::format("node {} becomes a voter once it has caught up", id);
  }
  return std::nullopt;
}

Result<PlannedChange> plan_change(const MemberChange& change, const raft::ConfState& conf,
                                  const MemberList& before) {
  const NodeId id = change.member.id;
  auto refuse = [](std::string text) { return failure(ErrorKind::kUsage, std::move(text)); };
  if (auto problem = id_problem(change, before)) return refuse(std::move(*problem));
  PlannedChange plan{conf, without_removed(before)};
  GenesisMember* member = find_in(plan.list, id);
  if (change.kind != MemberChange::Kind::kAdd && member == nullptr) {
    return refuse(fmt::format("node {} is not a member; see: connectctl member list", id));
  }
  auto only_voter = [&] { return conf.voters.size() == 1 && conf.voters.front() == id; };
  switch (change.kind) {
    case MemberChange::Kind::kAdd: {
      if (member != nullptr) return refuse(fmt::format("node {} is already a member", id));
      if (plan.list.members.size() >= kMaxMembers) {
        return refuse(fmt::format("a cluster can have at most {} members", kMaxMembers));
      }
      if (change.member.peer_address.empty()) {
        return refuse("missing peer address of the new member");
      }
      for (const GenesisMember& other : plan.list.members) {
        if (other.peer_address == change.member.peer_address) {
          return refuse(fmt::format("the peer address {1} already belongs to node {0}", other.id,
                                    other.peer_address));
        }
      }
      GenesisMember fresh = change.member;
      fresh.disk_id = DiskId();
      auto place = std::ranges::lower_bound(plan.list.members, id, {}, &GenesisMember::id);
      plan.list.members.insert(place, std::move(fresh));
      if (!change.learner_only) insert(plan.list.promote, id);
      insert(plan.conf.learners, id);
      return plan;
    }
    case MemberChange::Kind::kPromote:
      if (!contains(conf.learners, id)) {
        return refuse(fmt::format("node {} is not a learner; see: connectctl member list", id));
      }
      insert(plan.list.promote, id);
      return plan;
    case MemberChange::Kind::kRemove:
      if (only_voter()) {
        return refuse(fmt::format("node {} is the only voter: a cluster requires one", id));
      }
      std::erase(plan.conf.voters, id);
      std::erase(plan.conf.learners, id);
      std::erase(plan.list.promote, id);
      insert(plan.list.removed, id);
      return plan;
    case MemberChange::Kind::kReplace:
      if (only_voter()) {
        return refuse(fmt::format("node {} is the only voter: no other disk has its data", id));
      }
      std::erase(plan.conf.voters, id);
      if (conf.is_voter(id)) insert(plan.list.promote, id);
      member->disk_id = DiskId();
      take_addresses(change.member, *member);
      plan.other_disk = id;
      return plan;
    case MemberChange::Kind::kTransfer:
    case MemberChange::Kind::kSetting:
      break;
  }
  return refuse("unknown membership change");
}

PlannedChange bind_disk(NodeId id, const DiskId& disk, const raft::ConfState& conf,
                        const MemberList& list) {
  PlannedChange plan{conf, without_removed(list), id};
  if (GenesisMember* member = find_in(plan.list, id)) member->disk_id = disk;
  return plan;
}

PlannedChange move_member(const GenesisMember& member, const raft::ConfState& conf,
                          const MemberList& list) {
  PlannedChange plan{conf, without_removed(list)};
  if (GenesisMember* known = find_in(plan.list, member.id)) take_addresses(member, *known);
  return plan;
}

PlannedChange add_learner(NodeId id, const raft::ConfState& conf, const MemberList& list) {
  PlannedChange plan{conf, without_removed(list)};
  insert(plan.conf.learners, id);
  return plan;
}

PlannedChange promote_now(NodeId id, const raft::ConfState& conf, const MemberList& list) {
  PlannedChange plan{conf, without_removed(list)};
  std::erase(plan.conf.learners, id);
  insert(plan.conf.voters, id);
  std::erase(plan.list.promote, id);
  return plan;
}

bool has_caught_up(Index match, Index last, Index list_index) {
  return match + kPromoteLag >= last && match >= list_index;
}

std::optional<wire::Refusal> check_member(const MemberList& list, Index index, bool settled,
                                          const std::string& cluster_name,
                                          const wire::Hello& hello) {
  const GenesisMember* member = list.find(hello.node_id);
  const bool removed = list.is_removed(hello.node_id);
  if (removed && (settled || member == nullptr)) {
    return wire::Refusal{
        wire::RefusalCode::kRemoved,
        fmt::format("node {} was removed from cluster '{}'; ids are not reused: add it with "
                    "another id and an empty data directory: connectctl member add",
                    hello.node_id, cluster_name)};
  }
  // Who belongs to the cluster was let in by a member: this node may not have heard of it yet.
  if (member == nullptr && hello.cluster_id) return std::nullopt;
  if (member == nullptr) {
    return wire::Refusal{
        wire::RefusalCode::kNotMember,
        fmt::format("node {} is not a member of cluster '{}'; to add it, on a member: {}",
                    hello.node_id, cluster_name,
                    add_command({hello.node_id, DiskId(), hello.peer_address, hello.client_address,
                                 hello.http_address}))};
  }
  // A disk may have been exchanged since, and this node not have heard of it: then the other one
  // has.
  const bool knows_more = hello.cluster_id && hello.members_index > index;
  if (member->disk_id && member->disk_id != hello.disk_id && !knows_more) {
    return wire::Refusal{
        wire::RefusalCode::kDiskId,
        fmt::format("cluster '{1}' knows node {0} with another disk: its data directory was wiped "
                    "or exchanged, and a node that lost its votes must not vote again. Restore the "
                    "right directory, or run on another member: connectctl member replace {0}",
                    hello.node_id, cluster_name),
        fmt::format(" (known disk={} its disk={})", member->disk_id.to_string(),
                    hello.disk_id.to_string())};
  }
  return std::nullopt;
}

std::map<NodeId, std::vector<Address>> addresses_to_dial(NodeId self,
                                                         const std::map<NodeId, Address>& listed,
                                                         const MemberList& list, bool settled) {
  std::map<NodeId, std::vector<Address>> peers;
  for (const GenesisMember& member : list.members) {
    if (member.id == self || (settled && list.is_removed(member.id))) continue;
    const auto hint = listed.find(member.id);
    const auto address = parse_address(member.peer_address);
    if (hint == listed.end() && !address) continue;
    std::vector<Address>& known = peers[member.id];
    if (hint != listed.end()) known.push_back(hint->second);
    if (address && std::ranges::find(known, *address) == known.end()) known.push_back(*address);
  }
  return peers;
}

}  // namespace connectd::node

#include "node/membership/bootstrap.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/checksum.h"
#include "base/log.h"
#include "base/log_event.h"

namespace connectd::node {

Bootstrap::Bootstrap(Options options) : options_(std::move(options)) {
  CHECK(std::ranges::is_sorted(options_.members, {}, &GenesisMember::id));
}

void Bootstrap::resume(const Genesis& genesis) {
  decided_ = genesis;
  durable_ = true;
}

void Bootstrap::peer_reached(NodeId peer, const wire::Hello& hello) {
  peers_[peer] = Peer{true, hello};
  if (!hello.cluster_id) accepted_.erase(peer);  // a new disk, perhaps, which has nothing yet
}

void Bootstrap::turned_away(NodeId by, wire::RefusalCode code) {
  if (code == wire::RefusalCode::kNotMember) unknown_to_ = by;
  if (code == wire::RefusalCode::kDiskId) other_disk_at_ = by;
}

void Bootstrap::peer_lost(NodeId peer) { peers_[peer].connected = false; }

std::string Bootstrap::message(NodeId from, const wire::PeerMessage& message, Effects& out) {
  if (const auto* offer = std::get_if<wire::GenesisOffer>(&message)) {
    return take_offer(from, *offer, out);
  }
  if (const auto* accepted = std::get_if<wire::GenesisAccepted>(&message)) {
    if (durable_ && accepted->document_checksum == checksum64(as_bytes(decided_->encode()))) {
      accepted_[from] = true;
    }
  }
  return {};
}

// Once the genesis is durable, nobody who belongs here offers another. Before that it may be a
// mistake in a configuration, and both sides go on waiting for its end.
std::string Bootstrap::reject(NodeId from, const std::string& why) {
  if (durable_) return "genesis rejected: " + why;
  log_event(LogEvent::kClusterGenesisRejected, "genesis rejected node={}: {}", from, why);
  return {};
}

std::string Bootstrap::take_offer(NodeId from, const wire::GenesisOffer& offer, Effects& out) {
  auto genesis = Genesis::decode(as_bytes(offer.document));
  if (!genesis) return "genesis rejected: " + genesis.error().text;
  if (decided_ && *decided_ != *genesis) {
    return reject(from, "a node accepts only one");
  }
  const GenesisMember* self = genesis->find(options_.id);
  const bool founds = self != nullptr && self->disk_id == options_.disk_id;
  // Who is no founder joins a cluster that runs: the one who offers says that it belongs to it.
  auto peer = peers_.find(from);
  const wire::Hello* hello = peer == peers_.end() ? nullptr : &peer->second.hello;
  // A cluster that was recovered has another id than the document says, and names that one, too.
  const bool recovered = hello != nullptr && hello->cluster_id &&
                         std::ranges::find(hello->former_cluster_ids, genesis->cluster_id) !=
                             hello->former_cluster_ids.end();
  const bool may_join = options_.mode != Mode::kNew || never_forms();
  const bool joins = !founds && may_join && hello != nullptr &&
                     (hello->cluster_id == genesis->cluster_id || recovered);
  bool fits = (founds || joins) && genesis->cluster_name == options_.cluster_name &&
              genesis->plugin_name == options_.plugin_name &&
              genesis->plugin_level >= options_.plugin_level_min &&
              genesis->plugin_level <= options_.plugin_level_max &&
              genesis->settings.feature_level <= options_.feature_level_max;
  // A node set to join never takes part in forming. With a cluster id it may have, before.
  const bool forms = founds && options_.mode == Mode::kJoin && !options_.only_cluster_id;
  if (fits && !is_wanted(*genesis, hello)) {
    return reject(from,
                  fmt::format("cluster.id is another: cluster_id={} wanted={}",
                              (recovered ? hello->cluster_id : genesis->cluster_id).to_string(),
                              options_.only_cluster_id.to_string()));
  }
  if (!fits || forms) return reject(from, "it does not match this node");
  if (!decided_) {
    lineage_.cluster_id = genesis->cluster_id;
    if (recovered) {
      lineage_.cluster_id = hello->cluster_id;
      lineage_.former_cluster_ids = hello->former_cluster_ids;
    }
    if (hello != nullptr) lineage_.skips = hello->skipped_entries;
  }
  decided_ = std::move(*genesis);
  // The answer leaves when it is durable; the offer comes again.
  if (durable_) out.send(from, wire::GenesisAccepted{checksum64(as_bytes(decided_->encode()))});
  return {};
}

bool Bootstrap::founds() const {
  const GenesisMember* self = decided_ ? decided_->find(options_.id) : nullptr;
  return self != nullptr && self->disk_id == options_.disk_id;
}

bool Bootstrap::is_wanted(const Genesis& genesis, const wire::Hello* offered_by) const {
  const ClusterId& wanted = options_.only_cluster_id;
  if (!wanted || wanted == genesis.cluster_id) return true;
  if (offered_by == nullptr) return false;
  const auto& former = offered_by->former_cluster_ids;
  return wanted == offered_by->cluster_id || std::ranges::find(former, wanted) != former.end();
}

bool Bootstrap::is_of_another(const wire::Hello& hello) const {
  const ClusterId& wanted = options_.only_cluster_id;
  const auto& former = hello.former_cluster_ids;
  return wanted && hello.cluster_id && wanted != hello.cluster_id &&
         std::ranges::find(former, wanted) == former.end();
}

void Bootstrap::advance() {
  if (decided_ || refused_) return;
  if (options_.mode == Mode::kNew && !never_forms()) {
    draw();
    return;
  }
  // Where a cluster runs, this node does not form another.
  for (const auto& [id, peer] : peers_) {
    if (peer.connected && peer.hello.cluster_id) return;
  }
  if (never_forms() || options_.members.front().id != options_.id) return;
  for (const GenesisMember& member : options_.members) {
    if (member.id == options_.id) continue;
    auto found = peers_.find(member.id);
    if (found == peers_.end() || !found->second.connected) return;
  }
  draw();
}

void Bootstrap::draw() {
  Genesis genesis;
  genesis.cluster_id = options_.fresh_cluster_id;
  genesis.cluster_name = options_.cluster_name;
  genesis.max_request = options_.max_request;
  genesis.plugin_name = options_.plugin_name;
  genesis.plugin_options = options_.plugin_options;
  genesis.settings = options_.settings;
  // Every founder has the document on its disk before its log begins, and has promised nothing yet.
  if (genesis.settings.lease_reads) {
    genesis.settings.confirmed_timeout = genesis.settings.election_timeout;
  }
  genesis.members = options_.members;
  // The highest level that every founder supports.
  uint32_t low = options_.plugin_level_min;
  uint32_t high = options_.plugin_level_max;
  genesis.settings.feature_level = options_.feature_level_max;
  for (GenesisMember& member : genesis.members) {
    if (member.id == options_.id) {
      member.disk_id = options_.disk_id;
      continue;
    }
    auto found = peers_.find(member.id);
    if (options_.mode == Mode::kNew && found == peers_.end()) continue;
    member.disk_id = found->second.hello.disk_id;
    low = std::max(low, found->second.hello.plugin_level_min);
    high = std::min(high, found->second.hello.plugin_level_max);
    genesis.settings.feature_level =
        std::min(genesis.settings.feature_level, found->second.hello.feature_level_max);
  }
  if (options_.mode == Mode::kNew && genesis.members.size() > 1) {
    refused_ = Error{ErrorKind::kBadConfig,
                     "cluster.bootstrap 'new' is for a single member: list only this node, or set "
                     "bootstrap to auto"};
    return;
  }
  if (low > high) {
    refused_ = Error{ErrorKind::kMismatch,
                     fmt::format("the members' plugins '{}' have no common behaviour level: "
                                 "install the same build on all members",
                                 options_.plugin_name)};
    return;
  }
  genesis.plugin_level = high;
  lineage_.cluster_id = genesis.cluster_id;
  decided_ = std::move(genesis);
}

void Bootstrap::durable() {
  CHECK(decided_.has_value());
  durable_ = true;
}

std::map<NodeId, wire::Hello> Bootstrap::connected() const {
  std::map<NodeId, wire::Hello> hellos;
  for (const auto& [id, peer] : peers_) {
    if (peer.connected) hellos[id] = peer.hello;
  }
  return hellos;
}

std::string Bootstrap::run_on(NodeId member, std::string_view command) const {
  auto listed = std::ranges::find(options_.members, member, &GenesisMember::id);
  const std::string where = listed == options_.members.end() || listed->http_address.empty()
                                ? ""
                                : fmt::format(" ({})", listed->http_address);
  return fmt::format("run on another member, such as node {}{}: {}", member, where, command);
}

std::string Bootstrap::waiting_for() const {
  if (decided_) return {};
  NodeId known = unknown_to_;
  NodeId other_disk_at = other_disk_at_;
  NodeId stranger;
  for (const auto& [id, peer] : peers_) {
    if (is_of_another(peer.hello)) {
      if (known == id) known = NodeId();
      if (other_disk_at == id) other_disk_at = NodeId();
      if (peer.connected) stranger = id;
    } else if (peer.connected && peer.hello.cluster_id) {
      known = id;
    }
  }
  if (!known && other_disk_at) {
    return fmt::format(
        "cluster '{0}' knows node {1} with another disk, node {2} says. Is the disk of node {1} "
        "mounted? If it is, its data directory was wiped or exchanged. Waiting, without a vote, to "
        "be let in with this one; {3}",
        options_.cluster_name, options_.id, other_disk_at,
        run_on(other_disk_at, fmt::format("connectctl member replace {}", options_.id)));
  }
  if (!known && stranger) {
    return fmt::format(
        "the cluster of node {} has another id, {}, and cluster.id is {}: this node does not join "
        "it. Correct cluster.id, or the addresses in cluster.members",
        stranger, peers_.at(stranger).hello.cluster_id.to_string(),
        options_.only_cluster_id.to_string());
  }
  if (known) {
    GenesisMember own;
    own.id = options_.id;
    auto self = std::ranges::find(options_.members, options_.id, &GenesisMember::id);
    if (self != options_.members.end()) own = *self;
    return fmt::format("cluster '{}' already runs (node {} is a member): waiting to be added; {}",
                       options_.cluster_name, known, run_on(known, add_command(own)));
  }
  if (options_.only_cluster_id) {
    return fmt::format(
        "the data directory is empty, and cluster.id is {}: this node forms no cluster. Is its "
        "disk "
        "mounted? Waiting for a member of that cluster to let it in",
        options_.only_cluster_id.to_string());
  }
  if (options_.mode == Mode::kJoin) return "waiting for a member of a running cluster to answer";
  std::string missing;
  for (const GenesisMember& member : options_.members) {
    if (member.id == options_.id) continue;
    auto found = peers_.find(member.id);
    if (found != peers_.end() && found->second.connected) continue;
    missing +=
        fmt::format("{}node {} ({})", missing.empty() ? "" : ", ", member.id, member.peer_address);
  }
  if (!missing.empty()) return "the cluster forms when all members answer: waiting for " + missing;
  return fmt::format("waiting for the genesis from node {}", options_.members.front().id);
}

void Bootstrap::offer(const std::vector<GenesisMember>& members, Effects& out) {
  if (!durable_) return;
  std::string document = decided_->encode();
  for (const GenesisMember& member : members) {
    auto found = peers_.find(member.id);
    if (found == peers_.end() || !found->second.connected || accepted_[member.id]) continue;
    const wire::Hello& hello = found->second.hello;
    if (hello.cluster_id || (member.disk_id && hello.disk_id != member.disk_id)) continue;
    out.send(member.id, wire::GenesisOffer{document});
  }
}

}  // namespace connectd::node

#include "offline/recover.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <utility>

#include "base/limits.h"
#include "base/sha256.h"
#include "node/opening.h"
#include "storage/data_directory.h"
#include "storage/log.h"
#include "storage/preview_file_system.h"
#include "storage/recovery.h"
#include "storage/snapshot_store.h"
#include "wire/handshake.h"

namespace connectd::offline {
using node::end_text;
using node::Genesis;
using node::GenesisMember;
using node::kClusterDigits;
using node::kGenesisIndex;
using node::kMaxRecoveries;
using node::MemberList;
using node::recover_command;
using node::RecoveryRecord;
using node::ReplicatedState;
using node::SurvivorEnd;
namespace {

constexpr size_t kReadBytes = 1;  // one entry

bool contains(const std::vector<NodeId>& ids, NodeId id) {
  return std::ranges::find(ids, id) != ids.end();
}
void insert(std::vector<NodeId>& ids, NodeId id) {
  auto place = std::ranges::lower_bound(ids, id);
  if (place == ids.end() || *place != id) ids.insert(place, id);
}

std::string log_directory(const std::string& directory) { return directory + "/log"; }

// The same as for the node itself, so that a spare segment stays usable.
storage::LogOptions log_options(storage::FileSystem& files, const std::string& directory) {
  storage::LogOptions options;
  auto spare = files.open(log_directory(directory) + "/spare", storage::OpenMode::kRead);
  if (!spare) return options;
  if (auto size = (*spare)->size(); size && *size > 0) options.segment_bytes = *size;
  return options;
}

Result<std::unique_ptr<storage::Log>> open_log(storage::FileSystem& files,
                                               const std::string& directory,
                                               raft::SnapshotMark snapshot,
                                               storage::Recovered& recovered) {
  return storage::Log::open(files, log_directory(directory), log_options(files, directory),
                            snapshot, recovered);
}

SurvivorEnd end_of(NodeId node, const storage::Recovered& recovered, raft::SnapshotMark snapshot) {
  SurvivorEnd end;
  end.node = node;
  end.last_index = recovered.last_index;
  end.last_term = recovered.last_index >= recovered.first_index
                      ? storage::term_in(recovered.terms, recovered.last_index)
                      : recovered.before_first_term;
  end.term = std::max(recovered.hard_state.term, snapshot.term);
  return end;
}

// Thesis §3.6.1. Equal ends mean equal logs (log matching): then the lower id, so that all runs
// choose the same node.
bool is_better(const SurvivorEnd& a, const SurvivorEnd& b) {
  if (a.last_term != b.last_term) return a.last_term > b.last_term;
  if (a.last_index != b.last_index) return a.last_index > b.last_index;
  return a.node < b.node;
}

ClusterId recovered_id(const ClusterId& former, const std::vector<SurvivorEnd>& survivors) {
  std::string text;
  ByteWriter out(text);
  out.bytes(as_bytes(std::string_view("connectd recovery 1")));
  out.bytes(former.bytes);
  for (const SurvivorEnd& end : survivors) {
    out.number<uint64_t>(end.node.value());
    out.number<uint64_t>(end.last_term.value());
    out.number<uint64_t>(end.last_index.value());
    out.number<uint64_t>(end.term.value());
  }
  const std::string hex = sha256_hex(as_bytes(text));
  ClusterId id;
  for (size_t i = 0; i < id.bytes.size(); ++i) {
    std::from_chars(hex.data() + 2 * i, hex.data() + 2 * i + 2, id.bytes[i], 16);
  }
  return id;
}

bool is_majority(const std::vector<NodeId>& voters, const std::vector<SurvivorEnd>& survivors) {
  const auto there = std::ranges::count_if(
      survivors, [&](const SurvivorEnd& end) { return contains(voters, end.node); });
  return static_cast<size_t>(there) >= voters.size() / 2 + 1;
}
bool is_majority(const raft::ConfState& conf, const std::vector<SurvivorEnd>& survivors) {
  return is_majority(conf.voters, survivors) &&
         (!conf.is_joint() || is_majority(conf.voters_outgoing, survivors));
}

std::string joined(const std::vector<NodeId>& ids) {
  std::string text;
  for (NodeId id : ids) text += fmt::format("{}{}", text.empty() ? "" : "+", id);
  return text;
}
std::string voters_text(const raft::ConfState& conf) {
  return joined(conf.voters) + (conf.is_joint() ? "/" + joined(conf.voters_outgoing) : "");
}

// The new configuration: only the best node votes; the others become voters when they have its log.
raft::Entry make_record(const Survivor& survivor, const RecoveryPlan& plan,
                        const std::vector<SurvivorEnd>& ends, int64_t wall_ns) {
  const NodeId best = plan.best.node;
  auto survives = [&](NodeId id) {
    return std::ranges::find(ends, id, &SurvivorEnd::node) != ends.end();
  };
  raft::ConfState conf;
  MemberList list;
  list.removed = survivor.members.removed;
  list.recoveries = survivor.members.recoveries;
  list.recoveries.push_back({survivor.cluster, plan.id, best, wall_ns, ends});
  for (const GenesisMember& member : survivor.members.members) {
    if (survivor.members.is_removed(member.id)) continue;
    if (!survives(member.id)) {
      insert(list.removed, member.id);
      continue;
    }
    list.members.push_back(member);
    if (member.id == best) {
      list.members.back().disk_id = survivor.identity.disk_id;
      conf.voters.push_back(best);
      continue;
    }
    insert(conf.learners, member.id);
    // A permanent learner remains one.
    if (survivor.conf.is_voter(member.id) || survivor.members.will_promote(member.id)) {
      insert(list.promote, member.id);
    }
  }
  raft::Entry record;
  record.index = survivor.end.last_index + 1;
  for (const SurvivorEnd& end : ends) record.term = std::max(record.term, end.term);
  ++record.term;
  record.kind = raft::EntryKind::kRecovery;
  // The clock of the machine that runs the command must not move the log's time.
  record.stamp_ns = survivor.last_stamp_ns + 1;
  record.payload = Slice::copy_of(conf.encode() + list.encode());
  record.checksum = raft::entry_checksum(record);
  return record;
}

template <class T>
bool parse_number(std::string_view text, T& value, int base = 10) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size();
}

std::vector<std::string_view> split(std::string_view text, char by) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t at = text.find(by);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::optional<raft::ConfState> parse_voters(std::string_view text) {
  const auto sets = split(text, '/');
  raft::ConfState conf;
  if (sets.size() > 2) return std::nullopt;
  for (size_t i = 0; i < sets.size(); ++i) {
    std::vector<NodeId>& to = i == 0 ? conf.voters : conf.voters_outgoing;
    for (std::string_view part : split(sets[i], '+')) {
      uint64_t id = 0;
      if (!parse_number(part, id) || id == 0) return std::nullopt;
      if (!to.empty() && to.back() >= NodeId(id)) return std::nullopt;
      to.push_back(NodeId(id));
    }
  }
  return conf;
}

// A line may be without them.
bool lists_voters_of(const GivenSurvivor& own, const Survivor& survivor) {
  return !own.voters || voters_text(*own.voters) == voters_text(survivor.conf);
}

Result<void> check_majority_lost(const Survivor& survivor, const std::vector<GivenSurvivor>& given,
                                 const RecoveryPlan& plan, const std::vector<SurvivorEnd>& ends) {
  const GivenSurvivor& best = *std::ranges::find(
      given, plan.best.node, [](const GivenSurvivor& one) { return one.end.node; });
  if (!is_majority(best.voters ? *best.voters : survivor.conf, ends)) return {};
  return failure(ErrorKind::kRefused,
                 "the listed nodes are a majority of the voters: nothing is lost. Start them, and "
                 "they elect a leader; then replace or remove the others: connectctl member "
                 "replace ID, connectctl member remove ID");
}

Result<storage::Identity> identity_of_survivor(storage::FileSystem& files,
                                               const std::string& directory) {
  auto identity = storage::examine_directory(files, directory, NodeId());
  if (!identity) return failure(identity.error());
  if (!*identity) {
    return failure(ErrorKind::kNotFound,
                   fmt::format("{} has no identity: it is not a data directory, or its node never "
                               "ran; use a node's node.data_dir",
                               directory));
  }
  if ((*identity)->genesis.empty() || !(*identity)->log_begun) {
    return failure(
        ErrorKind::kWrongData,
        fmt::format("node {} in {} was never part of a cluster: there is nothing to recover",
                    (*identity)->node_id, directory));
  }
  return std::move(**identity);
}

}  // namespace

bool Survivor::is_interrupted() const {
  const ClusterId logged = members.cluster_id(genesis);
  return logged != identity.cluster_id && std::ranges::find(identity.former_cluster_ids, logged) ==
                                              identity.former_cluster_ids.end();
}

namespace {

// The newest in the log, committed or not.
Result<void> read_members(const raft::ConfAtIndex& newest, Survivor& survivor) {
  survivor.conf = newest.conf;
  auto members = MemberList::decode(newest.details.view());
  if (!members) return failure(members.error());
  survivor.members = std::move(*members);
  survivor.members_index = newest.index;
  return {};
}

// Which cluster the log belongs to.
Result<void> find_cluster(Survivor& survivor) {
  survivor.cluster = survivor.identity.cluster_id;
  survivor.former = survivor.identity.former_cluster_ids;
  // The record of an interrupted run does not count yet.
  const auto& records = survivor.members.recoveries;
  const ClusterId belongs_to = survivor.is_interrupted() && !records.empty()
                                   ? records.back().former
                                   : survivor.members.cluster_id(survivor.genesis);
  if (belongs_to == survivor.cluster) return {};
  auto place = std::ranges::find(survivor.former, belongs_to);
  if (place == survivor.former.end()) {
    return failure(ErrorKind::kCorrupt,
                   fmt::format("{}: the log and the identity file belong to different clusters",
                               survivor.directory));
  }
  survivor.cluster = belongs_to;
  survivor.former.erase(place, survivor.former.end());
  return {};
}

Result<Survivor> look_beside(storage::FileSystem& files, const std::string& directory,
                             storage::Identity identity) {
  Survivor survivor;
  survivor.directory = directory;
  survivor.identity = std::move(identity);
  auto genesis = Genesis::decode(as_bytes(survivor.identity.genesis));
  if (!genesis) return failure(genesis.error());
  survivor.genesis = std::move(*genesis);
  auto snapshots = storage::SnapshotStore::open(files, directory + "/snapshots", {});
  if (!snapshots) return failure(snapshots.error());
  auto reader = (*snapshots)->open_newest(survivor.warnings);
  if (!reader) return failure(reader.error());
  auto state = ReplicatedState::at_genesis(survivor.genesis);
  if (*reader) {
    survivor.snapshot = (*reader)->info().mark;
    auto decoded = ReplicatedState::decode(as_bytes((*reader)->metadata()));
    if (!decoded) return failure(decoded.error());
    state = std::move(*decoded);
    auto fits = node::check_snapshot(state, survivor.genesis, directory);
    if (!fits) return failure(fits.error());
  }
  storage::Recovered recovered;
  auto log = open_log(files, directory, survivor.snapshot, recovered);
  if (!log) return failure(log.error());
  std::ranges::move(recovered.warnings, std::back_inserter(survivor.warnings));
  auto histories = node::read_histories(
      {directory, survivor.genesis, **snapshots, survivor.snapshot.index, state, recovered},
      raft::highest_feature_level());
  if (!histories) return failure(histories.error());
  if (!survivor.snapshot.index && recovered.last_index < kGenesisIndex) {
    return failure(
        ErrorKind::kCorrupt,
        fmt::format("{0}: the log is empty, though this node has run before. To inspect: "
                    "connectctl inspect wal {0}",
                    directory));
  }
  survivor.end = end_of(survivor.identity.node_id, recovered, survivor.snapshot);
  survivor.commit = std::max(std::min(recovered.hard_state.commit, recovered.last_index),
                             survivor.snapshot.index);
  survivor.skipped = state.skipped;
  survivor.last_stamp_ns = std::max(recovered.last_stamp_ns, state.stamp_ns);
  auto read = read_members(histories->confs.back(), survivor);
  if (!read) return failure(read.error());
  if (auto found = find_cluster(survivor); !found) return failure(found.error());
  return survivor;
}

}  // namespace

Result<Survivor> look_at_survivor(storage::FileSystem& real, const std::string& directory) {
  storage::PreviewFileSystem files(real);
  auto identity = identity_of_survivor(files, directory);
  if (!identity) return failure(identity.error());
  const NodeId node = identity->node_id;
  auto survivor = look_beside(files, directory, std::move(*identity));
  if (survivor || survivor.error().kind != ErrorKind::kCorrupt) return survivor;
  return failure(ErrorKind::kCorrupt, fmt::format("{}. {}", survivor.error().text,
                                                  storage::next_command(directory, node)));
}

std::string survivor_text(const Survivor& survivor) {
  return end_text(survivor.end, survivor.cluster) + ":" + voters_text(survivor.conf);
}

Result<GivenSurvivor> parse_survivor(std::string_view text) {
  const auto parts = split(text, ':');
  uint64_t numbers[4] = {};
  bool good = parts.size() == 1 || parts.size() == 5 || parts.size() == 6;
  for (size_t i = 0; good && i < std::min<size_t>(parts.size(), 4); ++i) {
    good = parse_number(parts[i], numbers[i]) && (i > 0 || numbers[i] > 0);
  }
  if (good && parts.size() > 1) good = parts[4].size() == kClusterDigits;
  std::optional<raft::ConfState> voters;
  if (good && parts.size() == 6) {
    voters = parse_voters(parts[5]);
    good = voters.has_value();
  }
  if (!good) {
    return failure(ErrorKind::kUsage,
                   fmt::format("--members: '{}' must be a node id or a survivor as `connectctl "
                               "recover --data-dir DIR` prints it",
                               text));
  }
  return GivenSurvivor{{NodeId(numbers[0]), Term(numbers[1]), Index(numbers[2]), Term(numbers[3])},
                       parts.size() > 1 ? std::string(parts[4]) : std::string(),
                       std::move(voters),
                       parts.size() == 1};
}

Result<RecoveryPlan> plan_recovery(const Survivor& survivor, std::vector<GivenSurvivor> given,
                                   int64_t wall_ns) {
  const storage::Identity& identity = survivor.identity;
  auto usage = [](std::string text) { return failure(ErrorKind::kUsage, std::move(text)); };
  auto refuse = [](std::string text) { return failure(ErrorKind::kRefused, std::move(text)); };
  std::ranges::sort(given, {}, [](const GivenSurvivor& one) { return one.end.node; });
  if (given.empty() || given.size() > kMaxMembers) {
    return usage(
        fmt::format("--members lists {} nodes; must be 1 to {}", given.size(), kMaxMembers));
  }
  std::vector<SurvivorEnd> ends;
  const GivenSurvivor* own = nullptr;
  for (const GivenSurvivor& one : given) {
    if (!ends.empty() && ends.back().node == one.end.node) {
      return usage(fmt::format("--members lists node {} twice", one.end.node));
    }
    if (one.only_id && given.size() > 1) {
      return usage(fmt::format(
          "--members: missing the end of node {}'s log, which the choice of the best log requires. "
          "Run `connectctl recover --data-dir DIR` on each survivor, and list what they print",
          one.end.node));
    }
    ends.push_back(one.end);
    if (one.end.node == identity.node_id) own = &one;
  }
  if (own == nullptr) {
    return refuse(
        fmt::format("this is the data directory of node {}, and --members does not list it: only "
                    "survivors are recovered",
                    identity.node_id));
  }
  if (own->only_id) ends.front() = survivor.end;

  RecoveryPlan plan;
  plan.best = *std::ranges::min_element(ends, is_better);
  plan.is_best = plan.best.node == identity.node_id;
  // The command is repeated after it was completed: this log has the record, or will get it.
  const bool has_record = survivor.cluster == identity.cluster_id;
  if (!survivor.is_interrupted() && !(has_record && survivor.former.empty())) {
    const ClusterId& before = has_record ? survivor.former.back() : survivor.cluster;
    const auto& records = survivor.members.recoveries;
    std::vector<SurvivorEnd> then = ends;
    if (has_record && own->only_id && !records.empty() && records.back().survivors.size() == 1 &&
        survivor.members_index == survivor.end.last_index) {
      then = records.back().survivors;
    }
    plan.id = recovered_id(before, then);
    if (plan.id == identity.cluster_id && before.to_string().starts_with(own->cluster)) {
      plan.is_done = true;
      return plan;
    }
  }
  for (const GivenSurvivor& one : given) {
    if (!survivor.cluster.to_string().starts_with(one.cluster)) {
      return refuse(
          fmt::format("node {} was seen in cluster id {}..., this directory belongs to {}: the "
                      "survivors are of different clusters, or some were already recovered. Run "
                      "again on each survivor: connectctl recover --data-dir DIR",
                      one.end.node, one.cluster, survivor.cluster.to_string()));
    }
  }
  if (survivor.is_interrupted()) {
    const RecoveryRecord& record = survivor.members.recoveries.back();
    // The ends in the record are those before it was appended.
    if (own->only_id && record.survivors.size() == 1) {
      ends = record.survivors;
      plan.best = ends.front();
    }
    plan.id = recovered_id(survivor.cluster, ends);
    if (record.former != survivor.cluster || record.id != plan.id) {
      return refuse(fmt::format(
          "an earlier run on this directory wrote its record into the log and was interrupted. "
          "Complete it with the same arguments: {}",
          recover_command(survivor.directory, record)));
    }
    plan.log_is_done = true;
    for (NodeId id : survivor.members.removed) plan.lost.push_back(id);
    return plan;
  }
  plan.id = recovered_id(survivor.cluster, ends);

  if (!own->only_id && (own->end != survivor.end || !lists_voters_of(*own, survivor))) {
    return refuse(fmt::format(
        "node {} is {}{} in --members, but its log is {}: it ran since the inspection, or this is "
        "mistyped. Run again on each survivor: connectctl recover --data-dir DIR",
        identity.node_id, end_text(own->end, survivor.cluster),
        own->voters ? ":" + voters_text(*own->voters) : "", survivor_text(survivor)));
  }
  if (auto lost = check_majority_lost(survivor, given, plan, ends); !lost) {
    return failure(lost.error());
  }
  if (survivor.members.is_removed(identity.node_id)) {
    return refuse(fmt::format("node {} was removed from the cluster: its log does not count",
                              identity.node_id));
  }
  if (survivor.former.size() >= kMaxRecoveries) {
    return refuse(fmt::format(
        "this cluster was recovered {} times, the maximum: restore a snapshot into a new cluster",
        kMaxRecoveries));
  }
  for (const GenesisMember& member : survivor.members.members) {
    if (survivor.members.is_removed(member.id)) continue;
    if (std::ranges::find(ends, member.id, &SurvivorEnd::node) == ends.end()) {
      plan.lost.push_back(member.id);
    }
  }
  // Only the best node checks the members: the lists of the others may be older.
  if (!plan.is_best) return plan;
  for (const SurvivorEnd& end : ends) {
    if (survivor.members.find(end.node) == nullptr || survivor.members.is_removed(end.node)) {
      return refuse(
          fmt::format("node {} is not a member of the cluster in node {}'s log; add new members "
                      "when the cluster runs again: connectctl member add",
                      end.node, identity.node_id));
    }
  }
  plan.record = make_record(survivor, plan, ends, wall_ns);
  return plan;
}

Result<void> carry_out(storage::FileSystem& files, const std::string& directory,
                       const Survivor& survivor, const RecoveryPlan& plan) {
  // An earlier run's file can be read, but its last sync may have failed.
  if (plan.is_done) return storage::save_identity(files, directory, survivor.identity);
  if (plan.is_best) {
    // The record of an interrupted run may not be durable yet: opening the log makes it so.
    storage::Recovered recovered;
    auto log = open_log(files, directory, survivor.snapshot, recovered);
    if (!log) return failure(log.error());
    if (end_of(survivor.end.node, recovered, survivor.snapshot) != survivor.end) {
      return failure(ErrorKind::kDisk,
                     fmt::format("{}: the log changed during the recovery", directory));
    }
    if (!plan.log_is_done) {
      storage::LogBatch batch;
      // As if this node, the only voter, had won an election in the record's term: it never gives
      // another vote in that term, and everything up to the record is committed.
      batch.hard_state = {plan.record.term, survivor.end.node, plan.record.index};
      batch.entries = std::span(&plan.record, 1);
      if (auto done = (*log)->append(std::span(&batch, 1)); !done) return done;
    }
  }
  // After the record: a node whose log has it and whose identity file does not name it refuses to
  // start.
  storage::Identity identity = survivor.identity;
  identity.former_cluster_ids = survivor.former;
  identity.former_cluster_ids.push_back(survivor.cluster);
  identity.cluster_id = plan.id;
  return storage::save_identity(files, directory, identity);
}

// ---- an entry that the plugin does not get

std::string entry_text(const raft::EntryId& id) {
  return fmt::format("{}:{}:{:016x}", id.index, id.term, id.checksum);
}

Result<GivenEntry> parse_entry(std::string_view text) {
  const auto parts = split(text, ':');
  uint64_t index = 0;
  uint64_t term = 0;
  uint64_t checksum = 0;
  bool good = parse_number(parts[0], index) && index > 0;
  if (parts.size() > 1) {
    good = good && parts.size() == 3 && parse_number(parts[1], term) && term > 0 &&
           parts[2].size() == 16 && parse_number(parts[2], checksum, 16);
  }
  if (!good) {
    return failure(
        ErrorKind::kUsage,
        fmt::format(
            "--skip-entry: '{}' must be an index, or INDEX:TERM:CHECKSUM as another node prints it",
            text));
  }
  GivenEntry given{Index(index), {}};
  if (parts.size() == 3) given.id = raft::EntryId{Index(index), Term(term), checksum};
  return given;
}

Result<SkipPlan> plan_skip(storage::FileSystem& real, const std::string& directory,
                           const Survivor& survivor, const GivenEntry& given) {
  auto refuse = [](std::string text) { return failure(ErrorKind::kRefused, std::move(text)); };
  const NodeId node = survivor.identity.node_id;
  SkipPlan plan;
  for (const auto* known : {&survivor.identity.skips, &survivor.skipped}) {
    for (const raft::EntryId& id : *known) {
      if (id.index != given.index || (given.id && *given.id != id)) continue;
      plan.id = id;
      plan.is_done = true;
    }
  }
  if (plan.is_done) return plan;
  if (given.index <= survivor.snapshot.index) {
    return refuse(
        fmt::format("node {} has a snapshot up to index {}: its state includes the effect of the "
                    "entry at index {}, which cannot be undone. If the other members skip that "
                    "entry, replace this node's state: connectctl member replace {}",
                    node, survivor.snapshot.index, given.index, node));
  }
  if (survivor.identity.skips.size() >= kMaxSkippedEntries) {
    return refuse(fmt::format("{} entries are skipped already, the maximum: fix the plugin",
                              kMaxSkippedEntries));
  }
  if (given.index > survivor.end.last_index) {
    if (!given.id) {
      return refuse(fmt::format(
          "node {}'s log ends at index {}: it does not have the entry at index {}. To skip it when "
          "it arrives, pass INDEX:TERM:CHECKSUM, as this command prints it on a node that has it",
          node, survivor.end.last_index, given.index));
    }
    plan.id = *given.id;
    plan.notice = "the entry is not in this log yet, and is skipped when it arrives";
    return plan;
  }
  storage::PreviewFileSystem files(real);
  storage::Recovered recovered;
  auto log = open_log(files, directory, survivor.snapshot, recovered);
  if (!log) return failure(log.error());
  auto read = (*log)->read(given.index, given.index + 1, kReadBytes);
  if (!read) return failure(read.error());
  if (read->empty()) {
    return failure(ErrorKind::kWrongData,
                   fmt::format("{}: the log has no entry at index {}", directory, given.index));
  }
  raft::Entry& entry = read->front();
  plan.id = {entry.index, entry.term, entry.checksum};
  if (given.id && *given.id != plan.id) {
    if (given.index <= survivor.commit) {
      return refuse(fmt::format("node {} has committed another entry at index {}: {}, not {}", node,
                                given.index, entry_text(plan.id), entry_text(*given.id)));
    }
    plan.id = *given.id;
    plan.notice = fmt::format(
        "this log has another entry at index {}, which is not skipped; the given one is skipped "
        "when it arrives",
        given.index);
    return plan;
  }
  if (!raft::row_of(entry.kind).can_be_skipped) {
    return refuse(fmt::format(
        "the plugin does not get the entry at index {}: only commands and ticks can be skipped",
        given.index));
  }
  if (given.index > survivor.commit) {
    plan.notice = "this node does not know that this entry is committed";
  }
  plan.entry = std::move(entry);
  return plan;
}

Result<void> carry_out(storage::FileSystem& files, const std::string& directory,
                       const Survivor& survivor, const SkipPlan& plan) {
  if (plan.is_done) return storage::save_identity(files, directory, survivor.identity);
  storage::Identity identity = survivor.identity;
  identity.skips.insert(std::ranges::lower_bound(identity.skips, plan.id), plan.id);
  return storage::save_identity(files, directory, identity);
}

}  // namespace connectd::offline

// What a leader sends and a follower accepts; commit; the rounds that confirm reads.

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "raft/core.h"

namespace connectd::raft {

// ---- follower

namespace {
// The entries are contiguous from prev on, their terms do not decrease and do not exceed the
// leader's term, and their configurations and settings can be decoded. Empty, or what is wrong.
std::string_view fault_of(const AppendRequest& request, Term term) {
  Index index = request.prev_index;
  Term last_term = request.prev_term;
  for (const Entry& entry : request.entries) {
    if (entry.index != index + 1) return "entries with a gap";
    if (entry.term < last_term || !entry.term || entry.term > term) {
      return "entries whose terms no leader can have written";
    }
    index = entry.index;
    last_term = entry.term;
    ByteReader in(entry.payload.view());
    ConfState conf;
    Settings settings;
    if (brings_conf(entry.kind) && !ConfState::decode(in, conf)) {
      return "an entry with a malformed configuration";
    }
    if (brings_settings(entry.kind) && !Settings::decode(in, settings)) {
      return "an entry with malformed settings";
    }
  }
  return {};
}

// Settings of a feature level that this node does not support are not accepted.
bool is_supported(const AppendRequest& request, uint32_t feature_level_max) {
  return std::ranges::all_of(request.entries, [&](const Entry& entry) {
    if (!brings_settings(entry.kind)) return true;
    ByteReader in(entry.payload.view());
    Settings settings;
    return Settings::decode(in, settings) && settings.feature_level <= feature_level_max;
  });
}
}  // namespace

// Paper, figure 2, "AppendEntries RPC, receiver implementation".
void Core::on(NodeId from, Term term, AppendRequest& request) {
  if (!heard_from_leader(from)) return;
  contradiction_ = fault_of(request, term);
  if (!contradiction_.empty() || !is_supported(request, options_.feature_level_max)) return;

  // 2. Reject if the log has no entry at prev_index whose term matches. Entries that are committed
  // here are in every leader's log and need no check; they may be compacted.
  Index commit = log_.commit_index();
  if (request.prev_index >= commit && !log_.holds(request.prev_index, request.prev_term)) {
    AppendResponse response;
    response.index = request.prev_index;
    // Thesis §3.5: skip all positions that cannot match, a term at a time.
    response.hint_index =
        log_.last_at_most(std::min(request.prev_index, log_.last_index()), request.prev_term);
    response.hint_term = log_.term_at(response.hint_index);
    response.round = request.round;
    response.wall_ns = now_.wall_ns;
    send_when_durable(envelope(from, response), Index());
    return;
  }

  // 3. and 4. Entries that are in the log already stay, and so do those after them: the request may
  // be an old one, overtaken by a longer one whose entries are acknowledged. Only a conflict
  // truncates.
  size_t known = 0;
  while (known < request.entries.size()) {
    const Entry& entry = request.entries[known];
    if (entry.index > commit && !log_.holds(entry.index, entry.term)) break;
    ++known;
  }
  Index last_new = request.prev_index + request.entries.size();
  if (known < request.entries.size()) {
    // Where the request begins below the commit index, its prev_term was not looked at.
    const Entry& first = request.entries[known];
    if (first.term < log_.term_at(first.index - 1)) {
      contradiction_ = "entries whose terms contradict the committed log";
      return;
    }
    if (request.entries[known].index <= log_.last_index()) {
      truncate_log(request.entries[known].index);
    }
    for (size_t i = known; i < request.entries.size(); ++i) {
      append_to_log(std::move(request.entries[i]));
    }
  }

  // 5. Not past the last new entry: later entries here may differ from the leader's log.
  Index committed = std::min(request.commit, last_new);
  if (committed > commit) log_.commit_to(committed);

  if (request.entries.empty()) {
    // Reports what is durable now. Other entries of this term are acknowledged by the responses to
    // the requests that brought them.
    Index matched = std::max(last_new, commit);
    respond_accepted(from, std::min(matched, log_.durable_index()), Index(), request.round);
  } else {
    respond_accepted(from, last_new, last_new, request.round);
  }
}

void Core::respond_accepted(NodeId to, Index matched, Index needs, uint64_t round) {
  AppendResponse response;
  response.success = true;
  response.index = matched;
  response.round = round;
  response.wall_ns = now_.wall_ns;
  send_when_durable(envelope(to, response), needs);
}

void Core::on(NodeId from, Term, const Heartbeat& heartbeat) {
  if (!heard_from_leader(from)) return;
  // The leader sends no more than its match index for this node.
  Index committed = std::min(heartbeat.commit, log_.last_index());
  if (committed > log_.commit_index()) log_.commit_to(committed);
  send_when_durable(envelope(from, HeartbeatResponse{heartbeat.round, now_.wall_ns}), Index());
}

void Core::on(NodeId from, Term, const ReadIndexResponse& response) {
  if (from != leader()) return;
  for (uint64_t context : asks_.answered(response.context)) {
    if (response.index) {
      ready_.reads.push_back({context, response.index});
    } else {
      ready_.reads_dropped.push_back(context);
    }
  }
}

// ---- leader: answers

Progress* Core::heard_from_follower(NodeId from, uint64_t round, int64_t wall_ns) {
  Leader* leader = leading();
  Progress* peer = leader == nullptr ? nullptr : leader->follower(from);
  if (peer == nullptr) return nullptr;
  leader->log_time.observe(from, wall_ns, now_);
  renew_lease(*leader, *peer, round, wall_ns);
  if (leader->answered(*peer, round) && leader->reads.any_open()) confirm_reads(*leader);
  return peer;
}

void Core::on(NodeId from, Term, const AppendResponse& response) {
  Progress* peer = heard_from_follower(from, response.round, response.wall_ns);
  if (peer == nullptr) return;
  if (response.success) {
    if (response.index > log_.last_index()) return;  // nothing this leader ever sent
    bool advanced = response.index > peer->match();
    peer->accepted(response.index, log_.first_index(), now_.time);
    if (advanced) advance_commit(*leading());
  } else {
    Index hint = log_.last_at_most(response.hint_index, response.hint_term);
    peer->rejected(response.index, hint);
  }
}

void Core::on(NodeId from, Term, const HeartbeatResponse& response) {
  Progress* peer = heard_from_follower(from, response.round, response.wall_ns);
  if (peer == nullptr) return;
  peer->answered_heartbeat(log_.last_index(), now_.time, election_timeout());
}

// Paper §5.3 and §5.4.2: the largest index that a quorum holds durably is committed if it is of
// this term; entries of earlier terms are committed with it, never by counting (figure 8). The
// leader counts itself up to its own durable index (thesis §10.2.1).
void Core::advance_commit(Leader& leader) {
  const Index own = log_.durable_index();
  const Index reached = leader.quorum_match(conf(), own);
  if (reached <= log_.commit_index() || log_.term_at(reached) != term_) return;
  log_.commit_to(reached);
  // Thesis §4.2.2: a leader that is not in the new configuration manages the cluster until it is
  // committed, and then steps down.
  if (confs_.back().index <= reached && !is_voter()) {
    // The follower with the longest log campaigns without waiting for its timeout (§3.10).
    NodeId next;
    Index furthest;
    for (const auto& [id, peer] : leader.followers) {
      if (!conf().is_voter(id) || peer.match() <= furthest || priority_of(id) == 0) continue;
      next = id;
      furthest = peer.match();
    }
    if (next && furthest >= confs_.back().index)
      send(next, TimeoutNow{});  // no lease: it steps down
    become_follower(term_, NodeId());
  }
}

// ---- leader: what it sends in this turn

void Core::replicate(Leader& leader) {
  for (auto& [id, peer] : leader.followers) {
    bool sent = send_entries(leader, id, peer);
    // Entries are answered when they are durable, heartbeats at once: a slow disk must neither
    // delay reads nor make a follower look dead under load. A probe is one message at a time.
    bool answer_is_slow = sent && peer.state() == Progress::State::kReplicate;
    // The new commit index is sent at once: the followers' clients wait for it. `next - 1` is in
    // the follower's log if the connection kept the order; if not, the follower rejects it.
    if (!sent && peer.state() == Progress::State::kReplicate &&
        peer.sent_commit < log_.commit_index()) {
      sent = send_append(leader, id, peer, {}, 0);
    }
    if ((!sent || answer_is_slow) && (leader.heartbeat_is_due || leader.round_is_needed)) {
      send_heartbeat(leader, id, peer);
    }
  }
  leader.heartbeat_is_due = false;
  leader.round_is_needed = false;
}

bool Core::send_entries(Leader& leader, NodeId to, Progress& peer) {
  bool sent = false;
  while (peer.may_send(options_.inflight_bytes)) {
    if (peer.state() == Progress::State::kReplicate && peer.next() > log_.last_index()) break;
    // The entry before the needed one is compacted: nothing can be matched any more.
    if (peer.next() < log_.first_index()) {
      start_snapshot(to, peer, log_.first_index() - 1);
      break;
    }
    std::vector<Entry> entries;
    size_t weight = 0;
    if (log_.in_memory(peer.next())) {
      peer.loaded.clear();
      if (peer.state() == Progress::State::kProbe) {
        // Small entries go with the probe; larger ones wait until it is accepted.
        size_t limit = std::min(Progress::kProbeBytes, options_.max_append_bytes);
        if (log_.at(peer.next()).weight() <= limit) {
          weight = log_.copy(peer.next(), log_.last_index(), limit, options_.max_append_entries,
                             entries);
        }
      } else {
        weight = log_.copy(peer.next(), log_.last_index(), options_.max_append_bytes,
                           options_.max_append_entries, entries);
      }
    } else if (peer.state() == Progress::State::kReplicate) {
      if (peer.loaded.empty() || peer.loaded.front().index != peer.next()) {
        peer.loaded.clear();
        if (peer.loading != peer.next()) {
          peer.loading = peer.next();
          request_load(peer.next(), log_.memory_from(), options_.max_append_bytes);
        }
        break;
      }
      entries = std::exchange(peer.loaded, {});
      for (const Entry& entry : entries) weight += entry.weight();
    }
    // Larger than max_append_bytes, so it is alone.
    if (!entries.empty() && entries.front().payload.size() > options_.max_payload_bytes) {
      cannot_send(to, peer, entries.front());
      break;
    }
    sent = send_append(leader, to, peer, std::move(entries), weight);
  }
  return sent;
}

// An entry of a build that accepted larger requests. If it is committed, the follower gets it in a
// snapshot. If not, it never will be, for no other voter can have it; and while this node leads,
// nothing behind it is committed either. So this node leaves the lead to those that replace it.
void Core::cannot_send(NodeId to, Progress& peer, const Entry& entry) {
  if (entry.index <= log_.commit_index()) return start_snapshot(to, peer, entry.index);
  const bool alone = conf().voters.size() == 1 && conf().voters_outgoing.empty();
  if (!alone) unsendable_ = {entry.index, entry.term};
}

bool Core::has_unsendable() const {
  return unsendable_.index > log_.commit_index() &&
         log_.term_at(unsendable_.index) == unsendable_.term;
}

bool Core::send_append(Leader& leader, NodeId to, Progress& peer, std::vector<Entry> entries,
                       size_t weight) {
  AppendRequest request;
  request.prev_index = peer.next() - 1;
  request.prev_term = log_.term_at(request.prev_index);
  request.commit = log_.commit_index();
  request.round = leader.next_round(now_.time, round_grain());
  if (peer.state() == Progress::State::kProbe) {
    peer.sent_probe();
  } else {
    if (!entries.empty()) peer.sent_entries(entries.back().index, weight, now_.time);
    peer.sent_commit = request.commit;
  }
  request.entries = std::move(entries);
  send(to, std::move(request));
  return true;
}

void Core::send_heartbeat(Leader& leader, NodeId to, const Progress& peer) {
  const Index commit = std::min(log_.commit_index(), peer.match());
  send(to, Heartbeat{commit, leader.next_round(now_.time, round_grain())});
}

void Core::start_snapshot(NodeId to, Progress& peer, Index least) {
  peer.become_snapshot();
  ready_.snapshots.push_back({to, least});
}

// ---- leader: reads (thesis §6.4)

void Core::on(NodeId from, Term, const ReadIndexRequest& request) {
  if (Leader* leader = leading()) {
    leader->reads.add({from, request.context});
  } else {
    send(from, ReadIndexResponse{request.context, Index()});
  }
}

// Before an entry of its own term is committed, the leader's commit index may be lower than that of
// an earlier leader: reads wait.
void Core::open_read_round(Leader& leader) {
  if (!leader_is_ready() || !leader.reads.may_open()) return;
  leader.reads.open(leader.last_round(), log_.commit_index());
  leader.round_is_needed = true;
  confirm_reads(leader);  // a single voter is a quorum by itself
}

void Core::confirm_reads(Leader& leader) {
  const uint64_t answered = leader.quorum_answered(conf());
  leader.reads.confirm(answered,
                       [this](const Reader& reader, Index index) { answer_reader(reader, index); });
}

// No index: the read is refused.
void Core::answer_reader(const Reader& reader, Index index) {
  if (reader.node) {
    send(reader.node, ReadIndexResponse{reader.context, index});
  } else if (index) {
    ready_.reads.push_back({reader.context, index});
  } else {
    ready_.reads_dropped.push_back(reader.context);
  }
}

}  // namespace connectd::raft

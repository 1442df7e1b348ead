#include "tests/unit/raft/stage.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

namespace connectd::raft {

namespace {

using std::chrono::milliseconds;

NodeId to_node(std::string_view text) { return NodeId(std::stoull(std::string(text))); }

std::vector<uint64_t> to_numbers(const std::string& text) {
  std::vector<uint64_t> numbers;
  std::stringstream in(text);
  for (std::string part; std::getline(in, part, ',');) numbers.push_back(std::stoull(part));
  return numbers;
}

std::vector<NodeId> to_nodes(const std::string& text) {
  std::vector<NodeId> nodes;
  for (uint64_t number : to_numbers(text)) nodes.emplace_back(number);
  return nodes;
}

std::string ids(const std::vector<NodeId>& nodes) {
  std::string text;
  for (NodeId id : nodes) text += fmt::format("{}{}", text.empty() ? "" : ",", id);
  return text;
}

Duration to_duration(const std::string& text) { return milliseconds(std::stoll(text)); }

std::string name(NodeId id) { return id ? fmt::format("{}", id) : "none"; }

std::string position(Index index, Term term) { return fmt::format("{}/{}", index, term); }

std::string range(const std::vector<Entry>& entries) {
  std::string text = position(entries.front().index, entries.front().term);
  if (entries.size() > 1) {
    text += ".." + position(entries.back().index, entries.back().term);
  }
  return text;
}

std::string content(const Entry& entry) {
  switch (entry.kind) {
    case EntryKind::kNoop:
      return "no-op";
    case EntryKind::kConfChange:
      return "configuration";
    case EntryKind::kSettings:
      return "settings";
    default:
      if (entry.payload.size() > 20) return fmt::format("{} bytes", entry.payload.size());
      return fmt::format("\"{}\"", entry.payload.text());
  }
}

struct Describe {
  Term term;
  std::string operator()(const PreVoteRequest& m) const {
    return fmt::format("PreVote for term {}, log ends at {}", term,
                       position(m.last_index, m.last_term));
  }
  std::string operator()(const PreVoteResponse& m) const {
    return fmt::format("PreVoteResponse term {}: {}", term, m.granted ? "granted" : "refused");
  }
  std::string operator()(const VoteRequest& m) const {
    return fmt::format("Vote for term {}, log ends at {}{}", term,
                       position(m.last_index, m.last_term),
                       m.leader_transfer ? ", the leader wishes it" : "");
  }
  std::string operator()(const VoteResponse& m) const {
    return fmt::format("VoteResponse term {}: {}", term, m.granted ? "granted" : "refused");
  }
  std::string operator()(const AppendRequest& m) const {
    std::string entries = m.entries.empty() ? "nothing" : range(m.entries);
    return fmt::format("Append term {}: {} after {}, commit {}", term, entries,
                       position(m.prev_index, m.prev_term), m.commit);
  }
  std::string operator()(const AppendResponse& m) const {
    if (m.success) return fmt::format("AppendResponse term {}: matches to {}", term, m.index);
    return fmt::format("AppendResponse term {}: no match at {}, try {}", term, m.index,
                       position(m.hint_index, m.hint_term));
  }
  std::string operator()(const Heartbeat& m) const {
    return fmt::format("Heartbeat term {}: commit {}", term, m.commit);
  }
  std::string operator()(const HeartbeatResponse&) const {
    return fmt::format("HeartbeatResponse term {}", term);
  }
  std::string operator()(const TimeoutNow&) const {
    return fmt::format("TimeoutNow term {}", term);
  }
  std::string operator()(const ReadIndexRequest&) const {
    return fmt::format("ReadIndex term {}", term);
  }
  std::string operator()(const ReadIndexResponse& m) const {
    if (!m.index) return fmt::format("ReadIndexResponse term {}: refused", term);
    return fmt::format("ReadIndexResponse term {}: index {}", term, m.index);
  }
};

}  // namespace

std::string describe(const Envelope& envelope) {
  return std::visit(Describe{envelope.term}, envelope.message);
}

Now Stage::now() const {
  Duration since_boot = std::chrono::seconds(100) + elapsed_;
  return {Time(since_boot),
          std::chrono::nanoseconds(std::chrono::hours(1)).count() + since_boot.count()};
}

Now Stage::now_of(const Node& n) const {
  Duration shown = n.clock_base + (elapsed_ - n.clock_since) * n.clock_percent / 100;
  Now now = this->now();
  Duration fast = std::chrono::seconds(100) + shown - now.time.time_since_epoch();
  return {now.time + fast, now.wall_ns + (fast + n.wall_skew).count()};
}

Duration Stage::until(const Node& n, Time deadline) const {
  Duration left = deadline - Time(std::chrono::seconds(100)) - n.clock_base;
  return n.clock_since + (left * 100 + Duration(n.clock_percent - 1)) / n.clock_percent;
}

void Stage::say(std::string_view line) {
  out_ += fmt::format("[{:>5} ms] {}\n", elapsed_ / milliseconds(1), line);
}

void Stage::detail(std::string_view line) {
  if (!terse_) say(line);
}

Stage::Node& Stage::node(NodeId id) {
  auto found = nodes_.find(id);
  if (found == nodes_.end()) throw std::runtime_error(fmt::format("there is no node {}", id));
  return found->second;
}

std::string Stage::run(const std::string& line) {
  out_.clear();
  Arguments arguments;
  std::stringstream in(line);
  std::string command;
  in >> command;
  for (std::string word; in >> word;) {
    size_t equals = word.find('=');
    if (equals == std::string::npos) {
      arguments.words.push_back(word);
    } else {
      arguments.named[word.substr(0, equals)] = word.substr(equals + 1);
    }
  }
  auto& words = arguments.words;
  auto id = [&](size_t i) { return to_node(words.at(i)); };

  // To the node's next deadline; if that is past, the node first gets the time to listen that it
  // takes after a gap.
  auto time_out = [&](NodeId who) {
    for (int i = 0; i < 2; ++i) {
      Time deadline = node(who).core->next_deadline();
      bool late = deadline < now_of(node(who)).time;
      if (!late) elapsed_ = until(node(who), deadline);
      step(who, TimePassed{});
      if (!late) break;
    }
  };

  if (command == "cluster") {
    cluster(arguments);
  } else if (command == "start") {
    start(id(0), arguments);
  } else if (command == "crash") {
    node(id(0)).core.reset();
    node(id(0)).writing.clear();
    checker_.restarted(id(0));
    say(fmt::format("{} is gone, and what it had not persisted", id(0)));
  } else if (command == "timeout") {
    time_out(id(0));
  } else if (command == "elect") {
    terse_ = true;
    time_out(id(0));
    settle();
    terse_ = false;
  } else if (command == "slow" || command == "fast") {
    node(id(0)).disk_is_slow = command == "slow";
  } else if (command == "pass") {
    elapsed_ += to_duration(words.at(0));
  } else if (command == "tick") {
    step(id(0), TimePassed{});
  } else if (command == "deliver" || command == "drop" || command == "duplicate") {
    words.insert(words.begin(), command);
    deliver(arguments);
  } else if (command == "persist") {
    if (!persist(id(0), words.size() > 1 ? std::stoull(words[1]) : SIZE_MAX)) {
      say(fmt::format("{} has nothing to persist", id(0)));
    }
  } else if (command == "settle") {
    settle();
  } else if (command == "run") {
    run_for(to_duration(words.at(0)));
  } else if (command == "cut") {
    for (const std::string& link : words) {
      size_t arrow = link.find("->");
      size_t dash = link.find('-');
      NodeId a = to_node(link.substr(0, std::min(arrow, dash)));
      NodeId b = to_node(link.substr(arrow != std::string::npos ? arrow + 2 : dash + 1));
      cut_.emplace_back(a, b);
      if (arrow == std::string::npos) cut_.emplace_back(b, a);
    }
  } else if (command == "heal") {
    cut_.clear();
  } else if (command == "lost") {
    step(id(0), PeerLost{id(1)});
  } else if (command == "reached") {
    step(id(0), PeerReached{id(1)});
  } else if (command == "propose") {
    Propose propose;
    for (size_t i = 1; i < words.size(); ++i) {
      Proposal proposal;
      proposal.payload = Slice::copy_of(words[i]);
      propose.proposals.push_back(std::move(proposal));
    }
    if (arguments.named.contains("size")) {
      Proposal proposal;
      proposal.payload = Slice::copy_of(std::string(std::stoull(arguments.named["size"]), 'x'));
      propose.proposals.push_back(std::move(proposal));
    }
    step(id(0), std::move(propose));
  } else if (command == "propose-configuration") {
    Proposal proposal;
    proposal.kind = EntryKind::kConfChange;
    step(id(0), Propose{{proposal}});
  } else if (command == "change") {
    ChangeConf change;
    change.conf.voters = to_nodes(arguments.named["voters"]);
    change.conf.learners = to_nodes(arguments.named["learners"]);
    constexpr const char* kRefusals[] = {"", "it does not lead", "nothing of its term is committed",
                                         "another change is under way",
                                         "leadership is being handed over"};
    ChangeRefusal refusal = node(id(0)).core->change_refusal();
    if (refusal != ChangeRefusal::kNone) {
      say(fmt::format("{} takes no change: {}", id(0), kRefusals[static_cast<size_t>(refusal)]));
    }
    step(id(0), std::move(change));
  } else if (command == "suffrage") {
    step(id(0), Suffrage{words.at(1) == "yes"});
  } else if (command == "read") {
    step(id(0), ReadRequest{std::stoull(words.at(1)), words.size() > 2 && words[2] == "lease"});
  } else if (command == "lease") {
    step(id(0), TimePassed{});
    auto held = node(id(0)).core->lease_until();
    say(held ? fmt::format("{} holds a lease for {} ms", id(0),
                           (*held - now_of(node(id(0))).time) / milliseconds(1))
             : fmt::format("{} holds no lease", id(0)));
  } else if (command == "settings") {
    Settings settings = node(id(0)).core->settings();
    for (const auto& [key, value] : arguments.named) {
      if (key == "lease") settings.lease_reads = value == "on";
      if (key == "election") settings.election_timeout = to_duration(value);
      if (key == "drift")
        settings.max_clock_drift_percent = static_cast<uint8_t>(std::stoul(value));
    }
    step(id(0), ChangeSettings{settings});
  } else if (command == "clock") {  // clock ID rate=PERCENT jump=MS: its speed; set its wall clock
    Node& n = node(id(0));
    n.clock_base = now_of(n).time.time_since_epoch() - std::chrono::seconds(100);
    n.clock_since = elapsed_;
    if (arguments.named.contains("rate")) n.clock_percent = std::stoi(arguments.named["rate"]);
    if (arguments.named.contains("jump")) n.wall_skew += to_duration(arguments.named["jump"]);
  } else if (command == "retire") {
    step(id(0), Retire{});
  } else if (command == "transfer") {
    step(id(0), TransferLeadership{words.size() > 1 ? id(1) : NodeId()});
  } else if (command == "compact") {
    Disk& disk = node(id(0)).disk;
    Index first(std::stoull(words.at(1)));
    Term term = node(id(0)).core->term_at(first - 1);
    disk.snapshot = {node(id(0)).core->applied_index(),
                     node(id(0)).core->term_at(node(id(0)).core->applied_index())};
    disk.log.erase(disk.log.begin(),
                   disk.log.begin() + static_cast<std::ptrdiff_t>(first - disk.first));
    disk.first = first;
    disk.before_first = term;
    step(id(0), SnapshotTaken{disk.snapshot});
    step(id(0), Compacted{first});
  } else if (command == "install") {
    install(id(0), id(1));
  } else if (command == "snapshot-failed") {
    step(id(0), SnapshotSent{id(1), false, {}});
  } else if (command == "log") {
    print_log(id(0));
  } else if (command == "status") {
    print_status();
  } else {
    throw std::runtime_error("unknown command: " + line);
  }
  return out_.empty() ? "ok\n" : out_;
}

void Stage::cluster(const Arguments& arguments) {
  *this = Stage();
  auto named = arguments.named;
  conf_.voters = to_nodes(named["voters"]);
  conf_.voters_outgoing = to_nodes(named["outgoing"]);
  conf_.learners = to_nodes(named["learners"]);
  std::vector<NodeId> all = conf_.members();
  for (NodeId id : to_nodes(named["others"])) all.push_back(id);
  for (NodeId id : all) {
    Node& n = nodes_[id];
    n.options.id = id;
    n.options.seed = id.value();
    n.options.pre_vote = named["pre_vote"] != "off";
    n.options.check_quorum = named["check_quorum"] != "off";
    if (named.contains("priorities")) {
      n.options.priority =
          static_cast<uint8_t>(to_numbers(named["priorities"]).at(nodes_.size() - 1));
    }
    if (named.contains("append_bytes")) {
      n.options.max_append_bytes = std::stoull(named["append_bytes"]);
    }
    if (named.contains("inflight_bytes")) {
      n.options.inflight_bytes = std::stoull(named["inflight_bytes"]);
    }
    if (named.contains("cache_bytes")) n.options.cache_bytes = std::stoull(named["cache_bytes"]);
  }
  founding_ = Settings();
  founding_.lease_reads = named["lease"] == "on";
  if (founding_.lease_reads) founding_.confirmed_timeout = founding_.election_timeout;
  for (NodeId id : all) start(id, {});
  if (!named.contains("priorities")) return;
  // All are connected, and have exchanged hellos.
  for (NodeId id : all) {
    for (NodeId peer : all) {
      if (id != peer) step(id, PeerReached{peer, node(peer).options.priority});
    }
  }
}

// With named values: from a disk that holds them. Else from what the node has persisted.
void Stage::start(NodeId id, const Arguments& arguments) {
  Node& n = node(id);
  auto named = arguments.named;
  Disk& disk = n.disk;
  if (!named.empty()) {
    disk = Disk();
    for (uint64_t term : to_numbers(named["log"])) {
      Entry entry;
      entry.index = disk.last() + 1;
      entry.term = Term(term);
      entry.kind = EntryKind::kCommand;
      entry.stamp_ns = static_cast<int64_t>(entry.index.value());
      entry.payload = Slice::copy_of(fmt::format("{}.{}", entry.index, term));
      entry.checksum = entry_checksum(entry);
      disk.log.push_back(std::move(entry));
    }
    disk.hard_state.term = disk.log.empty() ? Term() : disk.log.back().term;
    if (named.contains("term")) disk.hard_state.term = Term(std::stoull(named["term"]));
    if (named.contains("vote")) disk.hard_state.vote = to_node(named["vote"]);
    if (named.contains("commit")) disk.hard_state.commit = Index(std::stoull(named["commit"]));
    if (named.contains("snapshot")) {
      size_t slash = named["snapshot"].find('/');
      disk.snapshot = {Index(std::stoull(named["snapshot"])),
                       Term(std::stoull(named["snapshot"].substr(slash + 1)))};
    }
  }
  Initial initial;
  initial.hard_state = disk.hard_state;
  initial.conf = conf_;
  initial.snapshot = disk.snapshot;
  initial.first_index = disk.first;
  initial.before_first_term = disk.before_first;
  initial.last_index = disk.last();
  initial.applied = disk.snapshot.index;
  if (!disk.log.empty()) initial.last_stamp_ns = disk.log.back().stamp_ns;
  for (const Entry& entry : disk.log) {
    if (initial.terms.empty() || initial.terms.back().term != entry.term) {
      initial.terms.push_back({entry.index, entry.term});
    }
  }
  initial.conf_history.push_back({Index(), conf_});
  for (const Entry& entry : disk.log) {
    if (entry.kind != EntryKind::kConfChange) continue;
    ByteReader in(entry.payload.view());
    ConfState::decode(in, initial.conf);
    initial.conf_history.push_back({entry.index, initial.conf});
  }
  initial.settings_history.push_back({Index(), founding_});
  for (const Entry& entry : disk.log) {
    if (entry.kind != EntryKind::kSettings) continue;
    ByteReader in(entry.payload.view());
    SettingsAtIndex change{entry.index, {}};
    Settings::decode(in, change.settings);
    initial.settings_history.push_back(change);
  }
  initial.is_fresh = !n.has_run;
  n.has_run = true;
  n.core = std::make_unique<Core>(n.options, initial, now_of(n));
  n.writing.clear();
  checker_.restarted(id);
  n.told_role = n.core->role();
  n.told_term = n.core->term();
  n.told_leader = NodeId();
  n.told_commit = n.core->commit_index();
  n.told_conf = n.core->conf_index();
  n.told_settings = n.core->settings_index();
  if (n.core->last_index() || n.core->term()) {
    say(fmt::format("{} starts: term {}, log ends at {}, commit {}", id, n.core->term(),
                    position(n.core->last_index(), n.core->term_at(n.core->last_index())),
                    n.core->commit_index()));
  }
  turn(id);
}

// deliver|drop|duplicate [from->to] [first|last|<count>]
void Stage::deliver(const Arguments& arguments) {
  const std::string& what = arguments.words.at(0);
  NodeId from;
  NodeId to;
  size_t count = SIZE_MAX;
  bool last = false;
  for (size_t i = 1; i < arguments.words.size(); ++i) {
    const std::string& word = arguments.words[i];
    if (size_t arrow = word.find("->"); arrow != std::string::npos) {
      from = to_node(word.substr(0, arrow));
      to = to_node(word.substr(arrow + 2));
    } else if (word == "last") {
      last = true;
      count = 1;
    } else {
      count = std::stoull(word);
    }
  }
  std::vector<Envelope> chosen;
  std::deque<Envelope> rest;
  auto matches = [&](const Envelope& e) { return !from || (e.from == from && e.to == to); };
  if (last) std::reverse(wire_.begin(), wire_.end());
  for (Envelope& envelope : wire_) {
    bool take = chosen.size() < count && matches(envelope);
    if (take) chosen.push_back(envelope);
    if (!take || what == "duplicate") rest.push_back(std::move(envelope));
  }
  if (last) std::reverse(rest.begin(), rest.end());
  wire_ = std::move(rest);
  if (chosen.empty()) say("nothing is on the wire");
  for (Envelope& envelope : chosen) {
    if (what == "drop") {
      say(fmt::format("lost: {} -> {}: {}", envelope.from, envelope.to, describe(envelope)));
    } else if (nodes_.contains(envelope.to) && node(envelope.to).core) {
      detail(fmt::format("{} gets from {}: {}", envelope.to, envelope.from, describe(envelope)));
      step(envelope.to, Received{std::move(envelope)});
    }
  }
}

bool Stage::persist(NodeId id, size_t count) {
  bool any = false;
  for (Node& n = node(id); count > 0 && n.core && !n.writing.empty(); --count) {
    any = true;
    AppendBatch batch = std::move(n.writing.front());
    n.writing.pop_front();
    n.disk.hard_state = batch.hard_state;
    if (batch.replaces_from) n.disk.log.resize(*batch.replaces_from - n.disk.first);
    for (const Entry& entry : batch.entries) {
      if (entry.index >= n.disk.first) n.disk.log.push_back(entry);
    }
    detail(fmt::format("{} has persisted batch {}", id, batch.id));
    for (const Envelope& envelope : batch.after_durable) send(envelope);
    step(id, AppendDone{batch.id});
  }
  return any;
}

void Stage::settle() {
  constexpr int kEnough = 200;
  for (int i = 0; i < kEnough; ++i) {
    bool any = false;
    for (auto& [id, n] : nodes_) any |= !n.disk_is_slow && persist(id, SIZE_MAX);
    if (!wire_.empty()) {
      any = true;
      deliver({{"deliver"}, {}});
    }
    if (!any) return;
  }
  say("this does not settle");
}

// Everything happens automatically, and only changes are printed.
void Stage::run_for(Duration duration) {
  terse_ = true;
  settle();
  for (Duration end = elapsed_ + duration; elapsed_ < end;) {
    elapsed_ = std::min(end, elapsed_ + milliseconds(1));
    for (auto& [id, n] : nodes_) {
      if (n.core && n.core->next_deadline() <= now_of(n).time) step(id, TimePassed{});
    }
    settle();
  }
  terse_ = false;
}

// The snapshot of `from` reaches `to`, is restored there, and its sender hears of it.
void Stage::install(NodeId to, NodeId from) {
  SnapshotMark mark = node(from).disk.snapshot;
  Node& n = node(to);
  n.disk.snapshot = mark;
  if (n.core->term_at(mark.index) != mark.term) {
    n.disk.log.clear();
    n.disk.first = mark.index + 1;
    n.disk.before_first = mark.term;
  }
  say(fmt::format("{} installs the snapshot of {} at {}", to, from,
                  position(mark.index, mark.term)));
  step(to, SnapshotInstalled{mark, node(from).core->conf(), 0});
  step(from, SnapshotSent{to, true, mark});
}

void Stage::print_log(NodeId id) {
  Node& n = node(id);
  std::string terms;
  for (Index i = n.core->first_index(); i <= n.core->last_index(); ++i) {
    terms += fmt::format(" {}", n.core->term_at(i));
  }
  say(fmt::format("{}: log from {}: terms{}; durable {}, commit {}", id, n.core->first_index(),
                  terms.empty() ? " none" : terms, n.core->durable_index(),
                  n.core->commit_index()));
}

void Stage::print_status() {
  for (auto& [id, n] : nodes_) {
    if (!n.core) {
      say(fmt::format("{}: down", id));
      continue;
    }
    std::string line =
        fmt::format("{}: {}, term {}, leader {}, log ends at {}, commit {}", id,
                    role_name(n.core->role()), n.core->term(), name(n.core->leader()),
                    position(n.core->last_index(), n.core->term_at(n.core->last_index())),
                    n.core->commit_index());
    for (const PeerStatus& peer : n.core->peers()) {
      static constexpr const char* kStates[] = {"probe", "replicate", "snapshot"};
      line += fmt::format("; {} {} match {} next {}", peer.id,
                          kStates[static_cast<size_t>(peer.state)], peer.match, peer.next);
    }
    say(line);
  }
}

void Stage::send(const Envelope& envelope) {
  bool is_cut =
      std::find(cut_.begin(), cut_.end(), std::pair(envelope.from, envelope.to)) != cut_.end();
  detail(fmt::format("{} -> {}: {}{}", envelope.from, envelope.to, describe(envelope),
                     is_cut ? " (lost)" : ""));
  if (!is_cut) wire_.push_back(envelope);
}

void Stage::step(NodeId id, Event event) {
  Node& n = node(id);
  if (!n.core) return;
  n.core->step(std::move(event), now_of(n));
  turn(id);
}

void Stage::turn(NodeId id) {
  Node& n = node(id);
  std::string broken = checker_.after_step(*n.core);
  Ready ready = n.core->take_ready();
  if (broken.empty()) broken = checker_.after_step(*n.core);
  if (broken_.empty()) broken_ = broken;
  Core& core = *n.core;
  // While a leader exists, no node of an older term may hold a lease.
  for (const auto& [other, o] : nodes_) {
    if (!o.core || core.role() != Role::kLeader || o.core->term() >= core.term()) continue;
    auto lease = o.core->lease_until();
    if (lease && *lease > now_of(o).time && broken_.empty()) {
      broken_ = fmt::format("{} leads term {}, and {} still holds a lease", id, core.term(), other);
    }
  }
  if (n.told_role != core.role() || n.told_term != core.term() || n.told_leader != core.leader()) {
    say(fmt::format("{} is {} in term {}, leader {}", id, role_name(core.role()), core.term(),
                    name(core.leader())));
    n.told_role = core.role();
    n.told_term = core.term();
    n.told_leader = core.leader();
  }
  if (ready.proposals_dropped > 0) say(fmt::format("{} refuses the proposal", id));
  for (const Envelope& envelope : ready.messages) send(envelope);
  if (ready.append) {
    const AppendBatch& batch = *ready.append;
    std::string text = fmt::format("{} writes batch {}: term {}, vote {}", id, batch.id,
                                   batch.hard_state.term, name(batch.hard_state.vote));
    if (!batch.entries.empty()) text += ", entries " + range(batch.entries);
    if (batch.replaces_from) text += fmt::format(", replacing from {}", *batch.replaces_from);
    detail(text);
    for (const Envelope& envelope : batch.after_durable) {
      detail(fmt::format("  then {} -> {}: {}", id, envelope.to, describe(envelope)));
    }
    n.writing.push_back(std::move(*ready.append));
  }
  if (core.conf_index() != n.told_conf) {
    n.told_conf = core.conf_index();
    const ConfState& conf = core.conf();
    std::string text = fmt::format("{} goes by voters {}", id, ids(conf.voters));
    if (conf.is_joint()) text += fmt::format(" and {}", ids(conf.voters_outgoing));
    if (!conf.learners.empty()) text += fmt::format(", learners {}", ids(conf.learners));
    say(text);
  }
  if (core.settings_index() != n.told_settings) {
    n.told_settings = core.settings_index();
    const Settings& settings = core.settings();
    say(fmt::format("{} goes by leases {}, election timeout {} ms, {} ms confirmed", id,
                    settings.lease_reads ? "on" : "off",
                    settings.election_timeout / milliseconds(1),
                    settings.confirmed_timeout / milliseconds(1)));
  }
  if (core.commit_index() != n.told_commit) {
    say(fmt::format("{} commits up to {}", id, core.commit_index()));
    n.told_commit = core.commit_index();
  }
  for (const ReadState& read : ready.reads) {
    say(fmt::format("{} may serve read {} from index {} on", id, read.context, read.index));
  }
  for (uint64_t context : ready.reads_dropped) {
    say(fmt::format("{} gives up read {}: ask again", id, context));
  }
  for (const auto& need : ready.snapshots) {
    say(fmt::format("{} starts a snapshot for {}", id, need.peer));
  }
  if (!ready.committed.empty()) {
    std::string text = fmt::format("{} applies", id);
    for (const Entry& entry : ready.committed) {
      text += fmt::format(" {} {}", position(entry.index, entry.term), content(entry));
    }
    if (ready.committed.size() > 4) {
      text = fmt::format("{} applies {}", id, range(ready.committed));
    }
    detail(text);
    step(id, ApplyDone{ready.committed.back().index});
  }
  for (const LoadRequest& load : ready.loads) {
    detail(fmt::format("{} loads [{}, {})", id, load.from, load.to));
    Loaded loaded{load.from, {}};
    for (Index i = load.from; i < load.to && i >= n.disk.first && i <= n.disk.last(); ++i) {
      loaded.entries.push_back(n.disk.log[i - n.disk.first]);
    }
    step(id, std::move(loaded));
  }
}

}  // namespace connectd::raft

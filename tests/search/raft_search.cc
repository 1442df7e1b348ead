// Small-scope search: every order in which a few things can happen to three cores, up to a bound.
//
// A state is three cores with their disks and the batches that are not on them yet, and the
// messages that are under way, in no order. From each state every action of the bound is tried: a
// message arrives, arrives and stays (duplication), or is lost; a node's oldest batch becomes
// durable; a follower's timeout ends; a leader sends heartbeats or takes a command; a node crashes
// and starts again from what is durable. Breadth first: a violation is shown by one of its shortest
// paths.
//
// How it stays small
//   - Time stands still, but for the moment of a timeout, so it decides nothing
//     (raft/fingerprint.h says what that leaves out). Any node may time out at any moment: more
//     than a clock would allow.
//   - A node's state is kept once however many states share it, and what an event makes of it is
//     computed once: the core is a function.
//   - Symmetry: a state and what it becomes by renaming the nodes count as one. The core does not
//     look at the numbers of nodes but to tell them apart and to choose an order of sending, and
//     the network has no order. The program proves it on a bound: --check-symmetry counts the
//     states behind each one and compares with the search that does not use it.
//
// Checked in every state: the core's own invariants before and after the step; one leader a term;
// one vote of a node in a term, over all its lives; no vote, vote request or acknowledgement leaves
// before it is on the disk; what was ever handed out to apply is the same everywhere and is on the
// disks of a majority; the leader of the highest term holds it; log matching, of the logs and of
// the disks.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/checksum.h"
#include "base/log.h"
#include "raft/core.h"
#include "raft/fingerprint.h"
#include "raft/invariants.h"
#include "tests/unit/raft/stage.h"

namespace connectd::raft {
namespace {

constexpr size_t kNodes = 3;
constexpr size_t kMostMessages = 15;
constexpr size_t kPermutations = 6;

struct Bound {
  uint64_t terms = 2;
  uint64_t elections = 3;  // timeouts that begin a campaign
  uint64_t proposals = 1;  // entries of clients; each leader brings one more, its no-op
  uint64_t crashes = 1;
  uint64_t duplicates = 1;
  uint64_t drops = 1;
  uint64_t heartbeats = 1;  // timeouts of leaders
  uint64_t messages = 6;    // under way at a time; a step that would send more is not taken
  bool pre_vote = false;
  bool check_quorum = false;
  std::string logs;  // what the disks hold at the start: terms of entries, "2/3/" for three nodes
  bool symmetry = true;
  uint64_t states = 3'000'000;
  double seconds = 60;

  std::string text() const {
    return fmt::format(
        "{} nodes, terms up to {}, {} campaigns, {} proposals, {} crashes, {} duplicates, {} "
        "drops, {} "
        "heartbeats, {} messages at a time{}{}{}",
        kNodes, terms, elections, proposals, crashes, duplicates, drops, heartbeats, messages,
        pre_vote ? ", pre-vote" : "", check_quorum ? ", check-quorum" : "",
        logs.empty() ? "" : ", logs " + logs);
  }
};

// ---- hashes under each renaming of the nodes

struct Hash {
  uint64_t low = 0;
  uint64_t high = 0;
  auto operator<=>(const Hash&) const = default;
  // Of a multiset: the sum of its members'.
  Hash& operator+=(const Hash& other) {
    low += other.low;
    high += other.high;
    return *this;
  }
};
using Hashes = std::array<Hash, kPermutations>;
struct HashHash {
  size_t operator()(const Hash& hash) const { return hash.low; }
};

Hash hash_of(const std::string& bytes) {
  return {checksum64(as_bytes(bytes), 1), checksum64(as_bytes(bytes), 2)};
}

const Fingerprint::Name& renaming(size_t p) {
  static const auto kAll = [] {
    std::array<Fingerprint::Name, kPermutations> all;
    std::array<uint64_t, kNodes> order{1, 2, 3};
    for (auto& name : all) {
      name = [order](NodeId id) { return NodeId(order[id.value() - 1]); };
      std::next_permutation(order.begin(), order.end());
    }
    return all;
  }();
  return kAll[p];
}

template <class Write>
Hashes hashes_of(Write&& write) {
  Hashes hashes;
  std::string bytes;
  for (size_t p = 0; p < kPermutations; ++p) {
    bytes.clear();
    Fingerprint out(bytes, renaming(p));
    write(out);
    hashes[p] = hash_of(bytes);
  }
  return hashes;
}

// ---- what a state is made of

struct Position {
  uint64_t term = 0;
  uint64_t content = 0;  // of the entry, but for its stamp
  bool operator==(const Position&) const = default;
};

Position position_of(const Entry& entry) {
  std::string bytes;
  Fingerprint(bytes, renaming(0)).add(entry);
  return {entry.term.value(), checksum64(as_bytes(bytes))};
}

struct Local {
  std::shared_ptr<const Core> core;
  HardState disk_state;
  std::vector<Entry> disk_log;
  std::deque<AppendBatch> writing;
  std::vector<Position> applied;  // by this life
  std::vector<Position> disk;     // of disk_log
  Hashes hashes;
};

struct Wire {
  Envelope envelope;
  Hashes hashes;
};

// What only an observer remembers.
struct Ghost {
  std::map<uint64_t, NodeId> leaders;                   // by term
  std::map<std::pair<NodeId, uint64_t>, NodeId> votes;  // by node and term
  std::vector<Position> committed;
  Hashes hashes;
};

struct Used {
  uint8_t elections = 0, proposals = 0, crashes = 0, duplicates = 0, drops = 0, heartbeats = 0;
  uint64_t packed() const {
    return elections | uint64_t{proposals} << 8 | uint64_t{crashes} << 16 |
           uint64_t{duplicates} << 24 | uint64_t{drops} << 32 | uint64_t{heartbeats} << 40;
  }
};

struct State {
  uint32_t number = 0;
  std::array<uint32_t, kNodes> locals{};
  uint32_t ghost = 0;
  Used used;
  uint8_t message_count = 0;
  std::array<uint32_t, kMostMessages> messages{};  // sorted
};

enum class Kind : uint8_t { kTimeout, kPropose, kPersist, kCrash, kDeliver, kDuplicate, kDrop };
struct Action {
  Kind kind{};
  uint32_t what = 0;  // the node's place, or the message's number
};

// What an event makes of a node.
struct Outcome {
  uint32_t local = 0;
  std::vector<uint32_t> sent;
  std::string broken;
};

class Search;
Search* running = nullptr;  // for the handler of SIGABRT: a CHECK of the core is a finding, too

class Search final {
 public:
  explicit Search(const Bound& bound) : bound_(bound) {}

  // False: an invariant is broken; the path was printed.
  bool run();
  void print_path(uint32_t state, const Action* last, const std::string& broken);
  void print_crash() { print_path(at_, &trying_, "the core ended the process"); }

  uint64_t distinct() const { return steps_.size(); }
  uint64_t states_behind() const { return states_behind_; }
  bool exhausted() const { return exhausted_; }

 private:
  struct Step {
    uint32_t parent;
    Action action;
  };

  Options options(NodeId id) const;
  std::shared_ptr<const Core> start(NodeId id, const HardState& state,
                                    const std::vector<Entry>& log);
  uint32_t keep(Local local);
  uint32_t keep(const Envelope& envelope);
  uint32_t keep(Ghost ghost);
  const Outcome& happens(uint32_t local, uint32_t event);
  Outcome compute(const Local& before, uint32_t event);
  std::string leaves(const Local& local, const Core& core, const Envelope& envelope) const;
  std::string check(const State& state) const;
  // Empty and `next` filled; `out_of_bound`: the step is not taken.
  std::string apply(const State& state, const Action& action, State& next, bool& out_of_bound);
  std::string observe(State& next, size_t place, const Outcome& outcome);
  std::vector<Action> actions(const State& state) const;
  bool see(State& state, uint32_t parent, const Action& action);
  State initial();
  NodeId node_of(size_t place) const { return NodeId(place + 1); }

  // Events of a node; from kFirstMessage on: that message arrives.
  static constexpr uint32_t kTimeoutEvent = 0, kPersistEvent = 1, kCrashEvent = 2,
                            kProposeEvent = 8, kFirstMessage = 64;

  Bound bound_;
  std::deque<Local> locals_;
  std::deque<Wire> wires_;
  std::deque<Ghost> ghosts_;
  std::unordered_map<Hash, uint32_t, HashHash> local_numbers_, wire_numbers_, ghost_numbers_, seen_;
  std::unordered_map<uint64_t, Outcome> outcomes_;
  std::deque<Step> steps_;
  uint64_t transitions_ = 0;
  uint64_t out_of_bound_ = 0;
  uint64_t states_behind_ = 0;
  bool exhausted_ = false;
  uint32_t at_ = 0;
  Action trying_;
};

constexpr Time kNoon{std::chrono::seconds(1000)};

Options Search::options(NodeId id) const {
  Options options;
  options.id = id;
  options.pre_vote = bound_.pre_vote;
  options.check_quorum = bound_.check_quorum;
  // No heartbeats of the bound last so long that a leader would check its quorum.
  options.heartbeat_interval = std::chrono::milliseconds(1);
  options.election_timeout = std::chrono::seconds(1);
  return options;
}

std::shared_ptr<const Core> Search::start(NodeId id, const HardState& state,
                                          const std::vector<Entry>& log) {
  Initial initial;
  initial.hard_state = state;
  initial.conf.voters = {NodeId(1), NodeId(2), NodeId(3)};
  initial.last_index = Index(log.size());
  for (const Entry& entry : log) {
    if (initial.terms.empty() || initial.terms.back().term != entry.term) {
      initial.terms.push_back({entry.index, entry.term});
    }
    initial.last_stamp_ns = entry.stamp_ns;
  }
  return std::make_shared<Core>(options(id), initial, Now{kNoon, 0});
}

uint32_t Search::keep(Local local) {
  local.disk.clear();
  for (const Entry& entry : local.disk_log) local.disk.push_back(position_of(entry));
  local.hashes = hashes_of([&](Fingerprint& out) {
    out.add(*local.core);
    out.add(local.disk_state);
    out.add(local.disk_log.size());
    for (const Entry& entry : local.disk_log) out.add(entry);
    out.add(local.writing.size());
    for (const AppendBatch& batch : local.writing) out.add(batch);
  });
  auto [found, is_new] = local_numbers_.try_emplace(local.hashes[0], locals_.size());
  if (is_new) locals_.push_back(std::move(local));
  return found->second;
}

uint32_t Search::keep(const Envelope& envelope) {
  Hashes hashes = hashes_of([&](Fingerprint& out) { out.add(envelope); });
  auto [found, is_new] = wire_numbers_.try_emplace(hashes[0], wires_.size());
  if (is_new) wires_.push_back({envelope, hashes});
  return found->second;
}

uint32_t Search::keep(Ghost ghost) {
  for (size_t p = 0; p < kPermutations; ++p) {
    std::string bytes;
    Fingerprint out(bytes, renaming(p));
    for (const auto& [term, leader] : ghost.leaders) {
      out.add(term);
      out.add(leader);
    }
    out.add(uint64_t{0});
    std::vector<std::array<uint64_t, 3>> votes;
    for (const auto& [voter, candidate] : ghost.votes) {
      votes.push_back(
          {renaming(p)(voter.first).value(), voter.second, renaming(p)(candidate).value()});
    }
    std::sort(votes.begin(), votes.end());
    for (const auto& vote : votes) {
      for (uint64_t number : vote) out.add(number);
    }
    out.add(uint64_t{0});
    for (const Position& position : ghost.committed) {
      out.add(position.term);
      out.add(position.content);
    }
    ghost.hashes[p] = hash_of(bytes);
  }
  auto [found, is_new] = ghost_numbers_.try_emplace(ghost.hashes[0], ghosts_.size());
  if (is_new) ghosts_.push_back(std::move(ghost));
  return found->second;
}

// ---- one node, one event

const Outcome& Search::happens(uint32_t local, uint32_t event) {
  uint64_t key = uint64_t{local} << 32 | event;
  auto found = outcomes_.find(key);
  if (found == outcomes_.end()) {
    found = outcomes_.emplace(key, compute(locals_[local], event)).first;
  }
  return found->second;
}

Outcome Search::compute(const Local& before, uint32_t event) {
  Outcome outcome;
  Local after = before;
  if (event == kCrashEvent) {
    after.core = start(before.core->id(), after.disk_state, after.disk_log);
    after.writing.clear();
    after.applied.clear();
  }
  std::shared_ptr<Core> core = after.core->clone();
  InvariantChecker checker;
  outcome.broken = checker.after_step(*core);
  auto broke = [&](std::string text) {
    if (outcome.broken.empty()) outcome.broken = std::move(text);
  };
  auto send = [&](const Envelope& envelope) {
    broke(leaves(after, *core, envelope));
    outcome.sent.push_back(keep(envelope));
  };
  const Now noon{kNoon, 0};
  auto turn = [&] {
    for (bool again = true; again;) {
      again = false;
      broke(checker.after_step(*core));
      Ready ready = core->take_ready();
      broke(checker.after_step(*core));
      for (const Envelope& envelope : ready.messages) send(envelope);
      if (ready.append) after.writing.push_back(std::move(*ready.append));
      for (const Entry& entry : ready.committed) {
        if (entry.index.value() != after.applied.size() + 1) broke("applied out of order");
        after.applied.push_back(position_of(entry));
      }
      if (!ready.committed.empty()) {
        core->step(ApplyDone{ready.committed.back().index}, noon);
        again = true;
      }
      // Reading is no event of its own here: the disk answers at once.
      for (const LoadRequest& load : ready.loads) {
        Loaded loaded{load.from, {}};
        for (Index at = load.from; at < load.to && at.value() <= after.disk_log.size(); ++at) {
          loaded.entries.push_back(after.disk_log[at.value() - 1]);
        }
        core->step(std::move(loaded), noon);
        again = true;
      }
    }
  };

  if (event == kTimeoutEvent) {
    core->step(TimePassed{}, {core->next_deadline(), 0});
    turn();
  } else if (event == kPersistEvent) {
    AppendBatch batch = std::move(after.writing.front());
    after.writing.pop_front();
    after.disk_state = batch.hard_state;
    if (batch.replaces_from) after.disk_log.resize(batch.replaces_from->value() - 1);
    for (Entry& entry : batch.entries) {
      if (entry.index.value() != after.disk_log.size() + 1) broke("a gap on the disk");
      after.disk_log.push_back(std::move(entry));
    }
    for (const Envelope& envelope : batch.after_durable) send(envelope);
    core->step(AppendDone{batch.id}, noon);
    turn();
  } else if (event == kCrashEvent) {
    turn();
  } else if (event >= kFirstMessage) {
    core->step(Received{wires_[event - kFirstMessage].envelope}, noon);
    turn();
  } else {
    Proposal proposal;
    proposal.payload = Slice::copy_of(fmt::format("{}", event - kProposeEvent));
    Propose propose;
    propose.proposals.push_back(std::move(proposal));
    core->step(std::move(propose), noon);
    turn();
  }
  after.core = std::move(core);
  outcome.local = keep(std::move(after));
  return outcome;
}

// What a message promises must be on the disk of its sender when it leaves.
std::string Search::leaves(const Local& local, const Core& core, const Envelope& envelope) const {
  bool is_vote = std::holds_alternative<VoteRequest>(envelope.message);
  NodeId vote = is_vote ? envelope.from : envelope.to;
  if (const auto* answer = std::get_if<VoteResponse>(&envelope.message)) is_vote = answer->granted;
  const HardState& disk = local.disk_state;
  if (is_vote && (disk.term < envelope.term || (disk.term == envelope.term && disk.vote != vote))) {
    return "a vote leaves before it is durable: " + describe(envelope);
  }
  const auto* accepted = std::get_if<AppendResponse>(&envelope.message);
  if (accepted != nullptr && accepted->success && core.term() == envelope.term) {
    for (uint64_t i = 1; i <= accepted->index.value(); ++i) {
      if (i > local.disk_log.size() || local.disk_log[i - 1].term != core.term_at(Index(i))) {
        return "an acknowledgement leaves before its entries are durable: " + describe(envelope);
      }
    }
  }
  return {};
}

// ---- all nodes

// Brings what the step showed into the ghost. `place`: who stepped.
std::string Search::observe(State& next, size_t place, const Outcome& outcome) {
  const Ghost& before = ghosts_[next.ghost];
  const Local& local = locals_[next.locals[place]];
  std::optional<Ghost> after;
  auto ghost = [&]() -> Ghost& {
    if (!after) after = before;
    return *after;
  };
  for (uint32_t number : outcome.sent) {
    const Envelope& e = wires_[number].envelope;
    NodeId candidate;
    if (std::holds_alternative<VoteRequest>(e.message)) candidate = e.from;
    if (const auto* answer = std::get_if<VoteResponse>(&e.message); answer && answer->granted) {
      candidate = e.to;
    }
    if (!candidate) continue;
    auto [vote, is_new] = ghost().votes.try_emplace({e.from, e.term.value()}, candidate);
    if (vote->second != candidate) {
      return fmt::format("{} votes twice in term {}: for {} and for {}", e.from, e.term,
                         vote->second, candidate);
    }
  }
  if (local.core->role() == Role::kLeader) {
    auto known = before.leaders.find(local.core->term().value());
    if (known == before.leaders.end()) {
      ghost().leaders[local.core->term().value()] = node_of(place);
    } else if (known->second != node_of(place)) {
      return fmt::format("two leaders of term {}: {} and {}", local.core->term(), known->second,
                         node_of(place));
    }
  }
  for (size_t i = 0; i < local.applied.size(); ++i) {
    if (i >= (after ? *after : before).committed.size()) {
      ghost().committed.push_back(local.applied[i]);
    } else if ((after ? *after : before).committed[i] != local.applied[i]) {
      return fmt::format("entry {} is committed twice: of term {} and, by {}, of term {}", i + 1,
                         (after ? *after : before).committed[i].term, node_of(place),
                         local.applied[i].term);
    }
  }
  if (after) next.ghost = keep(std::move(*after));
  return {};
}

std::string Search::check(const State& state) const {
  const Ghost& ghost = ghosts_[state.ghost];
  for (size_t i = 0; i < ghost.committed.size(); ++i) {
    size_t disks = 0;
    for (uint32_t number : state.locals) {
      const auto& disk = locals_[number].disk;
      disks += i < disk.size() && disk[i] == ghost.committed[i];
    }
    if (disks * 2 <= kNodes) {
      return fmt::format("committed entry {} of term {} is on {} disk(s) of {}", i + 1,
                         ghost.committed[i].term, disks, kNodes);
    }
  }
  for (uint32_t number : state.locals) {
    const Core& core = *locals_[number].core;
    if (core.role() != Role::kLeader || core.term().value() != ghost.leaders.rbegin()->first)
      continue;
    for (size_t i = 0; i < ghost.committed.size(); ++i) {
      if (core.term_at(Index(i + 1)).value() != ghost.committed[i].term) {
        return fmt::format("leader {} of term {} does not hold committed entry {} of term {}",
                           core.id(), core.term(), i + 1, ghost.committed[i].term);
      }
    }
  }
  for (size_t a = 0; a < kNodes; ++a) {
    for (size_t b = a + 1; b < kNodes; ++b) {
      const Local& one = locals_[state.locals[a]];
      const Local& other = locals_[state.locals[b]];
      bool matched = false;
      for (Index i = std::min(one.core->last_index(), other.core->last_index()); i; i = i - 1) {
        bool equal = one.core->term_at(i) == other.core->term_at(i);
        if (matched && !equal) {
          return fmt::format("the logs of {} and {} differ at {} and match behind it", a + 1, b + 1,
                             i);
        }
        matched |= equal;
      }
      matched = false;
      for (size_t i = std::min(one.disk.size(), other.disk.size()); i-- > 0;) {
        matched |= one.disk[i].term == other.disk[i].term;
        if (matched && one.disk[i] != other.disk[i]) {
          return fmt::format("the disks of {} and {} differ at {} and match there or behind it",
                             a + 1, b + 1, i + 1);
        }
      }
    }
  }
  return {};
}

std::string Search::apply(const State& state, const Action& action, State& next,
                          bool& out_of_bound) {
  next = state;
  uint32_t event = 0;
  size_t place = action.what;
  bool is_message = action.kind >= Kind::kDeliver;
  if (is_message) {
    place = wires_[action.what].envelope.to.value() - 1;
    if (action.kind != Kind::kDuplicate) {
      auto end = next.messages.begin() + next.message_count;
      auto found = std::find(next.messages.begin(), end, action.what);
      std::copy(found + 1, end, found);
      next.messages[--next.message_count] = 0;
    }
    event = kFirstMessage + action.what;
  }
  switch (action.kind) {
    case Kind::kDrop:
      ++next.used.drops;
      return {};
    case Kind::kDuplicate:
      ++next.used.duplicates;
      break;
    case Kind::kDeliver:
      break;
    case Kind::kPersist:
      event = kPersistEvent;
      break;
    case Kind::kCrash:
      ++next.used.crashes;
      event = kCrashEvent;
      break;
    case Kind::kPropose:
      event = kProposeEvent + next.used.proposals++;
      break;
    case Kind::kTimeout:
      event = kTimeoutEvent;
      ++(locals_[state.locals[place]].core->role() == Role::kLeader ? next.used.heartbeats
                                                                    : next.used.elections);
  }
  const Outcome& outcome = happens(state.locals[place], event);
  if (!outcome.broken.empty()) return outcome.broken;
  next.locals[place] = outcome.local;
  if (next.message_count + outcome.sent.size() > bound_.messages) {
    out_of_bound = true;
    return {};
  }
  for (uint32_t number : outcome.sent) next.messages[next.message_count++] = number;
  std::sort(next.messages.begin(), next.messages.begin() + next.message_count);
  std::string broken = observe(next, place, outcome);
  return broken.empty() ? check(next) : broken;
}

std::vector<Action> Search::actions(const State& state) const {
  std::vector<Action> all;
  for (uint32_t place = 0; place < kNodes; ++place) {
    const Local& local = locals_[state.locals[place]];
    bool is_leader = local.core->role() == Role::kLeader;
    if (!local.writing.empty()) all.push_back({Kind::kPersist, place});
    if (is_leader ? state.used.heartbeats < bound_.heartbeats
                  : state.used.elections < bound_.elections &&
                        local.core->term().value() < bound_.terms) {
      all.push_back({Kind::kTimeout, place});
    }
    if (is_leader && state.used.proposals < bound_.proposals)
      all.push_back({Kind::kPropose, place});
    if (state.used.crashes < bound_.crashes) all.push_back({Kind::kCrash, place});
  }
  for (size_t i = 0; i < state.message_count; ++i) {
    uint32_t number = state.messages[i];
    if (i > 0 && state.messages[i - 1] == number) continue;
    all.push_back({Kind::kDeliver, number});
    if (state.used.duplicates < bound_.duplicates) all.push_back({Kind::kDuplicate, number});
    if (state.used.drops < bound_.drops) all.push_back({Kind::kDrop, number});
  }
  return all;
}

// Whether the state is new; then it has a number.
bool Search::see(State& state, uint32_t parent, const Action& action) {
  Hashes hashes;
  for (size_t p = 0; p < (bound_.symmetry ? kPermutations : 1); ++p) {
    Hash& hash = hashes[p];
    for (uint32_t local : state.locals) hash += locals_[local].hashes[p];
    for (size_t i = 0; i < state.message_count; ++i) hash += wires_[state.messages[i]].hashes[p];
    std::array<uint64_t, 5> parts{hash.low, hash.high, ghosts_[state.ghost].hashes[p].low,
                                  ghosts_[state.ghost].hashes[p].high, state.used.packed()};
    ByteView bytes(reinterpret_cast<const uint8_t*>(parts.data()), sizeof parts);
    hash = {checksum64(bytes, 3), checksum64(bytes, 4)};
  }
  if (bound_.symmetry) std::sort(hashes.begin(), hashes.end());
  state.number = static_cast<uint32_t>(steps_.size());
  if (!seen_.try_emplace(hashes[0], state.number).second) return false;
  steps_.push_back({parent, action});
  states_behind_ +=
      bound_.symmetry
          ? static_cast<uint64_t>(std::unique(hashes.begin(), hashes.end()) - hashes.begin())
          : 1;
  return true;
}

State Search::initial() {
  State state;
  std::stringstream in(bound_.logs);
  for (size_t place = 0; place < kNodes; ++place) {
    Local local;
    std::string part;
    std::getline(in, part, '/');
    std::stringstream terms(part);
    for (std::string term; std::getline(terms, term, ',');) {
      Entry entry;
      entry.index = Index(local.disk_log.size() + 1);
      entry.term = Term(std::stoull(term));
      entry.stamp_ns = static_cast<int64_t>(entry.index.value());
      entry.checksum = entry_checksum(entry);
      local.disk_log.push_back(std::move(entry));
    }
    // Whoever led the last term is not known any more: everyone is in it and has voted.
    if (!bound_.logs.empty()) {
      uint64_t last = 0;
      for (char c : bound_.logs)
        last = std::max<uint64_t>(last, c >= '0' && c <= '9' ? c - '0' : 0);
      local.disk_state = {Term(last), NodeId(place + 1), Index()};
    }
    local.core = start(node_of(place), local.disk_state, local.disk_log);
    state.locals[place] = keep(std::move(local));
  }
  state.ghost = keep(Ghost());
  return state;
}

bool Search::run() {
  using Clock = std::chrono::steady_clock;
  auto begin = Clock::now();
  auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  fmt::print("bound: {}\n", bound_.text());
  running = this;
  State first = initial();
  see(first, 0, {});
  std::deque<State> frontier{first};
  std::string broken = check(first);
  if (!broken.empty()) fmt::print("VIOLATION at the start, in --logs: {}\n", broken);
  while (!frontier.empty() && broken.empty() && distinct() < bound_.states &&
         (frontier.front().number % 1024 != 0 || elapsed() < bound_.seconds)) {
    State state = frontier.front();
    frontier.pop_front();
    at_ = state.number;
    for (const Action& action : actions(state)) {
      trying_ = action;
      State next;
      bool out_of_bound = false;
      broken = apply(state, action, next, out_of_bound);
      if (!broken.empty()) {
        print_path(state.number, &action, broken);
        break;
      }
      ++transitions_;
      if (out_of_bound) {
        ++out_of_bound_;
      } else if (see(next, state.number, action)) {
        frontier.push_back(next);
      }
    }
  }
  exhausted_ = broken.empty() && frontier.empty();
  double n = static_cast<double>(distinct());
  fmt::print(
      "distinct states: {}{}\n", distinct(),
      bound_.symmetry ? fmt::format(" up to renaming of nodes, {} in all", states_behind_) : "");
  fmt::print("transitions: {} ({} of them beyond the bound on messages and not taken)\n",
             transitions_, out_of_bound_);
  fmt::print("distinct states of one node: {}, messages: {}, computed steps: {}\n", locals_.size(),
             wires_.size(), outcomes_.size());
  fmt::print("chance that two states had one 128-bit hash: {:.1e}\n", std::ldexp(n * n, -129));
  fmt::print("time: {:.1f} s\n", elapsed());
  fmt::print("frontier: {}\n",
             !broken.empty() ? "a violation ended the search"
             : exhausted_
                 ? "exhausted: this search is exhaustive for its bound"
                 : fmt::format("{} states were not looked at: not exhaustive", frontier.size()));
  running = nullptr;
  return broken.empty();
}

void Search::print_path(uint32_t state, const Action* last, const std::string& broken) {
  std::vector<Action> path{*last};
  for (uint32_t at = state; at != 0; at = steps_[at].parent) path.push_back(steps_[at].action);
  std::reverse(path.begin(), path.end());
  fmt::print("VIOLATION: {}\nafter {} steps, none shorter leads to one:\n", broken, path.size());
  State now = initial();
  for (size_t i = 0; i < path.size(); ++i) {
    const Action& action = path[i];
    std::string text;
    size_t place = action.what;
    if (action.kind >= Kind::kDeliver) {
      const Envelope& e = wires_[action.what].envelope;
      place = e.to.value() - 1;
      text = action.kind == Kind::kDrop
                 ? fmt::format("lost: {} -> {}: {}", e.from, e.to, describe(e))
                 : fmt::format("{} gets from {}: {}{}", e.to, e.from, describe(e),
                               action.kind == Kind::kDuplicate ? " (and it comes again)" : "");
    } else {
      static constexpr const char* kTexts[] = {"{} times out", "{} takes a command",
                                               "{}'s oldest batch is durable",
                                               "{} crashes and starts again"};
      text = fmt::format(fmt::runtime(kTexts[static_cast<size_t>(action.kind)]), node_of(place));
    }
    fmt::print("{:>3}. {}\n", i + 1, text);
    std::fflush(stdout);
    // The step that ends the process is not taken again.
    if (i + 1 == path.size() && broken == "the core ended the process") break;
    State next;
    bool out_of_bound = false;
    std::string ended = apply(now, action, next, out_of_bound);
    if (ended.empty()) now = next;
    const Core& core = *locals_[now.locals[place]].core;
    fmt::print("       {} is {} in term {}, log ends at {}/{}, durable {}, commit {}\n", core.id(),
               role_name(core.role()), core.term(), core.last_index(),
               core.term_at(core.last_index()), core.durable_index(), core.commit_index());
  }
  std::fflush(stdout);
}

void on_abort(int) {
  if (running != nullptr) std::exchange(running, nullptr)->print_crash();
  std::_Exit(1);
}

constexpr const char* kHelp = R"(usage: raft_search [OPTION VALUE]...

Tries every order of events on three cores, up to a bound, and checks the invariants in every state.
Exit code 0: nothing is broken; 1: something is, and a shortest path to it is printed; 2: usage.

  --terms N        no campaign beyond this term                       2
  --elections N    timeouts that begin a campaign                     3
  --proposals N    commands of clients                                1
  --crashes N      crashes; what is not durable is lost               1
  --duplicates N   messages that arrive twice                         1
  --drops N        messages that are lost                             1
  --heartbeats N   timeouts of leaders                                1
  --messages N     messages under way at a time, at most 15           6
  --logs L         terms of the entries on the disks at the start, three lists: 2/3/ (terms below 10)
  --pre-vote 0|1   --check-quorum 0|1                                 0
  --symmetry 0|1   states that differ by names of nodes are one       1
  --states N       end after so many distinct states                  3000000
  --seconds N      or after so long                                   60
  --exhaust 0|1    fail unless the frontier is exhausted              0
  --at-least N     fail below so many distinct states                 0
  --check-symmetry 0|1  search twice, with and without symmetry, and compare the numbers of states
)";

int search(int argc, char** argv) {
  Bound bound;
  uint64_t exhaust = 0;
  uint64_t check_symmetry = 0;
  uint64_t at_least = 0;
  const std::map<std::string, uint64_t*> kNumbers = {
      {"--terms", &bound.terms},           {"--elections", &bound.elections},
      {"--proposals", &bound.proposals},   {"--crashes", &bound.crashes},
      {"--duplicates", &bound.duplicates}, {"--drops", &bound.drops},
      {"--heartbeats", &bound.heartbeats}, {"--messages", &bound.messages},
      {"--states", &bound.states},         {"--exhaust", &exhaust},
      {"--at-least", &at_least},           {"--check-symmetry", &check_symmetry}};
  for (int i = 1; i < argc; i += 2) {
    std::string option = argv[i];
    if (option == "--help") {
      fmt::print("{}", kHelp);
      return 0;
    }
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    char* end = nullptr;
    double number = std::strtod(value.c_str(), &end);
    bool is_number = !value.empty() && *end == '\0' && number >= 0;
    if (option == "--logs" && !value.empty()) {
      bound.logs = value;
    } else if (auto known = kNumbers.find(option); known != kNumbers.end() && is_number) {
      *known->second = static_cast<uint64_t>(number);
    } else if (option == "--pre-vote" && is_number) {
      bound.pre_vote = number > 0;
    } else if (option == "--check-quorum" && is_number) {
      bound.check_quorum = number > 0;
    } else if (option == "--symmetry" && is_number) {
      bound.symmetry = number > 0;
    } else if (option == "--seconds" && is_number) {
      bound.seconds = number;
    } else {
      fmt::print(stderr, "raft_search: {} {}: see --help\n", option, value);
      return 2;
    }
  }
  // Numbers of actions are kept in bytes, numbers of proposals lie below those of messages.
  if (bound.messages > kMostMessages || bound.proposals > 50 || bound.elections > 250 ||
      bound.crashes > 250 || bound.duplicates > 250 || bound.drops > 250 ||
      bound.heartbeats > 250) {
    fmt::print(stderr, "raft_search: the bound is too large: see --help\n");
    return 2;
  }
  std::signal(SIGABRT, on_abort);
  auto one = std::make_unique<Search>(bound);
  if (!one->run()) return 1;
  if (exhaust != 0 && !one->exhausted()) {
    fmt::print("FAILED: not exhausted\n");
    return 1;
  }
  if (one->distinct() < at_least) {
    fmt::print("FAILED: fewer than {} distinct states\n", at_least);
    return 1;
  }
  if (check_symmetry != 0) {
    uint64_t behind = one->states_behind();
    one.reset();
    bound.symmetry = false;
    Search plain(bound);
    if (!plain.run()) return 1;
    if (!plain.exhausted() || plain.distinct() != behind) {
      fmt::print("FAILED: {} states behind the symmetric ones, {} without symmetry\n", behind,
                 plain.distinct());
      return 1;
    }
    fmt::print("symmetry: {} states either way\n", behind);
  }
  return 0;
}

}  // namespace
}  // namespace connectd::raft

int main(int argc, char** argv) { return connectd::raft::search(argc, argv); }

#include "sim/linearizability.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <unordered_map>

#include "base/log.h"
#include "sim/describe.h"

namespace connectd::sim {
namespace {

constexpr size_t kOperationsNamed = 16;
constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

uint64_t mix(uint64_t z) {  // splitmix64
  z += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// Searches one part. Depth first, without recursion: each frame is one operation that was given its
// place in the order, and what else could have been put there.
//
// A configuration is: which known operations (outcome kOk) are placed, the state that comes of it,
// and which unknown writes were used for it. What can follow depends on nothing else. The memo
// holds the configurations that were visited, and one is not entered when another with the same
// placed operations and state was that had used no unknown write more: whatever can follow it could
// follow that one. Quiescent moments need no care of their own: at one, all operations before it
// are placed, so all ways through a window that end in the same state are one configuration in the
// memo, and the windows after it are searched once for each end state, and only for as many of them
// as needed.
class PartSearch {
 public:
  PartSearch(const History& history, const Model::Part& part, uint64_t steps_max)
      : history_(history), part_(part), steps_max_(steps_max) {}

  Verdict run();
  uint64_t steps() const { return steps_; }
  size_t windows() const { return windows_; }
  std::string text() const;

 private:
  struct Node {  // an operation; the known ones that are not placed are linked, by call
    size_t operation = 0;
    const Effect* effect = nullptr;
    uint64_t call = 0;
    uint64_t returned = 0;
    uint64_t hint = 0;  // where the index of the reply puts it; 0: no index
    uint32_t client = 0;
    uint32_t same_as = 0;  // of unknown ones
    uint32_t previous = kNone, next = kNone;
    size_t window = 0;
  };
  struct Move {
    uint32_t node = kNone;  // in known_, or in unknown_
    bool is_known = true;
    bool uses_it_up = true;
    uint32_t state = 0;
  };
  struct Frame {
    std::vector<Move> moves;
    size_t next = 0;
    bool has_unknown_moves = false;  // they are made late: they are many
    bool is_forced = false;          // the move alone can be right: nothing else is tried
    uint32_t expected = kNone;       // what comes next if the hints are right, but does not fit
    uint32_t state = 0;
    Move done;              // that led here; none for the first
    uint64_t position = 0;  // the highest hint of the writes placed so far
  };
  // How often each kind of unknown write was used; sorted, without zeros.
  using Used = std::vector<std::pair<uint32_t, uint32_t>>;
  struct Key {
    uint64_t placed[2];
    uint32_t state;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const { return key.placed[0] ^ mix(key.state); }
  };

  void prepare();
  uint32_t intern(std::string state);
  bool make_known_moves(Frame& frame);
  bool may_take_effect(const Node& unknown) const;
  void put_hinted_unknown_first(Frame& frame, uint64_t before);
  uint64_t hint_of(const Move& move) const {
    return (move.is_known ? known_[move.node] : unknown_[move.node]).hint;
  }
  void make_unknown_moves(Frame& frame);
  void try_effect(Frame& frame, uint32_t node, bool is_known);
  bool enter(const Move& move);
  void leave(const Move& move);
  bool is_new(uint32_t state);
  void use(uint32_t kind, int change);
  static bool is_subset(const Used& a, const Used& b);
  // Marks clients for which an operation was passed over, during one look at the list.
  bool first_of_client(uint32_t client);

  const History& history_;
  const Model::Part& part_;
  const uint64_t steps_max_;
  uint64_t steps_ = 0;
  size_t windows_ = 0;

  std::vector<Node> known_;            // by call
  std::vector<Node> unknown_;          // by call
  uint32_t head_ = kNone;              // first known one that is not placed
  std::vector<uint64_t> client_seen_;  // the look at which its first open operation was met
  uint64_t look_ = 0;

  std::vector<std::string> states_;
  std::unordered_map<std::string, uint32_t> state_ids_;
  std::vector<Effect::Next> next_states_;

  uint64_t placed_[2] = {0, 0};  // hash of the set: 128 bits, so that two sets never share one
  size_t placed_count_ = 0;
  Used used_;
  std::unordered_map<Key, std::vector<Used>, KeyHash> memo_;

  // How far the best order got, and with which states.
  size_t best_ = 0;
  size_t best_window_ = 0;
};

void PartSearch::prepare() {
  std::map<uint64_t, uint32_t> clients;
  std::map<std::string_view, uint32_t> kinds;
  std::vector<const Model::Item*> items;
  for (const Model::Item& item : part_.items) items.push_back(&item);
  std::ranges::sort(items, {}, [&](auto* item) { return history_[item->operation].call_order; });
  for (const Model::Item* item : items) {
    const Operation& operation = history_[item->operation];
    Node node;
    node.operation = item->operation;
    node.effect = item->effect.get();
    node.call = operation.call_order;
    node.returned = operation.return_order;
    if (operation.index) node.hint = 2 * operation.index.value() + (operation.is_write ? 0 : 1);
    node.client =
        clients.try_emplace(operation.client, static_cast<uint32_t>(clients.size())).first->second;
    if (operation.outcome == OutcomeKind::kOk) {
      CHECK_LT(node.call, node.returned) << "an operation returned before it was called";
      known_.push_back(node);
    } else {
      node.same_as =
          kinds.try_emplace(item->same_as, static_cast<uint32_t>(kinds.size())).first->second;
      unknown_.push_back(node);
    }
  }
  client_seen_.resize(clients.size());
  uint64_t latest_return = 0;
  for (uint32_t i = 0; i < known_.size(); ++i) {
    if (i == 0 || latest_return < known_[i].call) ++windows_;
    latest_return = std::max(latest_return, known_[i].returned);
    known_[i].window = windows_;
    known_[i].previous = i == 0 ? kNone : i - 1;
    known_[i].next = i + 1 < known_.size() ? i + 1 : kNone;
  }
  head_ = known_.empty() ? kNone : 0;
}

uint32_t PartSearch::intern(std::string state) {
  auto [at, is_fresh] =
      state_ids_.try_emplace(std::move(state), static_cast<uint32_t>(states_.size()));
  if (is_fresh) states_.push_back(at->first);
  return at->second;
}

bool PartSearch::first_of_client(uint32_t client) {
  return std::exchange(client_seen_[client], look_) != look_;
}

void PartSearch::try_effect(Frame& frame, uint32_t node, bool is_known) {
  ++steps_;
  next_states_.clear();
  const Node& n = is_known ? known_[node] : unknown_[node];
  n.effect->step(states_[frame.state], next_states_);
  for (Effect::Next& next : next_states_) {
    uint32_t state = intern(std::move(next.state));
    // An unknown write that changes nothing is better kept.
    if (is_known || state != frame.state) {
      frame.moves.push_back({node, is_known, next.uses_it_up, state});
    }
  }
}

// The known operations that may come next: called before any other open one has returned, and with
// nothing open in front of them on their connection. False when there is none left at all.
bool PartSearch::make_known_moves(Frame& frame) {
  if (head_ == kNone) return false;
  uint32_t first = kNone;
  ++look_;
  uint64_t first_return = std::numeric_limits<uint64_t>::max();
  for (uint32_t at = head_; at != kNone && known_[at].call < first_return; at = known_[at].next) {
    const Node& node = known_[at];
    first_return = std::min(first_return, node.returned);
    if (!first_of_client(node.client)) continue;
    if (first == kNone || node.hint < known_[first].hint) first = at;
    size_t before = frame.moves.size();
    try_effect(frame, at, true);
    // A read that fits and leaves the state as it is may as well be placed here: in any order in
    // which it comes later it can be moved to the front. So nothing else needs to be tried.
    if (!history_[node.operation].is_write && frame.moves.size() == before + 1 &&
        frame.moves.back().state == frame.state) {
      frame.moves = {frame.moves.back()};
      frame.is_forced = true;
      return true;
    }
  }
  // What is tried first changes no verdict, only the time to it. So here, and only here, the index
  // of a reply is looked at; without one, what returned first is tried first.
  auto order = [&](uint32_t node) { return std::pair(known_[node].hint, known_[node].returned); };
  std::ranges::stable_sort(frame.moves, {}, [&](const Move& m) { return order(m.node); });
  put_hinted_unknown_first(frame, first == kNone ? 0 : known_[first].hint);
  if (first != kNone && known_[first].hint != 0 &&
      (frame.moves.empty() ||
       (frame.moves.front().is_known && frame.moves.front().node != first))) {
    frame.expected = first;
  }
  return true;
}

// The unknown write that the hints put next, when they put one in front of every known operation
// that may come next.
void PartSearch::put_hinted_unknown_first(Frame& frame, uint64_t before) {
  uint32_t best = kNone;
  for (uint32_t at = 0; at < unknown_.size(); ++at) {
    const Node& node = unknown_[at];
    if (node.hint <= frame.position || node.hint >= before) continue;
    if (best == kNone || node.hint < unknown_[best].hint) best = at;
  }
  if (best == kNone || !may_take_effect(unknown_[best])) return;
  size_t known_moves = frame.moves.size();
  try_effect(frame, best, false);
  std::rotate(frame.moves.begin(), frame.moves.begin() + static_cast<ptrdiff_t>(known_moves),
              frame.moves.end());
}

// Whether an unknown write was called before the first open operation returned, and is not behind
// an open one of its connection; and is not used up.
bool PartSearch::may_take_effect(const Node& unknown) const {
  for (uint32_t at = head_; at != kNone && known_[at].call < unknown.call; at = known_[at].next) {
    if (known_[at].returned < unknown.call || known_[at].client == unknown.client) return false;
  }
  return std::ranges::find(used_, unknown.same_as, &std::pair<uint32_t, uint32_t>::first) ==
         used_.end();
}

void PartSearch::make_unknown_moves(Frame& frame) {
  ++look_;
  uint64_t first_return = std::numeric_limits<uint64_t>::max();
  std::vector<std::pair<uint32_t, uint64_t>> open_calls;  // client, call of its first open one
  for (uint32_t at = head_; at != kNone && known_[at].call < first_return; at = known_[at].next) {
    first_return = std::min(first_return, known_[at].returned);
    if (first_of_client(known_[at].client))
      open_calls.push_back({known_[at].client, known_[at].call});
  }
  // Of each kind as many as may take effect by now, less those used already.
  std::map<uint32_t, std::pair<uint32_t, uint32_t>> kinds;  // kind -> how many, one of them
  for (uint32_t at = 0; at < unknown_.size() && unknown_[at].call < first_return; ++at) {
    auto open =
        std::ranges::find(open_calls, unknown_[at].client, &std::pair<uint32_t, uint64_t>::first);
    if (open != open_calls.end() && open->second < unknown_[at].call) continue;
    auto& [count, any] = kinds[unknown_[at].same_as];
    ++count;
    any = at;
  }
  for (const auto& [kind, how_many] : kinds) {
    auto used = std::ranges::lower_bound(used_, kind, {}, &std::pair<uint32_t, uint32_t>::first);
    uint32_t gone = used != used_.end() && used->first == kind ? used->second : 0;
    if (gone < how_many.first) try_effect(frame, how_many.second, false);
  }
  if (frame.expected == kNone) return;
  // An unknown write must have made way for what is expected: those that do come first.
  auto makes_way = [&](const Move& m) {
    if (m.is_known) return false;
    next_states_.clear();
    ++steps_;
    known_[frame.expected].effect->step(states_[m.state], next_states_);
    return !next_states_.empty();
  };
  CHECK_EQ(frame.next, 0u);
  std::stable_partition(frame.moves.begin(), frame.moves.end(), makes_way);
}

void PartSearch::use(uint32_t kind, int change) {
  auto at = std::ranges::lower_bound(used_, kind, {}, &std::pair<uint32_t, uint32_t>::first);
  if (at == used_.end() || at->first != kind) at = used_.insert(at, {kind, 0});
  at->second += static_cast<uint32_t>(change);
  if (at->second == 0) used_.erase(at);
}

bool PartSearch::is_subset(const Used& a, const Used& b) {
  auto in_b = b.begin();
  for (const auto& [kind, count] : a) {
    while (in_b != b.end() && in_b->first < kind) ++in_b;
    if (in_b == b.end() || in_b->first != kind || in_b->second < count) return false;
  }
  return true;
}

bool PartSearch::is_new(uint32_t state) {
  std::vector<Used>& visited = memo_[{{placed_[0], placed_[1]}, state}];
  for (const Used& other : visited) {
    if (is_subset(other, used_)) return false;
  }
  std::erase_if(visited, [&](const Used& other) { return is_subset(used_, other); });
  visited.push_back(used_);
  return true;
}

// Places an operation, if that leads to a configuration that was not visited.
bool PartSearch::enter(const Move& move) {
  if (!move.is_known) {
    if (move.uses_it_up) use(unknown_[move.node].same_as, 1);
  } else {
    Node& node = known_[move.node];
    if (node.previous != kNone) known_[node.previous].next = node.next;
    if (node.next != kNone) known_[node.next].previous = node.previous;
    if (head_ == move.node) head_ = node.next;
    placed_[0] ^= mix(2 * uint64_t{move.node});
    placed_[1] ^= mix(2 * uint64_t{move.node} + 1);
    ++placed_count_;
  }
  if (!is_new(move.state)) {
    leave(move);
    return false;
  }
  if (placed_count_ > best_) {
    best_ = placed_count_;
    best_window_ = head_ == kNone ? windows_ : known_[head_].window;
  }
  return true;
}

void PartSearch::leave(const Move& move) {
  if (!move.is_known) {
    if (move.uses_it_up) use(unknown_[move.node].same_as, -1);
    return;
  }
  Node& node = known_[move.node];
  if (node.previous != kNone) known_[node.previous].next = move.node;
  if (node.next != kNone) known_[node.next].previous = move.node;
  if (node.previous == kNone) head_ = move.node;
  placed_[0] ^= mix(2 * uint64_t{move.node});
  placed_[1] ^= mix(2 * uint64_t{move.node} + 1);
  --placed_count_;
}

Verdict PartSearch::run() {
  prepare();
  best_window_ = 1;
  std::vector<Frame> frames(1);
  frames.back().state = intern(part_.initial);
  if (!make_known_moves(frames.back())) return Verdict::kLinearizable;
  while (!frames.empty()) {
    if (steps_ > steps_max_) return Verdict::kBudgetExhausted;
    Frame& frame = frames.back();
    bool wants_unknown = frame.next == frame.moves.size() || frame.expected != kNone;
    if (wants_unknown && !frame.has_unknown_moves && !frame.is_forced) {
      frame.has_unknown_moves = true;
      make_unknown_moves(frame);
    }
    if (frame.next == frame.moves.size()) {
      if (frame.done.node != kNone) leave(frame.done);
      frames.pop_back();
      continue;
    }
    Move move = frame.moves[frame.next++];
    if (!enter(move)) continue;
    Frame deeper;
    deeper.state = move.state;
    deeper.done = move;
    bool is_write = !move.is_known || history_[known_[move.node].operation].is_write;
    deeper.position = std::max(frame.position, is_write ? hint_of(move) : 0);
    if (!make_known_moves(deeper)) return Verdict::kLinearizable;
    frames.push_back(std::move(deeper));
  }
  return Verdict::kNotLinearizable;
}

std::string PartSearch::text() const {
  std::string text = fmt::format("{}, window {} of {}:", part_.name, best_window_, windows_);
  size_t named = 0;
  uint64_t first = std::numeric_limits<uint64_t>::max();
  uint64_t last = 0;
  for (const Node& node : known_) {
    if (node.window != best_window_) continue;
    first = std::min(first, node.call);
    last = std::max(last, node.returned);
    if (++named <= kOperationsNamed) text += "\n  " + describe(history_[node.operation]);
  }
  if (named > kOperationsNamed) text += fmt::format("\n  and {} more", named - kOperationsNamed);
  size_t before = 0;
  for (const Node& node : unknown_) before += node.call < last ? 1 : 0;
  if (before > 0)
    text += fmt::format("\n  and {} writes of unknown outcome, called before", before);
  return text;
}

}  // namespace

std::string describe(const Operation& operation) {
  std::string text = fmt::format("client {}: {} [#{}", operation.client, quoted(operation.request),
                                 operation.call_order);
  if (operation.outcome == OutcomeKind::kOk) {
    return text + fmt::format(", #{}] -> {} index {}", operation.return_order,
                              quoted(operation.reply), operation.index);
  }
  return text + (operation.outcome == OutcomeKind::kUnknown ? "] of unknown outcome" : "] refused");
}

void add_hints(History& history, const WitnessLog& log) {
  std::unordered_map<std::string_view, std::vector<Index>> applied;
  for (const WitnessEntry& entry : log) {
    if (entry.is_applied) applied[entry.entry.payload.text()].push_back(entry.entry.index);
  }
  for (Operation& operation : history) {
    if (!operation.is_write || operation.outcome != OutcomeKind::kUnknown) continue;
    auto found = applied.find(operation.request);
    bool is_clear = found != applied.end() && found->second.size() == 1;
    operation.index = is_clear ? found->second.front() : Index();
  }
}

Result<SearchResult> check_linearizable(const History& history, const Model& model,
                                        const SearchBudget& budget) {
  auto parts = model.split(history);
  if (!parts) return failure(parts.error());
  SearchResult result;
  for (const Model::Part& part : *parts) {
    ++result.parts;
    PartSearch search(history, part, budget.steps - result.steps);
    Verdict verdict = search.run();
    result.steps = std::min(budget.steps, result.steps + search.steps());
    result.windows += search.windows();
    if (verdict == Verdict::kLinearizable) continue;
    bool is_worse = verdict == Verdict::kNotLinearizable || result.verdict != verdict;
    if (!is_worse) continue;
    result.verdict = verdict;
    result.text = search.text();
    if (verdict == Verdict::kNotLinearizable) break;  // nothing makes it better
  }
  return result;
}

}  // namespace connectd::sim

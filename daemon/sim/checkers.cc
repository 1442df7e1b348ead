#include "sim/checkers.h"

#include <algorithm>

#include "base/checksum.h"
#include "sim/describe.h"

namespace connectd::sim {
namespace {
// The whole replicated state is compared at every multiple of this index, because that costs more
// than an entry.
constexpr uint64_t kStateEvery = 16;

// Hash of the state that is equal on every node at equal index, apart from the digest.
uint64_t hash_of(const node::ReplicatedState& state) {
  std::string text = state.conf.encode();
  text += state.members.encode();
  text += state.settings.encode();
  state.sessions.encode(text);
  text += fmt::format("{} {} {}", state.applied, state.applied_term, state.stamp_ns);
  return checksum64(as_bytes(text));
}
}  // namespace

void Checkers::fail(std::string text) {
  if (violation_.empty()) violation_ = std::move(text);
}

// ---- nodes

void Checkers::started(NodeId id, const node::Node& node) {
  NodeView& view = nodes_[id.value() - 1];
  const raft::Core& core = node.core();
  view.up = true;
  view.invariants = raft::InvariantChecker();
  view.commit = view.applied = Index();
  view.log_terms.clear();
  view.log_last = Index();
  if (core.term() < view.promised_term) {
    return fail(fmt::format("durable term: node {} comes back with term {}, and spoke in term {}",
                            id, core.term(), view.promised_term));
  }
  view.term = core.term();
  if (core.last_index() < view.promised_index) {
    return fail(fmt::format(
        "durable log: node {} comes back with entries up to {}, and acknowledged up to {}", id,
        core.last_index(), view.promised_index));
  }
  // The log must have what the node acknowledged, or its later replacement, unless a snapshot has
  // it.
  Term term = core.term_at(view.promised_index);
  if (view.promised_index && term && term < view.promised_index_term) {
    return fail(fmt::format(
        "durable log: node {} comes back with term {} at index {}, and acknowledged term {}", id,
        term, view.promised_index, view.promised_index_term));
  }
  look_at_log(id, view, core);
}

void Checkers::stopped(NodeId id) { nodes_[id.value() - 1].up = false; }

void Checkers::disk_lost(NodeId id) { nodes_[id.value() - 1] = NodeView(); }

void Checkers::disk_bound(NodeId id) {
  std::erase_if(votes_, [id](const auto& vote) { return vote.first.first == id; });
}

void Checkers::after_step(NodeId id, const node::Node& node) {
  NodeView& view = nodes_[id.value() - 1];
  const raft::Core& core = node.core();
  if (std::string broken = view.invariants.after_step(core); !broken.empty()) {
    return fail(fmt::format("core: {}", broken));
  }
  if (core.term() < view.term) {
    return fail(
        fmt::format("term monotone: node {} goes from {} to {}", id, view.term, core.term()));
  }
  view.term = core.term();
  look_at_log(id, view, core);
  look_at_leader(id, core);
  look_at_commit(id, view, core);
  Index applied = node.applied_index();
  if (applied > core.commit_index()) {
    return fail(fmt::format("applied past commit: node {} applied {}, {} is committed", id, applied,
                            core.commit_index()));
  }
  if (applied < view.applied) {
    return fail(
        fmt::format("applied monotone: node {} goes from {} to {}", id, view.applied, applied));
  }
  view.applied = applied;
}

// Log matching (paper §5.3) by induction: an entry of some index and term is the same wherever it
// is, and so is the term in front of it.
void Checkers::look_at_log(NodeId id, NodeView& view, const raft::Core& core) {
  const Index last = core.last_index();
  if (last == view.log_last && last && core.term_at(last) == view.log_terms[last.value()]) return;
  // Go back to the last unchanged entry.
  Index same = std::min(last, view.log_last);
  while (same >= core.first_index() && same && view.log_terms[same.value()] != core.term_at(same)) {
    same = same - 1;
  }
  if (same < view.log_last && same + 1 >= core.first_index()) {
    ++log_cuts_;
    // Entries were replaced: earlier promises were about another log. (After a crash both may
    // exist: the new ones may not be durable yet.)
    if (view.promised_index > same) {
      view.promised_index = same;
      view.promised_index_term = core.term_at(same);
    }
  }
  same = std::max(same, core.first_index() - 1);
  view.log_terms.resize(last.value() + 1);
  for (Index i = same + 1; i <= last; ++i) {
    const Term term = core.term_at(i);
    view.log_terms[i.value()] = term;
    const raft::Entry* entry = core.entry_in_memory(i);
    if (entry == nullptr) continue;
    const Term before = core.term_at(i - 1);
    auto [known, fresh] = entries_.try_emplace({i, term}, KnownEntry{entry->checksum, before});
    if (fresh) continue;
    if (known->second.checksum != entry->checksum) {
      return fail(fmt::format("log matching: node {} has another entry at index {} of term {}", id,
                              i, term));
    }
    if (known->second.before && before && known->second.before != before) {
      return fail(fmt::format(
          "log matching: in front of index {} of term {}, node {} has term {}, another had {}", i,
          term, id, before, known->second.before));
    }
  }
  view.log_last = last;
}

void Checkers::look_at_leader(NodeId id, const raft::Core& core) {
  if (core.role() != raft::Role::kLeader) return;
  auto [leader, fresh] = leaders_.try_emplace(core.term(), id);
  if (!fresh) {
    if (leader->second != id) {
      fail(fmt::format("election safety: nodes {} and {} both lead term {}", leader->second, id,
                       core.term()));
    }
    return;
  }
  ++elections_;
  // Leader completeness (paper §5.4): its log has all entries committed in earlier terms. (Votes
  // may arrive late, so entries that a later term has committed meanwhile are exempt.)
  for (Index i = core.first_index(); i <= highest_committed_; ++i) {
    const Committed& known = committed_[i.value()];
    if (known.term && known.during < core.term() && core.term_at(i) != known.term) {
      return fail(fmt::format(
          "leader completeness: node {} leads term {}, its log ends at {} and "
          "has term {} at index {}, where term {} was committed in term {}",
          id, core.term(), core.last_index(), core.term_at(i), i, known.term, known.during));
    }
  }
}

void Checkers::look_at_commit(NodeId id, NodeView& view, const raft::Core& core) {
  const Index commit = core.commit_index();
  if (commit < view.commit) {
    return fail(
        fmt::format("commit monotone: node {} goes from {} to {}", id, view.commit, commit));
  }
  if (commit == view.commit) return;
  if (committed_.size() <= commit.value()) committed_.resize(commit.value() + 1);
  for (Index i = std::max(view.commit + 1, core.first_index()); i <= commit; ++i) {
    Term term = core.term_at(i);
    Committed& known = committed_[i.value()];
    if (known.term && known.term != term) {
      return fail(
          fmt::format("committed entry changed: index {} has term {} on node {}, and had "
                      "term {}",
                      i, term, id, known.term));
    }
    if (!known.term) known = {term, core.term()};
  }
  view.commit = commit;
  highest_committed_ = std::max(highest_committed_, commit);
}

void Checkers::vote(NodeId voter, Term term, NodeId candidate) {
  auto [known, fresh] = votes_.try_emplace({voter, term}, candidate);
  if (!fresh && known->second != candidate) {
    fail(fmt::format("one vote: node {} voted for nodes {} and {} in term {}", voter, known->second,
                     candidate, term));
  }
}

void Checkers::sending(NodeId id, const node::Node& node, const raft::Envelope& envelope) {
  NodeView& view = nodes_[id.value() - 1];
  const raft::Core& core = node.core();
  if (const auto* response = std::get_if<raft::VoteResponse>(&envelope.message)) {
    if (!response->granted) return;
    vote(id, envelope.term, envelope.to);
    view.promised_term = std::max(view.promised_term, envelope.term);
  } else if (std::holds_alternative<raft::VoteRequest>(envelope.message)) {
    vote(id, envelope.term, id);
    view.promised_term = std::max(view.promised_term, envelope.term);
  } else if (const auto* append = std::get_if<raft::AppendResponse>(&envelope.message)) {
    if (!append->success) return;
    view.promised_term = std::max(view.promised_term, envelope.term);
    promise(view, core, append->index);
  }
}

// The leader counts it as it counts an acknowledged append.
void Checkers::sending(NodeId id, const node::Node& node, const wire::SnapshotAck& ack) {
  if (ack.state != wire::SnapshotAck::State::kInstalled) return;
  promise(nodes_[id.value() - 1], node.core(), ack.file.mark.index);
}

void Checkers::promise(NodeView& view, const raft::Core& core, Index index) {
  if (index > core.last_index()) return;  // of a log that was cut since
  if (index < view.promised_index) return;
  view.promised_index = index;
  view.promised_index_term = core.term_at(index);
}

// ---- applied entries

void Checkers::applied(NodeId id, const raft::Entry& entry, int32_t status, ByteView reply,
                       const node::ReplicatedState& state) {
  const Index index = entry.index;
  // The first replica to reach an index records it, so there are no gaps.
  if (index.value() == applied_.size() || applied_.empty()) {
    applied_.resize(index.value() + 1);
    AppliedEntry& fresh = applied_[index.value()];
    fresh = AppliedEntry{entry, status, std::string(as_text(reply)), state.digest, 0, id};
    if (index.value() % kStateEvery == 0) fresh.state_hash = hash_of(state);
    if (entry.kind == raft::EntryKind::kCommand && status >= 0 && writes_are_unique_) {
      auto [known, once] = commands_.try_emplace(std::string(entry.payload.text()), index);
      if (!once) {
        fail(fmt::format("exactly once: {} was applied at index {} and again at {}",
                         quoted(entry.payload.text()), known->second, index));
      }
    }
    return;
  }
  if (index.value() >= applied_.size()) {
    return fail(fmt::format("applied in order: node {} applied {}, nobody applied {}", id, index,
                            index - 1));
  }
  const AppliedEntry& known = applied_[index.value()];
  if (known.entry.checksum != entry.checksum) {
    return fail(
        fmt::format("same entry: at index {} node {} applied {} of term {}, node {} {} of "
                    "term {}",
                    index, id, quoted(entry.payload.text()), entry.term, known.by,
                    quoted(known.entry.payload.text()), known.entry.term));
  }
  if (known.status != status || known.reply != as_text(reply)) {
    bool both_admitted = known.status >= 0 && status >= 0;
    return fail(fmt::format(
        "same reply: {} index {}, request {}: node {} replied {} (status {}), node {} replied {} "
        "(status {})",
        both_admitted ? "the plugin is not deterministic: first at" : "the sessions differ at",
        index, quoted(entry.payload.text()), known.by, quoted(known.reply), known.status, id,
        quoted(as_text(reply)), status));
  }
  if (known.digest != state.digest) {
    return fail(
        fmt::format("same digest: node {} differs from node {} at index {}", id, known.by, index));
  }
  if (known.state_hash != 0 && known.state_hash != hash_of(state)) {
    return fail(
        fmt::format("same state: sessions, membership or settings on node {} differ from those on "
                    "node {} at index {}",
                    id, known.by, index));
  }
}

void Checkers::restored(NodeId id, const node::ReplicatedState& state) {
  if (state.applied.value() >= applied_.size()) {
    return fail(
        fmt::format("snapshot of the applied: node {} restored index {}, which nobody "
                    "applied",
                    id, state.applied));
  }
  const AppliedEntry& known = applied_[state.applied.value()];
  if (known.digest != state.digest) {
    return fail(
        fmt::format("same digest: node {} restored another one at index {}", id, state.applied));
  }
  if (known.entry.term != state.applied_term) {
    return fail(fmt::format("snapshot term: node {} restored term {} at index {}, it is {}", id,
                            state.applied_term, state.applied, known.entry.term));
  }
  if (known.state_hash != 0 && known.state_hash != hash_of(state)) {
    return fail(
        fmt::format("same state: sessions or membership that node {} restored at index {} "
                    "are others",
                    id, state.applied));
  }
}

// ---- clients

void Checkers::called(Operation& operation) { operation.floor = shown_; }

void Checkers::called_stale(Operation& operation, Index min_index, Time fresh_since) {
  operation.is_stale = true;
  operation.floor = min_index;
  auto later = std::ranges::upper_bound(shown_at_, fresh_since, {}, &std::pair<Time, Index>::first);
  if (later != shown_at_.begin()) {
    operation.floor = std::max(operation.floor, std::prev(later)->second);
  }
}

void Checkers::replied(const Operation& operation) {
  if (operation.outcome != OutcomeKind::kOk) return;
  const char* what = operation.is_write ? "write" : "read";
  // An answer of classify, which uses no state, has no index.
  if (!operation.index) {
    if (operation.is_write) fail("labelled reply: an acknowledged write without an index");
    return;
  }
  if (operation.index.value() >= applied_.size()) {
    return fail(fmt::format("labelled reply: a {} was answered with index {}, which nobody applied",
                            what, operation.index));
  }
  if (operation.is_write) {
    const AppliedEntry& entry = applied_[operation.index.value()];
    if (entry.entry.kind != raft::EntryKind::kCommand || entry.status < 0 ||
        entry.entry.payload.text() != operation.request) {
      return fail(fmt::format(
          "acknowledged write in the log: {} was acknowledged at index {}, "
          "where {} is",
          quoted(operation.request), operation.index, quoted(entry.entry.payload.text())));
    }
    if (entry.reply != operation.reply || entry.status != operation.status) {
      return fail(fmt::format("reply of the write: {} at index {} was answered {}, the log says {}",
                              quoted(operation.request), operation.index, quoted(operation.reply),
                              quoted(entry.reply)));
    }
  }
  // Real time: it sees everything shown to any client before the call.
  bool seen =
      operation.is_write ? operation.index > operation.floor : operation.index >= operation.floor;
  if (!seen) {
    return fail(fmt::format("{}: a {} called after index {} was shown has index {}",
                            operation.is_stale ? "stale bounds" : "real time", what,
                            operation.floor, operation.index));
  }
  if (operation.index > shown_) shown_at_.emplace_back(operation.returned, operation.index);
  // Program order of one connection: a read sees the writes before it and what the reads before it
  // saw, whatever their levels; a write comes after the reads before it.
  Index& own = shown_to_[operation.client];
  bool in_order = operation.is_write ? operation.index > own : operation.index >= own;
  if (!in_order) {
    return fail(fmt::format("program order: client {} saw index {}, then a {} of index {}",
                            operation.client, own, what, operation.index));
  }
  own = operation.index;
  shown_ = std::max(shown_, operation.index);
}

// Replays the log, and compares each reply with that of the first replica.
class Checkers::ComparingReplayer final : public Replayer {
 public:
  ComparingReplayer(Checkers& checkers, Replayer& replayer)
      : checkers_(checkers), replayer_(replayer) {}

  Result<Answer> apply(const WitnessEntry& entry) override {
    auto answer = replayer_.apply(entry);
    if (!answer || !entry.is_applied) return answer;
    const AppliedEntry& known = checkers_.applied_[entry.entry.index.value()];
    if (answer->status != known.status || answer->reply != known.reply) {
      checkers_.fail(fmt::format(
          "replay: the plugin is not deterministic: first at index {}, request {}: node {} replied "
          "{} (status {}), a replay {} (status {})",
          entry.entry.index, quoted(entry.entry.payload.text()), known.by, quoted(known.reply),
          known.status, quoted(answer->reply), answer->status));
    }
    return answer;
  }
  Result<Answer> read(const WitnessEntry& last, const std::string& request) override {
    return replayer_.read(last, request);
  }

 private:
  Checkers& checkers_;
  Replayer& replayer_;
};

WitnessLog Checkers::log() const {
  WitnessLog log;
  log.reserve(applied_.size());
  for (size_t i = 1; i < applied_.size(); ++i) {
    const AppliedEntry& known = applied_[i];
    log.push_back(
        {known.entry, known.entry.kind == raft::EntryKind::kCommand && known.status >= 0});
  }
  return log;
}

void Checkers::check_history(const History& history, const node::Genesis& genesis,
                             const std::shared_ptr<const plugin::Plugin>& plugin,
                             const std::vector<std::string>& local_reads) {
  if (!violation_.empty()) return;
  auto replayer = PluginReplayer::make(plugin, genesis);
  if (!replayer) return fail(fmt::format("replay: {}", replayer.error().text));
  ComparingReplayer comparing(*this, **replayer);
  const WitnessLog entries = log();
  std::vector<BrokenRule> broken = check_index_witness(history, entries, comparing);
  if (!broken.empty()) fail(broken.front().text);
  if (!violation_.empty() || entries.empty()) return;
  for (const std::string& request : local_reads) {
    auto answer = (*replayer)->read(entries.back(), request);
    if (answer && !answer->changed_state) continue;
    return fail(answer ? fmt::format("{}: {} changes the state of the plugin",
                                     rule_name(WitnessRule::kReadOnly), quoted(request))
                       : fmt::format("replay: {}: {}", quoted(request), answer.error().text));
  }
}

void Checkers::look_for_changing_reads(const History& history, const node::Genesis& genesis,
                                       const std::shared_ptr<const plugin::Plugin>& plugin) {
  const WitnessLog entries = log();
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].entry.index.value() != i + 1) return;  // the violation left a gap
  }
  auto replayer = PluginReplayer::make(plugin, genesis);
  if (!replayer) return;
  for (BrokenRule& broken : check_index_witness(history, entries, **replayer)) {
    if (broken.rule == WitnessRule::kReadOnly) violation_ = std::move(broken.text);
  }
}

}  // namespace connectd::sim

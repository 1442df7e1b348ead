#include "raft/fingerprint.h"

#include <algorithm>
#include <variant>

#include "base/log.h"
#include "raft/core.h"

namespace connectd::raft {

void Fingerprint::add(uint64_t number) { ByteWriter(out_).number(number); }
void Fingerprint::add(NodeId id) { add(id ? name_(id).value() : 0); }

// The host sends them in any order.
void Fingerprint::add_unordered(std::vector<std::string> parts) {
  std::sort(parts.begin(), parts.end());
  add(parts.size());
  for (const std::string& part : parts) ByteWriter(out_).counted(part);
}

void Fingerprint::add(const HardState& hard_state) {
  add(hard_state.term);
  add(hard_state.vote);
  add(hard_state.commit);
}

void Fingerprint::add(const Entry& entry) {
  add(entry.index);
  add(entry.term);
  add(static_cast<uint64_t>(entry.kind));
  add(entry.session);
  add(entry.sequence);
  add(entry.acked_below);
  ByteWriter(out_).counted(entry.payload.text());
}

void Fingerprint::add(const Envelope& envelope) {
  add(envelope.from);
  add(envelope.to);
  add(envelope.term);
  add(envelope.message.index());
  if (const auto* pre_vote = std::get_if<PreVoteRequest>(&envelope.message)) {
    add(pre_vote->last_index);
    add(pre_vote->last_term);
  } else if (const auto* pre_answer = std::get_if<PreVoteResponse>(&envelope.message)) {
    add(uint64_t{pre_answer->granted});
  } else if (const auto* vote = std::get_if<VoteRequest>(&envelope.message)) {
    add(vote->last_index);
    add(vote->last_term);
    add(uint64_t{vote->leader_transfer});
  } else if (const auto* answer = std::get_if<VoteResponse>(&envelope.message)) {
    add(uint64_t{answer->granted});
  } else if (const auto* append = std::get_if<AppendRequest>(&envelope.message)) {
    add(append->prev_index);
    add(append->prev_term);
    add(append->commit);
    add(append->entries.size());
    for (const Entry& entry : append->entries) add(entry);
  } else if (const auto* response = std::get_if<AppendResponse>(&envelope.message)) {
    add(uint64_t{response->success});
    add(response->index);
    add(response->hint_index);
    add(response->hint_term);
  } else if (const auto* heartbeat = std::get_if<Heartbeat>(&envelope.message)) {
    add(heartbeat->commit);
  } else {
    CHECK(std::holds_alternative<HeartbeatResponse>(envelope.message))
        << "a message of reads or of a transfer";
  }
}

void Fingerprint::add(const AppendBatch& batch) {
  add(batch.hard_state);
  add(batch.replaces_from ? batch.replaces_from->value() : 0);
  add(batch.entries.size());
  for (const Entry& entry : batch.entries) add(entry);
  std::vector<std::string> parts;
  for (const Envelope& envelope : batch.after_durable) {
    Fingerprint(parts.emplace_back(), name_).add(envelope);
  }
  add_unordered(std::move(parts));
}

void Fingerprint::add(const Core& core) {
  const Core& c = core;
  const Log& log = c.log_;
  CHECK(c.outbox_.empty() && c.with_next_batch_.empty()) << "in the middle of a turn";
  const Leader* leader = c.leading();
  const Follower* follower = c.following();
  const auto* candidate = std::get_if<Candidate>(&c.role_);
  CHECK(!c.asks_.any() && c.loads_.empty() &&
        (leader == nullptr ||
         (!leader->reads.any_open() && !leader->reads.may_open() && !leader->transfer)))
      << "a read, a transfer or a load is under way";

  add(c.options_.id);
  add(static_cast<uint64_t>(c.role()));
  add(c.term_);
  add(c.vote_);
  add(c.leader());
  add(uint64_t{follower != nullptr && follower->heard_at});

  add(log.first_);
  add(log.last_);
  add(log.before_first_term_);
  add(log.runs_.size());
  for (const TermRun& run : log.runs_) {
    add(run.first);
    add(run.term);
  }
  add(log.memory_from_);
  for (Index i = log.memory_from_; i <= log.last_; ++i) add(log.at(i));
  add(log.unwritten_from_);
  add(log.replaces_from_ ? log.replaces_from_->value() : 0);
  add(log.durable_);
  add(log.commit_);
  add(log.handed_out_);
  add(c.applies_.applied());
  add(c.loaded_for_apply_.size());
  for (const Entry& entry : c.loaded_for_apply_) add(entry);

  add(c.batches_.batches_.size());
  for (const auto& batch : c.batches_.batches_) {
    add(batch.term);
    add(batch.last_index);
    add(batch.last_term);
  }
  add(c.batches_.term_);
  add(c.batches_.vote_);
  // The number of batches until the hard state is durable.
  add(c.batches_.hard_state_batch_ > c.batches_.completed_
          ? c.batches_.hard_state_batch_ - c.batches_.completed_
          : 0);
  std::vector<std::string> parts;
  for (const auto& held : c.held_) {
    Fingerprint part(parts.emplace_back(), name_);
    part.add(held.message);
    part.add(held.needs);
  }
  add_unordered(std::move(parts));

  auto add_members = [this](std::vector<NodeId> ids) {
    for (NodeId& id : ids) id = name_(id);
    std::sort(ids.begin(), ids.end());
    add(ids.size());
    for (NodeId id : ids) add(id.value());
  };
  add(c.may_vote_);
  add(uint64_t{c.may_lead_ && !c.awaits_peers_});
  add(c.is_needed_);
  add(c.unfit_.size());
  for (NodeId id : c.unfit_) add(id);
  add(c.confs_.size());
  for (const ConfAtIndex& conf : c.confs_) {
    add(conf.index);
    add_members(conf.conf.voters);
    add_members(conf.conf.voters_outgoing);
    add_members(conf.conf.learners);
  }

  add(c.settings_.size());
  for (const SettingsAtIndex& known : c.settings_) {
    add(known.index);
    ByteWriter(out_).counted(known.settings.encode());
  }
  add(uint64_t{leader != nullptr && leader->lease_given_up});

  std::vector<std::pair<NodeId, bool>> votes;
  if (candidate != nullptr) votes.assign(candidate->votes.begin(), candidate->votes.end());
  for (auto& [id, granted] : votes) id = name_(id);
  std::sort(votes.begin(), votes.end());
  add(votes.size());
  for (const auto& [id, granted] : votes) {
    add(id.value());
    add(uint64_t{granted});
  }

  add(leader == nullptr ? Index() : leader->term_start);
  add_followers(leader);
}

void Fingerprint::add_followers(const Leader* leader) {
  std::vector<std::pair<NodeId, const Progress*>> peers;
  if (leader != nullptr) {
    for (const auto& [id, peer] : leader->followers) peers.emplace_back(name_(id), &peer);
  }
  std::sort(peers.begin(), peers.end());
  add(peers.size());
  for (const auto& [id, peer] : peers) {
    add(id.value());
    add(static_cast<uint64_t>(peer->state_));
    add(peer->match_);
    add(peer->next_);
    add(uint64_t{peer->probe_is_out_});
    add(peer->inflight_.size());
    for (const auto& sent : peer->inflight_) {
      add(sent.last);
      add(sent.bytes);
    }
    add(peer->inflight_bytes_);
    add(peer->sent_commit);
    add(peer->loading);
    add(peer->loaded.size());
    for (const Entry& entry : peer->loaded) add(entry);
  }
}

}  // namespace connectd::raft

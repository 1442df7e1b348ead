// Finds diverged replicas: the leader compares the reports of its followers, finds the first index
// at which they differ, and decides which replicas stop.
//
// Two things are compared, by the same rule. The *digest chain* (ReplicatedState::digest) covers
// every status and reply; each node keeps its last 65,536 values. Two chains differ at all indexes
// from the first difference on, and the leader finds it by bisection. The *state* is compared at
// the compare entries of the log: each node hashes the canonical bytes of its plugin's snapshot
// there.
//
// A follower reports as its applied index advances, at most once a heartbeat interval. When a
// report differs from the leader's own value, a *case* is opened at that index: every voter's value
// there is a vote. With a majority for one value, nodes with another value stop (exit 81). Until
// then the leader holds writes; without a majority in time it rejects them and reports that. Only a
// majority ends a case: an absent node may return with its vote.
//
// A value counts while the process that reported it is connected. A new leader starts from nothing.
// Reports of a correct plugin are equal even if messages are lost, duplicated or late, so a correct
// node never stops.
//
// Pure except for the messages and the verdict that advance() returns. Owner: the loop thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/types.h"
#include "node/effects.h"
#include "raft/types.h"
#include "wire/peer_messages.h"

namespace connectd::node {

// The chain's values after the last entries applied, without gaps.
class DigestRing {
 public:
  static constexpr size_t kCapacity = 65'536;

  // An index that does not follow the last one clears the ring: a snapshot replaced the state, and
  // the earlier values are unknown.
  void record(Index index, uint64_t digest);
  std::optional<uint64_t> at(Index index) const;
  Index first() const { return first_; }
  Index last() const { return last_; }

 private:
  std::vector<uint64_t> slots_;
  Index origin_;  // of slots_[0]
  Index first_;
  Index last_;
};

class Divergence final {
 public:
  struct Options {
    NodeId self;
    uint64_t incarnation = 0;
    // Minimum interval between two reports, two equal queries, two verdicts.
    Duration interval = std::chrono::milliseconds(50);
    std::string plugin;  // "counter 1.0.0", for people
    uint64_t build = 0;  // DigestReport::build of this node's state hashes
    // Between two compare entries; zero: none but those that a difference asks for.
    Duration compare_interval{};
  };
  // The current role of this node.
  struct View {
    bool leads = false;
    NodeId leader;  // none: unknown
    Term term;
    const raft::ConfState* conf = nullptr;
    // How long the leader waits for all votes before it refuses writes.
    Duration patience{};
  };
  enum class Writes : uint8_t {
    kTaken,
    kHeld,     // votes are being collected
    kRefused,  // reason() says why
  };

  // `applied` and `digest`: of the state that the node starts with.
  Divergence(const Options& options, Index applied, uint64_t digest);

  // ---- what the node learns
  void applied(Index index, uint64_t digest) {
    ring_.record(index, digest);
    if (ring_.first() != index) return;
    hashes_.clear();  // a snapshot replaced the state
    if (hashing_ <= index) hashing_ = Index();
  }
  // The last entries, up to `index`, without gaps; and what compare entries among them, or in a
  // state that was replaced meanwhile, gave.
  void applied(Index index, const std::vector<uint64_t>& digests,
               const std::vector<std::pair<Index, uint64_t>>& hashed);
  // After applied() of the same index.
  void state_hashed(Index index, uint64_t hash);
  // A compare entry was applied, here or by hashing later; the next one is not due for a while.
  void compared(Time now) { last_compare_ = now; }
  // The same, when the hash comes later: before applied() of that index; then, once, with none if
  // there will be none. What belongs to a state that was replaced since is dropped.
  void state_hashing(Index index) { hashing_ = index; }
  void state_hash_done(Index index, std::optional<uint64_t> hash);
  void peer_changed(NodeId peer);  // it disconnected or connected
  void on_message(NodeId from, const wire::DigestReport& report);
  void on_message(NodeId from, const wire::DigestQuery& query);
  void on_message(NodeId from, const wire::DivergenceVerdict& verdict);

  // ---- the turn
  // At least every 50 ms, and after each report.
  void advance(const View& view, Time now, Effects& out);

  // As of the last advance().
  Writes writes() const { return writes_; }
  // The reason for rejecting writes; empty: none.
  const std::string& reason() const { return reason_; }
  // Now and then, on a leader that may propose one: whether to log a compare entry. Counts it as
  // proposed. `applied`: what is in the state; `takes_writes`: by space on the disks.
  bool take_compare_due(Index applied, bool takes_writes, Time now);
  // A case about the state cannot be decided, for want of hashes: another compare entry would help.
  bool wants_compare() const;

  std::optional<uint64_t> digest_at(Index index) const { return ring_.at(index); }
  Index last_hashed() const { return hashes_.empty() ? Index() : hashes_.back().first; }

 private:
  // The leader's knowledge about the values of one peer.
  struct Peer {
    uint64_t incarnation = 0;
    Index first;  // of the values it has
    Index last;
    Index agreed;                  // equal there; all chains are equal at 0, before the first entry
    Index differs;                 // the lowest index known to differ; none: none is known
    uint64_t other_digest = 0;     // its value there
    std::optional<uint64_t> vote;  // its value at the case's index
    bool cannot_vote = false;      // it has no value there, and will not have one
    Time vote_asked;
    Index probe;  // the last index queried by bisection
    Time probe_asked;
    bool told = false;  // its verdict is in the log
    Time told_at;
    // Reported from beyond what is applied here.
    std::optional<std::pair<Index, uint64_t>> ahead;
  };
  enum class Verdict : uint8_t { kOpen, kOwnMajority, kOtherMajority };
  // Replies, or state.
  struct Track {
    wire::Compared compared = wire::Compared::kReplies;
    std::map<NodeId, Peer> peers;
    Index index;  // of the case; none: there is no case
    Time since;
    Verdict verdict = Verdict::kOpen;
    bool blocked = false;  // no majority came together in time
    std::string told;      // the logged text
    Time next_notice;
  };

  std::optional<uint64_t> own(const Track& track, Index index) const;
  Index own_newest(const Track& track) const;
  // Up to here all values are known that there will be.
  Index settled(wire::Compared compared) const;
  Track& track_of(wire::Compared compared) { return tracks_[static_cast<size_t>(compared)]; }
  wire::DigestReport report_of(wire::Compared compared, Index index) const;
  void look_at(Track& track, Peer& peer, Index index, uint64_t digest);
  void open_case(Track& track, Index index);
  std::optional<uint64_t> vote_of(const Track& track, const Peer& peer, uint64_t own) const;
  std::optional<Index> next_probe(const Track& track, const Peer& peer) const;
  bool is_found(const Track& track, const Peer& peer) const;
  std::optional<uint64_t> majority(const std::map<NodeId, uint64_t>& votes) const;

  void report(Time now, Effects& out);
  void judge(Track& track, Effects& out);
  void halve(Track& track, Effects& out);
  void collect_votes(Track& track, const std::map<NodeId, uint64_t>& votes, Effects& out);
  void stop_minority(Track& track, Effects& out);
  void stop_self(Track& track, uint64_t majority, Effects& out);
  void refuse_writes(Track& track, Effects& out);
  void stop(wire::Compared compared, Index agreed, Index index, uint64_t mine, uint64_t other,
            Effects& out);
  void settle_writes();

  const Options options_;
  DigestRing ring_;
  std::deque<std::pair<Index, uint64_t>> hashes_;  // of the state, at compare entries
  Index hashing_;                                  // the one whose hash is still to come
  View view_;
  raft::ConfState conf_;
  Time now_;
  bool stopped_ = false;
  std::vector<std::pair<NodeId, wire::PeerMessage>> answers_;
  std::optional<wire::DivergenceVerdict> stop_verdict_;  // this node must stop
  Time last_compare_;                                    // proposed, or applied

  // Follower.
  Index reported_;
  Index state_reported_;
  Time next_report_;
  std::string notice_;  // the leader rejects writes
  Time notice_until_;
  // Leader.
  Track tracks_[2];

  Writes writes_ = Writes::kTaken;
  std::string reason_;
};

}  // namespace connectd::node

// Finds replicas that are not equal: the leader compares what its followers report, names the first
// index at which they differ, and passes judgement.
//
// Two things are compared, by the same rule. The *digest chain* (ReplicatedState::digest) covers
// every status and reply; each node keeps its last 65,536 values. It never becomes equal again
// behind a difference, so two chains differ at all indexes from the first difference on, and the
// leader finds that one by halving. The *state* is compared where a compare entry is in the log:
// each node hashes the canonical bytes of its plugin's snapshot there.
//
// A follower reports as its applied index advances, at most once a heartbeat interval. When a
// report differs from the leader's own value, a *case* is opened at that index: every voter's value
// there is a vote. With a majority for one value, whoever has another one stops (exit 81). Until
// there is a majority the leader takes no writes; when none comes together it refuses them, and
// says so. A case ends by a majority only: a node that went away with its value may come back with
// it.
//
// A value counts as long as the process that reported it lives and is connected. A new leader
// starts anew. Reports of a correct plugin are equal whatever is lost, doubled or late, so nothing
// here can stop a correct node.
//
// Pure but for the messages and the verdict that advance() hands out. Owner: the loop thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/types.h"
#include "raft/types.h"
#include "wire/peer_messages.h"

namespace connectd::node {

// The chain's values behind the last entries applied, without gaps.
class DigestRing {
 public:
  static constexpr size_t kCapacity = 65'536;

  // An index that does not follow the last one begins anew: a snapshot took the state's place, and
  // the values before it are not known.
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
    // Between two reports, two questions for the same thing, two verdicts.
    Duration interval = std::chrono::milliseconds(50);
    std::string plugin;  // "counter 1.0.0", for people
    uint64_t build = 0;  // DigestReport::build of this node's state hashes
    // Between two compare entries; zero: none but those that a difference asks for.
    Duration compare_interval{};
  };
  // Who this node is at the moment.
  struct View {
    bool leads = false;
    NodeId leader;  // none: unknown
    Term term;
    const raft::ConfState* conf = nullptr;
    // How long the leader waits for all votes before it refuses writes.
    Duration patience{};
  };
  struct Effects {
    std::vector<std::pair<NodeId, wire::PeerMessage>> messages;
    std::vector<std::string> errors;  // for the log
    std::optional<Error> stop;        // this node must end with it; given once
  };
  enum class Writes : uint8_t {
    kTaken,
    kHeld,     // the votes are being collected: a moment
    kRefused,  // reason() says why
  };

  // `applied` and `digest`: of the state that the node starts with.
  Divergence(const Options& options, Index applied, uint64_t digest);

  // ---- what the node learns
  void applied(Index index, uint64_t digest) {
    ring_.record(index, digest);
    if (ring_.first() != index) return;
    hashes_.clear();  // a snapshot took the state's place
    if (hashing_ <= index) hashing_ = Index();
  }
  // The last entries, up to `index`, without gaps; and what compare entries among them, or in a
  // state that was replaced meanwhile, gave.
  void applied(Index index, const std::vector<uint64_t>& digests,
               const std::vector<std::pair<Index, uint64_t>>& hashed);
  // Behind applied() of the same index.
  void state_hashed(Index index, uint64_t hash);
  // A compare entry was applied, here or by hashing later; the next one is not due for a while.
  void compared(Time now) { last_compare_ = now; }
  // The same, when the hash comes later: before applied() of that index; then, once, with none if
  // there will be none. What belongs to a state that was replaced since is dropped.
  void state_hashing(Index index) { hashing_ = index; }
  void state_hash_done(Index index, std::optional<uint64_t> hash);
  void peer_changed(NodeId peer);  // its connection broke, or stands again
  void on_message(NodeId from, const wire::DigestReport& report);
  void on_message(NodeId from, const wire::DigestQuery& query);
  void on_message(NodeId from, const wire::DivergenceVerdict& verdict);

  // ---- the turn
  // At least once in 50 ms, and behind every report.
  void advance(const View& view, Time now, Effects& out);

  // As of the last advance().
  Writes writes() const { return writes_; }
  // Why writes are refused; empty when they are not.
  const std::string& reason() const { return reason_; }
  // Now and then, on a leader that may propose one: whether to log a compare entry. Counts it as
  // proposed. `applied`: what is in the state; `takes_writes`: by space on the disks.
  bool take_compare_due(Index applied, bool takes_writes, Time now);
  // A case about the state cannot be decided, for want of hashes: another compare entry would help.
  bool wants_compare() const;

  std::optional<uint64_t> digest_at(Index index) const { return ring_.at(index); }
  Index last_hashed() const { return hashes_.empty() ? Index() : hashes_.back().first; }

 private:
  // What the leader knows of one peer's values.
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
    Index probe;  // the index last asked for by halving
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
    std::string told;      // what the log says of that
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
  std::optional<wire::DivergenceVerdict> sentence_;  // this node is to stop
  Time last_compare_;                                // proposed, or applied

  // Follower.
  Index reported_;
  Index state_reported_;
  Time next_report_;
  std::string notice_;  // the leader takes no writes
  Time notice_until_;
  // Leader.
  Track tracks_[2];

  Writes writes_ = Writes::kTaken;
  std::string reason_;
};

}  // namespace connectd::node

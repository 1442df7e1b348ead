// The nouns of consensus: entries, hard state, membership, and the messages between cores. Pure
// values; the bytes they become on a disk or a wire are the business of wire/ and storage/.
//
// "Paper" is Ongaro & Ousterhout, In Search of an Understandable Consensus Algorithm (extended
// version); "thesis" is Ongaro, Consensus: Bridging Theory and Practice.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/types.h"
#include "raft/entry_kinds.h"

namespace connectd::raft {

// One position of the log. Everything in it is equal on every node that has it.
struct Entry {
  Index index;
  Term term;
  EntryKind kind = EntryKind::kNoop;
  uint8_t flags = 0;     // 0 today
  SessionId session;     // none for entries that no client asked for
  Sequence sequence;     // within the session
  Sequence acked_below;  // the holder has seen all replies to sequences below this one
  int64_t stamp_ns = 0;  // Unix time, by the leader; rises strictly along the log (§3.8)
  Slice payload;
  uint64_t checksum = 0;  // entry_checksum() of all of the above

  // What the entry costs in memory and on the wire, for limits and windows.
  size_t weight() const { return kHeaderBytes + payload.size(); }
  static constexpr size_t kHeaderBytes = 72;
};

// Covers term, index and every other field, so that right bytes in a wrong place fail too. Computed
// once, by the leader that appends the entry; verified by followers, at recovery and before apply.
// = XXH3-64 of these 64 bytes, little-endian: index u64, term u64, session u64, sequence u64,
// acked_below u64, stamp_ns i64, kind u8, flags u8, zero u16, payload length u32, XXH3-64 of the
// payload.
uint64_t entry_checksum(const Entry& entry);

// What a leader is asked to append; it adds the position, its term and the time.
struct Proposal {
  EntryKind kind = EntryKind::kCommand;
  SessionId session;
  Sequence sequence;
  Sequence acked_below;
  Slice payload;
};

// Names one entry for ever: another one at its index, which took its place before it was committed,
// is not meant.
struct EntryId {
  Index index;
  Term term;
  uint64_t checksum = 0;
  auto operator<=>(const EntryId&) const = default;
};

// What must be durable before a message that depends on it leaves (paper, figure 2).
struct HardState {
  Term term;
  NodeId vote;   // in `term`; none: not voted
  Index commit;  // a hint, written along: after a crash it is a lower bound
  bool operator==(const HardState&) const = default;
};

// Who is a member. Joint consensus (thesis §4.3): while `voters_outgoing` is not empty, elections
// and commits need a majority of both sets. All lists are sorted and without duplicates.
struct ConfState {
  std::vector<NodeId> voters;
  std::vector<NodeId> voters_outgoing;
  std::vector<NodeId> learners;
  bool operator==(const ConfState&) const = default;

  bool is_joint() const { return !voters_outgoing.empty(); }
  bool is_voter(NodeId id) const;  // in either set
  bool is_member(NodeId id) const;
  std::vector<NodeId> members() const;  // all, sorted, once each
  // u32 counts and u64 ids, in the order of the fields.
  std::string encode() const;
  static bool decode(ByteReader& in, ConfState& out);
};

// A run of entries of one term: the log's terms are a short list of these, so that any index has
// its term without a look at the disk.
struct TermRun {
  Index first;
  Term term;
  bool operator==(const TermRun&) const = default;
};

// The last entry that a snapshot covers.
struct SnapshotMark {
  Index index;
  Term term;
  bool operator==(const SnapshotMark&) const = default;
};

// ---- messages between cores

struct PreVoteRequest {  // thesis §9.6; Envelope.term is the term the sender would campaign in
  Index last_index;
  Term last_term;
};
struct PreVoteResponse {  // Envelope.term: the request's term when granted, else the sender's own
  bool granted = false;
};
struct VoteRequest {
  Index last_index;
  Term last_term;
  bool leader_transfer = false;  // overrides stickiness (thesis §3.10)
};
struct VoteResponse {
  bool granted = false;
  int64_t wall_ns = 0;  // the sender's wall clock, for the log's time (§3.8)
};
struct AppendRequest {
  Index prev_index;
  Term prev_term;
  Index commit;
  // Rises with every AppendRequest and Heartbeat of a leader's term; the response returns it. A
  // read is confirmed by a response to a round that began after the read arrived (thesis §6.4).
  uint64_t round = 0;
  std::vector<Entry> entries;  // contiguous, from prev_index + 1; may be empty (a probe)
};
struct AppendResponse {
  bool success = false;
  // success: the log matches the leader's up to here, durably. Else: the rejected prev_index.
  Index index;
  // Rejected: where to try next. The follower's log cannot match behind hint_index, and hint_term
  // is its term there (thesis §3.5, fast back-off).
  Index hint_index;
  Term hint_term;
  uint64_t round = 0;
  int64_t wall_ns = 0;
};
struct Heartbeat {
  Index commit;  // min(leader's commit, what it knows the follower to match)
  uint64_t round = 0;
};
struct HeartbeatResponse {
  uint64_t round = 0;
  int64_t wall_ns = 0;
};
struct TimeoutNow {};      // thesis §3.10: campaign at once
struct ReadIndexRequest {  // a follower asks for one read index for all its reads of a turn
  uint64_t context = 0;    // the asker's; returned as it came
};
struct ReadIndexResponse {
  uint64_t context = 0;
  Index index;  // none: refused (not leader, or lost it); ask again
};

using Message = std::variant<PreVoteRequest, PreVoteResponse, VoteRequest, VoteResponse,
                             AppendRequest, AppendResponse, Heartbeat, HeartbeatResponse,
                             TimeoutNow, ReadIndexRequest, ReadIndexResponse>;

struct Envelope {
  NodeId from;
  NodeId to;
  Term term;  // the sender's, but see PreVoteRequest
  Message message;
};

// Who stands for election, and whom a leader hands over to: the higher the rather. 0: never leads.
inline constexpr uint8_t kDefaultPriority = 100;

enum class Role : uint8_t { kFollower = 0, kPreCandidate = 1, kCandidate = 2, kLeader = 3 };
const char* role_name(Role role);

}  // namespace connectd::raft

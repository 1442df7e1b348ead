// The types of consensus: entries, hard state, membership, and the messages between cores. Values
// only; wire/ and storage/ define how they are encoded.
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

// One position of the log; identical on every node that has it.
struct Entry {
  Index index;
  Term term;
  EntryKind kind = EntryKind::kNoop;
  uint8_t flags = 0;     // 0 today
  SessionId session;     // none for entries that no client asked for
  Sequence sequence;     // within the session
  Sequence acked_below;  // the holder has seen all replies to sequences below this one
  int64_t stamp_ns = 0;  // Unix time, set by the leader; strictly increasing along the log
  Slice payload;
  uint64_t checksum = 0;  // entry_checksum() of all of the above

  // Size in memory and on the wire, as counted by limits and windows.
  size_t weight() const { return kHeaderBytes + payload.size(); }
  static constexpr size_t kHeaderBytes = 72;
};

// Covers all fields, index and term included, so correct bytes in the wrong place fail too. The
// leader computes it once, when it appends the entry; it is verified by followers, at recovery and
// before apply.
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

// Identifies one entry for ever: if another entry replaces it at its index before it is committed,
// that one has another id.
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
  Index commit;  // a hint: a lower bound after a crash
  bool operator==(const HardState&) const = default;
};

// The membership. Joint consensus (thesis §4.3): while `voters_outgoing` is not empty, elections
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

// A run of entries of one term. The log keeps its terms as a short list of runs, so the term of any
// index is known without reading the disk.
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
struct PreVoteResponse {  // Envelope.term: the request's term if granted, else the sender's own
  bool granted = false;
};
struct VoteRequest {
  Index last_index;
  Term last_term;
  bool leader_transfer = false;  // overrides stickiness (thesis §3.10)
};
struct VoteResponse {
  bool granted = false;
  int64_t wall_ns = 0;  // the sender's wall clock, for the log's time (raft/log_time.h)
};
struct AppendRequest {
  Index prev_index;
  Term prev_term;
  Index commit;
  // Increases with every AppendRequest and Heartbeat of a leader's term; the response returns it. A
  // response to a round that began after a read arrived confirms the read (thesis §6.4).
  uint64_t round = 0;
  std::vector<Entry> entries;  // contiguous, from prev_index + 1; may be empty (a probe)
};
struct AppendResponse {
  bool success = false;
  // If success: the log matches the leader's up to here, durably. Else the rejected prev_index.
  Index index;
  // If rejected: where to try next. The follower's log cannot match after hint_index; hint_term is
  // its term there (thesis §3.5, fast back-off).
  Index hint_index;
  Term hint_term;
  uint64_t round = 0;
  int64_t wall_ns = 0;
};
struct Heartbeat {
  Index commit;  // min(leader's commit, match index of the follower)
  uint64_t round = 0;
};
struct HeartbeatResponse {
  uint64_t round = 0;
  int64_t wall_ns = 0;
};
struct TimeoutNow {};      // thesis §3.10: campaign at once
struct ReadIndexRequest {  // a follower asks for one read index for all its reads of a turn
  uint64_t context = 0;    // chosen by the follower; returned unchanged
};
struct ReadIndexResponse {
  uint64_t context = 0;
  Index index;  // none: refused, not the leader (any more); ask again
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

// Preference as a leader: higher is preferred, in elections and transfers. 0: never leads.
inline constexpr uint8_t kDefaultPriority = 100;

enum class Role : uint8_t { kFollower = 0, kPreCandidate = 1, kCandidate = 2, kLeader = 3 };
const char* role_name(Role role);

}  // namespace connectd::raft

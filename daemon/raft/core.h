// The consensus core: a deterministic object that turns events into effects. No I/O, thread, clock,
// log library or global. Same options and same steps: same effects, always.
//
// The host's turn: step() each event that has arrived, then take_ready() once, then carry out what
// it returns. The core holds the end of the log in memory, and of older entries only the terms; it
// asks the host to load those (Ready::loads). Owner: the loop thread.
//
// The functions are in four files:
//   core.cc          events in, one Ready out; apply, snapshots, what is durable
//   elections.cc     roles, terms, votes, timers, leadership transfer
//   replication.cc   what a leader sends, what a follower accepts, commit, read rounds
//   leases.cc        the cluster's settings, the promise not to elect, leases, priorities
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "raft/apply_window.h"
#include "raft/batches.h"
#include "raft/events.h"
#include "raft/leader.h"
#include "raft/log.h"
#include "raft/log_time.h"
#include "raft/options.h"
#include "raft/read_index.h"
#include "raft/ready.h"
#include "raft/roles.h"
#include "raft/settings.h"
#include "raft/types.h"

namespace connectd::raft {

// Why a leader accepts no membership change now.
enum class ChangeRefusal : uint8_t {
  kNone,
  kNotLeader,
  kNotReady,      // nothing of its own term is committed yet (thesis §4.1, errata)
  kUnderWay,      // the previous change is not committed, or the cluster is joint
  kTransferring,  // leadership is being handed over
};

struct PeerStatus {
  NodeId id;
  Index match;
  Index next;
  enum class State : uint8_t { kProbe, kReplicate, kSnapshot } state = State::kProbe;
  size_t inflight_bytes = 0;
  bool active = false;   // heard of in the present check-quorum period
  bool is_near = false;  // in that one, or in the one before
  uint8_t priority = kDefaultPriority;
};

class Core final {
 public:
  Core(const Options& options, const Initial& initial, Now now);
  Core& operator=(const Core&) = delete;
  // An independent copy.
  std::unique_ptr<Core> clone() const;

  void step(Event event, const Now& now);
  // Why the message of the last step cannot be true, whatever the network does: its sender does not
  // follow the protocol. It had no effect but that of its term. Empty: nothing is wrong with it.
  std::string_view contradiction() const { return contradiction_; }
  Ready take_ready();
  // When the host must step TimePassed, at the latest.
  Time next_deadline() const;

  NodeId id() const { return options_.id; }
  Role role() const;
  Term term() const { return term_; }
  NodeId leader() const;  // none: unknown
  Index last_index() const { return log_.last_index(); }
  Index commit_index() const { return log_.commit_index(); }
  Index applied_index() const { return applies_.applied(); }  // as of the last ApplyDone
  // Everything up to here is on this node's disk.
  Index durable_index() const { return log_.durable_index(); }
  Index first_index() const { return log_.first_index(); }
  // None when the log does not know it (compacted, or past the end).
  Term term_at(Index index) const { return log_.term_at(index); }
  // Null if it is not in memory. Valid until the next step.
  const Entry* entry_in_memory(Index index) const;
  const ConfState& conf() const { return confs_.back().conf; }
  // The index of the entry with conf(), 0 if it has been in force all along; and its details.
  Index conf_index() const { return confs_.back().index; }
  const Slice& conf_details() const { return confs_.back().details; }
  // conf() is committed and not joint: the last change is complete.
  bool conf_is_settled() const { return !conf().is_joint() && conf_index() <= log_.commit_index(); }
  ChangeRefusal change_refusal() const;
  HardState hard_state() const { return {term_, vote_, log_.commit_index()}; }
  // The newest in the log, committed or not, and the index of their entry (0: the genesis).
  const Settings& settings() const { return settings_.back().settings; }
  Index settings_index() const { return settings_.back().index; }
  // As reported by the node; the default if it has not reported one.
  uint8_t priority_of(NodeId id) const;
  // No other node can be elected before this time, by this node's clock: reads may be served at the
  // commit index. None: no lease is held.
  std::optional<Time> lease_until() const;
  // This node leads and has committed an entry of its own term: reads and changes may begin.
  bool leader_is_ready() const;
  bool is_transferring() const;
  // Since when this node has led, or followed a leader, that had a quorum, without a break of an
  // election timeout. None: it does not, or the check of the quorum is off.
  std::optional<Time> quorum_since() const;
  // The leader's: the stamp that an entry would get now, and how it stands to the clocks.
  std::optional<int64_t> log_time() const;
  std::optional<LogTime::View> log_time_view() const;
  // Appended and not yet durable here.
  size_t unstable_bytes() const { return log_.unstable_bytes(); }
  // Leader: all members but itself; else empty.
  std::vector<PeerStatus> peers() const;
  // A leader for less than an election timeout: a peer that it has not heard from may be well.
  bool is_new_leader() const;

 private:
  friend class InvariantChecker;
  friend class Fingerprint;
  Core(const Core&) = default;

  // -- core.cc: events
  void on(const TimePassed&) { check_timers(); }
  void on(Received& event);
  void on(Propose& event);
  void on(const ReadRequest& event);
  void on(const TransferLeadership& event);
  void on(const PeerLost& event);
  void on(const PeerReached& event);
  void on(const AppendDone& event);
  void on(const ApplyDone& event);
  void on(Loaded& event);
  void on(const SnapshotInstalled& event);
  void on(const SnapshotTaken&) {}  // its effect comes as Compacted
  void on(const Compacted& event);
  void on(const SnapshotSent& event);
  void on(const ChangeConf& event);
  void on(const Suffrage& event);
  void on(const Candidacy& event) { may_lead_ = event.may_lead; }
  void on(const Unfit& event) { unfit_ = event.peers; }
  void on(const ChangeSettings& event);
  void on(const Retire&) { priority_ = 0; }
  void on(const PeersTried&) { awaits_peers_ = false; }
  void on(const StepDown&) {
    if (leading() != nullptr) become_follower(term_, NodeId());
  }

  // -- core.cc: the rest of the turn
  void hand_out_committed(Ready& ready);
  void request_load(Index from, Index to, size_t max_bytes);
  void append_own(Leader& leader, EntryKind kind, Proposal proposal);
  void append_to_log(Entry entry);
  void note_stamp(int64_t stamp_ns);
  void truncate_log(Index from);
  void conf_changed();
  void append_conf(Leader& leader, const ConfState& conf, const Slice& details);
  void leave_joint(Leader& leader);
  bool is_voter() const { return conf().is_voter(options_.id); }

  // -- core.cc: what may leave when
  bool hard_state_is_durable() const { return batches_.is_durable(term_, vote_); }
  bool batch_is_needed() const;
  void make_batch(Ready& ready);
  Envelope envelope(NodeId to, Message message) const;
  void send(NodeId to, Message message) { outbox_.push_back(envelope(to, std::move(message))); }
  // Sends when the hard state and the log up to `needs` are durable.
  void send_when_durable(Envelope message, Index needs);
  void release_held();

  // -- elections.cc
  // The state of the current role; null if the node has another role.
  Leader* leading() { return std::get_if<Leader>(&role_); }
  const Leader* leading() const { return std::get_if<Leader>(&role_); }
  Candidate* campaigning() { return std::get_if<Candidate>(&role_); }
  Follower* following() { return std::get_if<Follower>(&role_); }
  const Follower* following() const { return std::get_if<Follower>(&role_); }
  bool admit(const Envelope& message);
  void answer_older_term(const Envelope& message);
  void check_timers();
  void check_timers(Leader& leader);
  bool may_campaign() const;
  void campaign_or_wait();
  void pre_campaign();
  void campaign(bool transfer);
  void count_vote(NodeId from, bool granted);
  bool is_up_to_date(Index last_index, Term last_term) const;
  void note_refused_older_log();
  bool adopt(Term theirs, NodeId leader);
  void become_follower(Term term, NodeId leader);
  void become_leader();
  void leave_role();
  // False: another node leads in this term, so the message is a contradiction.
  bool heard_from_leader(NodeId leader);
  bool leader_is_near() const;
  Duration draw_timeout();
  void reset_election_timer() { election_deadline_ = now_.time + draw_timeout(); }
  void on(NodeId from, Term term, const PreVoteRequest& request);
  void on(NodeId from, Term term, const PreVoteResponse& response);
  void on(NodeId from, Term term, const VoteRequest& request);
  void on(NodeId from, Term term, const VoteResponse& response);
  void on(NodeId from, Term term, const TimeoutNow&);
  void continue_transfer(Leader& leader);

  // -- leases.cc
  Duration election_timeout() const { return settings().election_timeout; }
  void append_settings(Leader& leader, const Settings& settings);
  void forget_old_settings();
  Duration promise_length() const;
  bool keeps_promises() const { return promise_length() > Duration(); }
  bool has_promised() const;
  Duration lease_length() const;
  void watch_own_clock(const Now& now);
  void renew_lease(const Leader& leader, Progress& peer, uint64_t round, int64_t wall_ns);
  void confirm_settings(Leader& leader);
  bool may_succeed(NodeId id, const Progress& peer) const;
  bool can_take_over(NodeId id, const Progress& peer) const;
  NodeId successor(const Leader& leader) const;
  void yield_to_preferred(Leader& leader);

  // -- replication.cc
  void on(NodeId from, Term term, AppendRequest& request);
  void on(NodeId from, Term term, const AppendResponse& response);
  void on(NodeId from, Term term, const Heartbeat& heartbeat);
  void on(NodeId from, Term term, const HeartbeatResponse& response);
  void on(NodeId from, Term term, const ReadIndexRequest& request);
  void on(NodeId from, Term term, const ReadIndexResponse& response);
  void respond_accepted(NodeId to, Index matched, Index needs, uint64_t round);
  Progress* heard_from_follower(NodeId from, uint64_t round, int64_t wall_ns);
  void replicate(Leader& leader);
  bool send_entries(Leader& leader, NodeId to, Progress& peer);
  bool send_append(Leader& leader, NodeId to, Progress& peer, std::vector<Entry> entries,
                   size_t weight);
  void send_heartbeat(Leader& leader, NodeId to, const Progress& peer);
  Duration round_grain() const { return election_timeout() / 64; }
  void start_snapshot(NodeId to, Progress& peer, Index least);
  void cannot_send(NodeId to, Progress& peer, const Entry& entry);
  bool has_unsendable() const;
  void advance_commit(Leader& leader);
  void open_read_round(Leader& leader);
  void confirm_reads(Leader& leader);
  void answer_reader(const Reader& reader, Index index);

  struct Held {
    Envelope message;
    Index needs;
  };

  const Options options_;
  Now now_;
  Random random_;

  // Paper, figure 2: on every server.
  Term term_;
  NodeId vote_;
  Log log_;
  std::deque<ConfAtIndex> confs_;  // the last is in force; the front is never truncated
  // Likewise. Those after the last committed one may still be truncated, so promises last as long
  // as the longest of them asks, and leases as long as the shortest allows.
  std::deque<SettingsAtIndex> settings_;
  bool may_vote_ = true;
  bool may_lead_ = true;
  bool awaits_peers_;          // see PeersTried
  std::vector<NodeId> unfit_;  // peers, see Unfit
  EntryId unsendable_;         // see cannot_send(); no index: none
  std::variant<Follower, Candidate, Leader> role_;

  // Writer.
  Batches batches_;
  std::vector<Held> held_;  // until what they depend on is durable
  Index least_held_;        // the least `needs` of held_

  // Apply.
  ApplyWindow applies_;
  std::vector<Entry> loaded_for_apply_;

  // Loads in progress, by their first index.
  std::vector<Index> loads_;
  Time apply_load_not_before_;

  // Timers, all on the host's monotonic clock. A late timer fires once.
  Time expected_by_;  // next_deadline() after the last step: when the host should step again
  Time election_deadline_;
  // Log time as of the newest entry, minus the monotonic clock when this node got that entry: late
  // by the time that the entry took, and after a restart by the time that the node was down.
  int64_t log_time_offset_ = 0;
  int quick_timeouts_ = 0;  // remaining draws from the short range
  // A learner whose log is more up to date than that of a node that asked for its vote.
  bool is_needed_ = false;

  // The promise (leases.cc). A leader was heard since the last Ready. The promise counts from the
  // Ready, because only that clock reading is known to come after the message.
  bool leader_spoke_ = false;
  std::optional<Time> promised_at_;  // or the start of this node; none: no promise

  uint8_t priority_;
  std::map<NodeId, uint8_t> priorities_;  // of peers, as reported

  ReadAsks asks_;  // while another node leads

  // The Ready under construction.
  std::vector<Envelope> outbox_;
  std::vector<Envelope> with_next_batch_;
  Ready ready_;
  std::string_view contradiction_;           // a literal; of the last step
  std::tuple<Role, NodeId, Term> reported_;  // soft state as of the last Ready
};

}  // namespace connectd::raft

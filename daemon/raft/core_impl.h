// The state of one core, private to raft/. Its functions lie in four files by what they are about:
//   core.cc          the door: events in, one Ready out; apply, snapshots, what is durable
//   elections.cc     roles, terms, votes, timers, leadership transfer
//   replication.cc   what a leader sends, what a follower accepts, commit, read rounds
//   leases.cc        the cluster's settings, the promise not to elect, leases, priorities
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "base/random.h"
#include "raft/core.h"
#include "raft/lease.h"
#include "raft/log.h"
#include "raft/log_time.h"
#include "raft/progress.h"
#include "raft/quorum.h"
#include "raft/read_index.h"

namespace connectd::raft {

// After the connection to the leader is lost, that many timeouts are drawn from a short range:
// about half an election timeout's worth in all.
inline constexpr int kQuickTimeouts = 6;
// Who lacks no more entries than this has them within a round trip or two: it can be handed over
// to.
inline constexpr uint64_t kHandoverLag = 256;
// A leader yields to a preferred voter that has been near and caught up for this many election
// timeouts without a break; twice as many after each attempt that came to nothing, up to 2^5 times.
inline constexpr int kYieldTimeouts = 10;
inline constexpr int kMaxYieldDoublings = 5;

class Core::Impl final {
 public:
  Impl(const Options& options, const Initial& initial, Now now);

  void step(Event event, const Now& now);
  Ready take_ready();
  Time next_deadline() const;

 private:
  friend class Core;
  friend class InvariantChecker;
  friend class Fingerprint;

  // -- core.cc: events
  void on(const TimePassed&);
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
  void on(const SnapshotTaken&) {}  // what follows from it comes as Compacted
  void on(const Compacted& event);
  void on(const SnapshotSent& event);
  void on(const ChangeConf& event);
  void on(const Suffrage& event);
  void on(const Candidacy& event) { may_lead_ = event.may_lead; }
  void on(const Unfit& event) { unfit_ = event.peers; }
  void on(const ChangeSettings& event);
  void on(const Retire&) { priority_ = 0; }
  void on(const StepDown&) {
    if (role_ == Role::kLeader) become_follower(term_, NodeId());
  }

  // -- core.cc: the rest of the turn
  void hand_out_committed(Ready& ready);
  void request_load(Index from, Index to, size_t max_bytes);
  void append_own(EntryKind kind, Proposal proposal);
  void append_to_log(Entry entry);
  void truncate_log(Index from);
  void conf_changed();
  void append_conf(const ConfState& conf, const Slice& details);
  void leave_joint();
  const ConfState& conf() const { return confs_.back().conf; }
  bool conf_is_settled() const {
    return !conf().is_joint() && confs_.back().index <= log_.commit_index();
  }
  ChangeRefusal change_refusal() const;
  bool is_voter() const { return conf().is_voter(options_.id); }
  bool may_campaign() const {
    if (!may_vote_ || !may_lead_ || priority_ == 0) return false;
    if (is_voter() || is_needed_) return true;
    return confs_.size() > 1 && confs_.back().index > log_.commit_index() &&
           confs_[confs_.size() - 2].conf.is_voter(options_.id);
  }

  // -- core.cc: what may leave when
  bool hard_state_is_durable() const;
  bool batch_is_needed() const;
  void make_batch(Ready& ready);
  Envelope envelope(NodeId to, Message message) const;
  void send(NodeId to, Message message) { outbox_.push_back(envelope(to, std::move(message))); }
  // Leaves when the hard state, and the log up to `needs`, are durable.
  void send_when_durable(Envelope message, Index needs);
  void release_held();

  // -- elections.cc
  bool admit(const Envelope& message);
  void answer_older_term(const Envelope& message);
  void check_timers();
  void campaign_or_wait();
  void pre_campaign();
  void campaign(bool transfer);
  void count_vote(NodeId from, bool granted);
  bool is_up_to_date(Index last_index, Term last_term) const;
  void refused_an_older_log();
  void become_follower(Term term, NodeId leader);
  void become_leader();
  void leave_role();
  void check_quorum();
  void restart_quorum_period();
  void heard_from_leader(NodeId leader);
  bool leader_is_near() const;
  Duration draw_timeout();
  void reset_election_timer() { election_deadline_ = now_.time + draw_timeout(); }
  void on(NodeId from, Term term, const PreVoteRequest& request);
  void on(NodeId from, Term term, const PreVoteResponse& response);
  void on(NodeId from, Term term, const VoteRequest& request);
  void on(NodeId from, Term term, const VoteResponse& response);
  void on(NodeId from, Term term, const TimeoutNow&);
  void continue_transfer();
  void abort_transfer();

  // -- leases.cc
  Duration election_timeout() const { return settings_.back().settings.election_timeout; }
  void append_settings(const Settings& settings);
  void forget_old_settings();
  Duration promise_length() const;
  bool keeps_promises() const { return promise_length() > Duration(); }
  bool has_promised() const;
  Duration lease_length() const;
  std::optional<Time> lease_until() const;
  void void_lease();
  void watch_own_clock(const Now& now);
  void answered(Progress& peer, uint64_t round, int64_t wall_ns);
  void confirm_settings();
  uint8_t priority_of(NodeId id) const;
  bool may_succeed(NodeId id, const Progress& peer) const;
  bool is_handed_over_to(NodeId id, const Progress& peer) const;
  NodeId successor() const;
  void yield_to_preferred();

  // -- replication.cc
  void on(NodeId from, Term term, AppendRequest& request);
  void on(NodeId from, Term term, const AppendResponse& response);
  void on(NodeId from, Term term, const Heartbeat& heartbeat);
  void on(NodeId from, Term term, const HeartbeatResponse& response);
  void on(NodeId from, Term term, const ReadIndexRequest& request);
  void on(NodeId from, Term term, const ReadIndexResponse& response);
  void respond_accepted(NodeId to, Index matched, Index needs, uint64_t round);
  Progress* heard_from_follower(NodeId from, uint64_t round, int64_t wall_ns);
  void replicate();
  bool send_entries(NodeId to, Progress& progress);
  bool send_append(NodeId to, Progress& progress, std::vector<Entry> entries, size_t weight);
  void send_heartbeat(NodeId to, const Progress& progress);
  void start_snapshot(NodeId to, Progress& progress);
  void advance_commit();
  void open_read_round();
  void confirm_reads();
  void answer_reader(const Reader& reader, Index index);
  bool leader_is_ready() const {
    return role_ == Role::kLeader && log_.commit_index() >= term_start_;
  }

  // What a batch attests when it is done: the log's end at its submission (see on(AppendDone)).
  struct Batch {
    uint64_t id;
    Term term;
    Index last_index;
    Term last_term;
  };
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
  // Likewise. Those behind the last committed one may still be truncated: promises are kept by all
  // of them, leases are counted by the least of them.
  std::deque<SettingsAtIndex> settings_;
  bool may_vote_ = true;
  bool may_lead_ = true;
  std::vector<NodeId> unfit_;  // peers, see Unfit
  Role role_ = Role::kFollower;
  NodeId leader_;

  // Writer.
  uint64_t last_batch_ = 0;
  uint64_t done_batch_ = 0;
  std::deque<Batch> batches_;  // submitted, not done
  Term written_term_;          // as in the last batch
  NodeId written_vote_;
  uint64_t hard_state_batch_ = 0;  // the batch that brought written_term_ and written_vote_
  std::vector<Held> held_;         // until they are durable
  Index least_held_;               // what the first of them to leave needs

  // Apply.
  Index applied_;
  std::deque<std::pair<Index, size_t>>
      applying_;  // handed out: last index and weight of each batch
  size_t applying_bytes_ = 0;
  std::vector<Entry> loaded_for_apply_;

  // Loads that are under way, by their first index.
  std::vector<Index> loads_;
  Time apply_load_not_before_;

  // Timers. All are moments of the host's monotonic clock; a late one fires once.
  Time promised_;  // what next_deadline() said after the last step
  Time election_deadline_;
  int quick_timeouts_ = 0;               // draws left from the short range
  std::optional<Time> leader_heard_at_;  // follower: while its connection stands
  // A learner whose log reaches further than that of somebody who asked for its vote.
  bool is_needed_ = false;

  // The promise (leases.cc). A leader was heard since the last Ready: the promise counts from then
  // on, for only that turn's clock is sure to have been read after the message came.
  bool leader_spoke_ = false;
  std::optional<Time> promised_at_;  // or when this node started; none: never

  uint8_t priority_;
  std::map<NodeId, uint8_t> priorities_;  // of peers, as they said

  // Candidates.
  std::map<NodeId, bool> votes_;

  // Leader: for one term.
  std::map<NodeId, Progress> peers_;
  LogTime log_time_;
  Index term_start_;  // the no-op
  uint64_t round_ = 0;
  Time next_heartbeat_;
  bool heartbeat_is_due_ = false;
  bool round_is_needed_ = false;  // a read round was opened: everyone gets a message
  Time quorum_since_;             // begin of the check-quorum period
  uint64_t quorum_round_ = 0;     // only answers to later rounds count in it
  ReadRounds rounds_;
  NodeId transferee_;
  NodeId failed_transferee_;  // the last one in this term that did not take over in time
  Time transfer_deadline_;
  bool timeout_now_sent_ = false;
  SendTimes send_times_;
  uint64_t lease_round_ = 0;     // only answers to later rounds renew the lease
  bool lease_given_up_ = false;  // for the rest of the term: a TimeoutNow has left
  std::optional<Time> settings_everywhere_since_;  // every voter has the newest, durably
  NodeId preferred_;  // a voter that this leader would rather see lead, and since when
  Time preferred_since_;
  int yields_ = 0;

  // Others.
  ReadAsks asks_;

  // The Ready under construction.
  std::vector<Envelope> outbox_;
  std::vector<Envelope> with_next_batch_;
  Ready ready_;
  std::vector<uint64_t> scratch_;
  std::tuple<Role, NodeId, Term> told_;  // soft state as of the last Ready
};

}  // namespace connectd::raft

// Holds the requests of this node's clients until they are answered. Two classes:
//
// Stream: one connection's requests in order. Runs of writes, of reads, and of local reads are
// pipelined whole; a change of kind is a barrier: a read starts when the stream's earlier writes
// are answered, a write when its earlier reads are. So effects and replies have the order of
// submission.
//
// Holder: numbers the writes in this node's session and hands them to the leader, here or
// elsewhere; matches what this node applies with what it holds; asks for read indexes, one for all
// reads of a turn; gives up on what is not learned in time. The session is opened by a log entry.
// When the leader changes while numbered writes are out, the holder opens a new session, which
// closes the old: when that entry is applied here, each old write either was applied before it, and
// is answered, or never will be, and goes again under a new number, in order.
//
// Pure but for what it is given to call. Owner: the loop thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/types.h"
#include "node/apply/session_table.h"
#include "node/service.h"
#include "plugin/instance.h"
#include "raft/core.h"

namespace connectd::node {

struct HolderLimits {
  Duration request_timeout = std::chrono::seconds(5);
  size_t max_request = 1 << 20;
  size_t max_inflight_bytes = 256 << 20;  // all requests held; over it: OVERLOADED
  // Numbered and not yet applied here. Bounds what this node can put into the leader's memory: its
  // static credit.
  size_t credit_bytes = 16 << 20;
  size_t forward_bytes = 1 << 20;  // of one message of forwarded proposals
  Duration retry_interval = std::chrono::milliseconds(250);  // of a session open, or a read index
  Duration tick = std::chrono::milliseconds(10);             // how exactly times are kept
  // Numbered writes of which none was applied for this long: one was lost on the way and holds up
  // all behind it. A new session settles them.
  Duration stuck_timeout = std::chrono::seconds(1);
};
// What a held request costs beside its bytes.
inline constexpr size_t kRequestOverhead = 256;

// What classify said.
using RequestKind = plugin::RequestKind;
struct Classified {
  RequestKind kind = RequestKind::kReject;
  bool plugin_failed = false;  // answered outside the contract: PLUGIN
  std::string reply;           // for kReject and kReply
};

class Stream;

// Names a request without keeping its connection alive.
struct RequestRef {
  std::shared_ptr<Stream> stream;
  uint64_t ordinal = 0;
};

// A read on its way to the apply thread.
struct ReadTask {
  RequestRef ref;
  Slice request;
  Time deadline;
  ReadOptions options{};
  Time came = Time::max();  // of a stale read: the turn that saw it first
};

class Holder final {
 public:
  struct Host {
    std::function<Classified(ByteView)> classify;
    // To the core of this node, which leads.
    std::function<void(raft::Propose)> propose;
    // To the leader of `term`, over the wire.
    std::function<void(NodeId leader, Term term, std::vector<raft::Proposal>)> forward;
    // One read index for all reads of a turn and level; answered by read_index() or read_dropped().
    std::function<void(uint64_t context, bool lease)> ask_read_index;
  };

  Holder(NodeId self, uint64_t incarnation, const HolderLimits& limits, Host host);
  ~Holder();

  std::unique_ptr<RequestStream> open_stream(ReplyHandler& handler);

  // ---- what the node learns
  void leader_changed(NodeId leader, Term term, bool takes_proposals);
  // What was forwarded may be lost.
  void forward_lost(NodeId peer);
  void forward_refused(Term leader_term);
  // This node applied a session open of its own.
  void session_opened(SessionId id, uint64_t incarnation);
  // This node applied a command of `session`.
  void applied(SessionId session, Sequence sequence, Index index, int32_t status, ByteView reply);
  // The state was replaced by a snapshot: what its table says of this node's session.
  void state_replaced(const SessionTable& table);
  void read_index(uint64_t context, Index index);
  void read_dropped(uint64_t context);
  void read_done(const RequestRef& ref, const Reply& reply);

  // ---- the turn
  // What time it is for the requests that come before the next advance(): they have their whole
  // time from then.
  void set_now(Time now) { now_ = now; }
  // Gives up what is over its time, hands on what can go.
  void advance(Time now);
  // Reads that may be executed behind the entry at `handed`, into `out`: some of each stream whose
  // client takes its replies. More may be left.
  void take_reads(Index handed, std::vector<ReadTask>& out);
  // Tells the streams that had replies that the turn is over.
  void end_replies();
  Time next_deadline() const;

  // New requests answer SHUTDOWN from now on; also those that nobody was handed yet.
  void shut_down();
  // New writes, and those that nobody was handed yet, answer DISKFULL with this text while it is
  // not empty. What is numbered already is settled as ever.
  void set_disk_full(std::string why) { disk_full_ = std::move(why); }
  // New writes, and those that nobody was handed yet, answer PLUGIN with this text while it is not
  // empty: the replicas are not equal (node/divergence/divergence.h).
  void refuse_writes(const std::string& why);
  size_t held() const { return held_; }
  size_t held_bytes() const { return held_bytes_; }
  bool has_session() const { return session_open_; }
  SessionId session() const { return session_; }
  uint64_t incarnation() const { return incarnation_; }

 private:
  friend class Stream;
  struct Write {
    RequestRef ref;
    Slice request;
    Time deadline;
    bool answered = false;  // timed out; kept until its number is settled
  };
  struct ReadBatch {
    std::vector<ReadTask> tasks;
    bool lease = false;  // a lease may give the index, and then it is good for lease reads only
    Time asked;
    Time first_asked;  // an answer may be to the first question: it is as fresh as that
  };
  // Every write that was acknowledged before `asked` is in the state behind `index`.
  struct Fresh {
    Time asked;
    Index index;
  };

  void start_write(RequestRef ref, Slice request, Time deadline);
  void start_read(ReadTask task, bool local);
  void reopen();
  void hand_on();
  void refuse_queued(ReplyCode code, std::string_view text);
  void ask_reads();
  void ask(std::vector<ReadTask> tasks, bool lease);
  void learn_age(Time asked, Index index);
  void take_stale_reads(Index handed);
  bool is_fresh(const ReadTask& task) const;
  bool is_met(const ReadTask& task) const;
  void answer(const RequestRef& ref, const Reply& reply);
  void answer_error(const RequestRef& ref, ReplyCode code, std::string_view text);
  void expire();
  void expire_queued();
  void expire_numbered();
  void expire_reads(std::vector<ReadTask>& tasks);
  void expire_stale_reads();

  const NodeId self_;
  const uint64_t incarnation_;
  const HolderLimits limits_;
  const Host host_;
  Time now_;
  Time next_expiry_;
  bool stopping_ = false;
  std::string disk_full_;       // why writes answer DISKFULL; empty: they do not
  std::string writes_refused_;  // why; empty: they are not

  NodeId leader_;
  Term term_;
  bool leader_takes_proposals_ = false;

  bool session_open_ = false;  // session_ is the one to number in
  SessionId session_;          // the last one opened by this incarnation
  bool open_sent_ = false;
  NodeId sent_to_;  // whom the numbered writes went to, in which term
  Term sent_term_;
  Time open_sent_at_;
  Time last_progress_;          // a number was settled, or the first one given out
  Time refused_until_;          // a refusal is not answered with the same question at once
  Sequence next_sequence_{1};   // of session_
  std::deque<Write> numbered_;  // contiguous, up to next_sequence_ - 1
  size_t numbered_bytes_ = 0;
  std::deque<Write> queued_;  // handed to nobody

  std::vector<ReadTask> new_reads_;                       // nobody was asked yet
  std::vector<ReadTask> new_lease_reads_;                 // likewise
  std::map<uint64_t, ReadBatch> read_batches_;            // by context: asked for an index
  std::map<Index, std::vector<ReadTask>> indexed_reads_;  // wait for this index
  std::deque<std::shared_ptr<Stream>> ready_streams_;     // have reads to execute, in turn
  uint64_t next_context_ = 1;

  // Stale reads. How old the state is, this node learns from the read indexes that rounds give it.
  std::vector<ReadTask> stale_reads_;  // wait for their bounds
  bool look_at_stale_reads_ = false;   // there are new ones, or the state is another
  uint64_t age_context_ = 0;           // the question that is out on their behalf; 0: none is
  std::deque<Fresh> coming_;           // indexes that were not reached yet, rising
  Time fresh_at_ = Time::min();        // what was acknowledged before that is in the state
  Index handed_;                       // the state that reads will meet

  size_t executing_reads_ = 0;  // given out by take_reads(), not done
  size_t held_ = 0;
  size_t held_bytes_ = 0;
  std::vector<std::shared_ptr<Stream>> replied_;  // had replies this turn
  // What streams know of their holder; emptied when it goes.
  std::shared_ptr<Holder*> link_;
};

}  // namespace connectd::node

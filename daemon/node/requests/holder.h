// Holds the requests of this node's clients until they are answered: classifies, bounds, starts and
// expires them. Stream keeps the order of a connection; Writes and Reads process the requests.
//
// Pure except for the plugin's classify and the replies to the clients' handlers. Owner: the loop
// thread.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/types.h"
#include "node/metrics.h"
#include "node/requests/classifier.h"
#include "node/requests/reads.h"
#include "node/requests/stream.h"
#include "node/requests/writes.h"

namespace connectd::node {

class Holder final {
 public:
  // `classifier` must outlive it.
  Holder(NodeId self, uint64_t incarnation, const HolderLimits& limits, Classifier& classifier,
         std::shared_ptr<Metrics> metrics = std::make_shared<Metrics>());
  ~Holder();

  // The stream may outlive the holder; its requests then get SHUTDOWN.
  std::unique_ptr<RequestStream> open_stream(ReplyHandler& handler);

  // ---- what the node learns
  void leader_changed(NodeId leader, Term term, bool takes_proposals) {
    writes_.leader_changed(leader, term, takes_proposals);
    has_leader_ = leader != NodeId();
  }
  // Forwarded requests may be lost.
  void forward_lost(NodeId peer) { writes_.forward_lost(peer); }
  void forward_refused(Term leader_term) { writes_.forward_refused(leader_term, now_); }
  // This node applied an entry that opens its own session.
  void session_opened(SessionId id, uint64_t incarnation) {
    writes_.session_opened(id, incarnation);
  }
  // This node applied a command of `session`.
  void applied(SessionId session, Sequence sequence, Index index, int32_t status, ByteView reply);
  // A snapshot replaced the state. `last`: the last sequence of session() that its table has
  // applied; none: it does not know the session.
  void state_replaced(std::optional<Sequence> last);
  void read_index(uint64_t context, Index index) { reads_.read_index(context, index); }
  void read_dropped(uint64_t context) { reads_.read_dropped(context, now_); }
  void read_done(const RequestRef& ref, const Reply& reply);
  // Taken by take_reads(), and not executed: they wait until their clients have room for replies.
  void reads_left(std::vector<ReadTask>& reads);

  // ---- the turn
  // The start time of requests that arrive before the next advance(); their timeout begins then.
  void set_now(Time now) { now_ = now; }
  // Expires requests; writes for the leader and requests for read indexes go into `out`.
  void advance(Time now, const Progress& progress, Effects& out);
  // Reads that may be executed after the entry at `handed`, into `out`: some of each stream whose
  // client takes its replies, and those together. More may be left for the next turn.
  void take_reads(Index handed, std::vector<ReadTask>& out);
  // Signals the end of the turn to the streams that had replies.
  void end_replies();
  Time next_deadline() const;

  // From now on, new requests and those not yet forwarded get SHUTDOWN.
  void shut_down();
  // After shut_down(), when this node was removed: no entry comes any more, so nothing that is held
  // has to wait for its deadline.
  void give_up();
  // While the text is not empty, new writes and those not yet forwarded get DISKFULL with it.
  // Numbered writes are settled as usual.
  void set_disk_full(std::string_view why) {
    if (disk_full_ != why) disk_full_ = why;
  }
  // While the text is not empty, new writes and those not yet forwarded get PLUGIN with it: the
  // replicas have diverged (node/divergence/divergence.h).
  void refuse_writes(const std::string& why);
  // When this node asked whether it is up to date: for whoever executes the reads at `handed`.
  std::optional<Time> take_ready_question(Index handed) {
    return reads_.take_ready_question(handed);
  }
  size_t held() const { return held_; }
  size_t held_bytes() const { return held_bytes_; }
  bool has_session() const { return writes_.has_session(); }
  SessionId session() const { return writes_.session(); }
  uint64_t incarnation() const { return writes_.incarnation(); }

 private:
  class StreamHandle;
  using StreamPtr = std::shared_ptr<Stream>;

  void submit(const StreamPtr& stream, ByteView request, const ReadOptions& read);
  void resume(const StreamPtr& stream);
  void move_along(const StreamPtr& stream);
  void note_replies(const StreamPtr& stream);
  void note_ready(const StreamPtr& stream);
  void answer(const RequestRef& ref, const Reply& reply);
  void answer_all(const std::vector<RequestRef>& refs, ReplyCode code, std::string_view text);
  void refuse_queued(ReplyCode code, std::string_view text);
  void expire();
  void expire_queued();
  void expire_executing();
  void came_back(const RequestRef& read);

  void count(ReplyCode code) { metrics_->loop.requests[static_cast<size_t>(code)].add(); }

  const HolderLimits limits_;
  Classifier& classifier_;
  const std::shared_ptr<Metrics> metrics_;
  Time now_;
  Time next_expiry_;
  bool has_leader_ = false;
  bool stopping_ = false;
  std::string disk_full_;       // the text of DISKFULL; empty: none
  std::string writes_refused_;  // the reason; empty: none

  Writes writes_;
  Reads reads_;
  std::deque<StreamPtr> ready_streams_;  // have reads to execute, in turn
  // Returned by take_reads(), and not back, expired ones included. They come back in this order.
  struct Executing {
    RequestRef ref;
    Time deadline;
  };
  std::deque<Executing> executing_;
  size_t held_ = 0;
  size_t held_bytes_ = 0;
  std::vector<StreamPtr> replied_;  // had replies this turn
  // What the clients' handles know of their holder; emptied when it goes.
  std::shared_ptr<Holder*> link_;
};

}  // namespace connectd::node

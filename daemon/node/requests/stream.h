// One connection's requests in order. Runs of writes, of reads, and of local reads are pipelined
// whole; a change of kind is a barrier: a read starts when the stream's earlier writes are
// answered, a write when its earlier reads are. So effects and replies have the order of
// submission.
//
// Slots in order of submission: the first `started_` ones are with the holder (or answered, waiting
// for those before them); the others wait behind the barrier.
//
// It knows nothing of the holder, which moves it along: push(), start_next() until there is none,
// flush(). Owner: the loop thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "node/requests/request.h"
#include "node/service.h"
#include "plugin/instance.h"

namespace connectd::node {

class Stream final {
 public:
  explicit Stream(ReplyHandler* handler) : handler_(handler) {}

  // ---- submission
  // A request that needs no consensus: answered, when those before it are.
  void push_answered(ReplyCode code, std::string text, size_t cost, bool plugin_refused = false);
  // `kind`: a write or a read.
  void push(plugin::RequestKind kind, Slice request, const ReadOptions& read, Time deadline,
            size_t cost);
  // What starts now, and is to be answered by answer(); none: nothing, or the barrier holds.
  struct Started {
    uint64_t ordinal = 0;
    plugin::RequestKind kind = plugin::RequestKind::kReject;
    Slice request;
    ReadOptions read;
    Time deadline;
  };
  std::optional<Started> start_next();
  // What has not started gets its whole time again: the client took it for itself.
  void renew(Time deadline);

  // ---- replies
  // To a started request; what it cost is not held any more, and returned.
  size_t answer(uint64_t ordinal, const Reply& reply);
  // Delivers what is answered and has nothing unanswered before it.
  void flush();
  // Replies were delivered since the last end_replies(). True once: end_replies() is to follow.
  bool take_replied();
  void end_replies();

  // ---- reads whose index is reached
  void add_ready(ReadTask task) { ready_reads_.push_back(std::move(task)); }
  // It has some and is not in the queue of streams that do. True: put it there now.
  bool becomes_ready();
  // Moves some into `out`, without naming the stream. False: none is left, or the client is
  // congested.
  bool take_ready(std::vector<ReadTask>& out);
  // One that take_ready() gave was executed.
  void executed(size_t reply_bytes);

  // ---- the client
  void close() { handler_ = nullptr; }
  bool is_congested() const { return handler_ != nullptr && handler_->is_congested(); }
  size_t pending() const { return slots_.size(); }
  size_t pending_bytes() const { return bytes_; }

 private:
  struct Slot {
    plugin::RequestKind kind = plugin::RequestKind::kReply;
    ReplyCode code = ReplyCode::kOk;
    bool answered = false;
    bool plugin_refused = false;
    int32_t status = 0;
    size_t cost = 0;
    Index index;
    Time deadline;
    Slice request;
    ReadOptions read;
    std::string text;
  };
  bool runs_with(const Slot& slot) const;
  void deliver(const Reply& reply);
  void drop_front();

  ReplyHandler* handler_;
  std::deque<Slot> slots_;
  uint64_t first_ = 0;  // ordinal of slots_.front()
  size_t started_ = 0;
  size_t running_ = 0;  // started and not answered; all of one kind
  plugin::RequestKind running_kind_ = plugin::RequestKind::kWrite;
  ReadOptions running_read_;
  size_t bytes_ = 0;
  bool replied_ = false;  // since the last end_replies()
  bool replied_taken_ = false;
  std::deque<ReadTask> ready_reads_;
  bool is_ready_ = false;  // in the queue of streams that have some
  size_t executing_ = 0;   // reads given to the apply thread
  // Of the reply to a read, as is likely. Much is assumed of a new client's.
  size_t reply_bytes_ = 64 << 10;
};

}  // namespace connectd::node

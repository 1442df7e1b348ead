// One connection's requests in order. A run of writes, of reads, or of local reads is pipelined; a
// change of kind is a barrier: a read starts when the stream's earlier writes are answered, and a
// write when the earlier reads are. So effects and replies keep the order of submission.
//
// The slots are in order of submission: the holder has the first `started_` ones (or they are
// answered, and earlier ones are not); the others wait at the barrier.
//
// It does not know the holder, which drives it: push(), start_next() until it returns none,
// flush(). Owner: the loop thread, but for is_closed().
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "node/requests/request.h"
#include "plugin/instance.h"

namespace connectd::node {

class Stream final {
 public:
  explicit Stream(ReplyHandler* handler) : handler_(handler) {}

  // ---- submission
  // A request that needs no consensus: its reply is delivered after the earlier ones.
  void push_answered(ReplyCode code, std::string text, size_t cost, bool plugin_refused = false);
  // `kind`: a write or a read.
  void push(plugin::RequestKind kind, Slice request, const ReadOptions& read, Time begin,
            Time deadline, size_t cost);
  // The request that starts now, to be answered with answer(). None: no request is left, or the
  // next one waits at the barrier.
  struct Started {
    uint64_t ordinal = 0;
    plugin::RequestKind kind = plugin::RequestKind::kReject;
    Slice request;
    ReadOptions read;
    Time deadline;
  };
  std::optional<Started> start_next();
  // The client has room again: restarts the timeout of what waited for it, that is of requests that
  // have not started and of reads that were not executed.
  void renew(Time deadline);

  // ---- replies
  struct Answered {
    plugin::RequestKind kind;
    Time begin;   // when it was submitted
    size_t cost;  // which is no longer held
  };
  // Answers a started request.
  Answered answer(uint64_t ordinal, const Reply& reply);
  // Started and not answered.
  bool awaits(uint64_t ordinal) const {
    return ordinal >= first_ && !slots_[ordinal - first_].answered;
  }
  // Delivers the replies that have no unanswered request before them.
  void flush();
  // True once after replies were delivered: the caller then calls end_replies().
  bool take_replied();
  void end_replies();

  // ---- reads that have reached their index
  void add_ready(ReadTask task) { ready_reads_.push_back(std::move(task)); }
  // True: it has such reads and is not in the queue of ready streams; add it now.
  bool becomes_ready();
  // Moves a run of reads into `out`, without naming the stream; the next run follows when they are
  // back. None if the client is congested.
  void take_ready(std::vector<ReadTask>& out);
  // A read from take_ready() is back.
  void executed() { --executing_; }
  // It was not executed. The last one first.
  void put_back(ReadTask task);
  // Moves out the late ones of those that wait for a run of this stream, or of others, to end.
  // None if they wait for the client.
  std::vector<uint64_t> take_late(Time now);

  // ---- the client
  void set_rights(Rights rights) { rights_ = rights; }
  Rights rights() const { return rights_; }
  void close() {
    handler_ = nullptr;
    is_closed_.store(true, std::memory_order_relaxed);
  }
  bool is_closed() const { return is_closed_.load(std::memory_order_relaxed); }  // any thread
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
    Time begin;
    Time deadline;
    Slice request;
    ReadOptions read;
    std::string text;
  };
  bool runs_with(const Slot& slot) const;
  void deliver(const Reply& reply);
  void drop_front();

  ReplyHandler* handler_;
  Rights rights_;
  std::atomic<bool> is_closed_{false};
  std::deque<Slot> slots_;
  uint64_t first_ = 0;  // ordinal of slots_.front()
  size_t started_ = 0;
  size_t running_ = 0;  // started, not answered; all of one kind
  plugin::RequestKind running_kind_ = plugin::RequestKind::kWrite;
  ReadOptions running_read_;
  size_t bytes_ = 0;
  bool replied_ = false;  // since the last end_replies()
  bool replied_taken_ = false;
  std::deque<ReadTask> ready_reads_;
  bool is_ready_ = false;  // in the queue of ready streams
  // Since the client had no room for the reply to a read, until renew().
  bool waits_for_client_ = false;
  size_t executing_ = 0;  // reads given to the apply thread
  // Expected size of a reply to a write; high for a new client.
  size_t write_reply_bytes_ = 64 << 10;
};

}  // namespace connectd::node

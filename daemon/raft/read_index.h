// Linearizable reads without the log (thesis §6.4).
//
// ReadRounds, on the leader: all reads of a turn share one round. Its read index is the commit
// index when the round opens. The round is confirmed when a quorum has answered messages that were
// sent after it opened, which proves that no later leader had been elected when the reads arrived.
// ReadAsks, on other nodes: all reads of a turn share one request to the leader. Owner: the core.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "base/clock.h"
#include "raft/types.h"

namespace connectd::raft {

// The source of a read: this node's host (`node` none), or another node with its reads of a turn.
struct Reader {
  NodeId node;
  uint64_t context = 0;
};

class ReadRounds final {
 public:
  // Reads of further turns wait until an earlier round is confirmed, and then share one.
  static constexpr size_t kMaxOpen = 64;

  void add(Reader reader) { waiting_.push_back(reader); }
  bool may_open() const { return !waiting_.empty() && open_.size() < kMaxOpen; }
  // `last_round`: the number of the last message that was sent. Later ones confirm.
  void open(uint64_t last_round, Index read_index);
  bool any_open() const { return !open_.empty(); }
  // A quorum has answered message `answered_round` or later ones. Calls `ready(Reader, Index)` for
  // each reader that this confirms.
  template <class Ready>
  void confirm(uint64_t answered_round, Ready&& ready) {
    while (!open_.empty() && open_.front().last_round < answered_round) {
      for (const Reader& reader : open_.front().readers) ready(reader, open_.front().read_index);
      open_.pop_front();
    }
  }
  // Not the leader any more: removes and returns all readers.
  std::vector<Reader> drop_all();

 private:
  struct Round {
    uint64_t last_round;
    Index read_index;
    std::vector<Reader> readers;
  };
  std::vector<Reader> waiting_;
  std::deque<Round> open_;
};

class ReadAsks final {
 public:
  // Requests are numbered from `first_number`, which must not repeat the numbers from before a
  // restart of this node: a late answer would be taken for a new one.
  explicit ReadAsks(uint64_t first_number) : next_number_(first_number) {}

  void add(uint64_t context) { waiting_.push_back(context); }
  bool any_waiting() const { return !waiting_.empty(); }
  bool any() const { return !waiting_.empty() || !asked_.empty(); }
  // Puts all waiting reads into one request; returns its number.
  uint64_t ask(Time now);
  // The contexts of that request; empty if it is not known any more.
  std::vector<uint64_t> answered(uint64_t number);
  // The contexts of unanswered requests sent at or before `since`.
  std::vector<uint64_t> overdue(Time since);
  // When the oldest request was sent; null: there is none.
  const Time* oldest() const { return asked_.empty() ? nullptr : &asked_.front().at; }
  std::vector<uint64_t> drop_all();

 private:
  struct Question {
    uint64_t number;
    Time at;
    std::vector<uint64_t> contexts;
  };
  uint64_t next_number_;
  std::vector<uint64_t> waiting_;
  std::deque<Question> asked_;
};

}  // namespace connectd::raft

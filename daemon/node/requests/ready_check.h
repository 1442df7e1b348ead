// Whether this node is up to date, for /readyz: once a second it asks for a read index that a round
// of the leader confirms, whether or not clients read. When the index is reached, the question goes
// the way of a read to the apply thread; when it comes back, the state has every write that was
// acknowledged before it was asked. A node that is behind, whose plugin is busy, or whose leader is
// not confirmed by a quorum does not get so far.
//
// Pure. Owner: the loop thread, as part of Reads.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "base/clock.h"
#include "base/types.h"

namespace connectd::node {

class ReadyCheck final {
 public:
  static constexpr Duration kInterval = std::chrono::seconds(1);

  bool is_due(Time now) const { return !asked_ || now - *asked_ >= kInterval; }
  void asked(uint64_t context, Time now) {
    asked_ = now;
    questions_.push_back({context, now, std::nullopt});
    if (questions_.size() > kMaxQuestions) questions_.pop_front();
  }
  void answered(uint64_t context, Index index) {
    for (Question& question : questions_) {
      if (question.context == context) question.index = index;
    }
  }
  // Nobody could answer: asked again `retry` from now.
  void dropped(uint64_t context, Time now, Duration retry) {
    if (!questions_.empty() && questions_.back().context == context) {
      asked_ = now - kInterval + retry;
    }
  }

  // When the newest question was asked that the state after `handed` answers; each once.
  std::optional<Time> take_reached(Index handed);

 private:
  struct Question {
    uint64_t context = 0;
    Time asked;
    std::optional<Index> index;
  };
  // More than are asked until a node without an answer is unready.
  static constexpr size_t kMaxQuestions = 16;

  std::optional<Time> asked_;
  std::deque<Question> questions_;
};

// Ready when the state is as fresh as kReady, and then until it is older than kUnready, or there is
// no leader. So a node that is ready has every write that was acknowledged kUnready ago.
class Readiness final {
 public:
  static constexpr Duration kReady = std::chrono::seconds(2);
  static constexpr Duration kUnready = std::chrono::seconds(5);

  // To be called again and again: it remembers.
  bool look(bool has_leader, std::optional<Time> fresh_since, Time now);
  bool is_ready() const { return is_ready_; }

 private:
  bool is_ready_ = false;
};

}  // namespace connectd::node

#include "node/requests/ready_check.h"

#include <algorithm>

namespace connectd::node {

std::optional<Time> ReadyCheck::take_reached(Index handed) {
  const auto is_reached = [&](const Question& question) {
    return question.index && *question.index <= handed;
  };
  const auto newest = std::find_if(questions_.rbegin(), questions_.rend(), is_reached);
  if (newest == questions_.rend()) return std::nullopt;
  const Time asked = newest->asked;
  questions_.erase(questions_.begin(), newest.base());
  return asked;
}

bool Readiness::look(bool has_leader, std::optional<Time> fresh_since, Time now) {
  const Duration oldest = is_ready_ ? kUnready : kReady;
  is_ready_ = has_leader && fresh_since && now - *fresh_since <= oldest;
  return is_ready_;
}

}  // namespace connectd::node

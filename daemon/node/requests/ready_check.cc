#include "node/requests/ready_check.h"

namespace connectd::node {

std::optional<Time> ReadyCheck::fresh_since(Index applied) const {
  std::optional<Time> since;
  for (const Question& question : questions_) {
    if (question.index && *question.index <= applied) since = question.asked;
  }
  return since;
}

bool Readiness::look(bool has_leader, std::optional<Time> fresh_since, Time now) {
  const Duration oldest = is_ready_ ? kUnready : kReady;
  is_ready_ = has_leader && fresh_since && now - *fresh_since <= oldest;
  return is_ready_;
}

}  // namespace connectd::node

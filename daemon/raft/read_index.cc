#include "raft/read_index.h"

#include <algorithm>
#include <utility>

namespace connectd::raft {

namespace {
template <class T>
void move_to_end(std::vector<T>& from, std::vector<T>& to) {
  to.insert(to.end(), from.begin(), from.end());
}
}  // namespace

void ReadRounds::open(uint64_t last_round, Index read_index) {
  open_.push_back({last_round, read_index, std::exchange(waiting_, {})});
}

std::vector<Reader> ReadRounds::drop_all() {
  std::vector<Reader> all;
  for (Round& round : open_) move_to_end(round.readers, all);
  move_to_end(waiting_, all);
  open_.clear();
  waiting_.clear();
  return all;
}

uint64_t ReadAsks::ask(Time now) {
  asked_.push_back({next_number_, now, std::exchange(waiting_, {})});
  return next_number_++;
}

std::vector<uint64_t> ReadAsks::answered(uint64_t number) {
  auto question = std::find_if(asked_.begin(), asked_.end(),
                               [&](const Question& q) { return q.number == number; });
  if (question == asked_.end()) return {};
  std::vector<uint64_t> contexts = std::move(question->contexts);
  asked_.erase(question);
  return contexts;
}

std::vector<uint64_t> ReadAsks::overdue(Time since) {
  std::vector<uint64_t> contexts;
  while (!asked_.empty() && asked_.front().at <= since) {
    move_to_end(asked_.front().contexts, contexts);
    asked_.pop_front();
  }
  return contexts;
}

std::vector<uint64_t> ReadAsks::drop_all() {
  std::vector<uint64_t> contexts;
  for (Question& question : asked_) move_to_end(question.contexts, contexts);
  move_to_end(waiting_, contexts);
  asked_.clear();
  waiting_.clear();
  return contexts;
}

}  // namespace connectd::raft

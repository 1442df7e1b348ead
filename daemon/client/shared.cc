#include "client/shared.h"

#include "client/conversation.h"

namespace connectd::client {

bool Shared::has_room(size_t unsent) const {
  if (unsent >= options.output_pause_bytes) return false;
  if (unsent == 0) return unsent_bytes < options.replies_bytes_max;
  const size_t half = options.replies_bytes_max / 2;
  return unsent_bytes < half && unsent < (half - unsent_bytes) / 8;
}

bool Shared::is_short() const {
  return !waiting.empty() && unsent_bytes >= options.replies_bytes_max / 4 * 3;
}

bool Shared::may_begin(const ConversationDriver* driver) const {
  if (!has_begin_room()) return false;
  return begin_waiting.empty() || begin_waiting.front() == driver || in_turn == driver;
}

bool Shared::may_wake() const {
  if (!waiting.empty() && has_room(0)) return true;
  if (!input_waiting.empty() && has_input_room()) return true;
  return !begin_waiting.empty() && has_begin_room();
}

void Shared::wake() {
  wake_waiting();
  wake_input_waiting();
  give_turns();
}

void Shared::wake_waiting() {
  for (size_t left = waiting.size(); left > 0 && !waiting.empty() && has_room(0); --left) {
    ConversationDriver* first = waiting.front();
    waiting.pop_front();
    first->on_room(Room::kReplies);
  }
}

// Until one needs more room than there is. That one stays the first.
void Shared::wake_input_waiting() {
  while (!input_waiting.empty() && has_input_room()) {
    ConversationDriver* first = input_waiting.front();
    input_waiting.pop_front();
    first->on_room(Room::kInput);
    if (input_waiting.empty() || input_waiting.back() != first) continue;
    input_waiting.pop_back();
    input_waiting.push_front(first);
    return;
  }
}

void Shared::give_turns() {
  for (size_t left = begin_waiting.size(); left > 0 && !begin_waiting.empty(); --left) {
    if (!has_begin_room()) return;
    ConversationDriver* first = begin_waiting.front();
    begin_waiting.pop_front();
    in_turn = first;
    first->on_room(Room::kTurn);
    in_turn = nullptr;
  }
}

void Shared::measure(std::chrono::nanoseconds elapsed) {
  const double seconds = std::chrono::duration<double>(elapsed).count();
  if (seconds <= 0) return;
  const double part = std::chrono::duration<double>(options.begun_time).count() / seconds;
  const auto bytes = static_cast<size_t>(static_cast<double>(answered_bytes) * part);
  answered_bytes = 0;
  // Without connections that wait, the node could have answered more.
  const bool is_limit = !begin_waiting.empty();
  const size_t next = is_limit ? (begun_bytes_max + bytes) / 2 : std::max(begun_bytes_max, bytes);
  const size_t most = std::min(options.begun_bytes_usual, options.begun_bytes_most);
  begun_bytes_max = std::clamp(next, std::min(options.begun_bytes_least, most), most);
}

bool Shared::may_keep(size_t more) const {
  const size_t half = options.input_bytes_max / 2;
  return large_input_bytes < half && more <= (half - large_input_bytes) / 2;
}

bool Shared::may_receive(size_t more, ConversationDriver* driver) {
  const size_t total = large_input_bytes + more;
  if (total <= options.input_bytes_max) return true;
  if (over_bound != nullptr && over_bound != driver) return false;
  // A buffer is at most twice as large as its request.
  if (total > options.input_bytes_max + 4 * service.max_request() + more) return false;
  over_bound = driver;
  return true;
}

}  // namespace connectd::client

#include "client/shared.h"

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

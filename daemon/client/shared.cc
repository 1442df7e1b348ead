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

}  // namespace connectd::client

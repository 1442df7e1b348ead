#include "base/checksum.h"
#include "raft/types.h"

namespace connectd::raft {

uint64_t entry_checksum(const Entry& entry) {
  uint8_t bytes[64];
  store_le<uint64_t>(bytes, entry.index.value());
  store_le<uint64_t>(bytes + 8, entry.term.value());
  store_le<uint64_t>(bytes + 16, entry.session.value());
  store_le<uint64_t>(bytes + 24, entry.sequence.value());
  store_le<uint64_t>(bytes + 32, entry.acked_below.value());
  store_le<int64_t>(bytes + 40, entry.stamp_ns);
  store_le<uint8_t>(bytes + 48, static_cast<uint8_t>(entry.kind));
  store_le<uint8_t>(bytes + 49, entry.flags);
  store_le<uint16_t>(bytes + 50, 0);
  store_le<uint32_t>(bytes + 52, static_cast<uint32_t>(entry.payload.size()));
  store_le<uint64_t>(bytes + 56, checksum64(entry.payload.view()));
  return checksum64(ByteView(bytes, sizeof bytes));
}

}  // namespace connectd::raft

#include "wire/entry_codec.h"

namespace connectd::wire {

void encode_entry_header(const raft::Entry& entry, uint8_t* to) {
  store_le<uint64_t>(to, entry.index.value());
  store_le<uint64_t>(to + 8, entry.term.value());
  store_le<uint64_t>(to + 16, entry.session.value());
  store_le<uint64_t>(to + 24, entry.sequence.value());
  store_le<uint64_t>(to + 32, entry.acked_below.value());
  store_le<int64_t>(to + 40, entry.stamp_ns);
  store_le<uint8_t>(to + 48, static_cast<uint8_t>(entry.kind));
  store_le<uint8_t>(to + 49, entry.flags);
  store_le<uint16_t>(to + 50, 0);
  store_le<uint32_t>(to + 52, static_cast<uint32_t>(entry.payload.size()));
  store_le<uint64_t>(to + 56, entry.checksum);
}

bool decode_entry_header(ByteView from, raft::Entry& entry, uint32_t& payload_bytes) {
  if (from.size() < kEntryHeaderBytes) return false;
  const uint8_t* at = from.data();
  auto kind = load_le<uint8_t>(at + 48);
  auto flags = load_le<uint8_t>(at + 49);
  auto zero = load_le<uint16_t>(at + 50);
  payload_bytes = load_le<uint32_t>(at + 52);
  if (!raft::is_known_entry_kind(kind) || flags != 0 || zero != 0) return false;
  if (payload_bytes > kMaxEntryPayloadBytes) return false;
  entry.index = Index(load_le<uint64_t>(at));
  entry.term = Term(load_le<uint64_t>(at + 8));
  entry.session = SessionId(load_le<uint64_t>(at + 16));
  entry.sequence = Sequence(load_le<uint64_t>(at + 24));
  entry.acked_below = Sequence(load_le<uint64_t>(at + 32));
  entry.stamp_ns = load_le<int64_t>(at + 40);
  entry.kind = static_cast<raft::EntryKind>(kind);
  entry.flags = flags;
  entry.payload = Slice();
  entry.checksum = load_le<uint64_t>(at + 56);
  return entry.index && entry.term;
}

}  // namespace connectd::wire

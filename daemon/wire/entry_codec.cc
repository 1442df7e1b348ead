#include "wire/entry_codec.h"

#include <fmt/format.h>

#include <array>

#include "base/checksum.h"
#include "base/limits.h"

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

std::string unknown_in_entry(ByteView entry) {
  constexpr size_t kChecksumAt = 56;
  if (entry.size() < kEntryHeaderBytes) return {};
  const uint8_t* at = entry.data();
  if (load_le<uint32_t>(at + 52) != entry.size() - kEntryHeaderBytes) return {};
  std::array<uint8_t, kEntryHeaderBytes> head{};
  std::copy_n(at, kChecksumAt, head.begin());
  store_le<uint64_t>(&head[kChecksumAt], checksum64(entry.subspan(kEntryHeaderBytes)));
  if (checksum64(head) != load_le<uint64_t>(at + kChecksumAt)) return {};
  if (!raft::is_known_entry_kind(at[48])) return fmt::format("kind {}", at[48]);
  if (at[49] != 0) return fmt::format("flags {:#x}", at[49]);
  const auto reserved = load_le<uint16_t>(at + 50);
  return reserved != 0 ? fmt::format("reserved field {:#x}", reserved) : std::string();
}

}  // namespace connectd::wire

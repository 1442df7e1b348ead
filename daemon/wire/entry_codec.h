// The bytes of one entry, the same in the log and between peers: a header of fixed size, then the
// payload. An entry is encoded once by the leader's log and once per peer; nothing is recomputed,
// the checksum travels with it.
//
// Entry header, little-endian:
//
//   offset  size  field
//        0     8  index
//        8     8  term
//       16     8  session (0: none)
//       24     8  sequence
//       32     8  acked_below
//       40     8  stamp_ns, signed
//       48     1  kind (raft::EntryKind)
//       49     1  flags (0 today)
//       50     2  zero
//       52     4  payload length
//       56     8  checksum (raft::entry_checksum)
//
// Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "raft/types.h"

namespace connectd::wire {

inline constexpr size_t kEntryHeaderBytes = 64;

// Writes kEntryHeaderBytes bytes.
void encode_entry_header(const raft::Entry& entry, uint8_t* to);

// Reads the header of an entry from `from` (at least kEntryHeaderBytes bytes). `entry.payload` is
// left empty, its declared length is put into `payload_bytes`. False when a field cannot be: an
// unknown kind, flags or a reserved field that is not zero, a length over the bound, index or term
// zero. The checksum is not looked at: it covers the payload, see verify_entry().
[[nodiscard]] bool decode_entry_header(ByteView from, raft::Entry& entry, uint32_t& payload_bytes);

// Of a whole entry, header and payload, that decode_entry_header() refuses: what a newer connectd
// wrote in it, as a text ("kind 11"). Empty: the checksum does not match, or nothing in it is
// unknown, so the bytes are damaged. The checksum is that of the 56 bytes before it and the
// payload, reserved bytes included.
std::string unknown_in_entry(ByteView entry);

// The checksum fits the fields and the payload.
[[nodiscard]] inline bool verify_entry(const raft::Entry& entry) {
  return raft::entry_checksum(entry) == entry.checksum;
}

}  // namespace connectd::wire

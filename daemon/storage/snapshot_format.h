// The bytes of a snapshot file:
//
//   SnapshotHeader | block | block | ... | trailer block (end of the file)
//
//   block := BlockHeader | stored bytes
//
// The metadata blocks come first, then those of the plugin's stream, then one trailer. A block is
// stored uncompressed when `stored_bytes` equals `plain_bytes`, and as one zstd frame when it is
// less; it is never more. All numbers are little-endian.
//
// Validity: the header's checksum matches; each block header's checksum (seeded with the block's
// offset in the file) and the checksum of its stored bytes match; sizes are within their limits;
// kinds come in order; the metadata blocks have together as many bytes as the header states; the
// trailer ends the file, and its counts and chain match. The chain is XXH3 over each block header,
// seeded with the chain so far (at first the header's checksum); it detects missing blocks and
// blocks of another file.
#pragma once

#include <cstddef>
#include <cstdint>

#include "storage/format.h"

namespace connectd::storage {

inline constexpr uint32_t kSnapshotVersion = 1;
inline constexpr char kSnapshotMagic[8] = {'C', 'O', 'N', 'N', 'S', 'N', 'A', 'P'};
inline constexpr uint32_t kMaxBlockBytes = 1 << 20;  // uncompressed; a file may state less

struct SnapshotHeader {
  char magic[8];
  uint32_t version;
  uint32_t group;
  uint64_t index;  // the last entry it covers
  uint64_t term;
  uint64_t metadata_bytes;
  uint32_t block_bytes;  // no block has more plain bytes
  uint32_t reserved;     // zero
  char writer[40];       // program and version, padded with zeros
  uint64_t checksum;     // XXH3-64 of the 88 bytes before
};
static_assert(sizeof(SnapshotHeader) == 96);
static_assert(offsetof(SnapshotHeader, index) == 16);
static_assert(offsetof(SnapshotHeader, metadata_bytes) == 32);
static_assert(offsetof(SnapshotHeader, writer) == 48);
static_assert(offsetof(SnapshotHeader, checksum) == 88);

enum class BlockKind : uint32_t { kMetadata = 1, kStream = 2, kTrailer = 3 };

struct BlockHeader {
  uint32_t kind;
  uint32_t stored_bytes;
  uint32_t plain_bytes;
  uint32_t reserved;         // zero
  uint64_t stored_checksum;  // XXH3-64 of the stored bytes
  uint64_t checksum;         // XXH3-64 of the 24 bytes before, seeded with the block's offset
};
static_assert(sizeof(BlockHeader) == 32);
static_assert(offsetof(BlockHeader, stored_checksum) == 16);

struct TrailerBody {
  uint64_t stream_bytes;  // plain
  uint64_t stream_blocks;
  uint64_t chain;  // over all block headers before the trailer
};
static_assert(sizeof(TrailerBody) == 24);

}  // namespace connectd::storage

// The identity file: the old one or the new one, never less.
#include "storage/identity.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <tuple>

#include "base/checksum.h"
#include "sim/faulty_file_system.h"

namespace connectd::storage {
namespace {

using sim::FaultyFileSystem;

Identity make_identity(uint8_t n) {
  Identity identity;
  identity.node_id = NodeId(n);
  identity.disk_id.bytes.fill(n);
  identity.cluster_id.bytes.fill(static_cast<uint8_t>(n + 1));
  identity.genesis = std::string(100, static_cast<char>('a' + n));
  identity.log_begun = n % 2 == 1;
  identity.former_cluster_ids.resize(2);
  identity.former_cluster_ids[1].bytes.fill(n);
  identity.skips = {{Index(n), Term(1), 5}, {Index(n + 1u), Term(1), 6}};
  return identity;
}

TEST(IdentityTest, IsReadBackAsItWasSaved) {
  FaultyFileSystem files;
  ASSERT_TRUE(files.make_directory("/data"));
  auto none = load_identity(files, "/data");
  ASSERT_TRUE(none);
  EXPECT_FALSE(*none);
  Identity fresh;
  fresh.node_id = NodeId(3);
  fresh.disk_id.bytes.fill(9);
  for (const Identity& identity : {fresh, make_identity(5)}) {
    ASSERT_TRUE(save_identity(files, "/data", identity));
    files.crash({0, 0});
    auto loaded = load_identity(files, "/data");
    ASSERT_TRUE(loaded) << loaded.error().text;
    EXPECT_EQ(**loaded, identity);
  }
}

// Wherever a former process was killed: what this one goes by survives a power failure.
TEST(IdentityTest, WhatIsOpenedIsDurable) {
  for (uint64_t change = 1; change <= 6; ++change) {
    FaultyFileSystem files;
    ASSERT_TRUE(files.make_directory("/data"));
    files.power_off_at_change(change);
    std::ignore = open_identity(files, "/data", NodeId(3), DiskId{{1}});
    files.restart_process();
    auto opened = open_identity(files, "/data", NodeId(3), DiskId{{2}});
    ASSERT_TRUE(opened) << opened.error().text;
    files.crash({0, 0});
    auto loaded = load_identity(files, "/data");
    ASSERT_TRUE(loaded && *loaded) << change;
    EXPECT_EQ(**loaded, *opened) << change;
    EXPECT_EQ((*loaded)->node_id, NodeId(3));
  }
}

TEST(IdentityTest, EveryFlippedByteAndEveryLengthIsRefused) {
  const std::string bytes = encode_identity(make_identity(5));
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = bytes;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
      auto identity = decode_identity(as_bytes(flipped), "identity");
      ASSERT_FALSE(identity) << at;
      EXPECT_EQ(identity.error().kind, ErrorKind::kCorrupt);
    }
    EXPECT_FALSE(decode_identity(as_bytes(bytes.substr(0, at)), "identity"));
  }
  EXPECT_FALSE(decode_identity(as_bytes(bytes + "x"), "identity"));
}

TEST(IdentityTest, NewerVersionIsAMismatch) {
  std::string bytes = encode_identity(make_identity(5));
  bytes.resize(bytes.size() - 8);
  bytes[8] = 99;
  ByteWriter(bytes).number<uint64_t>(checksum64(as_bytes(bytes)));
  auto identity = decode_identity(as_bytes(bytes), "/data/identity");
  ASSERT_FALSE(identity);
  EXPECT_EQ(identity.error().kind, ErrorKind::kNewerVersion);
  EXPECT_NE(identity.error().text.find("/data/identity has format version 99"), std::string::npos);
}

TEST(IdentityTest, NthFailureLeavesTheOldOrTheNewOne) {
  uint64_t hit = 0;
  for (uint64_t nth = 1;; ++nth) {
    for (bool sticky : {false, true}) {
      FaultyFileSystem files(nth);
      ASSERT_TRUE(files.make_directory("/data"));
      ASSERT_TRUE(save_identity(files, "/data", make_identity(1)));
      files.fail_nth_change(nth, EIO, sticky);
      const bool saved = save_identity(files, "/data", make_identity(2)).has_value();
      const bool was_hit = files.failure_hit();
      EXPECT_EQ(saved, !was_hit);
      files.clear_failures();
      files.crash();
      auto loaded = load_identity(files, "/data");
      ASSERT_TRUE(loaded && *loaded) << nth;
      EXPECT_TRUE(**loaded == make_identity(2) || (!saved && **loaded == make_identity(1))) << nth;
      hit += was_hit;
      if (!was_hit) {
        EXPECT_EQ(hit, 2 * (nth - 1));
        EXPECT_GT(nth, 5u);
        return;
      }
    }
  }
}

}  // namespace
}  // namespace connectd::storage

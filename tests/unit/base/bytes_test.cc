#include "base/bytes.h"

#include <gtest/gtest.h>

#include "base/checksum.h"
#include "base/types.h"

namespace connectd {
namespace {

TEST(ByteReader, ReadsBackWhatWasWritten) {
  std::string out;
  ByteWriter writer(out);
  writer.number<uint16_t>(0x1234);
  writer.number<int64_t>(-5);
  writer.counted("hello");
  ByteReader reader(as_bytes(out));
  EXPECT_EQ(reader.number<uint16_t>(), 0x1234);
  EXPECT_EQ(reader.number<int64_t>(), -5);
  EXPECT_EQ(reader.counted(5), "hello");
  EXPECT_TRUE(reader.done());
}

TEST(ByteReader, ReadPastTheEndFailsAndStaysFailed) {
  ByteReader reader(as_bytes("abc"));
  EXPECT_EQ(reader.number<uint32_t>(), 0u);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.number<uint8_t>(), 0u);
  EXPECT_FALSE(reader.done());
}

TEST(ByteReader, CountOverTheLimitFails) {
  std::string out;
  ByteWriter(out).counted("hello");
  ByteReader reader(as_bytes(out));
  EXPECT_EQ(reader.counted(4), "");
  EXPECT_FALSE(reader.ok());
}

TEST(Slice, KeepsItsBlockAlive) {
  Slice part;
  {
    Slice whole = Slice::copy_of("hello world");
    part = whole.part(6, 5);
  }
  EXPECT_EQ(part.text(), "world");
}

TEST(Number, KindsCompareAndCount) {
  Index a(5);
  EXPECT_EQ((a + 3) - a, 3u);
  EXPECT_LT(a, a + 1);
  EXPECT_FALSE(Index());
  EXPECT_EQ(fmt::format("{}", a), "5");
}

// The value is part of the formats: it must never change.
TEST(Checksum, IsXxh3OfTheBytes) {
  EXPECT_EQ(checksum64({}), 0x2d06800538d394c2u);
  EXPECT_NE(checksum64(as_bytes("a"), 1), checksum64(as_bytes("a"), 2));
}

}  // namespace
}  // namespace connectd

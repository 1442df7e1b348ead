#include "wire/session_owner.h"

#include <gtest/gtest.h>

namespace connectd::wire {
namespace {

TEST(SessionOwner, IsReadBackAndNothingElseIs) {
  SessionOwner owner{NodeId(3), 0x123456789abcdef0};
  std::string bytes = owner.encode();
  SessionOwner read;
  ASSERT_TRUE(SessionOwner::decode(as_bytes(bytes), read));
  EXPECT_EQ(read, owner);
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(SessionOwner::decode(as_bytes(bytes).first(length), read));
  }
  EXPECT_FALSE(SessionOwner::decode(as_bytes(bytes + "x"), read));
}

}  // namespace
}  // namespace connectd::wire

#include "base/sha256.h"

#include <gtest/gtest.h>

namespace connectd {
namespace {

TEST(Sha256, KnownAnswer) {
  EXPECT_EQ(sha256_hex(as_bytes("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace connectd

#include "auth/bearer.h"

#include <gtest/gtest.h>

namespace connectd::auth {
namespace {

TEST(Bearer, TokenOfTheHeader) {
  for (const char* header : {"Bearer abc", "bearer abc", "BEARER abc", "Bearer   abc",
                             "Bearer\tabc", " Bearer abc \t"}) {
    EXPECT_EQ(bearer_token(header), "abc") << header;
  }
}

TEST(Bearer, OtherHeadersHaveNone) {
  for (const char* header : {"", " ", "Bearer", "Bearer ", "Bearerabc", "Basic YTpi", "Bearer a b",
                             "Token abc", "abc", "\xff Bearer abc"}) {
    EXPECT_FALSE(bearer_token(header)) << header;
  }
}

}  // namespace
}  // namespace connectd::auth

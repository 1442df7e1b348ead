#include "auth/token.h"

#include <gtest/gtest.h>

#include <set>

namespace connectd::auth {
namespace {

TEST(Token, MadeTokensHaveTheirForm) {
  auto token = make_token("ci7build");
  ASSERT_TRUE(token);
  EXPECT_EQ(token->id, "ci7build");
  EXPECT_EQ(token->text.size(), std::string("connectd1_ci7build_").size() + 64);
  EXPECT_TRUE(token->text.starts_with("connectd1_ci7build_"));
  EXPECT_EQ(token_id(token->text), "ci7build");
}

TEST(Token, NoTwoAreEqual) {
  std::set<std::string> ids, secrets, halves;
  for (int i = 0; i < 200; ++i) {
    auto token = make_token("");
    ASSERT_TRUE(token && is_token_id(token->id));
    ids.insert(token->id);
    const std::string secret = token->text.substr(token->text.size() - 64);
    secrets.insert(secret);
    halves.insert(secret.substr(0, 32));
    halves.insert(secret.substr(32));
  }
  EXPECT_EQ(ids.size(), 200u);
  EXPECT_EQ(secrets.size(), 200u);
  EXPECT_EQ(halves.size(), 400u) << "256 bits, not 128 twice";
}

TEST(Token, OtherIdsAreRefused) {
  for (const char* id :
       {"short", "ABCDEFGH", "abcdefghijklmnopq", "abc_defgh", "abcdefg ", "../etc/x"}) {
    auto token = make_token(id);
    ASSERT_FALSE(token) << id;
    EXPECT_EQ(token.error().kind, ErrorKind::kUsage);
  }
}

TEST(Token, OtherTextsHaveNoId) {
  const std::string secret(64, 'a');
  EXPECT_EQ(token_id("connectd1_abcdefgh_" + secret), "abcdefgh");
  for (const std::string& text :
       {std::string(), std::string("connectd1_"), "connectd1_abcdefgh" + secret,
        "connectd2_abcdefgh_" + secret, "connectd1_abcdefgh_" + secret + "a",
        "connectd1_abcdefgh_" + secret.substr(1), "connectd1_abcdefgh_" + std::string(64, 'A'),
        "connectd1_abc_" + secret, " connectd1_abcdefgh_" + secret,
        "connectd1_abcdefgh_" + secret + "\n", std::string(1 << 20, 'a')}) {
    EXPECT_FALSE(token_id(text)) << text.substr(0, 100);
  }
}

TEST(Token, ComparesEveryByte) {
  const std::string hash = token_hash("x");
  ASSERT_EQ(hash.size(), 64u);
  EXPECT_TRUE(equals_in_constant_time(hash, std::string(hash)));
  for (size_t i = 0; i < hash.size(); ++i) {
    std::string other = hash;
    other[i] = static_cast<char>(other[i] ^ 1);
    EXPECT_FALSE(equals_in_constant_time(hash, other)) << i;
  }
  EXPECT_FALSE(equals_in_constant_time(hash, hash.substr(1)));
}

}  // namespace
}  // namespace connectd::auth

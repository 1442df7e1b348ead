#include "auth/principal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace connectd::auth {
namespace {

TEST(Principal, TextNamesTheKind) {
  EXPECT_EQ(Principal().text(), "anonymous");
  EXPECT_EQ(Principal::anonymous({Role::kRead}).text(), "anonymous");
  EXPECT_EQ(Principal::local({Role::kAdmin}).text(), "local");
  EXPECT_EQ(Principal::token("abcdefgh", {}, 7).text(), "token:abcdefgh");
  EXPECT_EQ(Principal::certificate("billing", {}, 7).text(), "cert:billing");
}

TEST(Principal, OnlyCredentialsAuthenticate) {
  EXPECT_FALSE(Principal().is_authenticated());
  EXPECT_FALSE(Principal::local({Role::kAdmin}).is_authenticated());
  EXPECT_TRUE(Principal::token("abcdefgh", {}, {}).is_authenticated());
  EXPECT_TRUE(Principal::certificate("x", {}, {}).is_authenticated());
}

TEST(Principal, AnyNameIsPrintableAndBounded) {
  const std::string all = [] {
    std::string bytes;
    for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
    return bytes;
  }();
  for (const std::string& name : {std::string(), all, std::string(70'000, 'x'),
                                  std::string("a b\nc"), std::string(40, '\0')}) {
    const std::string text = Principal::certificate(name, {}, {}).text();
    EXPECT_LE(text.size(), kMaxPrincipalText);
    EXPECT_TRUE(std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f; })) << text;
  }
  EXPECT_EQ(Principal::certificate("a b\n%", {}, {}).text(), "cert:a%20b%0A%25");
}

TEST(Principal, DifferentNamesHaveDifferentTexts) {
  const std::string common(128, 'x');
  std::set<std::string> texts;
  const std::vector<std::string> names = {
      "a b", "a%20b", common, common + "1", common + "2", std::string(common.size() - 1, 'x')};
  for (const std::string& name : names) texts.insert(printable(name));
  // A short name cannot pretend to be a long one.
  texts.insert(printable(printable(common + "1")));
  EXPECT_EQ(texts.size(), names.size() + 1);
}

}  // namespace
}  // namespace connectd::auth

#include "auth/anonymous.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace connectd::auth {
namespace {

using ::testing::HasSubstr;

constexpr Credentials kNone{};
constexpr Credentials kTokens{.tokens = true};
constexpr Credentials kCertificates{.certificates = true};
constexpr Credentials kBoth{.tokens = true, .certificates = true};

TEST(Anonymous, WhatIsPermitted) {
  const Roles all{Role::kRead, Role::kWrite, Role::kMonitor};
  struct Case {
    std::vector<std::string> words;
    Credentials credentials;
    Roles roles;
  };
  for (const Case& c :
       {Case{{"auto"}, kNone, all}, Case{{"auto"}, kTokens, {}}, Case{{"auto"}, kCertificates, {}},
        Case{{"auto"}, kBoth, {}}, Case{{}, kNone, {}}, Case{{}, kBoth, {}},
        Case{{"read"}, kNone, {Role::kRead}},
        Case{{"read", "monitor"}, kBoth, {Role::kRead, Role::kMonitor}}}) {
    auto configured = parse_anonymous(c.words);
    ASSERT_TRUE(configured) << configured.error().text;
    EXPECT_EQ(format_roles(anonymous_roles(*configured, c.credentials)), format_roles(c.roles));
  }
}

TEST(Anonymous, WhatIsNot) {
  for (const auto& words : std::vector<std::vector<std::string>>{{"admin"},
                                                                 {"read", "backup"},
                                                                 {"auto", "read"},
                                                                 {"read", "auto"},
                                                                 {"read", "read"},
                                                                 {"raed"},
                                                                 {""}}) {
    auto configured = parse_anonymous(words);
    ASSERT_FALSE(configured) << words[0];
    EXPECT_EQ(configured.error().kind, ErrorKind::kUsage);
  }
  EXPECT_THAT(parse_anonymous({"admin"}).error().text, HasSubstr("admin.local"));
}

TEST(Anonymous, LocalCallersAdministerAsConfigured) {
  for (const Credentials& credentials : {kNone, kTokens, kCertificates, kBoth}) {
    const bool none = !credentials.tokens && !credentials.certificates;
    EXPECT_EQ(local_roles(LocalAdmin::kAuto, credentials).has(Role::kAdmin), none);
    EXPECT_TRUE(local_roles(LocalAdmin::kOn, credentials).has(Role::kAdmin));
    EXPECT_TRUE(local_roles(LocalAdmin::kOff, credentials).empty());
  }
  EXPECT_FALSE(local_roles(LocalAdmin::kOn, kNone).has_any({Role::kRead, Role::kWrite}));
}

}  // namespace
}  // namespace connectd::auth

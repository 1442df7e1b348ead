#include "auth/roles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace connectd::auth {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Roles, TextAndBack) {
  for (const char* text : {"read", "write", "admin", "monitor", "backup", "read,write",
                           "read,write,admin,monitor,backup"}) {
    auto roles = parse_roles(text);
    ASSERT_TRUE(roles) << text << ": " << roles.error().text;
    EXPECT_EQ(format_roles(*roles), text);
  }
  EXPECT_EQ(format_roles(*parse_roles("backup,read")), "read,backup");
  EXPECT_EQ(format_roles({}), "none");
}

TEST(Roles, NoRoleIncludesAnother) {
  for (Role one : kAllRoles) {
    for (Role other : kAllRoles) EXPECT_EQ(Roles{one}.has(other), one == other);
  }
}

TEST(Roles, ErrorsNameTheKnownWords) {
  for (const char* text : {"", ",", "read,", ",read", "read, write", "Read", "root", "none"}) {
    auto roles = parse_roles(text);
    ASSERT_FALSE(roles) << text;
    EXPECT_EQ(roles.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(roles.error().text, HasSubstr("read, write, admin, monitor or backup")) << text;
  }
  EXPECT_THAT(parse_roles("raed").error().text, HasSubstr("did you mean 'read'?"));
  EXPECT_THAT(parse_roles("read,read").error().text, HasSubstr("duplicate role 'read'"));
}

TEST(Roles, ErrorsRepeatNoSecret) {
  EXPECT_THAT(parse_roles("connectd1_aaaaaaaa_00ff").error().text, Not(HasSubstr("00ff")));
}

}  // namespace
}  // namespace connectd::auth

// The token file: its text, the checks against it, and its changes on the disk.
#include "auth/token_table.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "auth/times.h"
#include "auth/token.h"
#include "auth/token_file.h"

namespace connectd::auth {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kSecond = 1'000'000'000;
const int64_t kNow = *parse_time("2026-11-30") * kSecond;

std::string hash_of(std::string_view token) { return token_hash(token); }
std::string token_of(std::string_view id, char digit = 'a') {
  return fmt::format("connectd1_{}_{}", id, std::string(64, digit));
}
TokenTable table_of(const std::string& text) {
  auto table = TokenTable::parse(text, "tokens");
  EXPECT_TRUE(table) << table.error().text;
  return table ? std::move(*table) : TokenTable();
}

TEST(TokenTable, GoodTokensHaveTheirRoles) {
  const std::string one = token_of("billing1");
  const std::string two = token_of("operator", 'b');
  const TokenTable table = table_of(fmt::format(
      "# tokens\n\n  \t# more\nbilling1 {} read,write\r\n operator\t{}  admin,monitor   "
      "expires=2027-01-31T00:00:00Z",
      hash_of(one), hash_of(two)));
  EXPECT_EQ(table.entries().size(), 2u);
  const CheckedToken first = table.check(one, kNow);
  EXPECT_EQ(first.verdict, TokenVerdict::kGood);
  EXPECT_EQ(first.principal, Principal::token("billing1", {Role::kRead, Role::kWrite}, {}));
  const CheckedToken second = table.check(two, kNow);
  EXPECT_EQ(second.verdict, TokenVerdict::kGood);
  EXPECT_EQ(second.principal.until(), parse_time("2027-01-31").value());
}

TEST(TokenTable, OtherTokensAreRefused) {
  const std::string good = token_of("billing1");
  const std::string ending = token_of("operator");
  const TokenTable table =
      table_of(fmt::format("billing1 {} read\noperator {} admin expires=2027-01-31T00:00:00Z\n",
                           hash_of(good), hash_of(ending)));
  const int64_t end = *parse_time("2027-01-31") * kSecond;
  struct Case {
    std::string token;
    int64_t now;
    TokenVerdict verdict;
  };
  for (const Case& c :
       {Case{"", kNow, TokenVerdict::kMalformed},
        Case{hash_of(good), kNow, TokenVerdict::kMalformed},
        Case{token_of("somebody"), kNow, TokenVerdict::kUnknown},
        Case{token_of("billing1", 'b'), kNow, TokenVerdict::kWrong},
        // The secret of one with the ID of another.
        Case{token_of("operator", 'c'), end, TokenVerdict::kWrong},
        Case{ending, end - 1, TokenVerdict::kGood}, Case{ending, end, TokenVerdict::kExpired},
        Case{ending, 0, TokenVerdict::kNoClock}, Case{ending, -kSecond, TokenVerdict::kNoClock},
        Case{good, 0, TokenVerdict::kGood}}) {
    const CheckedToken checked = table.check(c.token, c.now);
    EXPECT_EQ(checked.verdict, c.verdict) << c.token << " " << verdict_text(checked.verdict);
    EXPECT_EQ(checked.id, token_id(c.token).value_or(""));
    EXPECT_EQ(checked.principal.is_authenticated(), c.verdict == TokenVerdict::kGood);
  }
}

TEST(TokenTable, AllErrorsAreReportedWithTheirLines) {
  const std::string hash = hash_of("x");
  auto table = TokenTable::parse(fmt::format("billing1 {0} read\n"
                                             "billing1 {0} write\n"
                                             "short {0} read\n"
                                             "operator {0} raed\n"
                                             "operator abc read\n"
                                             "operator {0}\n"
                                             "operator {0} read until=2027-01-31\n"
                                             "operator {0} read expires=2027-02-30\n"
                                             "operator {0} read expires=2027-01-31 x\n",
                                             hash),
                                 "/etc/connectd/tokens");
  ASSERT_FALSE(table);
  EXPECT_EQ(table.error().kind, ErrorKind::kBadConfig);
  for (const char* part :
       {"/etc/connectd/tokens:2: duplicate token billing1; the other is in line 1",
        "\n/etc/connectd/tokens:3: invalid ID", "tokens:4: token operator: unknown role 'raed'",
        "tokens:5: token operator: the hash must be 64", "tokens:6: must be: ID SHA256 ROLES",
        "tokens:7: token operator: the fourth field",
        "tokens:8: token operator: expires: ", "tokens:9: must be: "}) {
    EXPECT_THAT(table.error().text, HasSubstr(part));
  }
}

TEST(TokenTable, ManyErrorsAreCounted) {
  std::string text;
  for (int i = 0; i < 25; ++i) text += "?\n";
  auto table = TokenTable::parse(text, "tokens");
  ASSERT_FALSE(table);
  EXPECT_THAT(table.error().text, HasSubstr("tokens:20: "));
  EXPECT_THAT(table.error().text, HasSubstr("tokens: 5 more errors"));
}

TEST(TokenTable, ErrorsRepeatNoToken) {
  const std::string secret(64, 'e');
  for (const std::string& line :
       {token_of("billing1", 'e'), "billing1 " + token_of("billing1", 'e') + " read",
        "billing1 " + secret + "x read", secret + " x read", "billing1 " + secret + " " + secret,
        "billing1 " + hash_of("x") + " read expires=" + secret}) {
    auto table = TokenTable::parse(line, "tokens");
    ASSERT_FALSE(table) << line;
    EXPECT_THAT(table.error().text, Not(HasSubstr(std::string(16, 'e')))) << line;
  }
}

TEST(TokenTable, LimitsAreKept) {
  auto large = TokenTable::parse(std::string(kMaxTokenFileBytes + 1, '\n'), "tokens");
  ASSERT_FALSE(large);
  EXPECT_THAT(large.error().text, HasSubstr("must have at most 1048576"));
  EXPECT_TRUE(TokenTable::parse(std::string(kMaxTokenFileBytes, '\n'), "tokens"));
  std::string text;
  const std::string hash = hash_of("x");
  for (size_t i = 0; i < kMaxTokens; ++i) text += fmt::format("t{:07} {} read\n", i, hash);
  EXPECT_EQ(table_of(text).entries().size(), kMaxTokens);
  auto many = TokenTable::parse(text + "onemore1 " + hash + " read\n", "tokens");
  ASSERT_FALSE(many);
  EXPECT_THAT(many.error().text, HasSubstr("tokens:10001: more than 10000 tokens"));
}

// ---- on the disk

class TokenFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "connectd-tokens-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    path_ = directory_ + "/tokens";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string content() const {
    std::ifstream in(path_);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  void write(std::string_view text) const {
    std::ofstream(path_) << text;
    ASSERT_EQ(::chmod(path_.c_str(), 0600), 0);
  }
  size_t files() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory_), {}));
  }

  std::string directory_;
  std::string path_;
};

TEST_F(TokenFileTest, TokensComeAndGo) {
  auto token = make_token("billing1");
  ASSERT_TRUE(token);
  const TokenEntry entry{token_hash(token->text), {Role::kRead}, *parse_time("2027-01-31")};
  ASSERT_TRUE(add_token(path_, token->id, entry));
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_THAT(content(), Not(HasSubstr(token->text)));
  EXPECT_EQ(load_tokens(path_)->check(token->text, kNow).verdict, TokenVerdict::kGood);

  auto again = add_token(path_, token->id, entry);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kExists);
  ASSERT_TRUE(remove_token(path_, token->id));
  EXPECT_EQ(load_tokens(path_)->check(token->text, kNow).verdict, TokenVerdict::kUnknown);
  EXPECT_EQ(remove_token(path_, token->id).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(files(), 1u) << "nothing temporary stays";
}

TEST_F(TokenFileTest, TheRestOfTheFileStays) {
  const std::string hash = hash_of("x");
  const std::string text =
      fmt::format("# one\n\nbilling1 {0} read\n  # two\noperator {0} admin", hash);
  write(text);
  ASSERT_TRUE(add_token(path_, "newtoken", {hash, {Role::kRead}, {}}));
  EXPECT_EQ(content(), text + "\nnewtoken " + hash + " read\n");
  ASSERT_TRUE(remove_token(path_, "newtoken"));
  EXPECT_EQ(content(), text + "\n");
  ASSERT_TRUE(remove_token(path_, "billing1"));
  EXPECT_EQ(content(), fmt::format("# one\n\n  # two\noperator {} admin\n", hash));
  write(fmt::format("operator {} admin", hash));
  ASSERT_TRUE(remove_token(path_, "operator"));
  EXPECT_EQ(content(), "");
}

TEST_F(TokenFileTest, LinksAreFollowed) {
  const std::string link = directory_ + "/link";
  write("");
  std::filesystem::create_symlink("tokens", link);
  ASSERT_TRUE(add_token(link, "billing1", {hash_of("x"), {Role::kRead}, {}}));
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(load_tokens(path_)->entries().size(), 1u);
}

TEST_F(TokenFileTest, BrokenFilesAreNotChanged) {
  write("nonsense\n");
  EXPECT_EQ(add_token(path_, "billing1", {hash_of("x"), {Role::kRead}, {}}).error().kind,
            ErrorKind::kBadConfig);
  EXPECT_EQ(remove_token(path_, "billing1").error().kind, ErrorKind::kBadConfig);
  EXPECT_EQ(content(), "nonsense\n");
  EXPECT_EQ(load_tokens(directory_ + "/none").error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(add_token(directory_ + "/no/such", "billing1", {hash_of("x"), {Role::kRead}, {}})
                .error()
                .kind,
            ErrorKind::kCannotCreate);
}

}  // namespace
}  // namespace connectd::auth

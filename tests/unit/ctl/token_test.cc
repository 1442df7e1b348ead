#include <sys/stat.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <fstream>

#include "support.h"

namespace connectd::ctl {
namespace {

namespace json = boost::json;
using ::testing::HasSubstr;
using ::testing::Not;

class TokenCommandTest : public ::testing::Test {
 protected:
  void SetUp() override { ::unsetenv(kTokenVariable); }
  void TearDown() override { ::unsetenv(kTokenVariable); }

  // Makes one, and returns its text.
  std::string make(std::vector<std::string> options) {
    std::vector<std::string> words = {"token", "new", "--file", file_};
    words.insert(words.end(), options.begin(), options.end());
    const Outcome made = connectctl(words);
    EXPECT_EQ(made.code, ExitCode::kOk) << made.err;
    EXPECT_TRUE(made.out.ends_with("\n"));
    return made.out.substr(0, made.out.size() - 1);
  }
  Outcome check(const std::string& token) {
    return connectctl({"token", "check", "--file", file_}, token + "\n");
  }
  std::string content() const {
    std::ostringstream text;
    text << std::ifstream(file_).rdbuf();
    return text.str();
  }

  TemporaryDirectory directory_;
  const std::string file_ = directory_.path("tokens");
};

TEST_F(TokenCommandTest, NewTokensAreGood) {
  const std::string token =
      make({"--id", "billing1", "--roles", "read,write", "--expires", "2110-01-31"});
  EXPECT_THAT(token, ::testing::StartsWith("connectd1_billing1_"));
  EXPECT_THAT(content(), Not(HasSubstr(token)));
  EXPECT_THAT(content(), Not(HasSubstr(token.substr(token.size() - 64))));
  struct stat info {};
  ASSERT_EQ(::stat(file_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  const Outcome good = check(token);
  EXPECT_EQ(good.code, ExitCode::kOk) << good.err;
  EXPECT_EQ(good.out,
            "ID        ROLES       EXPIRES\n"
            "billing1  read,write  2110-01-31T00:00:00Z\n");
  ::setenv(kTokenVariable, token.c_str(), 1);
  EXPECT_EQ(connectctl({"token", "check", "--file", file_}).out, good.out);
}

TEST_F(TokenCommandTest, WithoutAFileTheLineIsPrinted) {
  const Outcome made = connectctl({"token", "new", "--roles", "monitor"});
  ASSERT_EQ(made.code, ExitCode::kOk);
  std::istringstream lines(made.out);
  std::string token, line;
  std::getline(lines, token);
  std::getline(lines, line);
  std::ofstream(file_) << line << "\n";
  ::chmod(file_.c_str(), 0600);
  EXPECT_EQ(check(token).code, ExitCode::kOk);
  EXPECT_THAT(check(token).out, HasSubstr("monitor"));
}

TEST_F(TokenCommandTest, OtherTokensAreNotGood) {
  const std::string token = make({"--id", "billing1"});
  const std::string other = make({"--id", "operator"});
  std::string wrong = token;
  wrong.back() = wrong.back() == '0' ? '1' : '0';
  for (const auto& [text, why] : std::vector<std::pair<std::string, std::string>>{
           {wrong, "token billing1: wrong secret"},
           {"connectd1_somebody_" + std::string(64, 'a'), "token somebody: unknown id"},
           {"hello", "malformed token"}}) {
    const Outcome bad = check(text);
    EXPECT_EQ(bad.code, ExitCode::kNegative) << text;
    EXPECT_THAT(bad.err, HasSubstr(why));
    EXPECT_EQ(bad.out, "");
  }
  EXPECT_EQ(check("").code, ExitCode::kUsage);
  ASSERT_EQ(connectctl({"token", "remove", "billing1", "--file", file_}).code, ExitCode::kOk);
  EXPECT_THAT(check(token).err, HasSubstr("unknown id"));
  EXPECT_EQ(check(other).code, ExitCode::kOk);
  EXPECT_EQ(connectctl({"token", "remove", "billing1", "--file", file_}).code, ExitCode::kNegative);
}

TEST_F(TokenCommandTest, ListsAllButTheSecrets) {
  make({"--id", "operator", "--roles", "admin,monitor", "--expires", "30"});
  make({"--id", "billing1"});
  const Outcome list = connectctl({"token", "list", "--file", file_});
  EXPECT_EQ(list.code, ExitCode::kOk);
  EXPECT_THAT(list.out, ::testing::MatchesRegex("ID +ROLES +EXPIRES\n"
                                                "billing1 +read +never\n"
                                                "operator +admin,monitor +2.*Z\n"));
  const auto array = json::parse(connectctl({"token", "list", "--file", file_, "-o", "json"}).out);
  ASSERT_EQ(array.as_array().size(), 2u);
  EXPECT_EQ(array.at(0).at("id").as_string(), "billing1");
  EXPECT_TRUE(array.at(0).at("expires").is_null());
  EXPECT_EQ(array.at(1).at("roles").as_array().size(), 2u);
}

TEST_F(TokenCommandTest, ExpiredTokensAreNamed) {
  const std::string token = make({"--id", "billing1"});
  std::string text = content();
  text.insert(text.size() - 1, " expires=2024-01-31T00:00:00Z");
  std::ofstream(file_) << text;
  EXPECT_EQ(check(token).code, ExitCode::kNegative);
  EXPECT_THAT(check(token).err, HasSubstr("token billing1: expired"));
  EXPECT_THAT(connectctl({"token", "list", "--file", file_}).out,
              HasSubstr("2024-01-31T00:00:00Z (expired)"));
}

TEST_F(TokenCommandTest, JsonHasTheToken) {
  const auto made = json::parse(
      connectctl({"token", "new", "--file", file_, "--id", "billing1", "-o", "json"}).out);
  EXPECT_EQ(check(std::string(made.at("token").as_string())).code, ExitCode::kOk);
  EXPECT_THAT(content(), HasSubstr(std::string(made.at("line").as_string())));
}

TEST_F(TokenCommandTest, WrongUseIsExplained) {
  const std::string secret(64, 'e');
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"token", "new", "--roles", "raed"},
           {"token", "new", "--roles", ""},
           {"token", "new", "--id", "x"},
           {"token", "new", "--id", ""},
           {"token", "new", "--expires", "0"},
           {"token", "new", "--expires", "3651"},
           {"token", "new", "--expires", "2024-01-31"},
           {"token", "new", "--expires", "soon"},
           {"token", "new", "--file", ""},
           {"token", "list"},
           {"token", "check"},
           {"token", "remove", "billing1"},
           {"token", "remove", "connectd1_billing1_" + secret, "--file", file_},
           {"token", "check", "connectd1_billing1_" + secret, "--file", file_},
           {"token"}}) {
    const Outcome wrong = connectctl(words, "");
    EXPECT_EQ(wrong.code, ExitCode::kUsage) << words.back() << wrong.err;
    EXPECT_THAT(wrong.err, Not(HasSubstr(secret)));
    EXPECT_EQ(wrong.out, "");
  }
  EXPECT_FALSE(std::filesystem::exists(file_));
}

TEST_F(TokenCommandTest, FilesHaveTheirExitCodes) {
  EXPECT_EQ(connectctl({"token", "list", "--file", file_}).code, ExitCode::kNoInput);
  EXPECT_EQ(connectctl({"token", "new", "--file", directory_.path("no/such")}).code,
            ExitCode::kCannotCreate);
  make({"--id", "billing1"});
  EXPECT_EQ(connectctl({"token", "new", "--file", file_, "--id", "billing1"}).code,
            ExitCode::kCannotCreate);
  ASSERT_EQ(::chmod(file_.c_str(), 0640), 0);
  EXPECT_EQ(connectctl({"token", "list", "--file", file_}).code, ExitCode::kPermission);
  EXPECT_EQ(connectctl({"token", "new", "--file", file_}).code, ExitCode::kPermission);
  ASSERT_EQ(::chmod(file_.c_str(), 0600), 0);
  std::ofstream(file_) << "nonsense\n";
  const Outcome broken = connectctl({"token", "list", "--file", file_});
  EXPECT_EQ(broken.code, ExitCode::kConfig);
  EXPECT_THAT(broken.err, HasSubstr(file_ + ":1: must be: ID SHA256 ROLES"));
}

}  // namespace
}  // namespace connectd::ctl

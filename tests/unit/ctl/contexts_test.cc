// Contexts: the file, and what of it counts beside the command line.
#include "ctl/contexts.h"

#include <sys/stat.h>

#include <fstream>

#include "tests/unit/ctl/support.h"

namespace connectd::ctl {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

constexpr const char* kTwo = R"(
default: demo
contexts:
  demo: {endpoint: "127.0.0.1:1", cacert: ca.pem, cert: /etc/own.pem, key: keys/own.key}
  other: {endpoint: "127.0.0.1:2", token: connectd1_reader00_00, timeout: 2s}
)";

class ContextsTest : public ::testing::Test {
 protected:
  ContextsTest() { ::setenv(kContextsVariable, path().c_str(), 1); }
  ~ContextsTest() override {
    ::unsetenv(kContextsVariable);
    ::unsetenv(kContextVariable);
  }
  std::string path() const { return directory_.path("contexts.yaml"); }
  void write(const std::string& text, mode_t mode = 0600) {
    std::ofstream(path()) << text;
    ::chmod(path().c_str(), mode);
  }
  std::string problem(const std::optional<std::string>& name = std::nullopt) {
    auto context = read_context(path(), name);
    return context ? "" : context.error().text;
  }

  TemporaryDirectory directory_;
};

TEST_F(ContextsTest, PathsAreRelativeToTheFile) {
  write(kTwo);
  EXPECT_EQ(contexts_path(), path());
  EXPECT_THAT(
      *read_context(path(), std::nullopt),
      ElementsAre(Pair("cacert", directory_.path("ca.pem")), Pair("cert", "/etc/own.pem"),
                  Pair("endpoint", "127.0.0.1:1"), Pair("key", directory_.path("keys/own.key"))));
  EXPECT_EQ(read_context(path(), "other")->at("token"), "connectd1_reader00_00");
}

TEST_F(ContextsTest, NothingIsNeededUntilANameIsAskedFor) {
  EXPECT_THAT(*read_context(path(), std::nullopt), IsEmpty());
  EXPECT_THAT(*read_context("", std::nullopt), IsEmpty());
  EXPECT_NE(problem("demo"), "");
  EXPECT_FALSE(read_context("", "demo"));
  write("contexts: {demo: {endpoint: \"h:1\"}}\n");
  EXPECT_THAT(*read_context(path(), std::nullopt), IsEmpty());
  EXPECT_THAT(problem("prod"), HasSubstr("has no context 'prod'; it has: demo"));
}

TEST_F(ContextsTest, FileOfOthersIsRefused) {
  write(kTwo, 0640);
  EXPECT_EQ(read_context(path(), std::nullopt).error().kind, ErrorKind::kPermission);
}

TEST_F(ContextsTest, EmptyFileAndUnusedFileAreNoError) {
  write("");
  EXPECT_THAT(*read_context(path(), std::nullopt), IsEmpty());
  write("nonsense", 0644);
  EXPECT_THAT(connectctl({"call", "x", "-e", "127.0.0.1:3"}).err, HasSubstr("127.0.0.1:3"));
}

// A token of another cluster that stands in a variable is not for a context that has its own.
TEST_F(ContextsTest, NamedContextIsStrongerThanVariables) {
  write("contexts:\n  demo: {token: nonsense, endpoint: \"127.0.0.1:1\"}\n");
  ::setenv(kTokenVariable, "connectd1_reader00_0000", 1);
  const std::string said = connectctl({"call", "x", "--context", "demo"}).err;
  ::unsetenv(kTokenVariable);
  EXPECT_THAT(said, HasSubstr("token of the context: must hold"));
}

TEST_F(ContextsTest, AllMistakesAreNamedAndNoValue) {
  write(R"(default: none
contexts:
  a: {tokn: secret1, endpoint: }
  b: word
  a: {}
  c: {token: secret2, token-file: f}
more: 1
)");
  EXPECT_THAT(problem(),
              AllOf(HasSubstr(":1: default: there is no"), HasSubstr(":3: unknown; must be one of"),
                    HasSubstr(":3: endpoint: needs a value"), HasSubstr(":4: a context is a map"),
                    HasSubstr(":5: another context"), HasSubstr(":6: token and token-file"),
                    HasSubstr(":7: must be")));
  EXPECT_THAT(problem(), Not(HasSubstr("secret")));
  write("contexts: [");
  EXPECT_NE(problem(), "");
  write("just a word");
  EXPECT_NE(problem(), "");
}

// Nobody listens at port 1 or 2: the text shows who was asked.
TEST_F(ContextsTest, CommandLineComesFirst) {
  write(
      "default: demo\ncontexts:\n  demo: {endpoint: \"127.0.0.1:1\"}\n"
      "  other: {endpoint: \"127.0.0.1:2\"}\n");
  EXPECT_THAT(connectctl({"call", "x"}).err, HasSubstr("127.0.0.1:1"));
  EXPECT_THAT(connectctl({"call", "x", "--context", "other"}).err, HasSubstr("127.0.0.1:2"));
  EXPECT_THAT(connectctl({"call", "x", "-e", "127.0.0.1:3"}).err, HasSubstr("127.0.0.1:3"));
  ::setenv(kContextVariable, "other", 1);
  EXPECT_THAT(connectctl({"call", "x"}).err, HasSubstr("127.0.0.1:2"));
  EXPECT_EQ(connectctl({"call", "x", "--context", "none"}).code, ExitCode::kUsage);
  EXPECT_EQ(connectctl({"version", "--context", "demo"}).code, ExitCode::kUsage);
  EXPECT_EQ(connectctl({"version"}).code, ExitCode::kOk);
}

// A token of the default context is for its own nodes.
TEST_F(ContextsTest, OtherNodesGetNothingOfTheDefault) {
  write("default: demo\ncontexts:\n  demo: {token: nonsense, endpoint: \"127.0.0.1:1\"}\n");
  EXPECT_THAT(connectctl({"call", "x"}).err, HasSubstr("token of the context: must hold"));
  EXPECT_THAT(connectctl({"call", "x", "-e", "127.0.0.1:3"}).err, HasSubstr("127.0.0.1:3"));
}

}  // namespace
}  // namespace connectd::ctl

// The files of credentials together. What is in them: tests/unit/tls, tests/unit/auth,
// tests/cluster/start.py.
#include "app/own_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "config/load.h"

namespace connectd::app {
namespace {

config::Config configured(std::vector<std::string> sets) {
  config::LoadRequest request;
  request.sets = std::move(sets);
  auto loaded = config::load(request);
  EXPECT_TRUE(loaded) << loaded.error().text;
  return loaded ? loaded->config : config::Config();
}

TEST(OwnFiles, NoneAreNeeded) {
  const auto own = read_own_files(configured({}), nullptr);
  ASSERT_TRUE(own) << own.error().text;
  EXPECT_FALSE(own->tls.is_on());
  EXPECT_EQ(own->policy->tokens, nullptr);
  EXPECT_TRUE(warnings_of(*own).empty());
}

TEST(OwnFiles, AllProblemsAreReportedOnce) {
  std::vector<std::string> sets = {"auth.tokens=/none/tokens"};
  for (const char* port : {"client", "http"}) {
    const std::string section = std::string("tls.") + port;
    sets.insert(sets.end(), {section + ".mode=require", section + ".cert=/none/node.pem",
                             section + ".key=/none/node.key", section + ".ca=/none/ca.pem"});
  }
  const auto own = read_own_files(configured(sets), nullptr);
  ASSERT_FALSE(own);
  EXPECT_EQ(own.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(own.error().text,
              testing::MatchesRegex("/none/node.pem: cannot read: [^\n]*\n"
                                    "auth.tokens: /none/tokens: cannot be opened: [^\n]*"));
}

TEST(OwnFiles, FilesBelowADirectory) {
  using testing::ElementsAre;
  using testing::IsEmpty;
  char pattern[] = "/tmp/connectd-own-files-XXXXXX";
  const std::string top = ::mkdtemp(pattern);
  const std::string copies = top + "/copies";
  ASSERT_EQ(::mkdir(copies.c_str(), 0700), 0);
  ASSERT_EQ(::symlink(copies.c_str(), (top + "/link").c_str()), 0);
  const config::Config config = configured(
      {"tls.http.mode=require", "tls.http.cert=" + copies + "/node.pem",
       "tls.http.key=" + top + "/link/node.key", "tls.http.ca=" + copies + "-other/ca.pem",
       "tls.client.mode=require", "tls.client.cert=" + copies + "/node.pem",
       "tls.client.key=" + copies + "/../node.key", "auth.tokens=" + copies + "/tokens"});
  EXPECT_THAT(reloaded_files_below(copies, std::nullopt, config),
              ElementsAre(copies + "/node.pem", top + "/link/node.key", copies + "/tokens"));
  EXPECT_THAT(reloaded_files_below(top + "/link/", copies + "/node.yaml", configured({})),
              ElementsAre(copies + "/node.yaml"));
  EXPECT_THAT(reloaded_files_below(top + "/none", copies + "/node.yaml", config), IsEmpty());
  EXPECT_THAT(reloaded_files_below("", copies + "/node.yaml", config), IsEmpty());
  std::filesystem::remove_all(top);
}

}  // namespace
}  // namespace connectd::app

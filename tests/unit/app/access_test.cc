// From the configuration to what callers may do.
#include "app/access.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "auth/token_file.h"
#include "config/load.h"

namespace connectd::app {
namespace {

class AccessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "connectd-access-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    file_ = directory_ + "/tokens";
    ASSERT_TRUE(auth::add_token(
        file_, "billing1", {std::string(64, 'a'), auth::Roles{auth::Role::kRead}, std::nullopt}));
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  static config::Config configured(std::vector<std::string> sets) {
    config::LoadRequest request;
    request.sets = std::move(sets);
    auto loaded = config::load(request);
    EXPECT_TRUE(loaded) << loaded.error().text;
    return loaded ? loaded->config : config::Config();
  }
  // "anonymous; local"
  static std::string permitted(std::vector<std::string> sets) {
    auto policy = make_policy(configured(std::move(sets)));
    if (!policy) return policy.error().text;
    return auth::format_roles((*policy)->anonymous) + "; " + auth::format_roles((*policy)->local);
  }

  std::string directory_;
  std::string file_;
};

TEST_F(AccessTest, WhatEachConfigurationPermits) {
  const std::string tokens = "auth.tokens=" + file_;
  EXPECT_EQ(permitted({}), "read,write,monitor; admin,monitor,backup");
  EXPECT_EQ(permitted({tokens}), "none; none");
  EXPECT_EQ(permitted({tokens, "admin.local=on"}), "none; admin,monitor,backup");
  EXPECT_EQ(permitted({"admin.local=off"}), "read,write,monitor; none");
  EXPECT_EQ(permitted({tokens, "auth.anonymous=[monitor]"}), "monitor; none");
  EXPECT_EQ(permitted({"auth.anonymous=[]"}), "none; admin,monitor,backup");
}

TEST_F(AccessTest, TokensAndCertificatesArrive) {
  auto policy = make_policy(
      configured({"auth.tokens=" + file_, "auth.certificates={\"OU=ops\": \"admin,monitor\"}"}));
  ASSERT_TRUE(policy) << policy.error().text;
  EXPECT_EQ((*policy)->tokens->entries().size(), 1u);
  EXPECT_EQ(auth::format_roles((*policy)->certificates.roles_of("OU", "ops")), "admin,monitor");
  EXPECT_EQ((*make_policy(configured({})))->tokens, nullptr);
}

// Of the client port's certificates the HTTP port knows nothing.
TEST_F(AccessTest, HttpTakesCertificatesWithItsAuthorities) {
  const auto takes = [](const std::string& port, const std::string& mode) {
    const std::string key = "tls." + port;
    auto policy = make_policy(configured({key + ".mode=" + mode, key + ".cert=/none/node.pem",
                                          key + ".key=/none/node.key", key + ".ca=/none/ca.pem"}));
    EXPECT_TRUE(policy);
    return policy && (*policy)->http_certificates;
  };
  EXPECT_TRUE(takes("http", "accept"));
  EXPECT_TRUE(takes("http", "require"));
  EXPECT_FALSE(takes("http", "off"));
  EXPECT_FALSE(takes("client", "require"));
}

TEST_F(AccessTest, BadTokenFilesAreErrors) {
  const config::Config config = configured({"auth.tokens=" + file_});
  ASSERT_EQ(::chmod(file_.c_str(), 0644), 0);
  EXPECT_EQ(make_policy(config).error().kind, ErrorKind::kPermission);
  ASSERT_EQ(::chmod(file_.c_str(), 0600), 0);
  std::ofstream(file_) << "nonsense\n";
  EXPECT_EQ(make_policy(config).error().kind, ErrorKind::kBadConfig);
  std::filesystem::remove(file_);
  EXPECT_EQ(make_policy(config).error().kind, ErrorKind::kNotFound);
}

}  // namespace
}  // namespace connectd::app

// connectctl cert: what its commands write, refuse and find.
#include <sys/stat.h>

#include <boost/json.hpp>
#include <fstream>
#include <sstream>

#include "support.h"

namespace connectd::ctl {
namespace {

namespace json = boost::json;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

class CertTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(connectctl({"cert", "ca", ca_}).code, ExitCode::kOk);
    const Outcome made =
        run_cert({"node", "1", "--host", "db1.example.org", "--host", "10.0.0.11"});
    ASSERT_EQ(made.code, ExitCode::kOk) << made.err;
    ASSERT_EQ(made.out, file("node-1.pem\n") + file("node-1.key\n"));
  }
  Outcome run_cert(std::vector<std::string> words) const {
    words.insert(words.begin(), "cert");
    words.insert(words.end(), {"--dir", ca_});
    return connectctl(words);
  }
  std::string file(const std::string& name) const { return ca_ + "/" + name; }
  Outcome check(std::vector<std::string> more = {}) const {
    std::vector<std::string> words = {
        "cert",     "check",       "--cert", file("node-1.pem"), "--key", file("node-1.key"),
        "--cacert", file("ca.pem")};
    words.insert(words.end(), more.begin(), more.end());
    return connectctl(words);
  }
  static mode_t mode_of(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(::stat(path.c_str(), &info), 0);
    return info.st_mode & 07777;
  }

  TemporaryDirectory directory_;
  const std::string ca_ = directory_.path("ca");
};

TEST_F(CertTest, KeysArePrivateAndNothingIsOverwritten) {
  EXPECT_EQ(mode_of(file("ca.key")), 0600u);
  EXPECT_EQ(mode_of(file("node-1.key")), 0600u);
  EXPECT_EQ(mode_of(ca_), 0700u);
  const Outcome again = connectctl({"cert", "ca", ca_});
  EXPECT_EQ(again.code, ExitCode::kCannotCreate);
  EXPECT_THAT(again.err, HasSubstr("ca.pem: exists already, and is never overwritten"));
  EXPECT_EQ(run_cert({"node", "1"}).code, ExitCode::kCannotCreate);
  // A key that is left alone keeps its certificate from being made.
  std::filesystem::remove(file("node-1.pem"));
  EXPECT_THAT(run_cert({"node", "1"}).err, HasSubstr("node-1.key: exists already"));
  EXPECT_FALSE(std::filesystem::exists(file("node-1.pem")));
}

TEST_F(CertTest, ShowPrintsTheFacts) {
  const Outcome shown = connectctl({"cert", "show", file("node-1.pem")});
  EXPECT_EQ(shown.code, ExitCode::kOk);
  EXPECT_THAT(
      shown.out,
      AllOf(HasSubstr("subject      CN=node 1\n"), HasSubstr("issuer       CN=connectd CA\n"),
            HasSubstr("uri          connectd://connectd/node/1\n"),
            HasSubstr("dns          db1.example.org\n"), HasSubstr("address      10.0.0.11\n"),
            ContainsRegex("\\(39[67] days left\\)")));
  const json::value value =
      json::parse(connectctl({"-o", "json", "cert", "show", file("node-1.pem")}).out);
  EXPECT_EQ(value.as_array().at(0).at("uris").as_array().at(0).as_string(),
            "connectd://connectd/node/1");
  EXPECT_TRUE(value.as_array().at(0).at("valid").as_bool());
  EXPECT_EQ(connectctl({"cert", "show", file("none.pem")}).code, ExitCode::kNoInput);
  EXPECT_EQ(connectctl({"cert", "show", file("ca.key")}).code, ExitCode::kConfig);
}

TEST_F(CertTest, ClientHasItsNameAndRoles) {
  ASSERT_EQ(run_cert({"client", "billing", "--roles", "read,write", "--cluster-name", "orders",
                      "--days", "10"})
                .code,
            ExitCode::kOk);
  const Outcome shown = connectctl({"cert", "show", file("client-billing.pem")});
  EXPECT_THAT(shown.out, AllOf(HasSubstr("connectd://orders/client/billing\n"),
                               HasSubstr("connectd://orders/role/read\n"),
                               HasSubstr("connectd://orders/role/write\n"),
                               ContainsRegex("\\((9|10) days left\\)")));
  EXPECT_EQ(connectctl({"cert", "check", "--use", "client", "--cert", file("client-billing.pem"),
                        "--key", file("client-billing.key"), "--cacert", file("ca.pem")})
                .code,
            ExitCode::kNegative);  // it expires soon
}

TEST_F(CertTest, CheckSaysWhatIsWrong) {
  const Outcome good = check();
  EXPECT_EQ(good.code, ExitCode::kOk) << good.err;
  EXPECT_THAT(good.out, HasSubstr("good: CN=node 1, issuer CN=connectd CA, serial "));
  EXPECT_EQ(check({"--use", "server"}).code, ExitCode::kOk);
  const Outcome other = check({"--node", "2"});
  EXPECT_EQ(other.code, ExitCode::kNegative);
  EXPECT_THAT(other.err, HasSubstr("is not of connectd://connectd/node/2"));
  EXPECT_THAT(check({"--cluster-name", "orders"}).err,
              HasSubstr("names no node of the cluster orders"));
  ASSERT_EQ(::chmod(file("node-1.key").c_str(), 0644), 0);
  const Outcome open = check();
  EXPECT_EQ(open.code, ExitCode::kPermission);
  EXPECT_THAT(open.err, HasSubstr("node-1.key: this key can be used by other users"));
  EXPECT_EQ(check({"--use", "both"}).code, ExitCode::kUsage);
}

TEST_F(CertTest, CheckFindsAForeignCa) {
  ASSERT_EQ(connectctl({"cert", "ca", directory_.path("other"), "--name", "Other"}).code,
            ExitCode::kOk);
  const Outcome foreign = check({"--cacert", directory_.path("other") + "/ca.pem"});
  EXPECT_EQ(foreign.code, ExitCode::kNegative);
  EXPECT_THAT(foreign.err, HasSubstr("is of no CA in"));
}

TEST_F(CertTest, RevokedIsFound) {
  ASSERT_EQ(run_cert({"revoke"}).code, ExitCode::kOk);
  EXPECT_EQ(check({"--crl", file("revoked.pem")}).code, ExitCode::kOk);
  ASSERT_EQ(run_cert({"node", "2"}).code, ExitCode::kOk);
  ASSERT_EQ(run_cert({"revoke", file("node-2.pem")}).code, ExitCode::kOk);
  EXPECT_EQ(check({"--crl", file("revoked.pem")}).code, ExitCode::kOk);
  ASSERT_EQ(run_cert({"revoke", file("node-1.pem")}).code, ExitCode::kOk);
  const Outcome revoked = check({"--crl", file("revoked.pem")});
  EXPECT_EQ(revoked.code, ExitCode::kNegative);
  EXPECT_THAT(revoked.err, HasSubstr("is revoked by"));
  ASSERT_EQ(connectctl({"cert", "ca", directory_.path("other"), "--name", "Other"}).code,
            ExitCode::kOk);
  EXPECT_THAT(
      connectctl({"cert", "revoke", file("node-1.pem"), "--dir", directory_.path("other")}).err,
      HasSubstr("was issued by CN=connectd CA, not by CN=Other"));
}

json::object facts_of(const std::string& file) {
  const json::value value = json::parse(connectctl({"-o", "json", "cert", "show", file}).out);
  return value.as_array().at(0).as_object();
}

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST_F(CertTest, RenewKeepsNamesAndUses) {
  ASSERT_EQ(run_cert({"client", "billing", "--roles", "read,write", "--days", "40"}).code,
            ExitCode::kOk);
  for (const auto& [what, name] : std::vector<std::pair<std::string, std::string>>{
           {"1", "node-1"}, {"billing", "client-billing"}, {file("node-1.pem"), "node-1"}}) {
    const std::string pem = file(name + ".pem");
    const std::string key = file(name + ".key");
    json::object before = facts_of(pem);
    const std::string old_key = text_of(key);
    const std::string old_certificate = text_of(pem);
    const Outcome renewed = run_cert({"renew", what, "--days", "90"});
    ASSERT_EQ(renewed.code, ExitCode::kOk) << renewed.err;
    EXPECT_EQ(renewed.out, pem + "\n" + key + "\n");
    EXPECT_THAT(renewed.err, HasSubstr("connectctl reload DIR"));
    json::object after = facts_of(pem);
    EXPECT_GE(after.at("days_left").as_int64(), 89);
    for (const char* same : {"subject", "issuer", "uris", "dns_names", "addresses"}) {
      EXPECT_EQ(after.at(same), before.at(same)) << same;
    }
    EXPECT_NE(after.at("serial"), before.at("serial"));
    EXPECT_NE(text_of(key), old_key);
    EXPECT_EQ(mode_of(key), 0600u);
    EXPECT_EQ(mode_of(pem), 0644u);
    EXPECT_EQ(text_of(pem + ".old"), old_certificate);
    EXPECT_FALSE(std::filesystem::exists(key + ".old"));
    EXPECT_FALSE(std::filesystem::exists(pem + ".new"));
  }
  EXPECT_EQ(check({"--node", "1"}).code, ExitCode::kOk) << check().err;
  EXPECT_EQ(connectctl({"cert", "check", "--use", "client", "--cert", file("client-billing.pem"),
                        "--key", file("client-billing.key"), "--cacert", file("ca.pem")})
                .code,
            ExitCode::kOk);
  // A client's is for nothing else than before.
  EXPECT_THAT(connectctl({"cert", "check", "--cert", file("client-billing.pem"), "--key",
                          file("client-billing.key"), "--cacert", file("ca.pem")})
                  .err,
              HasSubstr("its extendedKeyUsage must have"));
}

TEST_F(CertTest, RenewRepairsAnInterruptedOne) {
  // The key was replaced, and the certificate not.
  ASSERT_EQ(run_cert({"node", "2"}).code, ExitCode::kOk);
  std::filesystem::rename(file("node-2.key"), file("node-1.key"));
  std::ofstream(file("node-1.pem.new")) << "a part";
  EXPECT_THAT(check().err, HasSubstr("is not the key of the first certificate"));
  ASSERT_EQ(run_cert({"renew", "1"}).code, ExitCode::kOk);
  EXPECT_EQ(check().code, ExitCode::kOk) << check().err;
}

TEST_F(CertTest, RenewFollowsLinksAndKeepsTheMode) {
  const std::string real = directory_.path("real");
  for (const char* end : {".pem", ".key"}) {
    std::filesystem::rename(file("node-1") + end, real + end);
    std::filesystem::create_symlink(real + end, file("node-1") + end);
  }
  ASSERT_EQ(::chmod((real + ".pem").c_str(), 0640), 0);
  const Outcome renewed = run_cert({"renew", "1"});
  ASSERT_EQ(renewed.code, ExitCode::kOk) << renewed.err;
  EXPECT_TRUE(std::filesystem::is_symlink(file("node-1.pem")));
  EXPECT_TRUE(std::filesystem::is_symlink(file("node-1.key")));
  EXPECT_EQ(mode_of(real + ".pem"), 0640u);
  EXPECT_EQ(check().code, ExitCode::kOk) << check().err;
}

TEST_F(CertTest, RenewSignsOnlyWhatTheCaHasSigned) {
  const std::string before = text_of(file("node-1.pem"));
  const std::string key = text_of(file("node-1.key"));
  // A CA of the same name, with another key: what somebody may write himself.
  const std::string other = directory_.path("other");
  ASSERT_EQ(connectctl({"cert", "ca", other}).code, ExitCode::kOk);
  const Outcome foreign = connectctl({"cert", "renew", file("node-1.pem"), "--dir", other});
  EXPECT_EQ(foreign.code, ExitCode::kNegative);
  EXPECT_THAT(foreign.err, HasSubstr("is not signed by CN=connectd CA"));
  EXPECT_EQ(run_cert({"renew", file("ca.pem")}).code, ExitCode::kNegative);
  ASSERT_EQ(run_cert({"revoke", file("node-1.pem")}).code, ExitCode::kOk);
  const Outcome revoked = run_cert({"renew", "1"});
  EXPECT_EQ(revoked.code, ExitCode::kNegative);
  EXPECT_THAT(revoked.err, HasSubstr("is revoked"));
  EXPECT_EQ(text_of(file("node-1.pem")), before);
  EXPECT_EQ(text_of(file("node-1.key")), key);
  EXPECT_EQ(run_cert({"renew", "2"}).code, ExitCode::kNoInput);
  EXPECT_EQ(run_cert({"renew", "a/b"}).code, ExitCode::kUsage);
}

TEST_F(CertTest, BadValuesAreUsageErrors) {
  const std::vector<std::vector<std::string>> wrong = {{"node", "0"},
                                                       {"node", "x"},
                                                       {"node", "2", "--host", "a b"},
                                                       {"node", "2", "--days", "0"},
                                                       {"node", "2", "--days", "99999"},
                                                       {"node", "2", "--cluster-name", "a/b"},
                                                       {"client", "../x"},
                                                       {"client", "a", "--roles", "root"}};
  for (const std::vector<std::string>& words : wrong) {
    const Outcome outcome = run_cert(words);
    EXPECT_EQ(outcome.code, ExitCode::kUsage) << words.back() << outcome.err;
  }
  EXPECT_EQ(connectctl({"cert", "node", "2", "--dir", directory_.path("none")}).code,
            ExitCode::kNoInput);
  EXPECT_EQ(connectctl({"cert", "ca", directory_.path("x"), "--name", "a\nb"}).code,
            ExitCode::kUsage);
}

}  // namespace
}  // namespace connectd::ctl

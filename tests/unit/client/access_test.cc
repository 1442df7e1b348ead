// Who a client is, by its token.
#include "client/access.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "auth/token.h"

namespace connectd::client {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr int64_t kToday = 1'790'000'000;

class AccessTest : public testing::Test {
 protected:
  AccessTest() : reader_(auth::make_token("reader00")->text) { load(line("reader00", reader_)); }

  static std::string line(const std::string& id, const std::string& token,
                          const std::string& roles = "read") {
    return id + " " + auth::token_hash(token) + " " + roles + "\n";
  }
  void load(const std::string& file) {
    auto table = auth::TokenTable::parse(file, "tokens");
    ASSERT_TRUE(table) << table.error().text;
    auth::Policy policy;
    policy.tokens = std::make_shared<const auth::TokenTable>(std::move(*table));
    policy.anonymous = auth::Roles();
    access_.set(std::make_shared<const auth::Policy>(policy), "c");
  }
  std::string authenticate(std::string_view user, std::string_view secret, bool exposed = false) {
    const Source source{.token = {.is_encrypted = !exposed, .network = "10.0.0.9"},
                        .address = "10.0.0.9"};
    const auto error = access_.authenticate(caller_, source, user, secret, now_);
    return error ? std::string(error->code) : "OK";
  }

  const std::string reader_;
  const std::shared_ptr<auth::TokenChecker> tokens_ = std::make_shared<auth::TokenChecker>();
  Access access_{tokens_};
  Caller caller_;
  Now now_{Time(std::chrono::seconds(1000)), kToday* kNsPerSecond};
};

TEST_F(AccessTest, TokenIsThePasswordOfItsId) {
  caller_ = access_.caller_of(nullptr);
  EXPECT_FALSE(access_.is_known(caller_));
  EXPECT_EQ(authenticate("default", reader_), "OK");
  EXPECT_EQ(caller_.principal.text(), "token:reader00");
  EXPECT_TRUE(access_.is_known(caller_));
  EXPECT_TRUE(access_.rights_of(caller_).read);
  EXPECT_FALSE(access_.rights_of(caller_).write);
  EXPECT_EQ(authenticate("reader00", reader_), "OK");
}

TEST_F(AccessTest, BadCredentialsChangeNothing) {
  EXPECT_EQ(authenticate("default", reader_), "OK");
  EXPECT_EQ(authenticate("someone", reader_), "WRONGPASS");
  EXPECT_EQ(authenticate("default", reader_.substr(1)), "WRONGPASS");
  EXPECT_EQ(authenticate("default", auth::make_token("reader00")->text), "WRONGPASS");
  EXPECT_EQ(authenticate("default", auth::make_token("other000")->text), "WRONGPASS");
  EXPECT_EQ(caller_.principal.text(), "token:reader00");
}

TEST_F(AccessTest, ExposedTokenIsNotChecked) {
  EXPECT_EQ(authenticate("default", reader_, true), "EXPOSED");
  EXPECT_EQ(caller_.principal.text(), "anonymous");
}

TEST_F(AccessTest, ManyFailuresAreNotChecked) {
  const std::string wrong = auth::make_token("reader00")->text;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(authenticate("default", wrong), "WRONGPASS");
  EXPECT_EQ(authenticate("default", reader_), "WRONGPASS");
  now_.time += std::chrono::minutes(2);
  EXPECT_EQ(authenticate("default", reader_), "OK");
}

// The checker is that of all ports.
TEST_F(AccessTest, FailuresOnOtherPortsCountToo) {
  const std::string wrong = auth::make_token("reader00")->text;
  for (int i = 0; i < 10; ++i) {
    tokens_->check(auth::TokenTable(), wrong, {.is_encrypted = true, .network = "10.0.0.9"}, now_);
  }
  EXPECT_EQ(authenticate("default", reader_), "WRONGPASS");
}

TEST_F(AccessTest, WithoutTokensThereIsNoPassword) {
  auth::Policy policy;
  access_.set(std::make_shared<const auth::Policy>(policy), "c");
  EXPECT_EQ(authenticate("default", reader_), "ERR");
}

TEST_F(AccessTest, ReloadEndsWhatIsRemovedOrReplaced) {
  ASSERT_EQ(authenticate("default", reader_), "OK");
  load(line("reader00", reader_, "read,write"));
  EXPECT_TRUE(access_.check_again(caller_, nullptr, now_));
  EXPECT_TRUE(access_.rights_of(caller_).write);
  Caller replaced = caller_;
  load(line("reader00", auth::make_token("reader00")->text));
  EXPECT_FALSE(access_.check_again(replaced, nullptr, now_));
  load("");
  EXPECT_FALSE(access_.check_again(caller_, nullptr, now_));
  Caller anonymous = access_.caller_of(nullptr);
  EXPECT_TRUE(access_.check_again(anonymous, nullptr, now_));
}

TEST_F(AccessTest, TokenEndsAtItsTime) {
  load("reader00 " + auth::token_hash(reader_) + " read expires=2026-09-21T14:13:21Z\n");
  ASSERT_EQ(authenticate("default", reader_), "OK");
  EXPECT_FALSE(Access::has_ended(caller_, now_));
  now_.wall_ns += kNsPerSecond;
  EXPECT_TRUE(Access::has_ended(caller_, now_));
  EXPECT_FALSE(access_.check_again(caller_, nullptr, now_));
}

}  // namespace
}  // namespace connectd::client

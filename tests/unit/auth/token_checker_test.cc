#include "auth/token_checker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "auth/token.h"

namespace connectd::auth {
namespace {

using namespace std::chrono_literals;

class TokenCheckerTest : public ::testing::Test {
 protected:
  TokenCheckerTest()
      : token_(make_token("operator")->text),
        table_(*TokenTable::parse("operator " + token_hash(token_) + " admin\n", "tokens")) {}

  TokenOutcome outcome(const std::string& token, const TokenSource& source,
                       std::optional<std::string_view> named_id = std::nullopt) {
    const TokenAnswer answer = checker_.check(table_, token, source, now_, named_id);
    EXPECT_EQ(answer.reason.empty(), answer.outcome == TokenOutcome::kGood);
    EXPECT_EQ(answer.reason.find(token.substr(token.size() - 8)), std::string::npos);
    return answer.outcome;
  }

  const std::string token_;
  const std::string wrong_ = make_token("operator")->text;
  const TokenTable table_;
  const TokenSource here_{.is_this_machine = true, .network = "127.0.0.1"};
  TokenChecker checker_;
  Now now_{Time(1h), 1'790'000'000'000'000'000};
};

TEST_F(TokenCheckerTest, GoodTokenHasAnOwner) {
  const TokenAnswer answer = checker_.check(table_, token_, here_, now_);
  ASSERT_EQ(answer.outcome, TokenOutcome::kGood);
  EXPECT_EQ(answer.principal.text(), "token:operator");
  EXPECT_TRUE(answer.principal.roles().has(Role::kAdmin));
  EXPECT_EQ(outcome(token_, here_, "operator"), TokenOutcome::kGood);
}

TEST_F(TokenCheckerTest, ReasonNamesTheToken) {
  EXPECT_EQ(checker_.check(table_, wrong_, here_, now_).reason,
            "token operator: " + std::string(verdict_text(TokenVerdict::kWrong)));
  EXPECT_EQ(checker_.check(table_, "nonsense", here_, now_).reason,
            "malformed token: " + std::string(verdict_text(TokenVerdict::kMalformed)));
}

TEST_F(TokenCheckerTest, OnlyPlainFromElsewhereIsExposed) {
  for (bool is_encrypted : {false, true}) {
    for (bool is_this_machine : {false, true}) {
      const TokenSource source{is_encrypted, is_this_machine, "10.0.0.9"};
      EXPECT_EQ(outcome(token_, source),
                is_encrypted || is_this_machine ? TokenOutcome::kGood : TokenOutcome::kExposed);
    }
  }
}

// It says nothing of the token, so it is no attempt.
TEST_F(TokenCheckerTest, ExposedTokensDoNotCount) {
  TokenSource source{.network = "10.0.0.9"};
  for (int i = 0; i < 200; ++i) ASSERT_EQ(outcome(wrong_, source), TokenOutcome::kExposed);
  source.is_encrypted = true;
  EXPECT_EQ(outcome(token_, source), TokenOutcome::kGood);
}

TEST_F(TokenCheckerTest, TenFailuresThenNoCheckForAMinute) {
  for (int i = 0; i < 10; ++i) ASSERT_EQ(outcome(wrong_, here_), TokenOutcome::kNotGood);
  EXPECT_EQ(outcome(token_, here_), TokenOutcome::kTooMany);
  EXPECT_EQ(outcome(token_, {.is_encrypted = true, .network = "10.0.0.9"}), TokenOutcome::kGood);
  now_.time += 1min;
  EXPECT_EQ(outcome(token_, here_), TokenOutcome::kGood);
}

TEST_F(TokenCheckerTest, OtherNamesFailAndCount) {
  for (const char* name : {"", "other000", "default", "operator0"}) {
    EXPECT_EQ(outcome(token_, here_, name), TokenOutcome::kNotGood) << name;
  }
  for (int i = 4; i < 10; ++i) EXPECT_EQ(outcome(token_, here_, "x"), TokenOutcome::kNotGood);
  EXPECT_EQ(outcome(token_, here_), TokenOutcome::kTooMany);
}

// As the loop and the HTTP thread do. Each may pass the limit by what it checks meanwhile.
TEST_F(TokenCheckerTest, ThreadsShareTheLimit) {
  constexpr int kThreads = 4;
  std::atomic<int> checked{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 100; ++j) {
        if (outcome(wrong_, here_) == TokenOutcome::kNotGood) ++checked;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(checked, 10);
  EXPECT_LT(checked, 10 + kThreads);
  EXPECT_EQ(outcome(token_, here_), TokenOutcome::kTooMany);
}

}  // namespace
}  // namespace connectd::auth

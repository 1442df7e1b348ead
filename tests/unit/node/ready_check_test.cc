// Whether a node is up to date, by read indexes of its own.
#include "node/requests/ready_check.h"

#include <gtest/gtest.h>

namespace connectd::node {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Time at(int64_t ms) { return Time(milliseconds(ms)); }

TEST(ReadyCheck, ReachedAnswerTellsHowFreshTheStateIs) {
  ReadyCheck check;
  EXPECT_TRUE(check.is_due(at(0)));
  check.asked(7, at(0));
  EXPECT_FALSE(check.is_due(at(999)));
  EXPECT_EQ(check.take_reached(Index(100)), std::nullopt) << "not answered";
  check.answered(7, Index(10));
  EXPECT_EQ(check.take_reached(Index(9)), std::nullopt) << "not reached";
  EXPECT_EQ(check.take_reached(Index(10)), at(0));
  EXPECT_EQ(check.take_reached(Index(10)), std::nullopt) << "twice";
  EXPECT_TRUE(check.is_due(at(1000)));
}

TEST(ReadyCheck, NodeThatFallsBehindGetsOlder) {
  ReadyCheck check;
  for (int second = 0; second < 40; ++second) {
    const auto context = static_cast<uint64_t>(second);
    check.asked(context, at(1000 * second));
    check.answered(context, Index(100 * context));
  }
  EXPECT_EQ(check.take_reached(Index(100)), std::nullopt);
  EXPECT_EQ(check.take_reached(Index(3650)), at(36'000));
  EXPECT_EQ(check.take_reached(Index(3650)), std::nullopt);
  EXPECT_EQ(check.take_reached(Index(3700)), at(37'000));
}

TEST(ReadyCheck, DroppedQuestionIsAskedAgainSoon) {
  ReadyCheck check;
  check.asked(1, at(0));
  check.dropped(1, at(10), milliseconds(50));
  EXPECT_FALSE(check.is_due(at(59)));
  EXPECT_TRUE(check.is_due(at(60)));
  check.asked(2, at(60));
  check.dropped(1, at(61), milliseconds(50));  // an old one
  EXPECT_FALSE(check.is_due(at(200)));
  check.answered(9, Index(1));  // a client's
  EXPECT_EQ(check.take_reached(Index(5)), std::nullopt);
}

TEST(Readiness, TakesFreshStateToBeginAndLessToGoOn) {
  Readiness readiness;
  EXPECT_FALSE(readiness.look(true, std::nullopt, at(9000)));
  EXPECT_FALSE(readiness.look(true, at(6999), at(9000)));
  EXPECT_TRUE(readiness.look(true, at(7000), at(9000)));
  EXPECT_TRUE(readiness.look(true, at(7000), at(12'000)));
  EXPECT_FALSE(readiness.look(true, at(7000), at(12'001)));
  EXPECT_FALSE(readiness.look(true, at(10'000), at(12'002))) << "not fresh enough to begin again";
  EXPECT_TRUE(readiness.look(true, at(12'000), at(12'003)));
  EXPECT_FALSE(readiness.look(false, at(12'000), at(12'004))) << "no leader";
}

}  // namespace
}  // namespace connectd::node

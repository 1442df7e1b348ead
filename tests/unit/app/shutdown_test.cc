#include "app/shutdown.h"

#include <gtest/gtest.h>

namespace connectd::app {
namespace {
using std::chrono::seconds;

constexpr Shutdown::View kIdle{.has_node = true};
constexpr Shutdown::View kLeads{.has_node = true, .leads_others = true};
constexpr Shutdown::View kBusy{.has_node = true, .held = 1};

constexpr Time kBegin{seconds(100)};

Shutdown begun() {
  Shutdown end;
  end.begin(seconds(3), seconds(10), kBegin);
  return end;
}

TEST(Shutdown, RemovedNodeIsShownFirst) {
  Shutdown end = begun();
  constexpr Shutdown::View kShown{.has_node = true, .shows_removal = true};
  EXPECT_FALSE(end.advance(kShown, kBegin));
  EXPECT_TRUE(end.advance(kIdle, kBegin + seconds(1)));
  Shutdown late = begun();
  late.advance(kShown, kBegin + seconds(10));
  EXPECT_TRUE(late.is_done()) << "not beyond the deadline";
}

TEST(Shutdown, DrainsOnceWhenAllIsAnsweredAndIsDoneThen) {
  Shutdown end = begun();
  EXPECT_TRUE(end.has_begun());
  EXPECT_FALSE(end.advance(kBusy, kBegin));
  EXPECT_TRUE(end.advance(kIdle, kBegin + seconds(1)));
  EXPECT_EQ(end.left(kBegin + seconds(1)), seconds(9));
  EXPECT_FALSE(end.advance(kIdle, kBegin + seconds(1))) << "it drains already";
  EXPECT_FALSE(end.is_done());
  end.clients_drained();
  EXPECT_TRUE(end.is_done());
}

TEST(Shutdown, WaitsForLeadershipToMove) {
  Shutdown end = begun();
  EXPECT_FALSE(end.advance(kLeads, kBegin));
  EXPECT_TRUE(end.advance(kIdle, kBegin + seconds(1))) << "another leads";
}

TEST(Shutdown, GivesTheTransferUpAfterItsTimeout) {
  Shutdown end = begun();
  EXPECT_FALSE(end.advance(kLeads, kBegin + seconds(3) - Duration(1)));
  EXPECT_TRUE(end.advance(kLeads, kBegin + seconds(3)));
}

TEST(Shutdown, EndsAtTheDeadlineWhateverIsLeft) {
  Shutdown end = begun();
  EXPECT_FALSE(end.advance(kBusy, kBegin + seconds(10) - Duration(1)));
  EXPECT_FALSE(end.is_done());
  EXPECT_FALSE(end.advance(kBusy, kBegin + seconds(10)));
  EXPECT_TRUE(end.is_done());
}

TEST(Shutdown, EndsAtOnceWhenTold) {
  Shutdown end = begun();
  end.end_at_once();
  EXPECT_FALSE(end.advance(kBusy, kBegin));
  EXPECT_TRUE(end.is_done());
}

TEST(Shutdown, HasNothingToDrainBeforeThereIsANode) {
  Shutdown end = begun();
  EXPECT_FALSE(end.advance(Shutdown::View(), kBegin));
  EXPECT_TRUE(end.is_done());
}

}  // namespace
}  // namespace connectd::app

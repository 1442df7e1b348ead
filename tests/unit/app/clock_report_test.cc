#include "app/clock_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/wall_clock.h"

namespace connectd::app {
namespace {

using raft::LogTime;
using std::chrono::hours;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr int64_t kWall = 1'800'000'000'000'000'000;

Now moment(int64_t second) { return {Time(seconds(second)), kWall + second * 1'000'000'000}; }

// Leads three voters, whose clocks are known and right.
LogTime::View all_well() {
  LogTime::View view;
  view.voters = view.known = 3;
  view.is_certain = true;
  return view;
}

// What is reported of a view that lasts.
std::string text_of(const LogTime::View& view) {
  ClockReport report;
  EXPECT_EQ(report.look(view, moment(0)), "") << "it may be over in a moment";
  return report.look(view, moment(15));
}

TEST(ClockReport, NothingWhenAllIsWell) {
  EXPECT_EQ(text_of(all_well()), "");
  EXPECT_EQ(ClockReport().look(std::nullopt, moment(0)), "");
}

TEST(ClockReport, EachTroubleHasItsNumbers) {
  LogTime::View view = all_well();
  view.furthest = NodeId(2);
  view.furthest_by = -hours(24);
  EXPECT_THAT(text_of(view), HasSubstr("clock of node 2 differs from log time by_s=-86400"));
  view.ahead = -seconds(20);
  EXPECT_THAT(text_of(view), HasSubstr("log time is behind the voters' clocks by_s=20"));
  view.ahead = hours(1);
  EXPECT_THAT(text_of(view), HasSubstr("by_s=3600: it runs slow until they agree, for about "
                                       "hours=11"));
  view.ahead = hours(24 * 3650);
  EXPECT_THAT(text_of(view), HasSubstr("by_s=315360000: too far to come back"));
  view.between = hours(1);
  view.known = 2;
  EXPECT_THAT(text_of(view), HasSubstr("differ by_s=3600, and too few are known to tell which is "
                                       "right: clocks=2 voters=3"));
  view.is_certain = false;
  view.known = 1;
  EXPECT_THAT(text_of(view), HasSubstr("no clock to follow: clocks=1 voters=3"));
}

TEST(ClockReport, OwnClockIsReportedAtOnceByAnyNode) {
  ClockReport report;
  const Now in_1970{Time(seconds(5)), 40'000'000'000};
  EXPECT_THAT(report.look(std::nullopt, in_1970),
              HasSubstr("this machine's clock shows 1970-01-01T00:00:40.000000Z"));
  EXPECT_EQ(report.look(std::nullopt, moment(6)), "");
}

TEST(ClockReport, LogsOnceAnHour) {
  ClockReport report;
  LogTime::View view = all_well();
  view.ahead = hours(1);
  ::testing::internal::CaptureStderr();
  for (int64_t second = 0; second < 2 * 3600; second += 10) report.look(view, moment(second));
  report.look(all_well(), moment(2 * 3600));
  const std::string log = ::testing::internal::GetCapturedStderr();
  size_t lines = 0;
  for (size_t at = 0; (at = log.find("ahead of", at)) != std::string::npos; ++at) ++lines;
  EXPECT_EQ(lines, 2u);
  EXPECT_THAT(log, HasSubstr("the clocks agree again"));
}

TEST(ClockReport, FormerLeaderDoesNotKnowWhetherTheyAgree) {
  ClockReport report;
  LogTime::View view = all_well();
  view.ahead = hours(1);
  ::testing::internal::CaptureStderr();
  for (int64_t second = 0; second < 60; second += 10) report.look(view, moment(second));
  EXPECT_EQ(report.look(std::nullopt, moment(60)), "");
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("ahead of"));
  EXPECT_THAT(log, ::testing::Not(HasSubstr("agree again")));
}

}  // namespace
}  // namespace connectd::app

#include "app/clock_report.h"

#include <fmt/format.h>

#include "base/log_event.h"
#include "base/wall_clock.h"

namespace connectd::app {
namespace {

using raft::LogTime;

int64_t seconds_of(Duration time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time).count();
}

std::string own_clock_text(const Now& now) {
  return fmt::format("this machine's clock shows {}: it does not count, set it",
                     time_text(now.wall_ns));
}

std::string unknown_text(const LogTime::View& view) {
  return fmt::format("log time has no clock to follow: clocks={} voters={}", view.known,
                     view.voters);
}

std::string disagree_text(const LogTime::View& view) {
  return fmt::format(
      "the voters' clocks differ by_s={}, and too few are known to tell which is right: clocks={} "
      "voters={}",
      seconds_of(view.between), view.known, view.voters);
}

std::string ahead_text(const LogTime::View& view) {
  return fmt::format(
      "log time is ahead of the voters' clocks by_s={}: it runs slow until they agree, for about "
      "hours={}",
      seconds_of(view.ahead), seconds_of(view.ahead * LogTime::kSlowDivisor) / 3600 + 1);
}

std::string far_ahead_text(const LogTime::View& view) {
  return fmt::format(
      "log time is ahead of the voters' clocks by_s={}: too far to come back, see \"Clocks\" in "
      "docs/operations.md",
      seconds_of(view.ahead));
}

std::string behind_text(const LogTime::View& view) {
  return fmt::format("log time is behind the voters' clocks by_s={}", seconds_of(-view.ahead));
}

std::string other_text(const LogTime::View& view) {
  return fmt::format("the clock of node {} differs from log time by_s={}", view.furthest,
                     seconds_of(view.furthest_by));
}

}  // namespace

// The one that explains the others comes first.
ClockReport::Trouble ClockReport::trouble(const std::optional<LogTime::View>& view,
                                          const Now& now) {
  if (!is_plausible(now.wall_ns)) return Trouble::kOwnClock;
  if (!view) return Trouble::kNone;
  if (!view->is_certain) return Trouble::kUnknown;
  if (view->between >= LogTime::kAgree) return Trouble::kDisagree;
  if (view->ahead > LogTime::kSlowUpTo) return Trouble::kFarAhead;
  if (view->ahead > LogTime::kAgree) return Trouble::kAhead;
  if (view->ahead < -LogTime::kAgree) return Trouble::kBehind;
  if (std::chrono::abs(view->furthest_by) > LogTime::kAgree) return Trouble::kOther;
  return Trouble::kNone;
}

const std::string& ClockReport::look(const std::optional<LogTime::View>& view, const Now& now) {
  const Trouble found = trouble(view, now);
  if (found != trouble_) {
    if (found == Trouble::kNone && logged_at_) {
      if (trouble_ == Trouble::kOwnClock) {
        log_event(LogEvent::kClockAgrees, "this machine's clock counts again");
      } else if (view) {  // a leader knows; whoever leads no more does not
        log_event(LogEvent::kClockAgrees, "the clocks agree again");
      }
    }
    trouble_ = found;
    since_ = now.time;
    logged_at_.reset();
    text_.clear();
  }
  const bool lasts = found == Trouble::kOwnClock || now.time - since_ >= kLasting;
  if (found == Trouble::kNone || !lasts) return text_;
  switch (found) {
    case Trouble::kNone:
      break;
    case Trouble::kOwnClock:
      text_ = own_clock_text(now);
      break;
    case Trouble::kUnknown:
      text_ = unknown_text(*view);
      break;
    case Trouble::kDisagree:
      text_ = disagree_text(*view);
      break;
    case Trouble::kAhead:
      text_ = ahead_text(*view);
      break;
    case Trouble::kFarAhead:
      text_ = far_ahead_text(*view);
      break;
    case Trouble::kBehind:
      text_ = behind_text(*view);
      break;
    case Trouble::kOther:
      text_ = other_text(*view);
      break;
  }
  if (!logged_at_ || now.time - *logged_at_ >= kInterval) {
    logged_at_ = now.time;
    log_event(LogEvent::kClockTrouble, "{}", text_);
  }
  return text_;
}

}  // namespace connectd::app

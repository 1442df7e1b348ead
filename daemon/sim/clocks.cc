// Wall clocks that are wrong by minutes to decades, in either direction, or that no clock should
// show: when a machine starts for the first time, and when its power comes back. A minority at a
// time, so log time has to follow the others: it is never ahead of time by more than a bound, and
// is not behind by more than a bound while a leader hears all voters. In some runs all clocks
// begin at 1970, and each is set when its machine has run for a while.

#include <algorithm>

#include "base/wall_clock.h"
#include "sim/simulation_impl.h"

namespace connectd::sim {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

namespace {
// Right clocks differ by two seconds, log time follows them within one, and what a leader knows of
// them, and of the log time before, is seconds old by a monotonic clock that may be 10 % fast.
constexpr Duration kAhead = seconds(10);
// Answers may have been on their way for long, but a wrong clock is off by more.
constexpr Duration kBehind = seconds(20);
constexpr Duration kLeastWrong = minutes(1);
// A leader may have heard of the clock before it was set.
constexpr Duration kForgotten = 2 * raft::LogTime::kFresh;
constexpr int64_t kHourNs = 3'600'000'000'000;
constexpr int64_t kDayNs = 24 * kHourNs;

int64_t wrong_by(Random& random) {
  const auto least = static_cast<uint64_t>(kLeastWrong.count());
  switch (random.below(6)) {
    case 0:  // late, and still plausible
    case 1:
      return -static_cast<int64_t>(random.between(least, 300 * kDayNs));
    case 2:
      return -static_cast<int64_t>(random.between(least, kHourNs));
    case 3:
      return static_cast<int64_t>(random.between(least, 50 * 365 * kDayNs));
    case 4:  // 1970, or the days before
      return -kWallStart - (random.chance(50) ? kDayNs : 0);
    default:  // beyond all clocks
      return kMaxWallNs;
  }
}
}  // namespace

void Simulation::Impl::arm_clocks() {
  if (!active_.has(Fault::kWrongClock)) return;
  Random& random = fault_random_[static_cast<size_t>(Fault::kWrongClock)];
  const bool all_in_1970 = random.chance(25);
  for (auto& p : processes_) {
    p->clock.follow_time();
    if (!all_in_1970) {
      draw_clock(*p);
      continue;
    }
    p->clock.set_wrong_by(-kWallStart);
    timeline_.after(draw(random, milliseconds(100), seconds(10)), [at = p.get()] {
      if (!at->has_wrong_clock) at->clock.set_wrong_by(0);
    });
  }
}

// The machine starts without having been told the time.
void Simulation::Impl::draw_clock(Process& p) {
  if (!active_.has(Fault::kWrongClock)) return;
  Random& random = fault_random_[static_cast<size_t>(Fault::kWrongClock)];
  size_t others = 0;
  for (auto& other : processes_) others += other.get() != &p && may_seem_wrong(*other);
  const bool is_wrong = random.chance(60) && others < (options_.nodes - 1) / 2;
  set_right(p);
  if (!is_wrong) return;
  count(Fault::kWrongClock);
  p.has_wrong_clock = true;
  p.clock.set_wrong_by(wrong_by(random));
  timeline_.trace("the clock of node {} shows {}", p.id, time_text(p.clock.now(now()).wall_ns));
  if (random.chance(50)) return;
  timeline_.after(draw(random, seconds(1), seconds(15)), [this, at = &p, drawn = ++p.clocks_drawn] {
    if (at->clocks_drawn == drawn) set_right(*at);
  });
}

void Simulation::Impl::set_right(Process& p) {
  p.clock.set_wrong_by(0);
  if (!std::exchange(p.has_wrong_clock, false)) return;
  p.clock_right_since = now();
  timeline_.trace("the clock of node {} is set right", p.id);
}

bool Simulation::Impl::may_seem_wrong(const Process& p) const {
  return p.has_wrong_clock || (p.clock_right_since && now() - *p.clock_right_since < kForgotten);
}

// Periodically.
void Simulation::Impl::look_at_log_time(Process& p) {
  if (!active_.has(Fault::kWrongClock) || clocks_are_undecided_) return;
  const raft::Core& core = p.node->core();
  const auto log_time = core.log_time();
  if (!log_time) return;
  const std::vector<NodeId>& voters = core.conf().voters;
  size_t wrong = 0;
  for (NodeId id : voters) wrong += may_seem_wrong(process(id));
  if (wrong > 0) bite(Fault::kWrongClock);
  if (wrong > (voters.size() - 1) / 2) {
    // Changes of members left too few voters with right clocks: log time may be anything now.
    clocks_are_undecided_ = true;
    return;
  }
  const Duration ahead(*log_time - wall_of(now()));
  const auto view = core.log_time_view();
  const bool is_late = ahead < -kBehind && view->known == view->voters;
  if (ahead > kAhead || is_late) {
    checkers_.fail(fmt::format(
        "log time: node {} leads term {} and stamps {}, {} ms {} time; it knows {} of {} clocks",
        p.id, core.term(), time_text(*log_time), std::chrono::abs(ahead) / milliseconds(1),
        is_late ? "behind" : "ahead of", view->known, view->voters));
  }
}

}  // namespace connectd::sim

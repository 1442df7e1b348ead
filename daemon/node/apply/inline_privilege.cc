#include "node/apply/inline_privilege.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <ctime>

namespace connectd::node {

TurnUsage TurnUsage::of_this_thread() {
  TurnUsage usage;
  timespec cpu{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
  usage.cpu_ns = int64_t{cpu.tv_sec} * 1'000'000'000 + cpu.tv_nsec;
  rusage thread{};
  ::getrusage(RUSAGE_THREAD, &thread);
  usage.waits = thread.ru_nvcsw;
  usage.time = read_clocks().time;
  return usage;
}

std::optional<std::string> InlinePrivilege::judge(const TurnUsage& before, const TurnUsage& after) {
  std::optional<std::string> why;
  const Duration took = after.time - before.time;
  if (after.cpu_ns - before.cpu_ns > cpu_ns_max_) {
    why = fmt::format("slower than limit_us={}", cpu_ns_max_ / 1000);
  } else if (took > kWaitMax && after.waits > before.waits && cpu_ns_max_ != INT64_MAX) {
    why = fmt::format("waited: a turn of {} ms, limit_ms={}", took / std::chrono::milliseconds(1),
                      kWaitMax / std::chrono::milliseconds(1));
  }
  if (!why) return std::nullopt;
  const bool again = after.time < denied_until_ + penalty_;
  penalty_ = again ? std::min<Duration>(2 * penalty_, kLongestPenalty) : kFirstPenalty;
  denied_until_ = after.time + penalty_;
  return why;
}

}  // namespace connectd::node

#include "admin/health.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <utility>

#include "admin/answers.h"
#include "admin/limits.h"

namespace connectd::admin {
namespace {

using node::ServiceState;
using Verdict = HealthCheck::Verdict;

constexpr const char* kReading = "starting: reading the log";

// Collects them, each with the text for its verdict.
class Checks final {
 public:
  void add(const char* name, bool is_good, std::string text) {
    health_.checks.push_back({name, is_good ? Verdict::kGood : Verdict::kFailed, std::move(text)});
  }
  void warn(const char* name, bool is_good, std::string text) {
    health_.checks.push_back({name, is_good ? Verdict::kGood : Verdict::kWarning, std::move(text)});
  }
  Health take() { return std::move(health_); }

 private:
  Health health_;
};

std::string age_text(Duration age) {
  return fmt::format("the main loop last reported its status {} ms ago",
                     std::chrono::duration_cast<std::chrono::milliseconds>(age).count());
}

// Somebody should look at these, but the node serves.
void add_warnings(Checks& checks, const node::StatusSnapshot& status) {
  checks.warn("disk", status.disk_state == "ok",
              fmt::format("{}, {} bytes free", status.disk_state, status.disk_free_bytes));
  checks.warn(
      "writes", !status.writes_stopped,
      status.writes_stopped ? "stopped: no quorum of the nodes has space on its disk" : "accepted");
  checks.warn("plugin_file", status.plugin_warning.empty(),
              status.plugin_warning.empty() ? "as it was loaded" : status.plugin_warning);
  checks.warn("clock", status.clock_warning.empty(),
              status.clock_warning.empty() ? "agrees with the others" : status.clock_warning);
  checks.warn("tls", status.tls_warning.empty(),
              status.tls_warning.empty() ? "as configured" : status.tls_warning);
}

}  // namespace

std::string_view verdict_text(HealthCheck::Verdict verdict) {
  switch (verdict) {
    case Verdict::kGood:
      return "ok";
    case Verdict::kWarning:
      return "warning";
    case Verdict::kFailed:
      return "failed";
  }
  return "?";
}

bool Health::good() const {
  return std::ranges::none_of(
      checks, [](const HealthCheck& check) { return check.verdict == Verdict::kFailed; });
}

std::string Health::detail() const {
  for (const HealthCheck& check : checks) {
    if (check.verdict == Verdict::kFailed) return check.text;
  }
  return "";
}

std::string Health::lines() const {
  std::string text;
  for (const HealthCheck& check : checks) {
    const char sign = check.verdict == Verdict::kGood      ? '+'
                      : check.verdict == Verdict::kWarning ? '!'
                                                           : '-';
    text += fmt::format("[{}] {}: {}\n", sign, check.name, check.text);
  }
  return text + (good() ? "ok\n" : "failed\n");
}

std::string Health::json() const {
  namespace json = boost::json;
  json::array list;
  for (const HealthCheck& check : checks) {
    const std::string_view verdict = verdict_text(check.verdict);
    list.push_back(json::object{{"name", check.name},
                                {"status", json::string_view(verdict.data(), verdict.size())},
                                {"text", check.text}});
  }
  return json::serialize(
      json::object{{"status", good() ? "ok" : "failed"}, {"checks", std::move(list)}});
}

Health live_health(const node::StatusSnapshot* status, Time now) {
  Checks checks;
  if (status == nullptr) {  // still reading its log: a restart would begin that again
    checks.add("loop", true, kReading);
    return checks.take();
  }
  const Duration age = now - status->made;
  // A call that applies the log would hang again after a restart.
  const bool hangs_in_log = status->stuck.starts_with("apply") || status->stuck.starts_with("on_");
  checks.add("loop", age < kLoopHangs || hangs_in_log, age_text(age));
  checks.add("hang", status->hang.empty(), status->hang.empty() ? "nothing hangs" : status->hang);
  return checks.take();
}

// The state is one word; each of the others that it may be has its check, so that the list is the
// same whatever is wrong.
Health ready_health(const node::StatusSnapshot* status, Time now) {
  Checks checks;
  if (status == nullptr) {
    checks.add("loop", false, kReading);
    return checks.take();
  }
  const Duration age = now - status->made;
  const ServiceState state = status->state;
  const std::string why = node::full_reason(*status);
  const auto is = [&](std::initializer_list<ServiceState> states) {
    return std::ranges::find(states, state) != states.end();
  };
  // A call that hangs on the loop is the better reason.
  if (!is({ServiceState::kStuck})) {
    checks.add("loop", age < kLoopHangs, age < kLoopHangs ? age_text(age) : "the main loop hangs");
  }
  checks.add("plugin", !is({ServiceState::kStuck}),
             is({ServiceState::kStuck}) ? why : "answers its calls");
  checks.add("shutdown", !is({ServiceState::kStopping}),
             is({ServiceState::kStopping}) ? why : "is not stopping");
  checks.add("cluster", !is({ServiceState::kForming}),
             is({ServiceState::kForming}) ? why : "has formed");
  const bool has_leader = static_cast<bool>(status->leader);
  std::string leader = has_leader
                           ? fmt::format("leader {} in term {}", status->leader, status->term)
                           : fmt::format("no known leader in term {}", status->term);
  const bool lacks_leader = is({ServiceState::kNoLeader, ServiceState::kNoQuorum});
  checks.add("leader", !lacks_leader, lacks_leader ? why : std::move(leader));
  const bool is_behind = is({ServiceState::kCatchingUp, ServiceState::kLagging});
  checks.add("up_to_date", !is_behind,
             is_behind
                 ? why
                 : fmt::format("applied {} of {}", status->applied_index, status->commit_index));
  checks.add("replicas", status->divergence.empty(),
             status->divergence.empty() ? "no difference is known" : status->divergence);
  add_warnings(checks, *status);
  Health health = checks.take();
  // The node's word counts, whatever the checks know.
  if (!status->ready && health.good()) {
    health.checks.push_back({"ready", Verdict::kFailed, why.empty() ? "not ready" : why});
  }
  return health;
}

Health leader_health(const node::StatusSnapshot* status, Time now) {
  Checks checks;
  if (status == nullptr) {
    checks.add("leader", false, kReading);
    return checks.take();
  }
  // One that hangs may have been replaced.
  if (now - status->made >= kLoopHangs) {
    checks.add("loop", false, "the main loop hangs");
    return checks.take();
  }
  const bool leads = status->role == raft::Role::kLeader;
  checks.add("leader", leads,
             leads            ? fmt::format("leader in term {}", status->term)
             : status->leader ? fmt::format("{}; node {} leads term {}", role_text(status->role),
                                            status->leader, status->term)
                              : fmt::format("{}; no known leader in term {}",
                                            role_text(status->role), status->term));
  return checks.take();
}

}  // namespace connectd::admin

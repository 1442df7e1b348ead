// What /livez, /readyz and /leaderz look at, one check for each thing that can be wrong, from the
// status that the loop left. Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "node/status.h"

namespace connectd::admin {

struct HealthCheck {
  enum class Verdict : uint8_t {
    kGood,
    kWarning,  // somebody should look at it; the answer stays yes
    kFailed,   // the answer is no
  };
  std::string name;  // one word with "_"; docs/operations.md lists them
  Verdict verdict = Verdict::kGood;
  std::string text;
};

// "ok", "warning", "failed".
std::string_view verdict_text(HealthCheck::Verdict verdict);

struct Health {
  std::vector<HealthCheck> checks;

  bool good() const;
  // Of the first check that failed; empty: none has.
  std::string detail() const;
  // "[+] loop: ...\n[!] disk: ...\nok\n"
  std::string lines() const;
  // {"status": "ok", "checks": [{"name": ..., "status": ..., "text": ...}]}
  std::string json() const;
};

// `status` is null before the loop runs.
Health live_health(const node::StatusSnapshot* status, Time now);
Health ready_health(const node::StatusSnapshot* status, Time now);
Health leader_health(const node::StatusSnapshot* status, Time now);

}  // namespace connectd::admin

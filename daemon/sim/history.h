// What the clients of a run did and saw: the input of the linearizability checkers
// (sim/linearizability.h). Plain values, no simulator: tests write histories by hand.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/types.h"

namespace connectd::sim {

enum class OutcomeKind : uint8_t {
  kOk,       // answered; `reply` and `index` are what the client saw
  kUnknown,  // a write that may take effect at any time after its call, or never
  kRefused,  // has no effect, now or later
};

// One request of one client, from its submission to its answer.
struct Operation {
  uint64_t client = 0;  // a connection: its operations have program order
  bool is_write = false;
  // A read that may return an older state within its bounds, which set `floor`. It has no place in
  // the order of its connection.
  bool is_stale = false;
  bool is_large = false;  // nearly as large as a request may be
  std::string request;
  Time called;
  Time returned = Time::max();  // max(): never answered (kUnknown)
  // Calls and returns of one moment are ordered by these: unique over the whole history.
  uint64_t call_order = 0;
  uint64_t return_order = UINT64_MAX;
  OutcomeKind outcome = OutcomeKind::kUnknown;
  int32_t status = 0;
  std::string reply;
  Index index;  // of a write: its entry; of a read: the applied index that it saw
  // The highest index that any reply had shown when it was called; for a stale read, the index that
  // it must see.
  Index floor;
};

using History = std::vector<Operation>;

}  // namespace connectd::sim

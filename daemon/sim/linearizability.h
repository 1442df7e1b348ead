// Checks whether a history is linearizable, by two methods that share only the history.
//
// The index witness trusts the log and the index in each reply, and checks that they explain the
// replies, with a few rules on indexes and a replay. It is fast, so it checks all operations, and
// it names the broken rule. But an index that is wrong in the same way everywhere can deceive it.
//
// The search trusts neither; it uses indexes only to choose what to try first. It looks for an
// order of the operations that keeps real time and the order of each connection, and in which a
// model of the plugin gives the replies that were seen: the algorithm of Wing and Gong with the
// memo of Lowe ("Testing for linearizability", 2017). It can take exponential time, so it has a
// budget, and running out of it is a result of its own.
//
// Both assume that the requests of one connection take effect in the order of their calls, except
// those of unknown outcome, which take effect at any time after their call and after the earlier
// answered ones of their connection, or never.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"
#include "sim/history.h"
#include "sim/index_witness.h"
#include "sim/models.h"

namespace connectd::sim {

enum class Verdict {
  kLinearizable,
  kNotLinearizable,
  kBudgetExhausted,  // unknown; never counts as a pass
};

// The limit of a search over all parts of the history. A step is one operation tried on one state,
// 0.2 to 1 microseconds. Steps and not time, so that a history has the same verdict on every
// machine.
struct SearchBudget {
  uint64_t steps = 20'000'000;
};

struct SearchResult {
  Verdict verdict = Verdict::kLinearizable;
  // Not linearizable, or budget exhausted: the part ("key k3"), the window, and the operations in
  // it. A window is a stretch of the history between two moments at which no operation with a known
  // outcome is in progress; the named one is the first that no order of the operations gets past.
  std::string text;
  uint64_t steps = 0;
  size_t parts = 0;
  size_t windows = 0;  // of all parts
};

// kUsage: the model does not know a request.
Result<SearchResult> check_linearizable(const History& history, const Model& model,
                                        const SearchBudget& budget = {});

// Gives each write of unknown outcome the index at which the log has it, if it has it once: a hint
// for the search. Hints and the indexes of replies decide what is tried first, and so how long it
// takes, but never the verdict. A long history with many unknown writes needs them.
void add_hints(History& history, const WitnessLog& log);

// "client 3: 'incr 7' [#12, #15] -> '4\n'": for messages. The numbers are call_order and
// return_order.
std::string describe(const Operation& operation);

}  // namespace connectd::sim

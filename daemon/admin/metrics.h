// GET /metrics: what a node counts, in the text format of Prometheus. The names are promises
// (docs/metrics.md lists them). The only user of prometheus-cpp, of which it takes the format and
// nothing that counts: its own counters lock. Any thread.
#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "node/metrics.h"
#include "node/status.h"

namespace connectd::admin {

// "text/plain; version=0.0.4; charset=utf-8"
extern const char* const kMetricsType;

struct MetricsSource {
  const node::StatusSnapshot* status = nullptr;    // null: before the loop runs
  const node::TrafficSnapshot* traffic = nullptr;  // null: before there is a node
  const node::Metrics& counts;
  Time now;
};

// Reads /proc/self, too.
std::string metrics_text(const MetricsSource& source);

}  // namespace connectd::admin

// The metrics of one plugin instance (CONNECTD_EXT_METRICS). create() makes them; afterwards only
// their values change, without a lock, so that the HTTP thread may read them while the plugin runs.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/metrics.h"

namespace connectd::plugin {

enum class MetricType : uint8_t { kCounter, kGauge, kHistogram };

// As the plugin declares it: printable ASCII.
struct MetricName {
  MetricType type = MetricType::kCounter;
  std::string name;  // without the prefix
  std::string help;
  std::string label;  // empty: none
  std::string value;  // of the label
};

// Any thread. A change that its type does not have does nothing.
class Metric final {
 public:
  using Buckets = TimeBuckets<SharedCounter>;

  explicit Metric(MetricName name);

  void add(uint64_t more);
  void set(double value);
  void observe(uint64_t nanoseconds);

  const MetricName& name() const { return name_; }
  uint64_t count() const { return count_.value(); }
  double level() const { return level_.load(std::memory_order_relaxed); }
  // Of a histogram only.
  const Buckets& buckets() const { return *buckets_; }

 private:
  const MetricName name_;
  SharedCounter count_;
  std::atomic<double> level_{0};
  const std::unique_ptr<Buckets> buckets_;
};

class MetricTable final {
 public:
  // The metric, which lives as long as the table. kBadPlugin, with a text that names the metric: it
  // breaks a rule of plugin.h, or comes after seal(). Null texts are refused, not read.
  Result<Metric*> add(MetricType type, const char* name, const char* help, const char* label,
                      const char* value);
  // create() has returned. From now on all() may be read by any thread.
  void seal() { is_sealed_ = true; }

  // In the order in which they were made.
  const std::vector<std::unique_ptr<Metric>>& all() const { return metrics_; }

 private:
  Result<void> check(const MetricName& wanted) const;

  std::vector<std::unique_ptr<Metric>> metrics_;
  bool is_sealed_ = false;
};

}  // namespace connectd::plugin

#include "plugin/metric_table.h"

#include <connect/plugin.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <utility>

namespace connectd::plugin {

namespace {

constexpr size_t kNameMax = 64;
constexpr size_t kHelpMax = 200;
constexpr size_t kValueMax = 128;

bool is_metric_name(std::string_view text) {
  const auto is_letter = [](char c) { return c >= 'a' && c <= 'z'; };
  return !text.empty() && text.size() <= kNameMax && is_letter(text.front()) &&
         std::ranges::all_of(
             text, [&](char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '_'; });
}

bool is_line(std::string_view text, size_t most) {
  return !text.empty() && text.size() <= most &&
         std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

// A null text is an empty one; of a long one as much as shows that it is too long.
std::string limited_text(const char* text, size_t most) {
  return text == nullptr ? std::string() : std::string(text, strnlen(text, most + 1));
}

// The suffixes that Prometheus expects of a type, and those that its text format adds itself.
const char* wrong_suffix(const MetricName& wanted) {
  const std::string_view name = wanted.name;
  if (wanted.type == MetricType::kCounter) {
    return name.ends_with("_total") ? nullptr : "a counter's name ends in _total";
  }
  if (wanted.type == MetricType::kHistogram) {
    return name.ends_with("_seconds") ? nullptr : "a histogram's name ends in _seconds";
  }
  const bool is_taken =
      std::ranges::any_of(std::initializer_list<const char*>{"_total", "_bucket", "_count", "_sum"},
                          [&](const char* suffix) { return name.ends_with(suffix); });
  return is_taken ? "a gauge's name does not end in _total, _bucket, _count or _sum" : nullptr;
}

}  // namespace

Metric::Metric(MetricName name)
    : name_(std::move(name)),
      buckets_(name_.type == MetricType::kHistogram ? std::make_unique<Buckets>() : nullptr) {}

void Metric::add(uint64_t more) {
  if (name_.type == MetricType::kCounter) count_.add(more);
}

void Metric::set(double value) {
  if (name_.type == MetricType::kGauge) level_.store(value, std::memory_order_relaxed);
}

void Metric::observe(uint64_t nanoseconds) {
  if (buckets_ != nullptr) buckets_->observe(nanoseconds);
}

Result<Metric*> MetricTable::add(MetricType type, const char* name, const char* help,
                                 const char* label, const char* value) {
  MetricName wanted{type, limited_text(name, kNameMax), limited_text(help, kHelpMax),
                    limited_text(label, kNameMax), limited_text(value, kValueMax)};
  if (auto checked = check(wanted); !checked) {
    // Not the name itself: it may be anything.
    const std::string shown = is_metric_name(wanted.name) ? wanted.name : "(invalid name)";
    return failure(ErrorKind::kBadPlugin,
                   fmt::format("metric {} is not shown: {}", shown, checked.error().text));
  }
  return metrics_.emplace_back(std::make_unique<Metric>(std::move(wanted))).get();
}

Result<void> MetricTable::check(const MetricName& wanted) const {
  const auto refuse = [](std::string why) {
    return failure(ErrorKind::kBadPlugin, std::move(why));
  };
  if (is_sealed_) return refuse("metrics are made during create only");
  if (metrics_.size() >= CONNECTD_METRICS_MAX) {
    return refuse(fmt::format("an instance has at most {} metrics", CONNECTD_METRICS_MAX));
  }
  if (!is_metric_name(wanted.name)) {
    return refuse(fmt::format("a name is [a-z][a-z0-9_]*, at most {} bytes", kNameMax));
  }
  if (const char* why = wrong_suffix(wanted)) return refuse(why);
  // prometheus-cpp does not escape it.
  if (!is_line(wanted.help, kHelpMax) || wanted.help.find('\\') != std::string::npos) {
    return refuse(
        fmt::format("its help must be 1 to {} printable ASCII characters, no backslash", kHelpMax));
  }
  if (wanted.label.empty() != wanted.value.empty()) {
    return refuse("a label and its value come together");
  }
  if (!wanted.label.empty()) {
    // "le" is the label of a histogram's buckets.
    if (!is_metric_name(wanted.label) || wanted.label == "le")
      return refuse("its label is not valid");
    if (!is_line(wanted.value, kValueMax)) {
      return refuse(
          fmt::format("its label's value must be 1 to {} printable ASCII characters", kValueMax));
    }
  }
  for (const auto& metric : metrics_) {
    const MetricName& other = metric->name();
    if (other.name != wanted.name) continue;
    if (other.type != wanted.type) return refuse("there is one of another type with this name");
    if (other.label != wanted.label) return refuse("there is one with another label, or without");
    if (other.value == wanted.value) return refuse("it is there already");
  }
  return {};
}

}  // namespace connectd::plugin

// The rules for the metrics of a plugin, and their values under several threads.
#include "plugin/metric_table.h"

#include <connect/plugin.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace connectd::plugin {
namespace {

using ::testing::HasSubstr;

struct Declared {
  MetricType type = MetricType::kGauge;
  const char* name = "keys";
  const char* help = "Keys.";
  const char* label = nullptr;
  const char* value = nullptr;
};

// What is wrong with it; nothing: it is taken.
std::string refusal(MetricTable& table, const Declared& declared) {
  auto metric =
      table.add(declared.type, declared.name, declared.help, declared.label, declared.value);
  return metric ? "" : metric.error().text;
}
std::string refusal(const Declared& declared) {
  MetricTable table;
  return refusal(table, declared);
}

TEST(MetricTable, SoundOnesAreTaken) {
  EXPECT_EQ(refusal({}), "");
  EXPECT_EQ(refusal({.name = "a"}), "");
  EXPECT_EQ(refusal({.name = "a9_b"}), "");
  EXPECT_EQ(refusal({.name = std::string(64, 'a').c_str()}), "");
  EXPECT_EQ(refusal({.help = std::string(200, '~').c_str()}), "");
  EXPECT_EQ(refusal({.label = "op", .value = std::string(128, ' ').c_str()}), "");
  EXPECT_EQ(refusal({.type = MetricType::kCounter, .name = "gets_total"}), "");
  EXPECT_EQ(refusal({.type = MetricType::kHistogram, .name = "get_seconds"}), "");
}

TEST(MetricTable, WrongNamesAreRefused) {
  for (const char* name : {"", "A", "9a", "_a", "a-b", "a b", "a\n", "\xc3\xa4"}) {
    EXPECT_EQ(refusal({.name = name}),
              "metric (invalid name) is not shown: a name is [a-z][a-z0-9_]*, at most 64 bytes");
  }
  EXPECT_THAT(refusal({.name = nullptr}), HasSubstr("a name is"));
  EXPECT_THAT(refusal({.name = std::string(65, 'a').c_str()}), HasSubstr("a name is"));
}

TEST(MetricTable, SuffixesBelongToTypes) {
  EXPECT_EQ(refusal({.type = MetricType::kCounter, .name = "gets"}),
            "metric gets is not shown: a counter's name ends in _total");
  EXPECT_THAT(refusal({.type = MetricType::kHistogram, .name = "get_time"}),
              HasSubstr("ends in _seconds"));
  for (const char* name : {"a_total", "a_bucket", "a_count", "a_sum"}) {
    EXPECT_THAT(refusal({.name = name}), HasSubstr("a gauge's name does not end in"));
  }
}

TEST(MetricTable, WrongTextsAreRefused) {
  for (const char* help :
       {static_cast<const char*>(nullptr), "", "a\nb", "\xc3\xa4", "\x7f", "a\\b"}) {
    EXPECT_THAT(refusal({.help = help}), HasSubstr("its help must be"));
  }
  EXPECT_THAT(refusal({.help = std::string(201, 'a').c_str()}), HasSubstr("its help must be"));
  EXPECT_THAT(refusal({.label = "op"}), HasSubstr("come together"));
  EXPECT_THAT(refusal({.value = "get"}), HasSubstr("come together"));
  EXPECT_THAT(refusal({.label = "le", .value = "1"}), HasSubstr("its label is not valid"));
  EXPECT_THAT(refusal({.label = "__x", .value = "1"}), HasSubstr("its label is not valid"));
  EXPECT_THAT(refusal({.label = "op", .value = "a\nb"}), HasSubstr("its label's value"));
  EXPECT_THAT(refusal({.label = "op", .value = std::string(129, 'a').c_str()}),
              HasSubstr("its label's value"));
}

TEST(MetricTable, OneNameIsOneFamily) {
  MetricTable table;
  EXPECT_EQ(refusal(table, {.label = "type", .value = "string"}), "");
  EXPECT_EQ(refusal(table, {.label = "type", .value = "list"}), "");
  EXPECT_THAT(refusal(table, {.label = "type", .value = "list"}), HasSubstr("there already"));
  EXPECT_THAT(refusal(table, {}), HasSubstr("another label, or without"));
  EXPECT_THAT(refusal(table, {.label = "kind", .value = "list"}), HasSubstr("another label"));
  EXPECT_THAT(refusal(table, {.type = MetricType::kHistogram, .name = "keys_seconds"}), "");
  EXPECT_THAT(refusal(table, {.name = "keys_seconds"}), HasSubstr("another type"));
  EXPECT_EQ(table.all().size(), 3u);
}

TEST(MetricTable, NumberIsLimited) {
  MetricTable table;
  for (unsigned i = 0; i < CONNECTD_METRICS_MAX; ++i) {
    EXPECT_EQ(refusal(table, {.name = fmt::format("m{}", i).c_str()}), "");
  }
  EXPECT_EQ(refusal(table, {}), "metric keys is not shown: an instance has at most 256 metrics");
}

TEST(MetricTable, SealedOneTakesNoMore) {
  MetricTable table;
  table.seal();
  EXPECT_EQ(refusal(table, {}), "metric keys is not shown: metrics are made during create only");
}

TEST(MetricTable, NothingIsLostBetweenThreads) {
  MetricTable table;
  auto counter = table.add(MetricType::kCounter, "a_total", "A.", nullptr, nullptr);
  auto histogram = table.add(MetricType::kHistogram, "a_seconds", "A.", nullptr, nullptr);
  ASSERT_TRUE(counter && histogram);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 10000; ++j) {
        (*counter)->add(2);
        (*histogram)->observe(100'001);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ((*counter)->count(), 80000u);
  EXPECT_EQ((*histogram)->buckets().count(1), 40000u);
  EXPECT_EQ((*histogram)->buckets().sum(), 40000u * 100'001u);
}

TEST(MetricTable, OtherTypesChangesDoNothing) {
  MetricTable table;
  auto counter = table.add(MetricType::kCounter, "a_total", "A.", nullptr, nullptr);
  auto gauge = table.add(MetricType::kGauge, "a", "A.", nullptr, nullptr);
  ASSERT_TRUE(counter && gauge);
  (*counter)->set(3);
  (*counter)->observe(3);
  (*gauge)->add(3);
  (*gauge)->observe(3);
  (*gauge)->set(-1.5);
  EXPECT_EQ((*counter)->count(), 0u);
  EXPECT_EQ((*gauge)->level(), -1.5);
}

}  // namespace
}  // namespace connectd::plugin

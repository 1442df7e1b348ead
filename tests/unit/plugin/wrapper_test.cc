// connect/plugin.hpp: nothing that a class throws leaves the plugin, and what it writes comes back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <connect/plugin.hpp>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>

#include "tests/unit/plugin/support.h"

namespace connectd::plugin {
namespace {

using ::testing::HasSubstr;

[[noreturn]] void throw_what(std::string_view what) {
  if (what == "std") throw std::runtime_error("the reason");
  if (what == "memory") throw std::bad_alloc();
  if (what == "number") throw 42;
  if (what == "failure") throw sdk::Failure(CONNECTD_E_IO, "the disk");
  throw sdk::Failure(3, "a code that is none");
}

// Throws what the request says; keeps a map of texts; ticks at the time it is told.
class Thrower {
 public:
  explicit Thrower(const sdk::Host& host) {
    if (auto what = host.option("throw")) throw_what(*what);
    limit_ = host.option_number<int16_t>("limit", -7);
  }
  sdk::Kind classify(std::string_view request, sdk::Reply& reply) const {
    if (request == "limit") {
      reply << limit_;
      return sdk::Kind::kReply;
    }
    throw_what(request);
  }
  int32_t read(const sdk::ReadContext&, std::string_view request, sdk::Reply& reply) const {
    auto found = values_.find(std::string(request));
    if (found == values_.end()) throw_what(request);
    reply << found->second;
    return 9;
  }
  void apply(const sdk::ApplyContext& context, std::string_view command, sdk::Reply& reply) {
    size_t equals = command.find('=');
    if (equals == command.npos) throw_what(command);
    values_[std::string(command.substr(0, equals))] = command.substr(equals + 1);
    reply << context.index << " " << std::numeric_limits<uint64_t>::max();
  }
  void save(sdk::Writer& out) const {
    if (values_.contains("throw-in-save")) throw_what("std");
    out.number<uint32_t>(static_cast<uint32_t>(values_.size()));
    for (const auto& [key, value] : values_) {
      out.counted(key);
      out.counted(value);
    }
  }
  void load(sdk::Reader& in) {
    for (auto left = in.number<uint32_t>(); left > 0; --left) {
      std::string key = in.counted(100);
      values_[key] = in.counted();
    }
  }
  int64_t next_deadline() const {
    auto found = values_.find("deadline");
    if (found == values_.end()) return INT64_MAX;
    if (found->second == "bad") throw_what("std");
    return std::stoll(found->second);
  }
  void on_tick(const sdk::ApplyContext& context) {
    if (context.time_ns == 666) throw_what("std");
    values_.erase("deadline");
  }

 private:
  std::map<std::string, std::string> values_;
  int16_t limit_ = 0;
};

// Neither reads nor timers nor options.
class Plain {
 public:
  void apply(const sdk::ApplyContext&, std::string_view, sdk::Reply&) { ++count_; }
  void save(sdk::Writer& out) const { out.number(count_); }
  void load(sdk::Reader& in) { count_ = in.number<uint16_t>(); }

 private:
  uint16_t count_ = 0;
};

// Counts what it is told; makes one metric too late.
class Counting {
 public:
  explicit Counting(const sdk::Host& host)
      : host_(host),
        commands_(host.counter("commands_total", "Commands.")),
        length_(host.gauge("length", "Of the last command.", "of", "last")),
        time_(host.histogram("apply_seconds", "Of one command.")),
        refused_(host.counter("no_suffix", "Not shown.")) {}
  void apply(const sdk::ApplyContext&, std::string_view command, sdk::Reply&) {
    commands_.add();
    commands_.add(2);
    length_.set(static_cast<double>(command.size()));
    time_.observe(std::chrono::milliseconds(1));
    time_.observe(std::chrono::nanoseconds(-1));
    refused_.add();
    host_.counter("late_total", "Not in create.").add();
  }
  void save(sdk::Writer&) const {}
  void load(sdk::Reader&) {}

 private:
  sdk::Host host_;
  sdk::Counter commands_;
  sdk::Gauge length_;
  sdk::Histogram time_;
  sdk::Counter refused_;
};
constexpr connectd_plugin kCounting =
    sdk::make_plugin<Counting, true>({.name = "counting", .version = "1"});

constexpr connectd_plugin kThrower = sdk::make_plugin<Thrower>({.name = "thrower", .version = "1"});
constexpr connectd_plugin kPlain = sdk::make_plugin<Plain, true>({.name = "plain", .version = "1"});

std::unique_ptr<Instance> thrower(Options options = {}) {
  return make_instance(Plugin::wrap(&kThrower), std::move(options));
}

const std::pair<const char*, const char*> kThrown[] = {
    {"std", "the reason (CONNECTD_E_EXCEPTION, -10)"},
    {"memory", "out of memory (CONNECTD_E_NOMEM, -2)"},
    {"number", "not a std::exception (CONNECTD_E_EXCEPTION, -10)"},
    {"failure", "the disk (CONNECTD_E_IO, -3)"},
    {"none", "a code that is none (CONNECTD_E_FAULT, -1)"}};

TEST(ParseNumber, AcceptsOnlyDigits) {
  EXPECT_EQ(sdk::parse_number<uint64_t>("18446744073709551615"), UINT64_MAX);
  EXPECT_EQ(sdk::parse_number<uint64_t>("007"), 7);
  EXPECT_EQ(sdk::parse_number<int8_t>("-128"), -128);
  for (const char* wrong :
       {"", " 1", "1 ", "1x", "x", "+1", "-1", "0x10", "1.0", "1e3", "18446744073709551616"}) {
    EXPECT_EQ(sdk::parse_number<uint64_t>(wrong), std::nullopt) << wrong;
  }
  EXPECT_EQ(sdk::parse_number<int8_t>("128"), std::nullopt);
  EXPECT_EQ(sdk::parse_number<int8_t>("--1"), std::nullopt);
  EXPECT_EQ(sdk::parse_number<int8_t>({}), std::nullopt);
}

TEST(Wrapper, MetricsAreCounted) {
  auto instance = make_instance(Plugin::wrap(&kCounting));
  ASSERT_NE(instance, nullptr);
  EXPECT_EQ(apply(*instance, 1, "12345"), "");
  const auto metrics = instance->metrics();
  ASSERT_EQ(metrics->all().size(), 3u);
  EXPECT_EQ(metrics->all()[0]->name().name, "commands_total");
  EXPECT_EQ(metrics->all()[0]->count(), 3u);
  EXPECT_EQ(metrics->all()[1]->name().label, "of");
  EXPECT_EQ(metrics->all()[1]->name().value, "last");
  EXPECT_EQ(metrics->all()[1]->level(), 5);
  EXPECT_EQ(metrics->all()[2]->buckets().count(0), 1u);
  EXPECT_EQ(metrics->all()[2]->buckets().sum(), 1'000'000u);
}

// Each instance begins anew, and its metrics can be read when it has gone.
TEST(Wrapper, MetricsBelongToOneInstance) {
  auto instance = make_instance(Plugin::wrap(&kCounting));
  ASSERT_NE(instance, nullptr);
  apply(*instance, 1, "x");
  const auto former = instance->metrics();
  instance = make_instance(Plugin::wrap(&kCounting));
  ASSERT_NE(instance, nullptr);
  EXPECT_EQ(former->all()[0]->count(), 3u);
  EXPECT_EQ(instance->metrics()->all()[0]->count(), 0u);
}

TEST(Wrapper, CreateCatchesEveryException) {
  for (auto [what, text] : kThrown) {
    auto instance = Instance::create(*Plugin::wrap(&kThrower), {{"throw", what}});
    ASSERT_FALSE(instance.has_value());
    EXPECT_THAT(instance.error().text, HasSubstr(text));
  }
}

TEST(Wrapper, CallsCatchEveryException) {
  for (auto [what, text] : kThrown) {
    auto instance = thrower();
    std::string reply;
    auto kind = instance->classify(as_bytes(what), reply);
    ASSERT_FALSE(kind.has_value());
    EXPECT_THAT(kind.error().text, HasSubstr(text));
    EXPECT_THAT(read(*instance, what), HasSubstr(text));
    EXPECT_THAT(apply(*instance, 3, what), HasSubstr(text));
  }
}

TEST(Wrapper, StatusAndReplyReachCaller) {
  auto instance = thrower();
  EXPECT_EQ(apply(*instance, 7, "key=value"), "7 18446744073709551615");
  std::string reply;
  EXPECT_EQ(instance->read({}, as_bytes("key"), reply), 9);
  EXPECT_EQ(reply, "value");
  reply.clear();
  EXPECT_EQ(instance->classify(as_bytes("limit"), reply), RequestKind::kReply);
  EXPECT_EQ(reply, "-7");
}

TEST(Wrapper, OptionNumberRejectsOtherText) {
  auto instance = thrower({{"limit", "-32768"}});
  std::string reply;
  ASSERT_TRUE(instance->classify(as_bytes("limit"), reply).has_value());
  EXPECT_EQ(reply, "-32768");
  for (const char* wrong : {"", "1x", "32768", " 1", "0x10"}) {
    auto refused = Instance::create(*Plugin::wrap(&kThrower), {{"limit", wrong}});
    ASSERT_FALSE(refused.has_value()) << wrong;
    EXPECT_EQ(refused.error().kind, ErrorKind::kBadConfig);
    EXPECT_THAT(refused.error().text, HasSubstr("plugin.options.limit: '" + std::string(wrong) +
                                                "' is not a whole number from -32768 to 32767"));
  }
}

// Values below, at and above the wrapper's buffer of 16384 bytes, and the loader's step of 1 MiB.
TEST(Wrapper, SnapshotRoundTripAtBufferSizes) {
  auto instance = thrower();
  std::string big;
  for (size_t size : {0, 1, 16383, 16384, 16385, 70000, 1 << 20, (1 << 20) + 1}) {
    big.assign(size, static_cast<char>('a' + size % 26));
    apply(*instance, 1, "k" + std::to_string(size) + "=" + big);
  }
  std::string bytes;
  ASSERT_TRUE(instance->snapshot(covering(1, 0), into(bytes)).has_value());
  auto restored = thrower();
  auto result = restored->restore(covering(1, bytes.size()), from(bytes));
  ASSERT_TRUE(result.has_value()) << result.error().text;
  EXPECT_EQ(read(*restored, "k1048577"), big);
  std::string again;
  ASSERT_TRUE(restored->snapshot(covering(1, 0), into(again)).has_value());
  EXPECT_EQ(again, bytes);
}

TEST(Wrapper, TruncatedSnapshotIsRejected) {
  auto instance = thrower();
  apply(*instance, 1, "a=1");
  apply(*instance, 2, "bb=22");
  std::string bytes;
  ASSERT_TRUE(instance->snapshot(covering(2, 0), into(bytes)).has_value());
  for (size_t size = 0; size < bytes.size(); ++size) {
    std::string cut = bytes.substr(0, size);
    auto result = thrower()->restore(covering(2, size), from(cut));
    ASSERT_FALSE(result.has_value()) << size;
    EXPECT_THAT(result.error().text, HasSubstr("the snapshot ends early (CONNECTD_E_CORRUPT"));
  }
  std::string longer = bytes + "x";
  auto result = thrower()->restore(covering(2, longer.size()), from(longer));
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().text, HasSubstr("longer than what load() read"));
}

TEST(Wrapper, SnapshotLengthIsNotTrusted) {
  // One pair whose key claims 2^56 bytes, then one whose value does.
  std::string key(12, '\0');
  key[0] = 1;
  key[11] = 1;
  auto result = thrower()->restore(covering(1, key.size()), from(key));
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().text, HasSubstr("over its limit"));
  std::string value(20, '\0');
  value[0] = 1;
  value[19] = 1;
  result = thrower()->restore(covering(1, value.size()), from(value));
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().text, HasSubstr("the snapshot ends early"));
}

TEST(Wrapper, FailedSaveOrSinkFailsSnapshot) {
  auto instance = thrower();
  apply(*instance, 1, "a=1");
  auto result = instance->snapshot(covering(1, 0), [](ByteView) -> Result<void> {
    return failure(ErrorKind::kDisk, "disk full");
  });
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().text, "disk full");
  apply(*instance, 2, "throw-in-save=1");
  std::string bytes;
  result = instance->snapshot(covering(2, 0), into(bytes));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kPluginFailed);
  EXPECT_THAT(result.error().text, HasSubstr("failed in snapshot at index 2: the reason"));
}

TEST(Wrapper, TimersTickAtDeadline) {
  auto instance = thrower();
  ASSERT_TRUE(instance->has_timers());
  EXPECT_EQ(instance->next_deadline(), std::nullopt);
  apply(*instance, 1, "deadline=500");
  EXPECT_EQ(instance->next_deadline(), 500);
  ASSERT_TRUE(instance->on_tick(entry(2)).has_value());
  EXPECT_EQ(instance->next_deadline(), std::nullopt);
  ApplyContext bad = entry(3);
  bad.time_ns = 666;
  auto result = instance->on_tick(bad);
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().text, HasSubstr("failed in on_tick at index 3: the reason"));
}

TEST(Wrapper, ThrowingDeadlineIsAFault) {
  auto instance = thrower();
  apply(*instance, 1, "deadline=bad");
  auto result = instance->next_deadline();
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kPluginFailed);
  EXPECT_THAT(result.error().text, HasSubstr("failed in next_deadline: the reason"));
}

TEST(Wrapper, ReadsAndTimersAreOptional) {
  EXPECT_EQ(kPlain.classify, nullptr);
  EXPECT_EQ(kPlain.read, nullptr);
  auto instance = make_instance(Plugin::wrap(&kPlain));
  EXPECT_FALSE(instance->has_timers());
  EXPECT_EQ(instance->next_deadline(), std::nullopt);
  apply(*instance, 1, "x");
  std::string bytes;
  ASSERT_TRUE(instance->snapshot(covering(1, 0), into(bytes)).has_value());
  EXPECT_EQ(bytes, std::string("\1\0", 2));
}

}  // namespace
}  // namespace connectd::plugin

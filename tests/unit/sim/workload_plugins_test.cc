// The state machines that only tests host: that the host takes them, and that they do what the
// checkers rely on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "sim/simulation.h"
#include "tests/unit/sim/support.h"

namespace connectd::sim {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

std::string apply(plugin::Instance& instance, uint64_t index, const std::string& request) {
  plugin::ApplyContext context;
  context.index = Index(index);
  std::string reply;
  auto status = instance.apply(context, as_bytes(request), reply);
  CHECK(status.has_value()) << status.error().text;
  EXPECT_EQ(*status, CONNECTD_OK);
  return reply;
}

std::string read(const plugin::Instance& instance, const std::string& request = "get") {
  std::string reply;
  auto status = instance.read({}, as_bytes(request), reply);
  CHECK(status.has_value()) << status.error().text;
  EXPECT_EQ(*status, CONNECTD_OK);
  return reply;
}

std::string snapshot(plugin::Instance& instance) {
  std::string bytes;
  auto written = instance.snapshot({}, [&](ByteView part) -> Result<void> {
    bytes += as_text(part);
    return {};
  });
  CHECK(written.has_value()) << written.error().text;
  return bytes;
}

Result<void> restore(plugin::Instance& instance, std::string_view bytes) {
  plugin::SnapshotContext context;
  context.length = bytes.size();
  return instance.restore(context, [&](std::span<uint8_t> to) -> Result<size_t> {
    std::memcpy(to.data(), bytes.data(), to.size());
    bytes.remove_prefix(to.size());
    return to.size();
  });
}

TEST(Chain, ReplyOfAWriteIsTheStateThatReadsGive) {
  auto chain = make_instance(load_plugin("tests/plugins/libchain.so"));
  std::string reply;
  EXPECT_EQ(chain->classify(as_bytes("add 1"), reply), plugin::RequestKind::kWrite);
  EXPECT_EQ(chain->classify(as_bytes("add"), reply), plugin::RequestKind::kRead);
  EXPECT_EQ(read(*chain), "0000000000000000 0\n");
  std::string state = apply(*chain, 4, "add 1");
  EXPECT_THAT(state, MatchesRegex("[0-9a-f]{16}\n"));
  EXPECT_EQ(read(*chain), state.substr(0, 16) + " 1\n");
}

// A known value: checkers that compute the same function (sim/models.cc) must not drift with it.
TEST(Chain, FunctionIsTheDocumentedOne) {
  auto chain = make_instance(load_plugin("tests/plugins/libchain.so"));
  EXPECT_EQ(apply(*chain, 5, "add a"), "a8783f4e0c2ec925\n");
  EXPECT_EQ(apply(*chain, 9, "add b"), "5444e97cdfa038ef\n");
}

TEST(Chain, EveryDifferenceShows) {
  auto plugin = load_plugin("tests/plugins/libchain.so");
  using Commands = std::vector<std::pair<uint64_t, std::string>>;
  const std::vector<Commands> histories = {
      {{2, "add a"}, {3, "add b"}},                // as it was
      {{2, "add b"}, {3, "add a"}},                // swapped
      {{2, "add a"}, {4, "add b"}},                // at another index
      {{2, "add a"}},                              // lost
      {{2, "add a"}, {3, "add a"}, {4, "add b"}},  // doubled
      {{2, "add a"}, {3, "add c"}},                // another command
      {{2, "add a"}, {3, "add b\n"}},              // another end
  };
  std::set<std::string> states;
  for (const Commands& commands : histories) {
    auto chain = make_instance(plugin);
    for (const auto& [index, request] : commands) apply(*chain, index, request);
    EXPECT_TRUE(states.insert(snapshot(*chain)).second) << read(*chain);
  }
}

TEST(Chain, SnapshotHoldsAllOfIt) {
  auto plugin = load_plugin("tests/plugins/libchain.so");
  EXPECT_TRUE(plugin->has_flag(CONNECTD_F_CANONICAL_SNAPSHOT));
  auto chain = make_instance(plugin);
  for (uint64_t i = 2; i < 9; ++i) apply(*chain, i, "add " + std::to_string(i));
  auto restored = make_instance(plugin);
  ASSERT_TRUE(restore(*restored, snapshot(*chain)).has_value());
  EXPECT_EQ(read(*restored), read(*chain));
  EXPECT_EQ(apply(*restored, 9, "add x"), apply(*chain, 9, "add x"));
  EXPECT_EQ(snapshot(*restored), snapshot(*chain));
  EXPECT_FALSE(restore(*make_instance(plugin), "0123456789").has_value());
  EXPECT_FALSE(restore(*make_instance(plugin), "0123456789abcdefg").has_value());
}

TEST(RandomPlugin, TwoInstancesDiffer) {
  auto plugin = load_plugin("tests/plugins/librandom.so");
  auto a = make_instance(plugin);
  auto b = make_instance(plugin);
  std::string replies_of_a, replies_of_b;
  for (uint64_t i = 2; i < 34; ++i) {  // equal by chance: once in 2^256
    replies_of_a += apply(*a, i, "incr");
    replies_of_b += apply(*b, i, "incr");
  }
  EXPECT_NE(replies_of_a, replies_of_b);
  auto restored = make_instance(plugin);
  ASSERT_TRUE(restore(*restored, snapshot(*a)).has_value());
  EXPECT_EQ(read(*restored), read(*a));
}

// The simulator names the first index at which replicas of it differ, and both replies.
TEST(RandomPlugin, SimulatorReportsItsFirstIndexAndBothReplies) {
  set_log_level(LogLevel::kError);
  SimOptions options;
  options.seed = 7;
  options.plugin = load_plugin("tests/plugins/librandom.so");
  SimReport report = Simulation(options).run();
  EXPECT_THAT(report.failure,
              AllOf(HasSubstr("not deterministic: first at index"),
                    MatchesRegex(".* replied '[0-9]+\\\\n' .* replied '[0-9]+\\\\n' .*")));
}

std::string failure_with(const std::string& read, uint64_t seed) {
  set_log_level(LogLevel::kError);
  SimOptions options;
  options.seed = seed;
  options.plugin = load_plugin("tests/plugins/libtouching.so");
  options.requests = {"incr {n}", read};
  return Simulation(options).run().failure;
}

// No reply ever shows it. Snapshots that differ may stop a node before the end of the run.
TEST(TouchingPlugin, SimulatorNamesTheChangingRead) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const std::string read = failure_with("get", seed);
    EXPECT_THAT(read, AllOf(StartsWith("a read changes nothing: "), HasSubstr("'get'")));
    EXPECT_EQ(failure_with("look", seed),
              "a read changes nothing: 'look' changes the state of the plugin");
    EXPECT_EQ(failure_with("value", seed), "");
  }
  EXPECT_THAT(failure_with("test", 1),
              AllOf(StartsWith("a read changes nothing: "), HasSubstr("'test'")));
}

TEST(Chain, SimulatorRunsIt) {
  set_log_level(LogLevel::kError);
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SimOptions options;
    options.seed = seed;
    options.plugin = load_plugin("tests/plugins/libchain.so");
    SimReport report = Simulation(options).run();
    ASSERT_EQ(report.failure, "") << "seed " << seed;
    EXPECT_GT(report.acknowledged, 0u);
  }
}

}  // namespace
}  // namespace connectd::sim

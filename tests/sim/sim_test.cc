// Whole clusters in one thread, from a seed. CONNECTD_SIM_SEEDS=N and CONNECTD_SIM_SEED=FIRST
// change how many and which; CONNECTD_SIM_TRACE=1 prints what happens. A failure names its seed and
// the command that replays it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/log.h"
#include "sim/simulation.h"
#include "sim/workload.h"
#include "tests/paths.h"

namespace connectd::sim {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

uint64_t from_environment(const char* name, uint64_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

std::shared_ptr<const plugin::Plugin> load(const std::string& file) {
  plugin::LoadOptions options;
  options.path = CONNECTD_BINARY_DIR "/" + file;
  auto loaded = plugin::Plugin::load(options);
  CHECK(loaded.has_value()) << loaded.error().text;
  return *loaded;
}

// Fewer than a hundred were asked for: under a sanitizer, where one costs as much as ten.
bool few_seeds() { return from_environment("CONNECTD_SIM_SEEDS", 100) < 100; }

class SimulationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_level(from_environment("CONNECTD_SIM_TRACE", 0) > 1 ? LogLevel::kInfo
                                                                : LogLevel::kError);
  }
  static SimOptions options_for_random(uint64_t seed) {
    SimOptions options = options_for(load("tests/plugins/librandom.so"), seed);
    options.requests = {"incr {n}", "get"};
    return options;
  }
  static SimOptions options_for(const std::shared_ptr<const plugin::Plugin>& plugin,
                                uint64_t seed) {
    SimOptions options;
    options.seed = seed;
    options.nodes = seed % 5 == 0 ? 5 : 3;
    options.plugin = plugin;
    if (from_environment("CONNECTD_SIM_TRACE", 0) != 0) {
      options.trace = [](std::string_view line) { fmt::print(stderr, "{}\n", line); };
    }
    return options;
  }

  void run_seeds(const std::string& path, uint64_t seeds) {
    auto plugin = load(path);
    const std::string name = plugin->name();
    uint64_t first = from_environment("CONNECTD_SIM_SEED", 1);
    uint64_t count = from_environment("CONNECTD_SIM_SEEDS", seeds);
    SimReport sum;
    for (uint64_t seed = first; seed < first + count; ++seed) {
      SimReport report = Simulation(options_for(plugin, seed)).run();
      ASSERT_EQ(report.failure, "")
          << "seed " << seed << ", replay: connectctl sim --plugin " << path << " --seed " << seed
          << " --nodes " << (seed % 5 == 0 ? 5 : 3);
      sum.add(report);
      if (seed % 100 == 0) {
        EXPECT_EQ(Simulation(options_for(plugin, seed)).run().trace_hash, report.trace_hash)
            << "seed " << seed << " went another way the second time";
      }
    }
    fmt::print(
        "{}: seeds {}..{}: {} events, {} simulated seconds, {} elections, {} crashes, {} "
        "partitions, {} snapshots taken, {} installed, {} transfers resumed, {} captured (failed "
        "{}, "
        "overtaken {}, cut {}), {} log cuts; {} writes "
        "acknowledged, {} unknown, {} refused, {} reads; slowest recovery {} ms; searched {}, too "
        "large {}\n",
        name, first, first + count - 1, sum.events, sum.simulated / std::chrono::seconds(1),
        sum.elections, sum.crashes, sum.partitions, sum.snapshots_taken, sum.snapshots_installed,
        sum.snapshots_resumed, sum.captures.written, sum.captures.failed, sum.captures.cancelled,
        sum.captures.cut, sum.log_cuts, sum.acknowledged, sum.unknown, sum.refused, sum.reads,
        sum.slowest_recovery / std::chrono::milliseconds(1), sum.searched, sum.search_exhausted);
    if (count < 100) return;
    // A fault that never bites tests nothing.
    for (size_t i = 0; i < kFaults; ++i) {
      Fault fault = static_cast<Fault>(i);
      EXPECT_GT(sum.faults[fault].injected, 0u) << fault_name(fault);
      EXPECT_GT(sum.faults[fault].bitten, 0u) << fault_name(fault);
    }
    EXPECT_GT(sum.searched, count / 10);
    EXPECT_GT(sum.snapshots_taken, count);
    EXPECT_GT(sum.snapshots_installed, 0u);
    EXPECT_GT(sum.captures.written, count);
    EXPECT_GT(sum.captures.failed, 0u);
    EXPECT_GT(sum.captures.cut, 0u);  // the process ended first
    EXPECT_GT(sum.log_cuts, 0u);
    EXPECT_GT(sum.acknowledged, count * 100);
    EXPECT_GT(sum.reads, count * 10);
    if (count < 200) return;
    EXPECT_GT(sum.snapshots_resumed, 0u);
    EXPECT_GT(sum.captures.cancelled, 0u);  // a snapshot from the leader came first
  }
};

TEST_F(SimulationTest, CounterUnderAllFaults) { run_seeds("plugins/libcounter.so", 300); }
TEST_F(SimulationTest, KeyValueStoreUnderAllFaults) { run_seeds("plugins/libkv.so", 200); }
TEST_F(SimulationTest, HashChainUnderAllFaults) { run_seeds("tests/plugins/libchain.so", 200); }

// Even numbers have no use and do no harm; one, two and seven are the ends of what is supported.
TEST_F(SimulationTest, ClustersOfOneToSevenNodes) {
  auto plugin = load("plugins/libcounter.so");
  const uint64_t first = from_environment("CONNECTD_SIM_SEED", 1);
  const uint64_t count = few_seeds() ? 1 : 12;
  for (size_t nodes : {1, 2, 4, 6, 7}) {
    SimReport sum;
    for (uint64_t seed = first; seed < first + count; ++seed) {
      SimOptions options = options_for(plugin, seed);
      options.nodes = nodes;
      SimReport report = Simulation(options).run();
      ASSERT_EQ(report.failure, "") << nodes << " nodes, seed " << seed;
      sum.add(report);
    }
    EXPECT_GT(sum.acknowledged, count * 50) << nodes << " nodes";
  }
}

TEST_F(SimulationTest, StalledLeaderIsReplacedInTenTimeouts) {
  auto plugin = load("plugins/libcounter.so");
  SimReport sum;
  for (uint64_t seed = 1; seed <= (few_seeds() ? 1 : 20); ++seed) {
    SimOptions options = options_for(plugin, seed);
    options.clients = 1;
    options.faulty_time = std::chrono::seconds(90);
    options.faults = *FaultSet::parse("disk_stall,tiny_limits,clock_jump");
    SimReport report = Simulation(options).run();
    ASSERT_EQ(report.failure, "") << "seed " << seed;
    sum.add(report);
  }
  if (few_seeds()) return;
  EXPECT_GT(sum.stalled_leaders, 3u) << "nothing was tested";
}

// Full disks alone end no process, and a write that answers DISKFULL did not happen.
TEST_F(SimulationTest, FullDisksAreBorneByThemselves) {
  auto plugin = load("plugins/libcounter.so");
  SimReport sum;
  for (uint64_t seed = 1; seed <= (few_seeds() ? 1 : 15); ++seed) {
    SimOptions options = options_for(plugin, seed);
    options.clients = 3;
    options.faulty_time = std::chrono::seconds(30);
    options.faults = *FaultSet::parse("disk_full,tiny_limits,disk_slow");
    SimReport report = Simulation(options).run();
    ASSERT_EQ(report.failure, "") << "seed " << seed;
    sum.add(report);
  }
  if (few_seeds()) return;
  EXPECT_GT(sum.faults[Fault::kDiskFull].bitten, 10u);
  EXPECT_GT(sum.refused, 100u);
}

TEST_F(SimulationTest, NamesNondeterministicPlugin) {
  SimReport report = Simulation(options_for_random(1)).run();
  EXPECT_THAT(report.failure,
              MatchesRegex("same reply: the plugin is not deterministic: first at index [0-9]+, "
                           "request 'incr [0-9]+': node [1-3] replied '[0-9]+.n' \\(status 0\\), "
                           "node [1-3] replied '[0-9]+.n' \\(status 0\\)"));
}

TEST_F(SimulationTest, FailureIsShrunkToWhatItNeeds) {
  SimOptions options = options_for_random(1);
  SimOptions shorter = shrink(options, Simulation(options).run().failure, 100);
  EXPECT_EQ(shorter.faults, FaultSet::none());
  EXPECT_EQ(shorter.clients, 1u);
  EXPECT_THAT(Simulation(shorter).run().failure, StartsWith("same reply: "));
}

TEST_F(SimulationTest, StepsBoundTheFaultyPhaseAndFaultsCanBeLeftOut) {
  SimOptions options = options_for(load("plugins/libcounter.so"), 3);
  options.steps = 5000;
  options.faults = FaultSet::none();
  SimReport report = Simulation(options).run();
  EXPECT_EQ(report.failure, "");
  EXPECT_GT(report.events, 5000u);
  EXPECT_LT(report.events, 20'000u);
  for (size_t i = 0; i < kFaults; ++i) {
    EXPECT_EQ(report.faults.counts[i].injected, 0u) << fault_name(static_cast<Fault>(i));
  }
  EXPECT_LE(report.elections, 2u) << "the first leader, and one when it stays down for a while";
}

TEST(Faults, AreNamedOneByOne) {
  EXPECT_EQ(*FaultSet::parse("all"), FaultSet::all());
  EXPECT_EQ(*FaultSet::parse("none"), FaultSet::none());
  FaultSet two;
  two.set(Fault::kPause);
  two.set(Fault::kMessageLoss);
  EXPECT_EQ(*FaultSet::parse("message_loss,pause"), two);
  EXPECT_EQ(two.to_string(), "message_loss,pause");
  FaultSet most = FaultSet::all();
  most.set(Fault::kBitFlip, false);
  EXPECT_EQ(most.to_string(), "all,-bit_flip");
  EXPECT_EQ(*FaultSet::parse(most.to_string()), most);
  EXPECT_THAT(FaultSet::parse("pause,earthquake").error().text,
              HasSubstr("there is no fault 'earthquake'; there are: message_loss, "));
  EXPECT_FALSE(FaultSet::parse(""));
}

TEST(Requests, AreReadFromLines) {
  auto lines = Workload::parse_templates("# a comment\nincr {n}\r\n\nget\\r\\n\\x41\\\\\n");
  ASSERT_TRUE(lines) << lines.error().text;
  EXPECT_THAT(*lines, ElementsAre("incr {n}", "get\r\nA\\"));
  EXPECT_THAT(Workload::parse_templates("ok\nbad \\q\n").error().text, HasSubstr("line 2"));
  EXPECT_FALSE(Workload::parse_templates("# nothing\n"));
}

TEST(Requests, WithoutAWriteAreRefused) {
  auto counter = load("plugins/libcounter.so");
  EXPECT_THAT(Workload::make(counter, {"get"}).error().text, HasSubstr("none of the requests"));
}

}  // namespace
}  // namespace connectd::sim

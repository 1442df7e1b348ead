// Whole clusters in one thread, from a seed. CONNECTD_SIM_SEEDS=N and CONNECTD_SIM_SEED=FIRST
// change how many and which; CONNECTD_SIM_TRACE=1 prints what happens. A failure names its seed and
// the command that replays it.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/log.h"
#include "sim/simulation.h"

namespace connectd::sim {
namespace {

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

class SimulationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_level(from_environment("CONNECTD_SIM_TRACE", 0) > 1 ? LogLevel::kInfo
                                                                : LogLevel::kError);
  }
  static SimOptions options_for(const std::shared_ptr<const plugin::Plugin>& plugin,
                                uint64_t seed) {
    SimOptions options;
    options.seed = seed;
    options.nodes = seed % 5 == 0 ? 5 : 3;
    options.plugin = plugin;
    if (from_environment("CONNECTD_SIM_TRACE", 0) != 0) {
      options.trace = [](std::string_view line) {
        fmt::print(stderr, "{}\n", line);
      };
    }
    return options;
  }

  void run_seeds(const std::string& name, uint64_t seeds) {
    auto plugin = load("plugins/lib" + name + ".so");
    uint64_t first = from_environment("CONNECTD_SIM_SEED", 1);
    uint64_t count = from_environment("CONNECTD_SIM_SEEDS", seeds);
    SimReport sum;
    for (uint64_t seed = first; seed < first + count; ++seed) {
      SimReport report = Simulation(options_for(plugin, seed)).run();
      ASSERT_EQ(report.failure, "")
          << "seed " << seed << ", replay: connectctl sim --plugin " << name << " --seed " << seed
          << " --nodes " << (seed % 5 == 0 ? 5 : 3);
      sum.add(report);
      if (seed % 100 == 0) {
        EXPECT_EQ(Simulation(options_for(plugin, seed)).run().trace_hash, report.trace_hash)
            << "seed " << seed << " went another way the second time";
      }
    }
    fmt::print("{}: seeds {}..{}: {} events, {} simulated seconds, {} elections, {} crashes, {} "
               "partitions, {} snapshots taken, {} installed, {} log cuts; {} writes "
               "acknowledged, {} unknown, {} refused, {} reads; slowest recovery {} ms\n",
               name, first, first + count - 1, sum.events, sum.simulated / std::chrono::seconds(1),
               sum.elections, sum.crashes, sum.partitions, sum.snapshots_taken,
               sum.snapshots_installed, sum.log_cuts, sum.acknowledged, sum.unknown, sum.refused,
               sum.reads, sum.slowest_recovery / std::chrono::milliseconds(1));
    if (count < 100) return;
    // A fault that never bites tests nothing.
    for (size_t i = 0; i < kFaults; ++i) {
      Fault fault = static_cast<Fault>(i);
      EXPECT_GT(sum.faults[fault].injected, 0u) << fault_name(fault);
      EXPECT_GT(sum.faults[fault].bitten, 0u) << fault_name(fault);
    }
    EXPECT_GT(sum.snapshots_taken, count);
    EXPECT_GT(sum.snapshots_installed, 0u);
    EXPECT_GT(sum.log_cuts, 0u);
    EXPECT_GT(sum.acknowledged, count * 100);
    EXPECT_GT(sum.reads, count * 10);
  }
};

TEST_F(SimulationTest, TheCounterUnderAllFaults) { run_seeds("counter", 200); }
TEST_F(SimulationTest, TheKeyValueStoreUnderAllFaults) { run_seeds("kv", 100); }

}  // namespace
}  // namespace connectd::sim

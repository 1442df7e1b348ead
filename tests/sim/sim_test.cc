// Whole clusters in one thread, from a seed. CONNECTD_SIM_SEEDS=N and CONNECTD_SIM_SEED=FIRST
// change how many and which; CONNECTD_SIM_TRACE=1 prints what happens. A failure names its seed.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/log.h"
#include "sim/faulty_file_system.h"
#include "sim/simulation.h"

namespace connectd::sim {
namespace {

class MemoryDisk final : public SimulatedDisk {
 public:
  explicit MemoryDisk(uint64_t seed) : files_(seed) {}
  storage::FileSystem& files() override { return files_; }
  void crash() override { files_.crash(); }

 private:
  sim::FaultyFileSystem files_;
};

uint64_t from_environment(const char* name, uint64_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

SimOptions options_for(uint64_t seed) {
  static auto plugin = [] {
    plugin::LoadOptions load;
    load.path = CONNECTD_BINARY_DIR "/plugins/libcounter.so";
    return plugin::Plugin::load(load);
  }();
  CHECK(plugin.has_value()) << plugin.error().text;
  SimOptions options;
  options.seed = seed;
  options.nodes = seed % 5 == 0 ? 5 : 3;
  options.plugin = *plugin;
  options.trace = from_environment("CONNECTD_SIM_TRACE", 0) != 0;
  options.make_disk = [](uint64_t disk_seed) { return std::make_unique<MemoryDisk>(disk_seed); };
  return options;
}

TEST(Simulation, ManySeedsUnderFaultsLoseNothing) {
  set_log_level(from_environment("CONNECTD_SIM_TRACE", 0) != 0 ? LogLevel::kInfo
                                                               : LogLevel::kError);
  uint64_t first = from_environment("CONNECTD_SIM_SEED", 1);
  uint64_t count = from_environment("CONNECTD_SIM_SEEDS", 500);
  SimReport sum;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SimReport report = Simulation(options_for(seed)).run();
    ASSERT_EQ(report.failure, "") << "replay: CONNECTD_SIM_SEED=" << seed
                                  << " CONNECTD_SIM_SEEDS=1 CONNECTD_SIM_TRACE=1 sim_test";
    sum.events += report.events;
    sum.crashes += report.crashes;
    sum.partitions += report.partitions;
    sum.messages_lost += report.messages_lost;
    sum.messages_doubled += report.messages_doubled;
    sum.connections_broken += report.connections_broken;
    sum.elections += report.elections;
    sum.snapshots_taken += report.snapshots_taken;
    sum.snapshots_installed += report.snapshots_installed;
    sum.acknowledged += report.acknowledged;
    sum.unknown += report.unknown;
    sum.refused += report.refused;
    sum.reads += report.reads;
    sum.simulated += report.simulated;
    if (seed % 100 == 0) {
      EXPECT_EQ(Simulation(options_for(seed)).run().trace_hash, report.trace_hash)
          << "seed " << seed << " went another way the second time";
    }
  }
  std::printf(
      "seeds %lu..%lu: %lu events, %ld simulated seconds, %lu elections, %lu crashes, %lu "
      "partitions, "
      "%lu messages lost, %lu doubled, %lu connections broken, %lu snapshots taken, %lu installed; "
      "%lu writes acknowledged, %lu unknown, %lu refused, %lu reads\n",
      first, first + count - 1, sum.events, sum.simulated / std::chrono::seconds(1), sum.elections,
      sum.crashes, sum.partitions, sum.messages_lost, sum.messages_doubled, sum.connections_broken,
      sum.snapshots_taken, sum.snapshots_installed, sum.acknowledged, sum.unknown, sum.refused,
      sum.reads);
  // A fault that never bites tests nothing.
  if (count >= 100) {
    EXPECT_GT(sum.crashes, count);
    EXPECT_GT(sum.partitions, 0u);
    EXPECT_GT(sum.messages_lost, 0u);
    EXPECT_GT(sum.messages_doubled, 0u);
    EXPECT_GT(sum.snapshots_taken, 0u);
    EXPECT_GT(sum.snapshots_installed, 0u);
    EXPECT_GT(sum.unknown, 0u);
    EXPECT_GT(sum.acknowledged, count * 100);
    EXPECT_GT(sum.reads, count * 10);
  }
}

}  // namespace
}  // namespace connectd::sim

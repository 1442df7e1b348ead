#include "sim/faults.h"

#include <fmt/format.h>

namespace connectd::sim {
namespace {
constexpr std::array<std::string_view, kFaults> kFaultNames = {
    "message_loss",
    "message_duplicate",
    "message_delay",
    "clogged_link",
    "connection_break",
    "partition",
    "partition_one_way",
    "partition_bridge",
    "partition_flapping",
    "partition_swizzle",
    "crash_power",
    "crash_process",
    "crash_all",
    "pause",
    "clock_rate",
    "clock_jump",
    "disk_slow",
    "disk_stall",
    "write_lost",
    "write_torn",
    "write_error",
    "sync_error",
    "disk_full",
    "bit_flip",
    "misdirected_write",
    "disk_wiped",
    "tiny_limits",
    "membership",
    "slow_reader",
    "no_descriptors",
    "changed_bit",
    "stranger",
    "slow_plugin",
    "slow_turn",
    "clone",
    "hostile_bytes",
    "foreign_cluster",
    "small_links",
    "large_requests",
    "bootstrap",
    "wrong_clock",
    "connection_replaced",
};
}  // namespace

std::string_view fault_name(Fault fault) { return kFaultNames[static_cast<size_t>(fault)]; }

FaultSet FaultSet::all() {
  FaultSet set;
  set.bits_.set();
  return set;
}

Result<FaultSet> FaultSet::parse(std::string_view text) {
  FaultSet set;
  if (text.empty()) return failure(ErrorKind::kUsage, "no fault is named: give 'none' for none");
  while (!text.empty()) {
    size_t comma = std::min(text.find(','), text.size());
    std::string_view word = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    bool on = !word.starts_with('-');
    std::string_view name = on ? word : word.substr(1);
    if (name == "all") {
      for (size_t i = 0; i < kFaults; ++i) set.bits_[i] = on;
      continue;
    }
    if (name == "none" && on) {
      set.bits_.reset();
      continue;
    }
    size_t i = 0;
    while (i < kFaults && kFaultNames[i] != name) ++i;
    if (i == kFaults) {
      return failure(ErrorKind::kUsage, fmt::format("there is no fault '{}'; there are: {}", name,
                                                    fmt::join(kFaultNames, ", ")));
    }
    set.bits_[i] = on;
  }
  return set;
}

std::string FaultSet::to_string() const {
  if (bits_.all()) return "all";
  if (bits_.none()) return "none";
  bool most = bits_.count() > kFaults / 2;
  std::string text = most ? "all" : "";
  for (size_t i = 0; i < kFaults; ++i) {
    if (bits_[i] == most) continue;
    if (!text.empty()) text += ',';
    if (most) text += '-';
    text += kFaultNames[i];
  }
  return text;
}

void FaultCounts::add(const FaultCounts& other) {
  for (size_t i = 0; i < kFaults; ++i) {
    counts[i].injected += other.counts[i].injected;
    counts[i].bitten += other.counts[i].bitten;
    counts[i].seeds += other.counts[i].seeds;
  }
}

}  // namespace connectd::sim

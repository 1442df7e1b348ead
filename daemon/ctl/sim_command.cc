// `connectctl sim`: runs the simulator with a user's plugin.
#include <signal.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <chrono>
#include <cstring>
#include <ctime>
#include <deque>
#include <filesystem>

#include "base/log.h"
#include "base/version.h"
#include "config/values.h"
#include "ctl/commands.h"
#include "plugin/plugin.h"
#include "sim/simulation.h"
#include "sim/workload.h"
#include "storage/file_system.h"

namespace connectd::ctl {
namespace {
namespace json = boost::json;
using Clock = std::chrono::steady_clock;

constexpr size_t kLastLines = 60;
constexpr size_t kShrinkRuns = 60;
constexpr size_t kMaxRequestsFile = 1 << 20;
constexpr auto kProgressInterval = std::chrono::seconds(10);

// After a broken invariant (CHECK) or a crash of the plugin: prints to stderr how to replay it.
char g_replay[1024];
extern "C" void tell_replay(int number) {
  ssize_t ignored = write(STDERR_FILENO, g_replay, std::strlen(g_replay));
  (void)ignored;
  signal(number, SIG_DFL);
  raise(number);
}

struct Plan {
  sim::SimOptions options;
  uint64_t first_seed = 1;
  uint64_t seeds = 1;  // 0: as many as fit into `minutes`
  std::optional<Duration> time;
};

config::Parsed<uint64_t> number_option(const Context& context, const std::string& name,
                                       uint64_t fallback, uint64_t low, uint64_t high) {
  if (!context.has(name)) return fallback;
  const std::string text = context.option(name);
  uint64_t value = 0;
  for (char c : text) {
    if (c < '0' || c > '9' || value > UINT64_MAX / 10 - 10) {
      return tl::unexpected<std::string>(
          fmt::format("--{}: '{}' must be a whole number", name, text));
    }
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  if (text.empty() || value < low || value > high) {
    return tl::unexpected<std::string>(
        fmt::format("--{}: '{}' must be between {} and {}", name, text, low, high));
  }
  return value;
}

Result<Plan> make_plan(const Context& context) {
  Plan plan;
  if (!context.has("plugin")) {
    return failure(ErrorKind::kUsage, "missing --plugin FILE");
  }
  auto seed = number_option(context, "seed", 1, 0, UINT64_MAX / 2);
  if (!seed) return failure(ErrorKind::kUsage, seed.error());
  auto seeds = number_option(context, "seeds", context.has("minutes") ? 0 : 1, 1, UINT64_MAX / 2);
  if (!seeds && context.has("seeds")) return failure(ErrorKind::kUsage, seeds.error());
  auto steps = number_option(context, "steps", 0, 1000, 1'000'000'000);
  if (!steps) return failure(ErrorKind::kUsage, steps.error());
  auto nodes = number_option(context, "nodes", 0, 1, 9);
  if (!nodes) return failure(ErrorKind::kUsage, nodes.error());
  auto minutes = number_option(context, "minutes", 0, 1, 100'000);
  if (!minutes) return failure(ErrorKind::kUsage, minutes.error());
  plan.first_seed = *seed;
  plan.seeds = seeds ? *seeds : 0;
  plan.options.steps = *steps;
  plan.options.nodes = *nodes;
  if (*minutes > 0) plan.time = std::chrono::minutes(*minutes);
  if (context.has("faults")) {
    auto faults = sim::FaultSet::parse(context.option("faults"));
    if (!faults) return failure(ErrorKind::kUsage, "--faults: " + faults.error().text);
    plan.options.faults = *faults;
  }
  plugin::LoadOptions load;
  load.path = context.option("plugin");
  auto plugin = plugin::Plugin::load(load);
  if (!plugin) return failure(plugin.error());
  for (const std::string& warning : (*plugin)->warnings()) {
    context.streams.err << "connectctl: " << warning << "\n";
  }
  plan.options.plugin = *plugin;
  if (context.has("requests")) {
    auto files = storage::make_real_file_system();
    auto text = storage::read_file(*files, context.option("requests"), kMaxRequestsFile);
    if (!text) return failure(text.error());
    auto requests = sim::Workload::parse_templates(*text);
    if (!requests) {
      return failure(requests.error().kind,
                     fmt::format("{}: {}", context.option("requests"), requests.error().text));
    }
    plan.options.requests = std::move(*requests);
  }
  auto workload = sim::Workload::make(plan.options.plugin, plan.options.requests);
  if (!workload) return failure(workload.error());
  return plan;
}

// Without --nodes: three, and five every fifth time.
sim::SimOptions options_of(const Plan& plan, uint64_t seed) {
  sim::SimOptions options = plan.options;
  options.seed = seed;
  if (options.nodes == 0) options.nodes = seed % 5 == 0 ? 5 : 3;
  return options;
}

std::string replay_of(const Context& context, const sim::SimOptions& options) {
  std::string text = fmt::format("connectctl sim --plugin {} --seed {} --nodes {}",
                                 context.option("plugin"), options.seed, options.nodes);
  if (options.steps > 0) text += fmt::format(" --steps {}", options.steps);
  if (options.clients != sim::SimOptions().clients) {
    text += fmt::format(" --clients {}", options.clients);
  }
  if (options.faults != sim::FaultSet::all()) {
    text += fmt::format(" --faults {}", options.faults.to_string());
  }
  if (context.has("requests")) text += " --requests " + context.option("requests");
  return text;
}

void print_totals(const Context& context, const sim::SimReport& sum, uint64_t first, uint64_t seeds,
                  uint64_t violations, double wall_seconds, double core_seconds) {
  const double simulated = std::chrono::duration<double>(sum.simulated).count();
  if (context.json) {
    json::object faults;
    for (size_t i = 0; i < sim::kFaults; ++i) {
      sim::Fault fault = static_cast<sim::Fault>(i);
      faults[std::string(sim::fault_name(fault))] =
          json::object{{"injected", sum.faults[fault].injected},
                       {"bitten", sum.faults[fault].bitten},
                       {"seeds", sum.faults[fault].seeds}};
    }
    context.streams.out << json::serialize(
                               json::object{{"first_seed", first},
                                            {"seeds", seeds},
                                            {"events", sum.events},
                                            {"simulated_seconds", simulated},
                                            {"wall_seconds", wall_seconds},
                                            {"core_seconds", core_seconds},
                                            {"elections", sum.elections},
                                            {"crashes", sum.crashes},
                                            {"partitions", sum.partitions},
                                            {"connections_broken", sum.connections_broken},
                                            {"snapshots_taken", sum.snapshots_taken},
                                            {"snapshots_installed", sum.snapshots_installed},
                                            {"snapshots_resumed", sum.snapshots_resumed},
                                            {"log_cuts", sum.log_cuts},
                                            {"acknowledged", sum.acknowledged},
                                            {"unknown", sum.unknown},
                                            {"refused", sum.refused},
                                            {"reads", sum.reads},
                                            {"searched", sum.searched},
                                            {"search_exhausted", sum.search_exhausted},
                                            {"slowest_recovery_ms",
                                             sum.slowest_recovery / std::chrono::milliseconds(1)},
                                            {"faults", faults},
                                            {"violations", violations}})
                        << "\n";
    return;
  }
  std::ostream& out = context.streams.out;
  out << fmt::format(
      "seeds {}..{}: {} events, {:.0f} simulated seconds in {:.1f} s ({:.2f} million events "
      "a second of one core)\n"
      "{} elections, {} crashes, {} partitions, {} connections broken, {} snapshots taken, {} "
      "installed, {} transfers resumed, {} log truncations\n"
      "{} writes acknowledged, {} unknown, {} refused, {} reads; slowest recovery {} ms\n"
      "linearizability: all histories checked by the index witness and by replay; {} also "
      "searched, {} too large for the search\n",
      first, first + seeds - 1, sum.events, simulated, wall_seconds,
      static_cast<double>(sum.events) / std::max(core_seconds, 1e-9) / 1e6, sum.elections,
      sum.crashes, sum.partitions, sum.connections_broken, sum.snapshots_taken,
      sum.snapshots_installed, sum.snapshots_resumed, sum.log_cuts, sum.acknowledged, sum.unknown,
      sum.refused, sum.reads, sum.slowest_recovery / std::chrono::milliseconds(1), sum.searched,
      sum.search_exhausted);
  std::vector<std::vector<std::string>> rows = {{"FAULT", "INJECTED", "BITTEN", "SEEDS"}};
  for (size_t i = 0; i < sim::kFaults; ++i) {
    sim::Fault fault = static_cast<sim::Fault>(i);
    rows.push_back({std::string(sim::fault_name(fault)), std::to_string(sum.faults[fault].injected),
                    std::to_string(sum.faults[fault].bitten),
                    std::to_string(sum.faults[fault].seeds)});
  }
  out << table(rows) << fmt::format("violations: {}\n", violations);
}

// Repeats the run to print its last lines, and finds a shorter one that breaks the same rule.
void explain(const Context& context, const sim::SimOptions& options, const sim::SimReport& report) {
  std::ostream& err = context.streams.err;
  err << fmt::format("connectctl {}: seed {}: {}\n", connectd::kVersion, options.seed,
                     report.failure);
  if (!options.trace) {
    std::deque<std::string> last;
    sim::SimOptions again = options;
    again.trace = [&](std::string_view line) {
      last.emplace_back(line);
      if (last.size() > kLastLines) last.pop_front();
    };
    sim::Simulation(again).run();
    err << fmt::format("the last {} lines of its trace:\n", last.size());
    for (const std::string& line : last) err << line << "\n";
  }
  err << "replay: " << replay_of(context, options) << " --trace\n";
  sim::SimOptions shorter = sim::shrink(options, report.failure, kShrinkRuns);
  if (shorter.faults != options.faults || shorter.clients != options.clients) {
    err << "shorter: " << replay_of(context, shorter) << " --trace\n";
  }
}

}  // namespace

ExitCode sim_command(Context& context) {
  set_log_level(LogLevel::kError);
  Result<Plan> plan = make_plan(context);
  if (!plan) return context.fail(plan.error());
  if (context.has("clients")) {
    auto clients = number_option(context, "clients", 0, 1, 1000);
    if (!clients) return context.fail(ExitCode::kUsage, clients.error());
    plan->options.clients = *clients;
  }
  if (context.has("trace")) {
    plan->options.trace = [&context](std::string_view line) {
      context.streams.err << line << "\n";
    };
  }
  for (int number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) signal(number, tell_replay);

  sim::SimReport sum;
  uint64_t done = 0;
  uint64_t violations = 0;
  const auto begin = Clock::now();
  auto next_progress = begin + kProgressInterval;
  auto wall = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  auto core_seconds = [before = std::clock()] {
    return static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  };
  for (uint64_t seed = plan->first_seed;; ++seed) {
    if (plan->seeds > 0 && done == plan->seeds) break;
    if (plan->time && Clock::now() - begin >= *plan->time) break;
    sim::SimOptions options = options_of(*plan, seed);
    fmt::format_to_n(g_replay, sizeof g_replay - 1, "replay: {} --trace\n{}",
                     replay_of(context, options), '\0');
    sim::SimReport report = sim::Simulation(options).run();
    sum.add(report);
    ++done;
    if (plan->seeds == 1) {
      context.streams.err << fmt::format("seed {}: trace hash {:016x}\n", seed, report.trace_hash);
    }
    if (seed % 100 == 0 && report.failure.empty()) {
      sim::SimReport again = sim::Simulation(options_of(*plan, seed)).run();
      if (again.trace_hash != report.trace_hash) {
        report.failure = "same seed: the two runs differ";
      }
    }
    if (!report.failure.empty()) {
      ++violations;
      explain(context, options, report);
      break;
    }
    if (Clock::now() >= next_progress) {
      next_progress += kProgressInterval;
      context.streams.err << fmt::format("{:.0f} s: {} seeds, {} events, {} violations\n", wall(),
                                         done, sum.events, violations);
    }
  }
  print_totals(context, sum, plan->first_seed, done, violations, wall(), core_seconds());
  return violations == 0 ? ExitCode::kOk : ExitCode::kNegative;
}

}  // namespace connectd::ctl

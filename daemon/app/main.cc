// connectd: command line, configuration, plugin, then the daemon.
#include <malloc.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/command_line.h"
#include "app/daemon.h"
#include "app/descriptors.h"
#include "app/environment_check.h"
#include "app/node_setup.h"
#include "app/process.h"
#include "app/systemd.h"
#include "app/watchdog.h"
#include "base/exit_code.h"
#include "base/log.h"
#include "base/log_event.h"
#include "base/log_format.h"
#include "base/version.h"
#include "config/load.h"
#include "config/reference.h"
#include "plugin/crash.h"
#include "plugin/misuse.h"

namespace connectd::app {
namespace {

int exit_with(const Error& error) {
  print_to_stderr(LogLevel::kError, error.text);
  return exit_status(error.kind);
}

// What outlives run().
struct Process {
  std::unique_ptr<Watchdog> watchdog;
  std::string plugin;        // "counter 1.0.0"
  Duration exit_patience{};  // for functions that run after main()
};

bool plugin_must_be_safe(const config::Config& config) {
  switch (config.plugin.allow_writable) {
    case config::AllowWritable::kOn:
      return false;
    case config::AllowWritable::kOff:
      return config.plugin.sha256.empty();
    case config::AllowWritable::kAuto:
      break;
  }
  return is_run_by_systemd() && config.plugin.sha256.empty();
}

Result<std::shared_ptr<const plugin::Plugin>> load_plugin(const config::Config& config, bool check,
                                                          Process& process) {
  process.plugin = config.plugin.path;
  auto plugin = plugin::Plugin::load({config.plugin.path, config.plugin.dirs, config.plugin.sha256,
                                      config.plugin.base_dir, plugin_must_be_safe(config)});
  if (!plugin) return plugin;
  process.plugin = fmt::format("{} {}", (*plugin)->name(), (*plugin)->version());
  for (const std::string& warning : (*plugin)->warnings()) {
    if (check) {
      print_to_stderr(LogLevel::kWarning, "warning: " + warning);
    } else {
      log_event(LogEvent::kPluginWarning, "{}", warning);
    }
  }
  return plugin;
}

// `--check`: all problems in one text.
std::optional<Error> check_all(const config::Config& config,
                               const Result<std::shared_ptr<const plugin::Plugin>>& plugin) {
  std::vector<Error> problems;
  if (!plugin) {
    problems.push_back(plugin.error());
  } else {
    if (auto mode = capture_mode(config, **plugin); !mode) problems.push_back(mode.error());
  }
  for (Error& problem : check_environment(config, plugin ? plugin->get() : nullptr)) {
    problems.push_back(std::move(problem));
  }
  if (problems.empty()) return std::nullopt;
  // A start would end with the first one.
  Error all{problems.front().kind, ""};
  for (const Error& problem : problems) all.text += problem.text + "\n";
  return all;
}

int run(int argc, char** argv, Process& process) {
  init_logging(argv[0]);  // first: in the journal, errors of the command line have a priority, too
  auto line = parse_command_line(argc, argv);
  if (!line) return exit_with(line.error());
  if (line->help) {
    fmt::print("{}", help_text());
    return 0;
  }
  if (line->version) {
    fmt::print("{}", version_text());
    return 0;
  }
  if (auto started = start_log_thread(); !started) return exit_with(started.error());
  auto loaded = config::load(line->load);
  if (!loaded) return exit_with(loaded.error());
  if (!loaded->warnings.empty()) print_to_stderr(LogLevel::kWarning, loaded->warnings);
  if (line->print_config) {
    fmt::print("{}", config::print_config(*loaded));
    return 0;
  }
  const config::Config& config = loaded->config;
  set_log_level(config.log.level);
  if (!line->check) {  // its answer is for people
    set_log_format(config.log.format);
    set_log_origin(config.node.id, config.cluster.name);
    limit_log_lines();
  }
  plugin::install_crash_handler();
  plugin::install_misuse_guard(exit_status(ErrorKind::kPluginFailed));
  // Memory that a burst needed is kept for the next one: giving it back and taking it again costs a
  // system call each.
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
  mallopt(M_TOP_PAD, 1 << 20);

  // Before the plugin is loaded: its libraries may look at the limit.
  raise_descriptor_limit();

  // Threads that a plugin starts, as it is loaded or later, take no signal of the process.
  auto watchdog = Watchdog::start();
  if (!watchdog) return exit_with(watchdog.error());
  process.watchdog = std::move(*watchdog);
  process.exit_patience = config.shutdown.drain_timeout;
  auto plugin = load_plugin(config, line->check, process);
  if (!plugin && !line->check) return exit_with(plugin.error());
  if (line->check) {
    if (auto problems = check_all(config, plugin)) return exit_with(*problems);
    fmt::print("ok: node {} of cluster '{}', plugin {} {}\n", config.node.id, config.cluster.name,
               (*plugin)->name(), (*plugin)->version());
    return 0;
  }

  if (auto mode = capture_mode(config, **plugin); !mode) return exit_with(mode.error());

  log_event(LogEvent::kProcessBegun, "version={} pid={} node={} data_dir={}", kVersion, ::getpid(),
            config.node.id, config.node.data_dir);
  Daemon daemon(config, line->load, *plugin, *process.watchdog);
  auto ended = daemon.run();
  if (!ended) {
    log_event(LogEvent::kProcessFailed, "{}", ended.error().text);
    return exit_status(ended.error().kind);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  prepare_process();
  Process process;
  const int code = run(argc, argv, process);
  finish_log();
  // Its thread lives as long as the process.
  if (Watchdog* watchdog = process.watchdog.release()) {
    watchdog->end_process_within(process.exit_patience, code, std::move(process.plugin));
  }
  plugin::expect_exit();
  return code;
}

}  // namespace connectd::app

int main(int argc, char** argv) { return connectd::app::main(argc, argv); }

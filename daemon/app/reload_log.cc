#include "app/reload_log.h"

#include <fmt/format.h>

#include <string_view>

#include "base/log_event.h"

namespace connectd::app {

std::string log_reload(const config::Reloaded& reloaded) {
  std::string lines;
  const auto log = [&lines](LogEvent event, std::string_view what, const std::string& change) {
    log_event(event, "{}{}", what, change);
    lines += fmt::format("{}{}\n", what, change);
  };
  for (const std::string& change : reloaded.applied) {
    log(LogEvent::kConfigChanged, "changed ", change);
  }
  for (const std::string& change : reloaded.need_restart) {
    log(LogEvent::kConfigRestartRequired, "restart required: ", change);
  }
  for (const std::string& change : reloaded.of_cluster) {
    log(LogEvent::kConfigNoEffect, "no effect: ", change);
  }
  if (lines.empty()) log(LogEvent::kConfigUnchanged, "reload found no changes", "");
  return lines;
}

std::string log_copies_of_start(const std::vector<std::string>& files) {
  std::string lines;
  for (const std::string& file : files) {
    const std::string line = fmt::format(
        "{} is systemd's copy of the start: a changed original counts after a restart", file);
    log_event(LogEvent::kConfigRestartRequired, "{}", line);
    lines += line + "\n";
  }
  return lines;
}

void log_reload_report(const Result<void>& written) {
  if (written) return;
  log_event(LogEvent::kConfigReloadUnreported, "connectctl reload will not work: {}",
            written.error().text);
}

}  // namespace connectd::app

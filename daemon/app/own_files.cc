#include "app/own_files.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "app/access.h"
#include "base/clock.h"
#include "base/log_event.h"

namespace connectd::app {
namespace {

// Errors in their order, each text once.
class Problems final {
 public:
  template <class T>
  void take(const Result<T>& result) {
    if (result) return;
    const Error& error = result.error();
    if (texts_.empty()) kind_ = error.kind;
    if (std::ranges::find(texts_, error.text) == texts_.end()) texts_.push_back(error.text);
  }
  bool empty() const { return texts_.empty(); }
  Error error() const { return {kind_, fmt::format("{}", fmt::join(texts_, "\n"))}; }

 private:
  ErrorKind kind_ = ErrorKind::kInternal;
  std::vector<std::string> texts_;
};

namespace fs = std::filesystem;

// What does not exist, or cannot be looked at, is taken as it is written.
fs::path resolved(const fs::path& path) {
  std::error_code error;
  const fs::path found = fs::weakly_canonical(path, error);
  return error ? path.lexically_normal() : found;
}

}  // namespace

Result<OwnFiles> read_own_files(const config::Config& config, const plugin::Plugin* plugin) {
  Problems problems;
  if (plugin != nullptr) problems.take(check_client_framing(config, *plugin));
  auto peer = read_peer_tls(config);
  problems.take(peer);
  auto client = read_client_tls(config);
  problems.take(client);
  auto http = read_http_tls(config);
  problems.take(http);
  auto policy = make_policy(config);
  problems.take(policy);
  if (!problems.empty()) return failure(problems.error());
  return OwnFiles{{std::move(*peer), std::move(*client), std::move(*http)}, std::move(*policy)};
}

std::vector<std::string> warnings_of(const OwnFiles& files) {
  const int64_t now = read_clocks().wall_ns / 1'000'000'000;
  std::vector<std::string> warnings;
  for (const auto& [port, one] :
       {std::pair("peers", &files.tls.peer), std::pair("clients", &files.tls.client),
        std::pair("HTTP", &files.tls.http)}) {
    if (!one->credentials) continue;
    for (const std::string& warning : one->credentials->warnings(now)) {
      warnings.push_back(fmt::format("{}: {}", port, warning));
    }
  }
  return warnings;
}

std::vector<std::string> reloaded_files_below(const std::string& directory,
                                              const std::optional<std::string>& config_file,
                                              const config::Config& config) {
  std::vector<std::string> found;
  if (directory.empty()) return found;
  const fs::path top = resolved(directory);
  const auto look_at = [&](const std::string& path) {
    if (path.empty()) return;
    const fs::path relative = resolved(path).lexically_relative(top);
    if (relative.empty() || *relative.begin() == "..") return;
    if (std::ranges::find(found, path) == found.end()) found.push_back(path);
  };
  look_at(config_file.value_or(""));
  for (const config::TlsPort* port : {&config.tls.peer, &config.tls.client, &config.tls.http}) {
    if (port->mode == config::TlsMode::kOff) continue;
    for (const std::string* file : {&port->cert, &port->key, &port->ca, &port->crl}) {
      look_at(config.file_at(*file));
    }
  }
  look_at(config.file_at(config.auth.tokens));
  return found;
}

void log_own_files(const config::Config& config, const OwnFiles& files) {
  for (const std::string& warning : warnings_of(files)) {
    log_event(LogEvent::kTlsWarning, "{}", warning);
  }
  if (files.policy->tokens) {
    log_event(LogEvent::kAuthTokens, "tokens={} file={}", files.policy->tokens->entries().size(),
              config.file_at(config.auth.tokens));
  }
}

}  // namespace connectd::app

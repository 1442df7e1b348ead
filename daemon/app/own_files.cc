#include "app/own_files.h"

#include <algorithm>
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

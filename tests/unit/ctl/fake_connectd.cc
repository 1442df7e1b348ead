// What `connectctl cluster` sees of connectd, without a cluster: it reads its configuration, serves
// the HTTP port and stops on SIGTERM. The name of the "plugin" says how it behaves:
// good.so, fails.so (ends at once), waits.so (never ready), stays.so (does not stop on SIGTERM).
#include <csignal>
#include <iostream>
#include <string>

#include "admin/http_server.h"
#include "base/exit_code.h"
#include "config/load.h"

using namespace connectd;

int main(int argc, char** argv) {
  config::LoadRequest request;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::string(argv[i]) == "--config") request.file = argv[i + 1];
    if (std::string(argv[i]) == "--plugin") request.plugin = argv[i + 1];
  }
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGUSR1);
  sigprocmask(SIG_BLOCK, &signals, nullptr);

  Result<config::Loaded> loaded = config::load(request);
  if (!loaded) {
    std::cerr << loaded.error().text;
    return exit_status(loaded.error().kind);
  }
  const config::Config& config = loaded->config;
  if (config.plugin.path.ends_with("fails.so")) {
    std::cerr << "this plugin fails\n";
    return 81;
  }
  node::StatusBoard board;
  const auto publish = [&] {
    auto status = std::make_shared<node::StatusSnapshot>();
    status->made = read_clocks().time;
    status->id = config.node.id;
    status->ready = !config.plugin.path.ends_with("waits.so");
    status->reason = status->ready ? "" : "waiting for nobody";
    board.publish(status);
  };
  publish();
  admin::ServerOptions options;
  options.listen = config.listen.http;
  auto server = admin::HttpServer::open(options, board, {});
  if (!server) {
    std::cerr << server.error().text << "\n";
    return exit_status(server.error().kind);
  }
  (*server)->start();
  std::cerr << "node " << config.node.id.value() << " serves\n";
  // A node whose status is old hangs.
  constexpr timespec kTick{.tv_sec = 0, .tv_nsec = 100'000'000};
  while (true) {
    const int signal = sigtimedwait(&signals, nullptr, &kTick);
    if (signal < 0) {
      publish();
    } else if (signal != SIGTERM || !config.plugin.path.ends_with("stays.so")) {
      break;
    }
  }
  return 0;
}

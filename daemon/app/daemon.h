// The object graph of one connectd process, and the loop that turns it. Everything but the four
// workers and the HTTP server lives on the loop thread, which is the one that calls run().
//
//   data directory ── Node ── LogWriter   (writer thread)
//                      │ ├─── Applier     (apply thread)
//                      │ ├─── Snapshotter (snapshot thread)
//                      │ └─── Worker      (worker thread)
//   PeerNetwork ───────┤
//   ClientPort ────────┤
//   HttpServer (admin thread) ── status values, calls
//   Watchdog (a thread of its own) ── signals, plugin calls that do not come back
//
// Before there is a cluster, Bootstrap stands in the node's place.
#pragma once

#include <memory>

#include "app/watchdog.h"
#include "base/error.h"
#include "config/config.h"
#include "config/load.h"
#include "plugin/plugin.h"

namespace connectd::app {

class Daemon final {
 public:
  // `request` is what `config` was loaded with: SIGHUP loads it again. `watchdog` outlives this.
  Daemon(config::Config config, config::LoadRequest request,
         std::shared_ptr<const plugin::Plugin> plugin, Watchdog& watchdog);
  ~Daemon();

  // Until a signal ends it. The error's code is the process's exit code.
  Result<void> run();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace connectd::app

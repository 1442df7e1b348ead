// Whether the file that the plugin was loaded from still is what was loaded. A node continues with
// what it has; who replaces a plugin wants to see which nodes have not been restarted since.
//
// A thread looks every few seconds: the file may lie on a disk that does not answer, and neither
// the loop nor the watchdog may wait for one. It reads the file only when its stamp has changed,
// and compares the SHA-256: a file that was installed again is the same.
#pragma once

#include <memory>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "plugin/plugin.h"

namespace connectd::plugin {

class FileWatch final {
 public:
  static constexpr Duration kInterval = std::chrono::seconds(3);

  FileWatch(const Plugin& plugin, Duration interval);
  // A thread that waits for a disk is left behind.
  ~FileWatch();
  FileWatch(const FileWatch&) = delete;
  FileWatch& operator=(const FileWatch&) = delete;

  // Starts the thread. Once.
  Result<void> start();
  // "file changed since start", "file removed since start"; empty: it is as it was. Any thread.
  std::string_view warning() const;

 private:
  struct State;
  static void run(State& state);

  // Shared with the thread, which may outlive this object.
  const std::shared_ptr<State> state_;
};

}  // namespace connectd::plugin

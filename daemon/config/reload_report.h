// What became of the reloads of one process: connectd writes it, `connectctl reload` reads it. Two
// files in a directory of the node (/run/connectd/NAME under the unit, else the data directory):
//
//   reload.lock   locked as long as the process lives (fcntl(2), F_OFD_SETLK)
//   reload.state  "1 PID NAMESPACE BEGUN FINISHED CODE\n" and a text; rename(2) replaces it as a
//                 whole
//
// BEGUN and FINISHED count the reloads of this process. A reload that begins after a reader has
// seen BEGUN = n is finished when FINISHED > n; it has read all files after that look. CODE is the
// exit code of `connectctl reload` for the last one that is finished: 0, everything was accepted;
// else nothing was, and the text says why.
//
// NAMESPACE is the inode of the PID namespace that PID belongs to (0: not known): a reader in
// another one, outside of a container, would signal some other process.
//
// The lock shows whether the process runs. /proc cannot: under the unit, each command has a user
// namespace of its own, and sees no process of another.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/error.h"

namespace connectd::config {

struct ReloadState {
  int pid = 0;
  uint64_t pid_namespace = 0;
  uint64_t begun = 0;
  uint64_t finished = 0;
  int code = 0;
  std::string text{};
  bool operator==(const ReloadState&) const = default;
};

std::string reload_state_text(const ReloadState& state);
// Nothing: it is not such a text.
std::optional<ReloadState> parse_reload_state(const std::string& text);

// connectd's side: the only writer in a directory. One thread.
class ReloadReport final {
 public:
  ReloadReport() = default;
  ~ReloadReport();
  ReloadReport(const ReloadReport&) = delete;
  ReloadReport& operator=(const ReloadReport&) = delete;

  // Locks the directory and writes the first state. kCannotCreate, kPermission: `connectctl reload`
  // does not work. Without the lock nothing is written later either; with it, the next state is.
  Result<void> open(const std::string& directory);
  // Errors as open(): the state before stays, and a reader waits for nothing.
  Result<void> begin();
  Result<void> end(int code, std::string text);

 private:
  Result<void> write() const;

  std::string directory_;
  int lock_ = -1;
  ReloadState state_;
};

// connectctl's side, any thread: the state that a running process has left in `directory`.
// kNotFound: no process has ever been there; kUnreachable: the one that was has ended; kPermission;
// kMismatch: a text of another version, or a process of another PID namespace.
Result<ReloadState> read_reload_state(const std::string& directory);

}  // namespace connectd::config

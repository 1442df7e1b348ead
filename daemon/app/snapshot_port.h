// The snapshot verbs of the HTTP port: what is listed, and pieces of files. Files are looked at on
// a thread of its own, so that a disk that hangs holds up neither the loop nor the answers about
// health. A file that is being read stays open for a while, though the node may drop it meanwhile.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "admin/hooks.h"
#include "base/error.h"
#include "base/queue.h"
#include "storage/file_system.h"

namespace connectd::app {

// Files that are open for readers; who reads none for so long restarts.
inline constexpr size_t kMaxSnapshotReaders = 4;
inline constexpr Duration kSnapshotReaderIdle = std::chrono::seconds(30);
inline constexpr size_t kMaxSnapshotTasks = 64;

// `return refusal(503, "BUSY", "...")`
tl::unexpected<admin::SnapshotRefusal> refusal(int http_status, std::string code, std::string text);

class SnapshotPort final {
 public:
  // `directory`: of the node's snapshots.
  SnapshotPort(storage::FileSystem& files, std::string directory);
  ~SnapshotPort();
  SnapshotPort(const SnapshotPort&) = delete;
  SnapshotPort& operator=(const SnapshotPort&) = delete;
  // Starts its thread. Once, before the functions below.
  Result<void> start();

  // Any thread. `done` is called on the port's thread, or at once when too much is asked for.
  // Adds the ages of the files.
  void list(admin::SnapshotList list, const admin::SnapshotDone<admin::SnapshotList>& done);
  void read(admin::SnapshotPiece piece, const admin::SnapshotDone<std::string>& done);

 private:
  struct Reader {
    std::unique_ptr<storage::File> file;
    Time used{};
  };
  using Task = std::function<void()>;

  // False when too many wait.
  bool submit(Task task);
  void run();
  void close_idle();
  tl::expected<std::string, admin::SnapshotRefusal> read_piece(const admin::SnapshotPiece& piece);

  storage::FileSystem& files_;
  const std::string directory_;
  BoundedQueue<Task> queue_{kMaxSnapshotTasks};
  std::map<std::string, Reader> readers_;  // its thread's
  std::thread thread_;
};

}  // namespace connectd::app

// A file system in memory that fails as a disk may: any subset of the unsynced sectors can be lost,
// and so can unsynced names; any call can fail; bits can flip. Deterministic, by its seed. One per
// simulated disk.
//
// Model: a file has its cached content, which reads see, and its durable content. sync() makes the
// cached content durable. crash() decides for each unsynced sector (512 bytes) of each file, and
// for each unsynced change of a directory, whether it reached the disk; then the cached content
// becomes the durable content, open files fail, and locks are free. A failed sync() drops the dirty
// marks, as Linux does: reads still see the bytes, a later sync() succeeds, and a crash loses them.
// restart_process() keeps the cache, but kills open files and locks.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "storage/file_system.h"

namespace connectd::sim {

enum class FileCall : uint8_t {
  kOpen = 0,
  kRead,
  kWrite,
  kFill,
  kSync,
  kSyncDirectory,
  kRename,
  kRemove,
  kMakeDirectory,
  kList,
};
inline constexpr size_t kFileCalls = 10;

class FaultyFileSystem final : public storage::FileSystem {
 public:
  explicit FaultyFileSystem(uint64_t seed = 0);
  ~FaultyFileSystem() override;

  // ---- faults
  struct CrashOptions {
    double keep_sector_percent = 50;  // an unsynced sector reaches the disk
    double keep_name_percent = 50;    // an unsynced change of a directory does
  };
  // What a power cut did to the unsynced data.
  struct CrashDamage {
    uint64_t sectors_kept = 0;
    uint64_t sectors_lost = 0;
    uint64_t names_kept = 0;
    uint64_t names_lost = 0;
  };
  // A power cut. All open files fail from now on; open them again.
  CrashDamage crash(const CrashOptions& options);
  CrashDamage crash() { return crash(CrashOptions()); }
  // kill -9: the cache stays.
  void restart_process();

  // The `nth` call from now on (1: the next) of `call` fails, with `error_number`; `sticky`: and
  // every later one of that kind. fail_nth_change() counts all calls that change the disk.
  void fail_nth(FileCall call, uint64_t nth, int error_number, bool sticky = false);
  void fail_nth_change(uint64_t nth, int error_number, bool sticky = false);
  // The machine dies at the `nth` change from now on: that call and all later ones fail and change
  // nothing; earlier unsynced data stays unsynced. crash() or restart_process() ends it.
  void power_off_at_change(uint64_t nth);
  // The machine dies at the next sync of a file with at least so many unsynced sectors, before it.
  void power_off_before_sync(size_t sectors);
  void clear_failures();
  // A planned failure has happened.
  bool failure_hit() const;
  uint64_t calls(FileCall call) const;
  uint64_t changes() const;  // calls that change the disk, so far

  // The machine has died by power_off_at_change(), and crash() or restart_process() has not
  // followed yet.
  bool is_off() const;

  // Writes over the limit fail with ENOSPC. Counts the sizes of all files.
  void set_capacity(uint64_t bytes);
  void set_free(uint64_t bytes);  // so much more fits

  // While it is on, what needs a descriptor fails with EMFILE: open() and list(). crash() and
  // restart_process() end it: another process has its own.
  void set_out_of_descriptors(bool out);

  // ---- inspecting and changing the disk
  size_t open_files() const;  // by this process
  std::string content(const std::string& path) const;
  bool has(const std::string& path) const;
  std::vector<std::string> names(const std::string& directory) const;
  void put(const std::string& path, std::string content);  // durable at once
  void erase(const std::string& path);                     // durable at once
  void flip(const std::string& path, uint64_t offset, uint8_t mask = 1);
  // Sector `from` (of 512 bytes) is written over sector `to` of the same file.
  void copy_sector(const std::string& path, uint64_t from, uint64_t to);
  // Same content, no open files, no failures planned.
  std::unique_ptr<FaultyFileSystem> clone(uint64_t seed) const;

  // ---- storage::FileSystem
  Result<std::unique_ptr<storage::File>> open(const std::string& path,
                                              storage::OpenMode mode) override;
  Result<void> rename(const std::string& from, const std::string& to) override;
  Result<void> remove(const std::string& path) override;
  Result<void> sync_directory(const std::string& path) override;
  Result<void> make_directory(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& path) override;
  Result<bool> exists(const std::string& path) override;
  Result<uint64_t> free_bytes(const std::string& path) override;
  Result<std::unique_ptr<storage::FileLock>> lock(const std::string& path) override;

 private:
  struct Inode;
  struct Change;
  struct State;
  class OpenFile;
  class HeldLock;
  std::shared_ptr<State> state_;
};

}  // namespace connectd::sim

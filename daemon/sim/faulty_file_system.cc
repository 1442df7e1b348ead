#include "sim/faulty_file_system.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/loop_scope.h"
#include "base/mutex.h"

namespace connectd::sim {
namespace {

constexpr uint64_t kSectorBytes = 512;
constexpr size_t kSectorsOfFill = 32;  // or more, of a new segment

std::string parent_of(const std::string& path) {
  size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}
std::string name_of(const std::string& path) {
  size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}
std::string clean(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

tl::unexpected<Error> io_failure(const char* what, const std::string& path, int error_number,
                                 ErrorKind otherwise = ErrorKind::kDisk) {
  return failure(storage::io_error_kind(error_number, otherwise),
                 fmt::format("cannot {} {}: {}", what, path, errno_text(error_number)));
}

}  // namespace

struct FaultyFileSystem::Inode {
  std::string cached;
  std::string durable;
  std::set<uint64_t> dirty;  // sectors
  bool size_dirty = false;

  void write(uint64_t offset, const uint8_t* bytes, uint64_t size) {
    if (size == 0) return;
    if (offset + size > cached.size()) {
      if (offset > cached.size()) mark(cached.size(), offset - cached.size());
      cached.resize(offset + size, '\0');
      size_dirty = true;
    }
    if (bytes == nullptr) {
      std::memset(cached.data() + offset, 0, size);
    } else {
      std::memcpy(cached.data() + offset, bytes, size);
    }
    mark(offset, size);
  }
  void mark(uint64_t offset, uint64_t size) {
    if (size == 0) return;
    auto hint = dirty.end();
    for (uint64_t s = offset / kSectorBytes; s <= (offset + size - 1) / kSectorBytes; ++s) {
      hint = std::next(dirty.insert(hint, s));
    }
  }
  void persist(uint64_t sector) {
    uint64_t from = sector * kSectorBytes;
    if (from >= cached.size() || from >= durable.size()) return;
    uint64_t size = std::min({kSectorBytes, cached.size() - from, durable.size() - from});
    std::memcpy(durable.data() + from, cached.data() + from, size);
  }
  void sync() {
    durable.resize(cached.size(), '\0');
    for (uint64_t sector : dirty) persist(sector);
    clear_dirty();
  }
  void clear_dirty() {
    dirty.clear();
    size_dirty = false;
  }
};

// Of a directory's names: `removed` goes, `added` comes; each may be empty. A rename is one change.
struct FaultyFileSystem::Change {
  std::string directory;
  std::string removed;
  std::string added;
  std::shared_ptr<Inode> inode;
};

struct FaultyFileSystem::State {
  explicit State(uint64_t seed) : random(seed) {}

  using Names = std::map<std::string, std::shared_ptr<Inode>>;
  struct Directory {
    Names cached;
    Names durable;
  };
  struct Failure {
    uint64_t at = 0;  // count of calls at which it happens
    int error_number = 0;
    bool sticky = false;
  };

  Mutex mutex;  // guards all that follows
  Random random;
  std::map<std::string, Directory> directories;
  std::vector<Change> changes;  // not synced, in order
  std::set<std::string> locks;
  uint64_t epoch = 1;  // handles and locks of older ones are dead
  uint64_t capacity = UINT64_MAX;
  uint64_t used = 0;
  std::array<uint64_t, kFileCalls> calls{};
  uint64_t change_calls = 0;
  std::array<Failure, kFileCalls> failures{};
  Failure change_failure;
  bool failure_hit = false;
  uint64_t power_off_at = 0;    // count of changes; 0: never
  size_t sectors_unsynced = 0;  // the sync of so many is the change at which it dies; 0: none
  bool out_of_descriptors = false;
  size_t open_files = 0;  // of this epoch

  bool is_off() const { return power_off_at != 0 && change_calls >= power_off_at; }
  // Before a sync of so many sectors. Space that is only filled does not count.
  void fail_before(size_t sectors) {
    if (sectors_unsynced == 0 || sectors < sectors_unsynced || sectors > kSectorsOfFill) return;
    power_off_at = change_calls + 1;
    sectors_unsynced = 0;
  }
  static bool hits(Failure& failure, uint64_t count) {
    if (failure.at == 0) return false;
    return failure.sticky ? count >= failure.at : count == failure.at;
  }
  // 0, or the error this call has to give.
  int count(FileCall call) {
    check_off_loop("a disk call");
    const auto i = static_cast<size_t>(call);
    ++calls[i];
    const bool is_change = call != FileCall::kRead && call != FileCall::kList;
    if (is_change) ++change_calls;
    int error_number = 0;
    if (hits(failures[i], calls[i])) error_number = failures[i].error_number;
    if (is_change && hits(change_failure, change_calls)) error_number = change_failure.error_number;
    const bool needs_one = call == FileCall::kOpen || call == FileCall::kList;
    if (error_number == 0 && needs_one && out_of_descriptors) error_number = EMFILE;
    if (is_off()) error_number = EIO;
    if (error_number != 0) failure_hit = true;
    return error_number;
  }
  std::shared_ptr<Inode> find(const std::string& path) {
    auto directory = directories.find(parent_of(path));
    if (directory == directories.end()) return nullptr;
    auto name = directory->second.cached.find(name_of(path));
    return name == directory->second.cached.end() ? nullptr : name->second;
  }
  // Whether `more` bytes fit; takes them if so.
  bool take(uint64_t more) {
    if (more > capacity || used > capacity - more) return false;
    used += more;
    return true;
  }
};

class FaultyFileSystem::OpenFile final : public storage::File {
 public:
  OpenFile(std::shared_ptr<State> state, std::shared_ptr<Inode> inode, std::string path,
           bool writable)
      : state_(std::move(state)),
        inode_(std::move(inode)),
        path_(std::move(path)),
        epoch_(state_->epoch),
        writable_(writable) {
    ++state_->open_files;
  }
  ~OpenFile() override {
    MutexLock lock(state_->mutex);
    if (epoch_ == state_->epoch) --state_->open_files;
  }

  Result<size_t> read_at(uint64_t offset, std::span<uint8_t> to) const override {
    MutexLock lock(state_->mutex);
    if (int e = begin(FileCall::kRead)) return io_failure("read", path_, e);
    if (offset >= inode_->cached.size()) return size_t{0};
    size_t size = std::min<uint64_t>(to.size(), inode_->cached.size() - offset);
    std::memcpy(to.data(), inode_->cached.data() + offset, size);
    return size;
  }
  Result<void> write_at(uint64_t offset, ByteView bytes) override {
    return write(FileCall::kWrite, offset, bytes.data(), bytes.size());
  }
  Result<void> fill_zeros(uint64_t offset, uint64_t bytes) override {
    return write(FileCall::kFill, offset, nullptr, bytes);
  }
  Result<void> sync() override {
    MutexLock lock(state_->mutex);
    state_->fail_before(inode_->dirty.size());
    if (int e = begin(FileCall::kSync)) {
      if (!state_->is_off()) inode_->clear_dirty();
      return io_failure("sync", path_, e, ErrorKind::kSyncFailed);
    }
    inode_->sync();
    return {};
  }
  Result<uint64_t> size() const override {
    MutexLock lock(state_->mutex);
    if (epoch_ != state_->epoch) return io_failure("read the status of", path_, EBADF);
    return inode_->cached.size();
  }

 private:
  int begin(FileCall call) const {
    if (epoch_ != state_->epoch) return EBADF;
    return state_->count(call);
  }
  // A failing write leaves a random part of itself.
  Result<void> write(FileCall call, uint64_t offset, const uint8_t* bytes, uint64_t size) {
    MutexLock lock(state_->mutex);
    int error_number = begin(call);
    if (error_number == EBADF) return io_failure("write to", path_, error_number);
    if (!writable_) return io_failure("write to", path_, EBADF);
    const uint64_t end = offset + size;
    const uint64_t more = end > inode_->cached.size() ? end - inode_->cached.size() : 0;
    if (error_number == 0 && !state_->take(more)) error_number = ENOSPC;
    if (error_number == 0) {
      inode_->write(offset, bytes, size);
      return {};
    }
    uint64_t part = size == 0 || state_->is_off() ? 0 : state_->random.below(size);
    const uint64_t had = inode_->cached.size();
    part = std::min(part, std::max(offset, had) - offset);  // it does not grow the file
    inode_->write(offset, bytes, part);
    return io_failure("write to", path_, error_number);
  }

  const std::shared_ptr<State> state_;
  const std::shared_ptr<Inode> inode_;
  const std::string path_;
  const uint64_t epoch_;
  const bool writable_;
};

class FaultyFileSystem::HeldLock final : public storage::FileLock {
 public:
  HeldLock(std::shared_ptr<State> state, std::string path)
      : state_(std::move(state)), path_(std::move(path)), epoch_(state_->epoch) {}
  ~HeldLock() override {
    MutexLock lock(state_->mutex);
    if (epoch_ == state_->epoch) state_->locks.erase(path_);
  }

 private:
  const std::shared_ptr<State> state_;
  const std::string path_;
  const uint64_t epoch_;
};

FaultyFileSystem::FaultyFileSystem(uint64_t seed) : state_(std::make_shared<State>(seed)) {
  state_->directories["/"];
  state_->directories["."];
}
FaultyFileSystem::~FaultyFileSystem() = default;

// ---- faults

FaultyFileSystem::CrashDamage FaultyFileSystem::crash(const CrashOptions& options) {
  State& s = *state_;
  CrashDamage damage;
  MutexLock lock(s.mutex);
  for (const Change& change : s.changes) {
    if (!s.random.chance(options.keep_name_percent)) {
      ++damage.names_lost;
      continue;
    }
    ++damage.names_kept;
    auto& names = s.directories[change.directory].durable;
    if (!change.removed.empty()) names.erase(change.removed);
    if (!change.added.empty()) names[change.added] = change.inode;
  }
  s.changes.clear();
  s.used = 0;
  std::set<Inode*> done;
  for (auto& [path, directory] : s.directories) {
    directory.cached = directory.durable;
    for (auto& [name, inode] : directory.cached) {
      if (!done.insert(inode.get()).second) continue;
      if (inode->size_dirty && s.random.chance(options.keep_sector_percent)) {
        inode->durable.resize(inode->cached.size(), '\0');
      }
      for (uint64_t sector : inode->dirty) {
        if (s.random.chance(options.keep_sector_percent)) {
          ++damage.sectors_kept;
          inode->persist(sector);
        } else {
          ++damage.sectors_lost;
        }
      }
      inode->clear_dirty();
      inode->cached = inode->durable;
      s.used += inode->cached.size();
    }
  }
  ++s.epoch;
  s.power_off_at = s.sectors_unsynced = 0;
  s.out_of_descriptors = false;
  s.open_files = 0;
  s.locks.clear();
  return damage;
}

void FaultyFileSystem::restart_process() {
  MutexLock lock(state_->mutex);
  ++state_->epoch;
  state_->power_off_at = state_->sectors_unsynced = 0;
  state_->out_of_descriptors = false;
  state_->open_files = 0;
  state_->locks.clear();
}

void FaultyFileSystem::fail_nth(FileCall call, uint64_t nth, int error_number, bool sticky) {
  MutexLock lock(state_->mutex);
  const auto i = static_cast<size_t>(call);
  state_->failures[i] = {state_->calls[i] + nth, error_number, sticky};
  state_->failure_hit = false;
}

void FaultyFileSystem::fail_nth_change(uint64_t nth, int error_number, bool sticky) {
  MutexLock lock(state_->mutex);
  state_->change_failure = {state_->change_calls + nth, error_number, sticky};
  state_->failure_hit = false;
}

void FaultyFileSystem::clear_failures() {
  MutexLock lock(state_->mutex);
  state_->failures = {};
  state_->change_failure = {};
  if (!state_->is_off()) state_->power_off_at = 0;
  state_->sectors_unsynced = 0;
}

void FaultyFileSystem::power_off_at_change(uint64_t nth) {
  MutexLock lock(state_->mutex);
  state_->power_off_at = state_->change_calls + nth;
  state_->failure_hit = false;
}

void FaultyFileSystem::power_off_before_sync(size_t sectors) {
  MutexLock lock(state_->mutex);
  state_->sectors_unsynced = sectors;
  state_->failure_hit = false;
}

bool FaultyFileSystem::failure_hit() const {
  MutexLock lock(state_->mutex);
  return state_->failure_hit;
}

uint64_t FaultyFileSystem::calls(FileCall call) const {
  MutexLock lock(state_->mutex);
  return state_->calls[static_cast<size_t>(call)];
}

uint64_t FaultyFileSystem::changes() const {
  MutexLock lock(state_->mutex);
  return state_->change_calls;
}

void FaultyFileSystem::set_capacity(uint64_t bytes) {
  MutexLock lock(state_->mutex);
  state_->capacity = bytes;
}

void FaultyFileSystem::set_free(uint64_t bytes) {
  MutexLock lock(state_->mutex);
  state_->capacity = state_->used + bytes;
}

size_t FaultyFileSystem::open_files() const {
  MutexLock lock(state_->mutex);
  return state_->open_files;
}

void FaultyFileSystem::set_out_of_descriptors(bool out) {
  MutexLock lock(state_->mutex);
  state_->out_of_descriptors = out;
}

bool FaultyFileSystem::is_off() const {
  MutexLock lock(state_->mutex);
  return state_->is_off();
}

// ---- looking and meddling

std::string FaultyFileSystem::content(const std::string& path) const {
  MutexLock lock(state_->mutex);
  auto inode = state_->find(path);
  return inode ? inode->cached : std::string();
}

bool FaultyFileSystem::has(const std::string& path) const {
  MutexLock lock(state_->mutex);
  return state_->find(path) != nullptr;
}

std::vector<std::string> FaultyFileSystem::names(const std::string& directory) const {
  MutexLock lock(state_->mutex);
  std::vector<std::string> names;
  for (const auto& [name, inode] : state_->directories[clean(directory)].cached) {
    names.push_back(name);
  }
  return names;
}

void FaultyFileSystem::put(const std::string& path, std::string content) {
  MutexLock lock(state_->mutex);
  auto inode = std::make_shared<Inode>();
  inode->durable = content;
  inode->cached = std::move(content);
  state_->used += inode->cached.size();
  auto& directory = state_->directories[parent_of(path)];
  if (auto old = state_->find(path)) state_->used -= old->cached.size();
  directory.cached[name_of(path)] = inode;
  directory.durable[name_of(path)] = inode;
}

void FaultyFileSystem::erase(const std::string& path) {
  MutexLock lock(state_->mutex);
  if (auto old = state_->find(path)) state_->used -= old->cached.size();
  auto& directory = state_->directories[parent_of(path)];
  directory.cached.erase(name_of(path));
  directory.durable.erase(name_of(path));
}

void FaultyFileSystem::flip(const std::string& path, uint64_t offset, uint8_t mask) {
  MutexLock lock(state_->mutex);
  auto inode = state_->find(path);
  if (!inode) return;
  if (offset < inode->cached.size()) {
    inode->cached[offset] = static_cast<char>(inode->cached[offset] ^ mask);
  }
  if (offset < inode->durable.size()) {
    inode->durable[offset] = static_cast<char>(inode->durable[offset] ^ mask);
  }
}

void FaultyFileSystem::copy_sector(const std::string& path, uint64_t from, uint64_t to) {
  MutexLock lock(state_->mutex);
  auto inode = state_->find(path);
  if (!inode) return;
  for (std::string* content : {&inode->cached, &inode->durable}) {
    if ((std::max(from, to) + 1) * kSectorBytes > content->size()) continue;
    std::memmove(content->data() + to * kSectorBytes, content->data() + from * kSectorBytes,
                 kSectorBytes);
  }
}

std::unique_ptr<FaultyFileSystem> FaultyFileSystem::clone(uint64_t seed) const {
  auto copy = std::make_unique<FaultyFileSystem>(seed);
  MutexLock lock(state_->mutex);
  std::map<Inode*, std::shared_ptr<Inode>> copies;
  auto copied = [&](const std::shared_ptr<Inode>& inode) {
    auto& slot = copies[inode.get()];
    if (!slot) slot = std::make_shared<Inode>(*inode);
    return slot;
  };
  for (const auto& [path, directory] : state_->directories) {
    auto& to = copy->state_->directories[path];
    for (const auto& [name, inode] : directory.cached) to.cached[name] = copied(inode);
    for (const auto& [name, inode] : directory.durable) to.durable[name] = copied(inode);
  }
  for (Change change : state_->changes) {
    if (change.inode) change.inode = copied(change.inode);
    copy->state_->changes.push_back(std::move(change));
  }
  copy->state_->used = state_->used;
  copy->state_->capacity = state_->capacity;
  return copy;
}

// ---- storage::FileSystem

Result<std::unique_ptr<storage::File>> FaultyFileSystem::open(const std::string& path,
                                                              storage::OpenMode mode) {
  MutexLock lock(state_->mutex);
  if (int e = state_->count(FileCall::kOpen)) return io_failure("open", path, e);
  auto directory = state_->directories.find(parent_of(path));
  if (directory == state_->directories.end()) return io_failure("open", path, ENOENT);
  auto inode = state_->find(path);
  if (mode == storage::OpenMode::kCreate) {
    if (!inode) {
      inode = std::make_shared<Inode>();
      directory->second.cached[name_of(path)] = inode;
      state_->changes.push_back({directory->first, "", name_of(path), inode});
    } else {
      state_->used -= inode->cached.size();
      inode->cached.clear();
      inode->size_dirty = true;
    }
  }
  if (!inode) return io_failure("open", path, ENOENT);
  return std::make_unique<OpenFile>(state_, inode, path, mode != storage::OpenMode::kRead);
}

// Within one directory, which is all that is used.
Result<void> FaultyFileSystem::rename(const std::string& from, const std::string& to) {
  MutexLock lock(state_->mutex);
  if (int e = state_->count(FileCall::kRename)) return io_failure("rename", from, e);
  auto inode = state_->find(from);
  if (!inode) return io_failure("rename", from, ENOENT);
  if (parent_of(from) != parent_of(to)) return io_failure("rename", from, EXDEV);
  if (auto old = state_->find(to); old && old != inode) state_->used -= old->cached.size();
  auto& directory = state_->directories[parent_of(to)];
  directory.cached.erase(name_of(from));
  directory.cached[name_of(to)] = inode;
  state_->changes.push_back({parent_of(to), name_of(from), name_of(to), inode});
  return {};
}

Result<void> FaultyFileSystem::remove(const std::string& path) {
  MutexLock lock(state_->mutex);
  if (int e = state_->count(FileCall::kRemove)) return io_failure("remove", path, e);
  auto inode = state_->find(path);
  if (!inode) return io_failure("remove", path, ENOENT);
  state_->used -= inode->cached.size();
  state_->directories[parent_of(path)].cached.erase(name_of(path));
  state_->changes.push_back({parent_of(path), name_of(path), "", nullptr});
  return {};
}

Result<void> FaultyFileSystem::sync_directory(const std::string& path) {
  MutexLock lock(state_->mutex);
  const std::string directory = clean(path);
  const int error_number = state_->count(FileCall::kSyncDirectory);
  if (error_number != 0)
    return io_failure("sync directory", path, error_number, ErrorKind::kSyncFailed);
  auto found = state_->directories.find(directory);
  if (found == state_->directories.end())
    return io_failure("sync directory", path, ENOENT, ErrorKind::kSyncFailed);
  found->second.durable = found->second.cached;
  std::erase_if(state_->changes,
                [&](const Change& change) { return change.directory == directory; });
  return {};
}

Result<void> FaultyFileSystem::make_directory(const std::string& path) {
  MutexLock lock(state_->mutex);
  if (int e = state_->count(FileCall::kMakeDirectory))
    return io_failure("create directory", path, e);
  for (std::string part = clean(path); part != "/" && part != "."; part = parent_of(part)) {
    state_->directories[part];
  }
  return {};
}

Result<std::vector<std::string>> FaultyFileSystem::list(const std::string& path) {
  MutexLock lock(state_->mutex);
  if (int e = state_->count(FileCall::kList)) return io_failure("list", path, e);
  auto found = state_->directories.find(clean(path));
  if (found == state_->directories.end()) return io_failure("list", path, ENOENT);
  std::vector<std::string> names;
  for (const auto& [name, inode] : found->second.cached) names.push_back(name);
  return names;
}

Result<bool> FaultyFileSystem::exists(const std::string& path) {
  MutexLock lock(state_->mutex);
  return state_->find(path) != nullptr || state_->directories.contains(clean(path));
}

Result<uint64_t> FaultyFileSystem::free_bytes(const std::string&) {
  MutexLock lock(state_->mutex);
  return state_->capacity - std::min(state_->capacity, state_->used);
}

Result<std::unique_ptr<storage::FileLock>> FaultyFileSystem::lock(const std::string& path) {
  MutexLock lock(state_->mutex);
  if (!state_->locks.insert(path).second) {
    return failure(ErrorKind::kLocked, fmt::format("{} is locked by this process already", path));
  }
  return std::make_unique<HeldLock>(state_, path);
}

}  // namespace connectd::sim

// The production file system, and the log on it with all its threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "tests/unit/storage/log_harness.h"
#include "wire/entry_codec.h"

namespace connectd::storage {
namespace {

using ::testing::HasSubstr;

class RealFileSystemTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "connectd-storage-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
  std::unique_ptr<FileSystem> files_ = make_real_file_system();
};

TEST_F(RealFileSystemTest, FilesAndNames) {
  const std::string deep = directory_ + "/a/b/c";
  ASSERT_TRUE(files_->make_directory(deep));
  ASSERT_TRUE(files_->make_directory(deep));
  EXPECT_TRUE(std::filesystem::is_directory(deep));
  {
    auto file = files_->open(deep + "/one", OpenMode::kCreate);
    ASSERT_TRUE(file) << file.error().text;
    ASSERT_TRUE((*file)->fill_zeros(0, 1'000'000));
    ASSERT_TRUE((*file)->write_at(10, as_bytes("hello")));
    ASSERT_TRUE((*file)->sync());
    EXPECT_EQ(*(*file)->size(), 1'000'000u);
    std::vector<uint8_t> bytes(20);
    ASSERT_EQ(*(*file)->read_at(8, bytes), 20u);
    EXPECT_EQ(as_text(ByteView(bytes).subspan(2, 5)), "hello");
    EXPECT_EQ(*(*file)->read_at(999'990, bytes), 10u);
    EXPECT_EQ(*(*file)->read_at(2'000'000, bytes), 0u);
  }
  ASSERT_TRUE(replace_file(*files_, deep, "two", as_bytes("2")));
  ASSERT_TRUE(replace_file(*files_, deep, "two", as_bytes("22")));
  EXPECT_EQ(*read_file(*files_, deep + "/two", 2), "22");
  EXPECT_EQ(read_file(*files_, deep + "/two", 1).error().kind, ErrorKind::kCorrupt);
  EXPECT_EQ(*files_->list(deep), (std::vector<std::string>{"one", "two"}));
  ASSERT_TRUE(files_->rename(deep + "/one", deep + "/two"));
  ASSERT_TRUE(files_->sync_directory(deep));
  EXPECT_EQ(*files_->list(deep), (std::vector<std::string>{"two"}));
  EXPECT_TRUE(*files_->exists(deep + "/two"));
  ASSERT_TRUE(files_->remove(deep + "/two"));
  EXPECT_FALSE(*files_->exists(deep + "/two"));
  auto missing = files_->open(deep + "/two", OpenMode::kRead);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kNotFound);
  EXPECT_NE(missing.error().text.find(deep + "/two: No such file or directory"), std::string::npos)
      << missing.error().text;
  EXPECT_GT(*files_->free_bytes(deep), 0u);
}

// Catalogue row 72, in one process and between two; a child that is forked does not hold the lock
// on.
TEST(FileSystemError, SaysWhatWentWrong) {
  struct Row {
    int error_number;
    ErrorKind kind;
  };
  for (const Row& row : {Row{ENOENT, ErrorKind::kNotFound}, Row{EACCES, ErrorKind::kPermission},
                         Row{EPERM, ErrorKind::kPermission}, Row{ENOSPC, ErrorKind::kNoSpace},
                         Row{EDQUOT, ErrorKind::kNoSpace}, Row{EMFILE, ErrorKind::kNoDescriptors},
                         Row{ENFILE, ErrorKind::kNoDescriptors}, Row{EIO, ErrorKind::kSyncFailed},
                         Row{EROFS, ErrorKind::kSyncFailed}}) {
    EXPECT_EQ(io_error_kind(row.error_number, ErrorKind::kSyncFailed), row.kind)
        << errno_text(row.error_number);
  }
}

// The limit is the lowest that lets none be opened, for as long as this lives.
class NoMoreDescriptors {
 public:
  NoMoreDescriptors() {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit none{0, before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoMoreDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

// A file system without this call: as some network file systems are.
TEST(FileSystemError, NamesTheKindOfFileSystem) {
  auto files = make_real_file_system();
  const auto synced = files->sync_directory("/proc/self/fdinfo");
  ASSERT_FALSE(synced);
  EXPECT_NE(synced.error().text.find("its file system (0x9fa0) does not support that"),
            std::string::npos)
      << synced.error().text;
  EXPECT_NE(synced.error().text.find("node.data_dir must be on a local file system"),
            std::string::npos);
}

// In the place of a file or a directory; a pipe is not waited for.
TEST_F(RealFileSystemTest, WrongThingIsNamedByItsKind) {
  const std::string at = directory_ + "/thing";
  auto said = [](const auto& result) -> std::string {
    if (result) return "no error";
    EXPECT_EQ(result.error().kind, ErrorKind::kWrongData);
    return result.error().text;
  };
  std::filesystem::create_directory(at);
  for (OpenMode mode : {OpenMode::kRead, OpenMode::kWrite, OpenMode::kCreate}) {
    EXPECT_THAT(said(files_->open(at, mode)), HasSubstr("thing is a directory, not a file"));
  }
  EXPECT_THAT(said(files_->lock(at)), HasSubstr("thing is a directory, not a file"));
  std::filesystem::remove(at);
  ASSERT_EQ(mkfifo(at.c_str(), 0600), 0);
  EXPECT_THAT(said(files_->open(at, OpenMode::kRead)), HasSubstr("thing is a pipe, not a file"));
  std::filesystem::remove(at);
  std::filesystem::create_symlink(directory_ + "/unmounted", at);
  for (OpenMode mode : {OpenMode::kRead, OpenMode::kWrite}) {
    EXPECT_THAT(said(files_->open(at, mode)), HasSubstr("/unmounted, which does not exist"));
  }
  EXPECT_THAT(said(files_->make_directory(at)), HasSubstr("/unmounted, which does not exist"));
  EXPECT_THAT(said(files_->list(at)), HasSubstr("/unmounted, which does not exist"));
  std::filesystem::remove(at);
  ASSERT_TRUE(files_->open(at, OpenMode::kCreate));
  EXPECT_THAT(said(files_->make_directory(at)), HasSubstr("thing is a file, not a directory"));
  EXPECT_THAT(said(files_->list(at)), HasSubstr("thing is a file, not a directory"));
}

TEST_F(RealFileSystemTest, DirectorySyncNeedsNoDescriptor) {
  const std::string log = directory_ + "/log";
  ASSERT_TRUE(files_->make_directory(log));
  ASSERT_TRUE(files_->open(log + "/one", OpenMode::kCreate));
  {
    NoMoreDescriptors none;
    auto opened = files_->open(log + "/two", OpenMode::kCreate);
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().kind, ErrorKind::kNoDescriptors) << opened.error().text;
    EXPECT_NE(opened.error().text.find("LimitNOFILE"), std::string::npos) << opened.error().text;
    ASSERT_TRUE(files_->rename(log + "/one", log + "/two"));
    ASSERT_TRUE(files_->sync_directory(log));
  }
  // Another directory has the name now: the one that is open is not the one to sync.
  std::filesystem::rename(log, directory_ + "/old");
  ASSERT_TRUE(std::filesystem::create_directory(log));
  ASSERT_TRUE(files_->sync_directory(log));
  {
    NoMoreDescriptors none;
    EXPECT_EQ(files_->sync_directory(log).error().kind, ErrorKind::kNoDescriptors);
  }
  ASSERT_TRUE(files_->make_directory(log));
  NoMoreDescriptors none;
  EXPECT_TRUE(files_->sync_directory(log));
}

TEST_F(RealFileSystemTest, OneLockOnly) {
  const std::string path = directory_ + "/lock";
  auto lock = files_->lock(path);
  ASSERT_TRUE(lock) << lock.error().text;
  auto second = files_->lock(path);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kLocked);

  int to_child[2];
  ASSERT_EQ(pipe(to_child), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    close(to_child[1]);
    // Until the parent has let go. The descriptor that was inherited with the lock stays open here.
    char byte = 0;
    const ssize_t got = ::read(to_child[0], &byte, 1);
    _exit(got == 0 && make_real_file_system()->lock(path) ? 0 : 1);
  }
  close(to_child[0]);
  lock->reset();
  close(to_child[1]);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);

  lock = files_->lock(path);
  EXPECT_TRUE(lock);
}

// Its name is another file's, or nobody's, while it is held.
TEST_F(RealFileSystemTest, LockThatWasRemovedIsNoticed) {
  const std::string at = directory_ + "/data";
  ASSERT_TRUE(files_->make_directory(at));
  auto lock = files_->lock(at + "/lock");
  ASSERT_TRUE(lock) << lock.error().text;
  ASSERT_TRUE(files_->free_bytes(at));
  std::filesystem::remove(at + "/lock");
  for (int replaced = 0; replaced < 2; ++replaced) {
    auto free = files_->free_bytes(at);
    ASSERT_FALSE(free);
    EXPECT_EQ(free.error().kind, ErrorKind::kWrongData);
    EXPECT_THAT(free.error().text, HasSubstr("data/lock is not the file that this process"));
    ASSERT_TRUE(files_->open(at + "/lock", OpenMode::kCreate));
  }
  std::filesystem::remove_all(at);
  EXPECT_FALSE(files_->free_bytes(at));
  lock->reset();
  ASSERT_TRUE(files_->make_directory(at));
  EXPECT_TRUE(files_->free_bytes(at));
}

TEST_F(RealFileSystemTest, AnotherProcessIsRefusedAndToldWhoHoldsIt) {
  const std::string path = directory_ + "/lock";
  auto lock = files_->lock(path);
  ASSERT_TRUE(lock);
  const pid_t parent = getpid();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto refused = make_real_file_system()->lock(path);
    const bool named = !refused && refused.error().kind == ErrorKind::kLocked &&
                       refused.error().text.find(std::to_string(parent)) != std::string::npos;
    _exit(named ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// The writer appends and replaces suffixes, one thread makes segments, one compacts, two read
// (catalogue row 55's ground: no thread sees another's half-done work).
TEST_F(RealFileSystemTest, AllThreadsAtOnce) {
  const std::string path = directory_ + "/log";
  Recovered recovered;
  auto opened = Log::open(*files_, path, {.segment_bytes = 64 << 10, .sync = false}, {}, recovered);
  ASSERT_TRUE(opened) << opened.error().text;
  Log& log = **opened;
  std::atomic<bool> done{false};
  std::atomic<uint64_t> committed{0};
  std::atomic<uint64_t> seen{0};
  Model model;
  std::thread maker([&] {
    while (!done) {
      EXPECT_TRUE(log.prepare_next_segment());
      std::this_thread::yield();
    }
  });
  std::thread compactor([&] {
    while (!done) {
      const uint64_t to = committed;
      EXPECT_TRUE(log.compact(Index(to > 500 ? to - 500 : 0)));
      std::this_thread::yield();
    }
  });
  auto read = [&] {
    while (!done) {
      const uint64_t to = committed;
      if (to < 300) continue;
      auto entries = log.read(Index(to - 200), Index(to), 5000);
      ASSERT_TRUE(entries) << entries.error().text;
      uint64_t next = to - 200;
      for (const raft::Entry& entry : *entries) {
        ASSERT_EQ(entry.index, Index(next));
        ASSERT_TRUE(wire::verify_entry(entry));
        ++next;
        ++seen;
      }
    }
  };
  std::thread reader_1(read);
  std::thread reader_2(read);
  uint64_t last = 0;
  for (uint64_t round = 1; round <= 1500; ++round) {
    LogBatch batch;
    uint64_t next = last + 1;
    if (round % 10 == 0) {
      next -= 3;
      batch.replaces_from = Index(next);
    }
    auto entries = make_entries(next, 7, round, 120);
    batch.entries = entries;
    batch.hard_state = {Term(round), NodeId(1), Index(committed)};
    if (auto appended = log.append(std::span(&batch, 1)); !appended) {
      ADD_FAILURE() << appended.error().text;
      break;
    }
    last = next + 6;
    committed = last > 10 ? last - 10 : 0;
    model.apply(batch);
  }
  // On a busy machine the readers may not have had their turn yet.
  while (seen == 0 && !HasFailure()) std::this_thread::yield();
  done = true;
  maker.join();
  compactor.join();
  reader_1.join();
  reader_2.join();
  EXPECT_GT(log.first_index(), Index(1));
  ASSERT_TRUE(holds(log, model));
  const Index first = log.first_index();
  opened->reset();
  opened = Log::open(*files_, path, {.segment_bytes = 64 << 10},
                     {first - 1, model.term_of(first - 1)}, recovered);
  ASSERT_TRUE(opened) << opened.error().text;
  EXPECT_TRUE(agrees(recovered, model));
  EXPECT_TRUE(holds(**opened, model));
}

}  // namespace
}  // namespace connectd::storage

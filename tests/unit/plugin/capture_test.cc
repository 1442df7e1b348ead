// Captures: a view and a forked child give the bytes of the moment they began at, whatever is
// applied meanwhile; and plugins that do in them what they like do no harm (catalogue rows 54, 58).
#include "plugin/capture.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <thread>
#include <vector>

#include "base/log.h"
#include "plugin/crash.h"
#include "storage/file_system.h"
#include "tests/unit/plugin/support.h"

namespace connectd::plugin {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Cause = CaptureFailure::Cause;

// A notebook: a command replaces its text, and the text says what snapshot() is to do.
struct Notebook {
  const connectd_host* host = nullptr;
  std::string text;
  std::vector<char> ballast;

  // For views.
  std::vector<std::string> calls;
  std::mutex mutex;
  std::condition_variable changed;
  bool save_may_end = false;
  bool save_has_begun = false;
};

Notebook& of(void* self) { return *static_cast<Notebook*>(self); }
Notebook* newest = nullptr;  // the tests look into it

int32_t create(const connectd_host* host, void** self) {
  auto* notebook = new Notebook();
  notebook->host = host;
  newest = notebook;
  *self = notebook;
  return CONNECTD_OK;
}
void destroy(void* self) { delete &of(self); }
int32_t apply_text(void* self, const connectd_apply_context*, connectd_bytes command,
                   const connectd_sink*) {
  of(self).text.assign(reinterpret_cast<const char*>(command.ptr), command.len);
  return CONNECTD_OK;
}

int32_t put(const connectd_sink* out, std::string_view text) {
  return out->write(out->ctx, text.data(), text.size());
}

int32_t snapshot(void* self, const connectd_snapshot* context, const connectd_sink* out) {
  Notebook& notebook = of(self);
  std::string_view text = notebook.text;
  if (text == "crash") {
    put(out, "half");
    ::raise(SIGSEGV);
  }
  if (text == "abort") std::abort();
  if (text == "exit") ::_exit(3);
  if (text == "kill") ::raise(SIGKILL);
  if (text == "hang") {
    while (true) ::pause();
  }
  if (text == "chatter") {
    while (true) notebook.host->log(notebook.host, CONNECTD_LOG_DEBUG, "still here", 10);
  }
  if (text == "drip") {  // garbage, slowly, forever
    while (put(out, std::string(100'000, '\x7f')) == CONNECTD_OK) ::usleep(1000);
    return CONNECTD_E_IO;
  }
  if (text == "refuse") {
    std::string why = "not at index " + std::to_string(context->index);
    return notebook.host->fail(notebook.host, CONNECTD_E_NOMEM, why.data(), why.size());
  }
  if (text == "log") {
    notebook.host->log(notebook.host, CONNECTD_LOG_WARN, "said in the child", 17);
    return put(out, "logged");
  }
  if (text == "close pipe") {
    for (int file = 0; file < 1024; ++file) ::close(file);
    while (true) ::pause();
  }
  if (text == "descriptors") {
    int open = 0;
    for (int file = 0; file < 4096; ++file) open += ::fcntl(file, F_GETFD) >= 0 ? 1 : 0;
    return put(out, std::to_string(open));
  }
  if (text == "dirty") {  // the child writes to all its memory, then waits
    for (size_t i = 0; i < notebook.ballast.size(); i += 512) notebook.ballast[i] = 2;
    while (put(out, std::string(70'000, '.')) == CONNECTD_OK) ::usleep(10'000);
    return CONNECTD_E_IO;
  }
  if (text == "allocate") {
    for (int i = 0; i < 1000; ++i) {
      std::string some(static_cast<size_t>(i) * 100, 'x');
      if (int32_t result = put(out, some); result != CONNECTD_OK) return result;
    }
    return CONNECTD_OK;
  }
  return put(out, text);
}
int32_t restore(void*, const connectd_snapshot*, const connectd_source*) {
  return CONNECTD_E_UNSUPPORTED;
}

// ---- its views: a copy of the text
struct NotebookView {
  std::string text;
};

int32_t begin_view(void* self, const connectd_snapshot* context, void** view) {
  Notebook& notebook = of(self);
  notebook.calls.push_back("begin " + std::to_string(context->index));
  if (notebook.text == "refuse") {
    return notebook.host->fail(notebook.host, CONNECTD_E_NOMEM, "no view now", 11);
  }
  *view = new NotebookView{notebook.text};
  return CONNECTD_OK;
}
int32_t save_view(const void* self, void* view, const connectd_snapshot* context,
                  const connectd_sink* out) {
  auto& notebook = *static_cast<Notebook*>(const_cast<void*>(self));
  const std::string& text = static_cast<NotebookView*>(view)->text;
  if (text == "wait") {
    std::unique_lock lock(notebook.mutex);
    notebook.save_has_begun = true;
    notebook.changed.notify_all();
    notebook.changed.wait(lock, [&] { return notebook.save_may_end; });
  }
  if (text == "fail") return notebook.host->fail(notebook.host, CONNECTD_E_FAULT, "lost it", 7);
  if (text == "endless") {
    int32_t result = CONNECTD_OK;
    while (result == CONNECTD_OK) result = put(out, "more and more ");
    return result;
  }
  return put(out, text + "@" + std::to_string(context->index));
}
void end_view(void* self, void* view) {
  of(self).calls.push_back("end");
  delete static_cast<NotebookView*>(view);
}
const void* get_extension(const char* id) {
  static constexpr connectd_ext_snapshot_view kViews = {sizeof kViews, 0, begin_view, save_view,
                                                        end_view};
  return std::string_view(id) == CONNECTD_EXT_SNAPSHOT_VIEW ? &kViews : nullptr;
}

constexpr connectd_plugin table_of(uint64_t flags, const void* (*extensions)(const char*)) {
  return {CONNECTD_PLUGIN_HEAD("notebook", "1.2.3", 1, 1, flags, CONNECTD_FRAMING_LINE),
          create,
          destroy,
          nullptr,
          nullptr,
          apply_text,
          snapshot,
          restore,
          extensions};
}
constexpr connectd_plugin kForking = table_of(CONNECTD_F_FORK_SNAPSHOT, nullptr);
constexpr connectd_plugin kViewing = table_of(0, get_extension);
constexpr connectd_plugin kBoth = table_of(CONNECTD_F_FORK_SNAPSHOT, get_extension);
constexpr connectd_plugin kNeither = table_of(0, nullptr);

std::shared_ptr<Instance> notebook(const connectd_plugin& table, std::string_view text = "") {
  std::shared_ptr<Instance> instance = make_instance(Plugin::wrap(&table));
  if (!text.empty()) apply(*instance, 1, text);
  return instance;
}

std::unique_ptr<Capture> begin(Capturer& capturer, const std::shared_ptr<Instance>& instance,
                               uint64_t index = 7) {
  auto capture = capturer.begin(instance, covering(index, 0));
  if (capture) return std::move(*capture);
  ADD_FAILURE() << capture.error().error.text;
  return nullptr;
}

// What a capture gives; a failure as "!cause: text".
std::string written(Capture& capture) {
  std::string bytes;
  auto done = capture.write(into(bytes));
  if (done) return bytes;
  constexpr const char* kNames[] = {"cancelled", "output", "plugin", "means"};
  return fmt::format("!{}: {}", kNames[static_cast<size_t>(done.error().cause)],
                     done.error().error.text);
}

ForkOptions with_timeout(milliseconds timeout) {
  ForkOptions options;
  options.stall_timeout = timeout;
  return options;
}
// For a child that writes: no machine is that slow.
ForkOptions patient() { return with_timeout(seconds(60)); }

std::string forked(std::string_view text, const ForkOptions& options = patient()) {
  auto capturer = make_fork_capturer(options);
  auto capture = begin(*capturer, notebook(kForking, text));
  return capture == nullptr ? "" : written(*capture);
}

TEST(CaptureMode, AutoPicksTheBestSupported) {
  struct Case {
    const connectd_plugin* table;
    CaptureMode automatic;
    bool view, fork;
  };
  for (const Case& c : {Case{&kBoth, CaptureMode::kView, true, true},
                        Case{&kViewing, CaptureMode::kView, true, false},
                        Case{&kForking, CaptureMode::kFork, false, true},
                        Case{&kNeither, CaptureMode::kInline, false, false}}) {
    auto plugin = *Plugin::wrap(c.table);
    EXPECT_EQ(choose_capture(*plugin, CaptureMode::kAuto), c.automatic);
    EXPECT_EQ(choose_capture(*plugin, CaptureMode::kInline), CaptureMode::kInline);
    for (auto [wanted, can, name] : {std::tuple(CaptureMode::kView, c.view, "'view'"),
                                     std::tuple(CaptureMode::kFork, c.fork, "'fork'")}) {
      auto mode = choose_capture(*plugin, wanted);
      EXPECT_EQ(mode.has_value(), can);
      if (can) {
        EXPECT_EQ(*mode, wanted);
      } else {
        EXPECT_EQ(mode.error().kind, ErrorKind::kBadConfig);
        EXPECT_THAT(mode.error().text, HasSubstr(name));
        EXPECT_THAT(mode.error().text, HasSubstr("notebook 1.2.3"));
        EXPECT_THAT(mode.error().text, HasSubstr("set snapshot.mode to"));
      }
    }
  }
}

// ---- fork

TEST(ForkCapture, WritesStateAsOfTheFork) {
  auto capturer = make_fork_capturer(patient());
  auto instance = notebook(kForking, "before");
  auto capture = begin(*capturer, instance);
  ASSERT_NE(capture, nullptr);
  apply(*instance, 2, "after");
  EXPECT_EQ(written(*capture), "before");
  EXPECT_THAT(capture->cost(), HasSubstr("MiB of memory"));
  EXPECT_EQ(written(*begin(*capturer, instance)), "after");
}

TEST(ForkCapture, LargeAndEmptyStatesAreComplete) {
  std::string large;
  for (int i = 0; large.size() < (9u << 20); ++i) large += std::to_string(i);
  EXPECT_EQ(forked(large), large);
  EXPECT_EQ(forked(""), "");
  EXPECT_EQ(forked("allocate").size(), 1000u * 999 / 2 * 100);
}

TEST(ForkCapture, ChildHasOneDescriptor) { EXPECT_EQ(forked("descriptors"), "1"); }

TEST(ForkCapture, LogLinesAndReasonsReachParent) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(forked("log"), "logged");
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("said in the child"));
  EXPECT_THAT(forked("refuse"), AllOf(StartsWith("!plugin: "), HasSubstr("notebook 1.2.3"),
                                      HasSubstr("not at index 7"), HasSubstr("(-2)")));
}

TEST(ForkCapture, ChildCrashFailsSnapshotOnly) {
  install_crash_handler();
  testing::internal::CaptureStderr();
  std::string crashed = forked("crash");
  std::string aborted = forked("abort");
  std::string said = testing::internal::GetCapturedStderr();
  EXPECT_THAT(crashed, StartsWith("!plugin: plugin notebook 1.2.3 crashed in snapshot in a forked "
                                  "child (signal 11, SIGSEGV)"));
  EXPECT_THAT(aborted, HasSubstr("(signal 6, SIGABRT)"));
  EXPECT_THAT(said, Not(HasSubstr("crashed")));
  EXPECT_THAT(forked("exit"), HasSubstr("exit 3"));
  EXPECT_THAT(forked("kill"), HasSubstr("because of low memory"));
  EXPECT_THAT(forked("close pipe"), HasSubstr("closed its pipe"));
}

TEST(ForkCapture, SilentChildIsKilled) {
  for (const char* text : {"hang", "chatter"}) {
    auto done = forked(text, with_timeout(milliseconds(200)));
    EXPECT_THAT(done, StartsWith("!means: ")) << text;
    EXPECT_THAT(done, HasSubstr("CONNECTD_F_FORK_SNAPSHOT")) << text;
  }
}

TEST(ForkCapture, ChildOverMemoryLimitIsKilled) {
  ForkOptions options;
  options.stall_timeout = seconds(60);
  options.measure_interval = milliseconds(20);
  options.growth_bytes_max = 16 << 20;
  auto capturer = make_fork_capturer(options);
  auto instance = notebook(kForking, "dirty");
  newest->ballast.resize(32 << 20, 1);
  auto capture = begin(*capturer, instance);
  EXPECT_THAT(written(*capture),
              AllOf(StartsWith("!means: "), HasSubstr("snapshot.fork_memory is 16 MiB")));
  // Pages that the parent writes to are copied as well.
  apply(*instance, 2, "drip");
  capture = begin(*capturer, instance);
  std::fill(newest->ballast.begin(), newest->ballast.end(), '\3');
  EXPECT_THAT(written(*capture), StartsWith("!means: "));
}

TEST(ForkCapture, CancelEndsHangingOrSlowChild) {
  ForkOptions options;
  options.stall_timeout = seconds(600);
  for (const char* text : {"hang", "drip"}) {
    auto capturer = make_fork_capturer(options);
    auto capture = begin(*capturer, notebook(kForking, text));
    std::thread other([&] { capture->cancel(); });
    EXPECT_THAT(written(*capture), StartsWith("!cancelled")) << text;
    other.join();
  }
}

TEST(ForkCapture, SinkFailureIsReturnedUnchanged) {
  auto capturer = make_fork_capturer(patient());
  auto capture = begin(*capturer, notebook(kForking, "drip"));
  auto done =
      capture->write([](ByteView) -> Result<void> { return failure(ErrorKind::kNoSpace, "full"); });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().cause, Cause::kOutput);
  EXPECT_EQ(done.error().error.kind, ErrorKind::kNoSpace);
  EXPECT_EQ(done.error().error.text, "full");
}

// Whether a process has ended, within ten seconds.
bool ends(pid_t process) {
  int handle = static_cast<int>(::syscall(SYS_pidfd_open, process, 0));
  if (handle < 0) return errno == ESRCH;
  pollfd ready{handle, POLLIN, 0};
  int events = ::poll(&ready, 1, 10'000);
  ::close(handle);
  return events == 1;
}
// The first child of this process; 0: none.
pid_t some_child(pid_t parent) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    FILE* file = std::fopen((entry.path() / "stat").c_str(), "r");
    if (file == nullptr) continue;
    int pid = 0;
    int its_parent = 0;
    int fields = std::fscanf(file, "%d (%*[^)]) %*c %d", &pid, &its_parent);
    std::fclose(file);
    if (fields == 2 && its_parent == parent) return pid;
  }
  return 0;
}

TEST(ForkCapture, DroppedCaptureEndsChild) {
  auto capturer = make_fork_capturer(patient());
  auto capture = begin(*capturer, notebook(kForking, "hang"));
  pid_t child = some_child(::getpid());
  ASSERT_NE(child, 0);
  capture.reset();
  EXPECT_TRUE(ends(child));
}

TEST(ForkCapture, ChildDiesWithParent) {
  int ends_of_pipe[2];
  ASSERT_EQ(::pipe(ends_of_pipe), 0);
  pid_t parent = ::fork();
  if (parent == 0) {
    auto capturer = make_fork_capturer(ForkOptions{});
    auto instance = notebook(kForking, "hang");
    auto capture = begin(*capturer, instance);
    pid_t child = some_child(::getpid());
    if (::write(ends_of_pipe[1], &child, sizeof child) != sizeof child) ::_exit(1);
    while (true) ::pause();
  }
  pid_t child = 0;
  ASSERT_EQ(::read(ends_of_pipe[0], &child, sizeof child), static_cast<ssize_t>(sizeof child));
  ASSERT_NE(child, 0);
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  EXPECT_TRUE(ends(child));
  ::close(ends_of_pipe[0]);
  ::close(ends_of_pipe[1]);
}

// As another process sees it.
bool is_lockable(const std::string& path) {
  pid_t other = ::fork();
  if (other == 0) {
    auto files = storage::make_real_file_system();
    ::_exit(files->lock(path).has_value() ? 0 : 1);
  }
  int status = 0;
  ::waitpid(other, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(ForkCapture, ChildDoesNotHoldDirectoryLock) {
  std::string directory = testing::TempDir() + "/capture_lock_" + std::to_string(::getpid());
  std::filesystem::create_directory(directory);
  std::string path = directory + "/lock";
  auto files = storage::make_real_file_system();
  auto lock = files->lock(path);
  ASSERT_TRUE(lock) << lock.error().text;
  auto capturer = make_fork_capturer(ForkOptions{});
  auto capture = begin(*capturer, notebook(kForking, "hang"));
  // That the child closes its descriptors does not give the parent's lock away; and what the parent
  // gives up, the child, which lives, does not keep.
  EXPECT_FALSE(is_lockable(path));
  lock->reset();
  EXPECT_TRUE(is_lockable(path));
  EXPECT_NE(some_child(::getpid()), 0);
  capture.reset();
  std::filesystem::remove_all(directory);
}

// ---- view

TEST(ViewCapture, WritesStateAsOfBeginAndEndsOnce) {
  auto capturer = make_view_capturer();
  auto instance = notebook(kViewing, "before");
  auto capture = begin(*capturer, instance);
  apply(*instance, 2, "after");
  EXPECT_EQ(written(*capture), "before@7");
  capture.reset();
  EXPECT_EQ(written(*begin(*capturer, instance, 8)), "after@8");
  EXPECT_THAT(newest->calls, ElementsAre("begin 7", "end", "begin 8", "end"));
}

TEST(ViewCapture, FailedBeginHasNoEnd) {
  auto capturer = make_view_capturer();
  auto instance = notebook(kViewing, "refuse");
  auto capture = capturer->begin(instance, covering(7, 0));
  ASSERT_FALSE(capture);
  EXPECT_EQ(capture.error().cause, Cause::kPlugin);
  EXPECT_THAT(capture.error().error.text, HasSubstr("no view now"));
  EXPECT_THAT(newest->calls, ElementsAre("begin 7"));
  // The instance still works.
  apply(*instance, 2, "fine");
  EXPECT_EQ(written(*begin(*capturer, instance)), "fine@7");
}

TEST(ViewCapture, FailedSaveFailsSnapshotAndEndsView) {
  auto capturer = make_view_capturer();
  auto instance = notebook(kViewing, "fail");
  EXPECT_THAT(
      written(*begin(*capturer, instance)),
      AllOf(StartsWith("!plugin: "), HasSubstr("save of a view at index 7"), HasSubstr("lost it")));
  apply(*instance, 2, "fine");
  EXPECT_EQ(written(*begin(*capturer, instance)), "fine@7");
  EXPECT_THAT(newest->calls, ElementsAre("begin 7", "end", "begin 7", "end"));
}

TEST(ViewCapture, CancelStopsSaveOrPreventsIt) {
  auto capturer = make_view_capturer();
  auto instance = notebook(kViewing, "endless");
  auto capture = begin(*capturer, instance);
  std::thread other([&] { capture->cancel(); });
  EXPECT_THAT(written(*capture), StartsWith("!cancelled"));
  other.join();
  capture = nullptr;  // one at a time
  capture = begin(*capturer, instance);
  capture->cancel();
  EXPECT_THAT(written(*capture), StartsWith("!cancelled"));
}

TEST(ViewCapture, SinkFailureIsReturnedUnchanged) {
  auto capturer = make_view_capturer();
  auto capture = begin(*capturer, notebook(kViewing, "endless"));
  auto done =
      capture->write([](ByteView) -> Result<void> { return failure(ErrorKind::kNoSpace, "full"); });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().cause, Cause::kOutput);
  EXPECT_EQ(done.error().error.kind, ErrorKind::kNoSpace);
}

// Row 58: a slow view delays nobody.
TEST(ViewCapture, ApplyContinuesDuringSave) {
  auto capturer = make_view_capturer();
  auto instance = notebook(kViewing, "wait");
  auto capture = begin(*capturer, instance);
  std::string bytes;
  std::thread snapshot_thread([&] { bytes = written(*capture); });
  {
    std::unique_lock lock(newest->mutex);
    newest->changed.wait(lock, [] { return newest->save_has_begun; });
  }
  for (uint64_t index = 2; index < 100; ++index) apply(*instance, index, "later");
  EXPECT_EQ(newest->text, "later");
  {
    std::lock_guard lock(newest->mutex);
    newest->save_may_end = true;
  }
  newest->changed.notify_all();
  snapshot_thread.join();
  EXPECT_EQ(bytes, "wait@7");
}

// A snapshot from the leader replaces the instance: its view keeps it alive.
TEST(ViewCapture, InstanceLivesUntilViewEnds) {
  auto capturer = make_view_capturer();
  auto instance = notebook(kViewing, "old");
  std::weak_ptr<Instance> watched = instance;
  auto capture = begin(*capturer, instance);
  instance.reset();
  EXPECT_FALSE(watched.expired());
  EXPECT_EQ(written(*capture), "old@7");
  EXPECT_FALSE(watched.expired());
  capture.reset();
  EXPECT_TRUE(watched.expired());
}

}  // namespace
}  // namespace connectd::plugin

// Capture by a forked child: the kernel copies what parent or child change meanwhile, page by page.
//
// The child is a copy of a process with other threads, of which only the forking one continues
// there. So the host does in it what POSIX calls async-signal-safe, and no more: no lock, no
// allocation, no log. The plugin's snapshot() may allocate: glibc's fork() takes the locks of its
// malloc first and makes them again in the child. (That is glibc's behaviour, which musl and
// jemalloc share, and not a promise of POSIX.) Its own locks are the plugin's care:
// CONNECTD_F_FORK_SNAPSHOT.
//
// Child and parent share one pipe and nothing else. The child writes frames, each FrameHeader and
// `size` bytes: the snapshot, log lines, at last how it ended. No end, no snapshot.
//
// The data directory's lock belongs to the parent only (storage/file_system.cc), so a child that
// outlived it would keep nobody out; it does not outlive it either: PR_SET_PDEATHSIG.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "plugin/capture.h"

namespace connectd::plugin {
namespace {

constexpr size_t kPipeBytes = 1 << 20;  // asked for; the kernel may give less
constexpr size_t kChildBufferBytes = 64 << 10;
constexpr size_t kReadBytes = 256 << 10;
// How often the parent looks whether it was cancelled.
constexpr int kPollMs = 100;
// Of lower priority than whoever serves requests.
constexpr int kChildNice = 10;

enum class FrameKind : uint32_t { kData = 1, kLog = 2, kEnd = 3 };
struct FrameHeader {
  FrameKind kind = FrameKind::kData;
  uint32_t size = 0;
  int32_t value = 0;    // kLog: the level; kEnd: what snapshot() returned
  uint32_t copied = 0;  // kEnd: MiB that were copied since the fork
};

// What a child has of its own, in bytes: pages that it, or the parent, has written to since the
// fork. 0: unknown. Allocates nothing: the child asks too.
uint64_t copied_bytes(const char* smaps_path) {
  int file = ::open(smaps_path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  char buffer[4096];
  ssize_t size = ::read(file, buffer, sizeof buffer);
  ::close(file);
  std::string_view text(buffer, size > 0 ? static_cast<size_t>(size) : 0);
  uint64_t kib = 0;
  for (std::string_view name : {"\nPrivate_Clean:", "\nPrivate_Dirty:"}) {
    size_t at = text.find(name);
    if (at == std::string_view::npos) return 0;
    text.remove_prefix(at + name.size());
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    uint64_t number = 0;
    for (char c : text) {
      if (c < '0' || c > '9') break;
      number = number * 10 + static_cast<uint64_t>(c - '0');
    }
    kib += number;
  }
  return kib << 10;
}

// ---- the child

bool write_all(int pipe, const void* data, size_t size) {
  const auto* bytes = static_cast<const char*>(data);
  while (size > 0) {
    ssize_t n = ::write(pipe, bytes, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

// The host's side in the child. Lies on the stack of the forked thread; allocates nothing.
class ChildProcess final : public ChildHost {
 public:
  explicit ChildProcess(int pipe) : pipe_(pipe), sink_{sizeof sink_, 0, this, write} {}

  const connectd_sink* sink() const { return &sink_; }

  void log(int32_t level, std::string_view text) override { frame(FrameKind::kLog, level, text); }
  void fail(std::string_view text) override {
    fail_size_ = std::min(text.size(), sizeof fail_text_);
    std::memcpy(fail_text_, text.data(), fail_size_);
  }
  void end(int32_t result) {
    if (!flush()) return;
    copied_ = static_cast<uint32_t>(copied_bytes("/proc/self/smaps_rollup") >> 20);
    frame(FrameKind::kEnd, result, std::string_view(fail_text_, fail_size_));
  }

 private:
  static int32_t write(void* context, const void* data, size_t length) noexcept {
    auto& self = *static_cast<ChildProcess*>(context);
    const auto* bytes = static_cast<const char*>(data);
    while (length > 0) {
      size_t part = std::min(length, sizeof self.buffer_ - self.used_);
      std::memcpy(self.buffer_ + self.used_, bytes, part);
      self.used_ += part;
      bytes += part;
      length -= part;
      if (self.used_ == sizeof self.buffer_ && !self.flush()) return CONNECTD_E_CANCELLED;
    }
    return self.broken_ ? CONNECTD_E_CANCELLED : CONNECTD_OK;
  }
  bool flush() {
    size_t size = std::exchange(used_, 0);
    if (size > 0) frame(FrameKind::kData, 0, std::string_view(buffer_, size));
    return !broken_;
  }
  void frame(FrameKind kind, int32_t value, std::string_view bytes) {
    FrameHeader header{kind, static_cast<uint32_t>(bytes.size()), value, copied_};
    if (!broken_) broken_ = !write_all(pipe_, &header, sizeof header);
    if (!broken_) broken_ = !write_all(pipe_, bytes.data(), bytes.size());
  }

  const int pipe_;
  const connectd_sink sink_;
  bool broken_ = false;  // the parent takes no more
  uint32_t copied_ = 0;
  size_t used_ = 0;
  size_t fail_size_ = 0;
  char fail_text_[kMaxFailText];
  char buffer_[kChildBufferBytes];
};

// When memory runs out, the kernel should end the child, and not the node.
void offer_to_oom_killer() {
  int file = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (file < 0) return;
  [[maybe_unused]] ssize_t written = ::write(file, "1000", 4);
  ::close(file);
}

void close_all_but(int kept) {
  auto close_range = [](unsigned first, unsigned last) {
    if (first > last || ::syscall(SYS_close_range, first, last, 0) == 0) return;
    // A kernel before 5.9, or a filter that does not know the call.
    rlimit limit{};
    unsigned open_max = 1 << 16;
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < open_max) {
      open_max = static_cast<unsigned>(limit.rlim_cur);
    }
    for (unsigned file = first; file <= std::min(last, open_max); ++file) {
      ::close(static_cast<int>(file));
    }
  };
  auto file = static_cast<unsigned>(kept);
  if (file > 0) close_range(0, file - 1);
  close_range(file + 1, ~0U);
}

[[noreturn]] void run_child(Instance& instance, const connectd_snapshot& context, int pipe,
                            pid_t parent) {
  // Of the thread that forked, which lives as long as the node.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);
  // A crash here is no crash of the daemon: the parent says what happened.
  sigset_t blocked;
  sigfillset(&blocked);
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    ::sigaction(number, &action, nullptr);
    sigdelset(&blocked, number);
  }
  ::sigprocmask(SIG_SETMASK, &blocked, nullptr);
  offer_to_oom_killer();
  ::setpriority(PRIO_PROCESS, 0,
                kChildNice);  // refused by the hardened unit, and that is no matter
  close_all_but(pipe);
  ChildProcess child(pipe);
  child.end(instance.snapshot_in_child(context, *child.sink(), child));
  ::_exit(0);
}

// ---- the parent

class ForkCapture final : public Capture {
 public:
  ForkCapture(const ForkOptions& options, const Instance& instance, pid_t child, int pipe,
              Duration pause)
      : options_(options),
        who_(fmt::format("plugin {} {}", instance.plugin().name(), instance.plugin().version())),
        child_(child),
        pipe_(pipe),
        pause_(pause) {}
  ~ForkCapture() override {
    reap();
    ::close(pipe_);
  }

  tl::expected<void, CaptureFailure> write(const SnapshotSink& sink) override {
    auto result = copy(sink);
    int status = reap();
    if (result) return {};
    if (result.error().cause == CaptureFailure::Cause::kPlugin && result.error().error.text.empty())
      result.error().error.text = death(status);
    return result;
  }

  std::string cost() const override {
    return fmt::format("fork took {:.1f} ms; copied {} MiB of memory",
                       static_cast<double>(pause_.count()) / 1e6, copied_ >> 20);
  }

 private:
  using Cause = CaptureFailure::Cause;
  static tl::unexpected<CaptureFailure> failed(Cause cause, std::string text) {
    return tl::unexpected(CaptureFailure{cause, Error{ErrorKind::kPluginFailed, std::move(text)}});
  }

  // From the pipe to the sink, until the end. A failure without a text: the child is gone.
  tl::expected<void, CaptureFailure> copy(const SnapshotSink& sink) {
    std::vector<uint8_t> buffer(kReadBytes);
    Time heard = read_clocks().time;
    Time next_measure = heard + options_.measure_interval;
    while (true) {
      if (is_cancelled()) return cancelled();
      if (Time now = read_clocks().time; now >= next_measure) {
        next_measure = now + options_.measure_interval;
        measure();
        if (copied_ > options_.growth_bytes_max) {
          return failed(Cause::kMeans,
                        fmt::format("{}: {} MiB of memory were copied since the fork, and "
                                    "snapshot.fork_memory is {} MiB: the child was killed",
                                    who_, copied_ >> 20, options_.growth_bytes_max >> 20));
        }
      }
      pollfd ready{pipe_, POLLIN, 0};
      int events = ::poll(&ready, 1, kPollMs);
      if (events < 0 && errno != EINTR) {
        return failed(Cause::kMeans, "cannot wait for the child: " + errno_text(errno));
      }
      if (events > 0) {
        ssize_t n = ::read(pipe_, buffer.data(), buffer.size());
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) return failed(Cause::kPlugin, "");
        auto more = take(ByteView(buffer.data(), static_cast<size_t>(n)), sink);
        if (!more) return tl::unexpected(more.error());
        if (!*more) return {};
      }
      Time now = read_clocks().time;
      if (std::exchange(data_came_, false)) {
        heard = now;  // behind the sink, whose time is not the child's
      } else if (now - heard >= options_.stall_timeout) {
        // Log lines are no progress.
        return failed(Cause::kMeans,
                      fmt::format("{}: snapshot() wrote nothing for {} ms in a forked child, which "
                                  "was killed. If it waits for a lock or a thread, which a fork "
                                  "does not copy, it must not set CONNECTD_F_FORK_SNAPSHOT",
                                  who_, (now - heard) / std::chrono::milliseconds(1)));
      }
    }
  }

  // False: that was the end of the whole snapshot.
  tl::expected<bool, CaptureFailure> take(ByteView bytes, const SnapshotSink& sink) {
    while (!bytes.empty()) {
      if (header_size_ < sizeof header_) {
        size_t part = std::min(bytes.size(), sizeof header_ - header_size_);
        std::memcpy(reinterpret_cast<char*>(&header_) + header_size_, bytes.data(), part);
        header_size_ += part;
        bytes = bytes.subspan(part);
        if (header_size_ < sizeof header_) break;
        bool is_data = header_.kind == FrameKind::kData;
        bool is_text = header_.kind == FrameKind::kLog || header_.kind == FrameKind::kEnd;
        if ((!is_data && !is_text) || header_.size > (is_data ? kChildBufferBytes : kMaxLogText)) {
          return failed(
              Cause::kPlugin,
              who_ + " corrupted the host's memory in a forked child: invalid data in the pipe");
        }
        left_ = header_.size;
        text_.clear();
      } else if (header_.kind == FrameKind::kData) {
        ByteView part = bytes.first(std::min<size_t>(bytes.size(), left_));
        if (auto taken = sink(part); !taken) {
          return tl::unexpected(CaptureFailure{Cause::kOutput, taken.error()});
        }
        data_came_ = data_came_ || !part.empty();
        left_ -= part.size();
        bytes = bytes.subspan(part.size());
      } else {
        ByteView part = bytes.first(std::min<size_t>(bytes.size(), left_));
        text_ += as_text(part);
        left_ -= part.size();
        bytes = bytes.subspan(part.size());
      }
      if (left_ > 0) continue;
      header_size_ = 0;
      if (header_.kind == FrameKind::kLog) {
        auto level = static_cast<LogLevel>(std::clamp(header_.value, 0, 3));
        if (log_enabled(level)) log_line(level, "plugin", text_);
      } else if (header_.kind == FrameKind::kEnd) {
        copied_ = std::max(copied_, uint64_t{header_.copied} << 20);
        if (header_.value == CONNECTD_OK) return false;
        return failed(Cause::kPlugin,
                      fmt::format("{} failed in snapshot in a forked child: {} ({})", who_,
                                  text_.empty() ? "it gave no reason" : text_, header_.value));
      }
    }
    return true;
  }

  void measure() {
    std::string path = fmt::format("/proc/{}/smaps_rollup", child_);
    copied_ = std::max(copied_, copied_bytes(path.c_str()));
  }

  // Ends it, if it has not ended; and takes its status. A child whose pipe is at its end has
  // ended, or has closed what it must not close: to kill it does not change how it ended.
  int reap() {
    if (child_ <= 0) return 0;
    ::kill(child_, SIGKILL);
    int status = 0;
    while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
    }
    child_ = -1;
    return status;
  }
  std::string death(int status) const {
    std::string text = fmt::format("{} {} in snapshot in a forked child (", who_,
                                   WIFSIGNALED(status) ? "crashed" : "ended the process");
    if (!WIFSIGNALED(status)) return text + fmt::format("exit {})", WEXITSTATUS(status));
    const char* name = ::sigabbrev_np(WTERMSIG(status));
    text += fmt::format("signal {}, SIG{})", WTERMSIG(status), name == nullptr ? "?" : name);
    if (WTERMSIG(status) == SIGKILL) {
      text += ": killed, perhaps by the kernel because of low memory, or it closed its pipe";
    }
    return text;
  }

  const ForkOptions options_;
  const std::string who_;
  pid_t child_;
  const int pipe_;
  const Duration pause_;
  uint64_t copied_ = 0;
  // The frame that comes in.
  FrameHeader header_;
  size_t header_size_ = 0;
  size_t left_ = 0;
  bool data_came_ = false;
  std::string text_;
};

class ForkCapturer final : public Capturer {
 public:
  explicit ForkCapturer(const ForkOptions& options) : options_(options) {}

  tl::expected<std::unique_ptr<Capture>, CaptureFailure> begin(
      const std::shared_ptr<Instance>& instance, const SnapshotContext& context) override {
    auto refused = [](const char* call, int error_number) {
      return tl::unexpected(CaptureFailure{
          CaptureFailure::Cause::kMeans,
          Error{ErrorKind::kInternal, fmt::format("{}: {}", call, errno_text(error_number))}});
    };
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return refused("pipe", errno);
    ::fcntl(ends[1], F_SETPIPE_SZ, static_cast<int>(kPipeBytes));
    const connectd_snapshot c = to_c(context);
    const pid_t parent = ::getpid();
    const Time before = read_clocks().time;
    const pid_t child = ::fork();
    if (child == 0) run_child(*instance, c, ends[1], parent);
    const int error_number = errno;
    const Duration pause = read_clocks().time - before;
    ::close(ends[1]);
    if (child < 0) {
      ::close(ends[0]);
      return refused("fork", error_number);
    }
    return std::make_unique<ForkCapture>(options_, *instance, child, ends[0], pause);
  }

 private:
  const ForkOptions options_;
};

}  // namespace

std::unique_ptr<Capturer> make_fork_capturer(const ForkOptions& options) {
  return std::make_unique<ForkCapturer>(options);
}

}  // namespace connectd::plugin

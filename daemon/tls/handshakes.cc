#include "tls/handshakes.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <list>
#include <set>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "base/thread_role.h"

namespace connectd::tls {
namespace {

constexpr int kOthersNice = 10;
// The first byte of a TLS record with a handshake message.
constexpr uint8_t kHandshakeRecord = 0x16;
// How long a refused connection may stay, and how much is read from it in that time.
constexpr Duration kFarewell = std::chrono::seconds(1);
constexpr size_t kMaxFarewellBytes = 256 << 10;
constexpr uint64_t kWakeId = 0;

struct Counts {
  std::atomic<uint64_t> in_progress{0};
  std::atomic<uint64_t> done{0};
  std::atomic<uint64_t> plain{0};
  std::atomic<uint64_t> failed{0};
  std::atomic<uint64_t> gave_way{0};
  std::atomic<uint64_t> timed_out{0};
};

enum class Stage : uint8_t { kPeeking, kShaking, kLeaving };

// A connection in a lane.
struct Guest {
  int fd = -1;
  Stage stage = Stage::kPeeking;
  AcceptOptions options{};  // of one that was accepted
  Expected expected{};      // of one that was dialled
  bool is_dialled = false;
  std::shared_ptr<const Credentials> credentials{};
  Handshakes::Done done{};
  Time deadline{};

  uint64_t id = 0;
  std::unique_ptr<Session> session{};
  std::list<uint64_t>::iterator place{};  // in the order of the last sign of life
  size_t farewell_bytes = 0;
};

}  // namespace

class Handshakes::LaneThread final {
 public:
  LaneThread(size_t limit, int nice, int epoll, int event)
      : limit_(limit), nice_(nice), epoll_(epoll), event_(event) {}
  ~LaneThread() {
    stop();
    ::close(epoll_);
    ::close(event_);
  }
  LaneThread(const LaneThread&) = delete;
  LaneThread& operator=(const LaneThread&) = delete;

  static Result<std::unique_ptr<LaneThread>> start(size_t limit, int nice) {
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    const int event = epoll < 0 ? -1 : ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    epoll_event wakes{.events = EPOLLIN, .data = {.u64 = kWakeId}};
    if (event < 0 || ::epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wakes) != 0) {
      const int error = errno;
      if (epoll >= 0) ::close(epoll);
      if (event >= 0) ::close(event);
      return failure(
          error == EMFILE || error == ENFILE ? ErrorKind::kNoDescriptors : ErrorKind::kCannotCreate,
          fmt::format("cannot start TLS handshakes: {}", errno_text(error)));
    }
    auto lane = std::make_unique<LaneThread>(limit, nice, epoll, event);
    Result<std::thread> thread = start_thread("TLS", [self = lane.get()] { self->run(); });
    if (!thread) return failure(thread.error());
    lane->thread_ = std::move(*thread);
    return lane;
  }

  void add(Guest guest) EXCLUDES(mutex_) {
    int crowded_out = -1;
    {
      MutexLock lock(mutex_);
      if (is_stopped_) {
        crowded_out = std::exchange(guest.fd, -1);
      } else {
        arrivals_.push_back(std::move(guest));
        // What the thread has not seen yet counts too: the oldest gives up its descriptor.
        if (arrivals_.size() - crowded_out_ > limit_) {
          crowded_out = std::exchange(arrivals_[crowded_out_++].fd, -1);
        }
      }
    }
    if (crowded_out >= 0) ::close(crowded_out);
    wake();
  }

  void stop() EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      is_stopped_ = true;
    }
    wake();
    if (thread_.joinable()) thread_.join();
    MutexLock lock(mutex_);
    for (Guest& guest : arrivals_) {
      if (guest.fd >= 0) ::close(guest.fd);
    }
    arrivals_.clear();
  }

  Counters counters() const {
    return {counts_.in_progress, counts_.done,     counts_.plain,
            counts_.failed,      counts_.gave_way, counts_.timed_out};
  }

 private:
  void wake() const {
    const uint64_t one = 1;
    // Full is as good: it is readable.
    (void)!::write(event_, &one, sizeof one);
  }

  void run() {
    role_.check();
    // In Linux the priority is the calling thread's. The hardened unit refuses it, and that is no
    // matter.
    if (nice_ != 0) ::setpriority(PRIO_PROCESS, 0, nice_);
    std::array<epoll_event, 64> events{};
    while (take_arrivals()) {
      const int count =
          ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), wait_ms());
      for (int i = 0; i < count; ++i) {
        // One of an earlier event of this round may have ended it.
        const auto it = guests_.find(events[static_cast<size_t>(i)].data.u64);
        if (it != guests_.end()) go_on(it->second);
      }
      expire();
    }
    for (auto& [id, guest] : guests_) {
      guest.session.reset();
      ::close(guest.fd);
    }
    guests_.clear();
    counts_.in_progress = 0;
  }

  // Until the next deadline.
  int wait_ms() const REQUIRES(role_) {
    if (deadlines_.empty()) return -1;
    const Duration left = deadlines_.begin()->first - read_clocks().time;
    if (left <= Duration::zero()) return 0;
    return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count());
  }

  // False: it is to stop.
  bool take_arrivals() REQUIRES(role_) EXCLUDES(mutex_) {
    uint64_t ignored = 0;
    (void)!::read(event_, &ignored, sizeof ignored);
    std::vector<Guest> arrivals;
    {
      MutexLock lock(mutex_);
      if (is_stopped_) return false;
      arrivals.swap(arrivals_);
      crowded_out_ = 0;
    }
    for (Guest& guest : arrivals) {
      if (guest.fd < 0) {
        ++counts_.gave_way;
        tell(guest, {.fd = -1, .session = nullptr, .failure = kGaveWay});
        continue;
      }
      while (guests_.size() >= limit_) give_way(guests_.at(order_.front()));
      begin(std::move(guest));
    }
    return true;
  }

  void begin(Guest arrival) REQUIRES(role_) {
    const uint64_t id = next_id_++;
    Guest& guest = guests_[id] = std::move(arrival);
    guest.id = id;
    guest.place = order_.insert(order_.end(), id);
    deadlines_.insert({guest.deadline, id});
    ++counts_.in_progress;
    epoll_event event{.events = EPOLLIN, .data = {.u64 = id}};
    CHECK_EQ(::epoll_ctl(epoll_, EPOLL_CTL_ADD, guest.fd, &event), 0) << errno_text(errno);
    if (guest.is_dialled) {
      guest.stage = Stage::kShaking;
      guest.session = Session::dial(guest.credentials, guest.fd, std::exchange(guest.expected, {}));
      go_on(guest);
    }
  }

  // Its socket is ready.
  void go_on(Guest& guest) REQUIRES(role_) {
    order_.splice(order_.end(), order_, guest.place);
    switch (guest.stage) {
      case Stage::kPeeking:
        return peek(guest);
      case Stage::kShaking:
        return shake(guest);
      case Stage::kLeaving:
        return bid_farewell(guest);
    }
  }

  void peek(Guest& guest) REQUIRES(role_) {
    uint8_t first = 0;
    const ssize_t got = ::recv(guest.fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (got == 1 && first == kHandshakeRecord) {
      guest.stage = Stage::kShaking;
      guest.session = Session::accept(guest.credentials, guest.fd, guest.options.demand);
      return shake(guest);
    }
    // What a port that takes both makes of an end, or of an error, is its own matter.
    if (guest.options.takes == Takes::kBoth) return hand_out_plain(guest, "");
    if (got == 1) {
      return hand_out_plain(guest,
                            "the other side speaks plain, and this port requires TLS: configure "
                            "TLS there");
    }
    ++counts_.failed;
    close(guest, got == 0 ? "the other side ended the connection before the TLS handshake"
                          : fmt::format("the connection failed before the TLS handshake: {}",
                                        errno_text(errno)));
  }

  void shake(Guest& guest) REQUIRES(role_) {
    const Status status = guest.session->shake();
    if (status == Status::kWantsRead || status == Status::kWantsWrite) {
      wait_for(guest, status == Status::kWantsRead ? EPOLLIN : EPOLLOUT);
      return;
    }
    if (status == Status::kDone) {
      ++counts_.done;
      std::unique_ptr<Session> session = std::move(guest.session);
      Guest gone = take_out(guest);
      tell(gone, {.fd = gone.fd, .session = std::move(session), .failure = ""});
      return;
    }
    ++counts_.failed;
    refuse(guest);
  }

  void wait_for(const Guest& guest, uint32_t what) REQUIRES(role_) {
    epoll_event event{.events = what, .data = {.u64 = guest.id}};
    CHECK_EQ(::epoll_ctl(epoll_, EPOLL_CTL_MOD, guest.fd, &event), 0) << errno_text(errno);
  }

  // The caller knows at once. The connection stays for a moment: to close it while something that
  // the other side sent is unread would reset it, and the alert that says why could be lost.
  void refuse(Guest& guest) REQUIRES(role_) {
    Guest told;
    told.done = std::move(guest.done);
    std::string why = guest.session->error();
    guest.session.reset();
    guest.stage = Stage::kLeaving;
    ::shutdown(guest.fd, SHUT_WR);
    deadlines_.erase({guest.deadline, guest.id});
    guest.deadline = read_clocks().time + kFarewell;
    deadlines_.insert({guest.deadline, guest.id});
    order_.splice(order_.begin(), order_, guest.place);  // the first to give way
    wait_for(guest, EPOLLIN);
    bid_farewell(guest);
    tell(told, {.fd = -1, .session = nullptr, .failure = std::move(why)});
  }

  void bid_farewell(Guest& guest) REQUIRES(role_) {
    std::array<uint8_t, 4096> ignored{};
    ssize_t got = 0;
    do {
      got = ::recv(guest.fd, ignored.data(), ignored.size(), MSG_DONTWAIT);
      if (got > 0) guest.farewell_bytes += static_cast<size_t>(got);
    } while (got > 0 && guest.farewell_bytes < kMaxFarewellBytes);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
      order_.splice(order_.begin(), order_, guest.place);
      return;
    }
    ::close(take_out(guest).fd);
  }

  void hand_out_plain(Guest& guest, std::string why) REQUIRES(role_) {
    ++(why.empty() ? counts_.plain : counts_.failed);
    Guest gone = take_out(guest);
    tell(gone, {.fd = gone.fd, .session = nullptr, .failure = std::move(why)});
  }

  // There is no room for it.
  void give_way(Guest& guest) REQUIRES(role_) {
    if (guest.stage == Stage::kLeaving) {
      ::close(take_out(guest).fd);
      return;
    }
    ++counts_.gave_way;
    end_of_patience(guest, kGaveWay);
  }

  void expire() REQUIRES(role_) {
    const Time now = read_clocks().time;
    while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
      Guest& guest = guests_.at(deadlines_.begin()->second);
      if (guest.stage == Stage::kLeaving) {
        ::close(take_out(guest).fd);
        continue;
      }
      ++counts_.timed_out;
      end_of_patience(guest, guest.stage == Stage::kPeeking
                                 ? "the other side was silent instead of a TLS handshake"
                                 : "the other side was silent during the TLS handshake");
    }
  }

  void end_of_patience(Guest& guest, std::string why) REQUIRES(role_) {
    // Silent clients are usual on a port that takes plain ones: nothing is wrong with it.
    if (guest.stage == Stage::kPeeking && guest.options.takes == Takes::kBoth) {
      hand_out_plain(guest, "");
    } else {
      close(guest, std::move(why));
    }
  }

  void close(Guest& guest, std::string why) REQUIRES(role_) {
    guest.session.reset();
    Guest gone = take_out(guest);
    ::close(gone.fd);
    tell(gone, {.fd = -1, .session = nullptr, .failure = std::move(why)});
  }

  // Out of the lane: `guest` is gone.
  Guest take_out(Guest& guest) REQUIRES(role_) {
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, guest.fd, nullptr);
    order_.erase(guest.place);
    deadlines_.erase({guest.deadline, guest.id});
    --counts_.in_progress;
    auto node = guests_.extract(guest.id);
    return std::move(node.mapped());
  }

  // The last thing that is done with a connection: it may come back here, with add().
  static void tell(const Guest& guest, Outcome outcome) { guest.done(std::move(outcome)); }

  static constexpr const char* kGaveWay =
      "there are too many TLS handshakes in progress, and this one was silent for the longest time";

  const size_t limit_;
  const int nice_;
  const int epoll_;
  const int event_;
  std::thread thread_;
  Counts counts_;

  ThreadRole role_{"TLS lane"};
  uint64_t next_id_ GUARDED_BY(role_) = kWakeId + 1;
  std::unordered_map<uint64_t, Guest> guests_ GUARDED_BY(role_);
  std::list<uint64_t> order_ GUARDED_BY(role_);  // the longest silent one first
  std::set<std::pair<Time, uint64_t>> deadlines_ GUARDED_BY(role_);

  Mutex mutex_;
  bool is_stopped_ GUARDED_BY(mutex_) = false;
  std::vector<Guest> arrivals_ GUARDED_BY(mutex_);
  size_t crowded_out_ GUARDED_BY(mutex_) = 0;  // so many of the first arrivals have no descriptor
};

Handshakes::Handshakes(std::unique_ptr<LaneThread> peers, std::unique_ptr<LaneThread> others)
    : peers_(std::move(peers)), others_(std::move(others)) {}

Handshakes::~Handshakes() { stop(); }

Result<std::unique_ptr<Handshakes>> Handshakes::start(const Limits& limits) {
  CHECK(limits.peers > 0 && limits.others > 0);
  Result<std::unique_ptr<LaneThread>> peers = LaneThread::start(limits.peers, 0);
  if (!peers) return failure(peers.error());
  Result<std::unique_ptr<LaneThread>> others = LaneThread::start(limits.others, kOthersNice);
  if (!others) return failure(others.error());
  return std::unique_ptr<Handshakes>(new Handshakes(std::move(*peers), std::move(*others)));
}

void Handshakes::accept(Lane lane, int fd, std::shared_ptr<const Credentials> credentials,
                        const AcceptOptions& options, Done done) {
  Guest guest;
  guest.fd = fd;
  guest.options = options;
  guest.credentials = std::move(credentials);
  guest.done = std::move(done);
  guest.deadline = read_clocks().time + options.timeout;
  lane_of(lane).add(std::move(guest));
}

void Handshakes::dial(Lane lane, int fd, std::shared_ptr<const Credentials> credentials,
                      Expected expected, Duration timeout, Done done) {
  Guest guest;
  guest.fd = fd;
  guest.is_dialled = true;
  guest.options.timeout = timeout;
  guest.expected = std::move(expected);
  guest.credentials = std::move(credentials);
  guest.done = std::move(done);
  guest.deadline = read_clocks().time + timeout;
  lane_of(lane).add(std::move(guest));
}

void Handshakes::stop() {
  peers_->stop();
  others_->stop();
}

Handshakes::Counters Handshakes::counters(Lane lane) const { return lane_of(lane).counters(); }

}  // namespace connectd::tls

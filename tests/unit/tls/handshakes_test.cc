// The threads for handshakes: what is handed out, what gives way, and that floods delay nobody who
// goes on with his handshake.
#include "tls/handshakes.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "support.h"

namespace connectd::tls {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

// Outcomes, in their order.
class Outcomes {
 public:
  Handshakes::Done done() {
    return [this](Outcome outcome) {
      std::lock_guard lock(mutex_);
      all_.push_back(std::move(outcome));
      ++count_;
      changed_.notify_all();
    };
  }
  // The next one; fails the test after 60 s.
  Outcome next() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, seconds(60), [&] { return !all_.empty(); })) {
      ADD_FAILURE() << "no outcome";
      return {};
    }
    Outcome outcome = std::move(all_.front());
    all_.pop_front();
    return outcome;
  }
  size_t count() {
    std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Outcome> all_;
  size_t count_ = 0;
};

// A socket whose other end is with the pool.
struct Ends {
  int own = -1;
  int other = -1;
  Ends() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    own = ends[0];
    other = ends[1];
  }
  ~Ends() {
    if (own >= 0) ::close(own);
  }
  Ends(Ends&& from) noexcept
      : own(std::exchange(from.own, -1)), other(std::exchange(from.other, -1)) {}
  Ends(const Ends&) = delete;
  Ends& operator=(const Ends&) = delete;

  void wait(short events) const {
    pollfd one{own, events, 0};
    ::poll(&one, 1, 5000);
  }
  std::string read_all() const {
    std::string text(64, '\0');
    wait(POLLIN);
    const ssize_t got = ::read(own, text.data(), text.size());
    text.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return text;
  }
  bool is_closed_by_other() const {
    pollfd one{own, POLLRDHUP, 0};
    return ::poll(&one, 1, 5000) == 1;
  }
};

void shake(Session& session, const Ends& ends) {
  for (Status status = session.shake(); is_waiting(status); status = session.shake()) {
    ends.wait(status == Status::kWantsRead ? POLLIN : POLLOUT);
  }
}

class HandshakesTest : public ::testing::Test {
 protected:
  void start(const Handshakes::Limits& limits = {}) {
    auto started = Handshakes::start(limits);
    ASSERT_TRUE(started);
    pool_ = std::move(*started);
  }
  // A handshake from here, which must be good.
  void good_one(Lane lane) {
    Ends ends;
    pool_->accept(lane, ends.other, server_, {}, good_.done());
    auto client = Session::dial(client_, ends.own, to_node(1));
    shake(*client, ends);
    Outcome outcome = good_.next();
    EXPECT_NE(outcome.session, nullptr) << outcome.failure << " / " << client->error();
    outcome.session.reset();
    if (outcome.fd >= 0) ::close(outcome.fd);
  }

  Pki pki_;
  std::shared_ptr<const Credentials> server_ = must_load(pki_.node(1));
  std::shared_ptr<const Credentials> client_ = must_load(pki_.node(2));
  Outcomes outcomes_;
  Outcomes good_;
  std::unique_ptr<Handshakes> pool_;
};

TEST_F(HandshakesTest, BothEndsAreHandedOut) {
  start();
  Ends ends;
  pool_->accept(Lane::kPeers, ends.other, server_, {}, outcomes_.done());
  pool_->dial(Lane::kOthers, std::exchange(ends.own, -1), client_, to_node(1), kHandshakeTimeout,
              good_.done());
  Outcome accepted = outcomes_.next();
  Outcome dialled = good_.next();
  ASSERT_NE(accepted.session, nullptr) << accepted.failure;
  ASSERT_NE(dialled.session, nullptr) << dialled.failure;
  EXPECT_EQ(node_of(*accepted.session->other(), kCluster), NodeId(2));
  EXPECT_EQ(dialled.session->write("hello").bytes, 5u);
  uint8_t to[16];
  EXPECT_EQ(accepted.session->read(to).bytes, 5u);
  EXPECT_EQ(pool_->counters(Lane::kPeers).done, 1u);
  EXPECT_EQ(pool_->counters(Lane::kOthers).done, 1u);
  EXPECT_EQ(pool_->counters(Lane::kOthers).in_progress, 0u);
  dialled.session.reset();
  accepted.session.reset();
  ::close(dialled.fd);
  ::close(accepted.fd);
}

TEST_F(HandshakesTest, OthersHaveLowPriority) {
  start();
  std::atomic<int> peers = -1;
  std::atomic<int> others = -1;
  Ends one, two;
  ASSERT_EQ(::write(one.own, "x", 1) + ::write(two.own, "x", 1), 2);
  const auto priority_to = [this](std::atomic<int>& to) {
    return [this, &to](Outcome outcome) {
      ::close(outcome.fd);
      to = ::getpriority(PRIO_PROCESS, 0);
      good_.done()({});
    };
  };
  pool_->accept(Lane::kPeers, one.other, server_, {}, priority_to(peers));
  pool_->accept(Lane::kOthers, two.other, server_, {}, priority_to(others));
  good_.next();
  good_.next();
  EXPECT_EQ(peers, ::getpriority(PRIO_PROCESS, 0));
  EXPECT_GT(others, peers);
}

TEST_F(HandshakesTest, PlainIsHandedOutUntouched) {
  start();
  for (const char* text : {"*1\r\n$4\r\nPING\r\n", "\x15\x03", "\x17"}) {
    Ends ends;
    ASSERT_GT(::write(ends.own, text, strlen(text)), 0);
    pool_->accept(Lane::kOthers, ends.other, server_, {.takes = Takes::kBoth}, outcomes_.done());
    Outcome outcome = outcomes_.next();
    EXPECT_EQ(outcome.session, nullptr);
    EXPECT_EQ(outcome.failure, "");
    char got[32] = {};
    EXPECT_GT(::read(outcome.fd, got, sizeof got), 0);
    EXPECT_STREQ(got, text);
    ::close(outcome.fd);
  }
  EXPECT_EQ(pool_->counters(Lane::kOthers).plain, 3u);
  // The same port takes TLS.
  Ends ends;
  pool_->accept(Lane::kOthers, ends.other, server_, {.takes = Takes::kBoth}, outcomes_.done());
  auto client = Session::dial(client_, ends.own, to_node(1));
  shake(*client, ends);
  Outcome outcome = outcomes_.next();
  EXPECT_NE(outcome.session, nullptr) << outcome.failure;
  outcome.session.reset();
  ::close(outcome.fd);
}

TEST_F(HandshakesTest, PlainAtTlsOnlyCanBeAnswered) {
  start();
  Ends ends;
  ASSERT_EQ(::write(ends.own, "PING\r\n", 6), 6);
  pool_->accept(Lane::kOthers, ends.other, server_, {}, outcomes_.done());
  Outcome outcome = outcomes_.next();
  EXPECT_EQ(outcome.session, nullptr);
  EXPECT_THAT(outcome.failure, HasSubstr("speaks plain, and this port requires TLS"));
  ASSERT_EQ(::write(outcome.fd, "-ERR TLS\r\n", 10), 10);
  EXPECT_EQ(ends.read_all(), "-ERR TLS\r\n");
  ::close(outcome.fd);
}

TEST_F(HandshakesTest, SilentOnesEndAtTheTimeout) {
  start();
  Ends both, only, half, dialled;
  const auto begin = read_clocks().time;
  pool_->accept(Lane::kOthers, both.other, server_,
                {.takes = Takes::kBoth, .timeout = milliseconds(50)}, outcomes_.done());
  Outcome outcome = outcomes_.next();
  EXPECT_GE(read_clocks().time - begin, milliseconds(50));
  EXPECT_EQ(outcome.failure, "");
  ASSERT_GE(outcome.fd, 0);
  ::close(outcome.fd);
  pool_->accept(Lane::kOthers, only.other, server_, {.timeout = milliseconds(50)},
                outcomes_.done());
  outcome = outcomes_.next();
  EXPECT_EQ(outcome.fd, -1);
  EXPECT_THAT(outcome.failure, HasSubstr("was silent instead of a TLS handshake"));
  EXPECT_TRUE(only.is_closed_by_other());
  ASSERT_EQ(::write(half.own, "\x16", 1), 1);
  pool_->accept(Lane::kOthers, half.other, server_,
                {.takes = Takes::kBoth, .timeout = milliseconds(50)}, outcomes_.done());
  EXPECT_THAT(outcomes_.next().failure, HasSubstr("was silent during the TLS handshake"));
  pool_->dial(Lane::kOthers, dialled.other, client_, to_node(1), milliseconds(50),
              outcomes_.done());
  EXPECT_THAT(outcomes_.next().failure, HasSubstr("was silent during the TLS handshake"));
  EXPECT_EQ(pool_->counters(Lane::kOthers).timed_out, 4u);
}

TEST_F(HandshakesTest, RefusalReachesWhoHasSentMore) {
  start();
  auto foreign = Authority::make("Foreign", {now_s() - 3600, now_s() + 3650 * kDay});
  auto stranger = must_load(pki_.issue("stranger", Pki::node_request(3), &*foreign));
  Ends ends;
  pool_->accept(Lane::kPeers, ends.other, server_, {}, outcomes_.done());
  auto client = Session::dial(stranger, ends.own, to_node(1));
  shake(*client, ends);
  (void)client->write(std::string(100'000, 'x'));
  Outcome outcome = outcomes_.next();
  EXPECT_EQ(outcome.fd, -1);
  EXPECT_THAT(outcome.failure, HasSubstr("is of no CA in"));
  uint8_t to[16];
  Io io = client->read(to);
  while (is_waiting(io.status)) {
    ends.wait(POLLIN);
    io = client->read(to);
  }
  EXPECT_THAT(client->error(), HasSubstr("its CA is not among those"));
  EXPECT_EQ(pool_->counters(Lane::kPeers).failed, 1u);
  // It goes by itself when the other side does not.
  for (int i = 0; i < 500 && pool_->counters(Lane::kPeers).in_progress > 0; ++i) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_EQ(pool_->counters(Lane::kPeers).in_progress, 0u);
  EXPECT_TRUE(ends.is_closed_by_other());
}

// What a client sends first.
std::string client_hello(const std::shared_ptr<const Credentials>& credentials) {
  Ends ends;
  auto client = Session::dial(credentials, ends.own, to_node(1));
  EXPECT_EQ(client->shake(), Status::kWantsRead);
  std::string hello(4096, '\0');
  const ssize_t got = ::read(ends.other, hello.data(), hello.size());
  ::close(ends.other);
  hello.resize(static_cast<size_t>(got));
  return hello;
}

void allow_descriptors() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

TEST_F(HandshakesTest, SilentFloodGivesWay) {
  allow_descriptors();
  start({.peers = 16, .others = 64});
  std::vector<Ends> flood(1000);
  for (Ends& one : flood) {
    pool_->accept(Lane::kOthers, one.other, server_, {}, outcomes_.done());
  }
  const auto begin = read_clocks().time;
  good_one(Lane::kOthers);
  EXPECT_LT(read_clocks().time - begin, seconds(2));
  EXPECT_LE(pool_->counters(Lane::kOthers).in_progress, 64u);
  EXPECT_GE(pool_->counters(Lane::kOthers).gave_way, 1000u - 64u);
  EXPECT_THAT(outcomes_.next().failure, HasSubstr("silent for the longest time"));
  EXPECT_TRUE(flood[0].is_closed_by_other());
  EXPECT_EQ(outcomes_.count(), pool_->counters(Lane::kOthers).gave_way);
}

TEST_F(HandshakesTest, HalfHandshakesGiveWay) {
  allow_descriptors();
  start({.peers = 16, .others = 64});
  const auto before = read_clocks().time;
  good_one(Lane::kOthers);
  // Of one handshake, on this machine and with these checks of the compiler.
  const auto alone = read_clocks().time - before;
  const std::string hello = client_hello(client_);
  std::vector<Ends> flood(1000);
  for (size_t i = 0; i < flood.size(); ++i) {
    // Some stop in the middle of the first message.
    const size_t bytes = i % 3 == 0 ? hello.size() / 2 : hello.size();
    ASSERT_GT(::write(flood[i].own, hello.data(), bytes), 0);
    pool_->accept(Lane::kOthers, flood[i].other, server_, {}, outcomes_.done());
  }
  const auto begin = read_clocks().time;
  good_one(Lane::kOthers);
  EXPECT_LT(read_clocks().time - begin, seconds(3) + 1000 * alone);
  // Those of nodes do not even notice.
  const auto peers = read_clocks().time;
  good_one(Lane::kPeers);
  EXPECT_LT(read_clocks().time - peers, seconds(1) + 100 * alone);
  EXPECT_LE(pool_->counters(Lane::kOthers).in_progress, 64u);
}

// What has come to one end goes to the other one.
void pass_on(int from, int to) {
  std::string bytes(32'768, '\0');
  const ssize_t got = ::read(from, bytes.data(), bytes.size());
  ASSERT_GT(got, 0);
  ASSERT_EQ(::write(to, bytes.data(), static_cast<size_t>(got)), got);
}

TEST_F(HandshakesTest, WhoGoesOnStaysAndTheSilentLeave) {
  start({.peers = 2, .others = 2});
  Ends silent, slow;
  pool_->accept(Lane::kOthers, slow.other, server_, {}, good_.done());
  pool_->accept(Lane::kOthers, silent.other, server_, {}, outcomes_.done());
  // Both have come before one of them goes on.
  while (pool_->counters(Lane::kOthers).in_progress < 2) std::this_thread::yield();
  Ends wire;  // the client's; its bytes come when they are passed on
  auto client = Session::dial(client_, wire.own, to_node(1));
  EXPECT_EQ(client->shake(), Status::kWantsRead);
  pass_on(wire.other, slow.own);
  slow.wait(POLLIN);  // the server has answered: the other one is silent for longer now
  Ends third;
  pool_->accept(Lane::kOthers, third.other, server_, {}, outcomes_.done());
  EXPECT_THAT(outcomes_.next().failure, HasSubstr("silent for the longest time"));
  EXPECT_TRUE(silent.is_closed_by_other());
  pass_on(slow.own, wire.other);
  EXPECT_EQ(client->shake(), Status::kDone);
  pass_on(wire.other, slow.own);
  ::close(wire.other);
  Outcome outcome = good_.next();
  EXPECT_NE(outcome.session, nullptr) << outcome.failure;
  outcome.session.reset();
  ::close(outcome.fd);
}

TEST_F(HandshakesTest, StopClosesWithoutAWord) {
  start();
  Ends waiting, late;
  pool_->accept(Lane::kPeers, waiting.other, server_, {}, outcomes_.done());
  pool_->stop();
  EXPECT_TRUE(waiting.is_closed_by_other());
  pool_->accept(Lane::kPeers, late.other, server_, {}, outcomes_.done());
  EXPECT_TRUE(late.is_closed_by_other());
  EXPECT_EQ(outcomes_.count(), 0u);
}

}  // namespace
}  // namespace connectd::tls

// Handshakes on threads of their own: their signatures cost about a millisecond of processor time
// each, which a stranger can ask for as often as it likes. Two lanes, each a thread: nothing that
// comes to the client and HTTP ports delays the handshakes of nodes, and the lane of the others has
// a low priority, so that a flood of it takes no time from the threads that serve.
//
// Before that, a lane looks at the first byte where a port takes both kinds: 0x16 begins TLS. It
// only peeks: what a plain client has sent is still in the socket.
//
// A lane has a limit on the connections in it. One more, and the one that has been silent for the
// longest time gives way; so a flood of connections that stay silent, or that stop in the middle
// of a handshake, costs those that go on nothing. A connection that was refused also stays for up
// to a second, so that the alert that says why is not lost with it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/error.h"
#include "tls/session.h"

namespace connectd::tls {

enum class Lane : uint8_t { kPeers, kOthers };

// What a port takes.
enum class Takes : uint8_t {
  kBoth,     // plain connections too. One that is silent is taken for plain in the end
  kTlsOnly,  // a connection that is silent is closed
};

inline constexpr Duration kHandshakeTimeout = std::chrono::seconds(10);

struct AcceptOptions {
  Takes takes = Takes::kTlsOnly;
  Demand demand = Demand::kRequired;
  Duration timeout = kHandshakeTimeout;  // of the whole handshake
};

// What came of a connection.
//
//   fd    session  failure
//   open  yes      ""       TLS; the handshake is done
//   open  null     ""       plain, of a port that takes both
//   open  null     why      plain, of a port that takes TLS only: answer in its framing, and close
//   -1    null     why      it failed, or gave way, and is closed
struct Outcome {
  int fd = -1;  // the receiver's. Non-blocking
  std::unique_ptr<Session> session;
  std::string failure;  // a sentence, as of Session::error()
};

class Handshakes final {
 public:
  // Called once for each connection, on the lane's thread, unless stop() comes before. It must be
  // quick, and must not call stop().
  using Done = std::function<void(Outcome outcome)>;

  struct Limits {
    size_t peers = 128;
    size_t others = 512;
  };
  struct Counters {
    uint64_t in_progress = 0;  // now; also those refused that have not gone yet
    uint64_t done = 0;
    uint64_t plain = 0;
    uint64_t failed = 0;     // refused by either side, or broken
    uint64_t gave_way = 0;   // to a newer one, at the limit
    uint64_t timed_out = 0;  // silent, or too slow
  };

  // Starts the two threads. kCannotCreate, kNoDescriptors.
  static Result<std::unique_ptr<Handshakes>> start(const Limits& limits);
  // As stop().
  ~Handshakes();
  Handshakes(const Handshakes&) = delete;
  Handshakes& operator=(const Handshakes&) = delete;

  // Takes over `fd`, which must be non-blocking. After stop() it is closed, and nothing is called.
  // Any thread; does not wait.
  void accept(Lane lane, int fd, std::shared_ptr<const Credentials> credentials,
              const AcceptOptions& options, Done done);
  // The same; `fd` is connected.
  void dial(Lane lane, int fd, std::shared_ptr<const Credentials> credentials, Expected expected,
            Duration timeout, Done done);

  // Waits for the threads; closes what has not been handed out. Not on a lane's thread.
  void stop();

  // Any thread.
  Counters counters(Lane lane) const;

 private:
  class LaneThread;

  Handshakes(std::unique_ptr<LaneThread> peers, std::unique_ptr<LaneThread> others);
  LaneThread& lane_of(Lane lane) const { return lane == Lane::kPeers ? *peers_ : *others_; }

  const std::unique_ptr<LaneThread> peers_;
  const std::unique_ptr<LaneThread> others_;
};

}  // namespace connectd::tls

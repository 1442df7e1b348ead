// Leases (thesis §6.4.1; docs/adr/0016-lease-reads.md): what a leader keeps to know how long nobody
// else can have been elected.
//
// SendTimes says when a round left, for the lease counts from there and never from the answer.
// ClockWatch compares another node's clock with this one's, and finds one that runs faster than
// clocks may: its node's promise is over too early, and must not be counted on. Owner: the core.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "base/clock.h"

namespace connectd::raft {

class SendTimes final {
 public:
  // Moments that are remembered. With the grain that the core uses they cover four election
  // timeouts; an answer to what left before is worth no lease.
  static constexpr size_t kMaxMoments = 256;

  // `round` leaves at `now`. What leaves within `grain` of an earlier round counts from there: a
  // little early, which is the safe side.
  void sent(uint64_t round, Time now, Duration grain);
  // None: forgotten, or never sent.
  std::optional<Time> of(uint64_t round) const;
  void clear() { moments_.clear(); }

 private:
  struct Moment {
    uint64_t first_round;
    uint64_t last_round;
    Time at;
  };
  std::deque<Moment> moments_;
};

class ClockWatch final {
 public:
  // An answer that showed `wall_ns` came at `received` to what left at `sent`, by the own clock.
  // The other clock was read in between. False: it is known to be faster than `percent` allow both
  // clocks together, or it was set forward, which looks the same.
  bool observe(int64_t wall_ns, Time sent, Time received, unsigned percent, Duration window);

 private:
  struct Reading {
    int64_t wall_ns;
    Time sent;
  };
  // What later readings are compared with: of all so far the one that bounds them most sharply.
  // An answer that came late is a blunt one, for its clock may have been read long after `sent`.
  std::optional<Reading> base_;
  Time within_bound_since_;
  bool wild_ = false;
};

}  // namespace connectd::raft

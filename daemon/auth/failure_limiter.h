// Limits how often a token may be tried that is not good. It protects the log and the processor:
// nobody guesses 256 bits. One owner, no locking (auth/token_checker.h locks it).
//
// Counted by the pair of source and ID, so that a program with an expired token keeps out nobody
// else who shares its address (a proxy, loopback), and over all IDs of a source with a higher
// limit. Who is over a limit is refused, unchecked, until a minute after its first failure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/clock.h"

namespace connectd::auth {

struct FailureLimits {
  uint32_t of_token = 10;    // for one ID from one source
  uint32_t of_source = 100;  // for all IDs from one source
  Duration window = std::chrono::minutes(1);
  size_t entries_max = 8192;  // the oldest are forgotten
};

class FailureLimiter final {
 public:
  explicit FailureLimiter(FailureLimits limits = {}) : limits_(limits) {}

  // Whether a token may be checked. `source`: an IPv4 address, or the first half of an IPv6 one.
  // `id`: that of the token; empty: it has none.
  bool may_try(std::string_view source, std::string_view id, Time now);
  // It was checked, and is not good.
  void failed(std::string_view source, std::string_view id, Time now);
  size_t size() const { return windows_.size(); }

 private:
  struct Window {
    Time begin;
    uint32_t failures = 0;
  };
  void forget_old(Time now);
  uint32_t count(const std::string& key) const;
  void add(const std::string& key, Time now);

  const FailureLimits limits_;
  std::unordered_map<std::string, Window> windows_;
  std::deque<std::string> by_age_;  // their keys: all windows have the same length
};

}  // namespace connectd::auth

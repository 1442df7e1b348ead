// Virtual time: the queue of events and their trace. All events of a run go through here, so equal
// seeds give equal traces.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <queue>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/checksum.h"
#include "base/clock.h"

namespace connectd::sim {

class Timeline {
 public:
  using Action = std::function<void()>;
  using TraceSink = std::function<void(std::string_view line)>;

  explicit Timeline(TraceSink sink) : sink_(std::move(sink)) {}

  Time now() const { return now_; }
  Duration elapsed() const { return now_ - start(); }
  static constexpr Time start() { return Time(std::chrono::seconds(1000)); }
  uint64_t events() const { return events_; }

  // Simultaneous events happen in the order in which they were scheduled.
  void at(Time time, Action action) {
    queue_.push(Event{std::max(time, now_), next_order_++, std::move(action)});
  }
  void after(Duration delay, Action action) { at(now_ + delay, std::move(action)); }
  // The next event, if there is one up to `until`; else the time is then `until`.
  bool run_next(Time until) {
    if (queue_.empty() || queue_.top().time > until) {
      now_ = std::max(now_, until);
      return false;
    }
    Event event = std::move(const_cast<Event&>(queue_.top()));  // it is popped at once
    queue_.pop();
    now_ = event.time;
    ++events_;
    event.action();
    return true;
  }

  // Into the trace's hash; cheap.
  void note(uint64_t what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) {
    const uint64_t words[5] = {static_cast<uint64_t>(now_.time_since_epoch().count()), what, a, b,
                               c};
    hash_ = checksum64(ByteView(reinterpret_cast<const uint8_t*>(words), sizeof words), hash_);
  }
  bool is_traced() const { return static_cast<bool>(sink_); }
  // A line for people; note() adds its contents to the hash.
  template <class... Args>
  void trace(fmt::format_string<Args...> format, Args&&... args) {
    if (!sink_) return;
    sink_(fmt::format("{:>11.6f} s  {}", std::chrono::duration<double>(elapsed()).count(),
                      fmt::format(format, std::forward<Args>(args)...)));
  }
  uint64_t hash() const { return hash_; }

 private:
  struct Event {
    Time time;
    uint64_t order = 0;
    Action action;
    bool operator>(const Event& other) const {
      return std::tie(time, order) > std::tie(other.time, other.order);
    }
  };

  const TraceSink sink_;
  Time now_ = start();
  uint64_t next_order_ = 0;
  uint64_t events_ = 0;
  uint64_t hash_ = 0;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> queue_;
};

}  // namespace connectd::sim

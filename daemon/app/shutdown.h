// The orderly end of a process, in steps: leadership moves to another node, accepted requests are
// answered, and the clients' connections get their replies and close. One deadline bounds all of
// it; a second signal ends it at once. Decides only: it has no clock and no socket. Loop thread.
#pragma once

#include <cstddef>

#include "base/clock.h"

namespace connectd::app {

class Shutdown final {
 public:
  struct View {
    bool has_node = false;
    bool leads_others = false;   // this node leads, and another could
    size_t held = 0;             // requests without a reply
    bool shows_removal = false;  // whoever asked to remove this node still looks at its status
  };

  // `transfer_timeout`: how long leadership may take to move. `drain_timeout`: all together.
  void begin(Duration transfer_timeout, Duration drain_timeout, Time now);
  // Whether begin() was called.
  bool has_begun() const { return begun_; }
  void end_at_once() { at_once_ = true; }
  bool ends_at_once() const { return at_once_; }

  // At least every 50 ms after begin(). True, once: everything is answered, the clients'
  // connections are to be drained, for at most left().
  bool advance(const View& view, Time now);
  Duration left(Time now) const { return end_by_ - now; }
  void clients_drained() { done_ = true; }
  bool is_done() const { return done_; }

 private:
  bool begun_ = false;
  bool at_once_ = false;
  bool draining_ = false;
  bool done_ = false;
  Time transfer_by_;
  Time end_by_;
};

}  // namespace connectd::app

// Whom the threads of a node call: connectd's loop, the simulator, or a test that turns the node by
// hand. Outlives the threads.
#pragma once

#include "base/clock.h"
#include "base/error.h"

namespace connectd {

class Supervisor {
 public:
  // Any thread: there is something to collect, and a turn is wanted.
  virtual void wake() = 0;
  // Any thread: the process must end with this error.
  virtual void fail(Error error) = 0;
  // Snapshot thread, now and then while it writes, with the time that this took since the last
  // call: the place to leave processor and disk to who serves requests.
  virtual void rest(Duration /*busy*/) {}

 protected:
  ~Supervisor() = default;
};

}  // namespace connectd

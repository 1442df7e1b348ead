// What this process has from whoever started it: descriptors and signals. Main thread, before any
// other.
#pragma once

namespace connectd::app {

// Opens /dev/null in place of a standard descriptor that is closed: otherwise the next file gets
// its number, and the log would be written into it. Ignores the signals that mean nothing to
// connectd and would end it (docs/operations.md, "Signals"), unless somebody has set a handler.
void prepare_process();

}  // namespace connectd::app

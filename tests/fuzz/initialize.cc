#include "base/log.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  connectd::set_log_level(connectd::LogLevel::kError);
  return 0;
}

// How the lines of the log look. Any thread.
#pragma once

#include <cstdint>

namespace connectd {

enum class LogFormat : uint8_t { kAuto, kText, kJson };  // kAuto: text
void set_log_format(LogFormat format);

}  // namespace connectd

// The one place that writes audit lines. Any thread.
#pragma once

#include <string>
#include <string_view>

namespace connectd::auth {

struct AuditLine {
  bool is_refusal = false;  // these are limited in number (base/log_event.h), the others are not
  std::string principal;    // Principal::text()
  std::string address;      // of the caller, without its port
  std::string outcome;
  std::string what;
};

// No part may name a secret; none needs to be printable.
void write(const AuditLine& line);

// Whatever it is, on one line, and not long.
std::string on_one_line(std::string_view text);

}  // namespace connectd::auth

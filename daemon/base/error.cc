#include "base/error.h"

#include <fmt/format.h>

#include <system_error>

namespace connectd {

std::string errno_text(int error_number) {
  return fmt::format("{} ({})", std::generic_category().message(error_number), error_number);
}

}  // namespace connectd

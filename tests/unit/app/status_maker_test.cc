#include "app/status_maker.h"

#include <gtest/gtest.h>

namespace connectd::app {
namespace {

TEST(StatusMaker, WrongClockIsNamedWithTls) {
  const std::string clock = "this machine's clock shows 1970-01-01T00:00:05Z";
  EXPECT_EQ(with_clock_warning("no known leader", clock, config::TlsMode::kRequire),
            "no known leader; certificates are checked by the clock: " + clock);
  EXPECT_EQ(with_clock_warning("no known leader", clock, config::TlsMode::kOff), "no known leader");
  EXPECT_EQ(with_clock_warning("no known leader", "", config::TlsMode::kRequire),
            "no known leader");
}

}  // namespace
}  // namespace connectd::app

#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "base/flight_recorder.h"

namespace connectd {

// What write_to() has of `recorder`.
inline std::string dump(const FlightRecorder& recorder) {
  FILE* file = ::tmpfile();
  EXPECT_TRUE(recorder.write_to(::fileno(file), "test \"it\""));
  ::rewind(file);
  std::string text;
  char buffer[4096];
  for (size_t n = 0; (n = ::fread(buffer, 1, sizeof buffer, file)) > 0;) text.append(buffer, n);
  ::fclose(file);
  return text;
}

}  // namespace connectd

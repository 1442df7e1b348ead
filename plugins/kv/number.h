// Numbers as Redis reads and writes them in keys' values and in arguments.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace connectd::kv {

// A decimal integer in its one canonical form: no plus sign, no leading zero, no space, no "-0".
std::optional<int64_t> parse_integer(std::string_view text);

// INCRBYFLOAT's sum, as text, for two numbers in the forms that strtold takes.
//
// Redis computes it in `long double`, which on x86-64 is a binary float with a significand of 64
// bits. Here the same arithmetic is done in integers: reading, adding and writing round to nearest,
// ties to even, just as there, on every CPU. The result is written with up to 17 digits after the
// point and without trailing zeros.
struct FloatSum {
  enum class Outcome { kSum, kNotAFloat, kNotFinite };
  Outcome outcome;
  std::string text;  // with kSum
};
FloatSum add_floats(std::string_view a, std::string_view b);

}  // namespace connectd::kv

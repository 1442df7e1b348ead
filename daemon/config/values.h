// Text <-> value for the scalars of a configuration: durations, sizes, whole numbers.
// Strict: a unit is never guessed. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "base/clock.h"
#include "base/types.h"

namespace connectd::config {

// The value, or an error that says how to write it.
template <class T>
using Parsed = tl::expected<T, std::string>;

Parsed<bool> parse_bool(std::string_view text);
// Decimal digits; no sign, no leading zero.
Parsed<uint64_t> parse_integer(std::string_view text);
// A whole number and a unit: ns us ms s m h.
Parsed<Duration> parse_duration(std::string_view text);
// A whole number and a unit: B KiB MiB GiB TiB.
Parsed<uint64_t> parse_size(std::string_view text);
// The shortest exact text that parses to the same value.
std::string format_duration(Duration value);
std::string format_size(uint64_t value);

// Of 32 lower-case hexadecimal digits, not all zero.
std::optional<ClusterId> parse_cluster_id(std::string_view text);

}  // namespace connectd::config

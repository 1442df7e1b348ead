// The scalars of a configuration, and addresses: what is parsed is written so that it parses to the
// same. Targets of HTTP requests, and the read level in their header.
#include "config/values.h"

#include "admin/http_target.h"
#include "admin/read_level.h"
#include "base/address.h"
#include "base/log.h"
#include "tests/fuzz/input.h"

namespace connectd {
namespace {

void duration(std::string_view text) {
  auto value = config::parse_duration(text);
  if (!value) {
    CHECK(!value.error().empty());
    return;
  }
  auto again = config::parse_duration(config::format_duration(*value));
  CHECK(again && *again == *value);
}

void size_of(std::string_view text) {
  auto value = config::parse_size(text);
  if (!value) {
    CHECK(!value.error().empty());
    return;
  }
  auto again = config::parse_size(config::format_size(*value));
  CHECK(again && *again == *value);
}

void integer(std::string_view text) {
  auto value = config::parse_integer(text);
  if (value) CHECK(std::to_string(*value) == text);
}

void address(std::string_view text) {
  auto value = parse_address(text);
  if (!value) {
    CHECK(!value.error().empty());
    return;
  }
  auto again = parse_address(value->to_string());
  CHECK(again && *again == *value) << text;
  value->is_loopback();
  value->is_wildcard();
}

void read_level(std::string_view text) {
  auto read = admin::parse_read_level(text);
  if (!read) {
    CHECK(read.error().kind == ErrorKind::kUsage && !read.error().text.empty());
    return;
  }
  const bool bounded = read->min_index || read->max_age;
  CHECK(!bounded || read->level == node::ReadLevel::kStale);
}

void http_target(std::string_view text) {
  admin::HttpTarget target = admin::parse_http_target(text);
  CHECK(text.starts_with(target.path));
  CHECK(target.path.find('?') == std::string_view::npos);
  if (target.verbose) CHECK(text.find("verbose") != std::string_view::npos);
}

}  // namespace
}  // namespace connectd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace connectd;
  fuzz::Input input(data, size);
  constexpr void (*kParsers[])(std::string_view) = {duration, size_of,     integer,
                                                    address,  http_target, read_level};
  const uint8_t which = input.byte();
  kParsers[which % std::size(kParsers)](as_text(input.rest()));
  return 0;
}

// The JSON that nodes answer, read with patience.
#pragma once

#include <fmt/format.h>

#include <boost/json.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "admin/http_client.h"

namespace connectd::ctl {

namespace json = boost::json;

// A field of an answer, forgiving: another version may have left it out.
inline const json::value* field(const json::value* object, std::string_view name) {
  if (object == nullptr || !object->is_object()) return nullptr;
  return object->as_object().if_contains(name);
}
inline std::string text_of(const json::value* value) {
  return value != nullptr && value->is_string() ? std::string(value->as_string()) : std::string();
}
inline uint64_t number_of(const json::value* value) {
  if (value == nullptr || !value->is_number()) return 0;
  boost::system::error_code ec;
  uint64_t number = value->to_number<uint64_t>(ec);
  return ec ? 0 : number;
}
inline bool truth_of(const json::value* value) {
  return value != nullptr && value->is_bool() && value->as_bool();
}

inline std::string detail_of(const admin::HttpAnswer& answer) {
  boost::system::error_code ec;
  json::value value = json::parse(answer.body, ec);
  std::string detail = ec ? std::string() : text_of(field(&value, "detail"));
  return detail.empty() ? fmt::format("HTTP status {}", answer.status) : detail;
}
inline std::string code_of(const admin::HttpAnswer& answer) {
  boost::system::error_code ec;
  json::value value = json::parse(answer.body, ec);
  return ec ? std::string() : text_of(field(&value, "code"));
}

}  // namespace connectd::ctl

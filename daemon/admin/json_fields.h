// One table of fields for each struct that travels as JSON, and from it both directions. A field
// has a name, a member, and, where the JSON has another form than the member, a format.
//
//   template <>
//   struct Fields<SettingChange> {
//     static constexpr auto kTable = std::tuple(field("key", &SettingChange::key),
//                                               field("value", &SettingChange::value));
//   };
//
// Readers are forgiving, since the other end may be older or newer: a field that they do not know
// is ignored, and one that is missing, or whose value is of the wrong kind, leaves the member at
// its default. Pure; any thread. (Boost.JSON's own conversion by Boost.Describe refuses both in
// 1.81, docs/adr/.)
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/types.h"

namespace connectd::admin {

namespace json = boost::json;

template <class Struct>
struct Fields;

// ---- formats: how one member is written, and read. read() returns false when the value is of the
// wrong kind, and has changed nothing then.

struct Plain {
  static json::value write(bool value) { return value; }
  static json::value write(const std::string& value) { return json::value(value); }
  static json::value write(const json::value& value) { return value; }
  template <class Number>
  requires std::is_integral_v<Number>
  static json::value write(Number value) { return value; }
  template <class Kind>
  static json::value write(Number<Kind> value) {
    return value.value();
  }
  template <class Item>
  static json::value write(const std::vector<Item>& items);

  static bool read(const json::value& from, bool& to) {
    if (!from.is_bool()) return false;
    to = from.get_bool();
    return true;
  }
  static bool read(const json::value& from, std::string& to) {
    if (!from.is_string()) return false;
    to = std::string(from.get_string());
    return true;
  }
  static bool read(const json::value& from, json::value& to) {
    to = from;
    return true;
  }
  template <class Number>
  requires std::is_integral_v<Number>
  static bool read(const json::value& from, Number& to) {
    if (!from.is_number()) return false;
    boost::system::error_code not_exact;
    const auto number = from.to_number<Number>(not_exact);
    if (not_exact) return false;
    to = number;
    return true;
  }
  template <class Kind>
  static bool read(const json::value& from, Number<Kind>& to) {
    uint64_t number = 0;
    if (!read(from, number)) return false;
    to = Number<Kind>(number);
    return true;
  }
  template <class Item>
  static bool read(const json::value& from, std::vector<Item>& to);
};

// What is none, or empty, is null.
struct NullWhenNone {
  template <class Kind>
  static json::value write(Number<Kind> value) {
    return value ? Plain::write(value) : json::value(nullptr);
  }
  static json::value write(const std::string& value) {
    return value.empty() ? json::value(nullptr) : Plain::write(value);
  }
  template <class Kind>
  static json::value write(const Uuid<Kind>& value) {
    return value ? json::value(value.to_string()) : json::value(nullptr);
  }
  template <class Value>
  static bool read(const json::value& from, Value& to) {
    return Plain::read(from, to);
  }
  template <class Kind>
  static bool read(const json::value& from, Uuid<Kind>& to);
};

// ---- tables

template <class Format, class Struct, class Member>
struct Field {
  std::string_view name;
  Member Struct::*member;

  void write(const Struct& from, json::object& to) const {
    to.emplace(json::string_view(name.data(), name.size()), Format::write(from.*member));
  }
  void read(const json::object& from, Struct& to) const {
    const json::value* value = from.if_contains(json::string_view(name.data(), name.size()));
    if (value != nullptr) Format::read(*value, to.*member);
  }
  static constexpr size_t kMembers = 1;
};
template <class Format = Plain, class Struct, class Member>
constexpr Field<Format, Struct, Member> field(std::string_view name, Member Struct::*member) {
  return {name, member};
}

// Members that lie side by side in the struct and in an object of their own in the JSON.
template <class... Inner>
struct Group {
  std::string_view name;
  std::tuple<Inner...> inner;

  template <class Struct>
  void write(const Struct& from, json::object& to) const {
    json::object object;
    std::apply([&](const auto&... f) { (f.write(from, object), ...); }, inner);
    to.emplace(json::string_view(name.data(), name.size()), std::move(object));
  }
  template <class Struct>
  void read(const json::object& from, Struct& to) const {
    const json::value* value = from.if_contains(json::string_view(name.data(), name.size()));
    if (value == nullptr || !value->is_object()) return;
    std::apply([&](const auto&... f) { (f.read(value->get_object(), to), ...); }, inner);
  }
  static constexpr size_t kMembers = (Inner::kMembers + ... + 0);
};
template <class... Inner>
constexpr Group<Inner...> group(std::string_view name, Inner... inner) {
  return {name, std::tuple(inner...)};
}

// How many members an aggregate has: as many as there are things that it can be made of.
struct Anything {
  template <class Member>
  operator Member() const;  // not defined: for unevaluated operands
};
template <class Struct, class... Things>
constexpr size_t members_of() {
  if constexpr (requires { Struct{Things{}..., Anything{}}; }) {
    return members_of<Struct, Things..., Anything>();
  } else {
    return sizeof...(Things);
  }
}

// How many members of the struct the table has.
template <class Struct>
constexpr size_t members_in_table() {
  return std::apply([](const auto&... f) { return (f.kMembers + ... + 0); },
                    Fields<Struct>::kTable);
}

template <class Struct>
json::object to_object(const Struct& from) {
  json::object object;
  std::apply([&](const auto&... f) { (f.write(from, object), ...); }, Fields<Struct>::kTable);
  return object;
}
template <class Struct>
Struct from_object(const json::object& from) {
  Struct to;
  std::apply([&](const auto&... f) { (f.read(from, to), ...); }, Fields<Struct>::kTable);
  return to;
}

template <class Item>
json::value Plain::write(const std::vector<Item>& items) {
  json::array array;
  for (const Item& item : items) array.push_back(to_object(item));
  return array;
}
template <class Item>
bool Plain::read(const json::value& from, std::vector<Item>& to) {
  if (!from.is_array()) return false;
  to.clear();
  for (const json::value& item : from.get_array()) {
    if (item.is_object()) to.push_back(from_object<Item>(item.get_object()));
  }
  return true;
}
template <class Kind>
bool NullWhenNone::read(const json::value& from, Uuid<Kind>& to) {
  std::string text;
  if (!Plain::read(from, text) || text.size() != 2 * to.bytes.size()) return false;
  Uuid<Kind> uuid;
  for (size_t i = 0; i < text.size(); ++i) {
    const size_t digit = std::string_view("0123456789abcdef").find(text[i]);
    if (digit == std::string_view::npos) return false;
    uuid.bytes[i / 2] = static_cast<uint8_t>(uuid.bytes[i / 2] << 4 | digit);
  }
  to = uuid;
  return true;
}

}  // namespace connectd::admin

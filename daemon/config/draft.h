// A configuration that is being read: the values so far, the source of each, and their errors.
// Filled by read_value.h and document.h, completed and checked by checks.h. One owner.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/config.h"
#include "config/diagnostics.h"
#include "config/yaml.h"

namespace connectd::config {

using TextList = std::vector<std::string>;
using TextMap = std::map<std::string, std::string>;
using MemberList = std::vector<Member>;
using Places = std::map<std::string, Place, std::less<>>;

struct Draft {
  Draft(std::string file, std::string_view source) : diagnostics(std::move(file), source) {}

  Diagnostics diagnostics;
  Config config;
  Places places;                              // of every value given
  Places section_places;                      // of the sections' keys
  std::set<std::string, std::less<>> failed;  // values that have errors of their own

  bool given(std::string_view path) const { return places.find(path) != places.end(); }
  bool good(std::string_view path) const { return failed.find(path) == failed.end(); }
  Place place(std::string_view path) const {
    auto it = places.find(path);
    return it != places.end() ? it->second : Place{};
  }
};

// Of a node of the file.
Place place_of(const YamlNode& node);
// The file as a whole.
Place file_place();

}  // namespace connectd::config

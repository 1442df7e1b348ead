// The only user of yaml-cpp: parses text to a tree that keeps what yaml-cpp's own tree drops: all
// positions, duplicate keys in their order, and whether a scalar was quoted. Pure; any
// thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace connectd::config {

// Counted from 1; line 0: no position.
struct Position {
  int line = 0;
  int column = 0;
  bool operator==(const Position&) const = default;
};

struct YamlEntry;

struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMap };

  Kind kind = Kind::kNull;
  Position at;
  bool quoted = false;             // kScalar: in quotes or as a block
  bool written_out = false;        // kNull: as `null` or `~`, and not by leaving the value out
  std::string text;                // kScalar
  std::vector<YamlNode> items;     // kSequence
  std::vector<YamlEntry> entries;  // kMap, in the order of the text
};

struct YamlEntry {
  YamlNode key;
  YamlNode value;
};

struct YamlProblem {
  Position at;
  std::string text;
};

struct YamlDocument {
  YamlNode root;
  // If not empty, the tree has the part that was parsed before, or nothing.
  std::vector<YamlProblem> problems;
};

// Exactly one document. Anchors, aliases and tags are problems: each value must be visible at its
// place.
YamlDocument parse_yaml(const std::string& text);

}  // namespace connectd::config

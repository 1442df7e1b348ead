// Collects the errors of a configuration and renders them for people: place, text, the source line
// and a caret below the token. One owner; no thread of its own.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/yaml.h"

namespace connectd::config {

// Where a value came from.
struct Place {
  enum class Kind { kDefault, kFile, kSet, kOption };
  Kind kind = Kind::kDefault;
  Position at;        // kFile; line 0: the file as a whole
  size_t length = 0;  // kFile: of the token, for the caret
  std::string label;  // kSet, kOption: as the user wrote it, "--set raft.tick=5"
};

class Diagnostics final {
 public:
  Diagnostics(std::string file, std::string_view source);

  void error(const Place& place, std::string text);
  // An error that points to two places.
  void error(const Place& place, std::string text, const Place& note_place, std::string note);
  void warning(const Place& place, std::string text);

  size_t errors() const { return errors_; }
  size_t warnings() const { return all_.size() - errors_; }
  // All, those of the file in its order first; then "FILE: 2 errors." when there are any.
  std::string render() const;
  // "conf/node1.yaml:3:7", "--set raft.tick=5", "the defaults".
  std::string locate(const Place& place) const;
  const std::string& file() const { return file_; }

 private:
  struct Item {
    bool is_error;
    Place place;
    std::string text;
    Place note_place;
    std::string note;  // empty: none
  };
  std::string render_one(const Place& place, std::string_view what, std::string_view text) const;

  std::string file_;
  std::vector<std::string> lines_;
  std::vector<Item> all_;
  size_t errors_ = 0;
};

}  // namespace connectd::config

// The option table: every key of the configuration, once. Loading, checking, --print-config, the
// reference page and the annotated example are all made from it. Constant after its first use; any
// thread.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/config.h"

namespace connectd::config {

enum class Type {
  kBool,
  kInteger,
  kDuration,
  kSize,
  kText,
  kChoice,
  kAddress,
  kTextList,
  kTextMap,  // nested keys are flattened: {"a.b.c": "text"}
  kMembers,
};
std::string_view type_name(Type type);

// A choice is stored as an enum whose values count the choices from 0.
struct ChoiceField {
  void (*set)(Config&, size_t);
  size_t (*get)(const Config&);
};
// Where a value is stored. monostate: there is one possible value, so nothing is stored.
using Field =
    std::variant<std::monostate, bool& (*)(Config&), uint64_t& (*)(Config&), NodeId& (*)(Config&),
                 Duration& (*)(Config&), std::string& (*)(Config&), Address& (*)(Config&),
                 ChoiceField, std::vector<std::string>& (*)(Config&),
                 std::map<std::string, std::string>& (*)(Config&),
                 std::vector<Member>& (*)(Config&)>;

struct Option {
  std::string_view path;  // "section.key"
  Type type;
  Field field;
  // As written in a file; empty: none. Then `default_note` describes the effective default.
  std::string_view default_text = {};
  std::string_view default_note = {};
  // For kInteger, kDuration and kSize: as written in a file, both inclusive.
  std::string_view min = {};
  std::string_view max = {};
  std::vector<std::string_view> choices = {};  // kChoice
  std::string_view pattern =
      {};  // kText: "" any, or one of the names in check_text() (read_value.cc)
  std::string_view zero_word = {};  // kSize: stands for 0, which `min` may leave out
  bool nullable = false;            // `null` means "none given"
  bool required = false;            // in a file
  bool live = false;                // SIGHUP applies a change
  bool cluster_setting =
      false;                   // read when the cluster forms; `connectctl settings set` changes it
  bool at_formation = false;   // read when the cluster forms, and the same ever after
  std::string_view help = {};  // one paragraph

  std::string_view section() const { return path.substr(0, path.find('.')); }
  std::string_view key() const { return path.substr(path.find('.') + 1); }
  // Of a key inside a map of its section, such as `peer` of tls.peer.mode; else empty. And the last
  // word.
  std::string_view group() const {
    const size_t dot = key().find('.');
    return dot == std::string_view::npos ? std::string_view() : key().substr(0, dot);
  }
  std::string_view name() const { return path.substr(path.rfind('.') + 1); }
};

struct Section {
  std::string_view name;
  std::string_view help;
};

// In the order of the reference page; the options of a section lie together.
const std::vector<Option>& options();
const std::vector<Section>& sections();
// nullptr: no such key.
const Option* find_option(std::string_view path);

// It has no value and no static default: `default_note` says what it follows at run time.
bool is_unset(const Option& option, const Config& config);

// The value in `config` as written in a file, in one line; default_note if it is unset.
std::string format_value(const Option& option, const Config& config);
// A text as a YAML scalar, quoted when it has to be.
std::string format_text(std::string_view text);

// Copies the one value.
void copy_value(const Option& option, const Config& from, Config& to);

// What a reload of the configuration would change.
struct Difference {
  const Option* option;
  std::string before;
  std::string after;
};
std::vector<Difference> differences(const Config& before, const Config& after);

}  // namespace connectd::config

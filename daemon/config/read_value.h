// One value: a node of the file, or a text from the command line, checked by its option's type and
// range, and stored in the draft. Errors go to the draft's diagnostics.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "config/draft.h"
#include "config/options.h"

namespace connectd::config {

class ValueReader final {
 public:
  explicit ValueReader(Draft& draft)
      : draft_(draft), diagnostics_(draft.diagnostics), config_(draft.config) {}

  // `label`: replaces the position of a value that is not from the file.
  void set_value(const Option& option, const YamlNode& node, const Place& place,
                 const Place* label);
  void set_plugin_option(const Option& option, const std::string& name, const YamlNode& value,
                         const Place& key_place, const Place& value_place, TextMap& map);

  // A usable key that is not in `seen` yet.
  bool take_key(const YamlNode& key, std::string_view prefix, Places& seen);

 private:
  void store(const Option& option, const YamlNode& node, const Place& place, const Place* label);
  void store_scalar(const Option& option, const std::string& text, const Place& place);
  void store_choice(const Option& option, const std::string& text, const Place& place);
  void store_list(const Option& option, const YamlNode& node, const Place& place,
                  const Place* label);
  void store_map(const Option& option, const YamlNode& node, const Place& place,
                 const Place* label);
  void flatten(const Option& option, const YamlNode& node, const std::string& prefix,
               const Place* label, TextMap& map, Places& seen);
  void store_members(const Option& option, const YamlNode& node, const Place& place,
                     const Place* label);
  void read_member(const YamlNode& item, const Place* label, MemberList& members,
                   std::map<uint64_t, Place>& ids, std::map<std::string, Place>& addresses);
  void read_member_id(const YamlNode& value, const Place& place, Member& member,
                      std::map<uint64_t, Place>& ids);
  void read_member_address(std::string_view key, const YamlNode& value, const Place& place,
                           Address& out, std::map<std::string, Place>& addresses);

  Draft& draft_;
  Diagnostics& diagnostics_;
  Config& config_;
};

}  // namespace connectd::config

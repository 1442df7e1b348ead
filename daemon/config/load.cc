#include "config/load.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "base/limits.h"
#include "config/options.h"
#include "config/values.h"
#include "config/yaml.h"

namespace connectd::config {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;
constexpr size_t kMaxName = 64;
constexpr size_t kMaxPath = 4096;
constexpr size_t kMaxListItems = 64;
constexpr size_t kMaxPluginOptions = 256;
constexpr size_t kMaxPluginKey = 128;
constexpr size_t kMaxPluginValue = 4096;

using TextList = std::vector<std::string>;
using TextMap = std::map<std::string, std::string>;
using MemberList = std::vector<Member>;

// What is wrong with a text of this pattern; empty: nothing.
std::string check_text(std::string_view pattern, std::string_view text) {
  if (pattern == "name") {
    auto fits = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '-' || c == '_' || c == '.';
    };
    if (text.empty() || text.size() > kMaxName || !std::all_of(text.begin(), text.end(), fits)) {
      return fmt::format("'{}' is not a name: 1 to {} letters, digits, '-', '_' or '.'",
                         text.substr(0, kMaxName), kMaxName);
    }
  } else if (pattern == "path") {
    if (text.empty()) return "is empty; a path is wanted";
    if (text.size() > kMaxPath || text.find('\0') != std::string_view::npos) {
      return fmt::format("is not a path of at most {} bytes", kMaxPath);
    }
  } else if (pattern == "sha256") {
    auto hex = [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    };
    if (text.size() != 64 || !std::all_of(text.begin(), text.end(), hex)) {
      return fmt::format("'{}' is not a SHA-256: 64 hexadecimal digits, as sha256sum prints them",
                         text.substr(0, 80));
    }
  }
  return {};
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

std::string joined(const std::vector<std::string_view>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : i + 1 == words.size() ? " or " : ", ", words[i]);
  }
  return text;
}

// The nearest of `known`, when it is near enough to be meant.
std::string_view nearest(std::string_view word, const std::vector<std::string_view>& known) {
  std::string_view best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (std::string_view candidate : known) {
    size_t distance = edit_distance(word, candidate);
    if (distance < best_distance && distance < candidate.size()) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

class Loader final {
 public:
  Loader(const LoadRequest& request, std::string file, std::string source)
      : request_(request), diagnostics_(std::move(file), source), source_(std::move(source)) {}

  Result<Loaded> run() {
    set_defaults();
    if (request_.file) read_file();
    if (!broken_) {
      apply_overrides();
      fill_in();
      check_required();
      check_together();
    }
    if (diagnostics_.errors() > 0) return failure(ExitCode::kConfig, diagnostics_.render());
    Loaded loaded;
    loaded.config = std::move(config_);
    loaded.warnings = diagnostics_.render();
    loaded.places = std::move(places_);
    loaded.file = diagnostics_.file();
    loaded.source_text = std::move(source_);
    return loaded;
  }

 private:
  // ---- the file

  void set_defaults() {
    for (const Option& option : options()) {
      if (option.default_text.empty()) continue;
      YamlDocument document = parse_yaml(std::string(option.default_text));
      CHECK(document.problems.empty()) << option.path;
      size_t before = diagnostics_.errors();
      set_value(option, document.root, Place{}, nullptr);
      CHECK(diagnostics_.errors() == before) << "default of " << option.path;
    }
  }

  Place place_of(const YamlNode& node) const {
    Place place;
    place.kind = Place::Kind::kFile;
    place.at = node.at;
    place.length =
        node.kind == YamlNode::Kind::kScalar ? node.text.size() + (node.quoted ? 2 : 0) : 1;
    return place;
  }
  Place file_place() const {
    Place place;
    place.kind = Place::Kind::kFile;
    return place;
  }

  void read_file() {
    YamlDocument document = parse_yaml(source_);
    for (const YamlProblem& problem : document.problems) {
      Place place = file_place();
      place.at = problem.at;
      place.length = 1;
      diagnostics_.error(place, problem.text);
    }
    if (!document.problems.empty()) {
      broken_ = true;  // what was understood would only lead to errors that are none
      return;
    }
    if (document.root.kind == YamlNode::Kind::kNull) {
      diagnostics_.error(file_place(),
                         "is empty; `connectctl config reference` prints an example to start from");
      broken_ = true;
      return;
    }
    if (document.root.kind != YamlNode::Kind::kMap) {
      diagnostics_.error(place_of(document.root),
                         "a configuration is a map of sections, like 'node: {id: 1}'");
      broken_ = true;
      return;
    }
    std::map<std::string, Place, std::less<>> seen;
    for (const auto& [key, value] : document.root.entries) {
      if (!take_key(key, "", seen)) continue;
      read_section(key, value);
    }
  }

  // A usable key that was not there before.
  bool take_key(const YamlNode& key, std::string_view prefix,
                std::map<std::string, Place, std::less<>>& seen) {
    if (key.kind != YamlNode::Kind::kScalar) {
      diagnostics_.error(place_of(key), "a key is one word");
      return false;
    }
    auto [it, fresh] = seen.emplace(key.text, place_of(key));
    if (!fresh) {
      diagnostics_.error(
          place_of(key),
          fmt::format("duplicate key '{}{}'; delete one of the two", prefix, key.text), it->second,
          "it was first given here");
    }
    return fresh;
  }

  void read_section(const YamlNode& key, const YamlNode& value) {
    for (const LaterSection& later : later_sections()) {
      if (later.name == key.text) {
        diagnostics_.error(place_of(key), std::string(later.text));
        return;
      }
    }
    auto known = std::find_if(sections().begin(), sections().end(),
                              [&](const Section& s) { return s.name == key.text; });
    if (known == sections().end()) {
      diagnostics_.error(place_of(key), unknown_section_text(key.text));
      return;
    }
    section_places_[key.text] = place_of(key);
    if (value.kind == YamlNode::Kind::kNull) return;  // all of its keys are commented out
    if (value.kind != YamlNode::Kind::kMap) {
      diagnostics_.error(place_of(value),
                         fmt::format("'{}' is a section: a map of keys is wanted", key.text));
      return;
    }
    std::map<std::string, Place, std::less<>> seen;
    std::string prefix = key.text + ".";
    for (const auto& [name, node] : value.entries) {
      if (!take_key(name, prefix, seen)) continue;
      const Option* option = find_option(prefix + name.text);
      if (option == nullptr) {
        diagnostics_.error(place_of(name), unknown_key_text(key.text, name.text));
        continue;
      }
      Place place = place_of(node);
      if (node.kind == YamlNode::Kind::kNull) place = place_of(name);
      set_value(*option, node, place, nullptr);
    }
  }

  static std::string unknown_section_text(std::string_view name) {
    if (const Option* option = find_option(name)) {
      return fmt::format("unknown key '{}'; write it as '{}: {{{}: ...}}'", name, option->section(),
                         option->key());
    }
    for (const Option& option : options()) {
      if (option.key() == name) {
        return fmt::format("unknown key '{}'; '{}' belongs under '{}'", name, name,
                           option.section());
      }
    }
    std::vector<std::string_view> known;
    for (const Section& section : sections()) known.push_back(section.name);
    std::string_view near = nearest(name, known);
    if (!near.empty()) return fmt::format("unknown key '{}'; did you mean '{}'?", name, near);
    return fmt::format("unknown key '{}'; the sections are {}", name, joined(known));
  }

  static std::string unknown_key_text(std::string_view section, std::string_view name) {
    std::vector<std::string_view> known;
    for (const Option& option : options()) {
      if (option.section() == section) known.push_back(option.key());
    }
    std::string_view near = nearest(name, known);
    if (!near.empty()) {
      return fmt::format("unknown key '{}.{}'; did you mean '{}'?", section, name, near);
    }
    for (const Option& option : options()) {
      if (option.key() == name) {
        return fmt::format("unknown key '{}.{}'; '{}' belongs under '{}'", section, name, name,
                           option.section());
      }
    }
    return fmt::format("unknown key '{}.{}'; '{}' has {}", section, name, section, joined(known));
  }

  // ---- one value

  // `label`: for a value that is not from the file, the place that stands in for every position.
  void set_value(const Option& option, const YamlNode& node, const Place& place,
                 const Place* label) {
    size_t before = diagnostics_.errors();
    store(option, node, place, label);
    std::string path(option.path);
    if (diagnostics_.errors() > before) {
      failed_.insert(path);
    } else {
      failed_.erase(path);
    }
    if (place.kind != Place::Kind::kDefault) places_[path] = place;
  }

  void store(const Option& option, const YamlNode& node, const Place& place, const Place* label) {
    auto complain = [&](std::string text) {
      diagnostics_.error(place, fmt::format("'{}': {}", option.path, text));
    };
    if (node.kind == YamlNode::Kind::kNull) {
      if (option.nullable) {
        if (auto* get = std::get_if<std::string& (*)(Config&)>(&option.field)) (*get)(config_) = "";
        return;
      }
      return complain("has no value; give it one, or delete the key to get the default");
    }
    switch (option.type) {
      case Type::kTextList:
        return store_list(option, node, place, label);
      case Type::kTextMap:
        return store_map(option, node, place, label);
      case Type::kMembers:
        return store_members(option, node, place, label);
      default:
        break;
    }
    if (node.kind != YamlNode::Kind::kScalar) {
      return complain(fmt::format("is a {}; {} is wanted",
                                  node.kind == YamlNode::Kind::kMap ? "map" : "list",
                                  with_article(option.type)));
    }
    const std::string& text = node.text;
    bool is_plain_type = option.type == Type::kBool || option.type == Type::kInteger;
    if (is_plain_type && node.quoted) {
      return complain(fmt::format("\"{}\" is a text, being in quotes; {} is wanted", text,
                                  with_article(option.type)));
    }
    if (std::find(option.later.begin(), option.later.end(), text) != option.later.end()) {
      std::string offer = option.type == Type::kBool ? "only 'false'" : joined(option.choices);
      return complain(fmt::format("'{}' is not in this version; write {}", text, offer));
    }
    switch (option.type) {
      case Type::kBool: {
        Parsed<bool> value = parse_bool(text);
        if (!value) return complain(value.error());
        std::get<bool& (*)(Config&)>(option.field)(config_) = *value;
        return;
      }
      case Type::kInteger: {
        Parsed<uint64_t> value = parse_integer(text);
        if (!value) return complain(value.error());
        if (*value < *parse_integer(option.min) || *value > *parse_integer(option.max)) {
          return complain(out_of_range(option, text));
        }
        if (auto* get = std::get_if<NodeId& (*)(Config&)>(&option.field)) {
          (*get)(config_) = NodeId(*value);
        } else {
          std::get<uint64_t& (*)(Config&)>(option.field)(config_) = *value;
        }
        return;
      }
      case Type::kDuration: {
        Parsed<Duration> value = parse_duration(text);
        if (!value) return complain(value.error());
        if (*value < *parse_duration(option.min) || *value > *parse_duration(option.max)) {
          return complain(out_of_range(option, text));
        }
        std::get<Duration& (*)(Config&)>(option.field)(config_) = *value;
        return;
      }
      case Type::kSize: {
        if (!option.zero_word.empty() && text == option.zero_word) {
          std::get<uint64_t& (*)(Config&)>(option.field)(config_) = 0;
          return;
        }
        Parsed<uint64_t> value = parse_size(text);
        if (!value) {
          return complain(option.zero_word.empty()
                              ? value.error()
                              : fmt::format("{}, or '{}'", value.error(), option.zero_word));
        }
        if (*value < *parse_size(option.min) || *value > *parse_size(option.max)) {
          return complain(out_of_range(option, text));
        }
        std::get<uint64_t& (*)(Config&)>(option.field)(config_) = *value;
        return;
      }
      case Type::kText: {
        std::string problem = check_text(option.pattern, text);
        if (!problem.empty()) return complain(problem);
        std::get<std::string& (*)(Config&)>(option.field)(config_) =
            option.pattern == "sha256" ? lower_case(text) : text;
        return;
      }
      case Type::kChoice: {
        auto it = std::find(option.choices.begin(), option.choices.end(), text);
        if (it == option.choices.end()) {
          std::string_view near = nearest(text, option.choices);
          return complain(near.empty()
                              ? fmt::format("'{}' is none of its values; write {}", text,
                                            joined(option.choices))
                              : fmt::format("'{}' is none of its values ({}); did you mean '{}'?",
                                            text, joined(option.choices), near));
        }
        if (const auto* field = std::get_if<ChoiceField>(&option.field)) {
          field->set(config_, static_cast<size_t>(it - option.choices.begin()));
        }
        return;
      }
      case Type::kAddress: {
        auto value = parse_address(text);
        if (!value) return complain(value.error());
        std::get<Address& (*)(Config&)>(option.field)(config_) = *value;
        return;
      }
      case Type::kTextList:
      case Type::kTextMap:
      case Type::kMembers:
        return;
    }
  }

  static std::string with_article(Type type) {
    std::string_view name = type_name(type);
    bool vowel = name.starts_with('a');
    return type == Type::kBool ? std::string(name) : fmt::format("{} {}", vowel ? "an" : "a", name);
  }

  static std::string out_of_range(const Option& option, std::string_view text) {
    return fmt::format("{} is out of range {}-{}", text, option.min, option.max);
  }

  Place part_place(const YamlNode& node, const Place* label) const {
    return label != nullptr ? *label : place_of(node);
  }

  void store_list(const Option& option, const YamlNode& node, const Place& place,
                  const Place* label) {
    if (node.kind != YamlNode::Kind::kSequence) {
      diagnostics_.error(place,
                         fmt::format("'{}': a list is wanted, like [one, two]", option.path));
      return;
    }
    TextList list;
    for (const YamlNode& item : node.items) {
      if (item.kind != YamlNode::Kind::kScalar) {
        diagnostics_.error(part_place(item, label),
                           fmt::format("'{}': its items are texts", option.path));
        continue;
      }
      std::string problem = check_text(option.pattern, item.text);
      if (!problem.empty()) {
        diagnostics_.error(part_place(item, label), fmt::format("'{}': {}", option.path, problem));
      }
      list.push_back(item.text);
    }
    if (list.size() > kMaxListItems) {
      diagnostics_.error(place, fmt::format("'{}': has {} items; at most {} are taken", option.path,
                                            list.size(), kMaxListItems));
    }
    std::get<TextList& (*)(Config&)>(option.field)(config_) = std::move(list);
  }

  void store_map(const Option& option, const YamlNode& node, const Place& place,
                 const Place* label) {
    if (node.kind != YamlNode::Kind::kMap) {
      diagnostics_.error(
          place, fmt::format("'{}': a map is wanted, like {{key: \"value\"}}", option.path));
      return;
    }
    TextMap map;
    std::map<std::string, Place, std::less<>> seen;
    flatten(option, node, "", label, map, seen);
    if (map.size() > kMaxPluginOptions) {
      diagnostics_.error(place, fmt::format("'{}': has {} keys; at most {} are taken", option.path,
                                            map.size(), kMaxPluginOptions));
    }
    std::get<TextMap& (*)(Config&)>(option.field)(config_) = std::move(map);
  }

  void flatten(const Option& option, const YamlNode& node, const std::string& prefix,
               const Place* label, TextMap& map, std::map<std::string, Place, std::less<>>& seen) {
    for (const auto& [key, value] : node.entries) {
      if (key.kind != YamlNode::Kind::kScalar || key.text.empty()) {
        diagnostics_.error(part_place(key, label), "a key is one word");
        continue;
      }
      std::string name = prefix + key.text;
      if (value.kind == YamlNode::Kind::kMap) {
        flatten(option, value, name + ".", label, map, seen);
        continue;
      }
      Place key_place = part_place(key, label);
      auto [it, fresh] = seen.emplace(name, key_place);
      if (!fresh) {
        diagnostics_.error(
            key_place,
            fmt::format("duplicate key '{}.{}'; delete one of the two", option.path, name),
            it->second, "it was first given here");
        continue;
      }
      set_plugin_option(option, name, value, key_place, part_place(value, label), map);
    }
  }

  void set_plugin_option(const Option& option, const std::string& name, const YamlNode& value,
                         const Place& key_place, const Place& value_place, TextMap& map) {
    if (name.size() > kMaxPluginKey) {
      diagnostics_.error(
          key_place, fmt::format("'{}': a key has at most {} bytes", option.path, kMaxPluginKey));
      return;
    }
    if (value.kind == YamlNode::Kind::kNull) {
      diagnostics_.error(
          key_place,
          fmt::format("'{}.{}': has no value; write \"\" for an empty text", option.path, name));
      return;
    }
    if (value.kind == YamlNode::Kind::kSequence) {
      diagnostics_.error(
          value_place,
          fmt::format("'{}.{}': plugins take texts, not lists; write one text", option.path, name));
      return;
    }
    const std::string& text = value.text;
    bool octal = !value.quoted && text.size() > 1 && text[0] == '0' &&
                 std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (octal) {
      diagnostics_.error(value_place,
                         fmt::format("'{}.{}': '{}' has a leading zero, which some read as octal; "
                                     "write \"{}\" if it is meant as text",
                                     option.path, name, text, text));
      return;
    }
    if (text.size() > kMaxPluginValue || text.find('\0') != std::string::npos) {
      diagnostics_.error(value_place,
                         fmt::format("'{}.{}': a value is a text of at most {} bytes, without NUL",
                                     option.path, name, kMaxPluginValue));
      return;
    }
    map[name] = text;
  }

  void store_members(const Option& option, const YamlNode& node, const Place& place,
                     const Place* label) {
    if (node.kind != YamlNode::Kind::kSequence || node.items.empty()) {
      diagnostics_.error(place,
                         fmt::format("'{}': a list of members is wanted, like [{{id: 1, peer: "
                                     "\"127.0.0.1:7101\", client: \"127.0.0.1:7201\", http: "
                                     "\"127.0.0.1:7301\"}}]",
                                     option.path));
      return;
    }
    if (node.items.size() > kMaxMembers) {
      diagnostics_.error(place, fmt::format("'{}': has {} members; at most {} are taken",
                                            option.path, node.items.size(), kMaxMembers));
      return;
    }
    MemberList members;
    std::map<uint64_t, Place> ids;
    std::map<std::string, Place> addresses;
    for (const YamlNode& item : node.items) {
      read_member(item, label, members, ids, addresses);
    }
    std::sort(members.begin(), members.end(),
              [](const Member& a, const Member& b) { return a.id < b.id; });
    std::get<MemberList& (*)(Config&)>(option.field)(config_) = std::move(members);
  }

  void read_member(const YamlNode& item, const Place* label, MemberList& members,
                   std::map<uint64_t, Place>& ids, std::map<std::string, Place>& addresses) {
    Place item_place = part_place(item, label);
    if (item.kind != YamlNode::Kind::kMap) {
      diagnostics_.error(item_place,
                         "a member is a map: {id: 1, peer: \"host:port\", client: "
                         "\"host:port\", http: \"host:port\"}");
      return;
    }
    Member member;
    std::map<std::string, Place, std::less<>> seen;
    for (const auto& [key, value] : item.entries) {
      if (!take_key(key, "cluster.members.", seen)) continue;
      Place value_place = part_place(value, label);
      Address* address = key.text == "peer"     ? &member.peer
                         : key.text == "client" ? &member.client
                         : key.text == "http"   ? &member.http
                                                : nullptr;
      if (address == nullptr && key.text != "id") {
        std::string_view near = nearest(key.text, {"id", "peer", "client", "http"});
        diagnostics_.error(part_place(key, label),
                           fmt::format("unknown key '{}' of a member; {}", key.text,
                                       near.empty() ? "it has id, peer, client and http"
                                                    : fmt::format("did you mean '{}'?", near)));
        continue;
      }
      if (value.kind != YamlNode::Kind::kScalar) {
        diagnostics_.error(
            value.kind == YamlNode::Kind::kNull ? part_place(key, label) : value_place,
            fmt::format("a member's '{}' is {}", key.text,
                        address == nullptr ? "a whole number" : "host:port"));
        continue;
      }
      if (address == nullptr) {
        read_member_id(value, value_place, member, ids);
      } else {
        read_member_address(key.text, value, value_place, *address, addresses);
      }
    }
    for (std::string_view needed : {"id", "peer", "client", "http"}) {
      if (seen.find(needed) == seen.end()) {
        diagnostics_.error(item_place, fmt::format("this member has no '{}'", needed));
      }
    }
    members.push_back(std::move(member));
  }

  void read_member_id(const YamlNode& value, const Place& place, Member& member,
                      std::map<uint64_t, Place>& ids) {
    const Option& option = *find_option("node.id");
    Parsed<uint64_t> id = parse_integer(value.text);
    if (value.quoted) id = tl::unexpected<std::string>("a whole number is written without quotes");
    if (!id) {
      diagnostics_.error(place, fmt::format("a member's 'id': {}", id.error()));
      return;
    }
    if (*id < *parse_integer(option.min) || *id > *parse_integer(option.max)) {
      diagnostics_.error(place,
                         fmt::format("a member's 'id': {}", out_of_range(option, value.text)));
      return;
    }
    auto [it, fresh] = ids.emplace(*id, place);
    if (!fresh) {
      diagnostics_.error(place, fmt::format("two members have the id {}", *id), it->second,
                         "the other is here");
    }
    member.id = NodeId(*id);
  }

  void read_member_address(std::string_view key, const YamlNode& value, const Place& place,
                           Address& out, std::map<std::string, Place>& addresses) {
    auto address = parse_address(value.text);
    if (!address) {
      diagnostics_.error(place, fmt::format("a member's '{}': {}", key, address.error()));
      return;
    }
    if (address->is_wildcard()) {
      diagnostics_.error(place, fmt::format("a member's '{}': others cannot dial {}; write the "
                                            "address they reach it at, and {} in 'listen.{}'",
                                            key, address->host, address->to_string(), key));
      return;
    }
    auto [it, fresh] = addresses.emplace(address->to_string(), place);
    if (!fresh) {
      diagnostics_.error(place, fmt::format("the address {} is given twice", address->to_string()),
                         it->second, "the other is here");
    }
    out = *address;
  }

  // ---- the command line

  void apply_overrides() {
    for (const std::string& set : request_.sets) apply_set(set);
    auto apply = [&](std::string_view name, std::string_view path,
                     const std::optional<std::string>& value) {
      if (!value) return;
      Place place;
      place.kind = Place::Kind::kOption;
      place.label = fmt::format("{} {}", name, *value);
      set_scalar(*find_option(path), *value, place);
    };
    apply("--node", "node.id", request_.node);
    apply("--data-dir", "node.data_dir", request_.data_dir);
    apply("--plugin", "plugin.path", request_.plugin);
  }

  void set_scalar(const Option& option, const std::string& text, const Place& place) {
    YamlNode node;
    node.kind = option.nullable && text == "null" ? YamlNode::Kind::kNull : YamlNode::Kind::kScalar;
    node.text = text;
    set_value(option, node, place, &place);
  }

  void apply_set(const std::string& set) {
    Place place;
    place.kind = Place::Kind::kSet;
    place.label = "--set " + set;
    size_t equals = set.find('=');
    std::string path = set.substr(0, equals);
    std::string value = set.substr(equals + 1);  // load() has checked that there is one
    constexpr std::string_view kPluginPrefix = "plugin.options.";
    if (path.starts_with(kPluginPrefix) && path.size() > kPluginPrefix.size()) {
      const Option& option = *find_option("plugin.options");
      YamlNode node;
      node.kind = YamlNode::Kind::kScalar;
      node.quoted = true;
      node.text = value;
      set_plugin_option(option, path.substr(kPluginPrefix.size()), node, place, place,
                        config_.plugin.options);
      places_[std::string(option.path)] = place;
      return;
    }
    const Option* option = find_option(path);
    if (option == nullptr) {
      size_t dot = path.find('.');
      std::string section = path.substr(0, dot);
      for (const LaterSection& later : later_sections()) {
        if (later.name == section) {
          diagnostics_.error(place, std::string(later.text));
          return;
        }
      }
      bool known = std::any_of(sections().begin(), sections().end(),
                               [&](const Section& s) { return s.name == section; });
      if (dot == std::string::npos) {
        diagnostics_.error(place, fmt::format("'{}' is not section.key", path));
      } else if (known) {
        diagnostics_.error(place, unknown_key_text(section, path.substr(dot + 1)));
      } else {
        diagnostics_.error(place, unknown_section_text(section));
      }
      return;
    }
    bool structured = option->type == Type::kTextList || option->type == Type::kTextMap ||
                      option->type == Type::kMembers;
    if (!structured) return set_scalar(*option, value, place);
    YamlDocument document = parse_yaml(value);
    for (const YamlProblem& problem : document.problems) {
      diagnostics_.error(place, problem.text);
    }
    if (document.problems.empty()) set_value(*option, document.root, place, &place);
  }

  // ---- the whole

  bool given(std::string_view path) const { return places_.find(path) != places_.end(); }
  bool good(std::string_view path) const { return failed_.find(path) == failed_.end(); }
  Place place(std::string_view path) const {
    auto it = places_.find(path);
    return it != places_.end() ? it->second : Place{};
  }

  void fill_in() {
    Config& c = config_;
    if (!request_.file && !given("cluster.members")) {
      c.cluster.members = {
          {c.node.id, {"127.0.0.1", 7101}, {"127.0.0.1", 7201}, {"127.0.0.1", 7301}}};
    }
    if (c.node.name.empty()) c.node.name = fmt::format("n{}", c.node.id);
    for (const Member& member : c.cluster.members) {
      if (member.id != c.node.id) continue;
      if (!c.listen.peer) c.listen.peer = member.peer;
      if (!c.listen.client) c.listen.client = member.client;
      if (!c.listen.http) c.listen.http = member.http;
    }
    c.plugin.base_dir = ".";
    if (place("plugin.path").kind == Place::Kind::kFile) {
      size_t slash = diagnostics_.file().rfind('/');
      if (slash != std::string::npos) {
        c.plugin.base_dir = slash == 0 ? "/" : diagnostics_.file().substr(0, slash);
      }
    }
  }

  void check_required() {
    if (request_.file) {
      for (const Option& option : options()) {
        if (!option.required || given(option.path)) continue;
        auto section = section_places_.find(option.section());
        std::string hint;
        if (option.path == "node.id") hint = "; write it, or give --node ID";
        if (option.path == "node.data_dir") hint = "; write it, or give --data-dir DIR";
        diagnostics_.error(section != section_places_.end() ? section->second : file_place(),
                           fmt::format("missing required key '{}'{}", option.path, hint));
      }
    }
    if (request_.need_plugin && config_.plugin.path.empty() && good("plugin.path")) {
      auto section = section_places_.find("plugin");
      Place place = request_.file ? file_place() : Place{};
      diagnostics_.error(section != section_places_.end() ? section->second : place,
                         "no plugin is given; write 'plugin.path', or give --plugin FILE");
    }
  }

  void check_together() {
    const Config& c = config_;
    bool members_good = good("cluster.members") && !c.cluster.members.empty();
    if (members_good && good("node.id") && (given("node.id") || !request_.file)) {
      std::string ids;
      bool found = false;
      for (const Member& member : c.cluster.members) {
        ids += fmt::format("{}{}", ids.empty() ? "" : ", ", member.id);
        found = found || member.id == c.node.id;
      }
      if (!found) {
        diagnostics_.error(place("node.id"), fmt::format("'node.id': {} is none of the ids in "
                                                         "'cluster.members' ({})",
                                                         c.node.id, ids));
      }
    }
    if (members_good) check_members();
    check_listen();
    check_timing();
    check_sizes();
    if (c.storage.sync == SyncMode::kNone) {
      diagnostics_.warning(place("storage.sync"),
                           "'storage.sync': none is for experiments: a power failure can lose "
                           "acknowledged writes and break the cluster");
    }
  }

  void check_members() {
    const MemberList& members = config_.cluster.members;
    Place where = place("cluster.members");
    if (config_.cluster.bootstrap == Bootstrap::kNew && members.size() > 1) {
      diagnostics_.error(
          place("cluster.bootstrap"),
          fmt::format("'cluster.bootstrap': 'new' forms a cluster from this file alone "
                      "and is for a single member; here are {}. Write 'auto'",
                      members.size()));
    }
    if (members.size() % 2 == 0) {
      diagnostics_.warning(where,
                           fmt::format("'cluster.members': {} members can lose {}, no more "
                                       "than {} can; an odd number is better",
                                       members.size(), members.size() / 2 - 1, members.size() - 1));
    }
    auto loopback = static_cast<size_t>(std::count_if(
        members.begin(), members.end(), [](const Member& m) { return m.peer.is_loopback(); }));
    if (loopback > 0 && loopback < members.size()) {
      diagnostics_.warning(where,
                           "'cluster.members': some peer addresses are loopback addresses, "
                           "which members on other machines cannot reach");
    }
  }

  void check_listen() {
    const Config::Listen& listen = config_.listen;
    std::vector<std::pair<std::string_view, Address>> all = {{"listen.peer", listen.peer},
                                                             {"listen.client", listen.client},
                                                             {"listen.http", listen.http}};
    for (size_t i = 0; i < all.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        bool asked = given(all[i].first) || given(all[j].first);
        if (!asked || !all[i].second || !(all[i].second == all[j].second)) continue;
        std::string_view blamed = given(all[i].first) ? all[i].first : all[j].first;
        diagnostics_.error(place(blamed), fmt::format("'{}' and '{}' are both {}", all[j].first,
                                                      all[i].first, all[i].second.to_string()));
      }
    }
  }

  void check_timing() {
    const Config::Raft& raft = config_.raft;
    if (!good("raft.tick") || !good("raft.heartbeat_interval") || !good("raft.election_timeout")) {
      return;
    }
    if (raft.lease_reads && !raft.check_quorum) {
      diagnostics_.error(
          place("raft.lease_reads"),
          "'raft.lease_reads' needs 'raft.check_quorum': a leader that does not look "
          "for its quorum must not rely on it");
    }
    if (raft.election_timeout < 3 * raft.heartbeat_interval) {
      std::string_view blamed =
          given("raft.election_timeout") ? "raft.election_timeout" : "raft.heartbeat_interval";
      diagnostics_.error(place(blamed),
                         fmt::format("'raft.election_timeout' ({}) must be at least 3 x "
                                     "'raft.heartbeat_interval' ({})",
                                     format_duration(raft.election_timeout),
                                     format_duration(raft.heartbeat_interval)));
    }
    if (raft.tick > raft.heartbeat_interval) {
      std::string_view blamed = given("raft.tick") ? "raft.tick" : "raft.heartbeat_interval";
      diagnostics_.error(place(blamed), fmt::format("'raft.tick' ({}) must not be longer than "
                                                    "'raft.heartbeat_interval' ({})",
                                                    format_duration(raft.tick),
                                                    format_duration(raft.heartbeat_interval)));
    }
    if (good("client.request_timeout") &&
        config_.client.request_timeout < 2 * raft.election_timeout) {
      std::string_view blamed =
          given("client.request_timeout") ? "client.request_timeout" : "raft.election_timeout";
      diagnostics_.warning(
          place(blamed),
          fmt::format("'client.request_timeout' ({}) is shorter than an election can "
                      "take (2 x {}): clients will see every change of leader",
                      format_duration(config_.client.request_timeout),
                      format_duration(raft.election_timeout)));
    }
  }

  void check_sizes() {
    // A smaller value must not be larger than a larger one.
    auto fits = [&](std::string_view small, uint64_t small_value, std::string_view large,
                    uint64_t large_value, uint64_t factor) {
      if (!good(small) || !good(large) || small_value <= large_value / factor) return;
      std::string_view blamed = given(small) ? small : large;
      std::string limit =
          factor == 1 ? fmt::format("'{}' ({})", large, format_size(large_value))
                      : fmt::format("1/{} of '{}' ({})", factor, large, format_size(large_value));
      diagnostics_.error(place(blamed), fmt::format("'{}' ({}) must not be larger than {}", small,
                                                    format_size(small_value), limit));
    };
    const Config& c = config_;
    constexpr uint64_t kRequestsPerSegment = 4;  // else a segment is mostly filling
    fits("client.max_request", c.client.max_request, "storage.segment_size", c.storage.segment_size,
         kRequestsPerSegment);
    fits("client.max_request", c.client.max_request, "client.max_inflight_bytes",
         c.client.max_inflight_bytes, 1);
    fits("raft.max_append_bytes", c.raft.max_append_bytes, "raft.inflight_bytes",
         c.raft.inflight_bytes, 1);
  }

  const LoadRequest& request_;
  Diagnostics diagnostics_;
  std::string source_;
  Config config_;
  std::map<std::string, Place, std::less<>> places_;          // of every value given
  std::map<std::string, Place, std::less<>> section_places_;  // of the sections' keys
  std::set<std::string, std::less<>> failed_;  // values that have errors of their own
  bool broken_ = false;                        // the file was not understood at all
};

Result<std::string> read_text(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) {
    int error = errno;
    ExitCode code = error == ENOENT                     ? ExitCode::kNoInput
                    : error == EACCES || error == EPERM ? ExitCode::kPermission
                                                        : ExitCode::kConfig;
    std::string next =
        error == ENOENT ? "; `connectctl config reference` prints an example to start from" : "";
    return failure(
        code, fmt::format("{}: error: cannot be opened: {}{}\n", file, errno_text(error), next));
  }
  std::string text(kMaxFileBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad() || (in.fail() && !in.eof())) {
    return failure(ExitCode::kConfig, fmt::format("{}: error: cannot be read: {}\n", file,
                                                  errno_text(errno == 0 ? EISDIR : errno)));
  }
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMaxFileBytes) {
    return failure(ExitCode::kConfig,
                   fmt::format("{}: error: is larger than {}, which no configuration is\n", file,
                               format_size(kMaxFileBytes)));
  }
  return text;
}

}  // namespace

std::string Loaded::source(std::string_view path) const {
  auto it = places.find(path);
  if (it == places.end()) return "default";
  const Place& place = it->second;
  if (place.kind == Place::Kind::kFile) return fmt::format("{}:{}", file, place.at.line);
  return place.label.substr(0, place.label.find(' '));
}

std::string Loaded::complain(std::string_view path, std::string text) const {
  Diagnostics diagnostics(file, source_text);
  auto it = places.find(path);
  diagnostics.error(it != places.end() ? it->second : Place{}, fmt::format("'{}': {}", path, text));
  return diagnostics.render();
}

Result<Loaded> load(const LoadRequest& request) {
  for (const std::string& set : request.sets) {
    if (set.find('=') == std::string::npos || set.starts_with('=')) {
      return failure(ExitCode::kUsage,
                     fmt::format("--set {}: error: write --set section.key=value\n", set));
    }
  }
  std::string text;
  if (request.file) {
    Result<std::string> read = read_text(*request.file);
    if (!read) return failure(read.error());
    text = std::move(*read);
  }
  return Loader(request, request.file.value_or(""), std::move(text)).run();
}

Result<Reloaded> reload(const LoadRequest& request, const Config& running) {
  Result<Loaded> loaded = load(request);
  if (!loaded) return failure(loaded.error());
  Reloaded result;
  result.config = running;
  for (const Difference& difference : differences(running, loaded->config)) {
    const Option& option = *difference.option;
    std::string text =
        fmt::format("{}: {} -> {}", option.path, difference.before, difference.after);
    if (option.live) {
      copy_value(option, loaded->config, result.config);
      result.applied.push_back(std::move(text));
    } else {
      result.need_restart.push_back(std::move(text));
    }
  }
  return result;
}

}  // namespace connectd::config

#include "config/read_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/address.h"
#include "base/limits.h"
#include "base/words.h"
#include "config/values.h"

namespace connectd::config {
namespace {

constexpr size_t kMaxName = 64;
constexpr size_t kMaxPath = 4096;
constexpr size_t kMaxListItems = 64;
constexpr size_t kMaxPluginOptions = 256;
constexpr size_t kMaxPluginKey = 128;
constexpr size_t kMaxPluginValue = 4096;

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

// Why a text does not match this pattern; empty: it does.
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
    if (text.empty()) return "must not be empty";
    if (text.size() > kMaxPath || text.find('\0') != std::string_view::npos) {
      return fmt::format("must be a path of at most {} bytes", kMaxPath);
    }
  } else if (pattern == "host") {
    if (auto host = parse_host(text, 1); !host) return host.error();
  } else if (pattern == "cluster id") {
    if (!parse_cluster_id(lower_case(text))) {
      return fmt::format(
          "'{}' is not a cluster id: 32 hexadecimal digits, as connectctl status prints them",
          text.substr(0, 80));
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

std::string with_article(Type type) {
  std::string_view name = type_name(type);
  bool vowel = name.starts_with('a');
  return type == Type::kBool ? std::string(name) : fmt::format("{} {}", vowel ? "an" : "a", name);
}

std::string out_of_range(const Option& option, std::string_view text) {
  return fmt::format("{} is out of range {}-{}", text, option.min, option.max);
}

Place part_place(const YamlNode& node, const Place* label) {
  return label != nullptr ? *label : place_of(node);
}

}  // namespace

Place place_of(const YamlNode& node) {
  Place place;
  place.kind = Place::Kind::kFile;
  place.at = node.at;
  place.length =
      node.kind == YamlNode::Kind::kScalar ? node.text.size() + (node.quoted ? 2 : 0) : 1;
  return place;
}

Place file_place() {
  Place place;
  place.kind = Place::Kind::kFile;
  return place;
}

bool ValueReader::take_key(const YamlNode& key, std::string_view prefix, Places& seen) {
  if (key.kind != YamlNode::Kind::kScalar) {
    diagnostics_.error(place_of(key), "a key must be one word");
    return false;
  }
  auto [it, fresh] = seen.emplace(key.text, place_of(key));
  if (!fresh) {
    diagnostics_.error(place_of(key),
                       fmt::format("duplicate key '{}{}'; delete one of the two", prefix, key.text),
                       it->second, "first set here");
  }
  return fresh;
}

// `label`: replaces the position of a value that is not from the file.
void ValueReader::set_value(const Option& option, const YamlNode& node, const Place& place,
                            const Place* label) {
  size_t before = diagnostics_.errors();
  store(option, node, place, label);
  std::string path(option.path);
  if (diagnostics_.errors() > before) {
    draft_.failed.insert(path);
  } else {
    draft_.failed.erase(path);
  }
  if (place.kind != Place::Kind::kDefault) draft_.places[path] = place;
}

void ValueReader::store(const Option& option, const YamlNode& node, const Place& place,
                        const Place* label) {
  auto complain = [&](std::string text) {
    diagnostics_.error(place, fmt::format("'{}': {}", option.path, text));
  };
  if (node.kind == YamlNode::Kind::kNull) {
    // A value that is left out may be one that a script did not find.
    if (option.nullable && !node.written_out) {
      return complain("missing value; set it, or delete the key, or write null for none");
    }
    if (option.nullable) {
      if (auto* get = std::get_if<std::string& (*)(Config&)>(&option.field)) (*get)(config_) = "";
      return;
    }
    return complain("missing value; set it, or delete the key to use the default");
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
    return complain(fmt::format("must be {1}, not a {0}",
                                node.kind == YamlNode::Kind::kMap ? "map" : "list",
                                with_article(option.type)));
  }
  const std::string& text = node.text;
  bool is_plain_type = option.type == Type::kBool || option.type == Type::kInteger;
  if (is_plain_type && node.quoted) {
    return complain(fmt::format("\"{}\" is a string, because of the quotes; must be {}", text,
                                with_article(option.type)));
  }
  store_scalar(option, text, place);
}

void ValueReader::store_scalar(const Option& option, const std::string& text, const Place& place) {
  auto complain = [&](std::string problem) {
    diagnostics_.error(place, fmt::format("'{}': {}", option.path, problem));
  };
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
          option.pattern == "sha256" || option.pattern == "cluster id" ? lower_case(text) : text;
      return;
    }
    case Type::kChoice:
      return store_choice(option, text, place);
    case Type::kAddress: {
      auto value = parse_address(text);
      if (!value) return complain(value.error());
      std::get<Address& (*)(Config&)>(option.field)(config_) = *value;
      return;
    }
    default:
      return;  // store() has them
  }
}

void ValueReader::store_choice(const Option& option, const std::string& text, const Place& place) {
  auto complain = [&](std::string problem) {
    diagnostics_.error(place, fmt::format("'{}': {}", option.path, problem));
  };
  auto it = std::find(option.choices.begin(), option.choices.end(), text);
  if (it == option.choices.end()) {
    std::string_view near = nearest(text, option.choices);
    return complain(near.empty()
                        ? fmt::format("'{}' is invalid; must be {}", text, joined(option.choices))
                        : fmt::format("'{}' is invalid (must be {}); did you mean '{}'?", text,
                                      joined(option.choices), near));
  }
  if (const auto* field = std::get_if<ChoiceField>(&option.field)) {
    field->set(config_, static_cast<size_t>(it - option.choices.begin()));
  }
}

void ValueReader::store_list(const Option& option, const YamlNode& node, const Place& place,
                             const Place* label) {
  if (node.kind != YamlNode::Kind::kSequence) {
    diagnostics_.error(place, fmt::format("'{}': must be a list, such as [one, two]", option.path));
    return;
  }
  TextList list;
  for (const YamlNode& item : node.items) {
    if (item.kind != YamlNode::Kind::kScalar) {
      diagnostics_.error(part_place(item, label),
                         fmt::format("'{}': its items must be strings", option.path));
      continue;
    }
    std::string problem = check_text(option.pattern, item.text);
    if (!problem.empty()) {
      diagnostics_.error(part_place(item, label), fmt::format("'{}': {}", option.path, problem));
    }
    list.push_back(item.text);
  }
  if (list.size() > kMaxListItems) {
    diagnostics_.error(place, fmt::format("'{}': has {} items; must be at most {}", option.path,
                                          list.size(), kMaxListItems));
  }
  std::get<TextList& (*)(Config&)>(option.field)(config_) = std::move(list);
}

void ValueReader::store_map(const Option& option, const YamlNode& node, const Place& place,
                            const Place* label) {
  if (node.kind != YamlNode::Kind::kMap) {
    diagnostics_.error(place,
                       fmt::format("'{}': must be a map, such as {{key: \"value\"}}", option.path));
    return;
  }
  TextMap map;
  Places seen;
  flatten(option, node, "", label, map, seen);
  if (map.size() > kMaxPluginOptions) {
    diagnostics_.error(place, fmt::format("'{}': has {} keys; must be at most {}", option.path,
                                          map.size(), kMaxPluginOptions));
  }
  std::get<TextMap& (*)(Config&)>(option.field)(config_) = std::move(map);
}

void ValueReader::flatten(const Option& option, const YamlNode& node, const std::string& prefix,
                          const Place* label, TextMap& map, Places& seen) {
  for (const auto& [key, value] : node.entries) {
    if (key.kind != YamlNode::Kind::kScalar || key.text.empty()) {
      diagnostics_.error(part_place(key, label), "a key must be one word");
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
          key_place, fmt::format("duplicate key '{}.{}'; delete one of the two", option.path, name),
          it->second, "first set here");
      continue;
    }
    set_plugin_option(option, name, value, key_place, part_place(value, label), map);
  }
}

void ValueReader::set_plugin_option(const Option& option, const std::string& name,
                                    const YamlNode& value, const Place& key_place,
                                    const Place& value_place, TextMap& map) {
  if (name.size() > kMaxPluginKey) {
    diagnostics_.error(key_place, fmt::format("'{}': a key must have at most {} bytes", option.path,
                                              kMaxPluginKey));
    return;
  }
  if (value.kind == YamlNode::Kind::kNull) {
    diagnostics_.error(
        key_place,
        fmt::format("'{}.{}': missing value; write \"\" for an empty string", option.path, name));
    return;
  }
  if (value.kind == YamlNode::Kind::kSequence) {
    diagnostics_.error(value_place,
                       fmt::format("'{}.{}': must be a string, not a list", option.path, name));
    return;
  }
  const std::string& text = value.text;
  bool octal = !value.quoted && text.size() > 1 && text[0] == '0' &&
               std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (octal) {
    diagnostics_.error(
        value_place,
        fmt::format(
            "'{}.{}': '{}' has a leading zero, which may mean octal; write \"{}\" for a string",
            option.path, name, text, text));
    return;
  }
  if (text.size() > kMaxPluginValue || text.find('\0') != std::string::npos) {
    diagnostics_.error(
        value_place,
        fmt::format("'{}.{}': a value must be a string of at most {} bytes without NUL",
                    option.path, name, kMaxPluginValue));
    return;
  }
  map[name] = text;
}

void ValueReader::store_members(const Option& option, const YamlNode& node, const Place& place,
                                const Place* label) {
  if (node.kind != YamlNode::Kind::kSequence || node.items.empty()) {
    diagnostics_.error(
        place,
        fmt::format("'{}': must be a list of members, such as [{{id: 1, peer: \"127.0.0.1:7101\", "
                    "client: \"127.0.0.1:7201\", http: \"127.0.0.1:7301\"}}]",
                    option.path));
    return;
  }
  if (node.items.size() > kMaxMembers) {
    diagnostics_.error(place, fmt::format("'{}': has {} members; must be at most {}", option.path,
                                          node.items.size(), kMaxMembers));
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

void ValueReader::read_member(const YamlNode& item, const Place* label, MemberList& members,
                              std::map<uint64_t, Place>& ids,
                              std::map<std::string, Place>& addresses) {
  Place item_place = part_place(item, label);
  if (item.kind != YamlNode::Kind::kMap) {
    diagnostics_.error(item_place,
                       "a member must be a map: {id: 1, peer: \"host:port\", client: "
                       "\"host:port\", http: \"host:port\"}");
    return;
  }
  Member member;
  Places seen;
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
                                     near.empty() ? "must be id, peer, client or http"
                                                  : fmt::format("did you mean '{}'?", near)));
      continue;
    }
    if (value.kind != YamlNode::Kind::kScalar) {
      diagnostics_.error(value.kind == YamlNode::Kind::kNull ? part_place(key, label) : value_place,
                         fmt::format("a member's '{}' must be {}", key.text,
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
      diagnostics_.error(item_place, fmt::format("missing '{}' of this member", needed));
    }
  }
  members.push_back(std::move(member));
}

void ValueReader::read_member_id(const YamlNode& value, const Place& place, Member& member,
                                 std::map<uint64_t, Place>& ids) {
  const Option& option = *find_option("node.id");
  Parsed<uint64_t> id = parse_integer(value.text);
  if (value.quoted) id = tl::unexpected<std::string>("must be a whole number without quotes");
  if (!id) {
    diagnostics_.error(place, fmt::format("a member's 'id': {}", id.error()));
    return;
  }
  if (*id < *parse_integer(option.min) || *id > *parse_integer(option.max)) {
    diagnostics_.error(place, fmt::format("a member's 'id': {}", out_of_range(option, value.text)));
    return;
  }
  auto [it, fresh] = ids.emplace(*id, place);
  if (!fresh) {
    diagnostics_.error(place, fmt::format("duplicate member id {}", *id), it->second,
                       "first set here");
  }
  member.id = NodeId(*id);
}

void ValueReader::read_member_address(std::string_view key, const YamlNode& value,
                                      const Place& place, Address& out,
                                      std::map<std::string, Place>& addresses) {
  auto address = parse_address(value.text);
  if (!address) {
    diagnostics_.error(place, fmt::format("a member's '{}': {}", key, address.error()));
    return;
  }
  if (address->is_wildcard()) {
    diagnostics_.error(place, fmt::format("a member's '{}': others cannot dial {}; write the "
                                          "address that others dial, and {} in 'listen.{}'",
                                          key, address->host, address->to_string(), key));
    return;
  }
  auto [it, fresh] = addresses.emplace(address->to_string(), place);
  if (!fresh) {
    diagnostics_.error(place, fmt::format("duplicate address {}", address->to_string()), it->second,
                       "first set here");
  }
  out = *address;
}

}  // namespace connectd::config

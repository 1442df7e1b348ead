#include "config/document.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "base/words.h"
#include "config/options.h"
#include "config/read_value.h"

namespace connectd::config {
namespace {

std::string unknown_section_text(std::string_view name) {
  if (const Option* option = find_option(name)) {
    return fmt::format("unknown key '{}'; write it as '{}: {{{}: ...}}'", name, option->section(),
                       option->key());
  }
  for (const Option& option : options()) {
    if (option.key() == name) {
      return fmt::format("unknown key '{}'; '{}' belongs under '{}'", name, name, option.section());
    }
  }
  std::vector<std::string_view> known;
  for (const Section& section : sections()) known.push_back(section.name);
  std::string_view near = nearest(name, known);
  if (!near.empty()) return fmt::format("unknown key '{}'; did you mean '{}'?", name, near);
  return fmt::format("unknown key '{}'; the sections are {}", name, joined(known));
}

// Whether the section has a map of this name, such as tls.peer.
bool is_group(std::string_view section, std::string_view name) {
  return std::ranges::any_of(options(), [&](const Option& option) {
    return option.section() == section && option.group() == name && !name.empty();
  });
}

std::string unknown_key_text(std::string_view section, std::string_view name) {
  std::vector<std::string_view> known;
  for (const Option& option : options()) {
    if (option.section() == section) known.push_back(option.key());
  }
  if (is_group(section, name)) {
    std::erase_if(known, [&](std::string_view key) { return !key.starts_with(name); });
    return fmt::format("'{}.{}' is a map of keys; '{}' has {}", section, name, section,
                       joined(known));
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

class DocumentReader final {
 public:
  explicit DocumentReader(Draft& draft)
      : draft_(draft), values_(draft), diagnostics_(draft.diagnostics) {}

  void set_defaults();
  // False: it could not be parsed at all.
  bool read_file(const std::string& source);
  void apply_overrides(const LoadRequest& request);

 private:
  void read_section(const YamlNode& key, const YamlNode& value);
  void read_keys(const YamlNode& map, const std::string& prefix);
  void set_scalar(const Option& option, const std::string& text, const Place& place);
  void apply_set(const std::string& set);

  Draft& draft_;
  ValueReader values_;
  Diagnostics& diagnostics_;
};

void DocumentReader::set_defaults() {
  for (const Option& option : options()) {
    if (option.default_text.empty()) continue;
    YamlDocument document = parse_yaml(std::string(option.default_text));
    CHECK(document.problems.empty()) << option.path;
    size_t before = diagnostics_.errors();
    values_.set_value(option, document.root, Place{}, nullptr);
    CHECK(diagnostics_.errors() == before) << "default of " << option.path;
  }
}

bool DocumentReader::read_file(const std::string& source) {
  YamlDocument document = parse_yaml(source);
  for (const YamlProblem& problem : document.problems) {
    Place place = file_place();
    place.at = problem.at;
    place.length = 1;
    diagnostics_.error(place, problem.text);
  }
  if (!document.problems.empty()) {
    return false;  // the parsed part would only lead to false errors
  }
  if (document.root.kind == YamlNode::Kind::kNull) {
    diagnostics_.error(file_place(), "is empty; `connectctl config reference` prints an example");
    return false;
  }
  if (document.root.kind != YamlNode::Kind::kMap) {
    diagnostics_.error(place_of(document.root),
                       "a configuration must be a map of sections, such as 'node: {id: 1}'");
    return false;
  }
  Places seen;
  for (const auto& [key, value] : document.root.entries) {
    if (!values_.take_key(key, "", seen)) continue;
    read_section(key, value);
  }
  return true;
}

void DocumentReader::read_section(const YamlNode& key, const YamlNode& value) {
  auto known = std::find_if(sections().begin(), sections().end(),
                            [&](const Section& s) { return s.name == key.text; });
  if (known == sections().end()) {
    diagnostics_.error(place_of(key), unknown_section_text(key.text));
    return;
  }
  draft_.section_places[key.text] = place_of(key);
  if (value.kind == YamlNode::Kind::kNull) return;  // all of its keys are commented out
  if (value.kind != YamlNode::Kind::kMap) {
    diagnostics_.error(place_of(value), fmt::format("'{}' must be a map of keys", key.text));
    return;
  }
  read_keys(value, key.text + ".");
}

void DocumentReader::read_keys(const YamlNode& map, const std::string& prefix) {
  const std::string section = prefix.substr(0, prefix.find('.'));
  const std::string group = prefix.substr(section.size() + 1);  // "" or "peer."
  Places seen;
  for (const auto& [name, node] : map.entries) {
    if (!values_.take_key(name, prefix, seen)) continue;
    if (group.empty() && is_group(section, name.text)) {
      if (node.kind == YamlNode::Kind::kMap) {
        read_keys(node, prefix + name.text + ".");
      } else if (node.kind != YamlNode::Kind::kNull) {  // all of its keys are commented out
        diagnostics_.error(place_of(node),
                           fmt::format("'{}{}' must be a map of keys", prefix, name.text));
      }
      continue;
    }
    const Option* option = find_option(prefix + name.text);
    if (option == nullptr) {
      diagnostics_.error(place_of(name), unknown_key_text(section, group + name.text));
      continue;
    }
    Place place = place_of(node);
    if (node.kind == YamlNode::Kind::kNull) place = place_of(name);
    values_.set_value(*option, node, place, nullptr);
  }
}

void DocumentReader::apply_overrides(const LoadRequest& request) {
  for (const std::string& set : request.sets) apply_set(set);
  auto apply = [&](std::string_view name, std::string_view path,
                   const std::optional<std::string>& value) {
    if (!value) return;
    Place place;
    place.kind = Place::Kind::kOption;
    place.label = fmt::format("{} {}", name, *value);
    set_scalar(*find_option(path), *value, place);
  };
  apply("--node", "node.id", request.node);
  apply("--data-dir", "node.data_dir", request.data_dir);
  apply("--plugin", "plugin.path", request.plugin);
}

void DocumentReader::set_scalar(const Option& option, const std::string& text, const Place& place) {
  YamlNode node;
  node.kind = option.nullable && text == "null" ? YamlNode::Kind::kNull : YamlNode::Kind::kScalar;
  node.written_out = true;
  node.text = text;
  values_.set_value(option, node, place, &place);
}

void DocumentReader::apply_set(const std::string& set) {
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
    values_.set_plugin_option(option, path.substr(kPluginPrefix.size()), node, place, place,
                              draft_.config.plugin.options);
    draft_.places[std::string(option.path)] = place;
    return;
  }
  const Option* option = find_option(path);
  if (option == nullptr) {
    size_t dot = path.find('.');
    std::string section = path.substr(0, dot);
    bool known = std::any_of(sections().begin(), sections().end(),
                             [&](const Section& s) { return s.name == section; });
    if (dot == std::string::npos) {
      diagnostics_.error(place, fmt::format("'{}' must be section.key", path));
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
  if (document.problems.empty()) values_.set_value(*option, document.root, place, &place);
}

}  // namespace

void set_defaults(Draft& draft) { DocumentReader(draft).set_defaults(); }

bool read_document(Draft& draft, const std::string& source) {
  return DocumentReader(draft).read_file(source);
}

void apply_overrides(Draft& draft, const LoadRequest& request) {
  DocumentReader(draft).apply_overrides(request);
}

}  // namespace connectd::config

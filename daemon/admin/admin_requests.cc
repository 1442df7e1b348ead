#include "admin/admin_requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "admin/json_fields.h"
#include "admin/limits.h"

namespace connectd::admin {
namespace {

using Kind = node::MemberChange::Kind;
using Actions = std::vector<std::pair<std::string_view, Kind>>;

constexpr size_t kMaxShown = 32;  // of a text that is not understood

tl::unexpected<Error> wrong(std::string text) {
  return failure(ErrorKind::kUsage, std::move(text));
}
tl::unexpected<Error> unknown_field(std::string_view name) {
  return wrong(
      fmt::format("'{}' is unknown or has a value of the wrong type", name.substr(0, kMaxShown)));
}
tl::unexpected<Error> unknown_action(std::string_view action) {
  return wrong(action.empty() ? "missing 'action'"
                              : fmt::format("unknown action '{}'", action.substr(0, kMaxShown)));
}
tl::unexpected<Error> not_whole(std::string_view name) {
  return wrong(fmt::format("{} must be a non-negative integer", name));
}

Result<json::object> object_of(std::string_view body) {
  boost::system::error_code ec;
  json::value value = json::parse(json::string_view(body.data(), body.size()), ec);
  if (ec || !value.is_object()) return wrong("the body must be a JSON object");
  return std::move(value.get_object());
}

Result<node::MemberChange> parse_change(std::string_view body, const Actions& actions) {
  auto object = object_of(body);
  if (!object) return failure(object.error());
  node::MemberChange change;
  bool has_action = false;
  for (const auto& [key, field] : *object) {
    const std::string_view name(key.data(), key.size());
    std::string* text = name == "peer"     ? &change.member.peer_address
                        : name == "client" ? &change.member.client_address
                        : name == "http"   ? &change.member.http_address
                                           : nullptr;
    bool* flag = name == "learner" ? &change.learner_only
                 : name == "force" ? &change.force
                                   : nullptr;
    if (text != nullptr && Plain::read(field, *text)) {
      auto address = parse_address(*text);
      if (!address) return wrong(fmt::format("{}: {}", name, address.error()));
    } else if (flag != nullptr && Plain::read(field, *flag)) {
      continue;
    } else if (name == "id" && field.is_number()) {
      if (!Plain::read(field, change.member.id)) return not_whole(name);
    } else if (name == "if_index" && field.is_number()) {
      if (!Plain::read(field, change.expected)) return not_whole(name);
    } else if (name == "action" && field.is_string()) {
      const std::string_view action(field.get_string());
      auto known = std::ranges::find(actions, action, &Actions::value_type::first);
      if (known == actions.end()) return unknown_action(action);
      change.kind = known->second;
      has_action = true;
    } else {
      return unknown_field(name);
    }
  }
  if (!has_action) return unknown_action("");
  return change;
}

}  // namespace

Result<node::MemberChange> parse_member_change(std::string_view body) {
  static const Actions kActions = {{"add", Kind::kAdd},
                                   {"promote", Kind::kPromote},
                                   {"remove", Kind::kRemove},
                                   {"replace", Kind::kReplace}};
  return parse_change(body, kActions);
}

Result<node::MemberChange> parse_leader_change(std::string_view body) {
  static const Actions kActions = {{"transfer", Kind::kTransfer}};
  return parse_change(body, kActions);
}

Result<SettingChange> parse_setting_change(std::string_view body) {
  auto object = object_of(body);
  if (!object) return failure(object.error());
  SettingChange change;
  for (const auto& [key, field] : *object) {
    const std::string_view name(key.data(), key.size());
    std::string* text = name == "key" ? &change.key : name == "value" ? &change.value : nullptr;
    if (text == nullptr || !Plain::read(field, *text) || text->size() > kMaxSettingBytes) {
      return wrong(
          fmt::format("'{}' is unknown, not a string, or too long", name.substr(0, kMaxShown)));
    }
  }
  if (change.key.empty()) return wrong("missing 'key'");
  return change;
}

Result<SnapshotVerb> parse_snapshot_verb(std::string_view body) {
  auto object = object_of(body);
  if (!object) return failure(object.error());
  std::string action;
  SnapshotPiece piece;
  for (const auto& [key, field] : *object) {
    const std::string_view name(key.data(), key.size());
    if ((name == "action" && Plain::read(field, action)) ||
        (name == "name" && Plain::read(field, piece.name))) {
      continue;
    }
    if ((name != "offset" && name != "length") || !field.is_number()) return unknown_field(name);
    if (!Plain::read(field, name == "offset" ? piece.offset : piece.length)) {
      return not_whole(name);
    }
  }
  if (action == "take") return TakeSnapshot{};
  if (action == "list") return ListSnapshots{};
  if (action != "read") return unknown_action(action);
  if (piece.name.empty()) return wrong("missing 'name', as listed");
  if (piece.length == 0 || piece.length > kMaxSnapshotPiece) {
    return wrong(fmt::format("'length' must be from 1 to {}", kMaxSnapshotPiece));
  }
  return piece;
}

}  // namespace connectd::admin

#include "admin/admin_requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <type_traits>
#include <utility>

#include "admin/json_fields.h"
#include "admin/limits.h"
#include "base/address.h"
#include "base/log.h"

namespace connectd::admin {
namespace {

using Kind = node::MemberChange::Kind;

std::string unknown_field(std::string_view name) {
  return fmt::format("'{}' is unknown or has a value of the wrong type",
                     name.substr(0, kMaxShownText));
}
std::string unknown_action(std::string_view action) {
  return action.empty() ? "missing 'action'"
                        : fmt::format("unknown action '{}'", action.substr(0, kMaxShownText));
}

// ---- rows: one field of a request, both ways

template <class Request>
struct Row {
  std::string_view name;
  // What is wrong with the value; empty: nothing.
  std::string (*read)(std::string_view name, const json::value& from, Request& to);
  json::value (*write)(const Request& from);  // null: left out
};

// `Get`: a function from the request to its member.
template <class Request, class Get>
constexpr Row<Request> row(std::string_view name, Get /*get*/) {
  return {.name = name,
          .read = [](std::string_view field, const json::value& from, Request& to) -> std::string {
            auto& member = Get()(to);
            if (Plain::read(from, member)) return "";
            const bool is_number = Plain::write(member).is_number();
            return is_number && from.is_number()
                       ? fmt::format("{} must be a non-negative integer", field)
                       : unknown_field(field);
          },
          .write = [](const Request& from) -> json::value {
            const auto& member = Get()(from);
            if (member == std::remove_cvref_t<decltype(member)>()) return nullptr;
            return Plain::write(member);
          }};
}

template <class Request, class Get>
constexpr Row<Request> address_row(std::string_view name, Get get) {
  Row<Request> address = row<Request>(name, get);
  address.read = [](std::string_view field, const json::value& from, Request& to) -> std::string {
    std::string& member = Get()(to);
    if (!Plain::read(from, member)) return unknown_field(field);
    auto parsed = parse_address(member);
    if (!parsed) return fmt::format("{}: {}", field, parsed.error());
    if (!parsed->is_wildcard()) return "";
    return fmt::format("{}: {} is no address that others can dial", field, member);
  };
  return address;
}

// Of the object that `body`, which is valid, consists of. The parser keeps the last of two with the
// same name, and a proxy or a log may have looked at the first.
size_t members_written(std::string_view body) {
  size_t members = 0;
  size_t depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if (in_string && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_string = !in_string;
    } else if (!in_string) {
      if (c == '{' || c == '[') ++depth;
      if (c == '}' || c == ']') --depth;
      if (c == ':' && depth == 1) ++members;
    }
  }
  return members;
}

template <class Request, size_t N>
Result<Request> parse(std::string_view body, const std::array<Row<Request>, N>& rows) {
  boost::system::error_code ec;
  json::value value = json::parse(json::string_view(body.data(), body.size()), ec);
  if (ec || !value.is_object()) {
    return failure(ErrorKind::kUsage, "the body must be a JSON object");
  }
  if (members_written(body) != value.get_object().size()) {
    return failure(ErrorKind::kUsage, "the body has a field twice");
  }
  Request request;
  for (const auto& [key, field] : value.get_object()) {
    const std::string_view name(key.data(), key.size());
    const auto known = std::ranges::find(rows, name, &Row<Request>::name);
    std::string wrong =
        known == rows.end() ? unknown_field(name) : known->read(name, field, request);
    if (!wrong.empty()) return failure(ErrorKind::kUsage, std::move(wrong));
  }
  return request;
}

template <class Request, size_t N>
std::string body_of(const Request& request, const std::array<Row<Request>, N>& rows) {
  json::object object;
  for (const Row<Request>& field : rows) {
    json::value value = field.write(request);
    if (!value.is_null()) object[json::string_view(field.name.data(), field.name.size())] = value;
  }
  return json::serialize(object);
}

// ---- members and leadership

struct ActionRow {
  std::string_view name;
  Kind kind;
};
constexpr std::array kActions = {ActionRow{"add", Kind::kAdd}, ActionRow{"promote", Kind::kPromote},
                                 ActionRow{"remove", Kind::kRemove},
                                 ActionRow{"replace", Kind::kReplace},
                                 ActionRow{"transfer", Kind::kTransfer}};

struct ChangeRequest {
  std::string action;
  node::MemberChange change;
};
constexpr std::array kChangeRows = {
    row<ChangeRequest>(
        "action", [](auto& r) -> auto& { return r.action; }),
    row<ChangeRequest>(
        "id", [](auto& r) -> auto& { return r.change.member.id; }),
    address_row<ChangeRequest>(
        "peer", [](auto& r) -> auto& { return r.change.member.peer_address; }),
    address_row<ChangeRequest>(
        "client", [](auto& r) -> auto& { return r.change.member.client_address; }),
    address_row<ChangeRequest>(
        "http", [](auto& r) -> auto& { return r.change.member.http_address; }),
    row<ChangeRequest>(
        "learner", [](auto& r) -> auto& { return r.change.learner_only; }),
    row<ChangeRequest>(
        "force", [](auto& r) -> auto& { return r.change.force; }),
    row<ChangeRequest>(
        "if_index", [](auto& r) -> auto& { return r.change.expected; })};

Result<node::MemberChange> parse_change(std::string_view body, bool of_leadership) {
  auto request = parse(body, kChangeRows);
  if (!request) return failure(request.error());
  const auto known = std::ranges::find(kActions, request->action, &ActionRow::name);
  if (known == kActions.end() || (known->kind == Kind::kTransfer) != of_leadership) {
    return failure(ErrorKind::kUsage, unknown_action(request->action));
  }
  request->change.kind = known->kind;
  return std::move(request->change);
}

// ---- settings

constexpr std::array kSettingRows = {row<SettingChange>(
                                         "key", [](auto& r) -> auto& { return r.key; }),
                                     row<SettingChange>(
                                         "value", [](auto& r) -> auto& { return r.value; })};

// ---- snapshots

struct SnapshotRequest {
  std::string action;
  SnapshotPiece piece;
};
constexpr std::array kSnapshotRows = {
    row<SnapshotRequest>(
        "action", [](auto& r) -> auto& { return r.action; }),
    row<SnapshotRequest>(
        "name", [](auto& r) -> auto& { return r.piece.name; }),
    row<SnapshotRequest>(
        "offset", [](auto& r) -> auto& { return r.piece.offset; }),
    row<SnapshotRequest>(
        "length", [](auto& r) -> auto& { return r.piece.length; })};

}  // namespace

Result<node::MemberChange> parse_member_change(std::string_view body) {
  return parse_change(body, false);
}
Result<node::MemberChange> parse_leader_change(std::string_view body) {
  return parse_change(body, true);
}
std::string to_body(const node::MemberChange& change) {
  const auto known = std::ranges::find(kActions, change.kind, &ActionRow::kind);
  CHECK(known != kActions.end()) << "a setting is a SettingChange";
  return body_of(ChangeRequest{std::string(known->name), change}, kChangeRows);
}

Result<SettingChange> parse_setting_change(std::string_view body) {
  auto change = parse(body, kSettingRows);
  if (!change) return change;
  for (const Row<SettingChange>& field : kSettingRows) {
    const json::value text = field.write(*change);
    if (text.is_string() && text.get_string().size() > kMaxSettingBytes) {
      return failure(ErrorKind::kUsage,
                     fmt::format("'{}' has more than {} bytes", field.name, kMaxSettingBytes));
    }
  }
  if (change->key.empty()) return failure(ErrorKind::kUsage, "missing 'key'");
  return change;
}
std::string to_body(const SettingChange& change) { return body_of(change, kSettingRows); }

Result<SnapshotVerb> parse_snapshot_verb(std::string_view body) {
  auto request = parse(body, kSnapshotRows);
  if (!request) return failure(request.error());
  SnapshotPiece& piece = request->piece;
  if (request->action == "take") return TakeSnapshot{};
  if (request->action == "list") return ListSnapshots{};
  if (request->action != "read") return failure(ErrorKind::kUsage, unknown_action(request->action));
  if (piece.name.empty()) return failure(ErrorKind::kUsage, "missing 'name', as listed");
  if (piece.length == 0 || piece.length > kMaxSnapshotPiece) {
    return failure(ErrorKind::kUsage,
                   fmt::format("'length' must be from 1 to {}", kMaxSnapshotPiece));
  }
  return std::move(piece);
}
std::string to_body(const SnapshotVerb& verb) {
  SnapshotRequest request;
  if (std::holds_alternative<TakeSnapshot>(verb)) request.action = "take";
  if (std::holds_alternative<ListSnapshots>(verb)) request.action = "list";
  if (const auto* piece = std::get_if<SnapshotPiece>(&verb)) request = {"read", *piece};
  return body_of(request, kSnapshotRows);
}

}  // namespace connectd::admin

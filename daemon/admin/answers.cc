#include "admin/answers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <charconv>

#include "admin/json_fields.h"

namespace connectd::admin {

// ---- the formats of single fields

namespace {

constexpr std::array<std::pair<raft::Role, std::string_view>, 4> kRoles = {
    {{raft::Role::kFollower, "follower"},
     {raft::Role::kPreCandidate, "pre-candidate"},
     {raft::Role::kCandidate, "candidate"},
     {raft::Role::kLeader, "leader"}}};

using node::ServiceState;
constexpr std::array<std::pair<ServiceState, std::string_view>, 10> kStates = {
    {{ServiceState::kUnknown, "unknown"},
     {ServiceState::kForming, "forming"},
     {ServiceState::kStuck, "stuck"},
     {ServiceState::kStopping, "stopping"},
     {ServiceState::kNoQuorum, "no quorum"},
     {ServiceState::kNoLeader, "no leader"},
     {ServiceState::kCatchingUp, "catching up"},
     {ServiceState::kLagging, "lagging"},
     {ServiceState::kDiverged, "diverged"},
     {ServiceState::kReady, "ready"}}};

template <class Names, class Value>
std::string_view name_in(const Names& names, Value value) {
  for (const auto& [each, name] : names) {
    if (each == value) return name;
  }
  return "?";
}

// One of a table of values and their names. An unknown name leaves the member as it is.
template <const auto& kNames>
struct NameIn {
  template <class Value>
  static json::value write(Value value) {
    return json::value(name_in(kNames, value));
  }
  template <class Value>
  static bool read(const json::value& from, Value& to) {
    std::string text;
    if (!Plain::read(from, text)) return false;
    for (const auto& [value, name] : kNames) {
      if (name == text) to = value;
    }
    return true;
  }
};

struct SixteenHexDigits {
  static json::value write(uint64_t value) { return json::value(fmt::format("{:016x}", value)); }
  static bool read(const json::value& from, uint64_t& to) {
    std::string text;
    uint64_t value = 0;
    if (!Plain::read(from, text)) return false;
    const char* end = text.data() + text.size();
    auto parsed = std::from_chars(text.data(), end, value, 16);
    if (parsed.ec != std::errc() || parsed.ptr != end) return false;
    to = value;
    return true;
  }
};

// The member has nanoseconds.
struct Milliseconds {
  static constexpr int64_t kNanoseconds = 1'000'000;
  static json::value write(int64_t ns) { return ns / kNanoseconds; }
  static bool read(const json::value& from, int64_t& to) {
    int64_t ms = 0;
    if (!Plain::read(from, ms) || ms > INT64_MAX / kNanoseconds || ms < INT64_MIN / kNanoseconds) {
      return false;
    }
    to = ms * kNanoseconds;
    return true;
  }
};

// Pairs of texts are an object.
struct Dictionary {
  using Pairs = std::vector<std::pair<std::string, std::string>>;
  static json::value write(const Pairs& pairs) {
    json::object object;
    for (const auto& [key, value] : pairs) object[key] = value;
    return object;
  }
  static bool read(const json::value& from, Pairs& to) {
    if (!from.is_object()) return false;
    to.clear();
    for (const auto& [key, value] : from.get_object()) {
      std::string text;
      if (Plain::read(value, text)) to.emplace_back(std::string(key), std::move(text));
    }
    return true;
  }
};

}  // namespace

std::string_view role_text(raft::Role role) { return name_in(kRoles, role); }
std::string_view state_text(ServiceState state) { return name_in(kStates, state); }

// ---- the tables

template <>
struct Fields<node::MemberStatus> {
  using S = node::MemberStatus;
  static constexpr auto kTable = std::tuple(
      field("id", &S::id), field("voter", &S::voter), field("peer", &S::peer),
      field("client", &S::client), field("http", &S::http), field("promoting", &S::promoting),
      field("disk", &S::disk), field("priority", &S::priority));
};

template <>
struct Fields<node::PeerProgress> {
  using S = node::PeerProgress;
  static constexpr auto kTable =
      std::tuple(field("id", &S::id), field("active", &S::active), field("state", &S::state),
                 field("match_index", &S::match), field("lag", &S::lag));
};

template <>
struct Fields<node::StatusSnapshot> {
  using S = node::StatusSnapshot;
  static constexpr auto kTable =
      std::tuple(field("id", &S::id),                                      //
                 field("name", &S::name),                                  //
                 field("cluster_name", &S::cluster_name),                  //
                 field<NullWhenNone>("cluster_id", &S::cluster_id),        //
                 field("version", &S::version),                            //
                 field<Milliseconds>("started_ms", &S::started_wall_ns),   //
                 field<NameIn<kRoles>>("role", &S::role),                  //
                 field("term", &S::term),                                  //
                 field<NullWhenNone>("leader", &S::leader),                //
                 field("last_index", &S::last_index),                      //
                 field("commit_index", &S::commit_index),                  //
                 field("applied_index", &S::applied_index),                //
                 field("snapshot_index", &S::snapshot_index),              //
                 field<SixteenHexDigits>("digest", &S::digest),            //
                 field<NullWhenNone>("divergence", &S::divergence),        //
                 group("disk",                                             //
                       field("state", &S::disk_state),                     //
                       field("free_bytes", &S::disk_free_bytes),           //
                       field("writes_stopped", &S::writes_stopped)),       //
                 group("limits",                                           //
                       field("max_request", &S::max_request),              //
                       field("max_clients", &S::max_clients)),             //
                 field<NullWhenNone>("stuck", &S::stuck),                  //
                 field<NullWhenNone>("clock_warning", &S::clock_warning),  //
                 field<NullWhenNone>("tls_warning", &S::tls_warning),      //
                 field("log_lines_dropped", &S::log_lines_dropped),        //
                 field<NullWhenNone>("hang", &S::hang),                    //
                 field<NameIn<kStates>>("state", &S::state),               //
                 field("ready", &S::ready),                                //
                 field("reason", &S::reason),                              //
                 field<NullWhenNone>("remedy", &S::remedy),                //
                 field("members", &S::members),                            //
                 field("members_index", &S::members_index),                //
                 field("members_settled", &S::members_settled),            //
                 field("peers", &S::peers),                                //
                 field<Dictionary>("settings", &S::settings),              //
                 field("settings_index", &S::settings_index),              //
                 field("lease", &S::lease),                                //
                 group("plugin",                                           //
                       field("name", &S::plugin_name),                     //
                       field("version", &S::plugin_version),               //
                       field("level", &S::plugin_level),                   //
                       field<NullWhenNone>("warning", &S::plugin_warning)));
};

template <>
struct Fields<ClusterAnswer::Node> {
  using S = ClusterAnswer::Node;
  static constexpr auto kTable =
      std::tuple(field("id", &S::id), field("http", &S::http), field("reachable", &S::reachable),
                 field<NullWhenNone>("error", &S::error), field("stranger", &S::stranger),
                 field("status", &S::status));
};
template <>
struct Fields<ClusterAnswer> {
  using S = ClusterAnswer;
  static constexpr auto kTable = std::tuple(field("asked", &S::asked), field("nodes", &S::nodes));
};

template <>
struct Fields<ChangeAnswer> {
  using S = ChangeAnswer;
  static constexpr auto kTable = std::tuple(field("index", &S::index), field("text", &S::text));
};

template <>
struct Fields<SnapshotTaken> {
  static constexpr auto kTable = std::tuple(field("index", &SnapshotTaken::index));
};
template <>
struct Fields<SnapshotList::Listed> {
  using S = SnapshotList::Listed;
  static constexpr auto kTable =
      std::tuple(field("name", &S::name), field("index", &S::index), field("term", &S::term),
                 field("bytes", &S::bytes), field("age_seconds", &S::age_seconds));
};
template <>
struct Fields<SnapshotList> {
  using S = SnapshotList;
  static constexpr auto kTable =
      std::tuple(field("taking", &S::taking), field("failure", &S::failure),
                 field("snapshots", &S::snapshots));
};

template <>
struct Fields<Problem> {
  using S = Problem;
  static constexpr auto kTable =
      std::tuple(field("type", &S::type), field("title", &S::title), field("status", &S::status),
                 field("detail", &S::detail), field("code", &S::code));
};

// What a table lacks is neither shown nor read.
template <class Struct>
constexpr bool has_all_but(size_t left_out) {
  return members_in_table<Struct>() + left_out == members_of<Struct>();
}
static_assert(has_all_but<node::StatusSnapshot>(1), "a member but `made` has no row");
static_assert(has_all_but<node::MemberStatus>(0) && has_all_but<node::PeerProgress>(0) &&
              has_all_but<ClusterAnswer>(0) && has_all_but<ClusterAnswer::Node>(0) &&
              has_all_but<ChangeAnswer>(0) && has_all_but<SnapshotTaken>(0) &&
              has_all_but<SnapshotList>(0) && has_all_but<SnapshotList::Listed>(0) &&
              has_all_but<Problem>(0));

// ---- both directions

template <class Answer>
json::value to_value(const Answer& answer) {
  return to_object(answer);
}
template <>
json::value to_value(const Problem& problem) {
  json::object object = to_object(problem);
  if (problem.code.empty()) object.erase("code");
  return object;
}

template <class Answer>
std::string to_json(const Answer& answer) {
  return json::serialize(to_value(answer));
}

template <class Answer>
std::optional<Answer> from_json(std::string_view text) {
  boost::system::error_code ec;
  json::value value = json::parse(json::string_view(text.data(), text.size()), ec);
  if (ec || !value.is_object()) return std::nullopt;
  return from_object<Answer>(value.get_object());
}

std::optional<node::StatusSnapshot> ClusterAnswer::Node::read_status() const {
  if (!status.is_object()) return std::nullopt;
  return from_object<node::StatusSnapshot>(status.get_object());
}

#define CONNECTD_ANSWER(type)                        \
  template json::value to_value(const type& answer); \
  template std::string to_json(const type& answer);  \
  template std::optional<type> from_json(std::string_view text)
CONNECTD_ANSWER(node::StatusSnapshot);
CONNECTD_ANSWER(node::MemberStatus);
CONNECTD_ANSWER(ClusterAnswer);
CONNECTD_ANSWER(ChangeAnswer);
CONNECTD_ANSWER(SnapshotTaken);
CONNECTD_ANSWER(SnapshotList);
CONNECTD_ANSWER(SnapshotList::Listed);
#undef CONNECTD_ANSWER
template std::string to_json(const Problem& problem);
template std::optional<Problem> from_json(std::string_view text);

// ---- for people

namespace {

std::string scalar_text(const json::value& value) {
  if (value.is_null()) return "none";
  if (!value.is_string()) return json::serialize(value);
  const std::string text(value.get_string());
  const bool one_word = !text.empty() && text.find_first_of(" \t\r\n\"=") == std::string::npos;
  return one_word ? text : json::serialize(value);
}

void append_text(std::string& text, const std::string& prefix, const json::object& object) {
  for (const auto& [key, value] : object) {
    const std::string name = prefix + std::string(key);
    if (value.is_object()) {
      append_text(text, name + ".", value.get_object());
    } else if (!value.is_array()) {
      text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, scalar_text(value));
    }
  }
}

}  // namespace

std::string status_text(const node::StatusSnapshot& status,
                        std::initializer_list<std::string_view> fields) {
  json::object object;
  auto write = [&](const auto& field) {
    const bool wanted = fields.size() == 0 || std::ranges::find(fields, field.name) != fields.end();
    if (wanted) field.write(status, object);
  };
  std::apply([&](const auto&... f) { (write(f), ...); }, Fields<node::StatusSnapshot>::kTable);
  std::string text;
  append_text(text, "", object);
  return text;
}

std::vector<std::string> status_lines(const node::StatusSnapshot& status) {
  std::vector<std::string> lines;
  for (const node::MemberStatus& member : status.members) {
    lines.emplace_back("member");
    append_text(lines.back(), "", to_object(member));
  }
  for (const node::PeerProgress& peer : status.peers) {
    lines.emplace_back("peer");
    append_text(lines.back(), "", to_object(peer));
  }
  return lines;
}

}  // namespace connectd::admin

#include "config/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "auth/anonymous.h"
#include "auth/certificate.h"
#include "config/options.h"
#include "config/values.h"

namespace connectd::config {
namespace {

class Checker final {
 public:
  Checker(Draft& draft, const LoadRequest& request)
      : draft_(draft), request_(request), diagnostics_(draft.diagnostics), config_(draft.config) {}

  void fill_in();
  void check_required();
  void check_together();
  void check_members();
  void check_access();
  void check_listen();
  void check_timing();
  void check_sizes();
  void check_tls();

 private:
  bool given(std::string_view path) const { return draft_.given(path); }
  bool good(std::string_view path) const { return draft_.good(path); }
  Place place(std::string_view path) const { return draft_.place(path); }

  Draft& draft_;
  const LoadRequest& request_;
  Diagnostics& diagnostics_;
  Config& config_;
};

constexpr uint64_t kRequestsPerSegment = 4;  // else a segment is mostly filling

void Checker::fill_in() {
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
  c.client.max_request_is_set = given("client.max_request");
  if (!c.client.max_request_is_set) {
    // Sizes that are set count, not a default that contradicts them.
    c.client.max_request =
        std::min({c.client.max_request, c.storage.segment_size / kRequestsPerSegment,
                  c.client.max_inflight_bytes});
  }
  std::string beside_file = ".";
  if (const size_t slash = diagnostics_.file().rfind('/'); slash != std::string::npos) {
    beside_file = slash == 0 ? "/" : diagnostics_.file().substr(0, slash);
  }
  c.plugin.base_dir = place("plugin.path").kind == Place::Kind::kFile ? beside_file : ".";
  c.directory = request_.file ? beside_file : ".";
}

void Checker::check_required() {
  if (request_.file) {
    for (const Option& option : options()) {
      if (!option.required || given(option.path)) continue;
      auto section = draft_.section_places.find(option.section());
      std::string hint;
      if (option.path == "node.id") hint = "; write it, or pass --node ID";
      if (option.path == "node.data_dir") hint = "; write it, or pass --data-dir DIR";
      diagnostics_.error(section != draft_.section_places.end() ? section->second : file_place(),
                         fmt::format("missing required key '{}'{}", option.path, hint));
    }
  }
  if (request_.need_plugin && config_.plugin.path.empty() && good("plugin.path")) {
    auto section = draft_.section_places.find("plugin");
    Place place = request_.file ? file_place() : Place{};
    diagnostics_.error(section != draft_.section_places.end() ? section->second : place,
                       "missing plugin; write 'plugin.path', or pass --plugin FILE");
  }
}

void Checker::check_together() {
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
      diagnostics_.error(
          place("node.id"),
          fmt::format("'node.id': {} is not one of the ids in 'cluster.members' ({})", c.node.id,
                      ids));
    }
  }
  if (members_good) check_members();
  check_access();
  check_listen();
  check_timing();
  check_sizes();
  check_tls();
  if (c.storage.sync == SyncMode::kNone) {
    diagnostics_.warning(place("storage.sync"),
                         "'storage.sync': none is for experiments only: a power failure can lose "
                         "acknowledged writes and corrupt the cluster");
  }
}

void Checker::check_members() {
  const std::vector<Member>& members = config_.cluster.members;
  Place where = place("cluster.members");
  if (config_.cluster.bootstrap == Bootstrap::kNew && members.size() > 1) {
    diagnostics_.error(
        place("cluster.bootstrap"),
        fmt::format(
            "'cluster.bootstrap': 'new' is for a single member; this file has {}. Write 'auto'",
            members.size()));
  }
  if (members.size() % 2 == 0) {
    diagnostics_.warning(
        where,
        fmt::format(
            "'cluster.members': {} members tolerate {} failures, as {} would; use an odd number",
            members.size(), members.size() / 2 - 1, members.size() - 1));
  }
  auto loopback = static_cast<size_t>(std::count_if(
      members.begin(), members.end(), [](const Member& m) { return m.peer.is_loopback(); }));
  if (loopback > 0 && loopback < members.size()) {
    diagnostics_.warning(where,
                         "'cluster.members': some peer addresses are loopback addresses; members "
                         "on other machines cannot reach them");
  }
}

void Checker::check_access() {
  if (auto roles = auth::parse_anonymous(config_.auth.anonymous); !roles) {
    diagnostics_.error(place("auth.anonymous"),
                       fmt::format("'auth.anonymous': {}", roles.error().text));
  }
  if (auto map = auth::CertificateMap::parse(config_.auth.certificates); !map) {
    diagnostics_.error(place("auth.certificates"),
                       fmt::format("'auth.certificates': {}", map.error().text));
  }
}

void Checker::check_listen() {
  const Config::Listen& listen = config_.listen;
  std::vector<std::pair<std::string_view, Address>> all = {
      {"listen.peer", listen.peer}, {"listen.client", listen.client}, {"listen.http", listen.http}};
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

void Checker::check_timing() {
  const Config::Raft& raft = config_.raft;
  if (!good("raft.tick") || !good("raft.heartbeat_interval") || !good("raft.election_timeout")) {
    return;
  }
  if (raft.lease_reads && !raft.check_quorum) {
    diagnostics_.error(place("raft.lease_reads"),
                       "'raft.lease_reads' requires 'raft.check_quorum': without it a leader can "
                       "outlive its lease");
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
    diagnostics_.warning(place(blamed),
                         fmt::format("'client.request_timeout' ({}) is shorter than an election "
                                     "can take (2 x {}): clients will see every leader change",
                                     format_duration(config_.client.request_timeout),
                                     format_duration(raft.election_timeout)));
  }
}

void Checker::check_sizes() {
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
  fits("client.max_request", c.client.max_request, "storage.segment_size", c.storage.segment_size,
       kRequestsPerSegment);
  fits("client.max_request", c.client.max_request, "client.max_inflight_bytes",
       c.client.max_inflight_bytes, 1);
  fits("raft.max_append_bytes", c.raft.max_append_bytes, "raft.inflight_bytes",
       c.raft.inflight_bytes, 1);
}

void Checker::check_tls() {
  auto check_port = [&](const std::string& name, const TlsPort& port, bool needs_ca) {
    const std::string mode = name + ".mode";
    if (port.mode == TlsMode::kOff || !good(mode)) return;
    auto need = [&](const std::string& path, const std::string& value) {
      if (!value.empty() || !good(path)) return;
      diagnostics_.error(place(mode),
                         fmt::format("'{}' requires '{}'; `connectctl cert node` makes "
                                     "the files for a test",
                                     mode, path));
    };
    need(name + ".cert", port.cert);
    need(name + ".key", port.key);
    if (needs_ca) need(name + ".ca", port.ca);
  };
  const Config::Tls& tls = config_.tls;
  check_port("tls.peer", tls.peer, true);
  const bool asks_members = tls.http.mode == TlsMode::kPrefer || tls.http.mode == TlsMode::kRequire;
  check_port("tls.client", tls.client, false);
  check_port("tls.http", tls.http, asks_members);
  const auto problem = length_framing_problem(tls.client.mode);
  if (config_.client.framing == FramingChoice::kLength && !problem.empty()) {
    diagnostics_.error(place("tls.client.mode"), std::string(problem));
  }
}

}  // namespace

std::string_view length_framing_problem(TlsMode mode) {
  if (mode != TlsMode::kAccept && mode != TlsMode::kPrefer) return "";
  return "'tls.client.mode' must be off or require with the framing length: a first byte of 0x16 "
         "may begin TLS or be a length";
}

void complete(Draft& draft, const LoadRequest& request) { Checker(draft, request).fill_in(); }

void check(Draft& draft, const LoadRequest& request) {
  Checker checker(draft, request);
  checker.check_required();
  checker.check_together();
}

}  // namespace connectd::config

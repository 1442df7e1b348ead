#include "app/option_bindings.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <type_traits>

#include "base/log.h"
#include "base/log_format.h"

namespace connectd::app {
namespace {

using config::Config;

// Of unread replies, and of requests that are not begun, however little may be in progress.
constexpr uint64_t kClientBytesLeast = uint64_t{64} << 20;

// ---- values as text

template <class T>
std::string text_of(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return std::to_string(static_cast<int64_t>(value));
  } else if constexpr (requires { value.count(); }) {
    return fmt::format("{} ns", Duration(value).count());
  } else {
    return fmt::format("{}", value);
  }
}
template <class T>
std::string text_of(const std::optional<T>& value) {
  return value ? text_of(*value) : "none";
}
std::string text_of(const Address& value) { return value.to_string(); }
std::string text_of(const std::vector<std::string>& values) {
  return fmt::format("{}", fmt::join(values, ";"));
}
std::string text_of(const std::map<std::string, std::string>& values) {
  std::string text;
  for (const auto& [key, value] : values) text += fmt::format("{}={};", key, value);
  return text;
}

// ---- values that the parts call by another name

node::Bootstrap::Mode bootstrap_mode(config::Bootstrap mode) {
  switch (mode) {
    case config::Bootstrap::kAuto:
      break;
    case config::Bootstrap::kNew:
      return node::Bootstrap::Mode::kNew;
    case config::Bootstrap::kJoin:
      return node::Bootstrap::Mode::kJoin;
  }
  return node::Bootstrap::Mode::kAuto;
}

std::optional<node::Framing> framing(config::FramingChoice choice) {
  switch (choice) {
    case config::FramingChoice::kAuto:
      break;
    case config::FramingChoice::kLine:
      return node::Framing::kLine;
    case config::FramingChoice::kResp:
      return node::Framing::kResp;
    case config::FramingChoice::kLength:
      return node::Framing::kLength;
  }
  return std::nullopt;
}

admin::AdminFrom admin_from(config::HttpAdmin admin) {
  switch (admin) {
    case config::HttpAdmin::kLocal:
      break;
    case config::HttpAdmin::kLoopback:
      return admin::AdminFrom::kLoopback;
    case config::HttpAdmin::kOff:
      return admin::AdminFrom::kNobody;
  }
  return admin::AdminFrom::kThisMachine;
}

plugin::CaptureMode capture(config::SnapshotMode mode) {
  switch (mode) {
    case config::SnapshotMode::kAuto:
      break;
    case config::SnapshotMode::kView:
      return plugin::CaptureMode::kView;
    case config::SnapshotMode::kFork:
      return plugin::CaptureMode::kFork;
    case config::SnapshotMode::kInline:
      return plugin::CaptureMode::kInline;
  }
  return plugin::CaptureMode::kAuto;
}

// A follower that is this little behind catches up from the log; not more than about a quarter of
// the log that a snapshot stands for.
uint64_t trailing_entries(uint64_t log_min) {
  return std::clamp<uint64_t>(log_min / 4 / 256, 1, 10'000);
}

// ---- the table

template <class From, class To>
constexpr Binding bind(std::string_view path, From, To) {
  return {path,
          [](const Config& c, ProcessOptions& s) {
            auto& field = To{}(s);
            field = static_cast<std::remove_reference_t<decltype(field)>>(From{}(c));
          },
          [](const ProcessOptions& s) { return text_of(To{}(const_cast<ProcessOptions&>(s))); }};
}

// `from`: an expression of the configuration `c`; `to`: a member of ProcessOptions.
#define CONNECTD_BIND(path, from, to)             \
  bind(                                           \
      path, [](const Config& c) { return from; }, \
      [](ProcessOptions & s) -> auto& { return s.to; })

constexpr Binding kBindings[] = {
    CONNECTD_BIND("node.id", c.node.id, node.id),
    CONNECTD_BIND("node.id", c.node.id, bootstrap.id),
    CONNECTD_BIND("node.id", c.node.id, http.id),

    CONNECTD_BIND("cluster.name", c.cluster.name, bootstrap.cluster_name),
    CONNECTD_BIND("cluster.name", c.cluster.name, http.cluster_name),
    CONNECTD_BIND("cluster.bootstrap", bootstrap_mode(c.cluster.bootstrap), bootstrap.mode),

    CONNECTD_BIND("listen.http", c.listen.http, http.listen),
    CONNECTD_BIND("http.admin", admin_from(c.http.admin), http.admin),
    CONNECTD_BIND("http.hosts", c.http.hosts, http.hosts),

    CONNECTD_BIND("plugin.options", c.plugin.options, bootstrap.plugin_options),
    CONNECTD_BIND("plugin.compare_interval", c.plugin.compare_interval, node.compare_interval),

    CONNECTD_BIND("raft.tick", c.raft.tick, node.holder.tick),
    CONNECTD_BIND("raft.heartbeat_interval", c.raft.heartbeat_interval,
                  node.raft.heartbeat_interval),
    CONNECTD_BIND("raft.election_timeout", c.raft.election_timeout, node.raft.election_timeout),
    CONNECTD_BIND("raft.election_timeout", c.raft.election_timeout,
                  bootstrap.settings.election_timeout),
    CONNECTD_BIND("raft.pre_vote", c.raft.pre_vote, node.raft.pre_vote),
    CONNECTD_BIND("raft.check_quorum", c.raft.check_quorum, node.raft.check_quorum),
    CONNECTD_BIND("raft.lease_reads", c.raft.lease_reads, bootstrap.settings.lease_reads),
    CONNECTD_BIND("raft.max_clock_drift_percent", c.raft.max_clock_drift_percent,
                  bootstrap.settings.max_clock_drift_percent),
    CONNECTD_BIND("raft.priority", c.raft.priority, node.raft.priority),
    CONNECTD_BIND("raft.max_append_bytes", c.raft.max_append_bytes, node.raft.max_append_bytes),
    CONNECTD_BIND("raft.inflight_bytes", c.raft.inflight_bytes, node.raft.inflight_bytes),
    CONNECTD_BIND("raft.cache_bytes", c.raft.cache_bytes, node.raft.cache_bytes),

    CONNECTD_BIND("storage.segment_size", c.storage.segment_size, node.log.segment_bytes),
    CONNECTD_BIND("storage.sync", c.storage.sync == config::SyncMode::kAlways, node.log.sync),
    CONNECTD_BIND("storage.min_free_disk", c.storage.min_free_disk, node.min_free_bytes),
    CONNECTD_BIND("storage.stall_timeout", c.storage.stall_timeout, node.stall_timeout),

    CONNECTD_BIND("snapshot.log_ratio", c.snapshot.log_ratio, node.snapshot.log_ratio),
    CONNECTD_BIND("snapshot.log_min", c.snapshot.log_min, node.snapshot.log_min_bytes),
    CONNECTD_BIND("snapshot.log_min", trailing_entries(c.snapshot.log_min),
                  node.snapshot.trailing_entries),
    CONNECTD_BIND("snapshot.log_min", c.snapshot.log_min / 4, node.snapshot.trailing_bytes),
    CONNECTD_BIND("snapshot.keep", c.snapshot.keep, node.snapshot.keep),
    CONNECTD_BIND("snapshot.compression",
                  c.snapshot.compression == config::Compression::kZstd ? 1 : 0,
                  node.snapshot.compression_level),
    CONNECTD_BIND("snapshot.rate_limit", c.snapshot.rate_limit, node.snapshot_rate),
    CONNECTD_BIND("snapshot.mode", capture(c.snapshot.mode), capture),
    CONNECTD_BIND("snapshot.mode", c.snapshot.mode == config::SnapshotMode::kAuto,
                  node.snapshot.falls_back),
    CONNECTD_BIND("snapshot.fork_timeout", c.snapshot.fork_timeout, fork.stall_timeout),
    CONNECTD_BIND("snapshot.fork_memory", c.snapshot.fork_memory, fork.growth_bytes_max),

    CONNECTD_BIND("client.framing", framing(c.client.framing), clients.framing),
    CONNECTD_BIND("client.request_timeout", c.client.request_timeout, node.holder.request_timeout),
    CONNECTD_BIND("client.request_timeout", c.client.request_timeout, http.call_timeout),
    CONNECTD_BIND("client.max_request", c.client.max_request, bootstrap.max_request),
    CONNECTD_BIND("client.max_request", c.client.max_request, http.max_request),
    CONNECTD_BIND("client.max_connections", c.client.max_connections, clients.max_connections),
    CONNECTD_BIND("client.max_inflight_bytes", c.client.max_inflight_bytes,
                  node.holder.max_inflight_bytes),
    CONNECTD_BIND("client.max_inflight_bytes",
                  std::max<uint64_t>(c.client.max_inflight_bytes, kClientBytesLeast),
                  clients.replies_bytes_max),
    CONNECTD_BIND("client.max_inflight_bytes",
                  std::max<uint64_t>(c.client.max_inflight_bytes, kClientBytesLeast),
                  clients.input_bytes_max),
    // The node accepts client.max_inflight_bytes in all: leave room for one more large request.
    CONNECTD_BIND("client.max_inflight_bytes", c.client.max_inflight_bytes / 4,
                  clients.begun_bytes_most),
    CONNECTD_BIND("client.request_timeout", c.client.request_timeout / 4, clients.begun_time),
};
#undef CONNECTD_BIND

constexpr LiveOption kLiveOptions[] = {
    // Together, with the files that they name: read_own_files().
    {"admin.local", nullptr},
    {"auth.tokens", nullptr},
    {"auth.certificates", nullptr},
    {"auth.anonymous", nullptr},
    {"snapshot.rate_limit",
     [](const Config& config, node::Node* node) {
       if (node != nullptr) node->set_snapshot_rate(config.snapshot.rate_limit);
     }},
    {"log.level", [](const Config& config, node::Node*) { set_log_level(config.log.level); }},
    {"log.format", [](const Config& config, node::Node*) { set_log_format(config.log.format); }},
    // As the former: read_own_files().
    {"tls.peer.mode", nullptr},
    {"tls.peer.cert", nullptr},
    {"tls.peer.key", nullptr},
    {"tls.peer.ca", nullptr},
    {"tls.peer.crl", nullptr},
    {"tls.client.mode", nullptr},
    {"tls.client.cert", nullptr},
    {"tls.client.key", nullptr},
    {"tls.client.ca", nullptr},
    {"tls.client.crl", nullptr},
    {"tls.http.mode", nullptr},
    {"tls.http.cert", nullptr},
    {"tls.http.key", nullptr},
    {"tls.http.ca", nullptr},
    {"tls.http.crl", nullptr},
    {"tls.crl_stale", nullptr},
    {"shutdown.transfer_timeout", nullptr},
    {"shutdown.drain_timeout", nullptr},
};

}  // namespace

std::span<const Binding> bindings() { return kBindings; }
std::span<const LiveOption> live_options() { return kLiveOptions; }

ProcessOptions set_up(const Config& config) {
  ProcessOptions setup;
  for (const Binding& binding : bindings()) binding.copy(config, setup);
  return setup;
}

void apply_live_options(const Config& config, node::Node* node) {
  for (const LiveOption& option : live_options()) {
    if (option.apply != nullptr) option.apply(config, node);
  }
}

}  // namespace connectd::app

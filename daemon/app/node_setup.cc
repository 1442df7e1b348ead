#include "app/node_setup.h"

#include <algorithm>

#include "app/option_bindings.h"
#include "base/address.h"
#include "base/cgroup.h"
#include "base/log_event.h"
#include "base/owner.h"
#include "base/random.h"
#include "config/values.h"
#include "node/membership/settings.h"

namespace connectd::app {

Result<void> check_identity(const storage::Identity& identity, const config::Config& config) {
  const std::string& dir = config.node.data_dir;
  if (identity.node_id != config.node.id) {
    return failure(ErrorKind::kMismatch,
                   fmt::format("the data directory {} belongs to node {}, node.id is {}: use a "
                               "separate directory for each node",
                               dir, identity.node_id, config.node.id));
  }
  const auto wanted = config::parse_cluster_id(config.cluster.id);
  const std::vector<ClusterId>& former = identity.former_cluster_ids;
  if (!wanted || !identity.cluster_id || *wanted == identity.cluster_id ||
      std::ranges::find(former, *wanted) != former.end()) {
    return {};
  }
  return failure(ErrorKind::kMismatch,
                 fmt::format("the data directory {} belongs to the cluster with id {}, cluster.id "
                             "is {}: is the right disk mounted? If it is, set cluster.id: {}",
                             dir, identity.cluster_id.to_string(), config.cluster.id,
                             identity.cluster_id.to_string()));
}

Result<std::unique_ptr<storage::FileLock>> lock_data_directory(storage::FileSystem& files,
                                                               const std::string& directory) {
  if (auto made = files.make_directory(directory); !made) {
    const bool forbidden = made.error().kind == ErrorKind::kPermission;
    return failure(forbidden ? ErrorKind::kPermission : ErrorKind::kCannotCreate,
                   made.error().text);
  }
  auto lock = files.lock(directory + "/lock");
  if (lock) return lock;
  const bool runs = lock.error().kind == ErrorKind::kLocked;
  return failure(runs ? ErrorKind::kCannotCreate : lock.error().kind, lock.error().text);
}

Result<DataDirectory> open_data_directory(storage::FileSystem& files,
                                          const config::Config& config) {
  const std::string& dir = config.node.data_dir;
  if (const std::string owner = KeepOwner(dir).owner(); !owner.empty()) {
    log_event(LogEvent::kProcessRoot,
              "this process runs as root, and {} belongs to user {}: a service of that user "
              "cannot open what is written now. Run it as {}, or later: chown -R {}: {}",
              dir, owner, owner, owner, dir);
  }
  auto lock = lock_data_directory(files, dir);
  if (!lock) return failure(lock.error());
  auto identity = storage::open_identity(files, dir, config.node.id, DiskId{random_128()});
  if (!identity) return failure(identity.error());
  if (auto fits = check_identity(*identity, config); !fits) return failure(fits.error());
  return DataDirectory{std::move(*lock), std::move(*identity)};
}

raft::Settings cluster_settings(const config::Config& config) {
  return set_up(config).bootstrap.settings;
}

node::Bootstrap::Options bootstrap_options(const config::Config& config,
                                           const storage::Identity& identity,
                                           const plugin::Plugin& plugin) {
  node::Bootstrap::Options options = set_up(config).bootstrap;
  options.disk_id = identity.disk_id;
  options.only_cluster_id = config::parse_cluster_id(config.cluster.id).value_or(ClusterId());
  options.fresh_cluster_id.bytes = random_128();
  for (const config::Member& member : config.cluster.members) {
    options.members.push_back({member.id, DiskId(), member.peer.to_string(),
                               member.client.to_string(), member.http.to_string()});
  }
  options.plugin_name = plugin.name();
  options.plugin_level_min = plugin.level_min();
  options.plugin_level_max = plugin.level_max();
  return options;
}

std::vector<std::string> founding_differences(const node::Genesis& genesis,
                                              const config::Config& config) {
  std::vector<std::string> warnings;
  if (config.client.max_request_is_set && genesis.max_request != config.client.max_request) {
    warnings.push_back(
        fmt::format("client.max_request differs config={0} cluster={1}: the value with which the "
                    "cluster was formed applies, and does not change. Set it to {1}, or remove it",
                    config.client.max_request, genesis.max_request));
  }
  const auto& here = config.plugin.options;
  const auto& there = genesis.plugin_options;
  std::set<std::string> keys;
  for (const auto* options : {&here, &there}) {
    for (const auto& [key, value] : *options) keys.insert(key);
  }
  // Without the values, which may be secrets.
  std::string differing;
  for (const std::string& key : keys) {
    const auto wanted = here.find(key);
    const auto real = there.find(key);
    const char* how = " (other value)";
    if (wanted == here.end()) {
      how = " (not in the file)";
    } else if (real == there.end()) {
      how = " (only in the file)";
    } else if (wanted->second == real->second) {
      continue;
    }
    differing += fmt::format("{}{}{}", differing.empty() ? "" : ", ", key.substr(0, 64), how);
  }
  if (here != there) {
    warnings.push_back(fmt::format(
        "plugin.options differ: {}: the values with which the cluster was formed apply, "
        "and do not change, because the state depends on them. Correct the file; other "
        "values need a new cluster",
        differing));
  }
  return warnings;
}

Result<void> check_fits_cluster(const node::Genesis& genesis, const config::Config& config,
                                const plugin::Plugin& plugin) {
  if (genesis.plugin_name != plugin.name()) {
    return failure(
        ErrorKind::kMismatch,
        fmt::format("the data directory {} belongs to plugin '{}', {} is plugin '{}': use the "
                    "right plugin, or another directory",
                    config.node.data_dir, genesis.plugin_name, plugin.path(), plugin.name()));
  }
  if (genesis.plugin_level < plugin.level_min() || genesis.plugin_level > plugin.level_max()) {
    return failure(ErrorKind::kMismatch,
                   fmt::format("this cluster is at behaviour level {}, plugin {} {} supports "
                               "levels {} to {}: install a build that supports it",
                               genesis.plugin_level, plugin.name(), plugin.version(),
                               plugin.level_min(), plugin.level_max()));
  }
  if (genesis.cluster_name != config.cluster.name) {
    return failure(ErrorKind::kMismatch,
                   fmt::format("the data directory {} belongs to cluster '{}', cluster.name is "
                               "'{}': correct it, or use another directory",
                               config.node.data_dir, genesis.cluster_name, config.cluster.name));
  }
  for (const std::string& warning : founding_differences(genesis, config)) {
    log_event(LogEvent::kConfigDiffers, "{}", warning);
  }
  return {};
}

node::NodeOptions node_options(const config::Config& config, const storage::Identity& identity) {
  node::NodeOptions options = set_up(config).node;
  options.disk_id = identity.disk_id;
  options.cluster_id = identity.cluster_id;
  options.former_cluster_ids = identity.former_cluster_ids;
  options.skips = identity.skips;
  options.peer_address = config.self().peer.to_string();
  options.client_address = config.self().client.to_string();
  options.http_address = config.self().http.to_string();
  options.seed = random_seed();
  options.incarnation = random_seed();
  options.raft.awaits_peers = true;
  options.wall_clock = [] { return read_clocks().wall_ns; };
  options.may_begin_log = !identity.log_begun;
  return options;
}

std::set<NodeId> listed_members(const config::Config& config) {
  std::set<NodeId> ids;
  for (const config::Member& member : config.cluster.members) ids.insert(member.id);
  return ids;
}

client::ClientPortOptions client_options(const config::Config& config) {
  return set_up(config).clients;
}

admin::ServerOptions http_options(const config::Config& config) {
  admin::ServerOptions options = set_up(config).http;
  options.advertised = config.self().http;
  return options;
}

std::map<NodeId, std::vector<Address>> peer_addresses(const config::Config& config,
                                                      const node::Node* node) {
  std::map<NodeId, Address> listed;
  for (const config::Member& member : config.cluster.members) {
    if (member.id != config.node.id) listed.emplace(member.id, member.peer);
  }
  if (node != nullptr) {
    return node::addresses_to_dial(config.node.id, listed, node->members(),
                                   node->core().conf_is_settled());
  }
  std::map<NodeId, std::vector<Address>> peers;
  for (const auto& [id, address] : listed) peers[id] = {address};
  return peers;
}

Result<plugin::CaptureMode> capture_mode(const config::Config& config,
                                         const plugin::Plugin& plugin) {
  return plugin::choose_capture(plugin, set_up(config).capture);
}

Result<std::unique_ptr<plugin::Capturer>> make_capturer(const config::Config& config,
                                                        const plugin::Plugin& plugin) {
  auto mode = capture_mode(config, plugin);
  if (!mode) return failure(mode.error());
  switch (*mode) {
    case plugin::CaptureMode::kView:
      log_event(LogEvent::kSnapshotMode, "capture=view: entries are applied meanwhile");
      return plugin::make_view_capturer();
    case plugin::CaptureMode::kFork: {
      plugin::ForkOptions fork = set_up(config).fork;
      if (fork.growth_bytes_max == 0) {
        fork.growth_bytes_max = usable_memory() / 4;
      }
      log_event(LogEvent::kSnapshotMode,
                "capture=fork memory_mib={} timeout_ms={}: entries are applied meanwhile; a child "
                "beyond a limit is killed",
                fork.growth_bytes_max >> 20, fork.stall_timeout / std::chrono::milliseconds(1));
      return plugin::make_fork_capturer(fork);
    }
    case plugin::CaptureMode::kAuto:
    case plugin::CaptureMode::kInline:
      if (config.snapshot.mode == config::SnapshotMode::kInline) break;
      log_event(LogEvent::kSnapshotModeInline,
                "plugin {} {} has no view ({}) and permits no fork (CONNECTD_F_FORK_SNAPSHOT): "
                "snapshots are written on the apply thread, and nothing is applied or read until "
                "one is done, about a second per few hundred MiB of state. Set snapshot.mode to "
                "inline to accept this without a warning",
                plugin.name(), plugin.version(), CONNECTD_EXT_SNAPSHOT_VIEW);
      break;
  }
  return std::unique_ptr<plugin::Capturer>();
}

}  // namespace connectd::app

// From the configuration, the data directory and the plugin to what a node is opened with. Pure but
// for the data directory; on the loop thread, before it loops.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <vector>

#include "admin/http_server.h"
#include "base/address.h"
#include "base/error.h"
#include "client/client_port.h"
#include "config/config.h"
#include "node/membership/bootstrap.h"
#include "node/node.h"
#include "plugin/capture.h"
#include "plugin/plugin.h"
#include "storage/file_system.h"
#include "storage/identity.h"

namespace connectd::app {

// kMismatch: the directory belongs to another node, or to a cluster that neither has nor had the id
// in cluster.id.
Result<void> check_identity(const storage::Identity& identity, const config::Config& config);

// Creates it if need be. kCannotCreate: it cannot be, or its node runs.
Result<std::unique_ptr<storage::FileLock>> lock_data_directory(storage::FileSystem& files,
                                                               const std::string& directory);

struct DataDirectory {
  std::unique_ptr<storage::FileLock> lock;  // held: nobody else uses it
  storage::Identity identity;               // durable; a new one if it was empty
};
// Creates it if need be. kMismatch: see check_identity().
Result<DataDirectory> open_data_directory(storage::FileSystem& files, const config::Config& config);

// Those of the whole cluster, as this node's configuration has them.
raft::Settings cluster_settings(const config::Config& config);

node::Bootstrap::Options bootstrap_options(const config::Config& config,
                                           const storage::Identity& identity,
                                           const plugin::Plugin& plugin);

// Warnings: keys that counted when the cluster was formed, and have other values in this file.
std::vector<std::string> founding_differences(const node::Genesis& genesis,
                                              const config::Config& config);

// kMismatch: the cluster was formed for another plugin, behaviour level or name than those that
// this process was started with. What is only not as the configuration says is logged.
Result<void> check_fits_cluster(const node::Genesis& genesis, const config::Config& config,
                                const plugin::Plugin& plugin);

node::NodeOptions node_options(const config::Config& config, const storage::Identity& identity);
// The ids in the file.
std::set<NodeId> listed_members(const config::Config& config);
client::ClientPortOptions client_options(const config::Config& config);
admin::ServerOptions http_options(const config::Config& config);

// Whom this node dials, and where: the addresses in the file, and those in the log. `node` is null
// before there is one.
std::map<NodeId, std::vector<Address>> peer_addresses(const config::Config& config,
                                                      const node::Node* node);

// How snapshots of this plugin are captured; kBadConfig when it cannot do what snapshot.mode asks.
Result<plugin::CaptureMode> capture_mode(const config::Config& config,
                                         const plugin::Plugin& plugin);
// Logs what was chosen. Null: they are written on the apply thread.
Result<std::unique_ptr<plugin::Capturer>> make_capturer(const config::Config& config,
                                                        const plugin::Plugin& plugin);

}  // namespace connectd::app

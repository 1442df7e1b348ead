#include "node/parts.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/checksum.h"
#include "wire/limits.h"

namespace connectd::node {
namespace {
Membership::Options membership_options(const NodeOptions& options) {
  Membership::Options membership;
  membership.self = {options.id, options.disk_id, options.peer_address, options.client_address,
                     options.http_address};
  membership.cluster_id = options.cluster_id;
  membership.heartbeat_interval = options.raft.heartbeat_interval;
  membership.feature_level_max = options.raft.feature_level_max;
  return membership;
}

DiskWatch::Options disk_options(const NodeOptions& options) {
  DiskWatch::Options disks;
  disks.self = options.id;
  disks.min_free_bytes = options.min_free_bytes;
  disks.stall_timeout = options.stall_timeout;
  disks.interval = Disks::kSpaceCheckInterval;
  return disks;
}

Divergence::Options divergence_options(const NodeOptions& options, const plugin::Plugin& plugin) {
  Divergence::Options divergence;
  divergence.self = options.id;
  divergence.incarnation = options.incarnation;
  divergence.interval = options.raft.heartbeat_interval;
  divergence.compare_interval = options.compare_interval;
  divergence.plugin = fmt::format("{} {}", plugin.name(), plugin.version());
  divergence.build = checksum64(as_bytes(plugin.version()));
  return divergence;
}

HolderLimits holder_limits(const NodeOptions& options, const Genesis& genesis) {
  HolderLimits limits = options.holder;
  limits.checks_ready = true;
  limits.max_request = wire::effective_max_request(genesis.max_request);
  return limits;
}

}  // namespace

Parts make_parts(const NodeOptions& options, const Genesis& genesis, const NodeHost& host,
                 Opened opened, Now now) {
  Random random(options.seed);
  raft::Options core_options = options.raft;
  core_options.inflight_bytes = std::min(core_options.inflight_bytes, wire::kMaxInflightBytes);
  core_options.max_payload_bytes = wire::kMaxRequestBytes;
  core_options.id = options.id;
  core_options.seed = random.next();
  const double spread = 1.0 + static_cast<double>(random.below(1000)) / 3000.0;

  Parts parts;
  parts.applied = opened.start.state.applied;
  parts.digest = opened.start.state.digest;
  parts.skips = opened.skips;
  parts.warnings = std::move(opened.warnings);
  parts.core = std::make_unique<raft::Core>(core_options, opened.initial, now);
  parts.classifier = std::make_unique<PluginClassifier>(opened.start.instance);
  parts.holder =
      std::make_unique<Holder>(options.id, options.incarnation, holder_limits(options, genesis),
                               *parts.classifier, host.metrics);
  parts.holder->set_now(now.time);
  parts.snapshots = std::make_unique<Snapshots>(
      options.snapshot, spread, options.chunk_bytes,
      Snapshots::Start{opened.initial.snapshot, opened.older, opened.newest_bytes});
  parts.snapshots->set_rate(options.snapshot_rate, now.time);
  parts.membership = std::make_unique<Membership>(membership_options(options), genesis);
  parts.disks = std::make_unique<Disks>(disk_options(options));
  parts.divergence = std::make_unique<Divergence>(divergence_options(options, *host.plugin),
                                                  parts.applied, parts.digest);
  parts.divergence->compared(now.time);
  parts.threads = std::make_unique<Threads>(options, genesis, host, std::move(opened));
  return parts;
}

}  // namespace connectd::node

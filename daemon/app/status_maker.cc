#include "app/status_maker.h"

#include <algorithm>

#include "admin/answers.h"
#include "base/log_event.h"
#include "base/version.h"
#include "node/membership/settings.h"

namespace connectd::app {

namespace {

std::string not_up_to_date(const node::Node& node, const node::StatusSnapshot& status) {
  const std::optional<Time> fresh = node.fresh_since();
  if (fresh && node.waits_for_plugin() && status.applied_index == status.commit_index) {
    return fmt::format("the plugin is busy: it has executed no read for {} s",
                       (status.made - *fresh) / std::chrono::seconds(1));
  }
  const std::string applied =
      fmt::format("{} of {} committed entries applied", status.applied_index, status.commit_index);
  if (!fresh) return fmt::format("catching up: {}, and no question to a quorum answered", applied);
  return fmt::format("lagging: {}; last up to date {} s ago", applied,
                     (status.made - *fresh) / std::chrono::seconds(1));
}

// What the node can do, and why not more.
void set_state(node::StatusSnapshot& status, const node::Node& node, config::TlsMode peer_tls,
               bool stopping, bool up_to_date) {
  if (stopping) {
    status.state = node::ServiceState::kStopping;
    status.reason = "stopping";
  } else if (!node.core().leader()) {
    node::Membership::LostMajority lost = node.lost_majority();
    status.state =
        lost.text.empty() ? node::ServiceState::kNoLeader : node::ServiceState::kNoQuorum;
    status.reason =
        with_clock_warning("no known leader" + (lost.text.empty() ? "" : ": " + lost.text),
                           status.clock_warning, peer_tls);
    status.remedy = std::move(lost.remedy);
  } else if (!up_to_date) {
    status.state =
        node.fresh_since() ? node::ServiceState::kLagging : node::ServiceState::kCatchingUp;
    status.reason = not_up_to_date(node, status);
  } else {
    status.state =
        status.divergence.empty() ? node::ServiceState::kReady : node::ServiceState::kDiverged;
    status.reason = status.divergence;
  }
}

}  // namespace

std::string with_clock_warning(std::string reason, const std::string& clock_warning,
                               config::TlsMode peer_tls) {
  if (clock_warning.empty() || peer_tls == config::TlsMode::kOff) return reason;
  return std::move(reason) + "; certificates are checked by the clock: " + clock_warning;
}

StatusMaker::StatusMaker(const config::Config& config, const plugin::Plugin& plugin,
                         const plugin::FileWatch& plugin_file)
    : config_(config),
      plugin_(plugin),
      plugin_file_(plugin_file),
      started_wall_ns_(read_clocks().wall_ns) {}

std::shared_ptr<node::StatusSnapshot> StatusMaker::begin() const {
  auto status = std::make_shared<node::StatusSnapshot>();
  status->made = read_clocks().time;
  status->id = config_.node.id;
  status->name = config_.node.name;
  status->cluster_name = config_.cluster.name;
  status->version = kVersion;
  status->started_wall_ns = started_wall_ns_;
  status->log_lines_dropped = dropped_log_lines();
  status->plugin_name = plugin_.name();
  status->plugin_version = plugin_.version();
  status->plugin_warning = plugin_file_.warning();
  status->max_clients = max_clients_.value_or(config_.client.max_connections);
  return status;
}

std::shared_ptr<node::StatusSnapshot> StatusMaker::make(const node::Bootstrap& bootstrap) {
  auto status = begin();
  status->clock_warning = clocks_.look(std::nullopt, read_clocks());
  status->state = node::ServiceState::kForming;
  status->reason =
      with_clock_warning(bootstrap.waiting_for(), status->clock_warning, config_.tls.peer.mode);
  for (const config::Member& member : config_.cluster.members) {
    status->members.push_back({member.id, true, member.peer.to_string(), member.client.to_string(),
                               member.http.to_string()});
  }
  return status;
}

std::shared_ptr<node::StatusSnapshot> StatusMaker::make(const node::Node& node, bool stopping,
                                                        bool removed) {
  auto status = begin();
  const raft::Core& core = node.core();
  status->cluster_id = node.cluster_id();
  status->plugin_level = node.genesis().plugin_level;
  status->role = core.role();
  status->term = core.term();
  status->leader = core.leader();
  status->last_index = core.last_index();
  status->commit_index = core.commit_index();
  status->applied_index = node.applied_index();
  status->snapshot_index = node.snapshot_index();
  status->digest = node.digest();
  status->max_request = node.max_request();
  for (const node::GenesisMember& member : node.members().members) {
    if (node.members().is_removed(member.id) && core.conf_is_settled()) continue;
    if (removed && member.id == status->id) continue;
    node::MemberStatus shown{member.id, core.conf().is_voter(member.id), member.peer_address,
                             member.client_address, member.http_address};
    shown.promoting = node.members().will_promote(member.id);
    shown.disk = member.disk_id ? member.disk_id.to_string() : "";
    shown.priority = core.priority_of(member.id);
    status->members.push_back(std::move(shown));
  }
  status->members_index = core.conf_index();
  status->members_settled = removed || core.conf_is_settled();
  for (node::Setting& setting : node::list_settings(core.settings())) {
    status->settings.emplace_back(std::move(setting.key), std::move(setting.value));
  }
  status->settings_index = core.settings_index();
  status->lease = core.lease_until().has_value();
  status->clock_warning = clocks_.look(core.log_time_view(), read_clocks());
  for (const raft::PeerStatus& peer : core.peers()) {
    const char* state = peer.state == raft::PeerStatus::State::kProbe       ? "probe"
                        : peer.state == raft::PeerStatus::State::kReplicate ? "replicate"
                                                                            : "snapshot";
    status->peers.push_back(
        {peer.id, peer.is_near, state, peer.match,
         core.last_index().value() - std::min(core.last_index(), peer.match).value()});
  }
  const bool up_to_date =
      readiness_.look(static_cast<bool>(core.leader()), node.fresh_since(), status->made);
  const node::DiskWatch& disks = node.disks();
  status->disk_state = disks.is_stalled()   ? "stalled"
                       : node.log_is_full() ? "no room"
                       : disks.is_full()    ? "full"
                                            : "ok";
  status->disk_free_bytes = disks.free_bytes().value_or(0);
  status->writes_stopped = disks.writes_stopped();
  status->divergence = node.divergence();
  status->ready = up_to_date && !stopping && status->divergence.empty();
  set_state(*status, node, config_.tls.peer.mode, stopping, up_to_date);
  return status;
}

void log_state(const node::Node& node, const node::StatusSnapshot& status,
               const transport::PeerNetwork& network, const client::ClientPort& clients) {
  const raft::Core& core = node.core();
  log_event(LogEvent::kStateLine, "status {}", admin::status_text(status));
  for (const std::string& line : admin::status_lines(status))
    log_event(LogEvent::kStateLine, "{}", line);
  log_event(LogEvent::kStateLine, "log first={} durable={}", core.first_index(),
            core.durable_index());
  log_event(LogEvent::kStateLine, "snapshots failed={}", node.snapshots_failed());
  log_event(LogEvent::kStateLine, "requests held={} bytes={} session={}", node.holder().held(),
            node.holder().held_bytes(), node.holder().session());
  for (const raft::PeerStatus& peer : core.peers()) {
    log_event(LogEvent::kStateLine, "peer id={} next={} inflight_bytes={}", peer.id, peer.next,
              peer.inflight_bytes);
  }
  for (const auto& [id, peer] : network.counters()) {
    log_event(LogEvent::kStateLine,
              "connection node={} sent={} bytes_sent={} dropped={} received={} bytes_received={} "
              "reached={} lost={}",
              id, peer.messages_sent, peer.bytes_sent, peer.messages_dropped,
              peer.messages_received, peer.bytes_received, peer.times_reached, peer.times_lost);
  }
  const client::ClientPortCounters& port = clients.counters();
  log_event(LogEvent::kStateLine,
            "clients connections={} accepted={} rejected={} requests={} bad_frames={} too_large={} "
            "stalled={} half-sent={} memory-given-back={}",
            clients.connections(), port.accepted, port.rejected, port.requests, port.bad_frames,
            port.too_large, port.stalled, port.half_sent, port.trims);
}

}  // namespace connectd::app

#include "admin/metrics.h"

#include <fmt/format.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <sstream>
#include <utility>

#include "admin/answers.h"
#include "admin/call_outcome.h"
#include "admin/health.h"
#include "plugin/metric_table.h"

namespace connectd::admin {

const char* const kMetricsType = "text/plain; version=0.0.4; charset=utf-8";

namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;
using node::ReplyCode;

constexpr double kNanosecond = 1e-9;

// The families, in their order. Names are without the prefix.
class Families final {
 public:
  explicit Families(std::string prefix = "connectd_") : prefix_(std::move(prefix)) {}

  void gauge(std::string_view name, std::string_view help) { open(name, help, MetricType::Gauge); }
  void counter(std::string_view name, std::string_view help) {
    open(name, help, MetricType::Counter);
  }
  void histogram(std::string_view name, std::string_view help) {
    open(name, help, MetricType::Histogram);
  }

  // A sample of the family that was opened last.
  void add(double value, Labels labels = {}) {
    ClientMetric& metric = sample(std::move(labels));
    (family().type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  }
  void add(const TimeHistogram& times, Labels labels = {}) {
    add(times.buckets(), kNanosecond, std::move(labels));
  }
  template <uint64_t kFirst, size_t kBounds, class Count>
  void add(const Histogram<kFirst, kBounds, Count>& numbers, double unit = 1, Labels labels = {}) {
    ClientMetric::Histogram& histogram = sample(std::move(labels)).histogram;
    uint64_t below = 0;
    for (size_t i = 0; i <= kBounds; ++i) {
      below += numbers.count(i);
      const double bound = i == kBounds ? std::numeric_limits<double>::infinity()
                                        : static_cast<double>(numbers.bound(i)) * unit;
      histogram.bucket.push_back({below, bound});
    }
    histogram.sample_count = below;
    histogram.sample_sum = static_cast<double>(numbers.sum()) * unit;
  }

  // What there was nothing to say about is left out.
  std::vector<MetricFamily> take() {
    std::erase_if(families_, [](const MetricFamily& family) { return family.metric.empty(); });
    return std::move(families_);
  }

 private:
  void open(std::string_view name, std::string_view help, MetricType type) {
    families_.push_back({prefix_ + std::string(name), std::string(help), type, {}});
  }
  MetricFamily& family() { return families_.back(); }
  ClientMetric& sample(Labels labels) {
    ClientMetric& metric = family().metric.emplace_back();
    metric.label = std::move(labels);
    return metric;
  }

  const std::string prefix_;
  std::vector<MetricFamily> families_;
};

template <class Kind>
double number(Number<Kind> value) {
  return static_cast<double>(value.value());
}

std::string code_name(ReplyCode code) {
  return code == ReplyCode::kOk ? "OK" : std::string(call_outcome(code).code);
}

std::string text_of(NodeId id) { return fmt::format("{}", id); }

// Voters that may fail while the others still are a majority; below 0: they are none now.
int failure_tolerance(const node::StatusSnapshot& status) {
  int voters = 0;
  int alive = 0;
  for (const node::MemberStatus& member : status.members) {
    if (!member.voter) continue;
    ++voters;
    const bool is_active =
        member.id == status.id || std::ranges::any_of(status.peers, [&](const auto& peer) {
          return peer.id == member.id && peer.active;
        });
    alive += is_active ? 1 : 0;
  }
  return alive - (voters / 2 + 1);
}

void add_node(Families& out, const node::StatusSnapshot* s, Time now) {
  const bool there = s != nullptr;
  out.gauge("build_info", "Always 1; the version of connectd.");
  if (there) out.add(1, {{"version", s->version}});
  out.gauge("plugin_info", "Always 1; the plugin.");
  if (there) {
    out.add(1, {{"name", s->plugin_name},
                {"version", s->plugin_version},
                {"level", fmt::format("{}", s->plugin_level)}});
  }
  out.gauge("start_time_seconds", "When the node started, in Unix time.");
  if (there) out.add(static_cast<double>(s->started_wall_ns) * kNanosecond);
  out.gauge("ready", "1: this node can serve, as /readyz says.");
  out.add(ready_health(s, now).good());
  out.gauge("status_age_seconds",
            "Since the main loop last reported its state: one that grows old says that it hangs.");
  if (there) out.add(static_cast<double>((now - s->made).count()) * kNanosecond);
  out.gauge("state", "1 for the state of /v1/status that this node is in.");
  if (there) out.add(1, {{"state", std::string(state_text(s->state))}});
  out.gauge("warning", "1: look at it, as the check of this name in /readyz?verbose says.");
  if (there) {
    out.add(!s->clock_warning.empty(), {{"of", "clock"}});
    out.add(!s->tls_warning.empty(), {{"of", "tls"}});
    out.add(!s->plugin_warning.empty(), {{"of", "plugin_file"}});
  }
  out.gauge("diverged", "1: the replicas differ, no majority agrees, and writes are refused.");
  if (there) out.add(!s->divergence.empty());
  out.gauge("plugin_call_stuck", "1: a call of the plugin does not come back.");
  if (there) out.add(!s->stuck.empty());
}

void add_raft(Families& out, const node::StatusSnapshot* s, const node::Metrics& counts) {
  const bool there = s != nullptr;
  const auto one = [&](std::string_view name, std::string_view help, auto value) {
    out.gauge(name, help);
    if (there) out.add(value(*s));
  };
  using S = node::StatusSnapshot;
  one("raft_has_leader", "1: this node knows of a leader.",
      [](const S& x) { return static_cast<bool>(x.leader); });
  one("raft_is_leader", "1: this node leads.",
      [](const S& x) { return x.role == raft::Role::kLeader; });
  out.gauge("raft_role", "1 for the role of this node.");
  if (there) out.add(1, {{"role", std::string(role_text(s->role))}});
  one("raft_term", "The term.", [](const S& x) { return number(x.term); });
  one("raft_last_index", "The end of the log.", [](const S& x) { return number(x.last_index); });
  one("raft_commit_index", "Everything up to here is decided.",
      [](const S& x) { return number(x.commit_index); });
  one("raft_applied_index", "Everything up to here was given to the plugin.",
      [](const S& x) { return number(x.applied_index); });
  one("raft_snapshot_index", "Covered by the newest snapshot.",
      [](const S& x) { return number(x.snapshot_index); });
  out.counter("raft_elections_total", "Elections that this node began.");
  out.add(static_cast<double>(counts.loop.elections.value()));
  out.counter("raft_leader_changes_total", "Changes of the leader that this node learned of.");
  out.add(static_cast<double>(counts.loop.leader_changes.value()));
  const bool leads = there && s->role == raft::Role::kLeader;
  out.gauge("raft_failure_tolerance",
            "Voters that may still fail, as the leader sees it; on the leader only.");
  if (leads) out.add(failure_tolerance(*s));
  out.gauge("raft_peer_match_lag_entries", "Entries that a member lacks; on the leader only.");
  if (leads) {
    for (const auto& peer : s->peers) {
      out.add(static_cast<double>(peer.lag), {{"peer", text_of(peer.id)}});
    }
  }
  out.gauge("raft_peer_active", "1: heard of lately; on the leader only.");
  if (leads) {
    for (const auto& peer : s->peers) out.add(peer.active, {{"peer", text_of(peer.id)}});
  }
}

void add_requests(Families& out, const node::Metrics& counts,
                  const node::TrafficSnapshot* traffic) {
  out.counter("requests_total", "Requests of this node's clients, by the code of the answer.");
  for (size_t i = 0; i < node::kReplyCodes; ++i) {
    out.add(static_cast<double>(counts.loop.requests[i].value()),
            {{"code", code_name(static_cast<ReplyCode>(i))}});
  }
  out.histogram("request_duration_seconds",
                "From the request to its answer, on the node that the client is connected with.");
  out.add(counts.loop.write_time, {{"op", "write"}});
  out.add(counts.loop.read_time, {{"op", "read"}});
  out.gauge("requests_pending", "Requests without an answer yet.");
  if (traffic != nullptr) out.add(static_cast<double>(traffic->requests_held));
  out.gauge("requests_pending_bytes", "Their bytes.");
  if (traffic != nullptr) out.add(static_cast<double>(traffic->requests_held_bytes));
  out.histogram("commit_duration_seconds", "From the append to the commit, on the leader.");
  out.add(counts.loop.commit_time);
  out.histogram("plugin_call_duration_seconds", "Of one call of the plugin.");
  out.add(counts.apply.apply_time, {{"call", "apply"}});
  out.add(counts.apply.read_time, {{"call", "read"}});
  out.histogram("loop_turn_duration_seconds", "Of one turn of the main loop, without its waiting.");
  out.add(counts.loop.turn_time);
}

void add_storage(Families& out, const node::StatusSnapshot* s, const node::Metrics& counts,
                 const node::TrafficSnapshot* traffic) {
  out.histogram("wal_fsync_duration_seconds",
                "Of writing what is appended together, with its fdatasync.");
  out.add(counts.writer.append_time);
  out.histogram("raft_append_batch_entries", "Entries that were made durable together.");
  out.add(counts.writer.append_entries);
  out.counter("wal_write_bytes_total", "Bytes of the entries that were written to the log.");
  out.add(static_cast<double>(counts.writer.bytes.value()));
  out.gauge("disk_free_bytes", "Free space where the data is.");
  if (s != nullptr) out.add(static_cast<double>(s->disk_free_bytes));
  out.gauge("disk_state", "1 for the state of the disk.");
  if (s != nullptr) out.add(1, {{"state", s->disk_state}});
  out.gauge("writes_stopped", "1: no quorum has space, and writes get DISKFULL.");
  if (s != nullptr) out.add(s->writes_stopped);
  out.counter("snapshots_failed_total", "Snapshots that failed.");
  if (traffic != nullptr) out.add(static_cast<double>(traffic->snapshots_failed));
  out.counter("snapshots_installed_total", "Snapshots that came from a leader.");
  if (traffic != nullptr) out.add(static_cast<double>(traffic->snapshots_installed));
  out.counter("log_dropped_total", "Lines of the text log that nobody took.");
  if (s != nullptr) out.add(static_cast<double>(s->log_lines_dropped));
}

void add_network(Families& out, const node::TrafficSnapshot* traffic) {
  using Peer = node::TrafficSnapshot::Peer;
  const auto for_peers = [&](auto member) {
    if (traffic == nullptr) return;
    for (const auto& [id, peer] : traffic->peers) {
      out.add(static_cast<double>(peer.*member), {{"peer", text_of(id)}});
    }
  };
  out.counter("net_sent_bytes_total", "Bytes to another node.");
  for_peers(&Peer::bytes_sent);
  out.counter("net_received_bytes_total", "Bytes from another node.");
  for_peers(&Peer::bytes_received);
  out.counter("net_messages_sent_total", "Messages to another node.");
  for_peers(&Peer::messages_sent);
  out.counter("net_messages_received_total", "Messages from another node.");
  for_peers(&Peer::messages_received);
  out.counter("net_messages_dropped_total",
              "Messages to another node that were not sent: it was not connected, or too slow.");
  for_peers(&Peer::messages_dropped);
  out.counter("net_connections_lost_total", "How often the connection with a node was lost.");
  for_peers(&Peer::times_lost);
  out.gauge("net_peer_plain", "1: a connection with this node is not inside TLS.");
  for_peers(&Peer::is_plain);

  using Clients = node::TrafficSnapshot::Clients;
  const Clients none;
  const Clients& clients = traffic != nullptr ? traffic->clients : none;
  out.gauge("clients_connected", "Connections of the client port.");
  out.add(static_cast<double>(clients.connected));
  out.counter("clients_accepted_total", "Connections that the client port accepted.");
  out.add(static_cast<double>(clients.accepted));
  out.counter("clients_rejected_total", "Connections over the limit.");
  out.add(static_cast<double>(clients.rejected));
  out.counter("clients_too_large_total", "Requests over the limit, which were skipped.");
  out.add(static_cast<double>(clients.too_large));
  out.counter("clients_closed_total", "Connections that the node closed, by the reason.");
  out.add(static_cast<double>(clients.bad_frames), {{"reason", "bad_frame"}});
  out.add(static_cast<double>(clients.stalled), {{"reason", "stalled"}});
  out.add(static_cast<double>(clients.half_sent), {{"reason", "half_sent"}});
  out.add(static_cast<double>(clients.unknown), {{"reason", "unknown"}});
  out.gauge("tls_certificate_expiry_timestamp_seconds",
            "When the certificate of a port ends, in Unix time.");
  if (traffic != nullptr) {
    for (const auto& [port, ends] : traffic->certificates) {
      out.add(static_cast<double>(ends), {{"port", port}});
    }
  }
  out.gauge("config_last_reload_success", "0: the last reload was refused.");
  if (traffic != nullptr) out.add(traffic->reload_succeeded);
  out.gauge("config_last_reload_timestamp_seconds",
            "When the configuration was last reloaded, in Unix time; 0: it was not.");
  if (traffic != nullptr) out.add(static_cast<double>(traffic->reloaded_wall_s));
}

// The names of Prometheus's own client libraries, without a prefix of ours.
void add_process(std::vector<MetricFamily>& families) {
  const auto add = [&](const char* name, const char* help, MetricType type, double value) {
    ClientMetric metric;
    (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
    families.push_back({name, help, type, {metric}});
  };
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  add("process_cpu_seconds_total", "Processor time, of the system's calls too.",
      MetricType::Counter, seconds(usage.ru_utime) + seconds(usage.ru_stime));
  std::ifstream statm("/proc/self/statm");
  double virtual_pages = 0;
  double resident_pages = 0;
  if (statm >> virtual_pages >> resident_pages) {
    add("process_resident_memory_bytes", "Resident memory.", MetricType::Gauge,
        resident_pages * static_cast<double>(::sysconf(_SC_PAGESIZE)));
  }
  std::error_code error;
  size_t open = 0;
  for (std::filesystem::directory_iterator at("/proc/self/fd", error), end; !error && at != end;
       at.increment(error)) {
    ++open;
  }
  if (!error) {
    add("process_open_fds", "Open file descriptors.", MetricType::Gauge, static_cast<double>(open));
  }
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    add("process_max_fds", "The limit of file descriptors.", MetricType::Gauge,
        static_cast<double>(limit.rlim_cur));
  }
}

// Families of the plugin's own, by their names.
void add_plugin(std::vector<MetricFamily>& families, std::string_view plugin_name,
                const plugin::MetricTable& table) {
  std::string prefix = fmt::format("plugin_{}_", plugin_name);
  std::ranges::replace_if(
      prefix, [](char c) { return c == '-' || c == '.'; }, '_');
  std::map<std::string, Families> by_name;
  for (const auto& metric : table.all()) {
    const plugin::MetricName& name = metric->name();
    Labels labels;
    if (!name.label.empty()) labels.push_back({name.label, name.value});
    const auto [at, is_new] = by_name.try_emplace(name.name, prefix);
    Families& family = at->second;
    switch (name.type) {
      case plugin::MetricType::kCounter:
        if (is_new) family.counter(name.name, name.help);
        family.add(static_cast<double>(metric->count()), std::move(labels));
        break;
      case plugin::MetricType::kGauge:
        if (is_new) family.gauge(name.name, name.help);
        family.add(metric->level(), std::move(labels));
        break;
      case plugin::MetricType::kHistogram:
        if (is_new) family.histogram(name.name, name.help);
        family.add(metric->buckets(), kNanosecond, std::move(labels));
        break;
    }
  }
  for (auto& [name, family] : by_name)
    std::ranges::move(family.take(), std::back_inserter(families));
}

void add_all(Families& families, const MetricsSource& source) {
  add_node(families, source.status, source.now);
  add_raft(families, source.status, source.counts);
  add_requests(families, source.counts, source.traffic);
  add_storage(families, source.status, source.counts, source.traffic);
  add_network(families, source.traffic);
}

}  // namespace

std::string metrics_text(const MetricsSource& source) {
  Families families;
  add_all(families, source);
  std::vector<MetricFamily> all = families.take();
  add_process(all);
  if (source.traffic != nullptr && source.traffic->plugin != nullptr && source.status != nullptr) {
    add_plugin(all, source.status->plugin_name, *source.traffic->plugin);
  }
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, all);
  return out.str();
}

}  // namespace connectd::admin

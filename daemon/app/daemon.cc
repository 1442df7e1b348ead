#include "app/daemon.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <thread>

#include "admin/http_server.h"
#include "app/descriptors.h"
#include "app/flight_dump.h"
#include "app/leader_watch.h"
#include "app/loading.h"
#include "app/node_calls.h"
#include "app/node_setup.h"
#include "app/node_threads.h"
#include "app/option_bindings.h"
#include "app/own_files.h"
#include "app/own_port.h"
#include "app/port_tls.h"
#include "app/reload_log.h"
#include "app/service_state.h"
#include "app/shutdown.h"
#include "app/snapshot_port.h"
#include "app/status_maker.h"
#include "app/traffic_maker.h"
#include "base/exit_code.h"
#include "base/flight_recorder.h"
#include "base/log.h"
#include "base/log_event.h"
#include "base/loop_scope.h"
#include "base/random.h"
#include "client/client_port.h"
#include "config/reload_report.h"
#include "net/names.h"
#include "net/tcp.h"
#include "node/membership/bootstrap.h"
#include "node/membership/refusals.h"
#include "node/membership/settings.h"
#include "node/node.h"
#include "node/status.h"
#include "plugin/file_watch.h"
#include "storage/file_system.h"
#include "storage/identity.h"
#include "storage/watched_file_system.h"
#include "transport/peer_network.h"

namespace connectd::app {
namespace {
namespace asio = boost::asio;
using std::chrono::milliseconds;

constexpr Duration kSnapshotRestMax = milliseconds(200);
// How long a signal waits for a plugin that restores its state.
constexpr Duration kLoadEnd = std::chrono::seconds(1);
// How long a removed node lives on for whoever asked it, and for how long somebody may be waiting.
constexpr Duration kRemovalShown = std::chrono::seconds(1);
constexpr Duration kAskerStays = std::chrono::minutes(10);
constexpr Duration kBootstrapInterval = milliseconds(100);
constexpr Duration kStatusInterval = milliseconds(50);
// What a turn of the loop spends on what has arrived, before consensus comes. A small request
// passes seven turns of three loops, so this is most of its time beside clients that flood the
// nodes; a shorter one gains nothing more (docs/performance.md).
constexpr Duration kEventsOfATurn = std::chrono::microseconds(400);
constexpr Duration kWaitingLogInterval = std::chrono::seconds(10);

// Ends the process at once: from here on nothing that it says could be trusted.
[[noreturn]] void die(const Error& error) {
  log_event(LogEvent::kProcessFailed, "{}", error.text);
  finish_log();
  _exit(exit_status(error.kind));
}

}  // namespace

class Daemon::Impl final : public wire::TransportHandler, public Supervisor, public NodeAccess {
 public:
  Impl(config::Config config, config::LoadRequest request,
       std::shared_ptr<const plugin::Plugin> plugin, Watchdog& watchdog)
      : config_(std::move(config)),
        request_(std::move(request)),
        plugin_(std::move(plugin)),
        watchdog_(watchdog),
        files_(std::make_unique<storage::WatchedFileSystem>(storage::make_real_file_system())) {}

  ~Impl() override {
    stop_everything();
    watchdog_.unfollow();
  }

  Result<void> run();
  // So that systemd does not go on to show the status of a node that worked. Any thread.
  void tell_failure(const Error& error) const { service_.failed(error); }

 private:
  // ---- start
  // What a node is made from, but for what its directory holds.
  struct Plan {
    node::NodeOptions options;
    node::Genesis genesis;
    node::Node::Host host;
  };
  Result<void> start();
  Result<void> open_ports();
  Result<net::BoundPort> bind_port(net::Names& names, const Address& address,
                                   const net::Port& port);
  void make_network();
  Result<Plan> prepare_node(const node::Genesis& genesis);
  static Loading::Opened read_directory(const Plan& plan);
  Result<void> open_node(const node::Genesis& genesis);
  Result<void> load_node(const node::Genesis& genesis);
  Result<void> begin_node(const Plan& plan, node::Opened opened);
  void wait_while_starting(const std::string& text, bool moves);

  // ---- NodeAccess
  node::Node* arrive() override;
  const node::Node* current_node() const override { return node_.get(); }
  std::string waiting_for() const override {
    return starting_.empty() ? bootstrap_->waiting_for() : starting_;
  }

  // ---- wire::TransportHandler
  std::string on_message(const wire::Hello& sender, wire::PeerMessage message) override;
  void on_peer_reached(NodeId peer, const wire::Hello& hello) override;
  void on_peer_lost(NodeId peer) override;
  wire::Hello hello() const;
  std::optional<wire::Refusal> check(const wire::Hello& hello) const;
  void refused(NodeId peer, const wire::Refusal& refusal, Time hello_at);

  // ---- Supervisor
  void wake() override;
  [[noreturn]] void fail(Error error) override {
    tell_failure(error);
    die(error);
  }
  // Half of the time at most goes to a snapshot: the log is on the same disk.
  void rest(Duration busy) override {
    std::this_thread::sleep_for(std::min(busy, kSnapshotRestMax));
  }

  // ---- the loop
  void take_events();
  void loop();
  void turn_bootstrap();
  void follow_members();
  bool has_asker() const;
  void leave(Error why);
  void stop(const char* why);
  void follow_signals();
  void on_signal(int number);
  void advance_shutdown(Time now);
  std::shared_ptr<node::StatusSnapshot> node_status() {
    auto status = status_maker_.make(*node_, shutdown_.has_begun(), removed_.has_value());
    status->tls_warning =
        tls_warning(tls_, network_->plain_peers(), read_clocks().wall_ns / 1'000'000'000);
    return status;
  }
  void publish_status();
  void tell_status(std::string text);
  void stop_everything();
  Result<OwnFiles> read_files(const config::Config& config);
  void follow_tls(const AllTls& tls);
  void reload();

  config::Config config_;
  const config::LoadRequest request_;
  const std::shared_ptr<const plugin::Plugin> plugin_;
  Watchdog& watchdog_;
  const std::unique_ptr<storage::WatchedFileSystem> files_;
  std::unique_ptr<storage::FileLock> lock_;
  storage::Identity identity_;
  ServiceState service_;
  config::ReloadReport reload_report_;
  const std::string credentials_directory_ = credentials_directory();

  asio::io_context io_{1};
  // So that it waits, though nothing is in progress yet.
  const asio::executor_work_guard<asio::io_context::executor_type> busy_{io_.get_executor()};
  std::atomic<bool> wake_posted_{false};
  std::unique_ptr<asio::steady_timer> timer_;
  std::unique_ptr<tls::Handshakes> handshakes_;  // null until TLS is on for the first time
  AllTls tls_;
  std::unique_ptr<transport::PeerNetwork> network_;
  std::unique_ptr<node::Bootstrap> bootstrap_;
  std::unique_ptr<plugin::Capturer> capturer_;
  std::unique_ptr<node::Node> node_;
  std::unique_ptr<client::ClientPort> clients_;
  plugin::FileWatch plugin_file_{*plugin_, plugin::FileWatch::kInterval};
  StatusMaker status_maker_{config_, *plugin_, plugin_file_};
  TrafficMaker traffic_maker_;
  LeaderWatch leader_watch_;
  node::StatusBoard board_;
  const std::shared_ptr<node::Metrics> metrics_ = std::make_shared<node::Metrics>();
  std::unique_ptr<SnapshotPort> snapshot_port_;
  const std::shared_ptr<auth::SharedPolicy> policy_ = std::make_shared<auth::SharedPolicy>();
  const std::shared_ptr<auth::TokenChecker> tokens_ = std::make_shared<auth::TokenChecker>();
  std::unique_ptr<NodeCalls> calls_;
  std::unique_ptr<admin::HttpServer> http_;
  std::optional<net::BoundPort> peer_port_;    // until it is listened on
  std::optional<net::BoundPort> client_port_;  // the same
  NodeThreads threads_;

  std::pair<Index, bool> followed_members_{};
  uint32_t followed_level_ = raft::kFirstFeatureLevel;
  std::optional<Error> removed_;
  Time removal_shown_until_;
  node::Refusals refusals_{listed_members(config_)};
  const uint64_t incarnation_ = random_seed();
  DescriptorShares descriptors_;
  bool peers_tried_ = false;
  bool arrived_ = false;
  Shutdown shutdown_;
  Time next_status_;
  Time next_bootstrap_;
  Time next_waiting_log_;
  std::string last_waiting_;
  std::string starting_;  // how far the start is; empty: it is done
  std::string hang_;      // why /livez fails though the loop runs
};

// ---- start

Result<Daemon::Impl::Plan> Daemon::Impl::prepare_node(const node::Genesis& genesis) {
  if (auto fits = check_fits_cluster(genesis, config_, *plugin_); !fits) {
    return failure(fits.error());
  }
  const node::NodeOptions options = node_options(config_, identity_);
  if (!options.log.sync) {
    log_event(LogEvent::kStorageUnsynced,
              "storage.sync is none: for experiments only. An acknowledged write is LOST when "
              "the machine or the power fails.");
  }
  auto capturer = make_capturer(config_, *plugin_);
  if (!capturer) return failure(capturer.error());
  capturer_ = std::move(*capturer);

  node::Node::Host host;
  host.files = files_.get();
  host.data_dir = config_.node.data_dir;
  host.plugin = plugin_;
  host.transport = network_.get();
  host.capturer = capturer_.get();
  host.supervisor = this;
  host.metrics = metrics_;
  return Plan{options, genesis, host};
}

// On the loop thread, or on the one that loads.
Loading::Opened Daemon::Impl::read_directory(const Plan& plan) {
  return node::open_directory(plan.options, plan.genesis, *plan.host.files, plan.host.data_dir,
                              plan.host.plugin);
}

Result<void> Daemon::Impl::begin_node(const Plan& plan, node::Opened opened) {
  node_ = node::Node::make(plan.options, plan.genesis, plan.host, std::move(opened), read_clocks());
  if (!identity_.log_begun) {
    // From here on an empty log is a lost log.
    identity_.log_begun = true;
    auto saved = storage::save_identity(*files_, config_.node.data_dir, identity_);
    if (!saved) return saved;
  }
  for (const std::string& warning : node_->warnings())
    log_event(LogEvent::kStorageOpened, "{}", warning);
  apply_live_options(config_, node_.get());  // a reload while it was read
  const raft::Settings& settings = node_->core().settings();
  for (const std::string& warning :
       node::setting_differences(cluster_settings(config_), settings)) {
    log_event(LogEvent::kConfigDiffers, "{}", warning);
  }
  if (settings.lease_reads && !config_.raft.check_quorum) {
    log_event(
        LogEvent::kConfigLeaseReadsOff,
        "lease reads are off while this node leads: raft.lease_reads is on in the cluster, but "
        "raft.check_quorum is off here");
  }
  log_event(LogEvent::kProcessStarting,
            "starting node={} cluster='{}' id={} term={} last={} snapshot={} plugin='{} {}'",
            config_.node.id, node_->genesis().cluster_name, node_->cluster_id().to_string(),
            node_->core().term(), node_->core().last_index(), node_->snapshot_index(),
            plugin_->name(), plugin_->version());
  network_->set_peers(peer_addresses(config_, node_.get()));

  client::ClientPortOptions clients = client_options(config_);
  clients.max_connections = descriptors_.clients;
  clients.lacks_descriptors = descriptors_.capped;
  clients_ = std::make_unique<client::ClientPort>(io_, clients, *node_, tokens_);
  clients_->set_tls(tls_.client, handshakes_.get());
  clients_->set_access(policy_->get(), config_.cluster.name);
  log_event(LogEvent::kListenClients, "listening for clients address={}", client_port_->text());
  if (auto listening = clients_->listen(std::move(*client_port_)); !listening) return listening;
  return threads_.start(*node_);
}

Result<void> Daemon::Impl::open_node(const node::Genesis& genesis) {
  auto plan = prepare_node(genesis);
  if (!plan) return failure(plan.error());
  auto opened = read_directory(*plan);
  if (!opened) return failure(opened.error());
  return begin_node(*plan, std::move(*opened));
}

// The same for a node that has data: on a thread of its own, while the loop answers.
Result<void> Daemon::Impl::load_node(const node::Genesis& genesis) {
  auto plan = prepare_node(genesis);
  if (!plan) return failure(plan.error());
  Loading loading(*files_, config_.node.data_dir, *this);
  auto started = loading.start([plan = *plan] { return read_directory(plan); });
  if (!started) return started;
  ProgressWatch watch(read_clocks().time);
  Time end_by = Time::max();
  while (!loading.is_done()) {
    const Time now = read_clocks().time;
    if (shutdown_.has_begun() && end_by == Time::max()) {
      end_by = now + kLoadEnd;
      loading.cancel();
    }
    if (shutdown_.ends_at_once() || now >= end_by) {
      log_event(LogEvent::kProcessStoppedEarly,
                "stopped, though plugin {} {} or the disk does not return; it was {}",
                plugin_->name(), plugin_->version(), loading.text());
      finish_log();
      _exit(0);
    }
    const bool moves = watch.update(loading.progress(), now);
    const Duration still = watch.still_for(now);
    hang_ = still < kStartHangs ? ""
                                : fmt::format("the start has read nothing for {} s: {}",
                                              still / std::chrono::seconds(1), loading.text());
    wait_while_starting(loading.text(), moves);
  }
  hang_.clear();
  auto opened = loading.take();
  if (shutdown_.has_begun()) return {};
  if (!opened) return failure(opened.error());
  return begin_node(*plan, std::move(*opened));
}

// One step of the loop before it has a node: signals, probes, systemd. `moves`: it goes on, so that
// systemd's limit for a start begins again.
void Daemon::Impl::wait_while_starting(const std::string& text, bool moves) {
  starting_ = text;
  io_.run_one_for(kStatusInterval);
  io_.restart();
  take_events();
  io_.restart();
  const Time now = read_clocks().time;
  if (now >= next_status_) {
    next_status_ = now + kStatusInterval;
    publish_status();
    service_.advance(now);
  }
  if (now >= next_waiting_log_) {
    next_waiting_log_ = now + kWaitingLogInterval;
    log_event(LogEvent::kProcessWaiting, "{}", starting_);
  }
  if (moves) service_.start_moves(now);
}

// Waits for the port. kCancelled: a signal came first.
Result<net::BoundPort> Daemon::Impl::bind_port(net::Names& names, const Address& address,
                                               const net::Port& port) {
  OwnPort own(names, address, port);
  std::string logged = own.waiting();
  while (!shutdown_.has_begun()) {
    if (auto bound = own.advance(read_clocks().time)) {
      if (!*bound) return failure(bound->error());
      const auto warning = loopback_warning(config_, address, (*bound)->endpoint(), port);
      if (!warning.empty()) log_event(LogEvent::kConfigLoopback, "{}", warning);
      return std::move(*bound);
    }
    if (std::exchange(logged, own.waiting()) != own.waiting()) next_waiting_log_ = Time();
    wait_while_starting(own.waiting(), true);
  }
  return failure(ErrorKind::kCancelled, "stopped while starting");
}

// HTTP first, so that probes are answered while the others are waited for.
Result<void> Daemon::Impl::open_ports() {
  auto own = read_files(config_);
  if (!own) return failure(own.error());
  log_own_files(config_, *own);
  tls_ = std::move(own->tls);
  policy_->replace_with(std::move(own->policy));
  net::Names names(io_);
  auto http = bind_port(names, config_.listen.http, net::kHttpPort);
  if (!http) return failure(http.error());
  const std::string http_text = http->text();
  snapshot_port_ = std::make_unique<SnapshotPort>(*files_, config_.node.data_dir + "/snapshots");
  if (auto started = snapshot_port_->start(); !started) return started;
  calls_ = std::make_unique<NodeCalls>(io_, *this, *snapshot_port_, config_.client.request_timeout);
  admin::ServerOptions options = http_options(config_);
  options.max_connections = descriptors_.http;
  options.policy = policy_;
  options.tokens = tokens_;
  options.metrics = metrics_;
  auto server =
      admin::HttpServer::open(std::move(options), board_, calls_->hooks(), std::move(*http));
  if (!server) return failure(server.error());
  http_ = std::move(*server);
  publish_status();
  http_->set_tls(tls_.http, handshakes_.get());
  if (auto started = http_->start(); !started) return started;
  log_event(LogEvent::kListenHttp, "listening for http address={}", http_text);

  auto peer = bind_port(names, config_.listen.peer, net::kPeerPort);
  if (!peer) return failure(peer.error());
  peer_port_.emplace(std::move(*peer));
  auto client = bind_port(names, config_.listen.client, net::kClientPort);
  if (!client) return failure(client.error());
  client_port_.emplace(std::move(*client));
  return {};
}

void Daemon::Impl::make_network() {
  transport::PeersOptions options;
  options.self = config_.node.id;
  options.seed = random_seed();
  network_ = std::make_unique<transport::PeerNetwork>(
      io_, options, *this,
      transport::PeersHooks{[this] { return hello(); },
                            [this](const wire::Hello& hello) { return check(hello); },
                            [this](NodeId peer, const wire::Refusal& refusal, Time hello_at) {
                              refused(peer, refusal, hello_at);
                            }});
}

// Everything until the loop can begin, or until a signal ends it.
Result<void> Daemon::Impl::start() {
  auto shares = share_descriptors(raise_descriptor_limit(), open_descriptors(),
                                  config_.client.max_connections);
  if (!shares) return failure(shares.error());
  descriptors_ = *shares;
  log_descriptors(descriptors_, config_.client.max_connections);
  status_maker_.set_max_clients(descriptors_.clients);
  auto directory = open_data_directory(*files_, config_);
  if (!directory) return failure(directory.error());
  lock_ = std::move(directory->lock);
  identity_ = std::move(directory->identity);
  const std::string own_directory = flight_directory(config_.node.data_dir);
  set_flight_directory(own_directory);
  log_reload_report(reload_report_.open(own_directory));
  bootstrap_ = std::make_unique<node::Bootstrap>(bootstrap_options(config_, identity_, *plugin_));
  if (auto started = plugin_file_.start(); !started) return started;
  if (auto opened = open_ports(); !opened) return opened;
  make_network();
  network_->set_tls(tls_.peer, handshakes_.get(), config_.cluster.name);
  if (!identity_.genesis.empty()) {
    auto genesis = node::Genesis::decode(as_bytes(identity_.genesis));
    if (!genesis) return failure(genesis.error());
    bootstrap_->resume(*genesis);
    if (auto loaded = load_node(*genesis); !loaded) return loaded;
  }
  starting_.clear();
  if (shutdown_.has_begun()) return {};
  log_event(LogEvent::kListenPeers, "listening for peers address={}", peer_port_->text());
  if (auto listening = network_->listen(std::move(*peer_port_)); !listening) return listening;
  network_->set_peers(peer_addresses(config_, node_.get()));
  publish_status();
  service_.ready();
  return {};
}

// ---- peers

node::Node* Daemon::Impl::arrive() {
  if (node_ && !std::exchange(arrived_, true)) node_->set_now(read_clocks());
  return node_.get();
}

std::string Daemon::Impl::on_message(const wire::Hello& sender, wire::PeerMessage message) {
  if (bootstrap_) {
    node::Effects out;
    std::string fault = bootstrap_->message(sender.node_id, message, out);
    for (auto& [to, answer] : out.messages) network_->send(to, std::move(answer));
    if (!node_ || !fault.empty()) return fault;
  }
  arrive();
  return node_->on_message(sender, std::move(message));
}

void Daemon::Impl::on_peer_reached(NodeId peer, const wire::Hello& hello) {
  refusals_.reached(peer);
  if (bootstrap_) bootstrap_->peer_reached(peer, hello);
  if (!node_) return;
  arrive();
  node_->on_peer_reached(peer, hello);
}

void Daemon::Impl::on_peer_lost(NodeId peer) {
  if (bootstrap_) bootstrap_->peer_lost(peer);
  if (!node_) return;
  arrive();
  node_->on_peer_lost(peer);
}

wire::Hello Daemon::Impl::hello() const {
  wire::Hello hello;
  hello.cluster_name = config_.cluster.name;
  hello.node_id = config_.node.id;
  hello.disk_id = identity_.disk_id;
  hello.peer_address = config_.self().peer.to_string();
  hello.client_address = config_.self().client.to_string();
  hello.http_address = config_.self().http.to_string();
  hello.plugin_name = plugin_->name();
  hello.plugin_level_min = plugin_->level_min();
  hello.plugin_level_max = plugin_->level_max();
  hello.priority = static_cast<uint8_t>(config_.raft.priority);
  hello.feature_level_max = raft::highest_feature_level();
  hello.incarnation = incarnation_;
  if (node_) {
    hello.former_cluster_ids = identity_.former_cluster_ids;
    node_->introduce(hello);
  }
  return hello;
}

std::optional<wire::Refusal> Daemon::Impl::check(const wire::Hello& hello) const {
  if (!node_) return std::nullopt;
  return node_->check_peer(hello);
}

void Daemon::Impl::refused(NodeId peer, const wire::Refusal& refusal, Time hello_at) {
  const bool has_node = node_ != nullptr;
  arrive();
  const node::Refusals::Standing standing{has_node,
                                          has_node && node_->has_had_quorum_since(hello_at)};
  if (auto error = refusals_.refused(peer, refusal, standing, read_clocks().time)) {
    const bool removed = refusal.code == wire::RefusalCode::kRemoved;
    if (!has_node || !removed || !has_asker()) fail(*error);
    return leave(*error);
  }
  if (has_node) {
    node_->on_refused(peer, refusal.code);
  } else {
    bootstrap_->turned_away(peer, refusal.code);
  }
}

// ---- the loop

void Daemon::Impl::wake() {
  if (wake_posted_.exchange(true, std::memory_order_acq_rel)) return;
  asio::post(io_, [this] { wake_posted_.store(false, std::memory_order_release); });
}

// Who is dialled, whether this node still belongs here, and who may not talk to it any more.
void Daemon::Impl::follow_members() {
  if (!peers_tried_ && network_->has_tried_all()) {
    peers_tried_ = true;
    arrive();
    node_->peers_tried();
  }
  const raft::Settings& settings = node_->core().settings();
  network_->set_probe_timeout(std::chrono::ceil<milliseconds>(settings.election_timeout));
  const uint32_t level = settings.feature_level;
  if (level != std::exchange(followed_level_, level)) network_->recheck_peers();
  const std::pair now{node_->core().conf_index(), node_->core().conf_is_settled()};
  if (now == followed_members_) return;
  followed_members_ = now;
  network_->set_peers(peer_addresses(config_, node_.get()));
  if (!node_->is_removed() || removed_) return;
  leave({ErrorKind::kNotAdmitted,
         fmt::format("node {} was removed from cluster '{}' and stops for good; its data directory "
                     "{} may be deleted",
                     config_.node.id, config_.cluster.name, config_.node.data_dir)});
}

// Whether somebody may be waiting for a change that was asked for here. connectctl polls the node
// that it asked, perhaps the only one that it can reach.
bool Daemon::Impl::has_asker() const {
  const std::optional<Time> asked = calls_->last_change();
  return asked && read_clocks().time - *asked < kAskerStays;
}

void Daemon::Impl::leave(Error why) {
  if (removed_) return;
  removed_ = std::move(why);
  log_event(LogEvent::kMemberRemoved, "{}", removed_->text);
  if (has_asker()) removal_shown_until_ = read_clocks().time + kRemovalShown;
  if (shutdown_.has_begun()) return;
  stop("this node was removed from the cluster");
  watchdog_.end_within(config_.shutdown.drain_timeout, exit_status(removed_->kind));
}

void Daemon::Impl::turn_bootstrap() {
  Time now = read_clocks().time;
  node::Effects out;
  if (!node_) bootstrap_->advance();
  if (bootstrap_->refused()) fail(*bootstrap_->refused());
  if (!node_ && bootstrap_->decided()) {
    const node::Genesis& genesis = *bootstrap_->decided();
    // The log is not begun yet.
    identity_.genesis = genesis.encode();
    identity_.cluster_id = bootstrap_->lineage().cluster_id;
    identity_.former_cluster_ids = bootstrap_->lineage().former_cluster_ids;
    identity_.skips = bootstrap_->lineage().skips;
    if (auto saved = storage::save_identity(*files_, config_.node.data_dir, identity_); !saved) {
      fail(saved.error());
    }
    bootstrap_->durable();
    if (bootstrap_->founds()) {
      log_event(LogEvent::kClusterFormed, "cluster '{}' is formed id={} members={}",
                genesis.cluster_name, genesis.cluster_id.to_string(), genesis.members.size());
    } else {
      log_event(LogEvent::kClusterJoining,
                "joining cluster '{}' id={}: its members come with its log", genesis.cluster_name,
                identity_.cluster_id.to_string());
    }
    if (config_.cluster.id.empty()) {
      log_event(LogEvent::kClusterIdHint,
                "set in the configuration of every node, so that empty disks never form another "
                "cluster: cluster.id: {}",
                identity_.cluster_id.to_string());
    }
    if (auto opened = open_node(genesis); !opened) fail(opened.error());
    arrive();
    for (const auto& [peer, hello] : bootstrap_->connected()) node_->on_peer_reached(peer, hello);
    next_bootstrap_ = now;
  }
  if (now >= next_bootstrap_) {
    next_bootstrap_ = now + kBootstrapInterval;
    if (node_) bootstrap_->offer(node_->members().members, out);
    if (!node_) {
      std::string waiting = bootstrap_->waiting_for();
      if (waiting != last_waiting_ || now >= next_waiting_log_) {
        next_waiting_log_ = now + kWaitingLogInterval;
        last_waiting_ = waiting;
        log_event(LogEvent::kClusterWaiting, "{}", waiting);
        service_.set_status(status_maker_.make(*bootstrap_)->reason);
      }
    }
  }
  for (auto& [to, message] : out.messages) network_->send(to, std::move(message));
  network_->flush();
}

void Daemon::Impl::publish_status() {
  report_suppressed_lines();
  if (!node_) {
    auto status = status_maker_.make(*bootstrap_);
    status->hang = hang_;
    if (!starting_.empty()) {
      status->reason = starting_;
      tell_status(starting_);
    }
    board_.publish(std::move(status));
    return;
  }
  auto status = node_status();
  const std::string refusals = refusals_.text(status->made);
  if (!status->leader && !shutdown_.has_begun() && !refusals.empty()) {
    status->reason += "; " + refusals;
  }
  if (const auto gone = leader_watch_.update(static_cast<bool>(status->leader),
                                             shutdown_.has_begun(), status->made)) {
    log_event(LogEvent::kRaftNoLeader, "no leader seconds={}: {}", gone->count(),
              node::full_reason(*status));
  }
  board_.publish(traffic_maker_.make(*node_, *network_, clients_.get(), tls_));
  std::string text = admin::status_text(*status, {"role", "term", "leader", "commit_index"});
  if (!status->leader) text += "; " + node::full_reason(*status);
  board_.publish(std::move(status));
  tell_status(std::move(text));
}

void Daemon::Impl::tell_status(std::string text) {
  const auto shown = board_.read();
  if (shown != nullptr && !shown->stuck.empty()) text = "STUCK in " + shown->stuck;
  service_.set_status(std::move(text));
}

// With the threads that TLS needs.
Result<OwnFiles> Daemon::Impl::read_files(const config::Config& config) {
  auto own = read_own_files(config, plugin_.get());
  if (!own || !own->tls.is_on() || handshakes_) return own;
  auto started = tls::Handshakes::start(
      {.peers = transport::kMaxPendingHandshakes, .others = descriptors_.handshakes()});
  if (!started) return failure(started.error());
  handshakes_ = std::move(*started);
  return own;
}

void Daemon::Impl::follow_tls(const AllTls& tls) {
  tls_ = tls;
  if (network_) network_->set_tls(tls.peer, handshakes_.get(), config_.cluster.name);
  if (clients_) clients_->set_tls(tls.client, handshakes_.get());
  http_->set_tls(tls.http, handshakes_.get());
}

void Daemon::Impl::reload() {
  service_.reload_begins();
  log_reload_report(reload_report_.begin());
  std::string report;
  auto reloaded = config::reload(request_, config_);
  // All or nothing: the files that the configuration names belong to it.
  auto own = reloaded ? read_files(reloaded->config) : failure(reloaded.error());
  const std::vector<std::string> copies = reloaded_files_below(
      credentials_directory_, request_.file, reloaded ? reloaded->config : config_);
  if (!own) {
    report = fmt::format("reload rejected, nothing was changed:\n{}", own.error().text);
    log_event(LogEvent::kConfigReloadRejected, "{}", report);
  } else {
    config_ = std::move(reloaded->config);
    policy_->replace_with(own->policy);
    if (clients_) clients_->set_access(policy_->get(), config_.cluster.name);
    follow_signals();
    apply_live_options(config_, node_.get());
    follow_tls(own->tls);
    log_own_files(config_, *own);
    report = log_reload(*reloaded);
  }
  if (!report.ends_with('\n')) report += '\n';
  report += log_copies_of_start(copies);
  service_.reload_ends();
  traffic_maker_.reload_ended(own.has_value());
  const int code = own ? 0 : exit_status(own.error().kind);
  log_reload_report(reload_report_.end(code, std::move(report)));
}

void Daemon::Impl::follow_signals() {
  Watchdog::Daemon followed;
  followed.on_signal = [this](int number) {
    asio::post(io_, [this, number] { on_signal(number); });
  };
  // The loop may hang in the call.
  followed.on_stuck = [this](const std::string& call) { service_.stuck(call); };
  followed.board = &board_;
  followed.drain_timeout = config_.shutdown.drain_timeout;
  watchdog_.follow(std::move(followed));
}

void Daemon::Impl::on_signal(int number) {
  if (number == SIGUSR1) {
    log_event(LogEvent::kProcessSignalIgnored,
              "SIGUSR1 ignored: it has no meaning; SIGUSR2 logs the state");
    return;
  }
  if (number == SIGUSR2) {
    dump_flight_recorder();
    if (node_) {
      log_state(*node_, *node_status(), *network_, *clients_);
    } else {
      log_event(LogEvent::kStateLine, "no cluster yet: {}", waiting_for());
    }
    return;
  }
  if (number == SIGHUP) {
    reload();
    return;
  }
  if (shutdown_.has_begun()) {
    log_event(LogEvent::kProcessSecondSignal, "second signal: stopping at once");
    shutdown_.end_at_once();
    return;
  }
  stop(number == SIGTERM ? "SIGTERM" : "SIGINT");
}

void Daemon::Impl::stop(const char* why) {
  log_event(LogEvent::kProcessStopping,
            "stopping: {}; transferring leadership and finishing the requests in progress", why);
  service_.stopping();
  shutdown_.begin(config_.shutdown.transfer_timeout, config_.shutdown.drain_timeout,
                  read_clocks().time);
  if (node_) {
    arrive();
    node_->shut_down(removed_.has_value());
  }
  if (calls_) calls_->stop();
}

void Daemon::Impl::advance_shutdown(Time now) {
  Shutdown::View view;
  if (node_) {
    const raft::Core& core = node_->core();
    view = {true, core.role() == raft::Role::kLeader && core.conf().voters.size() > 1,
            node_->holder().held(), now < removal_shown_until_};
  }
  if (!shutdown_.advance(view, now)) return;
  clients_->drain(std::chrono::duration_cast<milliseconds>(shutdown_.left(now)),
                  [this] { shutdown_.clients_drained(); });
}

// Some connections always have something: whatever they send, consensus gets its turn. Asio takes
// the handlers in the order in which they became ready, so what is left over comes first next time.
void Daemon::Impl::take_events() {
  const auto end = std::chrono::steady_clock::now() + kEventsOfATurn;
  while (io_.poll_one() > 0 && std::chrono::steady_clock::now() < end) {
  }
}

void Daemon::Impl::loop() {
  while (!shutdown_.is_done()) {
    Time now = read_clocks().time;
    Time deadline = next_status_;
    if (node_) deadline = std::min(deadline, node_->next_deadline());
    if (bootstrap_) deadline = std::min(deadline, next_bootstrap_);
    // Waits for a socket, a worker, a signal, or the deadline; then takes what is ready.
    if (deadline > now) io_.run_one_for(deadline - now);
    io_.restart();
    const Time begin = read_clocks().time;
    take_events();
    io_.restart();
    if (bootstrap_) turn_bootstrap();
    Now clocks = read_clocks();
    if (node_) {
      LoopScope loop;
      node_->turn(clocks);
      follow_members();
      metrics_->loop.turn_time.observe(read_clocks().time - begin);
    }
    arrived_ = false;
    if (clocks.time >= next_status_) {
      next_status_ = clocks.time + kStatusInterval;
      publish_status();
      service_.advance(clocks.time);
    }
    if (shutdown_.has_begun()) advance_shutdown(clocks.time);
  }
}

Result<void> Daemon::Impl::run() {
  follow_signals();
  if (auto started = start(); !started && !shutdown_.has_begun()) {
    // Threads may have begun to replay the log.
    watchdog_.end_within(config_.shutdown.drain_timeout, exit_status(started.error().kind));
    return started;
  }
  if (!shutdown_.has_begun()) loop();
  stop_everything();
  log_event(LogEvent::kProcessStopped, "stopped");
  if (removed_) return failure(*removed_);
  return {};
}

void Daemon::Impl::stop_everything() {
  http_.reset();
  snapshot_port_.reset();
  if (clients_) clients_->stop();
  if (network_) network_->stop();
  if (handshakes_) handshakes_->stop();
  if (node_) {
    // Everything else is written and at rest.
    if (auto stopped = threads_.stop(*node_); !stopped) fail(stopped.error());
  }
  clients_.reset();
  node_.reset();
}

Daemon::Daemon(config::Config config, config::LoadRequest request,
               std::shared_ptr<const plugin::Plugin> plugin, Watchdog& watchdog)
    : impl_(std::make_unique<Impl>(std::move(config), std::move(request), std::move(plugin),
                                   watchdog)) {}
Daemon::~Daemon() = default;
Result<void> Daemon::run() {
  auto ended = impl_->run();
  if (!ended) impl_->tell_failure(ended.error());
  return ended;
}

}  // namespace connectd::app

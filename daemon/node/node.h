// One connectd node: it owns the consensus core, the log, the plugin and the parts that decide,
// gives each what happened, and carries out what they return. It owns no socket, thread or clock:
// those are drivers around it. Production turns it with Asio and four threads (app/), the simulator
// with a loop. Two can live in one process.
//
// The parts, each in its own directory:
//
//   requests/    pending requests of this node's clients
//   apply/       the plugin, the sessions and the digest, on the apply thread
//   snapshots/   taken, sent, received
//   membership/  members and settings of the cluster
//   disk/        the log's writer and the worker; full and stalled disks
//   divergence/  whether the replicas are equal
//
// The turn (loop thread): on_message(), streams and the threads deliver events; turn() carries out
// what the core, the parts and the threads have decided, in up to four rounds. node.cc shows the
// path of a write from top to bottom.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/thread_role.h"
#include "node/parts.h"
#include "wire/limits.h"
#include "wire/transport.h"

namespace connectd::node {

class Node final : public Service, public wire::TransportHandler {
 public:
  using Host = NodeHost;

  // Recovers everything in `data_dir` (which the caller has locked and whose identity it has
  // checked), or begins it with `genesis`. Reads the whole log: may take long.
  static Result<std::unique_ptr<Node>> open(const NodeOptions& options, const Genesis& genesis,
                                            const Host& host, Now now) {
    auto opened = open_directory(options, genesis, *host.files, host.data_dir, host.plugin);
    if (!opened) return failure(opened.error());
    return make(options, genesis, host, std::move(*opened), now);
  }
  // The same with what open_directory() has read, which may take long: on another thread, then.
  static std::unique_ptr<Node> make(const NodeOptions& options, const Genesis& genesis,
                                    const Host& host, Opened opened, Now now) {
    return std::make_unique<Node>(options.id, genesis, host, now,
                                  make_parts(options, genesis, host, std::move(opened), now));
  }
  Node(NodeId self, const Genesis& genesis, Host host, Now now, Parts parts);

  // ---- Service, TransportHandler (loop thread)
  std::unique_ptr<RequestStream> open_stream(ReplyHandler& handler) override {
    loop_.check();
    return holder_->open_stream(handler);
  }
  Framing framing() const override { return framing_of(*host_.plugin); }
  size_t max_request() const override { return wire::effective_max_request(genesis_.max_request); }
  std::string on_message(const wire::Hello& sender, wire::PeerMessage message) override;
  void on_peer_reached(NodeId peer, const wire::Hello& hello) override;
  void on_peer_lost(NodeId peer) override;
  // Whoever answers at this peer's address refuses this node.
  void on_refused(NodeId by, wire::RefusalCode code) {
    membership_->refused_by(by, code, now_.time);
  }

  // Call it with the time of arrival before delivering events. Then turn(), with the same or a
  // later time.
  void set_now(const Now& now) {
    loop_.check();
    now_ = now;
    holder_->set_now(now.time);
    threads_->applier.set_now(now.time);
  }
  void turn(const Now& now);
  Time next_deadline() const {
    return std::min({core_->next_deadline(), holder_->next_deadline(), snapshots_->next_deadline(),
                     next_housekeeping_});
  }

  // Changes the members, or transfers leadership: here if this node leads, else at the leader.
  // `done` is called once, in this call or in a later turn, and never after the destructor. It
  // means that the leader has appended the change, which takes effect when it is committed.
  void change_members(const MemberChange& change, std::function<void(ChangeOutcome)> done);
  // Takes a snapshot of the applied state, at once or after the current one. snapshot_index()
  // reaches the returned index when the snapshot is durable; snapshot_failure() reports an error.
  // None: nothing is applied yet.
  Index begin_snapshot() {
    loop_.check();
    Effects out;
    snapshots_->ask(applied_, snapshot_view(), out);
    carry_out(out);
    return applied_;
  }
  // Takes effect at once, also on open streams.
  void set_snapshot_rate(uint64_t bytes_per_second) {
    loop_.check();
    snapshots_->set_rate(bytes_per_second, now_.time);
    host_.supervisor->wake();
  }

  // Whether to accept a peer with this hello.
  std::optional<wire::Refusal> check_peer(const wire::Hello& hello) const {
    loop_.check();
    return membership_->check_peer(hello, *core_);
  }

  // Fills in what a hello says about the state of this node. The driver adds who and where it is.
  void introduce(wire::Hello& hello) const {
    loop_.check();
    hello.cluster_id = cluster_id();
    hello.skipped_entries = skips_;
    hello.plugin_level = genesis_.plugin_level;
    hello.feature_level = core_->settings().feature_level;
    hello.members_index = core_->conf_index();
  }

  // Each peer has answered or failed once since the start: from here on this node may campaign.
  void peers_tried() { step(raft::PeersTried{}); }
  // Led or followed with a live quorum, without a break, since `time`.
  bool has_had_quorum_since(Time time) const {
    const auto since = core_->quorum_since();
    return since && *since <= time;
  }

  // Transfers leadership and accepts no new requests. `removed`: from the cluster, so that those in
  // progress are answered at once, too.
  void shut_down(bool removed = false) {
    loop_.check();
    if (std::exchange(stopping_, true)) return;
    holder_->shut_down();
    if (removed) holder_->give_up();
    step(raft::Retire{});
    if (core_->role() == raft::Role::kLeader) step(raft::TransferLeadership{});
  }

  // ---- state
  const raft::Core& core() const { return *core_; }
  const Genesis& genesis() const { return genesis_; }
  const Holder& holder() const { return *holder_; }
  // The cluster id for handshakes.
  ClusterId cluster_id() const { return membership_->cluster_id(); }
  // All entries that this node skips; sorted.
  const std::vector<raft::EntryId>& skips() const { return skips_; }
  // Of the newest configuration in the log, committed or not; core().conf_index() says which.
  const MemberList& members() const { return membership_->list(); }
  Membership::LostMajority lost_majority() const { return membership_->lost_majority(*core_); }
  // This node was removed permanently: the process must end.
  bool is_removed() const { return membership_->is_removed(*core_); }
  Index applied_index() const { return applied_; }
  // The state has every write that was acknowledged before this; none: not known.
  std::optional<Time> fresh_since() const { return threads_->applier.fresh_since(); }
  // To know more recently, it waits for the plugin.
  bool waits_for_plugin() const { return threads_->applier.is_asked(); }
  uint64_t digest() const { return digest_; }  // at applied_index()
  // The chain's value after that entry; none: not among the last 65,536, or not applied yet.
  std::optional<uint64_t> digest_at(Index index) const { return divergence_->digest_at(index); }
  // The reason for rejecting writes: the replicas have diverged, and no majority agrees. Empty:
  // none.
  const std::string& divergence() const { return divergence_->reason(); }
  const DiskWatch& disks() const { return disks_->watch(); }
  // The log has no reserved space: it rejects entries until there is space.
  bool log_is_full() const { return !threads_->log->has_reserve(); }
  const storage::SnapshotStore& snapshots() const { return *threads_->store; }
  bool is_taking_snapshot() const { return snapshots_->is_taking(); }
  Index snapshot_index() const { return snapshots_->newest().index; }  // of the newest durable one
  // Failed attempts since this node started; and the error of the last attempt: empty if it
  // succeeded.
  uint64_t snapshots_failed() const { return snapshots_->failures(); }
  const std::string& snapshot_failure() const { return snapshots_->last_failure(); }
  uint64_t snapshots_installed() const { return snapshots_->installed_count(); }  // from leaders
  const SnapshotSender& sender() const { return snapshots_->sender(); }
  const plugin::Plugin& plugin() const { return *host_.plugin; }
  // Of the instance that is in use.
  std::shared_ptr<const plugin::MetricTable> plugin_metrics() const {
    return classifier_->instance().metrics();
  }
  const std::vector<std::string>& warnings() const { return warnings_; }  // of recovery

  // ---- for the drivers
  LogWriter& writer() { return threads_->writer; }
  Applier& applier() { return threads_->applier; }
  Worker& worker() { return threads_->worker; }
  Snapshotter& snapshotter() { return threads_->snapshotter; }

 private:
  void step(raft::Event event) {
    loop_.check();
    core_->step(std::move(event), now_);
    if (core_->term() != counted_term_) count_election();
  }
  void count_election();
  void count_commits();
  void propose(raft::EntryKind kind);

  // The path of a write.
  void commit();
  bool reply();
  void submit();
  void append(WritesToLeader& writes);
  void carry_out(raft::Ready ready);
  void replicate(std::vector<raft::Envelope>& messages);
  void persist(raft::AppendBatch batch);
  void apply(std::vector<raft::Entry> committed);
  void read();

  std::string on_forwarded(NodeId from, wire::ForwardProposals& forward);
  std::string on_envelope(NodeId from, raft::Envelope& envelope);
  bool hear_of_file(NodeId from, raft::SnapshotMark mark, Term term, std::string& fault);
  bool takes_proposals() const;
  void take_worker_results();
  void take_snapshotter_results();
  void on_captured(Snapshotter::Task task);
  void on_restored(Worker::Restored& restored);
  void install(Worker::Restored& restored, Effects& out);
  void compare_replicas(Effects& out);
  void react_to_disks();
  // Of the voters that should not lead.
  void housekeeping();
  void propose_own();
  void update_holder();
  void carry_out(Effects& effects);
  ChangeOutcome carry_out(const Membership::Decision& decision);
  Snapshots::View snapshot_view() const;

  const ThreadRole loop_{"loop"};
  const NodeId self_;
  const Genesis genesis_;
  const Host host_;
  std::vector<std::string> warnings_;
  std::vector<raft::EntryId> skips_;
  Now now_;

  std::unique_ptr<raft::Core> core_;
  std::unique_ptr<PluginClassifier> classifier_;
  // The parts that decide.
  std::unique_ptr<Holder> holder_;
  std::unique_ptr<Snapshots> snapshots_;
  std::unique_ptr<Membership> membership_;
  std::unique_ptr<Disks> disks_;
  std::unique_ptr<Divergence> divergence_;
  Ticks ticks_;
  std::unique_ptr<Threads> threads_;

  Index handed_;  // the applier has got everything up to here
  Index applied_;
  uint64_t digest_ = 0;  // at applied_
  Time next_housekeeping_;
  bool stopping_ = false;

  // For the metrics.
  Term counted_term_;  // of the last election of this node
  NodeId counted_leader_;
  struct Appended {
    Index last;
    Time at;
  };
  std::deque<Appended> appended_;  // by this leader, not committed yet; in order
};

}  // namespace connectd::node

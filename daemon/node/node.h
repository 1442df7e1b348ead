// One connectd node: it owns the consensus core, the log, the plugin and the parts that decide,
// gives each what happened, and carries out what they return. It owns no socket, thread or clock:
// those are drivers around it. Production turns it with Asio and four threads (app/), the simulator
// with a loop. Two can live in one process.
//
// The parts, each in a room of its own:
//   requests/    what this node's clients have asked and were not answered
//   apply/       the plugin, the sessions and the digest, on the apply thread
//   snapshots/   taken, sent, received
//   membership/  who belongs to the cluster, and its settings
//   disk/        the log's writer and the worker, full and stalled disks
//   divergence/  whether the replicas are equal
//
// The turn (loop thread): what arrived since the last one was given by on_message(), streams and
// the threads; turn() steps the core with all of it, once, and carries out its Ready. The life of a
// write is in node.cc, from top to bottom.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "node/parts.h"
#include "wire/transport.h"

namespace connectd::node {

class Node final : public Service, public wire::TransportHandler {
 public:
  using Host = NodeHost;

  // Recovers everything in `data_dir` (which the caller has locked and whose identity it has
  // checked), or begins it with `genesis`. Reads the whole log: may take long.
  static Result<std::unique_ptr<Node>> open(const NodeOptions& options, const Genesis& genesis,
                                            Host host, Now now);

  // ---- Service, TransportHandler (loop thread)
  std::unique_ptr<RequestStream> open_stream(ReplyHandler& handler) override {
    return holder_->open_stream(handler);
  }
  Framing framing() const override { return framing_of(*host_.plugin); }
  size_t max_request() const override { return genesis_.max_request; }
  void on_message(NodeId from, wire::PeerMessage message) override;
  void on_peer_reached(NodeId peer, const wire::Hello& hello) override;
  void on_peer_lost(NodeId peer) override;

  // Before what arrived is given: the time it arrived at. Then turn(), with the same or a later
  // time.
  void set_now(const Now& now) {
    now_ = now;
    holder_->set_now(now.time);
  }
  void turn(const Now& now);
  Time next_deadline() const;

  // Changes the members, or hands over leadership: here if this node leads, else at the leader.
  // `done` is called once, in this call or in a later turn, and not after the node is gone. "done"
  // says that the leader has appended the change; it counts when it is committed, which the list
  // shows.
  void change_members(const MemberChange& change, std::function<void(ChangeOutcome)> done);
  // Takes a snapshot of what is applied, at once or behind the one that is being taken. When one of
  // this index or a later one is durable, snapshot_index() says so; when it fails,
  // snapshot_failure(). None: nothing is applied yet.
  Index begin_snapshot() {
    Effects out;
    snapshots_->ask(applied_, snapshot_view(), out);
    carry_out(out);
    return applied_;
  }
  // Takes effect at once, also on streams that are under way.
  void set_snapshot_rate(uint64_t bytes_per_second) {
    snapshots_->set_rate(bytes_per_second, now_.time);
    host_.supervisor->wake();
  }

  // Whether a peer that says this is welcome.
  std::optional<wire::Refusal> check_peer(const wire::Hello& hello) const {
    return membership_->check_peer(hello, *core_);
  }

  // Hands over leadership and takes no new requests.
  void shut_down() {
    if (std::exchange(stopping_, true)) return;
    holder_->shut_down();
    step(raft::Retire{});
    if (core_->role() == raft::Role::kLeader) step(raft::TransferLeadership{});
  }

  // ---- what it knows
  const raft::Core& core() const { return *core_; }
  const Genesis& genesis() const { return genesis_; }
  const Holder& holder() const { return *holder_; }
  // The cluster this node belongs to, as handshakes compare it.
  ClusterId cluster_id() const { return membership_->cluster_id(); }
  // All entries that this node's state is, or will be, without; sorted.
  const std::vector<raft::EntryId>& skips() const { return skips_; }
  // Of the newest configuration in the log, committed or not; core().conf_index() says which.
  const MemberList& members() const { return membership_->list(); }
  // This node is no member any more, for good: the process is to end.
  bool is_removed() const { return membership_->is_removed(*core_); }
  Index applied_index() const { return applied_; }
  uint64_t digest() const { return digest_; }  // at applied_index()
  // The chain's value behind that entry; none: not among the last 65,536, or not applied yet.
  std::optional<uint64_t> digest_at(Index index) const { return divergence_->digest_at(index); }
  // Why no writes are taken: the replicas are not equal, and no majority says which is right.
  // Empty: it is not so.
  const std::string& divergence() const { return divergence_->reason(); }
  const DiskWatch& disks() const { return disks_->watch(); }
  // The log has no room that is sure: entries are not taken until there is space.
  bool log_is_full() const { return !threads_->log->has_reserve(); }
  const storage::SnapshotStore& snapshots() const { return *threads_->store; }
  bool is_taking_snapshot() const { return snapshots_->is_taking(); }
  Index snapshot_index() const { return snapshots_->newest().index; }  // of the newest durable one
  // Attempts that failed since this node started; and why the last attempt did: empty when it
  // succeeded.
  uint64_t snapshots_failed() const { return snapshots_->failures(); }
  const std::string& snapshot_failure() const { return snapshots_->last_failure(); }
  uint64_t snapshots_installed() const { return snapshots_->installed_count(); }  // from leaders
  const SnapshotSender& sender() const { return snapshots_->sender(); }
  const plugin::Plugin& plugin() const { return *host_.plugin; }
  const std::vector<std::string>& warnings() const { return warnings_; }  // of recovery

  // ---- for the drivers
  LogWriter& writer() { return threads_->writer; }
  Applier& applier() { return threads_->applier; }
  Worker& worker() { return threads_->worker; }
  Snapshotter& snapshotter() { return threads_->snapshotter; }

 private:
  Node(NodeId self, const Genesis& genesis, Host host, Now now, Parts parts);
  void step(raft::Event event) { core_->step(std::move(event), now_); }
  void propose(raft::EntryKind kind);

  // The life of a write.
  void commit();
  bool reply();
  void submit();
  void append(Outgoing::Handed& writes);
  void carry_out(raft::Ready ready);
  void replicate(std::vector<raft::Envelope>& messages);
  void persist(raft::AppendBatch batch);
  void apply(std::vector<raft::Entry> committed);
  void read();

  void on_forwarded(NodeId from, wire::ForwardProposals& forward);
  bool hear_of_term(NodeId from, Term leader_term);
  bool takes_proposals() const;
  void take_worker_results();
  void take_snapshotter_results();
  void on_captured(Snapshotter::Task task);
  void on_restored(Worker::Restored& restored);
  void install(Worker::Restored& restored, Effects& out);
  void compare_replicas(Divergence::Effects& out);
  void housekeeping();
  void propose_own();
  void tell_holder();
  void carry_out(Effects& effects);
  ChangeOutcome carry_out(const Membership::Decision& decision);
  Snapshots::View snapshot_view() const;

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

  Index handed_;  // everything up to here was given to the applier
  Index applied_;
  uint64_t digest_ = 0;  // at applied_
  Time next_housekeeping_;
  bool stopping_ = false;
};

}  // namespace connectd::node

// One connectd node: consensus core, log, plugin, sessions and snapshots, wired by events and
// effects. It owns no socket, thread or clock: those are drivers around it. Production turns it
// with Asio and three threads (app/), the simulator with a loop. Two can live in one process.
//
// The turn (loop thread): what arrived since the last one has been given by on_message(), streams
// and the workers; turn() steps the core with all of it, once, and does what its Ready says.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "node/applier.h"
#include "node/divergence.h"
#include "node/holder.h"
#include "node/log_writer.h"
#include "node/members.h"
#include "node/service.h"
#include "node/snapshotter.h"
#include "node/worker.h"
#include "plugin/capture.h"
#include "plugin/plugin.h"
#include "raft/core.h"
#include "storage/file_system.h"
#include "storage/log.h"
#include "storage/snapshot_store.h"
#include "wire/transport.h"

namespace connectd::node {

struct SnapshotPolicy {
  // Taken when the log behind the last one is larger than max(log_min, ratio * its size), times a
  // random spread, so that members do not all take theirs at once.
  uint64_t log_min_bytes = 64 << 20;
  double log_ratio = 4;
  size_t keep = 2;
  int compression_level = 1;
  // A snapshot that could not be captured twice in a row is written on the apply thread.
  bool falls_back = true;
  // Entries kept in front of the older snapshot for followers that are a little behind.
  uint64_t trailing_entries = 10'000;
};

struct NodeOptions {
  NodeId id;
  DiskId disk_id;
  // This node's own addresses, as it wants to be reached; empty: as the list of members says.
  std::string peer_address{};
  std::string client_address{};
  std::string http_address{};
  raft::Options raft;   // id and seed are set by the node
  HolderLimits holder;  // max_request is set from the founding document
  storage::LogOptions log;
  SnapshotPolicy snapshot;
  uint64_t seed = 0;         // for everything this node draws
  uint64_t incarnation = 0;  // random, differs at each start
  bool apply_inline = true;
  int64_t apply_inline_ns_max = 200'000;  // CPU time of a turn
  size_t chunk_bytes = 256 << 10;
  // Between two compare entries, where the plugin's snapshots are canonical. 0: none.
  Duration compare_interval{};
  // With less space than this the node takes no new writes from its clients (DISKFULL).
  uint64_t min_free_bytes = 0;
  // The node has never run: an empty log is begun with the founding document. Otherwise an empty
  // log is a lost one, and votes are lost with it.
  bool may_begin_log = true;
  std::function<int64_t()> wall_clock;      // Unix time, any thread
  ApplyObserver* apply_observer = nullptr;  // lives as long as the node
};

// What asking for a snapshot came to.
enum class SnapshotStart : uint8_t {
  kBegun,
  kUnderWay,    // one is being taken
  kNothingNew,  // nothing was applied since the newest one
};

class Node final : public Service, public wire::TransportHandler {
 public:
  struct Host {
    storage::FileSystem* files = nullptr;
    std::string data_dir;
    std::shared_ptr<const plugin::Plugin> plugin;
    wire::Transport* transport = nullptr;
    // How the state is captured for snapshots; none: they are written on the apply thread, and
    // nothing is applied meanwhile. Lives longer than the node.
    plugin::Capturer* capturer = nullptr;
    std::function<void(Duration)> rest;  // snapshot thread; see Snapshotter. May be empty
    std::function<void()> wake;          // any thread: a turn is wanted
    std::function<void(Error)> fatal;    // any thread: the process must end with it
  };

  // Recovers everything in `data_dir` (which the caller has locked and whose identity it has
  // checked), or begins it with `genesis`. Reads the whole log: may take long.
  static Result<std::unique_ptr<Node>> open(const NodeOptions& options, const Genesis& genesis,
                                            Host host, Now now);
  ~Node();

  // ---- Service, TransportHandler (loop thread)
  // ------------------------------------------------------
  std::unique_ptr<RequestStream> open_stream(ReplyHandler& handler) override;
  Framing framing() const override;
  size_t max_request() const override { return genesis_.max_request; }
  void on_message(NodeId from, wire::PeerMessage message) override;
  void on_peer_reached(NodeId peer, const wire::Hello& hello) override;
  void on_peer_lost(NodeId peer) override;

  // Before what arrived is given: the time it arrived at. Then turn(), with the same or a later
  // time.
  void set_now(const Now& now);
  void turn(const Now& now);
  Time next_deadline() const;

  // Changes the members, or hands over leadership: here if this node leads, else at the leader.
  // `done` is called once, in this call or in a later turn, and not after the node is gone. "done"
  // says that the leader has appended the change; it counts when it is committed, which the list
  // shows.
  void change_members(const MemberChange& change, std::function<void(ChangeOutcome)> done);
  // Whether a peer that says this is welcome.
  std::optional<wire::Refusal> check_peer(const wire::Hello& hello) const;

  // Begins a snapshot of what is applied. When it is durable, snapshot_index() says so; when it
  // fails, snapshot_failure(), and one is tried again later.
  SnapshotStart begin_snapshot();

  // Hands over leadership and takes no new requests. drained(): nothing is held any more.
  void shut_down();
  bool drained() const;

  // ---- what it knows
  // --------------------------------------------------------------------------------
  const raft::Core& core() const { return *core_; }
  const Genesis& genesis() const { return genesis_; }
  const Holder& holder() const { return *holder_; }
  // Of the newest configuration in the log, committed or not; core().conf_index() says which.
  const MemberList& members() const { return members_; }
  // This node is no member any more, for good: the process is to end.
  bool is_removed() const { return core_->conf_is_settled() && members_.is_removed(options_.id); }
  Index applied_index() const { return applied_; }
  uint64_t digest() const { return digest_; }  // at applied_index()
  // The chain's value behind that entry; none: not among the last 65,536, or not applied yet.
  std::optional<uint64_t> digest_at(Index index) const { return divergence_->digest_at(index); }
  // Why no writes are taken: the replicas are not equal, and no majority says which is right.
  // Empty: it is not so.
  const std::string& divergence() const { return divergence_->reason(); }
  Index snapshot_index() const { return snapshot_.index; }  // of the newest durable one
  bool is_taking_snapshot() const { return taking_snapshot_; }
  // Attempts that failed since this node started; and why the last attempt did: empty when it
  // succeeded.
  uint64_t snapshots_failed() const { return snapshots_failed_; }
  const std::string& snapshot_failure() const { return snapshot_failure_; }
  uint64_t snapshots_installed() const { return snapshots_installed_; }  // from leaders
  const plugin::Plugin& plugin() const { return *host_.plugin; }
  const std::vector<std::string>& warnings() const { return warnings_; }  // of recovery

  // ---- for the drivers
  // ------------------------------------------------------------------------------
  LogWriter& writer() { return *writer_; }
  Applier& applier() { return *applier_; }
  Worker& worker() { return *worker_; }
  Snapshotter& snapshotter() { return *snapshotter_; }

 private:
  struct HeldMessages {
    uint64_t batch = 0;
    std::vector<raft::Envelope> messages;
  };
  // A snapshot on its way to a follower, from the leader of `term`.
  struct Outgoing {
    Term term;
    std::shared_ptr<storage::SnapshotSource> source;
    uint64_t read = 0;  // asked of the disk so far
    uint64_t acked = 0;
    Time heard;  // of the follower, about this stream
    Time resent;
  };

  Node(const NodeOptions& options, const Genesis& genesis, Host host);
  void step(raft::Event event);
  void take_log_progress();
  void take_worker_results();
  void take_snapshotter_results();
  bool take_apply_results();
  void do_ready();
  void tell_holder();
  void send(std::vector<raft::Envelope>& messages);
  void housekeeping();
  void propose_tick();
  void propose_compare();
  void propose(raft::EntryKind kind);  // an entry of the leader's own, without payload
  void compare_replicas();
  void follow_members();
  void advance_members();
  ChangeOutcome try_change(const MemberChange& change);
  ChangeOutcome append_change(const PlannedChange& plan, bool force);
  void expire_changes();
  void watch_disk();
  bool takes_proposals() const;
  bool leads(const Outgoing& stream) const;
  void start_snapshot_stream(NodeId peer);
  void pump_snapshot_stream(NodeId peer);
  void end_snapshot_stream(NodeId peer, bool ok);
  void on_snapshot_chunk(NodeId from, wire::SnapshotChunk chunk);
  void on_snapshot_ack(NodeId from, const wire::SnapshotAck& ack);
  void install(Worker::Restored& restored);
  bool wants_snapshot() const;
  void start_snapshot();
  void replace_snapshot();
  void watch_snapshot();
  void on_captured(Snapshotter::Task task);
  void snapshot_taken(raft::SnapshotMark mark, uint64_t file_bytes, const std::string& cost);
  void snapshot_failed(const SnapshotFailed& failed);
  void compact();
  Classified classify(ByteView request);

  const NodeOptions options_;
  const Genesis genesis_;
  Host host_;
  std::vector<std::string> warnings_;
  Now now_;
  Random random_;

  std::unique_ptr<storage::SnapshotStore> snapshots_;
  std::unique_ptr<storage::Log> log_;
  std::unique_ptr<raft::Core> core_;
  std::unique_ptr<Holder> holder_;
  std::unique_ptr<Divergence> divergence_;
  std::unique_ptr<LogWriter> writer_;
  std::unique_ptr<Applier> applier_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<Snapshotter> snapshotter_;
  // For classify, which runs on the loop thread beside the apply thread. Replaced between two
  // turns.
  std::shared_ptr<plugin::Instance> instance_;

  MemberList members_;
  Slice members_bytes_;                   // what members_ was read from
  std::map<NodeId, GenesisMember> seen_;  // disk and addresses of the peers that are connected
  struct AskedChange {
    std::function<void(ChangeOutcome)> done;
    Time until;
  };
  std::map<uint64_t, AskedChange> asked_changes_;  // at the leader
  uint64_t next_change_ = 1;

  uint64_t durable_batch_ = 0;
  std::deque<HeldMessages> held_messages_;
  Index handed_;  // everything up to here was given to the applier
  Index applied_;
  uint64_t digest_ = 0;
  int64_t plugin_deadline_ns_ = INT64_MAX;
  Time last_tick_;
  Time last_compare_;  // proposed, or applied

  raft::SnapshotMark snapshot_;  // the newest durable one
  raft::SnapshotMark older_snapshot_;
  uint64_t snapshot_bytes_ = 0;
  uint64_t log_bytes_ =
      0;  // of entries given to the applier since the newest snapshot was asked for
  double snapshot_spread_ = 1;
  uint64_t snapshots_installed_ = 0;
  bool taking_snapshot_ = false;
  Time snapshot_since_;              // when it was begun
  Time next_snapshot_notice_;        // ... if it takes so long
  uint64_t snapshot_log_bytes_ = 0;  // log_bytes_ when it was begun
  uint64_t snapshots_failed_ = 0;
  std::string snapshot_failure_;
  bool snapshot_wanted_ = false;  // it was begun while something else was captured
  // Failures since the last success. After one the policy waits; not who asks by hand.
  int snapshot_attempts_ = 0;
  int capture_attempts_ = 0;  // of those: not the plugin's fault, but that of the way of capturing
  Time next_snapshot_;
  // The disk: what was durable when it last made progress, and when that was.
  Index stall_durable_;
  Time stall_since_;
  Time next_housekeeping_;
  Time next_space_check_;
  bool disk_full_ = false;
  std::map<NodeId, Outgoing> outgoing_;
  // The stream that comes in: what was given to the worker so far.
  raft::SnapshotMark incoming_;
  uint64_t incoming_bytes_ = 0;

  // Scratch, kept for its capacity.
  ApplyResults results_;
  std::vector<Worker::Item> worker_items_;
  std::vector<Snapshotter::Item> snapshotter_items_;
  std::vector<ReadTask> reads_;
  Divergence::Effects comparison_;
  std::vector<ApplyResults::StateHashed> hashed_;
  struct LeaderView {
    NodeId leader;
    Term term;
    bool takes_proposals = false;
    bool operator==(const LeaderView&) const = default;
  } leader_view_;
  bool stopping_ = false;
};

}  // namespace connectd::node

// One connectd node: consensus core, log, plugin, sessions and snapshots, wired by events and
// effects. It owns no socket, thread or clock: those are drivers around it. Production turns it
// with Asio and three threads (app/), the simulator with a loop. Two can live in one process.
//
// The turn (loop thread): what arrived since the last one has been given by on_message(), streams
// and the workers; turn() steps the core with all of it, once, and does what its Ready says.
//
// Its functions lie in five files by what they are about:
//   node.cc            the turn, and what the threads say
//   node_open.cc       how it opens
//   node_disks.cc      full and stalled disks
//   node_snapshots.cc  snapshots, the own and those that peers send
//   node_members.cc    changes of members and settings
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
#include "node/apply/applier.h"
#include "node/disk/disk_watch.h"
#include "node/disk/log_writer.h"
#include "node/disk/worker.h"
#include "node/divergence/divergence.h"
#include "node/membership/feature_levels.h"
#include "node/membership/members.h"
#include "node/requests/holder.h"
#include "node/service.h"
#include "node/snapshots/snapshot_sender.h"
#include "node/snapshots/snapshotter.h"
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
  size_t block_bytes = storage::kSnapshotChunkBytes;
  // A snapshot that could not be captured twice in a row is written on the apply thread.
  bool falls_back = true;
  // Entries kept in front of the older snapshot for followers that are a little behind.
  uint64_t trailing_entries = 10'000;
  // Log that is kept beyond that for followers that are sent a snapshot: this much, or twice the
  // log that makes a snapshot due, if that is more.
  uint64_t held_log_bytes = 256 << 20;
};

struct NodeOptions {
  NodeId id;
  DiskId disk_id;
  // As the identity file has them: the cluster this node belongs to by now (none: the one of the
  // founding document), and what it was called before each recovery.
  ClusterId cluster_id{};
  std::vector<ClusterId> former_cluster_ids{};
  // Entries that the plugin is not given (`connectctl recover --skip-entry`); sorted.
  std::vector<raft::EntryId> skips{};
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
  uint64_t snapshot_rate = 0;  // bytes a second that leave for followers; 0: no limit
  // Between two compare entries, where the plugin's snapshots are canonical. 0: none.
  Duration compare_interval{};
  // With less space than this the node's disk is full (node/disk/disk_watch.h). 0: never.
  uint64_t min_free_bytes = 0;
  // A disk that has completed nothing for this long stalls. Zero: two election timeouts of the
  // cluster.
  Duration stall_timeout{};
  // The node has never run: an empty log is begun with the founding document. Otherwise an empty
  // log is a lost one, and votes are lost with it.
  bool may_begin_log = true;
  std::function<int64_t()> wall_clock;      // Unix time, any thread
  ApplyObserver* apply_observer = nullptr;  // lives as long as the node
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
  // Takes a snapshot of what is applied, at once or behind the one that is being taken. When one of
  // this index or a later one is durable, snapshot_index() says so; when it fails,
  // snapshot_failure(). None: nothing is applied yet.
  Index begin_snapshot();
  bool is_taking_snapshot() const { return taking_snapshot_ || snapshot_wanted_; }
  const storage::SnapshotStore& snapshots() const { return *snapshots_; }
  // Takes effect at once, also on streams that are under way.
  void set_snapshot_rate(uint64_t bytes_per_second);

  // Whether a peer that says this is welcome.
  std::optional<wire::Refusal> check_peer(const wire::Hello& hello) const;

  // Hands over leadership and takes no new requests.
  void shut_down();

  // ---- what it knows
  const raft::Core& core() const { return *core_; }
  const Genesis& genesis() const { return genesis_; }
  const Holder& holder() const { return *holder_; }
  // The cluster this node belongs to, as handshakes compare it.
  ClusterId cluster_id() const;
  // All entries that this node's state is, or will be, without; sorted.
  const std::vector<raft::EntryId>& skips() const { return skips_; }
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
  const DiskWatch& disks() const { return *disks_; }
  // The log has no room that is sure: entries are not taken until there is space.
  bool log_is_full() const { return !log_->has_reserve(); }
  Index snapshot_index() const { return snapshot_.index; }  // of the newest durable one
  // Attempts that failed since this node started; and why the last attempt did: empty when it
  // succeeded.
  uint64_t snapshots_failed() const { return snapshots_failed_; }
  const std::string& snapshot_failure() const { return snapshot_failure_; }
  uint64_t snapshots_installed() const { return snapshots_installed_; }  // from leaders
  const SnapshotSender& sender() const { return *sender_; }
  const plugin::Plugin& plugin() const { return *host_.plugin; }
  const std::vector<std::string>& warnings() const { return warnings_; }  // of recovery

  // ---- for the drivers
  LogWriter& writer() { return *writer_; }
  Applier& applier() { return *applier_; }
  Worker& worker() { return *worker_; }
  Snapshotter& snapshotter() { return *snapshotter_; }

 private:
  static constexpr Duration kSpaceCheckInterval = std::chrono::seconds(1);

  struct HeldMessages {
    uint64_t batch = 0;
    std::vector<raft::Envelope> messages;
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
  ChangeOutcome propose_level_probe();
  ChangeOutcome change_setting(const MemberChange& change);
  ChangeOutcome append_change(const PlannedChange& plan, bool force);
  void expire_changes();
  void watch_disk();
  void judge_disks();
  DiskWatch::View disk_view() const;
  bool take_what_fits(raft::AppendRequest& append);
  bool refuses(const wire::ForwardProposals& forward) const;
  bool takes_proposals() const;
  bool takes_snapshot(NodeId from, Term leader_term, const wire::SnapshotFile& file);
  void on_snapshot_offer(NodeId from, const wire::SnapshotOffer& offer);
  void on_snapshot_chunk(NodeId from, wire::SnapshotChunk chunk);
  void install(Worker::Restored& restored);
  bool wants_snapshot() const;
  void start_snapshot();
  void replace_snapshot();
  void watch_snapshot();
  void on_captured(Snapshotter::Task task);
  void snapshot_taken(raft::SnapshotMark mark, uint64_t file_bytes, const std::string& cost);
  void snapshot_failed(const SnapshotFailed& failed);
  void compact();
  void follow_snapshots();
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
  std::unique_ptr<DiskWatch> disks_;
  std::unique_ptr<LogWriter> writer_;
  std::unique_ptr<Applier> applier_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<SnapshotSender> sender_;
  std::unique_ptr<Snapshotter> snapshotter_;
  // For classify, which runs on the loop thread beside the apply thread. Replaced between two
  // turns.
  std::shared_ptr<plugin::Instance> instance_;

  std::vector<raft::EntryId> skips_;
  MemberList members_;
  Slice members_bytes_;                   // what members_ was read from
  std::map<NodeId, GenesisMember> seen_;  // disk and addresses of the peers that are connected
  FeatureLevels feature_levels_;          // what the peers have announced
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
  Index snapshot_asked_;             // by begin_snapshot(), while another one was being taken
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
  bool preparing_segment_ = false;
  Time next_preparation_;
  Time next_housekeeping_;
  Time next_space_check_;
  Time next_hand_over_;     // because of the disk
  Term stalled_hand_over_;  // in which one was begun because the disk stalls
  bool disks_changed_ = false;
  bool disk_was_full_ = false;
  bool disk_was_stalled_ = false;
  std::vector<NodeId> unfit_;  // as the core was told
  bool writes_were_stopped_ = false;
  bool log_was_full_ = false;
  Time next_gap_answer_;  // while the log is full
  // The snapshot that comes in, and what the worker was given of it and has not answered.
  wire::SnapshotFile incoming_;
  size_t incoming_tasks_ = 0;
  wire::SnapshotFile dropped_;

  // Scratch, kept for its capacity.
  ApplyResults results_;
  std::vector<Worker::Item> worker_items_;
  std::vector<Snapshotter::Item> snapshotter_items_;
  std::vector<ReadTask> reads_;
  Divergence::Effects comparison_;
  DiskWatch::Messages reports_;
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

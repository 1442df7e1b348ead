// Bootstrap of a node with an empty data directory. A cluster forms only when all listed members
// answer and all are empty: the one with the lowest id creates the genesis, makes it durable, and
// offers it to the others until each has accepted. A node that reaches a running cluster waits to
// be added. With a configured cluster id it forms none, whatever the others say: its disk may not
// be mounted. If that cluster knows its id with another disk, it is rejected: a wiped node must not
// vote again.
//
// Pure: events in, effects out. Owner: the loop thread. The node object is created when decided()
// is durable.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "node/effects.h"
#include "node/membership/genesis.h"
#include "wire/handshake.h"
#include "wire/peer_messages.h"

namespace connectd::node {

class Bootstrap final {
 public:
  enum class Mode { kAuto, kNew, kJoin };

  struct Options {
    Mode mode = Mode::kAuto;
    NodeId id;
    DiskId disk_id;
    // If set, this node never forms a cluster, and joins only the one that has, or had, this id.
    ClusterId only_cluster_id;
    ClusterId fresh_cluster_id;  // random; used if this node creates the genesis
    std::string cluster_name;
    std::vector<GenesisMember> members;  // sorted; disk ids are not known yet
    uint64_t max_request = 0;
    std::string plugin_name;
    uint32_t plugin_level_min = 0;
    uint32_t plugin_level_max = 0;
    std::map<std::string, std::string> plugin_options;
    raft::Settings settings;  // but the feature level: the founders' highest common one
    uint32_t feature_level_max = raft::highest_feature_level();
  };

  struct Lineage {
    ClusterId cluster_id;
    std::vector<ClusterId> former_cluster_ids;
    std::vector<raft::EntryId> skips;
  };

  explicit Bootstrap(Options options);

  // A node with a durable genesis: it only offers.
  void resume(const Genesis& genesis);

  void peer_reached(NodeId peer, const wire::Hello& hello);
  void peer_lost(NodeId peer);
  // A peer refused this node: a member of a running cluster may not know it, or know it with
  // another disk.
  void turned_away(NodeId by, wire::RefusalCode code);
  // Not empty: why the message cannot be of who belongs here; the connection is to end.
  [[nodiscard]] std::string message(NodeId from, const wire::PeerMessage& message, Effects& out);

  // Evaluates the state. Call after each event, then look at decided() and refused().
  void advance();

  // Set once: make it durable (identity file), then call durable(). Send no message with it before.
  const std::optional<Genesis>& decided() const { return decided_; }
  // To be written with it: the current and former cluster ids of the node that offered it, and its
  // skipped entries.
  const Lineage& lineage() const { return lineage_; }
  // Once decided(): this node is one of the founders, with this disk.
  bool founds() const;
  void durable();
  bool is_durable() const { return durable_; }

  // The connected peers, for the new node object.
  std::map<NodeId, wire::Hello> connected() const;
  // The reason for waiting, for the log and the status: "waiting for node 3 (10.0.0.13:7101)".
  std::string waiting_for() const;
  // This node must not join the cluster: the process ends with this error.
  const std::optional<Error>& refused() const { return refused_; }

  // Called periodically once durable: offers the genesis to connected members without a cluster.
  // Any member may offer it, so that the failure of its creator stops nobody. `members`: those of
  // the log.
  void offer(const std::vector<GenesisMember>& members, Effects& out);

 private:
  std::string take_offer(NodeId from, const wire::GenesisOffer& offer, Effects& out);
  std::string reject(NodeId from, const std::string& why);
  struct Peer {
    bool connected = false;
    wire::Hello hello;
  };
  void draw();
  // "run on node 2 (h2:7301): COMMAND": this node takes no change while it waits.
  std::string run_on(NodeId member, std::string_view command) const;
  bool never_forms() const { return options_.only_cluster_id || options_.mode == Mode::kJoin; }
  bool is_wanted(const Genesis& genesis, const wire::Hello* offered_by) const;
  // It belongs to a cluster that neither has nor had the id in cluster.id.
  bool is_of_another(const wire::Hello& hello) const;

  const Options options_;
  std::map<NodeId, Peer> peers_;
  NodeId unknown_to_;     // the last member that did not know this node
  NodeId other_disk_at_;  // the last one that knew it with another disk
  std::map<NodeId, bool> accepted_;
  std::optional<Genesis> decided_;
  Lineage lineage_;
  bool durable_ = false;
  std::optional<Error> refused_;
};

}  // namespace connectd::node

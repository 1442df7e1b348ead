// How a node with an empty data directory finds its place: a cluster forms only when all listed
// members answer and all are empty; the one with the lowest id draws the founding document, makes
// it durable, and offers it to the others until each has accepted. A node that meets a running
// cluster waits to be added, or, when that cluster knows its id with another disk, is refused: a
// wiped node must not vote again.
//
// Pure: events in, effects out. Owner: the loop thread. Its node object is made when decided() is
// durable.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

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
    ClusterId fresh_cluster_id;  // random; used if this node draws the document
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

  // A node that was formed in an earlier life: it only offers.
  void resume(const Genesis& genesis);

  void peer_reached(NodeId peer, const wire::Hello& hello);
  void peer_lost(NodeId peer);
  // A member of a cluster that runs does not know this node.
  void turned_away(NodeId by) { turned_away_by_ = by; }
  void message(NodeId from, const wire::PeerMessage& message);

  // Looks at what is known. Call after each event, then take the effects.
  void advance();

  // Set once, for ever: make it durable (identity file), then call durable(). Nothing that names it
  // may leave before.
  const std::optional<Genesis>& decided() const { return decided_; }
  // What to write along with it: which cluster the one who offered it belongs to by now, what that
  // was called before, and which entries it skips.
  const Lineage& lineage() const { return lineage_; }
  void durable();
  bool is_durable() const { return durable_; }

  // To be sent now; emptied by the call.
  std::vector<std::pair<NodeId, wire::PeerMessage>> take_messages();
  // Who is reached at this moment, for the node object that comes to be.
  std::map<NodeId, wire::Hello> connected() const;
  // What the node is waiting for, for the log and the status: "waiting for node 3
  // (10.0.0.13:7101)".
  std::string waiting_for() const;
  // A cluster that must not be joined by this node: the process ends with it.
  const std::optional<Error>& refused() const { return refused_; }

  // Called now and then once durable: offers the document to those connected members that belong to
  // no cluster yet and have not taken it. Any member may offer, so that the death of the one that
  // drew it stops nobody. `members`: as the log has them by now.
  void offer(const std::vector<GenesisMember>& members);

 private:
  struct Peer {
    bool connected = false;
    wire::Hello hello;
  };
  void draw();

  const Options options_;
  std::map<NodeId, Peer> peers_;
  NodeId turned_away_by_;
  std::map<NodeId, bool> accepted_;
  std::optional<Genesis> decided_;
  Lineage lineage_;
  bool durable_ = false;
  std::optional<Error> refused_;
  std::vector<std::pair<NodeId, wire::PeerMessage>> messages_;
};

}  // namespace connectd::node

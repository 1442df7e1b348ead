// The first frame of each peer connection, both ways: who I am, and what I can talk. A mismatch
// ends the connection with a text that both sides log.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/types.h"
#include "raft/types.h"

namespace connectd::wire {

// Version 2 has frame headers with a checksum of their own (wire/peer_codec.h). A connection uses
// the highest version that both sides support.
inline constexpr uint16_t kPeerProtocolMin = 1;
inline constexpr uint16_t kPeerProtocolMax = 2;

struct Hello {
  uint16_t protocol_min = kPeerProtocolMin;
  uint16_t protocol_max = kPeerProtocolMax;
  std::string cluster_name;
  ClusterId cluster_id;  // none: this node belongs to no cluster yet (its directory is empty)
  NodeId node_id;
  NodeId to;  // whom the sender believes to talk to; in an answer: the asker
  DiskId disk_id;
  std::string plugin_name;
  uint32_t plugin_level_min = 0;
  uint32_t plugin_level_max = 0;
  uint32_t plugin_level = 0;  // in force in the sender's cluster; 0 before there is one
  // Where the sender wants to be reached, host:port, by peers, clients and over HTTP: for one who
  // does not know it yet, or knows it at addresses that it has left. Empty: it does not say.
  std::string peer_address{};
  std::string client_address{};
  std::string http_address{};
  // The entry that brought the list of members that the sender goes by; 0: the genesis.
  Index members_index;
  // What the cluster was called before it was recovered from the loss of a majority; the first one
  // is the one that was founded. Empty: it never was.
  std::vector<ClusterId> former_cluster_ids{};
  // Entries that the sender does not give to its plugin, sorted.
  std::vector<raft::EntryId> skipped_entries{};
  // How much the sender's cluster wants it to lead; 0: never (raft::Options::priority).
  uint8_t priority = 100;
  // The highest feature level that the sender supports, and the one in force in its cluster (0: it
  // belongs to none). Builds that came before the levels say nothing, which means the first one.
  uint32_t feature_level_max = raft::kFirstFeatureLevel;
  uint32_t feature_level = 0;
  // Random, differs at each start of the sender's process. 0: a build that came before this field,
  // which answers no Probe.
  uint64_t incarnation = 0;
  // The connection replaces the one that the sender dialled before, which it will end behind its
  // last message. Only with an incarnation.
  bool replaces = false;
};

// Why a connection was refused. The values are part of the protocol; unknown ones are kOther.
enum class RefusalCode : uint16_t {
  kOther = 0,
  kProtocol = 1,  // no version of the peer protocol that both sides talk
  kClusterName = 2,
  kClusterId = 3,
  kWrongNode = 4,  // the dialled address leads to another node
  kDiskId = 5,     // a known node id with another disk: its votes are forgotten
  kPluginName = 6,
  kPluginLevel = 7,  // or connectd's own feature level: builds that came before it know this code
  kNotMember = 8,    // a node id the cluster does not know
  kRemoved = 9,      // a node id that was removed from the cluster for good
  kRecovered = 10,   // the cluster was recovered without the one that is told so
  kLeftBehind = 11,  // the cluster was recovered without the one that says so
  kSkips = 12,       // one side skips an entry that the other gives to its plugin
  kTwin = 13,        // another process with this node's id and disk is connected, and lives
  kRunsElsewhere = 14,  // the same with another disk: the one that the cluster knows, or knew
  kTls = 15,            // the connection must be inside TLS, or its certificate is another node's
};
inline constexpr RefusalCode kLastRefusalCode = RefusalCode::kTls;

// A refusal that is not repeated for this long stands no more: whoever gave it has gone. Several of
// the longest pauses between two attempts to connect.
inline constexpr Duration kRefusalStands = std::chrono::seconds(15);

// Who gives it is not the member that was dialled, but another node at that member's address.
bool is_of_stranger(RefusalCode code);

// The answer to a hello that does not fit: in place of an own hello, or after it.
struct Refusal {
  RefusalCode code = RefusalCode::kOther;
  // One line for both sides' logs: the nodes, the values that differ (but not disks), what to do.
  std::string text;
  std::string own{};  // behind it in the log of who refuses; not sent: what an intruder would need
};

// Asks the process at the other end of an accepted connection whether it lives; it answers on the
// same connection. Either side may ask, if the other's hello had an incarnation.
struct Probe {
  bool is_answer = false;
  uint64_t number = 0;  // the answer's is that of the question
};

// Whether two nodes that say this of themselves may talk, as far as both hellos alone can tell: the
// protocol, the cluster, the addressee, the plugin. (Disks and membership: the node knows.) `mine`
// is what this side says; its `to` is not looked at.
std::optional<Refusal> check_hello(const Hello& mine, const Hello& theirs);

}  // namespace connectd::wire

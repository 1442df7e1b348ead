#include "wire/handshake.h"

#include <fmt/format.h>

#include <algorithm>

namespace connectd::wire {
namespace {

Refusal refuse(RefusalCode code, std::string text) { return {code, std::move(text)}; }

// A level in force in one side's cluster must be in the other's range; where there is none yet, the
// ranges must overlap.
bool levels_fit(const Hello& a, const Hello& b) {
  auto supports = [](const Hello& who, uint32_t level) {
    return who.plugin_level_min <= level && level <= who.plugin_level_max;
  };
  if (a.plugin_level != 0 && !supports(b, a.plugin_level)) return false;
  if (b.plugin_level != 0 && !supports(a, b.plugin_level)) return false;
  if (a.plugin_level != 0 || b.plugin_level != 0) return true;
  return a.plugin_level_min <= b.plugin_level_max && b.plugin_level_min <= a.plugin_level_max;
}

std::string levels_text(const Hello& hello) {
  std::string text =
      fmt::format("supports {} to {}", hello.plugin_level_min, hello.plugin_level_max);
  if (hello.plugin_level != 0) {
    text += fmt::format(" and its cluster is at {}", hello.plugin_level);
  }
  return text;
}

bool contains(const std::vector<ClusterId>& ids, const ClusterId& id) {
  return std::ranges::find(ids, id) != ids.end();
}

// `behind` belongs to the former id of a cluster that was recovered.
std::string recovered_text(const Hello& behind, const Hello& ahead) {
  return fmt::format(
      "cluster \"{}\" lost its majority and was recovered, as cluster id {}. Node {} belongs to "
      "it, node {} to the former id {}: their data may differ. If node {} is one of the survivors, "
      "run on it the same `connectctl recover` as on the others; if it was lost, start it with an "
      "empty data directory and a new id: connectctl member add",
      ahead.cluster_name, ahead.cluster_id.to_string(), ahead.node_id, behind.node_id,
      behind.cluster_id.to_string(), behind.node_id);
}

// Replicas that skip different entries are different state machines.
std::optional<std::string> skips_differ(const Hello& mine, const Hello& theirs) {
  for (const auto& [has, lacks] : {std::pair(&mine, &theirs), std::pair(&theirs, &mine)}) {
    for (const raft::EntryId& skip : has->skipped_entries) {
      if (std::ranges::binary_search(lacks->skipped_entries, skip)) continue;
      return fmt::format(
          "node {} skips the entry at index {}, node {} gives it to its plugin: their states would "
          "differ. Run on node {}, while it is stopped: connectctl recover --data-dir DIR "
          "--skip-entry {}:{}:{:016x}",
          has->node_id, skip.index, lacks->node_id, lacks->node_id, skip.index, skip.term,
          skip.checksum);
    }
  }
  return std::nullopt;
}

}  // namespace

bool is_of_stranger(RefusalCode code) {
  return code == RefusalCode::kClusterName || code == RefusalCode::kClusterId ||
         code == RefusalCode::kWrongNode;
}

std::optional<Refusal> check_hello(const Hello& mine, const Hello& theirs) {
  const NodeId me = mine.node_id;
  const NodeId them = theirs.node_id;
  if (mine.protocol_min > theirs.protocol_max || theirs.protocol_min > mine.protocol_max) {
    return refuse(RefusalCode::kProtocol,
                  fmt::format("node {} supports versions {} to {} of the peer protocol, node {} "
                              "supports {} to {}: upgrade the older one",
                              them, theirs.protocol_min, theirs.protocol_max, me, mine.protocol_min,
                              mine.protocol_max));
  }
  if (mine.cluster_name != theirs.cluster_name) {
    return refuse(RefusalCode::kClusterName,
                  fmt::format("node {} is of cluster \"{}\", node {} of cluster \"{}\": check "
                              "cluster.name and the addresses in both configurations",
                              them, theirs.cluster_name, me, mine.cluster_name));
  }
  if (theirs.to != me || !them || them == me) {
    return refuse(RefusalCode::kWrongNode,
                  fmt::format("node {} dialled node {}, but this is node {}: check the members' "
                              "peer addresses and the node ids in the configurations",
                              them, theirs.to, me));
  }
  const bool both_belong = mine.cluster_id && theirs.cluster_id;
  if (both_belong && contains(mine.former_cluster_ids, theirs.cluster_id)) {
    return refuse(RefusalCode::kRecovered, recovered_text(theirs, mine));
  }
  if (both_belong && contains(theirs.former_cluster_ids, mine.cluster_id)) {
    return refuse(RefusalCode::kLeftBehind, recovered_text(mine, theirs));
  }
  if (both_belong && mine.cluster_id != theirs.cluster_id) {
    return refuse(
        RefusalCode::kClusterId,
        fmt::format(
            "node {} belongs to cluster id {}, node {} to cluster id {}: two clusters have the "
            "same name; one of the two nodes has the wrong data directory or the wrong addresses",
            them, theirs.cluster_id.to_string(), me, mine.cluster_id.to_string()));
  }
  if (mine.plugin_name != theirs.plugin_name) {
    return refuse(RefusalCode::kPluginName,
                  fmt::format("node {} runs plugin \"{}\", node {} runs plugin \"{}\": start all "
                              "nodes of a cluster with the same plugin",
                              them, theirs.plugin_name, me, mine.plugin_name));
  }
  if (!levels_fit(mine, theirs)) {
    return refuse(RefusalCode::kPluginLevel,
                  fmt::format("behaviour levels of plugin \"{}\" do not overlap: node {} {}, node "
                              "{} {}: install a version of the plugin that covers both",
                              mine.plugin_name, them, levels_text(theirs), me, levels_text(mine)));
  }
  // Only a node that is behind is refused. It must not refuse the other side.
  if (mine.feature_level > theirs.feature_level_max) {
    return refuse(
        RefusalCode::kPluginLevel,
        fmt::format(
            "cluster \"{}\" is at feature level {} (node {}), node {} supports levels up to "
            "{}: install on node {} the version of connectd that the others run",
            mine.cluster_name, mine.feature_level, me, them, theirs.feature_level_max, them));
  }
  if (both_belong) {
    if (auto text = skips_differ(mine, theirs)) return refuse(RefusalCode::kSkips, *text);
  }
  return std::nullopt;
}

}  // namespace connectd::wire

// Judges refusals by peers: some mean that this node must not run, most that it should try again.
// A node that belongs to a cluster is not ended by the word of others while that cluster works
// (docs/adr/0010-when-a-refused-node-exits.md).
//
// Pure: events in, a verdict out. Owner: the loop thread.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "base/clock.h"
#include "base/error.h"
#include "base/types.h"
#include "wire/handshake.h"

namespace connectd::node {

class Refusals final {
 public:
  // How this node stands when it is refused.
  struct Standing {
    bool has_log = false;  // it belongs to a cluster, and its log has begun
    // It has led or followed with a live quorum, without a break, since before the hello that was
    // refused.
    bool has_quorum = false;
  };

  // `listed`: the members in the configuration file, this node among them.
  explicit Refusals(std::set<NodeId> listed) : listed_(std::move(listed)) {}

  // The peer and this node agree again.
  void reached(NodeId peer);
  // An error: the process ends with it.
  std::optional<Error> refused(NodeId peer, const wire::Refusal& refusal, Standing standing,
                               Time now);
  // Strangers refuse, too: they do not fill the status.
  static constexpr size_t kMaxTexts = 8;
  // The refusals that stand (wire::kRefusalStands), for the status: "refused by node 2: ...".
  // Empty: none.
  std::string text(Time now) const;

 private:
  const std::set<NodeId> listed_;
  std::set<NodeId> by_;  // listed ones, for reasons that one peer alone does not decide
  struct Said {
    std::string text;
    Time until;
  };
  std::map<NodeId, Said> said_;  // by at most kMaxTexts strangers, and the listed ones
};

}  // namespace connectd::node

// What the HTTP port answers, as values, and their JSON in both directions: the server writes it,
// /v1/cluster and connectctl read it, the log and systemd show the same fields. Names and shapes
// are promises (docs/operations.md lists them); a reader takes older and newer answers too
// (admin/json_fields.h). Pure; any thread.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"
#include "node/status.h"

namespace connectd::admin {

// GET /v1/status: node::StatusSnapshot, but for `made`, which has no meaning elsewhere.

// GET /v1/cluster.
struct ClusterAnswer {
  struct Node {
    NodeId id;
    std::string http;  // where it was asked
    bool reachable = false;
    std::string error;      // why it is not; null in the JSON when empty
    bool stranger = false;  // another node, or one of another cluster, answers there
    // As that node wrote it, so that what only newer builds know is handed on; null: none.
    boost::json::value status;

    // Nothing unless `status` is an object.
    std::optional<node::StatusSnapshot> read_status() const;
  };
  NodeId asked;
  std::vector<Node> nodes;
};

// POST /v1/admin/members, /leader and /settings.
struct ChangeAnswer {
  Index index;       // of the entry that holds the change
  std::string text;  // one line for people
};

// POST /v1/admin/snapshot, take.
struct SnapshotTaken {
  Index index;  // a snapshot of this index or a later one is listed when it is durable
};
// list.
struct SnapshotList {
  struct Listed {
    std::string name;
    Index index;
    Term term;
    uint64_t bytes = 0;
    int64_t age_seconds = 0;
  };
  bool taking = false;
  std::string failure;            // why the last attempt failed; empty: it did not
  std::vector<Listed> snapshots;  // newest first
};

// RFC 9457; what every request that was not served is answered with.
struct Problem {
  std::string type = "about:blank";
  std::string title;
  int status = 0;
  std::string detail;
  std::string code{};  // "NOLEADER"; left out when empty
};

// Of the types above. to_json and from_json are exact opposites.
template <class Answer>
boost::json::value to_value(const Answer& answer);
template <class Answer>
std::string to_json(const Answer& answer);
// Nothing unless the text is a JSON object.
template <class Answer>
std::optional<Answer> from_json(std::string_view text);

// The same fields as text for people, "id=1 name=n1 disk.state=ok", without `members` and `peers`;
// only `fields` ("role", "disk"), when there are any.
std::string status_text(const node::StatusSnapshot& status,
                        std::initializer_list<std::string_view> fields = {});
// One line for each member, and for each peer that a leader knows.
std::vector<std::string> status_lines(const node::StatusSnapshot& status);

// "follower", "pre-candidate", "candidate", "leader".
std::string_view role_text(raft::Role role);
// "forming", "stuck", "stopping", "no quorum", "no leader", "catching up", "lagging", "diverged",
// "ready".
std::string_view state_text(node::ServiceState state);

}  // namespace connectd::admin

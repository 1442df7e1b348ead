// The bodies of requests to /v1/admin/, from JSON. Whoever writes them wants something done:
// other than readers of answers, these refuse what they do not know. Pure; any thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <variant>

#include "admin/hooks.h"
#include "base/error.h"

namespace connectd::admin {

// All: kUsage with what is wrong.

// {"action": "add"|"promote"|"remove"|"replace", "id": 4, "peer": "H:P", "client": ..., "http": ...,
//  "learner": true, "force": true, "if_index": 7}
Result<node::MemberChange> parse_member_change(std::string_view body);
// {"action": "transfer", "id": 2}, or without the id.
Result<node::MemberChange> parse_leader_change(std::string_view body);
// {"key": "raft.lease_reads", "value": "true"}: values are texts, as in the configuration.
Result<SettingChange> parse_setting_change(std::string_view body);

struct TakeSnapshot {};
struct ListSnapshots {};
// {"action": "take"}, {"action": "list"},
// {"action": "read", "name": "...", "offset": 0, "length": 4194304}
using SnapshotVerb = std::variant<TakeSnapshot, ListSnapshots, SnapshotPiece>;
Result<SnapshotVerb> parse_snapshot_verb(std::string_view body);

}  // namespace connectd::admin

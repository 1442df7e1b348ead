// The bodies of requests to /v1/admin/ as JSON, both ways: the node parses what connectctl writes,
// by the same table of fields. Whoever writes them wants something done: other than readers of
// answers, these refuse what they do not know. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "admin/hooks.h"
#include "base/error.h"

namespace connectd::admin {

// parse_*: kUsage with what is wrong. to_body: leaves out what has its default.

// {"action": "add"|"promote"|"remove"|"replace", "id": 4, "peer": "H:P", "client": ..., "http": ...,
//  "learner": true, "force": true, "if_index": 7}
Result<node::MemberChange> parse_member_change(std::string_view body);
// {"action": "transfer", "id": 2}, or without the id.
Result<node::MemberChange> parse_leader_change(std::string_view body);
std::string to_body(const node::MemberChange& change);
// {"key": "raft.lease_reads", "value": "true"}: values are texts, as in the configuration.
Result<SettingChange> parse_setting_change(std::string_view body);
std::string to_body(const SettingChange& change);

struct TakeSnapshot {};
struct ListSnapshots {};
// {"action": "take"}, {"action": "list"},
// {"action": "read", "name": "...", "offset": 0, "length": 4194304}
using SnapshotVerb = std::variant<TakeSnapshot, ListSnapshots, SnapshotPiece>;
Result<SnapshotVerb> parse_snapshot_verb(std::string_view body);
std::string to_body(const SnapshotVerb& verb);

}  // namespace connectd::admin

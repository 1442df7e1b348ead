// The daemon's own replicated state, next to the plugin's: equal on every node at equal index. It
// is also the metadata of every snapshot.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/types.h"
#include "node/apply/session_table.h"
#include "node/membership/members.h"
#include "raft/types.h"

namespace connectd::node {

struct ReplicatedState {
  Genesis genesis;
  Index applied;  // the last entry that is in the state
  Term applied_term;
  int64_t stamp_ns = 0;  // of that entry
  // Digest chain: digest_i = XXH3-64 of (digest_{i-1}, index, kind, status, XXH3-64 of the reply).
  // Two nodes with equal digests at equal index have given equal answers since the cluster was
  // formed.
  uint64_t digest = 0;
  raft::ConfState conf;     // in force at `applied`
  MemberList members;       // likewise
  raft::Settings settings;  // likewise
  SessionTable sessions;
  // Entries up to `applied` that an operator skipped: the plugin did not get them. Sorted.
  std::vector<raft::EntryId> skipped;
  std::string plugin_version;  // text of the build that wrote a snapshot; differs between nodes

  static ReplicatedState at_genesis(const Genesis& genesis);
  // docs/storage-format.md, "Snapshot metadata".
  std::string encode() const;
  static Result<ReplicatedState> decode(ByteView bytes);

  void extend_digest(Index index, raft::EntryKind kind, int32_t status, ByteView reply);
};

}  // namespace connectd::node

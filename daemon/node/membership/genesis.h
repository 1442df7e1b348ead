// The genesis of a cluster: who founded it, and the settings that change what applying an entry
// results in. It is entry 1 of every log, part of every snapshot, and kept in the identity file; a
// node accepts only one.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/types.h"
#include "raft/settings.h"
#include "raft/types.h"

namespace connectd::node {

struct GenesisMember {
  NodeId id;
  DiskId disk_id;
  std::string peer_address;
  std::string client_address;
  std::string http_address;
  bool operator==(const GenesisMember&) const = default;
};

// What an operator types: "connectctl member add 4 --peer H:P --client H:P --http H:P". Addresses
// that are none are left out: they may come from a stranger.
std::string add_command(const GenesisMember& member);

struct Genesis {
  ClusterId cluster_id;
  std::string cluster_name;
  std::vector<GenesisMember> members;  // sorted by id
  uint64_t max_request = 0;            // bytes of one request
  std::string plugin_name;
  uint32_t plugin_level = 0;  // behaviour level in force from the first entry on
  std::map<std::string, std::string> plugin_options;
  raft::Settings settings;  // in force until an entry changes them
  bool operator==(const Genesis&) const = default;

  // docs/storage-format.md, "Genesis".
  std::string encode() const;
  static Result<Genesis> decode(ByteView bytes);

  const GenesisMember* find(NodeId id) const;
  raft::ConfState conf() const;  // all members are voters
  // Entry 1, term 1: the same on every founder.
  raft::Entry entry() const;
};

inline constexpr Term kGenesisTerm{1};
inline constexpr Index kGenesisIndex{1};

}  // namespace connectd::node

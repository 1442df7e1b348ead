#include "node/membership/genesis.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/address.h"
#include "base/limits.h"

namespace connectd::node {
namespace {
constexpr uint32_t kGenesisVersion = 1;
constexpr size_t kMaxGenesisText = 64 << 10;

template <class Kind>
Uuid<Kind> read_uuid(ByteReader& in) {
  Uuid<Kind> uuid;
  ByteView bytes = in.bytes(uuid.bytes.size());
  if (bytes.size() == uuid.bytes.size()) std::ranges::copy(bytes, uuid.bytes.begin());
  return uuid;
}
}  // namespace

std::string add_command(const GenesisMember& member) {
  std::string text = fmt::format("connectctl member add {}", member.id);
  const bool has_peer = parse_address(member.peer_address).has_value();
  text += " --peer " + (has_peer ? member.peer_address : "HOST:PORT");
  for (const auto& [option, address] :
       {std::pair("--client", &member.client_address), std::pair("--http", &member.http_address)}) {
    if (parse_address(*address)) text += fmt::format(" {} {}", option, *address);
  }
  return text;
}

std::string Genesis::encode() const {
  std::string out;
  ByteWriter writer(out);
  writer.number<uint32_t>(kGenesisVersion);
  writer.bytes(cluster_id.bytes);
  writer.counted(cluster_name);
  writer.number<uint64_t>(max_request);
  writer.counted(plugin_name);
  writer.number<uint32_t>(plugin_level);
  writer.number<uint32_t>(static_cast<uint32_t>(plugin_options.size()));
  for (const auto& [key, value] : plugin_options) {
    writer.counted(key);
    writer.counted(value);
  }
  writer.number<uint32_t>(static_cast<uint32_t>(members.size()));
  for (const GenesisMember& member : members) {
    writer.number<uint64_t>(member.id.value());
    writer.bytes(member.disk_id.bytes);
    writer.counted(member.peer_address);
    writer.counted(member.client_address);
    writer.counted(member.http_address);
  }
  writer.counted(settings.encode());
  return out;
}

Result<Genesis> Genesis::decode(ByteView bytes) {
  ByteReader in(bytes);
  auto version = in.number<uint32_t>();
  if (in.ok() && version != kGenesisVersion) {
    return failure(ErrorKind::kNewerVersion,
                   fmt::format("the genesis has format version {}, this connectd reads version {}: "
                               "run the connectd that wrote it",
                               version, kGenesisVersion));
  }
  Genesis genesis;
  genesis.cluster_id = read_uuid<ClusterIdKind>(in);
  genesis.cluster_name = in.counted(kMaxGenesisText);
  genesis.max_request = in.number<uint64_t>();
  genesis.plugin_name = in.counted(kMaxGenesisText);
  genesis.plugin_level = in.number<uint32_t>();
  for (auto left = in.number<uint32_t>(); left > 0 && in.ok(); --left) {
    std::string key(in.counted(kMaxGenesisText));
    genesis.plugin_options[key] = in.counted(kMaxGenesisBytes);
  }
  auto count = in.number<uint32_t>();
  if (count > kMaxMembers) in.fail();
  for (; count > 0 && in.ok(); --count) {
    GenesisMember member;
    member.id = NodeId(in.number<uint64_t>());
    member.disk_id = read_uuid<DiskIdKind>(in);
    member.peer_address = in.counted(kMaxGenesisText);
    member.client_address = in.counted(kMaxGenesisText);
    member.http_address = in.counted(kMaxGenesisText);
    if (!member.id || (!genesis.members.empty() && !(genesis.members.back().id < member.id))) {
      in.fail();
    }
    genesis.members.push_back(std::move(member));
  }
  const ByteView settings_bytes = as_bytes(in.counted(kMaxGenesisText));
  if (raft::Settings::are_newer(settings_bytes)) {
    return failure(ErrorKind::kNewerVersion,
                   fmt::format("the settings in the genesis have unknown format version {}: a "
                               "newer version wrote them. Run that version",
                               settings_bytes[0]));
  }
  ByteReader settings(settings_bytes);
  if (!raft::Settings::decode(settings, genesis.settings) || !settings.done()) in.fail();
  if (!in.done() || genesis.members.empty() || !genesis.cluster_id) {
    return failure(ErrorKind::kCorrupt, "invalid genesis");
  }
  return genesis;
}

const GenesisMember* Genesis::find(NodeId id) const {
  auto found = std::ranges::find(members, id, &GenesisMember::id);
  return found == members.end() ? nullptr : &*found;
}

raft::ConfState Genesis::conf() const {
  raft::ConfState conf;
  for (const GenesisMember& member : members) conf.voters.push_back(member.id);
  return conf;
}

raft::Entry Genesis::entry() const {
  raft::Entry entry;
  entry.index = kGenesisIndex;
  entry.term = kGenesisTerm;
  entry.kind = raft::EntryKind::kGenesis;
  entry.stamp_ns = 1;  // the log's time begins with the first leader
  entry.payload = Slice::copy_of(encode());
  entry.checksum = raft::entry_checksum(entry);
  return entry;
}

}  // namespace connectd::node

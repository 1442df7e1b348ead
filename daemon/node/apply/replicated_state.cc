#include "node/apply/replicated_state.h"

#include <array>

#include "base/checksum.h"
#include "base/limits.h"
#include "wire/handshake.h"

namespace connectd::node {
namespace {
constexpr uint32_t kVersion = 3;
}

ReplicatedState ReplicatedState::at_genesis(const Genesis& genesis) {
  ReplicatedState state;
  state.genesis = genesis;
  state.conf = genesis.conf();
  state.members = MemberList::of(genesis);
  state.settings = genesis.settings;
  return state;
}

std::string ReplicatedState::encode() const {
  std::string out;
  ByteWriter writer(out);
  writer.number<uint32_t>(kVersion);
  writer.number<uint64_t>(applied.value());
  writer.number<uint64_t>(applied_term.value());
  writer.number<int64_t>(stamp_ns);
  writer.number<uint64_t>(digest);
  writer.counted(genesis.encode());
  writer.counted(conf.encode());
  writer.counted(members.encode());
  writer.counted(settings.encode());
  writer.counted(plugin_version);
  sessions.encode(out);
  writer.number<uint32_t>(static_cast<uint32_t>(skipped.size()));
  for (const raft::EntryId& skip : skipped) {
    writer.number<uint64_t>(skip.index.value());
    writer.number<uint64_t>(skip.term.value());
    writer.number<uint64_t>(skip.checksum);
  }
  return out;
}

Result<ReplicatedState> ReplicatedState::decode(ByteView bytes) {
  ByteReader in(bytes);
  auto version = in.number<uint32_t>();
  if (in.ok() && version != kVersion) {
    return failure(
        ErrorKind::kNewerVersion,
        fmt::format("the snapshot's metadata has version {}, this connectd reads version "
                    "{}: run the connectd that wrote it",
                    version, kVersion));
  }
  ReplicatedState state;
  state.applied = Index(in.number<uint64_t>());
  state.applied_term = Term(in.number<uint64_t>());
  state.stamp_ns = in.number<int64_t>();
  // As for entries of peers: a leader must be able to go on from there.
  if (state.stamp_ns < -kMaxReceivedStampNs || state.stamp_ns > kMaxReceivedStampNs) in.fail();
  state.digest = in.number<uint64_t>();
  auto genesis = Genesis::decode(as_bytes(in.counted(kMaxGenesisBytes)));
  if (!genesis) return failure(genesis.error());
  state.genesis = std::move(*genesis);
  std::string_view conf_text = in.counted(kMaxGenesisBytes);
  ByteReader conf_in(as_bytes(conf_text));
  if (!raft::ConfState::decode(conf_in, state.conf) || !conf_in.done()) in.fail();
  auto members = MemberList::decode(as_bytes(in.counted(kMaxGenesisBytes)));
  if (!members) return failure(members.error());
  state.members = std::move(*members);
  const ByteView settings_bytes = as_bytes(in.counted(kMaxGenesisBytes));
  if (raft::Settings::are_newer(settings_bytes)) {
    return failure(
        ErrorKind::kNewerVersion,
        fmt::format("the settings in the snapshot's metadata have unknown format version {}: a "
                    "newer version wrote them. Nothing was changed. Run that version",
                    settings_bytes[0]));
  }
  ByteReader settings(settings_bytes);
  if (!raft::Settings::decode(settings, state.settings) || !settings.done()) in.fail();
  state.plugin_version = in.counted(kMaxGenesisBytes);
  if (!SessionTable::decode(in, state.sessions)) in.fail();
  auto skips = in.number<uint32_t>();
  if (skips > kMaxSkippedEntries) in.fail();
  for (; skips > 0 && in.ok(); --skips) {
    raft::EntryId skip;
    skip.index = Index(in.number<uint64_t>());
    skip.term = Term(in.number<uint64_t>());
    skip.checksum = in.number<uint64_t>();
    if (!state.skipped.empty() && !(state.skipped.back() < skip)) in.fail();
    state.skipped.push_back(skip);
  }
  if (!in.done()) {
    return failure(ErrorKind::kCorrupt, "invalid snapshot metadata");
  }
  return state;
}

void ReplicatedState::extend_digest(Index index, raft::EntryKind kind, int32_t status,
                                    ByteView reply) {
  std::array<uint8_t, 32> block{};
  store_le<uint64_t>(&block[0], digest);
  store_le<uint64_t>(&block[8], index.value());
  store_le<uint32_t>(&block[16], static_cast<uint32_t>(kind));
  store_le<int32_t>(&block[20], status);
  store_le<uint64_t>(&block[24], checksum64(reply));
  digest = checksum64(block);
}

}  // namespace connectd::node

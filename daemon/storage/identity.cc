#include "storage/identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/checksum.h"
#include "base/limits.h"
#include "storage/data_directory.h"
#include "wire/handshake.h"

namespace connectd::storage {
namespace {

// Every version begins with the magic and the version, and ends with the checksum of all before it.
constexpr char kMagic[8] = {'C', 'O', 'N', 'N', 'I', 'D', '\0', '\0'};
constexpr size_t kFixedBytes = 64;
constexpr size_t kChecksumBytes = 8;
constexpr size_t kSkipBytes = 24;
constexpr size_t kMaxFileBytes = kFixedBytes + kMaxGenesisBytes + kMaxFormerClusters * 16 +
                                 kMaxSkippedEntries * kSkipBytes + kChecksumBytes;
constexpr uint32_t kLogBegun = 1;  // flags

tl::unexpected<Error> damage(const std::string& path, std::string_view what) {
  return failure(ErrorKind::kCorrupt,
                 fmt::format("the identity file {} is damaged: {}. Without it this node must not "
                             "vote. Restore a copy of the file",
                             path, what));
}

}  // namespace

std::string encode_identity(const Identity& identity) {
  std::string bytes;
  ByteWriter out(bytes);
  out.bytes(as_bytes(std::string_view(kMagic, sizeof kMagic)));
  out.number<uint32_t>(kIdentityVersion);
  out.number<uint32_t>(identity.log_begun ? kLogBegun : 0);
  out.number<uint64_t>(identity.node_id.value());
  out.bytes(identity.disk_id.bytes);
  out.bytes(identity.cluster_id.bytes);
  out.number<uint32_t>(static_cast<uint32_t>(identity.genesis.size()));
  out.number<uint16_t>(static_cast<uint16_t>(identity.former_cluster_ids.size()));
  out.number<uint16_t>(static_cast<uint16_t>(identity.skips.size()));
  out.bytes(as_bytes(identity.genesis));
  for (const ClusterId& id : identity.former_cluster_ids) out.bytes(id.bytes);
  for (const raft::EntryId& skip : identity.skips) {
    out.number<uint64_t>(skip.index.value());
    out.number<uint64_t>(skip.term.value());
    out.number<uint64_t>(skip.checksum);
  }
  out.number<uint64_t>(checksum64(as_bytes(bytes)));
  return bytes;
}

Result<Identity> decode_identity(ByteView bytes, const std::string& path) {
  if (bytes.size() < kFixedBytes + kChecksumBytes) return damage(path, "it is too short");
  ByteReader in(bytes);
  if (std::memcmp(in.bytes(sizeof kMagic).data(), kMagic, sizeof kMagic) != 0) {
    return damage(path, "invalid magic");
  }
  const size_t checked = bytes.size() - kChecksumBytes;
  if (load_le<uint64_t>(bytes.data() + checked) != checksum64(bytes.first(checked))) {
    return damage(path, "checksum mismatch");
  }
  const auto version = in.number<uint32_t>();
  if (version != kIdentityVersion) {
    return failure(ErrorKind::kNewerVersion,
                   fmt::format("{} has format version {}, this connectd supports {}: start the "
                               "connectd that wrote it, or a newer one",
                               path, version, kIdentityVersion));
  }
  Identity identity;
  const auto flags = in.number<uint32_t>();
  identity.node_id = NodeId(in.number<uint64_t>());
  std::memcpy(identity.disk_id.bytes.data(), in.bytes(16).data(), 16);
  std::memcpy(identity.cluster_id.bytes.data(), in.bytes(16).data(), 16);
  const auto genesis_bytes = in.number<uint32_t>();
  auto former = in.number<uint16_t>();
  auto skips = in.number<uint16_t>();
  identity.log_begun = flags == kLogBegun;
  identity.genesis = as_text(in.bytes(genesis_bytes));
  if (former > kMaxFormerClusters || skips > kMaxSkippedEntries) in.fail();
  for (; former > 0 && in.ok(); --former) {
    ByteView id = in.bytes(16);
    if (in.ok()) std::ranges::copy(id, identity.former_cluster_ids.emplace_back().bytes.begin());
  }
  for (; skips > 0 && in.ok(); --skips) {
    raft::EntryId skip;
    skip.index = Index(in.number<uint64_t>());
    skip.term = Term(in.number<uint64_t>());
    skip.checksum = in.number<uint64_t>();
    if (!identity.skips.empty() && !(identity.skips.back() < skip)) in.fail();
    identity.skips.push_back(skip);
  }
  in.bytes(kChecksumBytes);
  if (!in.done() || flags > kLogBegun) return damage(path, "its fields do not match its size");
  if (!identity.node_id || !identity.disk_id) return damage(path, "missing node or disk id");
  return identity;
}

Result<std::optional<Identity>> load_identity(FileSystem& files, const std::string& directory) {
  const std::string path = directory + "/" + kIdentityFile;
  auto bytes = read_file(files, path, kMaxFileBytes);
  if (!bytes && bytes.error().kind == ErrorKind::kNotFound) return std::optional<Identity>();
  // Longer than any.
  if (!bytes && bytes.error().kind == ErrorKind::kCorrupt) return damage(path, bytes.error().text);
  if (!bytes) return failure(bytes.error());
  auto identity = decode_identity(as_bytes(*bytes), path);
  if (!identity) return failure(identity.error());
  return std::optional<Identity>(std::move(*identity));
}

Result<Identity> open_identity(FileSystem& files, const std::string& directory, NodeId node,
                               const DiskId& fresh_disk) {
  auto found = examine_directory(files, directory, node);
  if (!found) return failure(found.error());
  if (*found) {
    if (auto synced = files.sync_directory(directory); !synced) return failure(synced.error());
    return std::move(**found);
  }
  Identity fresh;
  fresh.node_id = node;
  fresh.disk_id = fresh_disk;
  if (auto saved = save_identity(files, directory, fresh); !saved) return failure(saved.error());
  return fresh;
}

Result<void> save_identity(FileSystem& files, const std::string& directory,
                           const Identity& identity) {
  if (identity.genesis.size() > kMaxGenesisBytes) {
    return failure(ErrorKind::kCorrupt,
                   fmt::format("the genesis has {} bytes, more than the limit of {}",
                               identity.genesis.size(), kMaxGenesisBytes));
  }
  if (identity.former_cluster_ids.size() > kMaxFormerClusters ||
      identity.skips.size() > kMaxSkippedEntries) {
    return failure(ErrorKind::kCorrupt,
                   fmt::format("the identity has {} former clusters and {} skipped entries, more "
                               "than the limits of {} and {}",
                               identity.former_cluster_ids.size(), identity.skips.size(),
                               kMaxFormerClusters, kMaxSkippedEntries));
  }
  return replace_file(files, directory, kIdentityFile, as_bytes(encode_identity(identity)));
}

}  // namespace connectd::storage

#include "raft/types.h"

#include <algorithm>
#include <array>

#include "base/checksum.h"

namespace connectd::raft {

namespace {

// More members than any cluster has; bounds what decode() allocates.
constexpr uint32_t kMaxIds = 1024;

void encode_ids(ByteWriter& out, const std::vector<NodeId>& ids) {
  out.number<uint32_t>(static_cast<uint32_t>(ids.size()));
  for (NodeId id : ids) out.number<uint64_t>(id.value());
}

bool decode_ids(ByteReader& in, std::vector<NodeId>& ids) {
  auto count = in.number<uint32_t>();
  if (count > kMaxIds || in.left() / sizeof(uint64_t) < count) return false;
  ids.clear();
  ids.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    NodeId id(in.number<uint64_t>());
    if (!id || (!ids.empty() && !(ids.back() < id))) return false;
    ids.push_back(id);
  }
  return true;
}

bool contains(const std::vector<NodeId>& sorted, NodeId id) {
  return std::binary_search(sorted.begin(), sorted.end(), id);
}

}  // namespace

uint64_t entry_checksum(const Entry& entry) {
  std::array<uint8_t, 64> head{};
  store_le<uint64_t>(&head[0], entry.index.value());
  store_le<uint64_t>(&head[8], entry.term.value());
  store_le<uint64_t>(&head[16], entry.session.value());
  store_le<uint64_t>(&head[24], entry.sequence.value());
  store_le<uint64_t>(&head[32], entry.acked_below.value());
  store_le<int64_t>(&head[40], entry.stamp_ns);
  head[48] = static_cast<uint8_t>(entry.kind);
  head[49] = entry.flags;
  store_le<uint32_t>(&head[52], static_cast<uint32_t>(entry.payload.size()));
  store_le<uint64_t>(&head[56], checksum64(entry.payload.view()));
  return checksum64(head);
}

bool ConfState::is_voter(NodeId id) const {
  return contains(voters, id) || contains(voters_outgoing, id);
}

bool ConfState::is_member(NodeId id) const { return is_voter(id) || contains(learners, id); }

std::vector<NodeId> ConfState::members() const {
  std::vector<NodeId> all;
  for (const auto* ids : {&voters, &voters_outgoing, &learners}) {
    all.insert(all.end(), ids->begin(), ids->end());
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

std::string ConfState::encode() const {
  std::string bytes;
  ByteWriter out(bytes);
  for (const auto* ids : {&voters, &voters_outgoing, &learners}) encode_ids(out, *ids);
  return bytes;
}

bool ConfState::decode(ByteReader& in, ConfState& out) {
  for (auto* ids : {&out.voters, &out.voters_outgoing, &out.learners}) {
    if (!decode_ids(in, *ids)) return false;
  }
  if (!in.ok() || out.voters.empty()) return false;
  // A voter of the incoming set counts; it must not be a learner at the same time.
  return std::none_of(out.learners.begin(), out.learners.end(),
                      [&](NodeId id) { return contains(out.voters, id); });
}

const char* role_name(Role role) {
  switch (role) {
    case Role::kFollower:
      return "follower";
    case Role::kPreCandidate:
      return "pre-candidate";
    case Role::kCandidate:
      return "candidate";
    case Role::kLeader:
      return "leader";
  }
  return "unknown";
}

}  // namespace connectd::raft

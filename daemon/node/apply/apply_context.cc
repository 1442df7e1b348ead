#include "node/apply/apply_context.h"

#include "base/bytes.h"

namespace connectd::node {
namespace {

uint64_t mix(uint64_t z) {  // splitmix64's finalizer
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

}  // namespace

plugin::ApplyContext apply_context(const raft::Entry& entry, const ClusterId& cluster,
                                   uint32_t level) {
  plugin::ApplyContext context;
  context.index = entry.index;
  context.term = entry.term;
  context.time_ns = entry.stamp_ns;
  context.level = level;
  const uint64_t first = load_le<uint64_t>(cluster.bytes.data());
  context.seed[0] = mix(first ^ mix(entry.index.value() + 0x9e3779b97f4a7c15));
  context.seed[1] = mix(context.seed[0] ^ mix(entry.term.value()));
  return context;
}

}  // namespace connectd::node

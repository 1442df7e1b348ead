#include "node/apply/apply_results.h"

#include <utility>

namespace connectd::node {
namespace {
// A buffer of replies that has grown beyond this is freed when it is empty.
constexpr size_t kKeepReplyBytes = size_t{1} << 20;
}  // namespace

void clear_buffer(std::string& buffer) {
  if (buffer.capacity() > kKeepReplyBytes) {
    std::string().swap(buffer);
  } else {
    buffer.clear();
  }
}

void ApplyResults::clear() {
  items.clear();
  clear_buffer(bytes);
  digests.clear();
  applied = Index();
  fresh_since.reset();
}

void ApplyResults::append(ApplyResults&& later) {
  const size_t shift = bytes.size();
  bytes += later.bytes;
  for (Item& item : later.items) {
    if (auto* command = std::get_if<CommandApplied>(&item)) {
      command->reply_offset += shift;
    } else if (auto* read = std::get_if<ReadDone>(&item)) {
      read->reply_offset += shift;
    }
    items.push_back(std::move(item));
  }
  if (later.applied) {
    const bool follows = later.applied - later.digests.size() == applied;
    if (!follows) digests.clear();
    digests.insert(digests.end(), later.digests.begin(), later.digests.end());
    applied = later.applied;
  }
  if (later.fresh_since) fresh_since = later.fresh_since;
  digest = later.digest;
  stamp_ns = later.stamp_ns;
  next_deadline_ns = later.next_deadline_ns;
  later.clear();
}

}  // namespace connectd::node

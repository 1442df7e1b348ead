#include "config/config.h"

namespace connectd::config {

const Member& Config::self() const {
  for (const Member& member : cluster.members) {
    if (member.id == node.id) return member;
  }
  LOG(FATAL) << "node.id " << node.id.value() << " is not a member, which load() refuses";
}

}  // namespace connectd::config

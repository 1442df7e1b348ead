#include "config/config.h"

namespace connectd::config {

const Member& Config::self() const {
  for (const Member& member : cluster.members) {
    if (member.id == node.id) return member;
  }
  LOG(FATAL) << "node.id " << node.id.value() << " is not a member, which load() refuses";
}

std::string Config::file_at(const std::string& path) const {
  return path.empty() || path.front() == '/' ? path : directory + "/" + path;
}

}  // namespace connectd::config

#include "wire/session_owner.h"

namespace connectd::wire {

std::string SessionOwner::encode() const {
  std::string out;
  ByteWriter writer(out);
  writer.number<uint64_t>(node.value());
  writer.number<uint64_t>(incarnation);
  return out;
}

bool SessionOwner::decode(ByteView bytes, SessionOwner& out) {
  ByteReader in(bytes);
  out.node = NodeId(in.number<uint64_t>());
  out.incarnation = in.number<uint64_t>();
  return in.done();
}

}  // namespace connectd::wire

#include "node/apply/session_table.h"

namespace connectd::node {
namespace {
constexpr uint32_t kMaxSessions = 1 << 20;
}

void SessionTable::open(SessionId id, const wire::SessionOwner& owner) {
  std::erase_if(sessions_, [&](const auto& item) { return item.second.owner.node == owner.node; });
  sessions_[id] = Session{owner, Sequence(), Sequence(1)};
}

void SessionTable::close_all_of(NodeId node) {
  std::erase_if(sessions_, [&](const auto& item) { return item.second.owner.node == node; });
}

SessionTable::Verdict SessionTable::admit(SessionId id, Sequence sequence, Sequence acked_below) {
  auto found = sessions_.find(id);
  if (found == sessions_.end()) return Verdict::kGone;
  Session& session = found->second;
  if (sequence <= session.last) return Verdict::kDuplicate;
  if (sequence != session.last + 1) return Verdict::kGap;
  session.last = sequence;
  if (session.acked_below < acked_below) session.acked_below = acked_below;
  return Verdict::kApply;
}

const SessionTable::Session* SessionTable::find(SessionId id) const {
  auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : &found->second;
}

void SessionTable::encode(std::string& out) const {
  ByteWriter writer(out);
  writer.number<uint32_t>(static_cast<uint32_t>(sessions_.size()));
  for (const auto& [id, session] : sessions_) {
    writer.number<uint64_t>(id.value());
    writer.number<uint64_t>(session.owner.node.value());
    writer.number<uint64_t>(session.owner.incarnation);
    writer.number<uint64_t>(session.last.value());
    writer.number<uint64_t>(session.acked_below.value());
  }
}

bool SessionTable::decode(ByteReader& in, SessionTable& out) {
  out.sessions_.clear();
  auto count = in.number<uint32_t>();
  if (count > kMaxSessions) in.fail();
  for (; count > 0 && in.ok(); --count) {
    SessionId id(in.number<uint64_t>());
    Session session;
    session.owner.node = NodeId(in.number<uint64_t>());
    session.owner.incarnation = in.number<uint64_t>();
    session.last = Sequence(in.number<uint64_t>());
    session.acked_below = Sequence(in.number<uint64_t>());
    out.sessions_[id] = session;
  }
  return in.ok();
}

}  // namespace connectd::node

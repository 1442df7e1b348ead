// The sessions of the cluster: part of the replicated state, equal on every node at equal index,
// and part of every snapshot. Within a session only the next sequence is applied, so proposals that
// are lost, duplicated or reordered on the way to the leader do no harm (thesis §6.3).
//
// Owner: the apply thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/bytes.h"
#include "base/types.h"
#include "wire/session_owner.h"

namespace connectd::node {

class SessionTable final {
 public:
  struct Session {
    wire::SessionOwner owner;
    Sequence last;         // last applied; 0: none yet
    Sequence acked_below;  // the holder has the replies below this one
    bool operator==(const Session&) const = default;
  };

  // Opens the session `id` and closes the previous one of its node.
  void open(SessionId id, const wire::SessionOwner& owner);

  // Closes the sessions of a removed node: it opens no more, and its id is never reused.
  void close_all_of(NodeId node);

  enum class Verdict {
    kApply,      // the next one: apply it
    kDuplicate,  // applied before
    kGap,        // an earlier one is missing: not applied
    kGone,       // closed or unknown: not applied
  };
  // Decides whether to apply a command, and advances the session when the verdict is kApply.
  Verdict admit(SessionId id, Sequence sequence, Sequence acked_below);

  const Session* find(SessionId id) const;
  size_t size() const { return sessions_.size(); }

  void encode(std::string& out) const;
  static bool decode(ByteReader& in, SessionTable& out);
  bool operator==(const SessionTable&) const = default;

 private:
  // Ordered: encode() and iteration are the same on every node.
  std::map<SessionId, Session> sessions_;
};

}  // namespace connectd::node

// Node 1's core among voters that answer every message as a follower with the same log would. For
// tests of what looks at a core and gives it events.
#pragma once

#include <memory>
#include <set>
#include <utility>
#include <variant>
#include <vector>

#include "base/log.h"
#include "base/overloaded.h"
#include "node/effects.h"
#include "node/membership/members.h"
#include "raft/core.h"

namespace connectd::node {

class SmallCore {
 public:
  explicit SmallCore(const MemberList& members, uint8_t priority = raft::kDefaultPriority) {
    raft::Options options;
    options.priority = priority;
    options.id = NodeId(1);
    raft::Initial initial;
    for (const GenesisMember& member : members.members) initial.conf.voters.push_back(member.id);
    initial.conf_history.push_back({Index(), initial.conf, Slice::copy_of(members.encode())});
    initial.settings_history.push_back({Index(), {}});
    now.time = Time(std::chrono::seconds(100));
    core = std::make_unique<raft::Core>(options, initial, now);
  }

  void pass(Duration time) {
    now.time += time;
    step(raft::TimePassed{});
  }
  void step(raft::Event event) {
    core->step(std::move(event), now);
    settle();
  }
  void carry_out(Effects& effects) {
    for (raft::Event& event : effects.events) step(std::move(event));
  }
  // This node leads, and an entry of its term is committed.
  void lead() {
    for (int i = 0; i < 10 && !core->leader_is_ready(); ++i) {
      pass(std::max(core->next_deadline() - now.time, Duration(1)));
    }
    CHECK(core->leader_is_ready());
  }

  Now now;
  std::unique_ptr<raft::Core> core;
  std::set<NodeId> silent;  // these do not answer

 private:
  void settle() {
    for (bool progress = true; progress;) {
      raft::Ready ready = core->take_ready();
      std::vector<raft::Envelope> messages = std::move(ready.messages);
      if (ready.append) {
        std::ranges::move(ready.append->after_durable, std::back_inserter(messages));
        core->step(raft::AppendDone{ready.append->id}, now);
      }
      if (!ready.committed.empty()) core->step(raft::ApplyDone{ready.committed.back().index}, now);
      progress = ready.append || !ready.committed.empty() || !messages.empty();
      for (raft::Envelope& message : messages) answer(message);
    }
  }
  void answer(const raft::Envelope& to) {
    if (silent.contains(to.to)) return;
    raft::Envelope back{to.to, to.from, to.term, raft::HeartbeatResponse{}};
    const bool answers =
        std::visit(Overloaded{
                       [&](const raft::PreVoteRequest&) {
                         back.message = raft::PreVoteResponse{true};
                         return true;
                       },
                       [&](const raft::VoteRequest&) {
                         back.message = raft::VoteResponse{true, 0};
                         return true;
                       },
                       [&](const raft::AppendRequest& append) {
                         raft::AppendResponse response;
                         response.success = true;
                         response.index = append.prev_index + append.entries.size();
                         response.round = append.round;
                         back.message = response;
                         return true;
                       },
                       [&](const raft::Heartbeat& heartbeat) {
                         back.message = raft::HeartbeatResponse{heartbeat.round, 0};
                         return true;
                       },
                       [](const auto&) { return false; },
                   },
                   to.message);
    if (answers) core->step(raft::Received{std::move(back)}, now);
  }
};

inline MemberList members_of(uint64_t count) {
  MemberList list;
  for (uint64_t id = 1; id <= count; ++id) {
    GenesisMember member{NodeId(id), DiskId(), fmt::format("n{}:1", id), fmt::format("n{}:2", id),
                         fmt::format("n{}:3", id)};
    member.disk_id.bytes[0] = static_cast<uint8_t>(id);
    list.members.push_back(member);
  }
  return list;
}

}  // namespace connectd::node

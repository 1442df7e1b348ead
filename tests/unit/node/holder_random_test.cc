// The holder against a log that misbehaves as badly as the network lets it: messages to the leader
// are lost, doubled, late and out of order, leaders change, snapshots jump over entries. From a
// seed.
//
// Then: what was answered OK was applied exactly once, at the index and with the reply that the
// client got; what was answered UNKNOWN at most once; what was refused never; a stream's writes in
// their order; no read saw less than what had been answered when it was submitted.
#include <algorithm>
#include <map>

#include "base/random.h"
#include "tests/unit/node/holder_harness.h"

namespace connectd::node {
namespace {

class Chaos {
 public:
  explicit Chaos(uint64_t seed) : random_(seed), bench_(limits()) {
    for (int i = 0; i < 3; ++i) connect();
  }

  void run() {
    for (int i = 0; i < 600; ++i) act(random_.below(100));
    // Everything heals; every waiting request is answered.
    bench_.holder.leader_changed(NodeId(1), ++term_, true);
    for (int i = 0; i < 400; ++i) {
      bench_.advance(milliseconds(20));
      collect();
      while (!on_the_way_.empty()) deliver(0, false);
      apply(log_.size());
      reads();
    }
    check();
  }

 private:
  struct Message {
    std::vector<raft::Proposal> proposals;
  };
  struct Asked {
    char kind = 'w';
    std::string text;
    uint64_t floor = 0;  // reads: the highest index anybody was answered with before
  };
  struct Client {
    std::unique_ptr<RecordingClient> recorder;
    std::vector<Asked> requests;
    size_t checked = 0;
  };

  static HolderLimits limits() {
    HolderLimits limits;
    limits.request_timeout = milliseconds(600);
    limits.stuck_timeout = milliseconds(200);
    limits.retry_interval = milliseconds(50);
    limits.credit_bytes = 8 * (kRequestOverhead + 8);
    limits.forward_bytes = 20;
    return limits;
  }

  void connect() {
    clients_.emplace_back();
    clients_.back().recorder = bench_.connect();
  }

  void act(uint64_t dice) {
    if (dice < 30) {
      Client& client = clients_[random_.below(clients_.size())];
      if (client.recorder->stream) submit(client);
    } else if (dice < 50) {
      bench_.advance(milliseconds(random_.below(20)));
      collect();
    } else if (dice < 65) {
      if (!on_the_way_.empty()) deliver(random_.below(on_the_way_.size()), random_.chance(20));
    } else if (dice < 80) {
      apply(random_.below(8));
    } else if (dice < 86) {
      reads();
    } else if (dice < 89) {
      if (!on_the_way_.empty()) {
        on_the_way_.erase(on_the_way_.begin() +
                          static_cast<ptrdiff_t>(random_.below(on_the_way_.size())));
      }
    } else if (dice < 92) {
      uint64_t leader = random_.below(4);
      bench_.holder.leader_changed(NodeId(leader), ++term_, leader != 0);
    } else if (dice < 94) {
      bench_.holder.forward_lost(NodeId(1 + random_.below(3)));
    } else if (dice < 95) {
      bench_.holder.forward_refused(term_);
    } else if (dice < 96) {
      snapshot(random_.below(log_.size() - applied_ + 1));
    } else if (dice < 97) {
      Client& client = clients_[random_.below(clients_.size())];
      if (client.recorder->stream && random_.chance(20)) {
        client.recorder->stream.reset();
        connect();
      }
    } else if (dice < 98) {
      bench_.advance(milliseconds(300));
      collect();
    } else {
      bench_.holder.end_replies();
    }
    learn();
  }

  void submit(Client& client) {
    Asked asked;
    asked.kind = random_.chance(70) ? 'w' : 'r';
    asked.text = fmt::format("{}{:05}", asked.kind, next_request_++);
    asked.floor = highest_answered_;
    client.requests.push_back(asked);
    client.recorder->submit(asked.text);
  }

  // The holder's messages are sent.
  void collect() {
    for (auto& message : std::exchange(bench_.sent, {})) {
      on_the_way_.push_back({std::move(message.proposals)});
    }
  }

  void deliver(size_t at, bool twice) {
    Message message = on_the_way_[at];
    if (!twice) on_the_way_.erase(on_the_way_.begin() + static_cast<ptrdiff_t>(at));
    for (raft::Proposal& proposal : message.proposals) log_.push_back(std::move(proposal));
  }

  // What the apply thread does, `told`: and what it tells the loop.
  void apply_one(bool told) {
    const raft::Proposal& proposal = log_[applied_++];
    if (proposal.kind == raft::EntryKind::kSessionOpen) {
      wire::SessionOwner owner;
      ASSERT_TRUE(wire::SessionOwner::decode(proposal.payload.view(), owner));
      table_.open(SessionId(applied_), owner);
      if (told) {
        local_session_ = SessionId(applied_);
        bench_.holder.session_opened(local_session_, owner.incarnation);
      }
      return;
    }
    auto verdict = table_.admit(proposal.session, proposal.sequence, proposal.acked_below);
    if (verdict != SessionTable::Verdict::kApply) return;
    executed_[std::string(proposal.payload.text())].push_back(applied_);
    if (told && proposal.session == local_session_) {
      bench_.applied(proposal.session.value(), proposal.sequence.value(), applied_,
                     "did " + std::string(proposal.payload.text()));
    }
  }

  void apply(size_t count) {
    for (; count > 0 && applied_ < log_.size(); --count) apply_one(true);
  }

  void snapshot(size_t count) {
    if (count == 0) return;
    for (; count > 0; --count) apply_one(false);
    if (table_.find(local_session_) == nullptr) local_session_ = SessionId();
    bench_.state_replaced(table_);
  }

  void reads() {
    for (uint64_t context : std::exchange(bench_.asked, {})) {
      if (random_.chance(20)) {
        bench_.holder.read_dropped(context);
      } else if (random_.chance(70)) {
        bench_.holder.read_index(context, Index(log_.size()));
      }
    }
    for (ReadTask& task : bench_.take_reads(applied_)) {
      bench_.holder.read_done(task.ref,
                              {ReplyCode::kOk, task.request.view(), false, 0, Index(applied_)});
    }
  }

  void learn() {
    for (Client& client : clients_) {
      for (; client.checked < client.recorder->codes.size(); ++client.checked) {
        if (client.recorder->codes[client.checked] == ReplyCode::kOk) {
          highest_answered_ =
              std::max(highest_answered_, client.recorder->indexes[client.checked].value());
        }
      }
    }
  }

  void check() {
    for (const Client& client : clients_) {
      const RecordingClient& got = *client.recorder;
      if (got.stream) {
        ASSERT_EQ(got.codes.size(), client.requests.size()) << "requests without an answer";
      }
      uint64_t last = 0;
      for (size_t i = 0; i < client.requests.size(); ++i) {
        const Asked& asked = client.requests[i];
        auto found = executed_.find(asked.text);
        size_t times = found == executed_.end() ? 0 : found->second.size();
        ASSERT_LE(times, 1u) << asked.text << " was applied more than once";
        if (times == 1) {
          ASSERT_GT(found->second[0], last) << asked.text << " was applied before an earlier one";
          last = found->second[0];
        }
        if (i >= got.codes.size()) continue;
        switch (got.codes[i]) {
          case ReplyCode::kOk:
            if (asked.kind == 'w') {
              ASSERT_EQ(times, 1u) << asked.text << " was acknowledged and never applied";
              ASSERT_EQ(got.texts[i], "did " + asked.text) << "another request's reply";
              ASSERT_EQ(got.indexes[i].value(), found->second[0]);
              ++acknowledged;
            } else {
              ASSERT_EQ(got.texts[i], asked.text) << "another request's reply";
              ASSERT_GE(got.indexes[i].value(), asked.floor) << asked.text << " saw an old state";
            }
            break;
          case ReplyCode::kUnknown:
            ASSERT_EQ(asked.kind, 'w');
            ++unknown;
            break;
          case ReplyCode::kNoLeader:
            ASSERT_EQ(times, 0u) << asked.text << " was refused and applied";
            ++refused;
            break;
          default:
            FAIL() << got.reply(i);
        }
      }
    }
    EXPECT_EQ(bench_.holder.held(), 0u);
    EXPECT_EQ(bench_.holder.held_bytes(), 0u);
  }

  Random random_;
  HolderBench bench_;
  std::vector<Client> clients_;
  std::vector<Message> on_the_way_;
  std::vector<raft::Proposal> log_;
  size_t applied_ = 0;
  SessionTable table_;
  SessionId local_session_;
  Term term_{5};
  uint64_t next_request_ = 0;
  uint64_t highest_answered_ = 0;
  std::map<std::string, std::vector<uint64_t>> executed_;

 public:
  uint64_t acknowledged = 0;
  uint64_t unknown = 0;
  uint64_t refused = 0;
};

TEST(HolderUnderChaos, LosesDoublesAndReordersNothing) {
  uint64_t acknowledged = 0;
  uint64_t unknown = 0;
  uint64_t refused = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(seed);
    Chaos chaos(seed);
    chaos.run();
    if (HasFatalFailure() || HasNonfatalFailure()) return;
    acknowledged += chaos.acknowledged;
    unknown += chaos.unknown;
    refused += chaos.refused;
  }
  // Every outcome was met.
  EXPECT_GT(acknowledged, 10000u);
  EXPECT_GT(unknown, 1000u);
  EXPECT_GT(refused, 100u);
}

}  // namespace
}  // namespace connectd::node

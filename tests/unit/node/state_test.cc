// The genesis, the session table and the replicated state: their rules and their bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/limits.h"
#include "node/apply/replicated_state.h"

namespace connectd::node {
namespace {

using ::testing::HasSubstr;
using Verdict = SessionTable::Verdict;

Genesis sample_genesis() {
  Genesis genesis;
  genesis.cluster_id.bytes = {1, 2, 3};
  genesis.cluster_name = "demo";
  genesis.max_request = 1 << 20;
  genesis.plugin_name = "kv";
  genesis.plugin_level = 3;
  genesis.settings.election_timeout = std::chrono::milliseconds(700);
  genesis.plugin_options = {{"limits.keys", "100"}, {"start", ""}};
  for (uint64_t id : {1, 2, 7}) {
    GenesisMember member;
    member.id = NodeId(id);
    member.disk_id.bytes[15] = static_cast<uint8_t>(id);
    member.peer_address = fmt::format("10.0.0.{}:7101", id);
    member.client_address = fmt::format("10.0.0.{}:7201", id);
    member.http_address = fmt::format("10.0.0.{}:7301", id);
    genesis.members.push_back(member);
  }
  return genesis;
}

// ---- the genesis

TEST(Genesis, IsReadBackAsItWasWritten) {
  Genesis genesis = sample_genesis();
  auto read = Genesis::decode(as_bytes(genesis.encode()));
  ASSERT_TRUE(read) << read.error().text;
  EXPECT_EQ(*read, genesis);
  EXPECT_EQ(read->encode(), genesis.encode());
  EXPECT_EQ(read->find(NodeId(7))->peer_address, "10.0.0.7:7101");
  EXPECT_EQ(read->find(NodeId(3)), nullptr);
  EXPECT_EQ(read->conf().voters, (std::vector{NodeId(1), NodeId(2), NodeId(7)}));
}

TEST(Genesis, CutAnywhereOrTooLongIsRefused) {
  std::string document = sample_genesis().encode();
  for (size_t length = 0; length < document.size(); ++length) {
    auto read = Genesis::decode(as_bytes(document.substr(0, length)));
    ASSERT_FALSE(read) << "with " << length << " of " << document.size() << " bytes";
    EXPECT_EQ(read.error().kind, ErrorKind::kCorrupt);
  }
  EXPECT_FALSE(Genesis::decode(as_bytes(document + '\0')));
}

TEST(Genesis, AnotherVersionIsNamed) {
  std::string document = sample_genesis().encode();
  document[0] = 9;
  auto read = Genesis::decode(as_bytes(document));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kNewerVersion);
  EXPECT_THAT(read.error().text, HasSubstr("format version 9, this connectd reads version 1"));
}

TEST(Genesis, MembersMustBeSortedAndReal) {
  auto refused = [](auto change) {
    Genesis genesis = sample_genesis();
    change(genesis);
    return !Genesis::decode(as_bytes(genesis.encode()));
  };
  EXPECT_FALSE(refused([](Genesis&) {}));
  EXPECT_TRUE(refused([](Genesis& genesis) { std::swap(genesis.members[0], genesis.members[1]); }));
  EXPECT_TRUE(refused([](Genesis& genesis) { genesis.members[1].id = NodeId(1); }));
  EXPECT_TRUE(refused([](Genesis& genesis) { genesis.members[0].id = NodeId(); }));
  EXPECT_TRUE(refused([](Genesis& genesis) { genesis.members.clear(); }));
  EXPECT_TRUE(refused([](Genesis& genesis) { genesis.cluster_id = ClusterId(); }));
  EXPECT_TRUE(refused([](Genesis& genesis) {
    for (uint64_t id = 8; genesis.members.size() <= kMaxMembers; ++id) {
      genesis.members.push_back(genesis.members[0]);
      genesis.members.back().id = NodeId(id);
    }
  }));
}

TEST(Genesis, IsTheSameFirstEntryForEveryFounder) {
  raft::Entry entry = sample_genesis().entry();
  EXPECT_EQ(entry.index, Index(1));
  EXPECT_EQ(entry.term, Term(1));
  EXPECT_EQ(entry.kind, raft::EntryKind::kGenesis);
  EXPECT_EQ(entry.checksum, raft::entry_checksum(entry));
  EXPECT_EQ(entry.checksum, sample_genesis().entry().checksum);
  EXPECT_EQ(entry.payload.text(), sample_genesis().encode());
}

// ---- sessions

TEST(SessionTable, AppliesExactlyTheNextSequence) {
  SessionTable table;
  table.open(SessionId(5), {NodeId(1), 11});
  auto admit = [&](uint64_t sequence) {
    return table.admit(SessionId(5), Sequence(sequence), Sequence(sequence));
  };
  EXPECT_EQ(admit(2), Verdict::kGap);
  EXPECT_EQ(admit(1), Verdict::kApply);
  EXPECT_EQ(admit(1), Verdict::kDuplicate);
  EXPECT_EQ(admit(0), Verdict::kDuplicate);
  EXPECT_EQ(admit(3), Verdict::kGap);
  EXPECT_EQ(admit(2), Verdict::kApply);
  EXPECT_EQ(table.find(SessionId(5))->last, Sequence(2));
  EXPECT_EQ(table.find(SessionId(5))->acked_below, Sequence(2));
  EXPECT_EQ(table.admit(SessionId(6), Sequence(1), Sequence(1)), Verdict::kGone);
  EXPECT_EQ(table.admit(SessionId(), Sequence(1), Sequence(1)), Verdict::kGone);
}

TEST(SessionTable, AcknowledgementsOnlyRise) {
  SessionTable table;
  table.open(SessionId(5), {NodeId(1), 11});
  table.admit(SessionId(5), Sequence(1), Sequence(9));
  table.admit(SessionId(5), Sequence(2), Sequence(3));
  EXPECT_EQ(table.find(SessionId(5))->acked_below, Sequence(9));
}

TEST(SessionTable, OpeningClosesTheOneThatTheNodeHadAndNoOther) {
  SessionTable table;
  table.open(SessionId(5), {NodeId(1), 11});
  table.open(SessionId(6), {NodeId(2), 22});
  table.open(SessionId(7), {NodeId(1), 11});
  EXPECT_EQ(table.size(), 2u);
  EXPECT_EQ(table.admit(SessionId(5), Sequence(1), Sequence(1)), Verdict::kGone);
  EXPECT_EQ(table.admit(SessionId(6), Sequence(1), Sequence(1)), Verdict::kApply);
  EXPECT_EQ(table.admit(SessionId(7), Sequence(1), Sequence(1)), Verdict::kApply);
  table.open(SessionId(8), {NodeId(1), 12});
  EXPECT_EQ(table.find(SessionId(7)), nullptr);
}

TEST(SessionTable, ThoseOfARemovedNodeAreClosed) {
  SessionTable table;
  table.open(SessionId(5), {NodeId(1), 1});
  table.open(SessionId(6), {NodeId(2), 1});
  table.close_all_of(NodeId(1));
  EXPECT_EQ(table.find(SessionId(5)), nullptr);
  EXPECT_NE(table.find(SessionId(6)), nullptr);
  EXPECT_EQ(table.admit(SessionId(5), Sequence(1), Sequence(1)), SessionTable::Verdict::kGone);
}

TEST(SessionTable, IsReadBackAsItWasWritten) {
  SessionTable table;
  for (uint64_t node = 1; node <= 5; ++node) table.open(SessionId(10 + node), {NodeId(node), node});
  table.admit(SessionId(13), Sequence(1), Sequence(1));
  std::string bytes;
  table.encode(bytes);
  for (size_t length = 0; length <= bytes.size(); ++length) {
    ByteReader in(as_bytes(bytes).first(length));
    SessionTable read;
    ASSERT_EQ(SessionTable::decode(in, read), length == bytes.size()) << length;
    if (length == bytes.size()) {
      EXPECT_TRUE(in.done());
      EXPECT_EQ(read, table);
    }
  }
}

TEST(SessionTable, AbsurdCountIsRefused) {
  std::string bytes(4, '\xff');
  bytes.resize(4 + 40 * 100, '\1');
  ByteReader in(as_bytes(bytes));
  SessionTable read;
  EXPECT_FALSE(SessionTable::decode(in, read));
}

// ---- the replicated state

ReplicatedState sample_state() {
  ReplicatedState state = ReplicatedState::at_genesis(sample_genesis());
  state.applied = Index(100);
  state.applied_term = Term(7);
  state.stamp_ns = -5;
  state.digest = 0xfeedfacecafebeef;
  state.conf.learners = {NodeId(9)};
  state.sessions.open(SessionId(50), {NodeId(1), 4});
  state.settings.lease_reads = true;
  state.plugin_version = "1.2.3";
  state.skipped = {{Index(3), Term(1), 77}, {Index(9), Term(2), 78}};
  return state;
}

TEST(ReplicatedState, IsReadBackAsItWasWrittenAndCutAnywhereIsRefused) {
  ReplicatedState state = sample_state();
  std::string bytes = state.encode();
  auto read = ReplicatedState::decode(as_bytes(bytes));
  ASSERT_TRUE(read) << read.error().text;
  EXPECT_EQ(read->encode(), bytes);
  EXPECT_EQ(read->applied, state.applied);
  EXPECT_EQ(read->applied_term, state.applied_term);
  EXPECT_EQ(read->stamp_ns, state.stamp_ns);
  EXPECT_EQ(read->digest, state.digest);
  EXPECT_EQ(read->conf, state.conf);
  EXPECT_EQ(read->genesis, state.genesis);
  EXPECT_EQ(read->members, state.members);
  EXPECT_EQ(read->settings, state.settings);
  EXPECT_EQ(read->sessions, state.sessions);
  EXPECT_EQ(read->plugin_version, "1.2.3");
  EXPECT_EQ(read->skipped, state.skipped);
  for (size_t length = 0; length < bytes.size(); ++length) {
    ASSERT_FALSE(ReplicatedState::decode(as_bytes(bytes).first(length))) << length;
  }
  EXPECT_FALSE(ReplicatedState::decode(as_bytes(bytes + "x")));
  bytes[0] = 99;
  EXPECT_EQ(ReplicatedState::decode(as_bytes(bytes)).error().kind, ErrorKind::kNewerVersion);
}

// From a peer's snapshot: a leader counts on from there.
TEST(ReplicatedState, StampBeyondAllTimesIsRefused) {
  ReplicatedState state = sample_state();
  for (const auto& [stamp, is_good] : {std::pair{kMaxReceivedStampNs, true},
                                       {kMaxReceivedStampNs + 1, false},
                                       {INT64_MAX, false},
                                       {INT64_MIN, false},
                                       {int64_t{-1}, true}}) {
    state.stamp_ns = stamp;
    const std::string bytes = state.encode();
    EXPECT_EQ(ReplicatedState::decode(as_bytes(bytes)).has_value(), is_good) << stamp;
  }
}

TEST(ReplicatedState, DigestCoversAllThatAnEntryResultedIn) {
  auto digest = [](Index index, raft::EntryKind kind, int32_t status, std::string_view reply,
                   uint64_t before = 1) {
    ReplicatedState state;
    state.digest = before;
    state.extend_digest(index, kind, status, as_bytes(reply));
    return state.digest;
  };
  uint64_t usual = digest(Index(5), raft::EntryKind::kCommand, 0, "a");
  EXPECT_EQ(usual, digest(Index(5), raft::EntryKind::kCommand, 0, "a"));
  EXPECT_NE(usual, digest(Index(6), raft::EntryKind::kCommand, 0, "a"));
  EXPECT_NE(usual, digest(Index(5), raft::EntryKind::kTick, 0, "a"));
  EXPECT_NE(usual, digest(Index(5), raft::EntryKind::kCommand, 1, "a"));
  EXPECT_NE(usual, digest(Index(5), raft::EntryKind::kCommand, 0, "b"));
  EXPECT_NE(usual, digest(Index(5), raft::EntryKind::kCommand, 0, "a", 2));
}

}  // namespace
}  // namespace connectd::node

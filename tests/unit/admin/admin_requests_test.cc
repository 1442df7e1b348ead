#include "admin/admin_requests.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "admin/limits.h"

namespace connectd::admin {
namespace {

using node::MemberChange;
using Kind = MemberChange::Kind;
using ::testing::HasSubstr;

// Every member with a value that is not its default.
MemberChange full_change(Kind kind) {
  MemberChange change;
  change.kind = kind;
  change.member = {NodeId(4), DiskId(), "h:1", "h:2", "[fe80::1]:3"};
  change.learner_only = true;
  change.force = true;
  change.expected = Index(UINT64_MAX);
  return change;
}

void expect_equal(const Result<MemberChange>& read, const MemberChange& wanted) {
  ASSERT_TRUE(read) << read.error().text;
  EXPECT_EQ(read->kind, wanted.kind);
  EXPECT_EQ(read->member, wanted.member);
  EXPECT_EQ(read->learner_only, wanted.learner_only);
  EXPECT_EQ(read->force, wanted.force);
  EXPECT_EQ(read->expected, wanted.expected);
}

template <class Value>
std::string error_of(const Result<Value>& read) {
  if (read) return "";
  EXPECT_EQ(read.error().kind, ErrorKind::kUsage);
  return read.error().text;
}

TEST(AdminRequests, MemberChangesAreReadAsWritten) {
  for (Kind kind : {Kind::kAdd, Kind::kPromote, Kind::kRemove, Kind::kReplace}) {
    MemberChange plain;
    plain.kind = kind;
    plain.member.id = NodeId(4);
    for (const MemberChange& change : {plain, full_change(kind)}) {
      const std::string body = to_body(change);
      SCOPED_TRACE(body);
      expect_equal(parse_member_change(body), change);
      EXPECT_THAT(error_of(parse_leader_change(body)), HasSubstr("unknown action"));
    }
  }
}

// The parser keeps the last one.
TEST(AdminRequests, FieldThatIsThereTwiceIsRefused) {
  for (const char* body :
       {R"({"action":"remove","id":2,"id":3})", R"({"action":"remove","\u0069d":2,"id":3})",
        R"({"action":"add","action":"remove","id":3})"}) {
    EXPECT_EQ(error_of(parse_member_change(body)), "the body has a field twice") << body;
  }
  EXPECT_EQ(error_of(parse_setting_change(R"({"key":"a:{\"b","value":"[:\\"})")), "");
}

TEST(AdminRequests, AddressThatCannotBeDialledIsRefused) {
  for (const char* address : {"0.0.0.0:7101", "[::]:7101"}) {
    MemberChange change;
    change.kind = Kind::kAdd;
    change.member.id = NodeId(4);
    change.member.peer_address = address;
    EXPECT_THAT(error_of(parse_member_change(to_body(change))),
                HasSubstr("no address that others can dial"));
  }
}

TEST(AdminRequests, TransfersAreReadAsWritten) {
  MemberChange change;
  change.kind = Kind::kTransfer;
  expect_equal(parse_leader_change(to_body(change)), change);
  change.member.id = NodeId(2);
  expect_equal(parse_leader_change(to_body(change)), change);
  EXPECT_EQ(error_of(parse_member_change(to_body(change))), "unknown action 'transfer'");
}

TEST(AdminRequests, SettingChangesAreReadAsWritten) {
  for (const SettingChange& change :
       {SettingChange{"raft.lease_reads", "true"}, SettingChange{"k", ""},
        SettingChange{"k", std::string(kMaxSettingBytes, '"')}}) {
    auto read = parse_setting_change(to_body(change));
    ASSERT_TRUE(read) << read.error().text;
    EXPECT_EQ(read->key, change.key);
    EXPECT_EQ(read->value, change.value);
  }
}

TEST(AdminRequests, SnapshotVerbsAreReadAsWritten) {
  auto take = parse_snapshot_verb(to_body(TakeSnapshot{}));
  ASSERT_TRUE(take);
  EXPECT_TRUE(std::holds_alternative<TakeSnapshot>(*take));
  auto list = parse_snapshot_verb(to_body(ListSnapshots{}));
  ASSERT_TRUE(list);
  EXPECT_TRUE(std::holds_alternative<ListSnapshots>(*list));
  for (uint64_t offset : {uint64_t{0}, uint64_t{1} << 40}) {
    auto piece = parse_snapshot_verb(to_body(SnapshotPiece{"a.snap", offset, kMaxSnapshotPiece}));
    ASSERT_TRUE(piece);
    ASSERT_TRUE(std::holds_alternative<SnapshotPiece>(*piece));
    EXPECT_EQ(std::get<SnapshotPiece>(*piece).name, "a.snap");
    EXPECT_EQ(std::get<SnapshotPiece>(*piece).offset, offset);
    EXPECT_EQ(std::get<SnapshotPiece>(*piece).length, size_t{kMaxSnapshotPiece});
  }
}

// Older and newer connectctl send these; docs/operations.md has them.
TEST(AdminRequests, BodiesKeepTheirForm) {
  EXPECT_EQ(to_body(full_change(Kind::kAdd)),
            R"({"action":"add","id":4,"peer":"h:1","client":"h:2","http":"[fe80::1]:3",)"
            R"("learner":true,"force":true,"if_index":18446744073709551615})");
  EXPECT_EQ(to_body(SettingChange{"k", "v"}), R"({"key":"k","value":"v"})");
  EXPECT_EQ(to_body(SnapshotPiece{"a", 1, 2}),
            R"({"action":"read","name":"a","offset":1,"length":2})");
  EXPECT_EQ(to_body(TakeSnapshot{}), R"({"action":"take"})");
}

TEST(AdminRequests, InvalidBodiesAreRefusedWithTheReason) {
  EXPECT_EQ(error_of(parse_member_change("[]")), "the body must be a JSON object");
  EXPECT_EQ(error_of(parse_member_change(R"({"id":1})")), "missing 'action'");
  EXPECT_EQ(error_of(parse_member_change(R"({"action":"rename","id":1})")),
            "unknown action 'rename'");
  EXPECT_EQ(error_of(parse_member_change(R"({"action":"add","id":-1})")),
            "id must be a non-negative integer");
  EXPECT_EQ(error_of(parse_member_change(R"({"action":"add","id":"1"})")),
            "'id' is unknown or has a value of the wrong type");
  EXPECT_EQ(error_of(parse_member_change(R"({"action":"add","learner":1})")),
            "'learner' is unknown or has a value of the wrong type");
  EXPECT_THAT(error_of(parse_member_change(R"({"action":"add","peer":"nowhere"})")),
              HasSubstr("peer: "));
  EXPECT_EQ(error_of(parse_member_change(R"({"action":"add","colour":"red"})")),
            "'colour' is unknown or has a value of the wrong type");
  EXPECT_EQ(error_of(parse_setting_change(R"({"value":"v"})")), "missing 'key'");
  EXPECT_EQ(error_of(parse_setting_change(R"({"key":"k","value":")" +
                                          std::string(kMaxSettingBytes + 1, 'x') + "\"}")),
            "'value' has more than 256 bytes");
  EXPECT_EQ(error_of(parse_snapshot_verb(R"({"action":"read","length":1})")),
            "missing 'name', as listed");
  EXPECT_THAT(error_of(parse_snapshot_verb(R"({"action":"read","name":"a"})")),
              HasSubstr("'length' must be from 1 to "));
}

}  // namespace
}  // namespace connectd::admin

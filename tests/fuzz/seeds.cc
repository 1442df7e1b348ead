// Writes good inputs for every target: fuzz_seeds FOLDER makes FOLDER/<target>/seed-<what>.
#include <filesystem>
#include <fstream>

#include "base/log.h"
#include "config/reference.h"
#include "node/apply/replicated_state.h"
#include "node/membership/genesis.h"
#include "sim/faulty_file_system.h"
#include "storage/identity.h"
#include "storage/log.h"
#include "storage/snapshot_store.h"
#include "wire/entry_codec.h"
#include "wire/peer_codec.h"

namespace connectd {
namespace {

std::filesystem::path folder;

void seed(const std::string& target, const std::string& what, const std::string& bytes) {
  std::filesystem::create_directories(folder / target);
  std::ofstream out(folder / target / ("seed-" + what), std::ios::binary);
  out << bytes;
  CHECK(out.good()) << "cannot write the seed " << what;
}

raft::Entry entry(uint64_t index, uint64_t term, raft::EntryKind kind, std::string_view payload) {
  raft::Entry entry;
  entry.index = Index(index);
  entry.term = Term(term);
  entry.kind = kind;
  entry.session = SessionId(2);
  entry.sequence = Sequence(index);
  entry.acked_below = Sequence(1);
  entry.stamp_ns = static_cast<int64_t>(index);
  entry.payload = Slice::copy_of(payload);
  entry.checksum = raft::entry_checksum(entry);
  return entry;
}

node::Genesis genesis() {
  node::Genesis genesis;
  genesis.cluster_id.bytes[0] = 1;
  genesis.cluster_name = "demo";
  genesis.max_request = 1 << 20;
  genesis.plugin_name = "counter";
  genesis.plugin_level = 1;
  genesis.plugin_options = {{"a.b", "c"}};
  for (uint64_t id = 1; id <= 3; ++id) {
    node::GenesisMember member{NodeId(id), {}, "h:1", "h:2", "h:3"};
    member.disk_id.bytes[0] = static_cast<uint8_t>(id);
    genesis.members.push_back(member);
  }
  return genesis;
}

void peer_frames() {
  std::vector<std::pair<std::string, wire::PeerMessage>> messages;
  auto say = [&](const char* name, raft::Message message) {
    messages.emplace_back(name, raft::Envelope{NodeId(1), NodeId(2), Term(3), std::move(message)});
  };
  say("prevote", raft::PreVoteRequest{Index(7), Term(2)});
  say("prevote-answer", raft::PreVoteResponse{true});
  say("vote", raft::VoteRequest{Index(7), Term(2), true});
  say("vote-answer", raft::VoteResponse{true, 12345});
  raft::AppendRequest append;
  append.prev_index = Index(6);
  append.prev_term = Term(2);
  append.commit = Index(6);
  append.round = 9;
  append.entries = {entry(7, 2, raft::EntryKind::kCommand, "incr 1"),
                    entry(8, 3, raft::EntryKind::kNoop, "")};
  say("append", std::move(append));
  raft::AppendResponse answer;
  answer.index = Index(6);
  answer.hint_index = Index(5);
  answer.hint_term = Term(1);
  say("append-answer", answer);
  say("heartbeat", raft::Heartbeat{Index(6), 10});
  say("heartbeat-answer", raft::HeartbeatResponse{10, 12345});
  say("timeout-now", raft::TimeoutNow{});
  say("read", raft::ReadIndexRequest{77});
  say("read-answer", raft::ReadIndexResponse{77, Index(8)});
  wire::ForwardProposals forward{Term(3), {}};
  forward.proposals.push_back({raft::EntryKind::kCommand, SessionId(2), Sequence(1), Sequence(1),
                               Slice::copy_of("incr 1")});
  messages.emplace_back("forward", std::move(forward));
  messages.emplace_back("forward-refused", wire::ForwardRefused{Term(3), Term(4), NodeId(3)});
  const wire::SnapshotFile file{{Index(8), Term(3)}, 100, 99};
  messages.emplace_back("chunk",
                        wire::SnapshotChunk{file, Term(3), 40, Slice::copy_of("some bytes")});
  messages.emplace_back("chunk-answer",
                        wire::SnapshotAck{file, 50, wire::SnapshotAck::State::kInstalled});
  messages.emplace_back("offer", wire::SnapshotOffer{file, Term(3)});
  messages.emplace_back("genesis", wire::GenesisOffer{genesis().encode()});
  messages.emplace_back("genesis-answer", wire::GenesisAccepted{123});
  messages.emplace_back("digest", wire::DigestReport{Term(3), wire::Compared::kReplies, true, 5, 0,
                                                     Index(8), 99, Index(1), Index(8)});
  messages.emplace_back("digest-query",
                        wire::DigestQuery{Term(3), wire::Compared::kState, Index(8)});
  messages.emplace_back(
      "verdict", wire::DivergenceVerdict{Term(3), wire::Compared::kReplies,
                                         wire::DivergenceVerdict::Kind::kNoMajority, Index(7),
                                         Index(8), 1, 2});
  messages.emplace_back("change", wire::ChangeRequest{7, "change"});
  messages.emplace_back("change-answer", wire::ChangeAnswer{7, "outcome"});
  messages.emplace_back("disk-report", wire::DiskReport{Term(3), true, false, true});
  std::string stream(1, '\0');
  auto by_type = [&](const std::string& name, const std::string& frame) {
    stream += frame;
    seed("peer_frames", name,
         std::string("\x01") + frame[8] + frame.substr(wire::kFrameHeaderBytes));
  };
  wire::Hello hello;
  hello.cluster_name = "demo";
  hello.node_id = NodeId(1);
  hello.to = NodeId(2);
  hello.plugin_name = "counter";
  hello.plugin_level_max = 1;
  hello.peer_address = "h:1";
  hello.members_index = Index(9);
  std::string frame;
  wire::append_hello(frame, hello);
  by_type("hello", frame);
  hello.cluster_id.bytes.fill(2);
  hello.former_cluster_ids.emplace_back().bytes.fill(1);
  hello.skipped_entries = {{Index(57), Term(2), 3}, {Index(58), Term(2), 4}};
  frame.clear();
  wire::append_hello(frame, hello);
  by_type("hello-history", frame);
  frame.clear();
  wire::append_refusal(frame, {wire::RefusalCode::kDiskId, "another disk"});
  by_type("refusal", frame);
  for (const auto& [name, message] : messages) {
    frame.clear();
    CHECK(wire::append_frame(frame, message));
    by_type(name, frame);
  }
  seed("peer_frames", "stream", stream);
}

void framings() {
  auto of = [](char framing, std::string_view stream) {
    return std::string{framing, '\x20', '\x02', '\x00', '\x04'} + std::string(stream);
  };
  seed("framings", "line", of(0, "incr 1\r\nget\n\nadd 5\n"));
  seed("framings", "resp",
       of(1, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\nbc\r\nGET a\r\n*1\r\n$4\r\nPING\r\nQUIT\r\n"));
  seed("framings", "resp-bad", of(1, "*2\r\n$-1\r\n$99999999999\r\n"));
  seed("framings", "resp-large",
       of(1, "*2\r\n$3\r\nGET\r\n$400\r\n" + std::string(400, 'x') + "\r\nPING\r\n"));
  seed("framings", "length",
       of(2, std::string("\x03\0\0\0get\0\0\0\0\x02\0\0\0ab\xff\xff\xff\xff", 20)));
}

void log_segments() {
  sim::FaultyFileSystem files;
  storage::LogOptions options;
  options.segment_bytes = storage::kMinSegmentBytes;
  storage::Recovered recovered;
  auto log = *storage::Log::open(files, "log", options, {}, recovered);
  auto append = [&](std::vector<raft::Entry> entries, std::optional<Index> replaces) {
    storage::LogBatch batch;
    batch.hard_state = {entries.empty() ? Term(4) : entries.back().term, NodeId(2), Index(1)};
    batch.replaces_from = replaces;
    batch.entries = entries;
    auto done = log->append(std::span(&batch, 1));
    CHECK(done) << done.error().text;
  };
  const std::string first = "log/0000000000000001.wal";
  auto trimmed = [](std::string bytes) {
    bytes.resize(bytes.find_last_not_of('\0') + 1);
    return bytes;
  };
  append({entry(1, 1, raft::EntryKind::kGenesis, genesis().encode())}, std::nullopt);
  append({entry(2, 1, raft::EntryKind::kNoop, ""), entry(3, 1, raft::EntryKind::kCommand, "abc")},
         std::nullopt);
  append({entry(3, 2, raft::EntryKind::kNoop, ""),
          entry(4, 2, raft::EntryKind::kConfChange, genesis().conf().encode())},
         Index(3));
  append({}, std::nullopt);
  for (char flags : {'\x00', '\x01'}) {
    seed("log_segments", flags == 0 ? "one" : "one-repaired",
         std::string(1, flags) + trimmed(files.content(first)));
  }
  seed("log_segments", "snapshot", std::string("\x0d\x02", 2) + trimmed(files.content(first)));
  CHECK(log->seal_if_idle(Time{}));
  CHECK(log->seal_if_idle(Time{} + std::chrono::seconds(1)));
  seed("log_segments", "sealed", std::string(1, '\x01') + trimmed(files.content(first)));
  append({entry(5, 4, raft::EntryKind::kCommand, std::string(1500, 'x'))}, std::nullopt);
  append({entry(6, 4, raft::EntryKind::kCommand, std::string(1500, 'y'))}, std::nullopt);
  append({entry(7, 4, raft::EntryKind::kCommand, "z")}, std::nullopt);
  std::string one = trimmed(files.content(first));
  std::string two = std::string(1, '\x03');
  two += static_cast<char>(one.size() & 255);
  two += static_cast<char>(one.size() >> 8);
  seed("log_segments", "two", two + one + trimmed(files.content("log/0000000000000002.wal")));
}

void snapshot_files() {
  for (int level : {0, 1}) {
    sim::FaultyFileSystem files;
    auto store = *storage::SnapshotStore::open(files, "s", {2, level});
    auto writer = *store->begin({Index(9), Term(2)}, as_bytes("metadata"));
    std::string state;
    for (int i = 0; i < 100; ++i) state += fmt::format("key{} value{};", i, i % 7);
    CHECK(writer->write(as_bytes(state)));
    auto info = writer->finish();
    CHECK(info);
    std::string content = files.content("s/" + info->name);
    seed("snapshot_files", level == 0 ? "stored" : "compressed", std::string(1, '\x01') + content);
    seed("snapshot_files", level == 0 ? "stored-raw" : "compressed-raw",
         std::string(1, '\x00') + content);
  }
}

void codecs() {
  uint8_t header[wire::kEntryHeaderBytes];
  raft::Entry some = entry(7, 2, raft::EntryKind::kCommand, "abc");
  wire::encode_entry_header(some, header);
  seed("codecs", "entry", std::string(1, '\0') + std::string(as_text(header)) + "abc");
  raft::ConfState conf = genesis().conf();
  conf.voters_outgoing = {NodeId(1), NodeId(4)};
  conf.learners = {NodeId(9)};
  seed("codecs", "conf", std::string(1, '\x01') + conf.encode());
  seed("codecs", "genesis", std::string(1, '\x02') + genesis().encode());
  node::ReplicatedState state = node::ReplicatedState::at_genesis(genesis());
  state.sessions.open(SessionId(2), {NodeId(1), 7});
  state.sessions.open(SessionId(3), {NodeId(2), 8});
  state.applied = Index(9);
  state.applied_term = Term(2);
  state.plugin_version = "1.0";
  state.skipped = {{Index(5), Term(2), 6}};
  seed("codecs", "state", std::string(1, '\x03') + state.encode());
  state.members.promote = {NodeId(2)};
  state.members.removed = {NodeId(7), NodeId(8)};
  node::RecoveryRecord record{genesis().cluster_id, {}, NodeId(1), 5, {}};
  record.id.bytes.fill(9);
  record.survivors = {{NodeId(1), Term(2), Index(7), Term(2)}};
  state.members.recoveries = {record};
  seed("codecs", "members", std::string(1, '\x07') + state.members.encode());
  node::MemberChange change;
  change.member = state.members.members[0];
  seed("codecs", "change", std::string(1, '\x08') + change.encode());
  seed("codecs", "outcome",
       std::string(1, '\x08') +
           node::ChangeOutcome{node::ChangeCode::kBusy, "later", Index(7)}.encode());
  std::string sessions;
  state.sessions.encode(sessions);
  seed("codecs", "sessions", std::string(1, '\x04') + sessions);
  seed("codecs", "owner", std::string(1, '\x05') + wire::SessionOwner{NodeId(1), 7}.encode());
  storage::Identity identity{NodeId(1), {}, {}, genesis().encode(), true};
  identity.former_cluster_ids = {genesis().cluster_id};
  identity.skips = {{Index(57), Term(2), 3}};
  identity.disk_id.bytes[3] = 4;
  identity.cluster_id = genesis().cluster_id;
  seed("codecs", "identity", std::string(1, '\x06') + storage::encode_identity(identity));
}

void configuration() {
  seed("configuration", "example", config::annotated_example());
  seed("configuration", "small",
       "node:\n  id: 1\n  data_dir: /tmp/x\ncluster:\n  name: demo\n  members:\n"
       "    - {id: 1, peer: \"127.0.0.1:1\", client: \"127.0.0.1:2\", http: \"127.0.0.1:3\"}\n"
       "plugin:\n  path: libcounter.so\n  options: {a: {b: 1}, c: [x, y]}\n"
       "raft: {heartbeat_interval: 50ms, election_timeout: 500ms}\n");
  seed("configuration", "wrong",
       "node: {id: one}\nraft:\n  tick: 5\n  tick: 10ms\nnodes: 3\n&a [*a]\n");
}

void values() {
  seed("values", "duration", std::string(1, '\0') + "1500ms");
  seed("values", "size", std::string(1, '\x01') + "64MiB");
  seed("values", "integer", std::string(1, '\x02') + "18446744073709551615");
  seed("values", "address", std::string(1, '\x03') + "db1.example.org:7101");
  seed("values", "address-v6", std::string(1, '\x03') + "[::1]:7101");
  seed("values", "target", std::string(1, '\x04') + "/readyz?a=b&verbose=1");
  seed("values", "read-level", std::string(1, '\x05') + "stale; max-age=500ms; min-index=123");
}

}  // namespace
}  // namespace connectd

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: fuzz_seeds FOLDER\n");
    return 64;
  }
  connectd::folder = argv[1];
  connectd::peer_frames();
  connectd::framings();
  connectd::log_segments();
  connectd::snapshot_files();
  connectd::codecs();
  connectd::configuration();
  connectd::values();
  return 0;
}

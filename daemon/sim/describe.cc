#include "sim/describe.h"

#include <fmt/format.h>

#include "base/overloaded.h"

namespace connectd::sim {
namespace {
constexpr size_t kMaxQuoted = 120;

std::string describe_raft(const raft::Envelope& envelope) {
  return std::visit(
      Overloaded{
          [&](const raft::PreVoteRequest& m) {
            return fmt::format("PreVoteRequest term={} last={}/{}", envelope.term, m.last_index,
                               m.last_term);
          },
          [&](const raft::PreVoteResponse& m) {
            return fmt::format("PreVoteResponse term={} {}", envelope.term,
                               m.granted ? "granted" : "refused");
          },
          [&](const raft::VoteRequest& m) {
            return fmt::format("VoteRequest term={} last={}/{}{}", envelope.term, m.last_index,
                               m.last_term, m.leader_transfer ? " transfer" : "");
          },
          [&](const raft::VoteResponse& m) {
            return fmt::format("VoteResponse term={} {}", envelope.term,
                               m.granted ? "granted" : "refused");
          },
          [&](const raft::AppendRequest& m) {
            return fmt::format("AppendRequest term={} prev={}/{} entries={} commit={} round={}",
                               envelope.term, m.prev_index, m.prev_term, m.entries.size(), m.commit,
                               m.round);
          },
          [&](const raft::AppendResponse& m) {
            return m.success
                       ? fmt::format("AppendResponse term={} ok to {}", envelope.term, m.index)
                       : fmt::format("AppendResponse term={} rejected {} hint={}/{}", envelope.term,
                                     m.index, m.hint_index, m.hint_term);
          },
          [&](const raft::Heartbeat& m) {
            return fmt::format("Heartbeat term={} commit={} round={}", envelope.term, m.commit,
                               m.round);
          },
          [&](const raft::HeartbeatResponse& m) {
            return fmt::format("HeartbeatResponse term={} round={}", envelope.term, m.round);
          },
          [&](const raft::TimeoutNow&) { return fmt::format("TimeoutNow term={}", envelope.term); },
          [&](const raft::ReadIndexRequest& m) {
            return fmt::format("ReadIndexRequest term={} context={}", envelope.term, m.context);
          },
          [&](const raft::ReadIndexResponse& m) {
            return fmt::format("ReadIndexResponse term={} context={} index={}", envelope.term,
                               m.context, m.index);
          },
      },
      envelope.message);
}

}  // namespace

std::string quoted(std::string_view bytes) {
  std::string text = "'";
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i == kMaxQuoted) return text + fmt::format("'... ({} bytes)", bytes.size());
    unsigned char c = static_cast<unsigned char>(bytes[i]);
    if (c == '\n') {
      text += "\\n";
    } else if (c == '\r') {
      text += "\\r";
    } else if (c < 0x20 || c >= 0x7f) {
      text += fmt::format("\\x{:02x}", c);
    } else {
      text += static_cast<char>(c);
    }
  }
  return text + "'";
}

std::string describe(const wire::PeerMessage& message) {
  return std::visit(
      Overloaded{
          [](const raft::Envelope& m) { return describe_raft(m); },
          [](const wire::ForwardProposals& m) {
            return fmt::format("ForwardProposals term={} count={}", m.leader_term,
                               m.proposals.size());
          },
          [](const wire::ForwardRefused& m) {
            return fmt::format("ForwardRefused term={}", m.leader_term);
          },
          [](const wire::SnapshotChunk& m) {
            return fmt::format("SnapshotChunk index={} offset={} bytes={} of {}", m.file.mark.index,
                               m.offset, m.bytes.size(), m.file.bytes);
          },
          [](const wire::SnapshotAck& m) {
            return fmt::format("SnapshotAck index={} received={} state={}", m.file.mark.index,
                               m.received, static_cast<int>(m.state));
          },
          [](const wire::SnapshotOffer& m) {
            return fmt::format("SnapshotOffer index={} bytes={} checksum={:016x}",
                               m.file.mark.index, m.file.bytes, m.file.checksum);
          },
          [](const auto&) { return std::string("another message"); },
      },
      message);
}

}  // namespace connectd::sim

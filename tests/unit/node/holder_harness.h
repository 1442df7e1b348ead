// A Holder with a host that only writes down what it is asked, and clients that write down what
// they are answered.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "node/apply/session_table.h"
#include "node/requests/holder.h"

namespace connectd::node {

using std::chrono::milliseconds;
using std::chrono::seconds;

inline const NodeId kSelf(2);
inline constexpr uint64_t kIncarnation = 77;

// "OK text", "NOLEADER text", ...
class RecordingClient final : public ReplyHandler {
 public:
  void on_reply(const Reply& reply) override {
    codes.push_back(reply.code);
    texts.emplace_back(as_text(reply.bytes));
    indexes.push_back(reply.index);
    plugin_refused.push_back(reply.plugin_refused);
    if (stream) pending_seen.push_back(stream->pending());
  }
  void on_replies_end() override {
    ++ends;
    if (close_at_end) stream.reset();
  }
  bool is_congested() const override { return congested; }
  void submit(std::string_view text) { stream->submit(as_bytes(text)); }
  std::string reply(size_t i) const {
    if (i >= codes.size()) return "(none)";
    return std::string(reply_code_name(codes[i])) + " " + texts[i];
  }

  std::unique_ptr<RequestStream> stream;
  std::vector<ReplyCode> codes;
  std::vector<std::string> texts;
  std::vector<Index> indexes;
  std::vector<bool> plugin_refused;
  std::vector<size_t> pending_seen;
  int ends = 0;
  bool close_at_end = false;
  bool congested = false;
};

// Requests: "w..." write, "r..." read, "l..." local read, "p" answered at once, "x" refused without
// a text, "X..." refused with its own text, "!" a plugin that fails.
inline Classified classify_by_letter(ByteView request) {
  std::string_view text = as_text(request);
  Classified classified;
  switch (text.empty() ? '?' : text.front()) {
    case 'w':
      classified.kind = RequestKind::kWrite;
      break;
    case 'r':
      classified.kind = RequestKind::kRead;
      break;
    case 'l':
      classified.kind = RequestKind::kReadLocal;
      break;
    case 'p':
      classified.kind = RequestKind::kReply;
      classified.reply = "pong";
      break;
    case 'X':
      classified.reply = text.substr(1);
      break;
    case '!':
      classified.plugin_failed = true;
      classified.reply = "it broke";
      break;
    default:
      break;
  }
  return classified;
}

struct LetterClassifier final : Classifier {
  Classified classify(ByteView request) override { return classify_by_letter(request); }
};

class HolderBench {
 public:
  struct Sent {
    NodeId to;
    Term term;
    std::vector<raft::Proposal> proposals;
  };

  explicit HolderBench(HolderLimits limits = {}, uint64_t incarnation = kIncarnation)
      : holder(kSelf, incarnation, limits, classifier, metrics) {
    advance();
  }

  void advance(Duration by = {}) {
    now += by;
    Effects out;
    holder.advance(now, progress, out);
    for (WritesToLeader& writes : out.writes) {
      sent.push_back({writes.leader, writes.term, std::move(writes.proposals)});
    }
    for (const raft::Event& event : out.events) {
      const auto& read = std::get<raft::ReadRequest>(event);
      asked.push_back(read.context);
      if (read.lease) asked_by_lease.push_back(read.context);
    }
  }
  std::unique_ptr<RecordingClient> connect() {
    auto client = std::make_unique<RecordingClient>();
    client->stream = holder.open_stream(*client);
    return client;
  }
  // Node 1 leads term 5, and this node's session 10 is open.
  void open_session(uint64_t id = 10) {
    holder.leader_changed(NodeId(1), Term(5), true);
    advance();
    holder.session_opened(SessionId(id), kIncarnation);
    sent.clear();
  }
  // Of everything sent since sent.clear(): "session/sequence:payload session/sequence:payload".
  std::string numbered() const {
    std::string text;
    for (const Sent& message : sent) {
      for (const raft::Proposal& proposal : message.proposals) {
        if (!text.empty()) text += ' ';
        text += proposal.kind == raft::EntryKind::kSessionOpen
                    ? "open"
                    : fmt::format("{}/{}:{}", proposal.session, proposal.sequence,
                                  proposal.payload.text());
      }
    }
    return text;
  }
  void applied(uint64_t session, uint64_t sequence, uint64_t index, std::string_view reply) {
    holder.applied(SessionId(session), Sequence(sequence), Index(index), 0, as_bytes(reply));
  }
  void state_replaced(const SessionTable& table) {
    const auto* session = table.find(holder.session());
    holder.state_replaced(session == nullptr ? std::optional<Sequence>() : session->last);
  }
  std::vector<ReadTask> take_reads(uint64_t handed) {
    std::vector<ReadTask> reads;
    holder.take_reads(Index(handed), reads);
    return reads;
  }

  Time now{seconds(1000)};
  Progress progress;
  std::vector<Sent> sent;
  std::vector<uint64_t> asked;
  std::vector<uint64_t> asked_by_lease;  // those of `asked` for which a lease is enough
  std::shared_ptr<Metrics> metrics = std::make_shared<Metrics>();
  LetterClassifier classifier;
  Holder holder;
};

}  // namespace connectd::node

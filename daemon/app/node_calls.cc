#include "app/node_calls.h"

#include <fmt/format.h>

#include <boost/asio/post.hpp>
#include <memory>
#include <optional>
#include <utility>

#include "wire/framing.h"

namespace connectd::app {

// One request over HTTP: a stream of its own, which ends with its only reply. Deletes itself then.
class NodeCalls::Call final : public node::ReplyHandler {
 public:
  Call(NodeCalls& calls, std::function<void(admin::CallResult)> done)
      : calls_(calls),
        done_(std::move(done)),
        until_(read_clocks().time + calls.call_timeout_ + admin::kCallGrace) {
    calls_.begun_.insert(this);
  }
  ~Call() { calls_.begun_.erase(this); }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  void start(node::Service& service, ByteView bytes, const admin::CallRequest& request) {
    stream_ = service.open_stream(*this);
    stream_->set_rights(request.rights);
    stream_->submit(bytes, request.read);
  }
  void resume() { stream_->resume(); }
  // The server has answered without it.
  bool is_late(Time now) const { return now >= until_; }

  bool is_congested() const override { return !calls_.replies_->has_room(); }
  void on_reply(const node::Reply& reply) override {
    result_ = {reply.code,   {},          reply.plugin_refused,
               reply.status, reply.index, calls_.replies_->hold(reply.bytes.size())};
    if (result_.held != nullptr) {
      result_.bytes = as_text(reply.bytes);
      if (reply.code == node::ReplyCode::kNoLeader || reply.code == node::ReplyCode::kUnknown) {
        result_.bytes += calls_.no_majority();
      }
      return;
    }
    result_.plugin_refused = false;
    const bool executed = reply.code == node::ReplyCode::kOk;
    if (executed) result_.code = node::ReplyCode::kUnknown;
    result_.bytes = fmt::format(
        "{} answer of {} bytes was dropped: others that are not read use the memory for it",
        executed ? "the request was executed, but its" : "the", reply.bytes.size());
  }
  void on_replies_end() override {
    done_(std::move(result_));
    delete this;
  }

 private:
  NodeCalls& calls_;
  std::function<void(admin::CallResult)> done_;
  const Time until_;
  std::unique_ptr<node::RequestStream> stream_;
  admin::CallResult result_;
};

NodeCalls::NodeCalls(boost::asio::io_context& io, NodeAccess& access, SnapshotPort& snapshots,
                     Duration call_timeout)
    : io_(io), access_(access), snapshots_(snapshots), call_timeout_(call_timeout), timer_(io) {
  replies_->follow([this] { boost::asio::post(io_, [this] { begin_waiting(); }); });
}

NodeCalls::~NodeCalls() { replies_->follow(nullptr); }

admin::ServerHooks NodeCalls::hooks() {
  admin::ServerHooks hooks;
  hooks.call = [this](admin::CallRequest request, std::function<void(admin::CallResult)> done) {
    boost::asio::post(io_, [this, request = std::move(request), done = std::move(done)]() mutable {
      call(std::move(request), std::move(done));
    });
  };
  hooks.change_members = [this](node::MemberChange change,
                                std::function<void(node::ChangeOutcome)> done) {
    boost::asio::post(io_, [this, change = std::move(change), done = std::move(done)]() mutable {
      change_members(change, std::move(done));
    });
  };
  // To the leader it travels as a member change of a kind of its own.
  hooks.change_setting = [change_members = hooks.change_members](admin::SettingChange setting,
                                                                 auto done) {
    node::MemberChange change;
    change.kind = node::MemberChange::Kind::kSetting;
    change.key = std::move(setting.key);
    change.value = std::move(setting.value);
    change_members(std::move(change), std::move(done));
  };
  hooks.snapshots.take = [this](admin::SnapshotDone<admin::SnapshotTaken> done) {
    boost::asio::post(io_, [this, done = std::move(done)] { take_snapshot(done); });
  };
  hooks.snapshots.list = [this](admin::SnapshotDone<admin::SnapshotList> done) {
    boost::asio::post(io_, [this, done = std::move(done)] { list_snapshots(done); });
  };
  hooks.snapshots.read = [this](admin::SnapshotPiece piece,
                                const admin::SnapshotDone<std::string>& done) {
    snapshots_.read(std::move(piece), done);
  };
  return hooks;
}

void NodeCalls::call(admin::CallRequest request, std::function<void(admin::CallResult)> done) {
  if (waiting_.empty() && may_begin()) return begin(request, std::move(done));
  waiting_.push_back({std::move(request), std::move(done), read_clocks().time + call_timeout_});
  if (waiting_.size() == 1) begin_waiting();
}

void NodeCalls::stop() {
  is_stopping_ = true;
  begin_waiting();
}

// Those for which there is room. The others end in time, not begun.
void NodeCalls::begin_waiting() {
  const Time now = read_clocks().time;
  for (; !waiting_.empty(); waiting_.pop_front()) {
    Waiting& first = waiting_.front();
    if (first.until <= now) {
      first.done({node::ReplyCode::kOverloaded,
                  "replies that are not read use the memory for them; the request was not executed",
                  false, 0, Index()});
    } else if (may_begin()) {
      begin(first.request, std::move(first.done));
    } else {
      break;
    }
  }
  if (!begun_.empty() && replies_->has_room() && access_.arrive() != nullptr) {
    for (auto at = begun_.begin(); at != begun_.end();) {
      Call* call = *at++;
      if (call->is_late(now)) {
        delete call;  // a read of it is not executed any more
      } else {
        call->resume();
      }
    }
  }
  if (waiting_.empty()) return;
  timer_.expires_after(waiting_.front().until - now);
  timer_.async_wait([this](boost::system::error_code aborted) {
    if (!aborted) begin_waiting();
  });
}

void NodeCalls::begin(const admin::CallRequest& request,
                      std::function<void(admin::CallResult)> done) {
  node::Node* node = access_.arrive();
  if (node == nullptr) {
    return done({node::ReplyCode::kNoLeader, access_.waiting_for(), false, 0, Index()});
  }
  std::optional<ByteView> whole = as_bytes(request.bytes);
  if (node->framing() == node::Framing::kLine) whole = wire::one_line(*whole);
  if (!whole) {
    return done({node::ReplyCode::kBadFrame, "the body has several lines: send one request", false,
                 0, Index()});
  }
  (new Call(*this, std::move(done)))->start(*node, *whole, request);
}

std::string NodeCalls::no_majority() const {
  const node::Node* node = access_.current_node();
  const std::string lost = node == nullptr ? "" : node->lost_majority().full();
  return lost.empty() ? "" : "; " + lost;
}

void NodeCalls::change_members(const node::MemberChange& change,
                               std::function<void(node::ChangeOutcome)> done) {
  node::Node* node = access_.arrive();
  if (node == nullptr) {
    return done({node::ChangeCode::kNoLeader, access_.waiting_for(), Index()});
  }
  last_change_ = read_clocks().time;
  node->change_members(change, std::move(done));
}

void NodeCalls::take_snapshot(const admin::SnapshotDone<admin::SnapshotTaken>& done) {
  node::Node* node = access_.arrive();
  if (node == nullptr) return done(refusal(503, "NOLEADER", access_.waiting_for()));
  const Index index = node->begin_snapshot();
  if (!index) {
    const std::string lost = no_majority();
    const std::string next = lost.empty() ? "; try again in a moment" : lost;
    return done(refusal(503, "BUSY", "nothing is applied yet" + next));
  }
  done(admin::SnapshotTaken{index});
}

void NodeCalls::list_snapshots(const admin::SnapshotDone<admin::SnapshotList>& done) {
  node::Node* node = access_.arrive();
  if (node == nullptr) return done(refusal(503, "NOLEADER", access_.waiting_for()));
  admin::SnapshotList list;
  list.taking = node->is_taking_snapshot();
  list.failure = node->snapshot_failure();
  for (const storage::SnapshotInfo& info : node->snapshots().list()) {
    list.snapshots.push_back({info.name, info.mark.index, info.mark.term, info.file_bytes, 0});
  }
  snapshots_.list(std::move(list), done);
}

}  // namespace connectd::app

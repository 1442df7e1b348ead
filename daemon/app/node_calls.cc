#include "app/node_calls.h"

#include <boost/asio/post.hpp>
#include <memory>
#include <optional>
#include <utility>

#include "wire/framing.h"

namespace connectd::app {
namespace {

// One request over HTTP: a stream of its own, which ends with its only reply. Deletes itself then.
class Call final : public node::ReplyHandler {
 public:
  explicit Call(std::function<void(admin::CallResult)> done) : done_(std::move(done)) {}

  void start(node::Service& service, ByteView request, const node::ReadOptions& read) {
    stream_ = service.open_stream(*this);
    stream_->submit(request, read);
  }
  void on_reply(const node::Reply& reply) override {
    result_ = {reply.code, std::string(as_text(reply.bytes)), reply.plugin_refused, reply.status,
               reply.index};
  }
  void on_replies_end() override {
    done_(std::move(result_));
    delete this;
  }

 private:
  std::function<void(admin::CallResult)> done_;
  std::unique_ptr<node::RequestStream> stream_;
  admin::CallResult result_;
};

}  // namespace

admin::ServerHooks NodeCalls::hooks() {
  admin::ServerHooks hooks;
  hooks.call = [this](std::string request, const node::ReadOptions& read,
                      std::function<void(admin::CallResult)> done) {
    boost::asio::post(io_,
                      [this, request = std::move(request), read, done = std::move(done)]() mutable {
                        call(request, read, std::move(done));
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

void NodeCalls::call(const std::string& request, const node::ReadOptions& read,
                     std::function<void(admin::CallResult)> done) {
  node::Node* node = access_.arrive();
  if (node == nullptr) {
    return done({node::ReplyCode::kNoLeader, access_.waiting_for(), false, 0, Index()});
  }
  std::optional<ByteView> whole = as_bytes(request);
  if (node->framing() == node::Framing::kLine) whole = wire::one_line(*whole);
  if (!whole) {
    return done({node::ReplyCode::kBadFrame, "the body has several lines: send one request", false,
                 0, Index()});
  }
  (new Call(std::move(done)))->start(*node, *whole, read);
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
  if (!index) return done(refusal(503, "BUSY", "nothing is applied yet; try again in a moment"));
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

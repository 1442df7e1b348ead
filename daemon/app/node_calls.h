// What the HTTP server asks of the node. The server calls on its own thread; the node lives on the
// loop, so each call is posted there and answered from there.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "admin/call_replies.h"
#include "admin/hooks.h"
#include "app/snapshot_port.h"
#include "base/clock.h"
#include "node/node.h"

namespace connectd::app {

// The node as the loop knows it. Loop thread.
class NodeAccess {
 public:
  virtual ~NodeAccess() = default;
  // The node, about to be given something: it has been told the time. Null: there is none yet.
  virtual node::Node* arrive() = 0;
  // The node as it is, also within its turn. Null: there is none yet.
  virtual const node::Node* current_node() const = 0;
  // Why there is none, one line for people.
  virtual std::string waiting_for() const = 0;
};

class NodeCalls final {
 public:
  // All must outlive the server that has the hooks, and this object the loop's last turn.
  // `call_timeout`: how long a call waits until it may begin.
  NodeCalls(boost::asio::io_context& io, NodeAccess& access, SnapshotPort& snapshots,
            Duration call_timeout);
  ~NodeCalls();

  admin::ServerHooks hooks();
  // The node refuses requests by now: calls that wait for room are begun, and have that answer.
  // Loop thread.
  void stop();
  // When the last change of members was asked for here. Loop thread.
  std::optional<Time> last_change() const { return last_change_; }

 private:
  class Call;
  // A call that waits for room for its reply.
  struct Waiting {
    admin::CallRequest request;
    std::function<void(admin::CallResult)> done;
    Time until;
  };

  // On the loop thread.
  void call(admin::CallRequest request, std::function<void(admin::CallResult)> done);
  void begin(const admin::CallRequest& request, std::function<void(admin::CallResult)> done);
  void begin_waiting();
  // "; node 1 reaches 1 of 3 voters", and what to do about it, as /readyz says to everybody. Empty:
  // it reaches a majority.
  std::string no_majority() const;
  bool may_begin() const { return is_stopping_ || replies_->has_room(); }
  void change_members(const node::MemberChange& change,
                      std::function<void(node::ChangeOutcome)> done);
  void take_snapshot(const admin::SnapshotDone<admin::SnapshotTaken>& done);
  void list_snapshots(const admin::SnapshotDone<admin::SnapshotList>& done);

  boost::asio::io_context& io_;
  NodeAccess& access_;
  SnapshotPort& snapshots_;
  const Duration call_timeout_;
  const std::shared_ptr<admin::CallReplies> replies_ = std::make_shared<admin::CallReplies>();
  std::deque<Waiting> waiting_;  // in order of arrival, and so of `until`
  boost::asio::steady_timer timer_;
  bool is_stopping_ = false;
  std::set<Call*> begun_;
  std::optional<Time> last_change_;
};

}  // namespace connectd::app

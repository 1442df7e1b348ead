// What the HTTP server asks of the node. The server calls on its own thread; the node lives on the
// loop, so each call is posted there and answered from there.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <optional>
#include <string>

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
  // Why there is none, one line for people.
  virtual std::string waiting_for() const = 0;
};

class NodeCalls final {
 public:
  // All must outlive the server that has the hooks, and this object the loop's last turn.
  NodeCalls(boost::asio::io_context& io, NodeAccess& access, SnapshotPort& snapshots)
      : io_(io), access_(access), snapshots_(snapshots) {}

  admin::ServerHooks hooks();
  // When the last change of members was asked for here. Loop thread.
  std::optional<Time> last_change() const { return last_change_; }

 private:
  // On the loop thread.
  void call(const std::string& request, const node::ReadOptions& read,
            std::function<void(admin::CallResult)> done);
  void change_members(const node::MemberChange& change,
                      std::function<void(node::ChangeOutcome)> done);
  void take_snapshot(const admin::SnapshotDone<admin::SnapshotTaken>& done);
  void list_snapshots(const admin::SnapshotDone<admin::SnapshotList>& done);

  boost::asio::io_context& io_;
  NodeAccess& access_;
  SnapshotPort& snapshots_;
  std::optional<Time> last_change_;
};

}  // namespace connectd::app

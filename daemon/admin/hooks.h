// What the HTTP server asks of the node, and what it is told. All functions are called on the
// server's thread, must not wait, and must bound what they queue. Each `done` is called once, on
// any thread, and may be called or dropped after the server is gone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "admin/answers.h"
#include "admin/limits.h"
#include "auth/policy.h"
#include "auth/token_checker.h"
#include "base/address.h"
#include "base/clock.h"
#include "config/config.h"
#include "node/membership/change_outcome.h"
#include "node/membership/members.h"
#include "node/metrics.h"
#include "node/service.h"

namespace connectd::admin {

// Who may ask for /v1/admin/.
enum class AdminFrom : uint8_t { kThisMachine, kLoopback, kNobody };

struct ServerOptions {
  Address listen;
  // The address that others know this server by.
  Address advertised;
  AdminFrom admin = AdminFrom::kThisMachine;
  // What callers may do: a reload replaces it.
  std::shared_ptr<const auth::SharedPolicy> policy = std::make_shared<auth::SharedPolicy>();
  // The node's, shared with its other ports.
  std::shared_ptr<auth::TokenChecker> tokens = std::make_shared<auth::TokenChecker>();
  // What the node counts, for /metrics.
  std::shared_ptr<const node::Metrics> metrics = std::make_shared<node::Metrics>();
  std::string cluster_name;        // in the names of certificates
  std::vector<std::string> hosts;  // http.hosts: further names for /v1/call
  NodeId id;
  size_t max_connections = kMaxConnections;
  Duration idle_patience = kIdlePatience;
  size_t max_request = 1 << 20;                     // bytes of one call
  Duration call_timeout = std::chrono::seconds(5);  // client.request_timeout
};

// ---- a request to the plugin

// As node::Reply but owning its bytes.
struct CallResult {
  node::ReplyCode code = node::ReplyCode::kOk;
  std::string bytes;
  bool plugin_refused = false;
  int32_t status = 0;
  Index index;
  std::shared_ptr<const void> held{};  // of admin/call_replies.h
};
struct CallRequest {
  std::string bytes;
  node::ReadOptions read{};
  node::Rights rights{};  // of the caller
};
// kOverloaded when too many are in progress.
using CallFunction = std::function<void(CallRequest request, std::function<void(CallResult)> done)>;

// ---- changes

// Of members, or of leadership.
using MemberFunction =
    std::function<void(node::MemberChange change, std::function<void(node::ChangeOutcome)> done)>;

// A setting of the whole cluster gets a value; both as in the configuration file.
struct SettingChange {
  std::string key;
  std::string value;
};
using SettingFunction =
    std::function<void(SettingChange change, std::function<void(node::ChangeOutcome)> done)>;

// ---- snapshots of this node

struct SnapshotRefusal {
  int http_status;
  std::string code;  // "BUSY"
  std::string text;  // one line for people
};
template <class Value>
using SnapshotDone = std::function<void(tl::expected<Value, SnapshotRefusal>)>;

struct SnapshotPiece {
  std::string name;  // as listed
  uint64_t offset = 0;
  size_t length = 0;
};
struct SnapshotFunctions {
  std::function<void(SnapshotDone<SnapshotTaken> done)> take;
  std::function<void(SnapshotDone<SnapshotList> done)> list;
  // The bytes: fewer than asked for at the end of the file.
  std::function<void(SnapshotPiece piece, SnapshotDone<std::string> done)> read;
};

// ---- all of them

// What is left out is answered 503.
struct ServerHooks {
  CallFunction call{};
  MemberFunction change_members{};
  SettingFunction change_setting{};
  SnapshotFunctions snapshots{};
};

}  // namespace connectd::admin

// The HTTP port: health, status, and requests to the plugin (docs/operations.md, docs/protocol.md).
//
// It has a thread of its own with an io_context of its own, so that it answers while the node's
// loop is busy, and says so when the loop hangs. It reads the node's StatusBoard, and hands
// requests to the loop through one function; it knows nothing else of the node.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "config/config.h"
#include "node/membership/members.h"
#include "node/service.h"
#include "node/status.h"

namespace connectd::admin {

// Further connections are closed at once.
inline constexpr size_t kMaxConnections = 128;
inline constexpr uint32_t kMaxHeaderBytes = 16 << 10;
// A client that is slower with one request, or to read one answer, is closed.
inline constexpr Duration kRequestTimeout = std::chrono::seconds(10);
// Between two requests of one connection.
inline constexpr Duration kIdleTimeout = std::chrono::seconds(60);
// For each of the other members, in /v1/cluster.
inline constexpr Duration kMemberTimeout = std::chrono::seconds(2);
inline constexpr size_t kMaxMemberAnswer = 1 << 20;
// /v1/cluster requests under way; each asks all other members.
inline constexpr size_t kMaxClusterQueries = 8;
// The loop has published no status for this long: /livez fails.
inline constexpr Duration kLoopHangs = std::chrono::seconds(10);
// What a call may take longer than Options::call_timeout before the server gives up by itself.
inline constexpr Duration kCallGrace = std::chrono::seconds(2);
// A change of members that the loop has not answered by then.
inline constexpr Duration kChangeTimeout = std::chrono::seconds(5);

// The answer to one request, as node::Reply but owning its bytes.
struct CallResult {
  node::ReplyCode code = node::ReplyCode::kOk;
  std::string bytes;
  bool plugin_refused = false;
  int32_t status = 0;
  Index index;
};

// Hands a request to the loop thread. Called on the HTTP thread; must not wait, and must bound what
// it queues (else answer kOverloaded). `done` is called once, on any thread, and may be called or
// dropped after the server is gone.
using CallFunction = std::function<void(std::string request, const node::ReadOptions& read,
                                        std::function<void(CallResult)> done)>;
// Hands a change of members, or of leadership, to the loop thread; as CallFunction otherwise.
using ChangeFunction =
    std::function<void(node::MemberChange change, std::function<void(node::ChangeOutcome)> done)>;

// Of a snapshot file, in one answer.
inline constexpr size_t kMaxSnapshotPiece = 4 << 20;
// A snapshot verb that was not answered by then; taking one is not waited for.
inline constexpr Duration kSnapshotTimeout = std::chrono::seconds(30);

struct SnapshotRequest {
  enum class Verb : uint8_t { kTake, kList, kRead } verb = Verb::kList;
  std::string name;  // kRead: as listed
  uint64_t offset = 0;
  size_t length = 0;
};
struct SnapshotAnswer {
  int status = 200;
  std::string code;  // when it is not 200
  std::string text;
  Index index;  // kTake: a snapshot of this index or a later one is listed when it is durable
  bool taking = false;
  std::string failure;  // kList: why the last attempt failed; empty: it did not
  struct Listed {
    std::string name;
    raft::SnapshotMark mark;
    uint64_t bytes = 0;
    int64_t age_seconds = 0;
  };
  std::vector<Listed> snapshots;  // kList, newest first
  std::string bytes;              // kRead; fewer than asked for at the end of the file
};
// As CallFunction: must not wait.
using SnapshotFunction =
    std::function<void(SnapshotRequest request, std::function<void(SnapshotAnswer)> done)>;

struct ServerOptions {
  config::Address listen;
  // The address that others know this server by; beside it and `listen`, names of this machine are
  // good in a Host header.
  config::Address advertised;
  NodeId id;
  size_t max_request = 1 << 20;                     // bytes of one call
  Duration call_timeout = std::chrono::seconds(5);  // client.request_timeout
};

class HttpServer {
 public:
  // Binds and listens. kCannotCreate with the address when that fails: in use, or not of this
  // machine. kPermission for a port below 1024 without the right to it.
  // `change` null: changes are refused. `snapshots` null: so are the verbs of snapshots.
  static Result<std::unique_ptr<HttpServer>> open(ServerOptions options,
                                                  const node::StatusBoard& board, CallFunction call,
                                                  ChangeFunction change = nullptr,
                                                  SnapshotFunction snapshots = nullptr);
  // Starts its thread. Once.
  virtual void start() = 0;
  // The port it listens on.
  virtual uint16_t port() const = 0;
  // Closes everything and joins the thread.
  virtual ~HttpServer() = default;
};

}  // namespace connectd::admin

// The HTTP port: health, status, admin verbs and requests to the plugin (docs/operations.md,
// docs/protocol.md).
//
// It has a thread of its own with an io_context of its own, so that it answers while the node's
// loop is busy, and says so when the loop hangs. It reads the node's StatusBoard, and hands
// requests to the loop through ServerHooks; it knows nothing else of the node. A request comes
// through admin/connection, finds its row in admin/routes, and is answered by one of
// admin/handlers.
#pragma once

#include <cstdint>
#include <memory>

#include "admin/hooks.h"
#include "base/error.h"
#include "net/port_tls.h"
#include "net/tcp.h"
#include "node/status.h"
#include "tls/handshakes.h"

namespace connectd::admin {

class HttpServer {
 public:
  // Binds and listens. kCannotCreate with the address when that fails: in use, or not of this
  // machine. kPermission for a port below 1024 without the right to it.
  static Result<std::unique_ptr<HttpServer>> open(ServerOptions options,
                                                  const node::StatusBoard& board,
                                                  ServerHooks hooks);
  // The same on a port that is bound already.
  static Result<std::unique_ptr<HttpServer>> open(ServerOptions options,
                                                  const node::StatusBoard& board, ServerHooks hooks,
                                                  net::BoundPort port);
  // Starts its thread. Once.
  virtual Result<void> start() = 0;
  // From now on. Connections that would be refused now end: at once with a certificate that is not
  // good any longer, else after the request in progress. `handshakes` may be null with TLS off, and
  // must live as long as the server. Any thread; does not wait.
  virtual void set_tls(const net::PortTls& tls, tls::Handshakes* handshakes) = 0;
  // The port it listens on.
  virtual uint16_t port() const = 0;
  // Closes everything and joins the thread.
  virtual ~HttpServer() = default;
};

}  // namespace connectd::admin

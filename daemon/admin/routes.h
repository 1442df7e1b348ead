// What the HTTP port serves: one row for each path, with the verbs that it takes, who may ask, and
// the function that answers. The text of a 404 and the table in docs/operations.md are made of the
// same rows. To add a route, add a row in routes.cc and a function. On the server's thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "admin/audit.h"
#include "admin/authorization.h"
#include "admin/cluster_query.h"
#include "admin/guards.h"
#include "admin/hooks.h"
#include "admin/http_message.h"
#include "admin/reply.h"
#include "admin/shares.h"
#include "node/status.h"

namespace connectd::admin {

// What handlers have to answer with.
struct Context {
  const ServerOptions& options;
  const node::StatusBoard& board;
  const ServerHooks& hooks;
  ClusterQueries& cluster;
  Shares& shares;
  Access access{};
  Authorizer authorizer{options.policy, options.tokens};
  Audit audit{};
};

enum class Verbs : uint8_t {
  kGet,  // and HEAD
  kPost,
};

// Answers `reply` once, now or later. `request` is the handler's.
using Handler = void (*)(Context& context, Request&& request, const Reply& reply);

struct Route {
  std::string_view path;
  Verbs verbs;
  Guard guard;  // has no default, nor has the next: a row without one does not compile
  Needs needs;
  Share share = Share::kAdmin;
  Handler handler;
  std::string_view help;  // for docs: one line of Markdown
};

std::span<const Route> routes();

// Answers a request by its row: 400 when it does not say which host it asks (RFC 9112 §3.2), 404
// when there is no row, what is allowed to OPTIONS, 405 for other verbs, then the guard against
// pages, then who asks and what they may do (admin/authorization.h), 503 when the share of the
// route is used up, then the handler.
void dispatch(Context& context, Request&& request, const Reply& reply);

// The table of docs/operations.md.
std::string routes_markdown();

}  // namespace connectd::admin

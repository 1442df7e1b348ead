// POST /v1/call: one request to the plugin.
#include <fmt/format.h>

#include "admin/call_outcome.h"
#include "admin/handlers.h"
#include "admin/limits.h"
#include "admin/read_level.h"

namespace connectd::admin {
namespace {

Response call_response(CallResult result) {
  const CallOutcome outcome = call_outcome(result.code);
  if (result.code != node::ReplyCode::kOk && !result.plugin_refused) {
    return problem(outcome.http_status, outcome.title, std::move(result.bytes), outcome.code);
  }
  Response response = bytes_response(std::move(result.bytes));
  response.held = std::move(result.held);
  response.status = outcome.http_status;
  if (result.plugin_refused) {
    const CallOutcome rejected = call_outcome(node::ReplyCode::kRejected);
    response.status = rejected.http_status;
    response.headers.emplace_back("X-Connect-Code", rejected.code);
  }
  response.headers.emplace_back("X-Connect-Status", std::to_string(result.status));
  if (result.index) {
    response.headers.emplace_back("X-Connect-Index", std::to_string(result.index.value()));
  }
  return response;
}

}  // namespace

void handle_call(Context& context, Request&& request, const Reply& reply) {
  auto read = parse_read_level(lower_case(request.header("x-connect-read")));
  if (!read) {
    return reply.send(
        problem(400, "Bad request", fmt::format("X-Connect-Read: {}", read.error().text)));
  }
  if (!context.hooks.call) {
    return reply.send(problem(503, "Service unavailable", "calls are not accepted"));
  }
  CallResult late;
  late.code = node::ReplyCode::kUnknown;
  late.bytes = "no answer from the node in time; the write may or may not have happened";
  const Duration limit = context.options.call_timeout + kCallGrace;
  const auth::Roles roles = request.principal.roles();
  CallRequest call{std::move(request.body),
                   *read,
                   {roles.has(auth::Role::kRead), roles.has(auth::Role::kWrite)}};
  context.hooks.call(std::move(call),
                     reply.later<CallResult>(limit, std::move(late), call_response));
}

}  // namespace connectd::admin

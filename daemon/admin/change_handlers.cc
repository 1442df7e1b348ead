// POST /v1/admin/members, /leader and /settings: what an operator wants to be another way.
#include "admin/admin_requests.h"
#include "admin/answers.h"
#include "admin/handlers.h"
#include "admin/limits.h"

namespace connectd::admin {
namespace {

Response change_response(node::ChangeOutcome outcome) {
  if (outcome.done()) {
    return json_response(to_json(ChangeAnswer{outcome.index, std::move(outcome.text)}));
  }
  const node::ChangeCodeRow& row = node::change_code_row(outcome.code);
  return problem(row.http_status, "The change was rejected", std::move(outcome.text), row.name);
}

// Hands what was parsed to `hook`.
template <class Change, class Hook>
void change(const Hook& hook, Result<Change> wanted, const Reply& reply) {
  if (!wanted) {
    return reply.send(problem(400, "Bad request", wanted.error().text,
                              node::change_code_name(node::ChangeCode::kRefused)));
  }
  if (!hook) return reply.send(problem(503, "Service unavailable", "changes are not accepted"));
  const node::ChangeOutcome late{node::ChangeCode::kTimeout, "no answer from the node in time",
                                 Index()};
  hook(std::move(*wanted), reply.later<node::ChangeOutcome>(kChangeTimeout, late, change_response));
}

}  // namespace

void handle_member_change(Context& context, Request&& request, const Reply& reply) {
  change(context.hooks.change_members, parse_member_change(request.body), reply);
}

void handle_leader_change(Context& context, Request&& request, const Reply& reply) {
  change(context.hooks.change_members, parse_leader_change(request.body), reply);
}

void handle_setting_change(Context& context, Request&& request, const Reply& reply) {
  change(context.hooks.change_setting, parse_setting_change(request.body), reply);
}

}  // namespace connectd::admin

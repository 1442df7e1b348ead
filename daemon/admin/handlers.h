// The functions behind the rows of admin/routes.cc. Each answers one request whose path, verb and
// guard were checked.
#pragma once

#include "admin/routes.h"

namespace connectd::admin {

// health_handlers.cc: from the status board alone.
void handle_livez(Context& context, Request&& request, const Reply& reply);
void handle_readyz(Context& context, Request&& request, const Reply& reply);
void handle_leaderz(Context& context, Request&& request, const Reply& reply);
void handle_metrics(Context& context, Request&& request, const Reply& reply);
void handle_status(Context& context, Request&& request, const Reply& reply);
void handle_cluster(Context& context, Request&& request, const Reply& reply);

// call_handler.cc
void handle_call(Context& context, Request&& request, const Reply& reply);

// change_handlers.cc
void handle_member_change(Context& context, Request&& request, const Reply& reply);
void handle_leader_change(Context& context, Request&& request, const Reply& reply);
void handle_setting_change(Context& context, Request&& request, const Reply& reply);

// snapshot_handlers.cc
void handle_snapshot(Context& context, Request&& request, const Reply& reply);

}  // namespace connectd::admin

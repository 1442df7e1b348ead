// Health and status: what the loop left on the status board, so that these are answered also when
// the loop hangs.
#include "admin/answers.h"
#include "admin/handlers.h"
#include "admin/health.h"
#include "admin/http_target.h"
#include "admin/metrics.h"
#include "auth/bearer.h"

namespace connectd::admin {
namespace {

constexpr const char* kStarting = "starting: reading the log; try again in a moment";

// Probes get as little as they need. With ?verbose, people get lines, and programs JSON if they
// ask for it.
Response answer(const Request& request, const Health& health) {
  if (!parse_http_target(request.target).verbose) {
    return health.good() ? text_response(200, "ok\n")
                         : problem(503, "Service unavailable", health.detail());
  }
  Response response;
  if (request.header("accept").starts_with("application/json")) {
    response = json_response(health.json());
  } else {
    response = text_response(200, health.lines());
  }
  response.status = health.good() ? 200 : 503;
  return response;
}

}  // namespace

void handle_livez(Context& context, Request&& request, const Reply& reply) {
  reply.send(answer(request, live_health(context.board.read().get(), read_clocks().time)));
}

void handle_readyz(Context& context, Request&& request, const Reply& reply) {
  reply.send(answer(request, ready_health(context.board.read().get(), read_clocks().time)));
}

void handle_leaderz(Context& context, Request&& request, const Reply& reply) {
  reply.send(answer(request, leader_health(context.board.read().get(), read_clocks().time)));
}

void handle_metrics(Context& context, Request&&, const Reply& reply) {
  const auto status = context.board.read();
  const auto traffic = context.board.read_traffic();
  Response response;
  response.content_type = kMetricsType;
  response.body =
      metrics_text({status.get(), traffic.get(), *context.options.metrics, read_clocks().time});
  reply.send(std::move(response));
}

void handle_status(Context& context, Request&&, const Reply& reply) {
  auto status = context.board.read();
  if (status == nullptr) return reply.send(problem(503, "Service unavailable", kStarting));
  reply.send(json_response(to_json(*status)));
}

void handle_cluster(Context& context, Request&& request, const Reply& reply) {
  auto status = context.board.read();
  if (status == nullptr) return reply.send(problem(503, "Service unavailable", kStarting));
  std::string token;
  if (request.principal.kind() == auth::Principal::Kind::kToken) {
    token = auth::bearer_token(request.header("authorization")).value_or("");
  }
  context.cluster.ask(
      *status, context.options.advertised, token,
      [reply](const ClusterAnswer& answer) { reply.send(json_response(to_json(answer))); });
}

}  // namespace connectd::admin

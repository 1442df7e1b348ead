#include "admin/routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "admin/handlers.h"
#include "admin/http_target.h"

namespace connectd::admin {
namespace {

constexpr std::array kRoutes = {
    Route{.path = "/livez",
          .verbs = Verbs::kGet,
          .guard = kForAll,
          .needs = kHealthNeeds,
          .share = Share::kNone,
          .handler = handle_livez,
          .help = "200 unless the node hangs: would a restart help?"},
    Route{.path = "/readyz",
          .verbs = Verbs::kGet,
          .guard = kForAll,
          .needs = kHealthNeeds,
          .share = Share::kNone,
          .handler = handle_readyz,
          .help = "200 when the node can serve: it has applied a read index that a quorum "
                  "confirmed a moment ago, and the replicas are not known to [differ without a "
                  "majority](#divergence)"},
    Route{.path = "/leaderz",
          .verbs = Verbs::kGet,
          .guard = kForAll,
          .needs = kHealthNeeds,
          .share = Share::kNone,
          .handler = handle_leaderz,
          .help = "200 on the leader only"},
    Route{.path = "/metrics",
          .verbs = Verbs::kGet,
          .guard = kForAll,
          .needs = kMonitorNeeds,
          .share = Share::kNone,
          .handler = handle_metrics,
          .help = "[what this node counts](metrics.md), for Prometheus"},
    Route{.path = "/v1/status",
          .verbs = Verbs::kGet,
          .guard = kForAll,
          .needs = kMonitorNeeds,
          .share = Share::kNone,
          .handler = handle_status,
          .help = "[this node](#v1status), as JSON"},
    Route{.path = "/v1/cluster",
          .verbs = Verbs::kGet,
          .guard = kForAll,
          .needs = kMonitorNeeds,
          .share = Share::kQueries,
          .handler = handle_cluster,
          .help = "the status of all members, asked by this node; needs no leader"},
    Route{.path = "/v1/call",
          .verbs = Verbs::kPost,
          .guard = kForPrograms,
          .needs = kDataNeeds,
          .share = Share::kCalls,
          .handler = handle_call,
          .help = "[one request to the plugin](#v1call); the body is the request, the answer's "
                  "body the reply"},
    Route{.path = "/v1/admin/members",
          .verbs = Verbs::kPost,
          .guard = kForThisMachine,
          .needs = kAdminNeeds,
          .handler = handle_member_change,
          .help = "[adds, promotes, removes or replaces a member](#v1admin)"},
    Route{.path = "/v1/admin/leader",
          .verbs = Verbs::kPost,
          .guard = kForThisMachine,
          .needs = kAdminNeeds,
          .handler = handle_leader_change,
          .help = "hands leadership to another member"},
    Route{.path = "/v1/admin/settings",
          .verbs = Verbs::kPost,
          .guard = kForThisMachine,
          .needs = kAdminNeeds,
          .handler = handle_setting_change,
          .help = "changes a setting of the cluster"},
    Route{.path = "/v1/admin/snapshot",
          .verbs = Verbs::kPost,
          .guard = kForThisMachine,
          .needs = kBackupNeeds,
          .handler = handle_snapshot,
          .help = "takes, lists or reads snapshots of this node"},
};

// What a row must not say, whatever else it says.
constexpr bool rows_are_safe() {
  for (const Route& route : kRoutes) {
    const bool changes_something = route.verbs == Verbs::kPost;
    if (changes_something && route.guard.pages() != Pages::kRefused) return false;
    const bool is_admin = route.path.starts_with("/v1/admin/");
    if (is_admin && route.guard.callers() != Callers::kThisMachine) return false;
    if (changes_something && route.share == Share::kNone) return false;
    // Whatever may be asked anonymously, administration and backups may not.
    const auth::Roles roles = route.needs.roles(false);
    if (is_admin && !(roles == kAdminNeeds.roles(false) || roles == kBackupNeeds.roles(false))) {
      return false;
    }
    if (changes_something && roles.empty()) return false;
  }
  return true;
}
static_assert(
    rows_are_safe(),
    "a POST refuses pages, needs a role and has a share; /v1/admin/ refuses other machines, "
    "and needs admin or backup");

std::string_view verbs_text(Verbs verbs) { return verbs == Verbs::kGet ? "GET, HEAD" : "POST"; }

bool takes(Verbs verbs, std::string_view method) {
  return verbs == Verbs::kGet ? method == "GET" || method == "HEAD" : method == "POST";
}

Response not_found() {
  std::string text = "there are ";
  for (size_t i = 0; i < kRoutes.size(); ++i) {
    const char* before = i == 0 ? "" : i + 1 == kRoutes.size() ? " and " : ", ";
    text += fmt::format("{}{}", before, kRoutes[i].path);
  }
  return problem(404, "Not found", std::move(text));
}

Response not_allowed(Verbs verbs) {
  Response response = problem(405, "Method not allowed", fmt::format("use {}", verbs_text(verbs)));
  response.headers.emplace_back("Allow", verbs_text(verbs));
  return response;
}

Response allowed(int status, std::string_view verbs) {
  Response response{status, "", ""};
  response.headers.emplace_back("Allow", verbs);
  return response;
}

Response too_many(Share share) {
  return problem(
      503, "Service unavailable",
      fmt::format("{} requests of this kind are in progress; try again", Shares::limit_of(share)),
      "OVERLOADED");
}

// The connection closes with it: one that is kept would be one too many for the next request, too.
Response too_many_connections() {
  return problem(503, "Service unavailable",
                 "too many connections are open, and none of them is idle; try again",
                 "OVERLOADED");
}

// The host that a request names; none: an HTTP/1.0 request that names none. Else what is wrong.
tl::expected<std::optional<Address>, std::string> asked_host(const Request& request,
                                                             const HttpTarget& target) {
  if (request.host_headers > 1) return tl::unexpected<std::string>("send one Host header");
  if (request.host_headers == 0 && !request.is_http_1_0) {
    return tl::unexpected<std::string>("HTTP/1.1 requires a Host header");
  }
  if (request.host_headers == 0 && !target.authority) return std::nullopt;
  // The authority of an absolute target counts, whatever Host says.
  const std::string_view text = target.authority.value_or(request.header("host"));
  auto host = parse_host(text, kDefaultHttpPort);
  if (!host) return tl::unexpected(fmt::format("Host: {}", host.error()));
  return *host;
}

}  // namespace

std::span<const Route> routes() { return kRoutes; }

void dispatch(Context& context, Request&& request, const Reply& reply) {
  const HttpTarget target = parse_http_target(request.target);
  auto asked = asked_host(request, target);
  if (!asked) return reply.send(problem(400, "Bad request", asked.error()));
  const bool is_options = request.method == "OPTIONS";
  if (is_options && (target.path == "/" || target.path == "*")) {
    return reply.send(allowed(204, "GET, HEAD, POST, OPTIONS"));
  }
  auto route = std::ranges::find(kRoutes, target.path, &Route::path);
  if (route == kRoutes.end()) return reply.send(not_found());
  if (is_options) return reply.send(allowed(204, verbs_text(route->verbs)));
  if (!takes(route->verbs, request.method)) return reply.send(not_allowed(route->verbs));
  if (auto refused = refusal_of_page(route->guard, request, *asked, context.access)) {
    return reply.send(std::move(*refused));
  }
  if (auto refused = context.authorizer.refusal(route->guard, route->needs, target.verbose, request,
                                                context.access.admin, read_clocks())) {
    Audit::refused(request, *refused);
    return reply.send(std::move(refused->response));
  }
  if (request.beyond_limit && route->share == Share::kCalls) {
    return reply.send(too_many_connections());
  }
  auto place = context.shares.take(route->share);
  if (!place) return reply.send(too_many(route->share));
  reply.hold(std::move(*place));
  const bool is_audited = route->guard.callers() == Callers::kThisMachine;
  auto record = is_audited ? context.audit.verb(request, read_clocks().time) : nullptr;
  route->handler(context, std::move(request), reply.observed_by(std::move(record)));
}

std::string routes_markdown() {
  std::string text = "| request | from | role | |\n|---|---|---|---|\n";
  for (const Route& route : routes()) {
    text += fmt::format("| `{} {}` | {} | {} | {} |\n", route.verbs == Verbs::kGet ? "GET" : "POST",
                        route.path, guard_text(route.guard), needs_text(route.needs), route.help);
  }
  return text;
}

}  // namespace connectd::admin

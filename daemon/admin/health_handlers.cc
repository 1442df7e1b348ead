// Health and status: what the loop left on the status board, so that these are answered also when
// the loop hangs.
#include <fmt/format.h>

#include "admin/answers.h"
#include "admin/call_outcome.h"
#include "admin/handlers.h"
#include "admin/http_target.h"
#include "admin/limits.h"
#include "auth/bearer.h"

namespace connectd::admin {
namespace {

constexpr const char* kStarting = "starting: reading the log; try again in a moment";

// `checks`: what was looked at, shown with ?verbose.
Response health(const Request& request, bool good, const std::string& checks,
                std::string_view detail) {
  if (parse_http_target(request.target).verbose) {
    return text_response(good ? 200 : 503, checks + (good ? "ok\n" : "failed\n"));
  }
  return good ? text_response(200, "ok\n")
              : problem(503, "Service unavailable", std::string(detail));
}

std::string check_line(bool good, std::string_view text) {
  return fmt::format("[{}] {}\n", good ? '+' : '-', text);
}

}  // namespace

void handle_livez(Context& context, Request&& request, const Reply& reply) {
  auto status = context.board.read();
  if (status == nullptr) {  // still reading its log: a restart would begin that again
    return reply.send(health(request, true, check_line(true, "starting"), ""));
  }
  const Duration age = read_clocks().time - status->made;
  // A call that applies the log would hang again after a restart.
  const bool hangs_in_log = status->stuck.starts_with("apply") || status->stuck.starts_with("on_");
  const bool good = (age < kLoopHangs || hangs_in_log) && status->hang.empty();
  const std::string text =
      status->hang.empty()
          ? fmt::format("the main loop last reported its status {} ms ago",
                        std::chrono::duration_cast<std::chrono::milliseconds>(age).count())
          : status->hang;
  reply.send(health(request, good, check_line(good, text), text));
}

void handle_readyz(Context& context, Request&& request, const Reply& reply) {
  auto status = context.board.read();
  if (status == nullptr) {
    constexpr const char* kReading = "starting: reading the log";
    return reply.send(health(request, false, check_line(false, kReading), kReading));
  }
  const bool loop_hangs = read_clocks().time - status->made >= kLoopHangs;
  const bool ready = status->ready && !loop_hangs;
  const std::string why = !status->stuck.empty() || !loop_hangs
                              ? (status->reason.empty() ? "not ready" : node::full_reason(*status))
                              : "the main loop hangs";
  std::string checks = check_line(ready, ready ? "ready" : why);
  checks +=
      check_line(static_cast<bool>(status->leader),
                 status->leader ? fmt::format("leader {} in term {}", status->leader, status->term)
                                : fmt::format("no known leader in term {}", status->term));
  checks += check_line(
      true, fmt::format("applied {} of {}", status->applied_index, status->commit_index));
  reply.send(health(request, ready, checks, why));
}

void handle_leaderz(Context& context, Request&& request, const Reply& reply) {
  auto status = context.board.read();
  const bool good = status != nullptr && status->role == raft::Role::kLeader;
  const std::string text =
      status == nullptr ? "starting"
      : good            ? fmt::format("leader in term {}", status->term)
      : status->leader
          ? fmt::format("{}; node {} leads term {}", role_text(status->role), status->leader,
                        status->term)
          : fmt::format("{}; no known leader in term {}", role_text(status->role), status->term);
  reply.send(health(request, good, check_line(good, text), text));
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

// POST /v1/admin/snapshot: the snapshots of this node.
#include "admin/admin_requests.h"
#include "admin/answers.h"
#include "admin/handlers.h"
#include "admin/limits.h"

namespace connectd::admin {
namespace {

// A function that answers `reply` with the value, or with why there is none.
template <class Value>
SnapshotDone<Value> answer_with(const Reply& reply, Response (*respond)(Value&&)) {
  using Outcome = tl::expected<Value, SnapshotRefusal>;
  const SnapshotRefusal late{504, "TIMEOUT", "no answer from the node in time"};
  return reply.later<Outcome>(kSnapshotTimeout, tl::unexpected(late), [respond](Outcome outcome) {
    if (outcome) return respond(std::move(*outcome));
    SnapshotRefusal& refusal = outcome.error();
    return problem(refusal.http_status, "No snapshot", std::move(refusal.text), refusal.code);
  });
}

template <class Answer>
Response as_json(Answer&& answer) {
  return json_response(to_json(answer));
}
Response as_bytes(std::string&& bytes) { return bytes_response(std::move(bytes)); }

}  // namespace

void handle_snapshot(Context& context, Request&& request, const Reply& reply) {
  auto verb = parse_snapshot_verb(request.body);
  if (!verb) return reply.send(problem(400, "Bad request", verb.error().text, "REFUSED"));
  const SnapshotFunctions& snapshots = context.hooks.snapshots;
  if (!snapshots.take || !snapshots.list || !snapshots.read) {
    return reply.send(problem(503, "Service unavailable", "this node serves no snapshots"));
  }
  if (std::holds_alternative<TakeSnapshot>(*verb)) {
    return snapshots.take(answer_with<SnapshotTaken>(reply, as_json<SnapshotTaken>));
  }
  if (std::holds_alternative<ListSnapshots>(*verb)) {
    return snapshots.list(answer_with<SnapshotList>(reply, as_json<SnapshotList>));
  }
  snapshots.read(std::move(std::get<SnapshotPiece>(*verb)),
                 answer_with<std::string>(reply, as_bytes));
}

}  // namespace connectd::admin

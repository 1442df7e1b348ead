#include "admin/audit.h"

#include <fmt/format.h>

#include <utility>

#include "admin/admin_requests.h"
#include "admin/answers.h"
#include "admin/http_target.h"
#include "auth/audit_line.h"

namespace connectd::admin {
namespace {

// A read that goes on after this is another backup.
constexpr Duration kBackupPause = std::chrono::minutes(1);

// Without the query, which may be anything.
std::string head_of(const Request& request) {
  return fmt::format("{} {}", auth::on_one_line(request.method),
                     auth::on_one_line(parse_http_target(request.target).path));
}

// The reads of a snapshot are one verb, wherever they begin.
std::string what_of(const Request& request) {
  std::string head = head_of(request);
  if (request.body.empty()) return head;
  if (auto verb = parse_snapshot_verb(request.body)) {
    if (const auto* piece = std::get_if<SnapshotPiece>(&*verb)) {
      return fmt::format("{} read {}", head, auth::on_one_line(piece->name));
    }
  }
  return fmt::format("{} {}", head, auth::on_one_line(request.body));
}

// "200 index=17", "409 QUORUM"
std::string outcome_of(const Response& response) {
  if (response.status == 200) {
    const auto change = from_json<ChangeAnswer>(response.body);
    return change && change->index ? fmt::format("200 index={}", change->index) : "200";
  }
  const auto problem = from_json<Problem>(response.body);
  return problem && !problem->code.empty() ? fmt::format("{} {}", response.status, problem->code)
                                           : fmt::format("{}", response.status);
}

class VerbRecord final : public AnswerObserver {
 public:
  explicit VerbRecord(auth::AuditLine line) : line_(std::move(line)) {}
  ~VerbRecord() override {
    if (!line_.outcome.empty()) return;
    line_.outcome = "no answer";
    auth::write(line_);
  }
  VerbRecord(const VerbRecord&) = delete;
  VerbRecord& operator=(const VerbRecord&) = delete;
  void on_answer(const Response& response) override {
    line_.outcome = outcome_of(response);
    auth::write(line_);
  }

 private:
  auth::AuditLine line_;
};

}  // namespace

void Audit::refused(const Request& request, const Refusal& refusal) {
  auth::write({.is_refusal = true,
               .principal = request.principal.text(),
               .address = request.remote,
               .outcome = fmt::format("{} ({})", refusal.response.status,
                                      auth::on_one_line(refusal.reason)),
               .what = head_of(request)});
}

std::shared_ptr<AnswerObserver> Audit::verb(const Request& request, Time now) {
  auth::AuditLine line{.is_refusal = false,
                       .principal = request.principal.text(),
                       .address = request.remote,
                       .outcome = "",
                       .what = what_of(request)};
  if (line.what.starts_with("POST /v1/admin/snapshot read ")) {
    const std::string backup = line.principal + " " + line.address + " " + line.what;
    const bool continues = backup == last_backup_ && now - last_backup_at_ < kBackupPause;
    last_backup_ = backup;
    last_backup_at_ = now;
    if (continues) return nullptr;
  }
  return std::make_shared<VerbRecord>(std::move(line));
}

}  // namespace connectd::admin

#include "admin/audit.h"

#include <fmt/format.h>

#include <utility>

#include "admin/admin_requests.h"
#include "admin/answers.h"
#include "admin/http_target.h"
#include "base/log_event.h"

namespace connectd::admin {
namespace {

constexpr size_t kMaxShown = 256;
// A read that goes on after this is another backup.
constexpr Duration kBackupPause = std::chrono::minutes(1);

// Whatever it is, on one line.
std::string one_line(std::string_view text) {
  std::string line;
  for (char c : text.substr(0, kMaxShown)) {
    line += c >= ' ' && c < 0x7f ? c : '?';
  }
  return text.size() > kMaxShown ? line + "..." : line;
}

struct Line {
  bool is_refusal = false;
  std::string principal;
  std::string address;
  std::string what;
  std::string outcome;
};

// The only place that writes audit lines.
void write(const Line& line) {
  constexpr fmt::format_string<const std::string&, const std::string&, const std::string&,
                               const std::string&>
      kFormat = "principal={} address={} outcome={} what={}";
  log_event(line.is_refusal ? LogEvent::kAuditRefused : LogEvent::kAuditVerb, kFormat,
            line.principal, line.address, line.outcome, line.what);
}

// Without the query, which may be anything.
std::string head_of(const Request& request) {
  return fmt::format("{} {}", one_line(request.method),
                     one_line(parse_http_target(request.target).path));
}

// The reads of a snapshot are one verb, wherever they begin.
std::string what_of(const Request& request) {
  const std::string head = head_of(request);
  if (request.body.empty()) return head;
  if (auto verb = parse_snapshot_verb(request.body)) {
    if (const auto* piece = std::get_if<SnapshotPiece>(&*verb)) {
      return fmt::format("{} read {}", head, one_line(piece->name));
    }
  }
  return fmt::format("{} {}", head, one_line(request.body));
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
  explicit VerbRecord(Line line) : line_(std::move(line)) {}
  ~VerbRecord() override {
    if (!line_.outcome.empty()) return;
    line_.outcome = "no answer";
    write(line_);
  }
  VerbRecord(const VerbRecord&) = delete;
  VerbRecord& operator=(const VerbRecord&) = delete;
  void on_answer(const Response& response) override {
    line_.outcome = outcome_of(response);
    write(line_);
  }

 private:
  Line line_;
};

}  // namespace

void Audit::refused(const Request& request, const Refusal& refusal) {
  write({true, request.principal.text(), request.remote, head_of(request),
         fmt::format("{} ({})", refusal.response.status, one_line(refusal.reason))});
}

std::shared_ptr<AnswerObserver> Audit::verb(const Request& request, Time now) {
  Line line{false, request.principal.text(), request.remote, what_of(request), ""};
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

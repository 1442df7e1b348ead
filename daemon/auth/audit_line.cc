#include "auth/audit_line.h"

#include <fmt/format.h>

#include "base/log_event.h"

namespace connectd::auth {
namespace {

constexpr size_t kMaxAuditText = 256;

}  // namespace

void write(const AuditLine& line) {
  constexpr fmt::format_string<const std::string&, const std::string&, const std::string&,
                               const std::string&>
      kFormat = "principal={} address={} outcome={} what={}";
  log_event(line.is_refusal ? LogEvent::kAuditRefused : LogEvent::kAuditVerb, kFormat,
            line.principal, line.address, line.outcome, line.what);
}

std::string on_one_line(std::string_view text) {
  std::string line;
  for (char c : text.substr(0, kMaxAuditText)) {
    line += c >= ' ' && c < 0x7f ? c : '?';
  }
  return text.size() > kMaxAuditText ? line + "..." : line;
}

}  // namespace connectd::auth

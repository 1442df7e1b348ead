#include "admin/guards.h"

#include <fmt/format.h>

#include <algorithm>

namespace connectd::admin {
namespace {

constexpr size_t kMaxHostShown = 128;

std::optional<Response> refuse_pages(const Request& request,
                                     const std::vector<std::string>& hosts) {
  if (request.header("x-connect-request") != "1") {
    return problem(403, "Forbidden", "send the header 'X-Connect-Request: 1'");
  }
  const std::string host = lower_case(request.header("host"));
  const bool known = !host.empty() &&
                     (host == request.arrived_at || std::ranges::find(hosts, host) != hosts.end());
  if (!known) {
    return problem(403, "Forbidden",
                   fmt::format("the Host '{}' is not one of this server's addresses; use {}",
                               host.substr(0, kMaxHostShown), request.arrived_at));
  }
  std::string type = lower_case(request.header("content-type"));
  type = type.substr(0, type.find(';'));
  if (type.empty() || type.starts_with("application/x-www-form-urlencoded") ||
      type.starts_with("multipart/form-data") || type.starts_with("text/plain")) {
    return problem(415, "Unsupported media type",
                   "send 'Content-Type: application/octet-stream', which no HTML form can");
  }
  for (std::string_view name : {"X-Connect-Session", "X-Connect-Sequence"}) {
    if (!request.header(lower_case(name)).empty()) {
      return problem(400, "Bad request",
                     fmt::format("{} is not supported in this version; leave it out", name));
    }
  }
  return std::nullopt;
}

std::optional<Response> refuse_other_machines(const Request& request) {
  if (request.from_this_machine) return std::nullopt;
  return problem(
      403, "Forbidden",
      fmt::format(
          "{} is for this machine only: use 127.0.0.1, with connectctl on the node's machine",
          request.target.substr(0, kMaxHostShown)));
}

}  // namespace

std::optional<Response> refusal(const Guard& guard, const Request& request,
                                const std::vector<std::string>& hosts) {
  if (guard.pages() == Pages::kRefused) {
    if (auto refused = refuse_pages(request, hosts)) return refused;
  }
  if (guard.callers() == Callers::kThisMachine) {
    if (auto refused = refuse_other_machines(request)) return refused;
  }
  return std::nullopt;
}

std::string_view guard_text(const Guard& guard) {
  if (guard.callers() == Callers::kThisMachine) return "this machine";
  return guard.pages() == Pages::kRefused ? "programs, not web pages" : "anybody";
}

}  // namespace connectd::admin

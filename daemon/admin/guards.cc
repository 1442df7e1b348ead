#include "admin/guards.h"

#include <fmt/format.h>

#include <utility>

namespace connectd::admin {
namespace {

constexpr size_t kMaxHostShown = 128;

// A Host that this server does not know. Requests of other machines may name it as http.hosts says.
std::optional<Response> refuse_foreign_host(const Request& request,
                                            const std::optional<Address>& asked,
                                            const Access& access, bool own_only) {
  const bool is_known = asked ? *asked == request.arrived_at || access.hosts.is_own(*asked) ||
                                    (!own_only && access.hosts.is_further(*asked))
                              : !own_only;
  if (is_known) return std::nullopt;
  const std::string named = asked ? asked->to_string().substr(0, kMaxHostShown) : "";
  return problem(
      403, "Forbidden",
      fmt::format("the Host '{}' is not one of this server's addresses; use {}{}", named,
                  request.arrived_at.to_string(),
                  own_only ? "" : ", or add the name to http.hosts in the node's configuration"));
}

std::optional<Response> refuse_pages(const Request& request) {
  if (request.header("x-connect-request") != "1") {
    return problem(403, "Forbidden", "send the header 'X-Connect-Request: 1'");
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

// The header by which a proxy says that it passes on what another machine asks.
std::string_view proxy_header(const Request& request) {
  for (const auto& [name, value] : request.headers) {
    if (name == "forwarded" || name == "via" || name == "x-real-ip" ||
        name.starts_with("x-forwarded-")) {
      return name;
    }
  }
  return {};
}

// In the text of every answer to a caller that this node will not take such a request from.
Response not_from_here(std::string detail) {
  return problem(403, "Forbidden", std::move(detail), kNotLocalCode);
}

std::optional<Response> refuse_other_machines(const Request& request, AdminFrom from) {
  const std::string target = request.target.substr(0, kMaxHostShown);
  if (from == AdminFrom::kNobody) {
    return not_from_here(fmt::format("{} is off on this node (http.admin: off)", target));
  }
  if (const std::string_view header = proxy_header(request); !header.empty()) {
    return not_from_here(fmt::format(
        "{} does not take requests through a proxy (header {}): ask the node itself, with "
        "connectctl on its machine",
        target, header));
  }
  if (request.origin == Origin::kLoopback) return std::nullopt;
  if (from == AdminFrom::kLoopback) {
    return not_from_here(
        fmt::format("{} is open over loopback only (http.admin: loopback): use connectctl -e "
                    "127.0.0.1:PORT on the node's machine. The node must listen there: listen.http "
                    "0.0.0.0:PORT, or http.admin: local",
                    target));
  }
  if (request.origin == Origin::kThisMachine) return std::nullopt;
  return not_from_here(
      fmt::format("{} is for this machine only: use connectctl on the node's machine", target));
}

}  // namespace

std::optional<Response> refusal_of_page(const Guard& guard, const Request& request,
                                        const std::optional<Address>& asked, const Access& access) {
  if (guard.pages() == Pages::kMayAsk) return std::nullopt;
  const bool is_local_only = guard.callers() == Callers::kThisMachine;
  if (auto refused = refuse_foreign_host(request, asked, access, is_local_only)) return refused;
  return refuse_pages(request);
}

std::optional<Response> refusal_of_machine(const Guard& guard, const Request& request,
                                           AdminFrom from) {
  if (guard.callers() == Callers::kAnyMachine) return std::nullopt;
  const bool is_known = request.is_encrypted && request.principal.is_authenticated();
  if (is_known && from != AdminFrom::kNobody) return std::nullopt;
  return refuse_other_machines(request, from);
}

bool is_local(const Request& request, AdminFrom from) {
  return !refuse_other_machines(request, from);
}

std::string_view guard_text(const Guard& guard) {
  if (guard.callers() == Callers::kThisMachine) return "this machine";
  return guard.pages() == Pages::kRefused ? "programs, not web pages" : "anybody";
}

}  // namespace connectd::admin

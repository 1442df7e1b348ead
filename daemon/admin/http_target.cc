#include "admin/http_target.h"

#include <algorithm>

#include "admin/http_message.h"

namespace connectd::admin {
namespace {

// Takes "http://AUTHORITY" from the front of an absolute target.
std::optional<std::string_view> take_authority(std::string_view& target) {
  for (std::string_view scheme : {"http://", "https://"}) {
    if (lower_case(target.substr(0, scheme.size())) != scheme) continue;
    target.remove_prefix(scheme.size());
    const size_t length = std::min(target.find_first_of("/?"), target.size());
    const std::string_view authority = target.substr(0, length);
    target.remove_prefix(length);
    return authority;
  }
  return std::nullopt;
}

}  // namespace

HttpTarget parse_http_target(std::string_view target) {
  HttpTarget parsed;
  parsed.authority = take_authority(target);
  const size_t question = target.find('?');
  parsed.path = target.substr(0, question);
  if (parsed.authority && parsed.path.empty()) parsed.path = "/";
  if (question == std::string_view::npos) return parsed;
  std::string_view query = target.substr(question + 1);
  while (true) {
    const size_t end = query.find('&');
    const std::string_view parameter = query.substr(0, end);
    if (parameter.substr(0, parameter.find('=')) == "verbose") parsed.verbose = true;
    if (end == std::string_view::npos) return parsed;
    query.remove_prefix(end + 1);
  }
}

}  // namespace connectd::admin

#include "admin/http_target.h"

namespace connectd::admin {

HttpTarget parse_http_target(std::string_view target) {
  const size_t question = target.find('?');
  HttpTarget parsed{target.substr(0, question)};
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

// The target of a request to the HTTP port: "/readyz?verbose". Pure; any thread.
#pragma once

#include <string_view>

namespace connectd::admin {

struct HttpTarget {
  std::string_view path;  // in the text that was parsed
  bool verbose = false;   // one parameter is `verbose`, whatever its value
};

// Takes any text; what no route has ends as 404.
HttpTarget parse_http_target(std::string_view target);

}  // namespace connectd::admin

// The target of a request to the HTTP port: "/readyz?verbose", or with an authority, as proxies
// write it: "http://db1:7301/readyz" (RFC 9112 §3.2). Pure; any thread.
#pragma once

#include <optional>
#include <string_view>

namespace connectd::admin {

struct HttpTarget {
  // All in the text that was parsed.
  std::optional<std::string_view> authority;  // of an absolute target
  std::string_view path;
  bool verbose = false;  // one parameter is `verbose`, whatever its value
};

// Takes any text; what no route has ends as 404.
HttpTarget parse_http_target(std::string_view target);

}  // namespace connectd::admin

// The header `Authorization` of HTTP. Pure; any thread.
#pragma once

#include <optional>
#include <string_view>

namespace connectd::auth {

// The token of "Bearer TOKEN" (RFC 6750 §2.1), without the blanks around it: a view of `header`.
// None: it is of another scheme, or malformed.
std::optional<std::string_view> bearer_token(std::string_view header);

}  // namespace connectd::auth

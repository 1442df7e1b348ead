// The header X-Connect-Read: "linearizable", "lease", or "stale; max-age=500ms; min-index=123".
#pragma once

#include <string_view>

#include "base/error.h"
#include "node/service.h"

namespace connectd::admin {

// Empty: linearizable. kUsage with what is wrong and how to write it.
Result<node::ReadOptions> parse_read_level(std::string_view text);

}  // namespace connectd::admin

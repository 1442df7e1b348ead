// What callers of this node may do, from its configuration and the files that it names.
#pragma once

#include <memory>

#include "auth/policy.h"
#include "base/error.h"
#include "config/config.h"

namespace connectd::app {

// Reads the token file, and blocks while it does. Errors are those of auth::load_tokens().
Result<std::shared_ptr<const auth::Policy>> make_policy(const config::Config& config);

}  // namespace connectd::app

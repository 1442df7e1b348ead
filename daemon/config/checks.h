// Checks of all values together: defaults that follow from other values, and values that contradict
// each other.
#pragma once

#include <string_view>

#include "config/config.h"
#include "config/draft.h"
#include "config/load.h"

namespace connectd::config {

// Fills in values that were not given and depend on other values.
void complete(Draft& draft, const LoadRequest& request);
// Required keys that are missing, and values that contradict each other.
void check(Draft& draft, const LoadRequest& request);
// What is wrong with `tls.client.mode` where clients speak the framing `length`; empty: nothing.
// The framing may be the plugin's, which the configuration does not know.
std::string_view length_framing_problem(TlsMode mode);

}  // namespace connectd::config

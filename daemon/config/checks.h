// Checks of all values together: defaults that follow from other values, and values that contradict
// each other.
#pragma once

#include "config/draft.h"
#include "config/load.h"

namespace connectd::config {

// Fills in values that were not given and depend on other values.
void complete(Draft& draft, const LoadRequest& request);
// Required keys that are missing, and values that contradict each other.
void check(Draft& draft, const LoadRequest& request);

}  // namespace connectd::config

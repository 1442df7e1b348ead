// What only all values together show: defaults that follow from other values, and values that
// contradict each other.
#pragma once

#include "config/draft.h"
#include "config/load.h"

namespace connectd::config {

// Fills in what was not given and depends on what was.
void complete(Draft& draft, const LoadRequest& request);
// Required keys that are missing, and values that contradict each other.
void check(Draft& draft, const LoadRequest& request);

}  // namespace connectd::config

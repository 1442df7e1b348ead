// Collects the values from the table's defaults, a YAML document and the command line, in this
// order. Finds the option of each and parses it (read_value.h); unknown and duplicate keys are
// errors.
#pragma once

#include <string>

#include "config/draft.h"
#include "config/load.h"

namespace connectd::config {

void set_defaults(Draft& draft);
// False: it could not be parsed; the diagnostics have the reason.
bool read_document(Draft& draft, const std::string& source);
// --set, --node, --data-dir, --plugin.
void apply_overrides(Draft& draft, const LoadRequest& request);

}  // namespace connectd::config

// Where values come from: the table's defaults, a YAML document, and the command line, in this
// order. Finds the option of each and has it read (read_value.h); unknown and duplicate keys are
// errors.
#pragma once

#include <string>

#include "config/draft.h"
#include "config/load.h"

namespace connectd::config {

void set_defaults(Draft& draft);
// False: nothing of it was understood, and there is no more to say than the diagnostics.
bool read_document(Draft& draft, const std::string& source);
// --set, --node, --data-dir, --plugin.
void apply_overrides(Draft& draft, const LoadRequest& request);

}  // namespace connectd::config

// The option table for people: the reference page, the annotated example, and --print-config. Pure;
// any thread.
#pragma once

#include <string>

#include "config/load.h"

namespace connectd::config {

// Markdown: docs/reference-config.md, and `connectctl config reference`. The example is part of it.
std::string reference_page();
// A file with every key, its default and its help; it can be loaded unchanged.
std::string annotated_example();
// Every effective value with its source, as a file that loads to the same configuration.
std::string print_config(const Loaded& loaded);

}  // namespace connectd::config

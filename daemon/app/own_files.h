// The files that the configuration names for this node's credentials, and for those of its callers:
// certificates, keys, authorities, revocation lists and tokens. Read in the same way by a start, by
// a reload and by --check.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/port_tls.h"
#include "auth/policy.h"
#include "base/error.h"
#include "config/config.h"
#include "plugin/plugin.h"

namespace connectd::app {

struct OwnFiles {
  AllTls tls;
  std::shared_ptr<const auth::Policy> policy;
};

// All of them, or the errors of all: one text with a line or more for each, and the kind of the
// first. What is wrong with a file that several ports use is said once. `plugin`: null if it is not
// known; its framing is not checked then. Blocks while it reads; logs nothing. Any thread.
Result<OwnFiles> read_own_files(const config::Config& config, const plugin::Plugin* plugin);

// What an operator should look at: certificates that end soon, or have, ... A sentence each.
std::vector<std::string> warnings_of(const OwnFiles& files);

// Which of the files that a reload reads are in `directory` or below it, symbolic links followed:
// the configuration file and those that `config` names for the credentials, each path once, as it
// was given. Empty `directory`: none. Any thread.
std::vector<std::string> reloaded_files_below(const std::string& directory,
                                              const std::optional<std::string>& config_file,
                                              const config::Config& config);

// Logs these, and how many tokens there are.
void log_own_files(const config::Config& config, const OwnFiles& files);

}  // namespace connectd::app

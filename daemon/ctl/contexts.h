// Contexts: named sets of global options in a file of the user, so that a cluster has a name
// instead of a line of options.
//
//   default: demo            # without --context and CONNECTCTL_CONTEXT; may be left out
//   contexts:
//     demo:
//       endpoint: db1.example.org:7301,db2.example.org:7301
//       cacert: /home/me/demo/ca.pem
//       token-file: /home/me/demo/token    # or token: connectd1_...
//
// The keys are those options; a path that does not begin with / is relative to the file. Reads a
// file; any thread.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/error.h"

namespace connectd::ctl {

inline constexpr const char* kContextVariable = "CONNECTCTL_CONTEXT";
// The path of the file; else it is connectctl/contexts.yaml in XDG_CONFIG_HOME, or ~/.config.
inline constexpr const char* kContextsVariable = "CONNECTCTL_CONTEXTS";
inline constexpr size_t kMaxContextsFile = 1 << 20;

// By name of the option: "endpoint", "cacert", "cert", "key", "token-file", "token", "timeout".
using ContextOptions = std::map<std::string, std::string>;

// Empty: no home directory is known.
std::string contexts_path();

// The options of the context `name`; none: of the default one. Nothing, if there is no file, or no
// default in it, and no name is asked for. kPermission: others can read the file, which may hold a
// token; kBadConfig: all that is wrong in it, with its lines, and no value of it; kUsage: it has no
// such context, and the text lists those that it has.
Result<ContextOptions> read_context(const std::string& path,
                                    const std::optional<std::string>& name);

}  // namespace connectd::ctl

// connectctl: the command table, and what a command gets to work with. The table drives parsing and
// help. One thread; a command waits for what it asks.
#pragma once

#include <fmt/format.h>

#include <istream>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "base/error.h"
#include "config/config.h"

namespace connectd::ctl {

// Where a command reads and writes: data on `out`, talk on `err`.
struct Streams {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
};

struct Context {
  Streams streams;
  std::vector<Address> endpoints;  // HTTP addresses; at least one
  bool json = false;
  std::optional<Duration> timeout;  // --timeout, where given
  std::vector<std::string> arguments;
  std::map<std::string, std::vector<std::string>> options;  // of the command, by long name

  bool has(const std::string& option) const { return options.count(option) > 0; }
  // The last one given; empty when none was.
  std::string option(const std::string& name) const {
    auto it = options.find(name);
    return it == options.end() ? std::string() : it->second.back();
  }
  // "connectctl: TEXT" on err; returns `code`. `text` says what to do next.
  ExitCode fail(ExitCode code, std::string_view text) const {
    streams.err << "connectctl: " << text << "\n";
    return code;
  }
};

struct OptionSpec {
  std::string_view name;   // long, without dashes; means the same in all commands
  std::string_view value;  // name of its value in help; empty: it has none
  std::string_view help;
};

struct Command {
  std::string_view words;      // "config check"
  std::string_view arguments;  // for help: "FILE"
  size_t min_arguments;
  size_t max_arguments;
  std::vector<OptionSpec> options;
  ExitCode (*run)(Context&);
  std::string_view help;
};

const std::vector<Command>& commands();
const std::vector<OptionSpec>& global_options();

// All of connectctl but the process: `arguments` without the program's name.
ExitCode run(const std::vector<std::string>& arguments, const Streams& streams);

// ---- the commands

ExitCode status_command(Context& context);
ExitCode call_command(Context& context);
ExitCode member_list_command(Context& context);
ExitCode member_add_command(Context& context);
ExitCode member_promote_command(Context& context);
ExitCode member_remove_command(Context& context);
ExitCode member_replace_command(Context& context);
ExitCode leader_show_command(Context& context);
ExitCode settings_list_command(Context& context);
ExitCode settings_set_command(Context& context);
ExitCode leader_transfer_command(Context& context);
ExitCode snapshot_take_command(Context& context);
ExitCode snapshot_list_command(Context& context);
ExitCode snapshot_save_command(Context& context);
ExitCode snapshot_inspect_command(Context& context);
ExitCode snapshot_restore_command(Context& context);
ExitCode cluster_start_command(Context& context);
ExitCode cluster_stop_command(Context& context);
ExitCode cluster_status_command(Context& context);
ExitCode recover_command(Context& context);
ExitCode inspect_wal_command(Context& context);
ExitCode inspect_snapshot_command(Context& context);
ExitCode inspect_identity_command(Context& context);
ExitCode config_check_command(Context& context);
ExitCode config_reference_command(Context& context);
ExitCode sim_command(Context& context);
ExitCode version_command(Context& context);
ExitCode help_command(Context& context);

// Columns padded to their widest cell; the first row is the head.
std::string table(const std::vector<std::vector<std::string>>& rows);

}  // namespace connectd::ctl

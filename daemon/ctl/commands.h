// connectctl: the command table, and the context of a command. The table drives parsing,
// help, the manual page, the completions and the list in docs/operations.md. One thread; a command
// waits for the answers to its requests.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <istream>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/exit_code.h"
#include "tls/credentials.h"

namespace connectd::ctl {

// The secret that a command sends, or checks.
inline constexpr const char* kTokenVariable = "CONNECTCTL_TOKEN";

// The standard streams of a command: data on `out`, diagnostics on `err`.
struct Streams {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
};

struct Context {
  Streams streams;
  std::vector<Address> endpoints{};               // HTTP addresses; at least one
  std::string endpoints_origin{};                 // ctl/endpoints.h
  std::vector<Address> members{};                 // in the files that the endpoints come from
  std::shared_ptr<const tls::Credentials> tls{};  // null: connections are plain
  std::string token{};  // to be shown inside TLS, and to nodes of this machine; empty: none
  bool json = false;
  Duration timeout{};              // the command's own, unless --timeout is given
  std::optional<Time> deadline{};  // of the whole command, where --timeout is given
  std::vector<std::string> arguments{};
  std::map<std::string, std::vector<std::string>> options{};  // of the command, by long name

  bool has(const std::string& option) const { return options.count(option) > 0; }
  // The last value given; empty: none.
  std::string option(const std::string& name) const {
    auto it = options.find(name);
    return it == options.end() ? std::string() : it->second.back();
  }
  // The end of a wait that begins now.
  Time end_of_wait() const { return deadline.value_or(read_clocks().time + timeout); }
  // For one answer: `usual`; with --timeout, its remaining time divided by `tries`.
  Duration answer_timeout(Duration usual, size_t tries = 1) const {
    if (!deadline) return usual;
    constexpr Duration kLeast = std::chrono::milliseconds(1);
    return std::max(kLeast, (*deadline - read_clocks().time) / static_cast<int64_t>(tries));
  }
  // Prints "connectctl: TEXT" on err; returns `code`. `text` says what to do next.
  ExitCode fail(ExitCode code, std::string_view text) const {
    streams.err << "connectctl: " << text << "\n";
    return code;
  }
  // "no node answers": no endpoint does; `why` names each.
  ExitCode fail_unreachable(std::string_view why, std::string_view what = "answers") const {
    return fail(ExitCode::kUnavailable, fmt::format("no node {} ({}): {}, or check the nodes' logs",
                                                    what, why, endpoints_origin));
  }
  ExitCode fail(const Error& error) const { return fail(exit_code(error.kind), error.text); }
};

struct OptionSpec {
  std::string_view name;        // long, without dashes
  std::string_view value = {};  // name of its value in help; empty: it has none
  std::string_view help = {};   // a noun phrase
  std::string_view letter = {};
};

struct Command {
  std::string_view words;           // "config check"
  std::string_view arguments = {};  // for help: "FILE"
  size_t min_arguments = 0;
  size_t max_arguments = 0;
  std::vector<OptionSpec> options = {};
  ExitCode (*run)(Context&) = nullptr;
  // Default of --timeout; zero: the command never waits.
  Duration timeout{};
  bool asks_endpoints = true;     // if it waits; false: it knows its nodes by its argument
  std::string_view help;          // one line, an imperative
  std::string_view details = {};  // one paragraph
};

const std::vector<Command>& commands();
const std::vector<OptionSpec>& global_options();

// ---- texts made from the table (ctl/manual.cc)

std::vector<std::string> split_words(std::string_view text);
// "TEXT. Try: connectctl help WORDS"
std::string with_help(std::string text, std::string_view words = {});
std::string usage_line(const Command& command);
std::string overview();
// The commands with their one-line help, as in docs/operations.md.
std::string command_list();
std::string command_help(const Command& command);
std::string manual_page();                       // roff, connectctl(1)
std::string completion(std::string_view shell);  // bash, zsh or fish; else empty

// ---- running

// Runs connectctl. `arguments`: without the program's name.
ExitCode run(const std::vector<std::string>& arguments, const Streams& streams);
// Prints why `words` are not a command. kUsage.
ExitCode unknown_command(const Context& context, const std::vector<std::string>& words);

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
ExitCode reload_command(Context& context);
ExitCode inspect_wal_command(Context& context);
ExitCode inspect_snapshot_command(Context& context);
ExitCode inspect_identity_command(Context& context);
ExitCode config_check_command(Context& context);
ExitCode config_reference_command(Context& context);
ExitCode cert_ca_command(Context& context);
ExitCode cert_node_command(Context& context);
ExitCode cert_client_command(Context& context);
ExitCode cert_renew_command(Context& context);
ExitCode cert_revoke_command(Context& context);
ExitCode cert_show_command(Context& context);
ExitCode cert_check_command(Context& context);
ExitCode token_new_command(Context& context);
ExitCode token_list_command(Context& context);
ExitCode token_remove_command(Context& context);
ExitCode token_check_command(Context& context);
ExitCode sim_command(Context& context);
ExitCode completion_command(Context& context);
ExitCode version_command(Context& context);
ExitCode help_command(Context& context);

// Columns padded to their widest cell; the first row is the header.
std::string table(const std::vector<std::vector<std::string>>& rows);

}  // namespace connectd::ctl

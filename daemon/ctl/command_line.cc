// The table, and arguments -> a command with its options. The door to Boost.Program_options.
#include <algorithm>
#include <boost/program_options.hpp>
#include <set>

#include "base/address.h"
#include "config/values.h"
#include "ctl/commands.h"

namespace connectd::ctl {
namespace {

namespace po = boost::program_options;

constexpr size_t kMaxEndpoints = 64;
constexpr size_t kMany = 1000;

const OptionSpec kPlugin = {"plugin", "FILE", "the plugin that the nodes run"};
const OptionSpec kPeer = {"peer", "HOST:PORT", "where its peers reach it"};
const OptionSpec kClient = {"client", "HOST:PORT", "where clients do"};
const OptionSpec kHttp = {"http", "HOST:PORT", "its HTTP address"};
const OptionSpec kForce = {"force", "", "also when no majority can be reached afterwards"};
const OptionSpec kIfIndex = {"if-index", "INDEX", "only if the members are those of this index"};
const OptionSpec kSet = {"set", "SECTION.KEY=VALUE", "override one key of the configuration"};

// "TEXT. Try: connectctl help WORDS"
std::string with_help(std::string text, std::string_view words = {}) {
  if (text.ends_with('.')) text.pop_back();
  return fmt::format("{}{} Try: connectctl help{}{}", text, text.ends_with('?') ? "" : ".",
                     words.empty() ? "" : " ", words);
}

std::string usage_line(const Command& command) {
  std::string line = fmt::format("connectctl {}", command.words);
  if (!command.arguments.empty()) line += fmt::format(" {}", command.arguments);
  if (!command.options.empty()) line += " [options]";
  return line;
}

std::string option_lines(const std::vector<OptionSpec>& options) {
  std::string text;
  for (const OptionSpec& option : options) {
    std::string left = fmt::format("  --{} {}", option.name, option.value);
    text += fmt::format("{:<32}{}\n", left, option.help);
  }
  return text;
}

std::string overview() {
  std::string text = "usage: connectctl [options] COMMAND\n\n";
  for (const Command& command : commands()) {
    std::string left = fmt::format("  {} {}", command.words, command.arguments);
    std::string_view first = command.help.substr(0, command.help.find('\n'));
    text += left.size() < 38 ? fmt::format("{:<40}{}\n", left, first)
                             : fmt::format("{}\n{:<40}{}\n", left, "", first);
  }
  text += "\nOptions of all commands:\n" + option_lines(global_options());
  text += "\n`connectctl help COMMAND` tells more about one.\n";
  return text;
}

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    size_t space = std::min(text.find(' '), text.size());
    words.emplace_back(text.substr(0, space));
    text.remove_prefix(std::min(space + 1, text.size()));
  }
  return words;
}

// The command whose words begin `words`; the longest.
const Command* find_command(const std::vector<std::string>& words, size_t* length) {
  const Command* found = nullptr;
  *length = 0;
  for (const Command& command : commands()) {
    std::vector<std::string> own = split_words(command.words);
    bool fits = own.size() <= words.size() && std::equal(own.begin(), own.end(), words.begin());
    if (fits && own.size() > *length) {
      found = &command;
      *length = own.size();
    }
  }
  return found;
}

ExitCode unknown_command(const Context& context, const std::vector<std::string>& words) {
  if (words.empty()) {
    context.streams.err << overview();
    return ExitCode::kUsage;
  }
  std::string near;
  size_t best = 3;
  std::string group;
  for (const Command& command : commands()) {
    std::vector<std::string> own = split_words(command.words);
    if (own.size() > 1 && own[0] == words[0]) {
      group += fmt::format("{}{}", group.empty() ? "" : ", ", own[1]);
    }
    size_t distance = config::edit_distance(words[0], own[0]);
    if (distance < best && distance < own[0].size()) {
      best = distance;
      near = own[0];
    }
  }
  if (!group.empty()) {
    return context.fail(
        ExitCode::kUsage,
        fmt::format("`{}` needs one of: {}. Try: connectctl help {}", words[0], group, words[0]));
  }
  return context.fail(
      ExitCode::kUsage,
      with_help(fmt::format("there is no command '{}'{}", words[0],
                            near.empty() ? "" : fmt::format("; did you mean '{}'?", near))));
}

// Fills in what the global options say; returns what is wrong with them.
std::optional<std::string> take_globals(Context& context) {
  for (const std::string& list : context.options["endpoint"]) {
    std::string_view rest = list;
    while (!rest.empty()) {
      size_t comma = std::min(rest.find(','), rest.size());
      auto address = parse_address(rest.substr(0, comma));
      if (!address) return "--endpoint: " + address.error();
      context.endpoints.push_back(*address);
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
  }
  if (context.endpoints.size() > kMaxEndpoints) {
    return fmt::format("--endpoint: at most {} addresses are taken", kMaxEndpoints);
  }
  if (context.endpoints.empty()) context.endpoints.push_back({"127.0.0.1", 7301});
  if (context.has("output")) {
    std::string output = context.option("output");
    if (output != "table" && output != "json") {
      return fmt::format("--output: '{}' is neither table nor json", output);
    }
    context.json = output == "json";
  }
  if (context.has("timeout")) {
    config::Parsed<Duration> timeout = config::parse_duration(context.option("timeout"));
    if (!timeout) return "--timeout: " + timeout.error();
    if (timeout->count() == 0) return "--timeout: has to be longer than 0";
    context.timeout = *timeout;
  }
  return std::nullopt;
}

// Options and words, mixed in any order.
Result<std::vector<std::string>> parse(const std::vector<std::string>& arguments,
                                       std::map<std::string, std::vector<std::string>>& options) {
  po::options_description known;
  std::set<std::string> names;
  auto add = [&](const OptionSpec& spec, const std::string& name) {
    if (!names.insert(std::string(spec.name)).second) return;
    if (spec.value.empty()) {
      known.add_options()(name.c_str(), "");
    } else {
      known.add_options()(name.c_str(), po::value<std::string>(), "");
    }
  };
  for (const OptionSpec& spec : global_options()) {
    std::string name(spec.name);
    if (name == "endpoint") name += ",e";
    if (name == "output") name += ",o";
    if (name == "help") name += ",h";
    add(spec, name);
  }
  for (const Command& command : commands()) {
    for (const OptionSpec& spec : command.options) add(spec, std::string(spec.name));
  }
  std::vector<std::string> words;
  try {
    // No abbreviations: an option that is new tomorrow must not change what a script means today.
    int style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
    po::parsed_options parsed =
        po::command_line_parser(arguments).options(known).style(style).allow_unregistered().run();
    for (const auto& option : parsed.options) {
      if (option.position_key >= 0) {
        words.insert(words.end(), option.value.begin(), option.value.end());
      } else if (option.unregistered) {
        std::string name =
            option.original_tokens.empty() ? option.string_key : option.original_tokens[0];
        return failure(ExitCode::kUsage, fmt::format("there is no option '{}'", name));
      } else {
        std::string value = option.value.empty() ? "" : option.value[0];
        options[option.string_key].push_back(value);
      }
    }
  } catch (const po::error& e) {
    return failure(ExitCode::kUsage, e.what());
  }
  return words;
}

}  // namespace

const std::vector<OptionSpec>& global_options() {
  static const std::vector<OptionSpec> kOptions = {
      {"endpoint", "HOST:PORT,...",
       "-e: HTTP addresses of any nodes, tried in turn [127.0.0.1:7301]"},
      {"output", "table|json", "-o: how data is printed [table]"},
      {"timeout", "DURATION", "how long to wait for one answer [5s; call: 10s; cluster: 30s]"},
      {"help", "", "-h: about connectctl, or about the command before it"},
  };
  return kOptions;
}

const std::vector<Command>& commands() {
  static const std::vector<Command> kCommands = {
      {"status",
       "",
       0,
       0,
       {},
       status_command,
       "the whole cluster in one table\n"
       "Asks one node, which asks all others; needs no leader. Ends with 0 when a majority "
       "serves,\n"
       "1 when not, 69 when no node answers."},
      {"call",
       "TEXT | --file FILE | -",
       0,
       kMany,
       {{"hex", "", "TEXT is hexadecimal digits"},
        {"file", "FILE", "the request is the file's content"},
        {"resp", "", "the words are one RESP command, like: call --resp SET key value"},
        {"read", "LEVEL", "linearizable, lease or stale: what a read is worth [linearizable]"},
        {"max-age", "DURATION", "of a stale read: the node was up to date so lately"},
        {"min-index", "N", "of a stale read: the node has this entry"}},
       call_command,
       "one request to the plugin\n"
       "The plugin says whether it is a write or a read; any node takes it. `-` reads it from\n"
       "standard input. The reply goes to standard output as it came. Ends with 1 when it was\n"
       "refused, 75 when there is no leader or the outcome is not known."},
      {"member list",
       "",
       0,
       0,
       {},
       member_list_command,
       "who belongs to the cluster\n"
       "With the index of the entry that says so, for --if-index."},
      {"member add",
       "ID",
       1,
       1,
       {kPeer,
        kClient,
        kHttp,
        {"learner", "", "it stays a learner: it has the data, and no vote"},
        kIfIndex},
       member_add_command,
       "a new member\n"
       "It joins as a learner, catches up, and becomes a voter by itself; this command waits for\n"
       "that. Start its connectd with an empty data directory and a configuration that lists the\n"
       "other members. Ids are never used twice."},
      {"member promote",
       "ID",
       1,
       1,
       {kIfIndex},
       member_promote_command,
       "a learner becomes a voter, when it has caught up\nWaits for that."},
      {"member remove",
       "ID",
       1,
       1,
       {kForce, kIfIndex},
       member_remove_command,
       "a member leaves for good\n"
       "Its connectd stops by itself. Refused when the voters that are left and can be reached "
       "are\n"
       "no majority, unless --force is given."},
      {"member replace",
       "ID",
       1,
       1,
       {kPeer, kClient, kHttp, kForce, kIfIndex},
       member_replace_command,
       "a member whose disk is lost comes back with an empty one\n"
       "Start its connectd with an empty data directory, before or after. It loses its vote,\n"
       "catches up as a learner, and becomes a voter by itself; this command waits for that."},
      {"leader show",
       "",
       0,
       0,
       {},
       leader_show_command,
       "who leads\nEnds with 1 when nobody does."},
      {"leader transfer",
       "",
       0,
       0,
       {{"to", "ID", "to this voter [whoever is furthest]"}},
       leader_transfer_command,
       "another member leads\nWaits for that, 10 s unless --timeout says otherwise."},
      {"settings list",
       "",
       0,
       0,
       {},
       settings_list_command,
       "the settings of the cluster, which are the same on all nodes"},
      {"settings set",
       "KEY VALUE",
       2,
       2,
       {},
       settings_set_command,
       "change a setting of the cluster\n"
       "Through the log: it is in force on every node that has the entry, and survives restarts.\n"
       "Waits until it is committed. What the configuration files say counts when a cluster is\n"
       "formed, and never again."},
      {"snapshot take",
       "",
       0,
       0,
       {},
       snapshot_take_command,
       "each node of -e takes a snapshot now\n"
       "Waits until it is durable, and prints its index and size."},
      {"snapshot list", "", 0, 0, {}, snapshot_list_command, "the snapshots of each node of -e"},
      {"snapshot save",
       "FILE",
       1,
       1,
       {{"fresh", "", "takes one first, instead of the newest that is there"}},
       snapshot_save_command,
       "a copy of a node's snapshot, for a backup\n"
       "Asks the first node of -e, on its own machine. The copy is verified before it gets its\n"
       "name; an existing file is never written over."},
      {"snapshot inspect",
       "FILE",
       1,
       1,
       {},
       snapshot_inspect_command,
       "what is in a snapshot file, verified, offline"},
      {"snapshot restore",
       "FILE",
       1,
       1,
       {{"data-dir", "DIR", "an empty or new directory [of --config: node.data_dir]"},
        {"config", "FILE", "the configuration that connectd will run with there"},
        {"node", "ID", "the first member's id [1; of --config: node.id]"},
        {"cluster-name", "NAME", "[of --config: cluster.name; else as it was]"},
        kPeer,
        kClient,
        kHttp,
        kSet},
       snapshot_restore_command,
       "a new cluster that goes on from a saved snapshot, offline\n"
       "Makes the data directory of its only member; others are added while it runs. The state,\n"
       "the plugin's options and the other settings are the old cluster's; the identity is new, "
       "so\n"
       "that the two never talk to each other, and the sessions of the old one are closed."},
      {"cluster start",
       "DIR",
       1,
       1,
       {{"nodes", "N", "how many, when DIR is new [3]"},
        kPlugin,
        {"port", "PORT", "peer ports from here, clients 100 above, HTTP 200 above [7101]"},
        {"connectd", "FILE", "the daemon to run [connectd beside connectctl]"}},
       cluster_start_command,
       "start a cluster on this machine, for development\n"
       "A new DIR gets the configuration files, and later the data, logs and process ids, of the\n"
       "nodes. Nodes that run already are left alone. Waits until all are ready."},
      {"cluster stop",
       "DIR",
       1,
       1,
       {},
       cluster_stop_command,
       "stop the nodes that `cluster start` started\n"
       "Asks them to stop (SIGTERM) and waits; never kills. The data stays."},
      {"cluster status",
       "DIR",
       1,
       1,
       {},
       cluster_status_command,
       "which nodes of DIR run\nEnds with 1 when not all do."},
      {"recover",
       "",
       0,
       0,
       {{"data-dir", "DIR", "the data directory of a node that does not run"},
        {"members", "SURVIVOR,...",
         "the cluster begins anew with these, as the first form prints them"},
        {"skip-entry", "INDEX", "the plugin is not given this entry; or INDEX:TERM:CHECKSUM"},
        {"yes", "", "do not ask"}},
       recover_command,
       "when Raft alone goes no further; offline\n"
       "With --data-dir alone: how this node's log ends; changes nothing.\n"
       "--members, after the loss of a majority: writes that the lost members acknowledged\n"
       "and that no survivor has are gone. Run it on every survivor, with the same list.\n"
       "--skip-entry, when the plugin fails on an entry at each start: run it on every member.\n"
       "Ends with 0 when it is done, 1 when it is refused, 65 when the directory is damaged,\n"
       "75 when its node runs. What it does and how to decide: docs/operations.md."},
      {"inspect wal",
       "DIR",
       1,
       1,
       {},
       inspect_wal_command,
       "every record of the log in a data directory, read only\n"
       "Best while its node does not run. Goes on behind damage; ends with 1 when there is any."},
      {"inspect snapshot",
       "DIR|FILE",
       1,
       1,
       {},
       inspect_snapshot_command,
       "the snapshots in a data directory, verified, read only\nEnds with 1 when one is damaged."},
      {"inspect identity",
       "DIR",
       1,
       1,
       {},
       inspect_identity_command,
       "whose data directory it is, read only"},
      {"config check",
       "FILE",
       1,
       1,
       {kSet, {"node", "ID", "check the file for this node"}},
       config_check_command,
       "find all that is wrong with a configuration file\n"
       "Prints every error with its line. Ends with 78 when there is one."},
      {"config reference",
       "",
       0,
       0,
       {},
       config_reference_command,
       "every key: its type, range, default and meaning\n"
       "Markdown, with an annotated file at its end that can be started from."},
      {"sim",
       "",
       0,
       0,
       {{"plugin", "FILE", "the plugin to test"},
        {"seed", "N", "the first seed [1]"},
        {"seeds", "K", "how many seeds [1; with --minutes: as many as fit]"},
        {"minutes", "M", "stop after this time"},
        {"steps", "M", "events of each run's faulty phase [20 simulated seconds]"},
        {"nodes", "N", "1 to 9 [3; every fifth seed 5]"},
        {"clients", "N", "connections that ask at the same time [6]"},
        {"faults", "LIST", "all, none, or names: message_loss,pause or all,-bit_flip [all]"},
        {"requests", "FILE", "one request a line; {n} is a fresh number, {k} one of five"},
        {"trace", "", "print what happens on standard error"}},
       sim_command,
       "a whole cluster with your plugin in one thread, while everything breaks\n"
       "Runs the real consensus, log, snapshots and sessions on virtual networks, disks and "
       "clocks.\n"
       "One seed decides all: a failure comes again, at the same event. After each event the\n"
       "invariants of Raft are checked, and over the whole run that no acknowledged write is "
       "lost,\n"
       "each is applied once, reads are linearizable, and the plugin gives the same replies on\n"
       "every node. Ends with 1 when a rule was broken, and tells how to replay it."},
      {"version", "", 0, 0, {}, version_command, "which connectctl this is"},
      {"help", "[COMMAND]", 0, 3, {}, help_command, "about connectctl, or one command"},
  };
  return kCommands;
}

ExitCode help_command(Context& context) {
  if (context.arguments.empty()) {
    context.streams.out << overview();
    return ExitCode::kOk;
  }
  bool any = false;
  for (const Command& command : commands()) {
    std::vector<std::string> own = split_words(command.words);
    bool fits = context.arguments.size() <= own.size() &&
                std::equal(context.arguments.begin(), context.arguments.end(), own.begin());
    if (!fits) continue;
    context.streams.out << (any ? "\n" : "") << "usage: " << usage_line(command) << "\n\n"
                        << command.help << "\n";
    if (!command.options.empty()) context.streams.out << "\n" << option_lines(command.options);
    any = true;
  }
  if (any) return ExitCode::kOk;
  return unknown_command(context, context.arguments);
}

ExitCode run(const std::vector<std::string>& arguments, const Streams& streams) {
  Context context{streams, {}, false, std::nullopt, {}, {}};
  Result<std::vector<std::string>> words = parse(arguments, context.options);
  if (!words) return context.fail(ExitCode::kUsage, with_help(words.error().text));

  if (context.has("help")) {
    context.arguments = *words;
    return help_command(context);
  }
  size_t length = 0;
  const Command* command = find_command(*words, &length);
  if (command == nullptr) return unknown_command(context, *words);
  for (const auto& [name, values] : context.options) {
    auto named = [&, &option = name](const OptionSpec& spec) { return spec.name == option; };
    bool good = std::any_of(global_options().begin(), global_options().end(), named) ||
                std::any_of(command->options.begin(), command->options.end(), named);
    if (!good) {
      return context.fail(ExitCode::kUsage,
                          fmt::format("`{}` has no option --{}. Try: connectctl help {}",
                                      command->words, name, command->words));
    }
  }
  context.arguments.assign(words->begin() + static_cast<std::ptrdiff_t>(length), words->end());
  size_t count = context.arguments.size();
  if (count < command->min_arguments || count > command->max_arguments) {
    return context.fail(ExitCode::kUsage, fmt::format("usage: {}. Try: connectctl help {}",
                                                      usage_line(*command), command->words));
  }
  if (auto problem = take_globals(context)) {
    return context.fail(ExitCode::kUsage, with_help(*problem));
  }
  ExitCode code = command->run(context);
  streams.out.flush();
  if (!streams.out) return context.fail(ExitCode::kStorage, "writing to standard output failed");
  return code;
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += i + 1 == row.size() ? row[i] : fmt::format("{:<{}}  ", row[i], widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace connectd::ctl

#include "app/command_line.h"

#include <fmt/format.h>

#include <boost/program_options.hpp>
#include <sstream>

#include "base/version.h"

namespace connectd::app {
namespace {
namespace po = boost::program_options;

po::options_description options() {
  po::options_description all("Options", 96, 64);
  all.add_options()("config", po::value<std::string>()->value_name("FILE"),
                    "configuration file (YAML)")(
      "plugin", po::value<std::string>()->value_name("FILE"),
      "state machine, a shared object; overrides plugin.path")(
      "node", po::value<std::string>()->value_name("ID"),
      "id of this node; overrides node.id, so that one file can serve all nodes")(
      "data-dir", po::value<std::string>()->value_name("DIR"),
      "data directory; overrides node.data_dir")(
      "set", po::value<std::vector<std::string>>()->value_name("KEY=VALUE"),
      "override of one key, such as raft.election_timeout=1s; repeatable")(
      "check",
      "check the configuration, the plugin, the ports and the data directory (all of the log and "
      "the "
      "newest snapshot, unless the node runs; not whether the plugin takes its state); print all "
      "errors")("print-config", "print every effective value with its source")(
      "version", "print the version")("help", "print this help");
  return all;
}
}  // namespace

Result<CommandLine> parse_command_line(int argc, const char* const* argv) {
  po::variables_map values;
  try {
    // No abbreviations: a new option must never change the meaning of an old command line.
    int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    po::positional_options_description none;
    po::store(
        po::command_line_parser(argc, argv).options(options()).positional(none).style(style).run(),
        values);
    po::notify(values);
  } catch (const po::error& error) {
    return failure(ErrorKind::kUsage,
                   fmt::format("connectd: {}\nTry: connectd --help", error.what()));
  }
  CommandLine line;
  auto text = [&](const char* name) -> std::optional<std::string> {
    if (values.count(name) == 0) return std::nullopt;
    return values[name].as<std::string>();
  };
  line.load.file = text("config");
  line.load.plugin = text("plugin");
  line.load.node = text("node");
  line.load.data_dir = text("data-dir");
  if (values.count("set") > 0) line.load.sets = values["set"].as<std::vector<std::string>>();
  line.check = values.count("check") > 0;
  line.print_config = values.count("print-config") > 0;
  line.version = values.count("version") > 0;
  line.help = values.count("help") > 0;
  if (!line.version && !line.help && !line.load.file && !line.load.plugin) {
    return failure(ErrorKind::kUsage,
                   "connectd: missing --config or --plugin.\n"
                   "Without a configuration file: connectd --plugin libcounter.so\n"
                   "Try: connectd --help");
  }
  line.load.need_plugin = !line.print_config;
  return line;
}

std::string help_text() {
  std::ostringstream out;
  out << "connectd runs a state machine, a plugin, as a fault-tolerant service.\n\n"
         "  connectd --config node1.yaml --plugin libcounter.so   a node of a cluster\n"
         "  connectd --plugin libcounter.so                       one node on loopback, data in\n"
         "                                                        ./connectd-data\n\n"
      << options()
      << "\nSignals: TERM and INT transfer leadership, finish the requests in progress and exit; "
         "a\n"
         "second one stops at once. HUP reloads the live keys, all or none. USR2 logs the state.\n";
  return out.str();
}

std::string version_text() { return fmt::format("{}\n", kVersionText); }

}  // namespace connectd::app

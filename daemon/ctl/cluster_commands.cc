// cluster start, stop, status: a cluster on this machine, for development. DIR holds for each node
// n: nodeN.yaml, nodeN/ (its data), nodeN.log, nodeN.pid.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <fstream>
#include <thread>

#include "admin/answers.h"
#include "admin/http_client.h"
#include "config/load.h"
#include "config/options.h"
#include "config/values.h"
#include "ctl/cluster_ports.h"
#include "ctl/commands.h"
#include "ctl/endpoints.h"
#include "ctl/processes.h"

namespace connectd::ctl {
namespace {

namespace fs = std::filesystem;

constexpr Duration kPoll = std::chrono::milliseconds(50);
constexpr Duration kReadyTimeout = std::chrono::seconds(2);  // of one request
constexpr size_t kLogLines = 8;                              // shown when a node has ended

struct LocalNode {
  uint64_t number = 0;
  std::string config_file, log_file, pid_file;
  config::Config config;
};

LocalNode local_node(const fs::path& directory, uint64_t number) {
  std::string stem = (directory / fmt::format("node{}", number)).string();
  return {number, stem + ".yaml", stem + ".log", stem + ".pid", {}};
}

// The nodes whose files are in `directory`, with their configurations.
Result<std::vector<LocalNode>> load_nodes(const fs::path& directory) {
  std::vector<LocalNode> nodes;
  for (uint64_t number = 1; number <= kMaxLocalNodes; ++number) {
    LocalNode node = local_node(directory, number);
    std::error_code ec;
    if (!fs::exists(node.config_file, ec)) break;
    config::LoadRequest request;
    request.file = node.config_file;
    Result<config::Loaded> loaded = config::load(request);
    if (!loaded) return failure(loaded.error());
    node.config = loaded->config;
    nodes.push_back(std::move(node));
  }
  return nodes;
}

Result<fs::path> absolute_path(const std::string& path) {
  std::error_code ec;
  fs::path absolute = fs::absolute(path, ec);
  if (ec) return failure(ErrorKind::kNotFound, fmt::format("{}: {}", path, ec.message()));
  return absolute.lexically_normal();
}

std::string config_text(const fs::path& directory, uint64_t number, size_t count, uint64_t port,
                        const std::string& plugin) {
  std::string text = fmt::format(
      "# Written by `connectctl cluster start`. Every key: connectctl config reference\n"
      "node:\n"
      "  id: {}\n"
      "  data_dir: {}\n"
      "cluster:\n"
      "  name: {}\n"
      "  bootstrap: auto\n"
      "  members:\n",
      number, config::format_text((directory / fmt::format("node{}", number)).string()),
      "development");
  for (size_t i = 0; i < count; ++i) {
    text += fmt::format(
        "    - {{id: {}, peer: \"127.0.0.1:{}\", client: \"127.0.0.1:{}\", http: "
        "\"127.0.0.1:{}\"}}\n",
        i + 1, port + i, port + 100 + i, port + 200 + i);
  }
  text += fmt::format("plugin:\n  path: {}\n", config::format_text(plugin));
  return text;
}

Result<void> write_configs(Context& context, const fs::path& directory) {
  size_t count = 3;
  if (context.has("nodes")) {
    config::Parsed<uint64_t> nodes = config::parse_integer(context.option("nodes"));
    if (!nodes || *nodes < 1 || *nodes > kMaxLocalNodes) {
      return failure(ErrorKind::kUsage, fmt::format("--nodes {}: must be from 1 to {}",
                                                    context.option("nodes"), kMaxLocalNodes));
    }
    count = static_cast<size_t>(*nodes);
  }
  const EphemeralPorts ephemeral = EphemeralPorts::read();
  uint64_t port = choose_first_port(ephemeral, count);
  if (context.has("port")) {
    config::Parsed<uint64_t> given = config::parse_integer(context.option("port"));
    if (!given || *given < 1 || *given > kMaxFirstPort) {
      return failure(ErrorKind::kUsage, fmt::format("--port {}: must be from 1 to {}",
                                                    context.option("port"), kMaxFirstPort));
    }
    port = *given;
  }
  if (!context.has("plugin")) {
    return failure(ErrorKind::kUsage, "missing --plugin FILE for a new cluster");
  }
  Result<fs::path> plugin = absolute_path(context.option("plugin"));
  if (!plugin) return failure(plugin.error());
  std::error_code ec;
  if (!fs::is_regular_file(*plugin, ec)) {
    return failure(ErrorKind::kNotFound,
                   fmt::format("--plugin {}: no such file", plugin->string()));
  }
  fs::create_directories(directory, ec);
  if (ec) {
    return failure(ErrorKind::kCannotCreate,
                   fmt::format("cannot create {}: {}", directory.string(), ec.message()));
  }
  if (const auto taken = ephemeral_port(ephemeral, port, count)) {
    context.streams.err << fmt::format(
        "warning: the kernel gives the ports {} to outgoing connections, port {} of this cluster "
        "among them: a node may find it in use when it starts. Choose another --port, or exclude "
        "them: sysctl -w net.ipv4.ip_local_reserved_ports={}-{},{}-{},{}-{}\n",
        ephemeral.text(), *taken, port, port + count - 1, port + 100, port + 100 + count - 1,
        port + 200, port + 200 + count - 1);
  }
  // Last one first: node1.yaml exists only if all the others do.
  for (uint64_t number = count; number >= 1; --number) {
    LocalNode node = local_node(directory, number);
    std::ofstream out(node.config_file, std::ios::trunc);
    out << config_text(directory, number, count, port, plugin->string());
    out.flush();
    if (!out) {
      return failure(ErrorKind::kCannotCreate,
                     fmt::format("cannot write {}: {}", node.config_file, errno_text(errno)));
    }
  }
  return {};
}

Result<std::string> daemon_path(const Context& context) {
  std::error_code ec;
  if (context.has("connectd")) {
    Result<fs::path> path = absolute_path(context.option("connectd"));
    if (!path) return failure(path.error());
    return path->string();
  }
  fs::path own = fs::read_symlink("/proc/self/exe", ec);
  fs::path daemon = own.parent_path() / "connectd";
  if (ec || !fs::exists(daemon, ec)) {
    return failure(ErrorKind::kNotFound,
                   fmt::format("{} not found; set --connectd FILE", daemon.string()));
  }
  return daemon.string();
}

std::string last_lines(const std::string& file) {
  std::ifstream in(file);
  std::deque<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    lines.push_back(line);
    if (lines.size() > kLogLines) lines.pop_front();
  }
  std::string text;
  for (const std::string& line : lines) text += "  " + line + "\n";
  return text;
}

struct Readiness {
  bool ready = false;
  std::string why;
};
Readiness ask_ready(const LocalNode& node) {
  admin::HttpRequest request;
  request.target = "/readyz";  // needs no role
  const LocalPort port = local_port(node.config);
  if (!port.authorities.empty()) {
    auto tls = tls::load_credentials(
        {.certificate = {}, .key = {}, .authorities = port.authorities, .revocations = {}},
        {.use = tls::Use::kClient});
    if (!tls) return {false, tls.error().text};
    request.tls = std::move(*tls);
  }
  admin::HttpOutcome outcome = admin::fetch(port.address, std::move(request), kReadyTimeout);
  if (!outcome) return {false, outcome.error().text};
  const auto problem = admin::from_json<admin::Problem>(outcome->body);
  return {outcome->status == 200, problem ? problem->detail : ""};
}

// "exited with exit code 78", if it is our child and has ended.
std::optional<std::string> ended(int pid) {
  int status = 0;
  if (waitpid(pid, &status, WNOHANG) != pid) return std::nullopt;
  if (WIFSIGNALED(status)) return fmt::format("was killed by signal {}", WTERMSIG(status));
  return fmt::format("exited with exit code {}", WEXITSTATUS(status));
}

std::string endpoints_of(const std::vector<LocalNode>& nodes) {
  std::string text;
  for (const LocalNode& node : nodes) {
    text += fmt::format("{}{}", text.empty() ? "" : ",", node.config.listen.http.to_string());
  }
  return text;
}

// Prints a row for each node. kOk: all of them run.
ExitCode print_nodes(Context& context, const std::vector<LocalNode>& nodes) {
  std::vector<std::vector<std::string>> rows = {
      {"NODE", "PROCESS", "PEER", "CLIENT", "HTTP", "LOG"}};
  std::string json = "[";
  bool all = true;
  for (const LocalNode& node : nodes) {
    std::optional<Process> process = running_process(node.pid_file, node.config_file);
    all = all && process.has_value();
    rows.push_back({fmt::format("n{}", node.number),
                    process ? std::to_string(process->pid) : "stopped",
                    node.config.listen.peer.to_string(), node.config.listen.client.to_string(),
                    node.config.listen.http.to_string(), node.log_file});
    json += fmt::format("{}{{\"id\":{},\"pid\":{},\"client\":\"{}\",\"http\":\"{}\"}}",
                        json.size() > 1 ? "," : "", node.number,
                        process ? std::to_string(process->pid) : "null",
                        node.config.listen.client.to_string(), node.config.listen.http.to_string());
  }
  context.streams.out << (context.json ? json + "]\n" : table(rows));
  return all ? ExitCode::kOk : ExitCode::kNegative;
}

// The nodes of DIR; an error when there are none.
Result<std::vector<LocalNode>> existing_nodes(const Context& context) {
  Result<fs::path> directory = absolute_path(context.arguments[0]);
  if (!directory) return failure(directory.error());
  Result<std::vector<LocalNode>> nodes = load_nodes(*directory);
  if (nodes && nodes->empty()) {
    return failure(
        ErrorKind::kNotFound,
        fmt::format(
            "{} has no cluster (no node1.yaml). Try: connectctl cluster start {} --plugin FILE",
            directory->string(), context.arguments[0]));
  }
  return nodes;
}

bool runs_already(const Context& context, const LocalNode& node) {
  if (!running_process(node.pid_file, node.config_file)) return false;
  if (context.has("plugin")) {
    context.streams.err << fmt::format(
        "node {} runs already, and --plugin has no effect on it; to stop it: connectctl cluster "
        "stop {}\n",
        node.number, context.arguments[0]);
  }
  return true;
}

}  // namespace

ExitCode cluster_start_command(Context& context) {
  Result<std::string> daemon = daemon_path(context);
  if (!daemon) return context.fail(daemon.error());
  Result<fs::path> directory = absolute_path(context.arguments[0]);
  if (!directory) return context.fail(directory.error());

  Result<std::vector<LocalNode>> nodes = load_nodes(*directory);
  if (nodes && nodes->empty()) {
    Result<void> written = write_configs(context, *directory);
    if (!written) {
      return context.fail(exit_code(written.error().kind),
                          written.error().text + ". Try: connectctl help cluster start");
    }
    nodes = load_nodes(*directory);
  } else if (nodes && context.has("nodes") &&
             context.option("nodes") != std::to_string(nodes->size())) {
    return context.fail(
        ExitCode::kUsage,
        fmt::format("{} already has a cluster of {}; leave out --nodes, or use another directory",
                    directory->string(), nodes->size()));
  }
  if (!nodes) {
    context.streams.err << nodes.error().text;
    return exit_code(nodes.error().kind);
  }

  std::map<uint64_t, int> started;  // node -> pid
  for (const LocalNode& node : *nodes) {
    if (runs_already(context, node)) continue;
    std::vector<std::string> arguments = {"--config", node.config_file};
    if (context.has("plugin")) {
      Result<fs::path> plugin = absolute_path(context.option("plugin"));
      if (!plugin) return context.fail(plugin.error());
      arguments.insert(arguments.end(), {"--plugin", plugin->string()});
    }
    Result<Process> process = start_process(*daemon, arguments, node.log_file);
    if (!process) return context.fail(process.error());
    Result<void> written = write_pid_file(node.pid_file, *process);
    if (!written) return context.fail(written.error());
    started[node.number] = process->pid;
  }

  Time deadline = context.end_of_wait();
  for (const LocalNode& node : *nodes) {
    while (true) {
      for (const LocalNode& other : *nodes) {
        auto it = started.find(other.number);
        if (it == started.end()) continue;
        if (auto how = ended(it->second)) {
          context.streams.err << last_lines(other.log_file);
          return context.fail(
              ExitCode::kNegative,
              fmt::format("node {} {}; above is the end of {}. The other nodes run; to stop them: "
                          "connectctl cluster stop {}",
                          other.number, *how, other.log_file, context.arguments[0]));
        }
      }
      Readiness readiness = ask_ready(node);
      if (readiness.ready) break;
      if (read_clocks().time > deadline) {
        return context.fail(
            ExitCode::kTryAgain,
            fmt::format(
                "node {} is not ready in time ({}). See {}, or run: connectctl cluster stop {}",
                node.number, readiness.why, node.log_file, context.arguments[0]));
      }
      std::this_thread::sleep_for(kPoll);
    }
  }
  ExitCode code = print_nodes(context, *nodes);
  context.streams.err << fmt::format("ready. Try: connectctl -e {} status\n", endpoints_of(*nodes));
  return code;
}

ExitCode cluster_stop_command(Context& context) {
  Result<std::vector<LocalNode>> nodes = existing_nodes(context);
  if (!nodes) return context.fail(nodes.error());
  std::vector<std::pair<const LocalNode*, Process>> stopping;
  for (const LocalNode& node : *nodes) {
    std::optional<Process> process = running_process(node.pid_file, node.config_file);
    std::error_code ec;
    if (!process) {
      fs::remove(node.pid_file, ec);
      continue;
    }
    Result<void> sent = signal_process(*process, SIGTERM);
    if (!sent && sent.error().kind != ErrorKind::kNotFound) {
      return context.fail(sent.error());
    }
    stopping.emplace_back(&node, *process);
  }
  Time deadline = context.end_of_wait();
  for (const auto& [node, process] : stopping) {
    while (running_process(node->pid_file, node->config_file)) {
      if (read_clocks().time > deadline) {
        return context.fail(ExitCode::kTryAgain,
                            fmt::format("node {} (process {}) has not stopped in time. See {}, "
                                        "wait, or kill it: kill -9 {}",
                                        node->number, process.pid, node->log_file, process.pid));
      }
      std::this_thread::sleep_for(kPoll);
    }
    std::error_code ec;
    fs::remove(node->pid_file, ec);
  }
  context.streams.err << fmt::format("{} of {} nodes were running and have stopped\n",
                                     stopping.size(), nodes->size());
  return ExitCode::kOk;
}

ExitCode cluster_status_command(Context& context) {
  Result<std::vector<LocalNode>> nodes = existing_nodes(context);
  if (!nodes) return context.fail(nodes.error());
  return print_nodes(context, *nodes);
}

}  // namespace connectd::ctl

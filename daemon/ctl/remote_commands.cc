// status and call, over the HTTP ports of running nodes.
#include <algorithm>
#include <boost/json.hpp>
#include <fstream>
#include <iterator>

#include "admin/call_outcome.h"
#include "admin/http_client.h"
#include "admin/read_level.h"
#include "base/address.h"
#include "base/limits.h"
#include "ctl/answers.h"
#include "ctl/cluster_health.h"
#include "ctl/commands.h"

namespace connectd::ctl {
namespace {

namespace json = boost::json;

std::string with_thousands(uint64_t number) {
  std::string digits = std::to_string(number);
  for (size_t i = digits.size(); i > 3;) digits.insert(i -= 3, 1, ',');
  return digits;
}

// ---- status

struct ClusterView {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> problems;
  ClusterHealth health;
  Index leader_last;  // the leader's last index
  std::string name, cluster_id, plugin;
};

void take_common_fields(const std::vector<AskedNode>& nodes, ClusterView& view) {
  for (const AskedNode& asked : nodes) {
    if (!asked.status) continue;
    const node::StatusSnapshot& status = *asked.status;
    if (status.id == view.health.leader) view.leader_last = status.last_index;
    view.name = status.cluster_name;
    if (view.cluster_id.empty() && status.cluster_id) {
      view.cluster_id = status.cluster_id.to_string();
    }
    view.plugin = fmt::format("{} {}", status.plugin_name, status.plugin_version);
  }
}

// Where the others have it listed for peers: a node that is down cannot say it.
std::string listed_peer(const std::vector<AskedNode>& nodes, NodeId id) {
  for (const AskedNode& asked : nodes) {
    if (!asked.status) continue;
    const auto& members = asked.status->members;
    auto member = std::ranges::find(members, id, &node::MemberStatus::id);
    if (member != members.end() && !member->peer.empty()) return member->peer;
  }
  return "-";
}

// A node that reaches no majority cannot know whether the others serve; here it is known.
std::string remedy_of(const node::StatusSnapshot& status, const ClusterView& view) {
  if (status.remedy.empty()) return {};
  if (!view.health.has_quorum()) return ": " + status.remedy;
  return fmt::format(
      ". The others serve, and node {} leads them: check the network between them and node {}, and "
      "the addresses on both sides (connectctl member list)",
      view.health.leader, status.id);
}

void add_node(const std::vector<AskedNode>& nodes, const AskedNode& asked,
              std::map<Index, uint64_t>& digest_at, ClusterView& view) {
  const NodeId id = asked.node.id;
  const NodeId leader = view.health.leader;
  const bool is_learner = view.health.is_learner(id);
  if (!asked.status) {
    view.rows.push_back({fmt::format("n{}", id), listed_peer(nodes, id),
                         is_learner ? "learner" : "-", asked.node.stranger ? "STRANGER" : "DOWN",
                         "-", "-", "-", "-", "-"});
    view.problems.push_back(fmt::format("node {} ({}): {}", id, asked.node.http, asked.node.error));
    return;
  }
  const node::StatusSnapshot& status = *asked.status;
  const Index last = std::min(status.last_index, view.leader_last);
  const std::string lag = id == leader || !leader ? "-" : with_thousands(view.leader_last - last);
  auto self = std::ranges::find(status.members, id, &node::MemberStatus::id);
  const bool diverged = !status.divergence.empty();
  const bool hangs = !status.stuck.empty();
  if (!status.ready) {
    view.problems.push_back(
        fmt::format("node {} is not ready: {}{}", id, status.reason, remedy_of(status, view)));
  }
  if (status.disk_state != "ok") {
    view.problems.push_back(fmt::format("node {}: {} (free={})", id,
                                        disk_problem(status.disk_state),
                                        with_thousands(status.disk_free_bytes)));
  }
  if (!status.tls_warning.empty()) {
    view.problems.push_back(fmt::format("node {}: TLS: {}", id, status.tls_warning));
  }
  if (!status.clock_warning.empty()) {
    view.problems.push_back(fmt::format("node {}: clock: {}", id, status.clock_warning));
  }
  if (!status.plugin_warning.empty()) {
    view.problems.push_back(fmt::format("node {}: plugin {} {}: {}", id, status.plugin_name,
                                        status.plugin_version, status.plugin_warning));
  }
  auto [known, fresh] = digest_at.emplace(status.applied_index, status.digest);
  if (!fresh && known->second != status.digest) {
    view.problems.push_back(
        fmt::format("the digests at index {} differ: {:016x} and {:016x}. The replicas have "
                    "diverged; stop writing and check their logs",
                    status.applied_index, known->second, status.digest));
  }
  view.rows.push_back({status.name, self == status.members.end() ? "" : self->peer,
                       std::string(is_learner ? "learner" : admin::role_text(status.role)),
                       status.ready ? "ready"
                       : diverged   ? "DIVERGED"
                       : hangs      ? "STUCK"
                                    : "WAITING",
                       with_thousands(status.commit_index.value()),
                       with_thousands(status.applied_index.value()), lag,
                       fmt::format("{:016x}", status.digest), status.version});
}

ClusterView view_of(const admin::ClusterAnswer& answer) {
  const std::vector<AskedNode> nodes = asked_nodes(answer);
  ClusterView view;
  view.health = judge(nodes);
  take_common_fields(nodes, view);
  if (!view.health.reasons.empty()) {
    view.problems.push_back(fmt::format("{}", fmt::join(view.health.reasons, "; ")));
  }
  view.rows.push_back(
      {"NODE", "ADDRESS", "ROLE", "STATE", "COMMIT", "APPLIED", "LAG", "DIGEST", "VERSION"});
  std::map<Index, uint64_t> digest_at;
  for (const AskedNode& asked : nodes) add_node(nodes, asked, digest_at, view);
  return view;
}

std::string headline(const ClusterView& view) {
  std::string text =
      fmt::format("CLUSTER {} ({})", view.name,
                  view.cluster_id.empty() ? "not formed yet" : view.cluster_id.substr(0, 8));
  const ClusterHealth& health = view.health;
  if (health.leader) text += fmt::format("   leader n{}", health.leader);
  text += fmt::format("   term {}   {}", health.term, state_text(health.state));
  if (health.serves()) text += fmt::format("   can lose {} more", health.can_lose);
  return text + fmt::format("   plugin {}\n", view.plugin);
}

// As it is copied into a configuration.
std::string cluster_id_line(std::string_view id) { return fmt::format("cluster.id: {}\n", id); }

std::string join_addresses(const std::vector<Address>& addresses) {
  std::string text;
  for (const Address& address : addresses) {
    text += fmt::format("{}{}", text.empty() ? "" : ",", address.to_string());
  }
  return text;
}

// ---- call

Result<std::string> from_hex(std::string_view text) {
  auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  std::string bytes;
  int high = -1;
  for (char c : text) {
    if (c == ' ') continue;
    int value = digit(c);
    if (value < 0) {
      return failure(ErrorKind::kUsage, fmt::format("--hex: '{}' is not a hexadecimal digit", c));
    }
    if (high < 0) {
      high = value;
    } else {
      bytes += static_cast<char>(high * 16 + value);
      high = -1;
    }
  }
  if (high >= 0) return failure(ErrorKind::kUsage, "--hex: must have an even number of digits");
  return bytes;
}

Result<std::string> read_all(std::istream& in, const std::string& name) {
  std::string bytes;
  std::vector<char> block(64 << 10);
  while (in.read(block.data(), static_cast<std::streamsize>(block.size())), in.gcount() > 0) {
    bytes.append(block.data(), static_cast<size_t>(in.gcount()));
    if (bytes.size() > kMaxEntryPayloadBytes) {
      return failure(ErrorKind::kUsage, fmt::format("{}: exceeds the maximum request size", name));
    }
  }
  if (in.bad()) return failure(ErrorKind::kNotFound, fmt::format("{}: cannot be read", name));
  return bytes;
}

Result<std::string> request_bytes(Context& context) {
  const std::vector<std::string>& words = context.arguments;
  int ways =
      (context.has("hex") ? 1 : 0) + (context.has("file") ? 1 : 0) + (context.has("resp") ? 1 : 0);
  if (ways > 1) {
    return failure(ErrorKind::kUsage, "--hex, --file and --resp exclude each other");
  }
  if (context.has("file")) {
    if (!words.empty()) return failure(ErrorKind::kUsage, "a text and --file exclude each other");
    std::ifstream in(context.option("file"), std::ios::binary);
    if (!in) {
      return failure(ErrorKind::kNotFound, fmt::format("{}: cannot be opened: {}",
                                                       context.option("file"), errno_text(errno)));
    }
    return read_all(in, context.option("file"));
  }
  if (words.empty()) return failure(ErrorKind::kUsage, "missing request");
  if (context.has("resp")) {
    std::string bytes = fmt::format("*{}\r\n", words.size());
    for (const std::string& word : words) bytes += fmt::format("${}\r\n{}\r\n", word.size(), word);
    return bytes;
  }
  if (words.size() > 1) {
    return failure(
        ErrorKind::kUsage,
        "the request must be one argument: put it in quotes, or use --resp for a plugin that "
        "speaks RESP");
  }
  if (context.has("hex")) return from_hex(words[0]);
  if (words[0] == "-") return read_all(context.streams.in, "standard input");
  return words[0];
}

std::string hex_of(std::string_view bytes) {
  std::string text;
  for (char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

ExitCode print_reply(const Context& context, const admin::HttpAnswer& answer) {
  bool refused = answer.status != 200;
  const int64_t status = std::strtoll(answer.header("x-connect-status").c_str(), nullptr, 10);
  if (context.json) {
    json::object object{{"refused", refused},
                        {"index", nullptr},
                        {"status", nullptr},
                        {"reply_hex", hex_of(answer.body)}};
    if (!answer.header("x-connect-index").empty()) {
      object["index"] = std::strtoull(answer.header("x-connect-index").c_str(), nullptr, 10);
    }
    if (!answer.header("x-connect-status").empty()) {
      object["status"] = status;
    }
    bool printable = std::all_of(answer.body.begin(), answer.body.end(), [](char c) {
      return (c >= 0x20 && c < 0x7f) || c == '\n' || c == '\r' || c == '\t';
    });
    if (printable) object["reply"] = answer.body;
    context.streams.out << json::serialize(object) << "\n";
  } else {
    context.streams.out.write(answer.body.data(), static_cast<std::streamsize>(answer.body.size()));
  }
  if (refused) return ExitCode::kNegative;
  if (status <= 0 || !context.has("fail")) return ExitCode::kOk;
  return context.fail(ExitCode::kPluginStatus,
                      fmt::format("the plugin answered with status {}", status));
}

ExitCode call_failed(const Context& context, const admin::HttpAnswer& answer,
                     const std::string& where) {
  std::string code = code_of(answer);
  std::string text = fmt::format("{}{}{}", code, code.empty() ? "" : ": ", detail_of(answer));
  const std::string see = fmt::format("Try: connectctl -e {} status", where);
  switch (admin::reply_code_of(code).value_or(node::ReplyCode::kOk)) {
    case node::ReplyCode::kNoLeader:
    case node::ReplyCode::kOverloaded:
    case node::ReplyCode::kShutdown:
    case node::ReplyCode::kDiskFull:
      return context.fail(ExitCode::kTryAgain, fmt::format("{}. It did not happen. {}", text, see));
    case node::ReplyCode::kStale:
      return context.fail(ExitCode::kTryAgain, fmt::format("{}. {}", text, see));
    case node::ReplyCode::kUnknown:
      return context.fail(ExitCode::kTryAgain,
                          fmt::format("{}. It may or may not have happened: read before you repeat "
                                      "it. {}",
                                      text, see));
    case node::ReplyCode::kOk:  // or a code that this build does not know
    case node::ReplyCode::kTooLarge:
    case node::ReplyCode::kRejected:
    case node::ReplyCode::kBadFrame:
    case node::ReplyCode::kPlugin:
    case node::ReplyCode::kSessionGone:
    case node::ReplyCode::kNoPerm:
      break;
  }
  return context.fail(ExitCode::kNegative, fmt::format("{}. Try: connectctl help call", text));
}

}  // namespace

ExitCode status_command(Context& context) {
  std::vector<Address> asked = context.endpoints;
  asked.insert(asked.end(), context.members.begin(), context.members.end());
  size_t tries = asked.size();
  std::string why;
  for (size_t i = 0; i < asked.size(); ++i) {
    std::string body;
    const std::string failed = why;
    auto cluster = ask_cluster(context, asked[i], context.answer_timeout(context.timeout, tries--),
                               why, &body);
    if (!cluster) continue;
    if (i >= context.endpoints.size()) {
      context.streams.err << fmt::format(
          "no node of this machine answers ({}); asked {}, another "
          "member in its configuration\n",
          failed, asked[i].to_string());
    }
    const ClusterView view = view_of(*cluster);
    if (context.json) {
      context.streams.out << body << "\n";
    } else {
      context.streams.out << headline(view) << table(view.rows);
      if (!view.cluster_id.empty()) context.streams.out << cluster_id_line(view.cluster_id);
      for (const std::string& problem : view.problems) {
        context.streams.err << "warning: " << problem << "\n";
      }
    }
    return view.health.serves() ? ExitCode::kOk : ExitCode::kNegative;
  }
  return context.fail_unreachable(why);
}

ExitCode call_command(Context& context) {
  // The header's text is parsed here by the rules of the nodes, so errors are the same.
  std::string read = context.has("read") ? context.option("read") : "linearizable";
  if (read.empty() || read.find(';') != std::string::npos) {
    return context.fail(ExitCode::kUsage,
                        "--read must be linearizable, lease or stale. Try: connectctl help call");
  }
  for (const char* bound : {"max-age", "min-index"}) {
    if (context.has(bound)) read += fmt::format("; {}={}", bound, context.option(bound));
  }
  if (auto level = admin::parse_read_level(read); !level) {
    return context.fail(ExitCode::kUsage, level.error().text + ". Try: connectctl help call");
  }
  Result<std::string> bytes = request_bytes(context);
  if (!bytes) {
    return context.fail(exit_code(bytes.error().kind),
                        bytes.error().text + ". Try: connectctl help call");
  }
  std::string why;
  for (const Address& endpoint : context.endpoints) {
    admin::HttpRequest request;
    request.method = "POST";
    request.token = context.token;
    request.target = "/v1/call";
    request.tls = context.tls;
    request.headers = {{"X-Connect-Request", "1"}, {"Content-Type", "application/octet-stream"}};
    if (context.has("read")) request.headers["X-Connect-Read"] = read;
    request.body = *bytes;
    const Duration timeout = context.answer_timeout(context.timeout);
    admin::HttpOutcome outcome = admin::fetch(endpoint, std::move(request), timeout);
    if (!outcome && outcome.error().sent) {
      return context.fail(
          ExitCode::kTryAgain,
          fmt::format("{}: {}. The request was sent; it may or may not have happened: read before "
                      "you repeat it. Try: connectctl -e {} status",
                      endpoint.to_string(), outcome.error().text,
                      join_addresses(context.endpoints)));
    }
    if (!outcome) {  // nothing was sent: try the next one
      why += fmt::format("{}{}: {}", why.empty() ? "" : ", ", endpoint.to_string(),
                         outcome.error().text);
      continue;
    }
    bool plugins_own = !outcome->header("x-connect-status").empty();
    if (outcome->status == 200 || plugins_own) return print_reply(context, *outcome);
    bool last = &endpoint == &context.endpoints.back();
    if (code_of(*outcome) == "SHUTDOWN" && !last) continue;  // it was not forwarded
    return call_failed(context, *outcome, endpoint.to_string());
  }
  return context.fail_unreachable(why, "accepts the request");
}

}  // namespace connectd::ctl

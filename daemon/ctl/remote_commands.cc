// status and call: over the HTTP ports of running nodes.
#include <algorithm>
#include <boost/json.hpp>
#include <fstream>
#include <iterator>
#include <set>

#include "admin/http_client.h"
#include "admin/read_level.h"
#include "ctl/answers.h"
#include "ctl/commands.h"

namespace connectd::ctl {
namespace {

namespace json = boost::json;

constexpr Duration kDefaultTimeout = std::chrono::seconds(5);
// Longer than a node waits for a leader, so that its own answer arrives.
constexpr Duration kCallTimeout = std::chrono::seconds(10);
constexpr size_t kMaxRequestBytes = 64 << 20;

std::string with_thousands(uint64_t number) {
  std::string digits = std::to_string(number);
  for (size_t i = digits.size(); i > 3;) digits.insert(i -= 3, ",");
  return digits;
}

// ---- status

struct ClusterView {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> problems;
  uint64_t leader = 0;
  uint64_t term = 0;
  uint64_t leader_last = 0;  // the leader's last index
  size_t voters = 0;
  size_t serving = 0;     // voters that answer
  bool diverged = false;  // the replicas are not equal, and no writes are taken
  bool no_space = false;  // no quorum has disk space, and no writes are taken
  std::string name, cluster_id, plugin;
  std::set<std::string> digests_at_one_index;
};

ClusterView view_of(const json::value& answer) {
  ClusterView view;
  const json::value* nodes = field(&answer, "nodes");
  if (nodes == nullptr || !nodes->is_array()) return view;

  // Who leads: the one that says so in the highest term.
  for (const json::value& node : nodes->as_array()) {
    const json::value* status = field(&node, "status");
    if (status == nullptr || !status->is_object()) continue;
    uint64_t term = number_of(field(status, "term"));
    bool leads = text_of(field(status, "role")) == "leader";
    if (leads && term >= view.term) {
      view.leader = number_of(field(status, "id"));
      view.leader_last = number_of(field(status, "last_index"));
    }
    if (term > view.term && !leads && view.leader != 0) view.leader = 0;
    view.term = std::max(view.term, term);
    const json::value* plugin = field(status, "plugin");
    view.name = text_of(field(status, "cluster_name"));
    if (view.cluster_id.empty()) view.cluster_id = text_of(field(status, "cluster_id"));
    view.plugin =
        fmt::format("{} {}", text_of(field(plugin, "name")), text_of(field(plugin, "version")));
  }

  // Learners count for nothing. The leader knows who they are; without one, who knows the newest
  // list.
  std::set<uint64_t> learners;
  uint64_t newest = 0;
  for (const json::value& node : nodes->as_array()) {
    const json::value* status = field(&node, "status");
    const json::value* members = field(status, "members");
    const uint64_t index = number_of(field(status, "members_index"));
    const bool leads = view.leader != 0 && number_of(field(status, "id")) == view.leader;
    if (members == nullptr || !members->is_array() || (index < newest && !leads)) continue;
    newest = leads ? UINT64_MAX : index;
    learners.clear();
    for (const json::value& member : members->as_array()) {
      const json::value* voter = field(&member, "voter");
      if (voter != nullptr && !truth_of(voter)) learners.insert(number_of(field(&member, "id")));
    }
  }

  std::map<uint64_t, std::string> digest_at;  // applied index -> digest
  view.rows.push_back(
      {"NODE", "ADDRESS", "ROLE", "STATE", "COMMIT", "APPLIED", "LAG", "DIGEST", "VERSION"});
  for (const json::value& node : nodes->as_array()) {
    uint64_t id = number_of(field(&node, "id"));
    const bool is_voter = !learners.contains(id);
    view.voters += is_voter;
    const json::value* status = field(&node, "status");
    if (!truth_of(field(&node, "reachable")) || status == nullptr || !status->is_object()) {
      view.rows.push_back({fmt::format("n{}", id), text_of(field(&node, "http")), "-", "DOWN", "-",
                           "-", "-", "-", "-"});
      view.problems.push_back(fmt::format("node {} ({}): {}", id, text_of(field(&node, "http")),
                                          text_of(field(&node, "error"))));
      continue;
    }
    view.serving += is_voter;
    uint64_t applied = number_of(field(status, "applied_index"));
    uint64_t last = number_of(field(status, "last_index"));
    std::string lag = id == view.leader || view.leader == 0
                          ? "-"
                          : with_thousands(view.leader_last > last ? view.leader_last - last : 0);
    std::string address;
    const json::value* members = field(status, "members");
    if (members != nullptr && members->is_array()) {
      for (const json::value& member : members->as_array()) {
        if (number_of(field(&member, "id")) == id) address = text_of(field(&member, "peer"));
      }
    }
    bool ready = truth_of(field(status, "ready"));
    bool diverged = !text_of(field(status, "divergence")).empty();
    view.diverged = view.diverged || diverged;
    if (!ready) {
      view.problems.push_back(
          fmt::format("node {} is not ready: {}", id, text_of(field(status, "reason"))));
    }
    const json::value* disk = field(status, "disk");
    const std::string disk_state = text_of(field(disk, "state"));
    if (!disk_state.empty() && disk_state != "ok") {
      const char* what = disk_state == "stalled"   ? "its disk completes nothing"
                         : disk_state == "no room" ? "its disk is full, and its log has no room"
                                                   : "its disk is full";
      view.problems.push_back(fmt::format("node {}: {} ({} bytes are free)", id, what,
                                          with_thousands(number_of(field(disk, "free_bytes")))));
    }
    if (id == view.leader) view.no_space = truth_of(field(disk, "writes_stopped"));
    std::string digest = text_of(field(status, "digest"));
    auto [known, fresh] = digest_at.emplace(applied, digest);
    if (!fresh && known->second != digest) {
      view.problems.push_back(
          fmt::format("the digests at index {} differ: {} and {}. The replicas "
                      "are not equal; stop writing and look at their logs",
                      applied, known->second, digest));
    }
    view.rows.push_back({text_of(field(status, "name")), address,
                         is_voter ? text_of(field(status, "role")) : "learner",
                         ready      ? "ready"
                         : diverged ? "DIVERGED"
                                    : "WAITING",
                         with_thousands(number_of(field(status, "commit_index"))),
                         with_thousands(applied), lag, digest, text_of(field(status, "version"))});
  }
  return view;
}

std::string headline(const ClusterView& view) {
  size_t needed = view.voters / 2 + 1;
  bool healthy = view.leader != 0 && view.serving >= needed && !view.diverged && !view.no_space;
  std::string state = view.leader == 0             ? "NO LEADER"
                      : view.diverged              ? "DIVERGED, NO WRITES"
                      : view.serving < needed      ? "NO QUORUM"
                      : view.no_space              ? "DISKS FULL, NO WRITES"
                      : view.serving < view.voters ? "degraded"
                                                   : "healthy";
  std::string text =
      fmt::format("CLUSTER {} ({})", view.name,
                  view.cluster_id.empty() ? "not formed yet" : view.cluster_id.substr(0, 8));
  if (view.leader != 0) text += fmt::format("   leader n{}", view.leader);
  text += fmt::format("   term {}   {}", view.term, state);
  if (healthy) text += fmt::format("   can lose {} more", view.serving - needed);
  return text + fmt::format("   plugin {}\n", view.plugin);
}

std::string join_addresses(const std::vector<config::Address>& addresses) {
  std::string text;
  for (const config::Address& address : addresses) {
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
      return failure(ExitCode::kUsage, fmt::format("--hex: '{}' is no hexadecimal digit", c));
    }
    if (high < 0) {
      high = value;
    } else {
      bytes += static_cast<char>(high * 16 + value);
      high = -1;
    }
  }
  if (high >= 0) return failure(ExitCode::kUsage, "--hex: an odd number of digits");
  return bytes;
}

Result<std::string> read_all(std::istream& in, const std::string& name) {
  std::string bytes;
  std::vector<char> block(64 << 10);
  while (in.read(block.data(), static_cast<std::streamsize>(block.size())), in.gcount() > 0) {
    bytes.append(block.data(), static_cast<size_t>(in.gcount()));
    if (bytes.size() > kMaxRequestBytes) {
      return failure(ExitCode::kUsage, fmt::format("{}: is larger than any request may be", name));
    }
  }
  if (in.bad()) return failure(ExitCode::kNoInput, fmt::format("{}: cannot be read", name));
  return bytes;
}

Result<std::string> request_bytes(Context& context) {
  const std::vector<std::string>& words = context.arguments;
  int ways =
      (context.has("hex") ? 1 : 0) + (context.has("file") ? 1 : 0) + (context.has("resp") ? 1 : 0);
  if (ways > 1) {
    return failure(ExitCode::kUsage, "give one of --hex, --file and --resp");
  }
  if (context.has("file")) {
    if (!words.empty()) return failure(ExitCode::kUsage, "give either a text or --file");
    std::ifstream in(context.option("file"), std::ios::binary);
    if (!in) {
      return failure(ExitCode::kNoInput, fmt::format("{}: cannot be opened: {}",
                                                     context.option("file"), errno_text(errno)));
    }
    return read_all(in, context.option("file"));
  }
  if (words.empty()) return failure(ExitCode::kUsage, "a request is wanted");
  if (context.has("resp")) {
    std::string bytes = fmt::format("*{}\r\n", words.size());
    for (const std::string& word : words) bytes += fmt::format("${}\r\n{}\r\n", word.size(), word);
    return bytes;
  }
  if (words.size() > 1) {
    return failure(ExitCode::kUsage, "the request is one argument: put it in quotes");
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
  if (context.json) {
    json::object object{{"refused", refused},
                        {"index", nullptr},
                        {"status", nullptr},
                        {"reply_hex", hex_of(answer.body)}};
    if (!answer.header("x-connect-index").empty()) {
      object["index"] = std::strtoull(answer.header("x-connect-index").c_str(), nullptr, 10);
    }
    if (!answer.header("x-connect-status").empty()) {
      object["status"] = std::strtoll(answer.header("x-connect-status").c_str(), nullptr, 10);
    }
    bool printable = std::all_of(answer.body.begin(), answer.body.end(), [](char c) {
      return (c >= 0x20 && c < 0x7f) || c == '\n' || c == '\r' || c == '\t';
    });
    if (printable) object["reply"] = answer.body;
    context.streams.out << json::serialize(object) << "\n";
  } else {
    context.streams.out.write(answer.body.data(), static_cast<std::streamsize>(answer.body.size()));
  }
  return refused ? ExitCode::kNegative : ExitCode::kOk;
}

ExitCode call_failed(const Context& context, const admin::HttpAnswer& answer,
                     const std::string& where) {
  std::string code = code_of(answer);
  std::string text = fmt::format("{}{}{}", code, code.empty() ? "" : ": ", detail_of(answer));
  if (code == "NOLEADER" || code == "OVERLOADED" || code == "SHUTDOWN" || code == "DISKFULL") {
    return context.fail(
        ExitCode::kTryAgain,
        fmt::format("{}. It did not happen. Try: connectctl -e {} status", text, where));
  }
  if (code == "STALE") {
    return context.fail(ExitCode::kTryAgain,
                        fmt::format("{}. Try: connectctl -e {} status", text, where));
  }
  if (code == "UNKNOWN") {
    return context.fail(ExitCode::kTryAgain,
                        fmt::format("{}. It may have happened or not: read before you repeat it. "
                                    "Try: connectctl -e {} status",
                                    text, where));
  }
  return context.fail(ExitCode::kNegative, fmt::format("{}. Try: connectctl help call", text));
}

}  // namespace

ExitCode status_command(Context& context) {
  Duration timeout = context.timeout.value_or(kDefaultTimeout);
  std::string why;
  for (const config::Address& endpoint : context.endpoints) {
    admin::HttpRequest request;
    request.target = "/v1/cluster";
    admin::HttpOutcome outcome = admin::fetch(endpoint, std::move(request), timeout);
    if (!outcome) {
      why += fmt::format("{}{}: {}", why.empty() ? "" : ", ", endpoint.to_string(),
                         outcome.error().text);
      continue;
    }
    boost::system::error_code ec;
    json::value value = json::parse(outcome->body, ec);
    if (outcome->status != 200 || ec) {
      why += fmt::format("{}{}: {}", why.empty() ? "" : ", ", endpoint.to_string(),
                         detail_of(*outcome));
      continue;
    }
    ClusterView view = view_of(value);
    if (context.json) {
      context.streams.out << outcome->body << "\n";
    } else {
      context.streams.out << headline(view) << table(view.rows);
      for (const std::string& problem : view.problems) {
        context.streams.err << "warning: " << problem << "\n";
      }
    }
    bool serves =
        view.leader != 0 && view.serving >= view.voters / 2 + 1 && !view.diverged && !view.no_space;
    return serves ? ExitCode::kOk : ExitCode::kNegative;
  }
  return context.fail(ExitCode::kUnavailable,
                      fmt::format("no node answers ({}). Name others with -e HOST:PORT, or look at "
                                  "the nodes' logs",
                                  why));
}

ExitCode call_command(Context& context) {
  // One text for the header and for what is wrong with it: the nodes read it by the same rules.
  std::string read = context.has("read") ? context.option("read") : "linearizable";
  if (read.empty() || read.find(';') != std::string::npos) {
    return context.fail(ExitCode::kUsage,
                        "--read takes linearizable, lease or stale. Try: connectctl help call");
  }
  for (const char* bound : {"max-age", "min-index"}) {
    if (context.has(bound)) read += fmt::format("; {}={}", bound, context.option(bound));
  }
  if (auto level = admin::parse_read_level(read); !level) {
    return context.fail(ExitCode::kUsage, level.error().text + ". Try: connectctl help call");
  }
  Result<std::string> bytes = request_bytes(context);
  if (!bytes) {
    return context.fail(bytes.error().code, bytes.error().text + ". Try: connectctl help call");
  }
  Duration timeout = context.timeout.value_or(kCallTimeout);
  std::string why;
  for (const config::Address& endpoint : context.endpoints) {
    admin::HttpRequest request;
    request.method = "POST";
    request.target = "/v1/call";
    request.headers = {{"X-Connect-Request", "1"}, {"Content-Type", "application/octet-stream"}};
    if (context.has("read")) request.headers["X-Connect-Read"] = read;
    request.body = *bytes;
    admin::HttpOutcome outcome = admin::fetch(endpoint, std::move(request), timeout);
    if (!outcome && outcome.error().sent) {
      return context.fail(
          ExitCode::kTryAgain,
          fmt::format("{}: {}. The request was sent, so it may have happened or not: read before "
                      "you repeat it. Try: connectctl -e {} status",
                      endpoint.to_string(), outcome.error().text,
                      join_addresses(context.endpoints)));
    }
    if (!outcome) {  // nothing was sent: the next one may take it
      why += fmt::format("{}{}: {}", why.empty() ? "" : ", ", endpoint.to_string(),
                         outcome.error().text);
      continue;
    }
    bool plugins_own = outcome->header("x-connect-status") != "";
    if (outcome->status == 200 || plugins_own) return print_reply(context, *outcome);
    bool last = &endpoint == &context.endpoints.back();
    if (code_of(*outcome) == "SHUTDOWN" && !last) continue;  // it was not handed on
    return call_failed(context, *outcome, endpoint.to_string());
  }
  return context.fail(ExitCode::kUnavailable,
                      fmt::format("no node takes the request ({}). Name others with -e HOST:PORT, "
                                  "or look at the nodes' logs",
                                  why));
}

}  // namespace connectd::ctl

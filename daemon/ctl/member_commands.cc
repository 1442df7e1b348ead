// member, leader and settings: membership changes, leadership and the cluster's settings, through
// any node's HTTP port.
#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <charconv>
#include <thread>

#include "admin/admin_requests.h"
#include "base/address.h"
#include "ctl/answers.h"
#include "ctl/commands.h"
#include "node/membership/change_outcome.h"

namespace connectd::ctl {
namespace {

namespace json = boost::json;

// For one node, unless --timeout is given.
constexpr Duration kAnswerTimeout = std::chrono::seconds(6);
// After it, a removal is not heard of any more.
constexpr Duration kLeavingTimeout = std::chrono::seconds(10);
constexpr Duration kSilent = std::chrono::seconds(2);
constexpr Duration kLookInterval = std::chrono::milliseconds(100);

// The cluster as one node reports it.
using View = node::StatusSnapshot;

const node::MemberStatus* find_member(const View& view, NodeId id) {
  auto found = std::ranges::find(view.members, id, &node::MemberStatus::id);
  return found == view.members.end() ? nullptr : &*found;
}

// The leader's view, or else that of the node with the newest member list; none: none of
// `endpoints` answers.
std::optional<View> look_at(const Context& context, const std::vector<Address>& endpoints,
                            std::string& why) {
  size_t tries = endpoints.size();
  for (const Address& endpoint : endpoints) {
    const Duration timeout =
        std::min(kAnswerTimeout, context.answer_timeout(kAnswerTimeout, tries--));
    auto cluster = ask_cluster(context, endpoint, timeout, why);
    if (!cluster) continue;
    std::optional<View> best;
    for (const admin::ClusterAnswer::Node& node : cluster->nodes) {
      auto view = node.read_status();
      if (!view) continue;
      if (view->role == raft::Role::kLeader) return view;
      if (!best || view->members_index > best->members_index) best = std::move(view);
    }
    if (best) return best;
  }
  return std::nullopt;
}

// Asks the endpoints, and when none of them answers, the members that they named before: a node
// that was asked to remove a member may be that member.
class Observer final {
 public:
  explicit Observer(const Context& context) : context_(context) {}

  std::optional<View> look(std::string& why) {
    why.clear();
    auto view = look_at(context_, context_.endpoints, why);
    std::string ignored;
    if (!view) view = look_at(context_, members_, ignored);
    if (view) remember(*view);
    return view;
  }

 private:
  void remember(const View& view) {
    members_.clear();
    for (const node::MemberStatus& member : view.members) {
      auto http = parse_address(member.http);
      if (http && std::ranges::find(context_.endpoints, *http) == context_.endpoints.end()) {
        members_.push_back(*http);
      }
    }
  }

  const Context& context_;
  std::vector<Address> members_;
};

std::optional<View> look(const Context& context, std::string& why) {
  return Observer(context).look(why);
}

// The exit code of each outcome of a change: one more column of node::kChangeCodes, which is below
// exit codes.
struct ChangeExit {
  node::ChangeCode code;
  ExitCode exit;
};
constexpr std::array kChangeExits = {
    ChangeExit{node::ChangeCode::kDone, ExitCode::kOk},
    ChangeExit{node::ChangeCode::kNoLeader, ExitCode::kTryAgain},
    ChangeExit{node::ChangeCode::kBusy, ExitCode::kTryAgain},
    ChangeExit{node::ChangeCode::kConflict, ExitCode::kNegative},
    ChangeExit{node::ChangeCode::kQuorum, ExitCode::kNegative},
    ChangeExit{node::ChangeCode::kRefused, ExitCode::kNegative},
    ChangeExit{node::ChangeCode::kTimeout, ExitCode::kTryAgain},
};
static_assert(std::ranges::equal(kChangeExits, node::kChangeCodes, {}, &ChangeExit::code,
                                 &node::ChangeCodeRow::code));

ExitCode exit_code_of(node::ChangeCode code) {
  return kChangeExits[static_cast<size_t>(code)].exit;
}

// Asks the first endpoint that may accept the request. kOk: accepted; `accepted` is the answer.
// `lost`: gets the text, instead of the operator, if the answer was lost.
ExitCode ask(Context& context, const std::string& target, const std::string& body,
             admin::ChangeAnswer& accepted, std::string* lost = nullptr) {
  std::string why;
  std::optional<ExitCode> answered;  // by nodes that did nothing
  for (const Address& endpoint : context.endpoints) {
    admin::HttpRequest request;
    request.method = "POST";
    request.token = context.token;
    request.target = target;
    request.headers = {{"X-Connect-Request", "1"}, {"Content-Type", "application/json"}};
    request.body = body;
    request.tls = context.tls;
    const Duration timeout = context.answer_timeout(kAnswerTimeout);
    admin::HttpOutcome outcome = admin::fetch(endpoint, std::move(request), timeout);
    if (!outcome && outcome.error().sent) {
      std::string text =
          fmt::format("{}: {}. To see whether the change happened: connectctl -e {} member list",
                      endpoint.to_string(), outcome.error().text, endpoint.to_string());
      if (lost == nullptr) return context.fail(ExitCode::kTryAgain, text);
      *lost = std::move(text);
      return ExitCode::kTryAgain;
    }
    if (!outcome) {
      why += fmt::format("{}{}: {}", why.empty() ? "" : ", ", endpoint.to_string(),
                         outcome.error().text);
      continue;
    }
    auto answer = admin::from_json<admin::ChangeAnswer>(outcome->body);
    if (outcome->status == 200 && answer) {
      accepted = std::move(*answer);
      tell_which(context, endpoint);
      return ExitCode::kOk;
    }
    const std::string code = code_of(*outcome);
    // Another node may be asked: this one does not take it from here, or knows no leader (a node
    // whose disk was wiped waits for its replacement).
    const node::ChangeCode outcome_code = node::change_code_of(code);
    const bool knows_no_leader = outcome_code == node::ChangeCode::kNoLeader;
    if ((knows_no_leader || code == admin::kNotLocalCode) && context.endpoints.size() > 1) {
      why += fmt::format("{}{}: {}{}", why.empty() ? "" : ", ", endpoint.to_string(),
                         knows_no_leader ? code + ": " : "", detail_of(*outcome));
      if (knows_no_leader || !answered) {
        answered = knows_no_leader ? ExitCode::kTryAgain : ExitCode::kNegative;
      }
      continue;
    }
    return context.fail(exit_code_of(outcome_code),
                        fmt::format("{}{}{}", code, code.empty() ? "" : ": ", detail_of(*outcome)));
  }
  if (answered) return context.fail(*answered, why);
  return context.fail_unreachable(why);
}

std::string change_continues(const Context& context) {
  return fmt::format(
      "the change continues without this command; to see its progress: connectctl -e {} member "
      "list",
      context.endpoints.front().to_string());
}

// Polls until `done` returns true. Prints progress on err, each new line once. kUnavailable,
// without a text: no node has answered for `patience`. `late`: what is true when the time is over.
ExitCode wait_until(Context& context, Observer& observer,
                    const std::function<bool(const View&, std::string&)>& done,
                    const std::string& late, Duration patience = Duration::max()) {
  const Time end = context.end_of_wait();
  Time answered = read_clocks().time;
  std::string told;
  // Why nothing that is waited for happens until the operator does something, as the last node that
  // answered says; empty: nothing is wrong. The last look of all has no time for an answer.
  std::string lost;
  while (true) {
    std::string why;
    std::string line;
    auto view = observer.look(why);
    if (view && done(*view, line)) return ExitCode::kOk;
    if (view) lost = !view->leader && !view->remedy.empty() ? full_reason(*view) : "";
    if (view && !lost.empty()) line = lost;
    if (!view) line = fmt::format("no node answers ({})", why);
    if (line != told && !line.empty()) context.streams.err << line << "\n" << std::flush;
    told = line;
    const Time now = read_clocks().time;
    if (view) answered = now;
    if (now >= end) {
      return context.fail(ExitCode::kTryAgain,
                          lost.empty() ? late : fmt::format("{}. {}", lost, late));
    }
    if (now - answered >= patience) return ExitCode::kUnavailable;
    std::this_thread::sleep_for(kLookInterval);
  }
}

std::optional<uint64_t> id_of(const std::string& text) {
  uint64_t id = 0;
  auto end = std::from_chars(text.data(), text.data() + text.size(), id);
  if (end.ec != std::errc() || end.ptr != text.data() + text.size() || id == 0) return std::nullopt;
  return id;
}

// The change that arguments and options ask for; none: an error was printed.
std::optional<node::MemberChange> change_of(Context& context, node::MemberChange::Kind kind) {
  auto number = id_of(context.arguments.at(0));
  if (!number) {
    context.fail(ExitCode::kUsage, fmt::format("invalid node id '{}': must be a positive number",
                                               context.arguments.at(0)));
    return std::nullopt;
  }
  node::MemberChange change;
  change.kind = kind;
  change.member.id = NodeId(*number);
  for (auto& [name, member] : {std::pair("peer", &change.member.peer_address),
                               std::pair("client", &change.member.client_address),
                               std::pair("http", &change.member.http_address)}) {
    if (!context.has(name)) continue;
    auto address = parse_address(context.option(name));
    if (!address) {
      context.fail(ExitCode::kUsage, fmt::format("--{}: {}", name, address.error()));
      return std::nullopt;
    }
    *member = context.option(name);
  }
  change.learner_only = context.has("learner");
  change.force = context.has("force");
  if (context.has("if-index")) {
    auto index = id_of(context.option("if-index"));
    if (!index) {
      context.fail(ExitCode::kUsage, "--if-index must be the index that `member list` prints");
      return std::nullopt;
    }
    change.expected = Index(*index);
  }
  return change;
}

// `silent`: it has not answered the leader for a while.
std::string progress_of(const View& view, NodeId id, bool silent) {
  const node::MemberStatus* member = find_member(view, id);
  if (member == nullptr) return fmt::format("node {} is not in the list yet", id);
  auto peer = std::ranges::find(view.peers, id, &node::PeerProgress::id);
  if (member->disk.empty()) {
    return fmt::format(
        "waiting for node {}: the leader does not reach it at {}. Start it with an empty data "
        "directory, and check the address",
        id, member->peer);
  }
  if (silent) {
    return fmt::format(
        "waiting for node {}: it does not answer the leader. Does it run, and can it reach the "
        "leader's peer address?",
        id);
  }
  if (peer == view.peers.end()) return fmt::format("node {} is catching up", id);
  // No progress bar: the log grows meanwhile.
  return fmt::format("node {} is catching up: {} entries behind", id, peer->lag);
}

// Whether the leader sees a member that has a disk, and does not hear it. At first that is so of
// every new one.
bool is_silent(const View& view, NodeId id) {
  auto peer = std::ranges::find(view.peers, id, &node::PeerProgress::id);
  return view.role == raft::Role::kLeader && peer != view.peers.end() && !peer->active;
}

ExitCode join(Context& context, node::MemberChange::Kind kind, bool learner) {
  const auto change = change_of(context, kind);
  if (!change) return ExitCode::kUsage;
  const NodeId id = change->member.id;
  // The list may still have the lost disk.
  Observer observer(context);
  std::string why;
  std::string old_disk;
  const bool replaces = kind == node::MemberChange::Kind::kReplace;
  const auto before = observer.look(why);
  if (before && replaces) {
    if (const node::MemberStatus* member = find_member(*before, id)) {
      old_disk = member->disk;
      learner = !member->voter && !member->promoting;  // it stays one
    }
  }
  admin::ChangeAnswer answer;
  if (ExitCode code = ask(context, "/v1/admin/members", admin::to_body(*change), answer);
      code != ExitCode::kOk) {
    return code;
  }
  const Index index = answer.index;
  if (before && index <= before->members_index) {  // nothing new: it was done before
    context.streams.err << answer.text << "\n";
    old_disk.clear();
  }
  bool lost = false;
  Time heard = read_clocks().time;
  ExitCode code = wait_until(
      context, observer,
      [&](const View& view, std::string& line) {
        const node::MemberStatus* member = find_member(view, id);
        if (!is_silent(view, id)) heard = read_clocks().time;
        line = progress_of(view, id, read_clocks().time - heard >= kSilent);
        // A change that was only appended goes with a leader that loses its office.
        lost = view.members_settled && view.members_index >= index &&
               (member == nullptr || (!old_disk.empty() && member->disk == old_disk));
        if (lost) return true;
        const bool there = view.members_index >= index && view.members_settled && member != nullptr;
        const bool has_disk = there && !member->disk.empty();
        return there && (learner ? has_disk || !replaces : has_disk && member->voter);
      },
      change_continues(context));
  if (lost) {
    return context.fail(ExitCode::kTryAgain,
                        "leadership changed before the change was committed, and the change was "
                        "lost; run the command again");
  }
  if (code == ExitCode::kOk) {
    context.streams.out << fmt::format("node {} is a {}\n", id, learner ? "learner" : "voter");
  }
  return code;
}

}  // namespace

ExitCode member_list_command(Context& context) {
  std::string why;
  auto view = look(context, why);
  if (!view) return context.fail_unreachable(why);
  if (context.json) {
    json::array members;
    for (const node::MemberStatus& member : view->members) {
      members.push_back(admin::to_value(member));
    }
    context.streams.out << json::serialize(json::object{{"index", view->members_index.value()},
                                                        {"settled", view->members_settled},
                                                        {"leader", view->leader.value()},
                                                        {"members", std::move(members)}})
                        << "\n";
    return ExitCode::kOk;
  }
  std::vector<std::vector<std::string>> rows = {
      {"NODE", "KIND", "PRIORITY", "PEER", "CLIENT", "HTTP", "DISK"}};
  for (const node::MemberStatus& member : view->members) {
    std::string kind = member.voter ? "voter" : "learner";
    if (member.promoting) kind += ", to be promoted";
    if (member.id == view->leader) kind += ", leads";
    rows.push_back({fmt::format("n{}", member.id), kind, std::to_string(member.priority),
                    member.peer, member.client, member.http,
                    member.disk.empty() ? "pending" : member.disk});
  }
  context.streams.out << fmt::format("members of index {}{}\n", view->members_index,
                                     view->members_settled ? "" : ", a change is in progress")
                      << table(rows);
  return ExitCode::kOk;
}

ExitCode member_add_command(Context& context) {
  if (!context.has("peer")) {
    return context.fail(ExitCode::kUsage,
                        "missing --peer HOST:PORT, the address that its peers dial. Try: "
                        "connectctl help member add");
  }
  return join(context, node::MemberChange::Kind::kAdd, context.has("learner"));
}

ExitCode member_promote_command(Context& context) {
  return join(context, node::MemberChange::Kind::kPromote, false);
}
ExitCode member_replace_command(Context& context) {
  return join(context, node::MemberChange::Kind::kReplace, false);
}

ExitCode member_remove_command(Context& context) {
  const auto change = change_of(context, node::MemberChange::Kind::kRemove);
  if (!change) return ExitCode::kUsage;
  const NodeId id = change->member.id;
  // The node that is asked may be the one that leaves, and end.
  Observer observer(context);
  std::string why;
  const auto before = observer.look(why);
  const bool was_member = before && find_member(*before, id) != nullptr;
  admin::ChangeAnswer answer;
  std::string lost;
  const ExitCode asked = ask(context, "/v1/admin/members", admin::to_body(*change), answer, &lost);
  if (asked != ExitCode::kOk && lost.empty()) return asked;
  if (!lost.empty() && !was_member) return context.fail(asked, lost);
  const Time answer_by = read_clocks().time + kLeavingTimeout;
  bool unknown = false;
  ExitCode code = wait_until(
      context, observer,
      [&](const View& view, std::string& line) {
        line = fmt::format("node {} is leaving", id);
        const bool gone = view.members_settled && find_member(view, id) == nullptr;
        unknown = !gone && !lost.empty() && read_clocks().time >= answer_by;
        return (gone && view.members_index >= answer.index) || unknown;
      },
      change_continues(context), kLeavingTimeout);
  if (unknown) return context.fail(ExitCode::kTryAgain, lost);
  if (code == ExitCode::kUnavailable) {
    return context.fail(
        ExitCode::kTryAgain,
        fmt::format("{}. No member can be asked from here any more. To see whether the change "
                    "happened, on a remaining member: connectctl member list",
                    lost.empty() ? "the change was accepted, and the node that was asked has ended"
                                 : lost));
  }
  if (code == ExitCode::kOk) context.streams.out << fmt::format("node {} is removed\n", id);
  return code;
}

ExitCode leader_show_command(Context& context) {
  std::string why;
  auto view = look(context, why);
  if (!view) return context.fail_unreachable(why);
  if (!view->leader) {
    const std::string known = view->reason.empty() ? "no known leader" : full_reason(*view);
    return context.fail(ExitCode::kNegative, known + ". Try: connectctl status");
  }
  const node::MemberStatus* member = find_member(*view, view->leader);
  context.streams.out << fmt::format("n{} {}\n", view->leader,
                                     member == nullptr ? "" : member->peer);
  return ExitCode::kOk;
}

ExitCode leader_transfer_command(Context& context) {
  Observer observer(context);
  std::string why;
  auto before = observer.look(why);
  if (!before) return context.fail_unreachable(why);
  node::MemberChange change;
  change.kind = node::MemberChange::Kind::kTransfer;
  NodeId to;
  if (context.has("to")) {
    auto id = id_of(context.option("to"));
    if (!id) return context.fail(ExitCode::kUsage, "--to must be a node id");
    to = NodeId(*id);
    change.member.id = to;
  }
  admin::ChangeAnswer ignored;
  if (ExitCode code = ask(context, "/v1/admin/leader", admin::to_body(change), ignored);
      code != ExitCode::kOk) {
    return code;
  }
  NodeId leader;
  bool moved = false;
  ExitCode code = wait_until(
      context, observer,
      [&](const View& view, std::string& line) {
        line = "handing over";
        leader = view.leader;
        moved = leader && (to ? leader == to : leader != before->leader);
        return moved || (leader && before->leader && view.term > before->term);
      },
      fmt::format("{} did not take over in time, and such a transfer is given up after an "
                  "election timeout. To see who leads: connectctl leader show",
                  to ? fmt::format("node {}", to) : "the other node"));
  if (code != ExitCode::kOk) return code;
  if (!moved) {
    return context.fail(
        ExitCode::kNegative,
        fmt::format("node {} leads in a new term: leadership came back at once, or the other node "
                    "did not win. Look at priorities (connectctl member list), disks (connectctl "
                    "status), and the log of {}",
                    leader, to ? fmt::format("node {}", to) : "the other nodes"));
  }
  context.streams.out << fmt::format("node {} leads\n", leader);
  return code;
}

ExitCode settings_list_command(Context& context) {
  std::string why;
  auto view = look(context, why);
  if (!view) return context.fail_unreachable(why);
  std::ranges::sort(view->settings);
  const bool committed = view->commit_index >= view->settings_index;
  if (context.json) {
    json::object settings;
    for (const auto& [key, value] : view->settings) settings[key] = value;
    context.streams.out << json::serialize(json::object{{"index", view->settings_index.value()},
                                                        {"committed", committed},
                                                        {"lease", view->lease},
                                                        {"settings", std::move(settings)}})
                        << "\n";
    return ExitCode::kOk;
  }
  std::vector<std::vector<std::string>> rows = {{"SETTING", "VALUE"}};
  for (const auto& [key, value] : view->settings) rows.push_back({key, value});
  context.streams.out << fmt::format("settings of index {}{}\n", view->settings_index,
                                     committed ? "" : ", not committed")
                      << table(rows);
  return ExitCode::kOk;
}

ExitCode settings_set_command(Context& context) {
  const std::string key = context.arguments.at(0);
  Observer observer(context);
  admin::ChangeAnswer answer;
  if (ExitCode code =
          ask(context, "/v1/admin/settings",
              admin::to_body(admin::SettingChange{key, context.arguments.at(1)}), answer);
      code != ExitCode::kOk) {
    return code;
  }
  const Index index = answer.index;
  std::string value;
  bool lost = false;
  ExitCode code = wait_until(
      context, observer,
      [&](const View& view, std::string& line) {
        line = fmt::format("waiting for index {}", index);
        if (view.commit_index < index) return false;
        // An entry that was only appended goes with a leader that loses its office.
        lost = view.settings_index < index;
        for (const auto& [set, to] : view.settings) {
          if (set == key) value = to;
        }
        return true;
      },
      change_continues(context));
  if (code != ExitCode::kOk) return code;
  if (lost) {
    return context.fail(ExitCode::kTryAgain,
                        "leadership changed before the change was committed, and the change was "
                        "lost; run the command again");
  }
  context.streams.out << fmt::format("{} is {}\n", key, value);
  return ExitCode::kOk;
}

}  // namespace connectd::ctl

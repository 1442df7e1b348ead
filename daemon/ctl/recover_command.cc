// recover: prints what offline/recover.h would do, asks for confirmation, and does it.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <memory>

#include "base/owner.h"
#include "ctl/commands.h"
#include "offline/recover.h"
#include "storage/file_system.h"

namespace connectd::ctl {
namespace {

namespace json = boost::json;

constexpr size_t kShownBytes = 48;  // of an entry's payload

std::string list_of(const std::vector<NodeId>& ids) {
  std::string text;
  for (NodeId id : ids) text += fmt::format("{}{}", text.empty() ? "" : ", ", id);
  return text.empty() ? "none" : text;
}

// The entry's first bytes: in hex, and as text with a dot for each unprintable byte.
std::string shown_bytes(ByteView bytes) {
  std::string hex;
  std::string text;
  for (uint8_t byte : bytes.first(std::min(bytes.size(), kShownBytes))) {
    hex += fmt::format("{}{:02x}", hex.empty() ? "" : " ", byte);
    text += byte >= 0x20 && byte < 0x7f ? static_cast<char>(byte) : '.';
  }
  if (bytes.empty()) return "none";
  return fmt::format("{}{}  |{}|", hex, bytes.size() > kShownBytes ? " ..." : "", text);
}

// Asks on a terminal; without one, --yes is required. Nothing: continue.
std::optional<ExitCode> ask(Context& context, const std::string& what) {
  if (context.has("yes")) return std::nullopt;
  if (::isatty(STDIN_FILENO) == 0) {
    return context.fail(
        ExitCode::kUsage,
        fmt::format("nothing was changed: {} needs --yes, or a terminal to ask on", what));
  }
  context.streams.err << "Type yes to continue: " << std::flush;
  std::string answer;
  std::getline(context.streams.in, answer);
  if (answer == "yes") return std::nullopt;
  return context.fail(ExitCode::kNegative, "nothing was changed");
}

std::string command_that_completes(const offline::Survivor& survivor) {
  return node::recover_command(survivor.directory, survivor.members.recoveries.back());
}

ExitCode report(Context& context, const offline::Survivor& survivor) {
  const std::string text = offline::survivor_text(survivor);
  for (const std::string& warning : survivor.warnings) {
    context.streams.err << "the next start would first do this: " << warning << "\n";
  }
  if (context.json) {
    json::array voters;
    for (NodeId id : survivor.conf.voters) voters.push_back(id.value());
    context.streams.out << json::serialize(
                               json::object{{"node", survivor.identity.node_id.value()},
                                            {"cluster_id", survivor.cluster.to_string()},
                                            {"last_term", survivor.end.last_term.value()},
                                            {"last_index", survivor.end.last_index.value()},
                                            {"term", survivor.end.term.value()},
                                            {"commit", survivor.commit.value()},
                                            {"snapshot", survivor.snapshot.index.value()},
                                            {"voters", std::move(voters)},
                                            {"interrupted", survivor.is_interrupted()},
                                            {"survivor", text}})
                        << "\n";
    return ExitCode::kOk;
  }
  std::string voters = list_of(survivor.conf.voters);
  if (survivor.conf.is_joint()) {
    voters += fmt::format(" (joint with {})", list_of(survivor.conf.voters_outgoing));
  }
  context.streams.out << fmt::format(
      "node      {}\n"
      "cluster   {}, id {}\n"
      "log       ends with index {} of term {}; committed at least up to index {}\n"
      "term      {}\n"
      "members   voters {}, learners {}; since index {}\n"
      "snapshot  up to index {}\n"
      "survivor  {}\n",
      survivor.identity.node_id, survivor.genesis.cluster_name, survivor.cluster.to_string(),
      survivor.end.last_index, survivor.end.last_term, survivor.commit, survivor.end.term, voters,
      list_of(survivor.conf.learners), survivor.members_index, survivor.snapshot.index, text);
  for (const node::RecoveryRecord& record : survivor.members.recoveries) {
    context.streams.out << fmt::format("recovered as id {} from {} with node {}'s log\n",
                                       record.id.to_string(), record.former.to_string(),
                                       record.best);
  }
  if (survivor.cluster != survivor.identity.cluster_id) {
    context.streams.out << fmt::format(
        "recovery to id {} is not complete: the log does not have its record yet\n",
        survivor.identity.cluster_id.to_string());
  }
  for (const raft::EntryId& skip : survivor.identity.skips) {
    context.streams.out << fmt::format("skips     {}\n", offline::entry_text(skip));
  }
  context.streams.err
      << (survivor.is_interrupted()
              ? "A recovery of this directory was interrupted. Complete it with:\n  " +
                    command_that_completes(survivor) + "\n"
              : "Nothing was changed. If a majority of the members is permanently lost, run this "
                "command on\nevery survivor. Then run, on every survivor, with all the survivor "
                "lines that were printed:\n  connectctl recover --data-dir DIR --members "
                "SURVIVOR,SURVIVOR,...\n");
  return ExitCode::kOk;
}

void print_losses(const Context& context, const offline::Survivor& survivor,
                  const offline::RecoveryPlan& plan) {
  std::string text = fmt::format(
      "RECOVERY OF CLUSTER {} (id {}) FROM THE LOSS OF A MAJORITY\n\n"
      "The log of node {}{} becomes the cluster's log: it ends with index {} of term {}.\n",
      survivor.genesis.cluster_name, survivor.cluster.to_string(), plan.best.node,
      plan.is_best ? ", in this directory," : "", plan.best.last_index, plan.best.last_term);
  if (plan.is_best) {
    text += fmt::format("It is known to be committed up to index {}.\n", survivor.commit);
    if (survivor.commit < plan.best.last_index) {
      text += fmt::format(
          "- Entries {} to {} become committed. They may not have been committed before: their "
          "clients may\n  have got no reply, or UNKNOWN.\n",
          survivor.commit + 1, plan.best.last_index);
    }
  } else {
    text += fmt::format(
        "This node's own log ends with index {} of term {}. Where it differs, the other node's "
        "log replaces it.\n",
        survivor.end.last_index, survivor.end.last_term);
  }
  text += fmt::format(
      "- WRITES THAT THE LOST NODES ACKNOWLEDGED AND THAT ARE NOT IN THAT LOG ARE GONE: "
      "everything\n"
      "  after index {}. This node cannot know how many they are.\n"
      "- Permanently removed: {}. Their ids are never reused. If one of them returns with its "
      "disk, it\n"
      "  is rejected and stops. MAKE SURE THAT THEY DO NOT RUN: if they still run and are a "
      "majority,\n  they are the cluster, and nothing is lost.\n",
      plan.best.last_index, list_of(plan.lost));
  if (plan.is_best) {
    text += fmt::format(
        "- Node {} becomes the only voter; the other survivors become voters when they have its "
        "log.\n  Until then each write is on one disk only.\n",
        plan.best.node);
  }
  text += fmt::format("- The new cluster id is {}.\n\n", plan.id.to_string());
  context.streams.err << text;
}

ExitCode recover_members(Context& context, storage::FileSystem& files, const std::string& directory,
                         const offline::Survivor& survivor) {
  std::vector<offline::GivenSurvivor> given;
  for (const std::string& option : context.options.at("members")) {
    std::string_view rest = option;
    while (true) {
      const size_t comma = rest.find(',');
      auto one = offline::parse_survivor(rest.substr(0, comma));
      if (!one) return context.fail(one.error());
      given.push_back(std::move(*one));
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  }
  const bool alone = given.size() == 1;
  auto plan = offline::plan_recovery(survivor, std::move(given), read_clocks().wall_ns);
  if (!plan) {
    return context.fail(exit_code(plan.error().kind), plan.error().text + "\nnothing was changed");
  }
  const std::string name = fmt::format("node {}", survivor.identity.node_id);
  if (!plan->is_done) {
    print_losses(context, survivor, *plan);
    if (auto stop = ask(context, "recover --members")) return *stop;
  }
  if (auto done = offline::carry_out(files, directory, survivor, *plan); !done) {
    return context.fail(
        exit_code(done.error().kind),
        done.error().text +
            "\nthe recovery is not complete: fix the cause, then run the same command again");
  }
  if (context.json) {
    context.streams.out << json::serialize(json::object{{"node", survivor.identity.node_id.value()},
                                                        {"best", plan->best.node.value()},
                                                        {"cluster_id", plan->id.to_string()},
                                                        {"was_done", plan->is_done}})
                        << "\n";
  } else {
    context.streams.out << fmt::format(
        "{} {} cluster id {}, with the log of node {}\n", name,
        plan->is_done ? "was recovered already: it belongs to" : "is recovered: it belongs to",
        plan->id.to_string(), plan->best.node);
    context.streams.out << fmt::format("cluster.id: {}\n", plan->id.to_string());
  }
  context.streams.err << (alone ? "Start it"
                                : "Run the same command on every survivor, then start them") +
                             std::string(". Grow the cluster again with: connectctl member add\n");
  return ExitCode::kOk;
}

ExitCode skip_entry(Context& context, storage::FileSystem& files, const std::string& directory,
                    const offline::Survivor& survivor) {
  auto given = offline::parse_entry(context.option("skip-entry"));
  if (!given) return context.fail(given.error());
  if (survivor.is_interrupted()) {
    return context.fail(ExitCode::kNegative,
                        "a recovery of this directory was interrupted. Complete it first: " +
                            command_that_completes(survivor));
  }
  auto plan = offline::plan_skip(files, directory, survivor, *given);
  if (!plan) {
    return context.fail(exit_code(plan.error().kind), plan.error().text + "\nnothing was changed");
  }
  const std::string text = offline::entry_text(plan->id);
  if (!plan->is_done) {
    context.streams.err << fmt::format("THE PLUGIN WILL NOT GET THE ENTRY AT INDEX {}\n\n",
                                       plan->id.index);
    if (plan->entry) {
      const raft::Entry& entry = *plan->entry;
      context.streams.err << fmt::format(
          "kind      {} of term {}\nsession   {}, sequence {}\nsize      {} bytes\nbytes     "
          "{}\n\n",
          raft::row_of(entry.kind).name, entry.term, entry.session, entry.sequence,
          entry.payload.size(), shown_bytes(entry.payload.view()));
    }
    if (!plan->notice.empty()) context.streams.err << "Note: " << plan->notice << ".\n";
    context.streams.err << fmt::format(
        "- The entry will never take effect, on any member. If some member has applied it, its "
        "client may\n  have the reply, and an acknowledged write would be lost: then do not skip "
        "it, but repair the\n  member that fails.\n"
        "- Run this command on EVERY member. Members that skip the entry and members that do not "
        "reject\n  each other:\n  connectctl recover --data-dir DIR --skip-entry {}\n\n",
        text);
    if (auto stop = ask(context, "recover --skip-entry")) return *stop;
  }
  if (auto done = offline::carry_out(files, directory, survivor, *plan); !done) {
    return context.fail(done.error());
  }
  if (context.json) {
    context.streams.out << json::serialize(json::object{{"node", survivor.identity.node_id.value()},
                                                        {"index", plan->id.index.value()},
                                                        {"entry", text},
                                                        {"was_done", plan->is_done}})
                        << "\n";
  } else {
    context.streams.out << fmt::format("node {} {} entry {}\n", survivor.identity.node_id,
                                       plan->is_done ? "already skips" : "now skips", text);
  }
  return ExitCode::kOk;
}

}  // namespace

ExitCode recover_command(Context& context) {
  const std::string directory = context.option("data-dir");
  if (directory.empty()) {
    return context.fail(
        ExitCode::kUsage,
        "missing --data-dir, the node's node.data_dir: connectctl recover --data-dir DIR");
  }
  if (context.has("members") && context.has("skip-entry")) {
    return context.fail(ExitCode::kUsage, "--members and --skip-entry exclude each other");
  }
  auto files = storage::make_real_file_system();
  // Checked before locking, because the lock creates its file in any directory.
  auto identity = storage::load_identity(*files, directory);
  std::unique_ptr<storage::FileLock> held;
  if (identity && *identity) {
    auto lock = files->lock(directory + "/lock");
    if (!lock) {
      return context.fail(exit_code(lock.error().kind),
                          lock.error().kind == ErrorKind::kLocked
                              ? fmt::format("{}: its node runs. Stop it first", lock.error().text)
                              : lock.error().text);
    }
    held = std::move(*lock);
  }
  // New files belong to the user that runs this command: the node could no longer read its own
  // identity file.
  struct stat status {};
  const bool changes = context.has("members") || context.has("skip-entry");
  if (changes && ::stat(directory.c_str(), &status) == 0 && status.st_uid != ::geteuid()) {
    const std::string owner = user_name(status.st_uid);
    return context.fail(
        ExitCode::kPermission,
        fmt::format("{} belongs to user {}, and you are user {}: run this as its owner, the user "
                    "of connectd; as root: runuser -u {} -- connectctl recover ...",
                    directory, owner, user_name(::geteuid()), owner));
  }
  auto survivor = offline::look_at_survivor(*files, directory);
  if (!survivor && survivor.error().kind == ErrorKind::kCorrupt) {
    return context.fail(exit_code(survivor.error().kind),
                        "this is not a survivor: " + survivor.error().text);
  }
  if (!survivor) return context.fail(survivor.error());
  if (context.has("members")) return recover_members(context, *files, directory, *survivor);
  if (context.has("skip-entry")) return skip_entry(context, *files, directory, *survivor);
  return report(context, *survivor);
}

}  // namespace connectd::ctl

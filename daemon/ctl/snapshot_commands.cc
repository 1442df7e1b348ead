// snapshot take, list and save, through a node's HTTP port; inspect and restore, on a file only.
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <filesystem>
#include <thread>
#include <vector>

#include "admin/admin_requests.h"
#include "admin/limits.h"
#include "base/address.h"
#include "base/owner.h"
#include "base/random.h"
#include "config/load.h"
#include "ctl/answers.h"
#include "ctl/commands.h"
#include "offline/restore.h"

namespace connectd::ctl {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

// For one node, unless --timeout is given.
constexpr Duration kSnapshotAnswerTimeout = std::chrono::seconds(35);
constexpr Duration kSnapshotLookInterval = std::chrono::milliseconds(50);

using Listed = admin::SnapshotList::Listed;

admin::HttpOutcome post(const Context& context, const Address& endpoint,
                        const admin::SnapshotVerb& verb) {
  admin::HttpRequest request;
  request.method = "POST";
  request.token = context.token;
  request.target = "/v1/admin/snapshot";
  request.headers = {{"X-Connect-Request", "1"}, {"Content-Type", "application/json"}};
  request.body = admin::to_body(verb);
  request.tls = context.tls;
  return admin::fetch(endpoint, std::move(request), context.answer_timeout(kSnapshotAnswerTimeout));
}

// The answer's body. kUnreachable: no answer; kPermission: refused from this machine.
Result<std::string> ask(const Context& context, const Address& endpoint,
                        const admin::SnapshotVerb& verb) {
  admin::HttpOutcome outcome = post(context, endpoint, verb);
  if (!outcome) {
    return failure(
        ErrorKind::kUnreachable,
        fmt::format("{}: {}. Is it the HTTP address of a node that runs? Try: connectctl "
                    "-e {} status",
                    endpoint.to_string(), outcome.error().text, endpoint.to_string()));
  }
  if (outcome->status == 200) return std::move(outcome->body);
  const std::string code = code_of(*outcome);
  if (code == admin::kNotLocalCode) {
    return failure(ErrorKind::kPermission,
                   fmt::format("{}: {}", endpoint.to_string(), detail_of(*outcome)));
  }
  const bool later = outcome->status == 503 || outcome->status == 504 || outcome->status == 429;
  return failure(later ? ErrorKind::kNotNow : ErrorKind::kRefused,
                 fmt::format("{}: {}{}{}", endpoint.to_string(), code, code.empty() ? "" : ": ",
                             detail_of(*outcome)));
}

Result<admin::SnapshotList> list_of(const Context& context, const Address& endpoint) {
  auto body = ask(context, endpoint, admin::ListSnapshots{});
  if (!body) return failure(body.error());
  auto list = admin::from_json<admin::SnapshotList>(*body);
  if (list) return std::move(*list);
  return failure(ErrorKind::kMismatch,
                 fmt::format("unknown answer from {}; use the connectctl of its version",
                             endpoint.to_string()));
}

// Requests a snapshot, and waits until it is durable.
Result<Listed> take(const Context& context, const Address& endpoint) {
  auto body = ask(context, endpoint, admin::TakeSnapshot{});
  if (!body) return failure(body.error());
  auto taken = admin::from_json<admin::SnapshotTaken>(*body);
  const Index index = taken ? taken->index : Index();
  const Time end = context.end_of_wait();
  while (true) {
    auto list = list_of(context, endpoint);
    if (!list) return failure(list.error());
    if (!list->snapshots.empty() && list->snapshots.front().index >= index) {
      return list->snapshots.front();
    }
    if (!list->taking) {
      return failure(
          ErrorKind::kRefused,
          fmt::format("{} failed to take a snapshot: {}. It retries automatically; see: "
                      "connectctl -e {} snapshot list",
                      endpoint.to_string(), list->failure.empty() ? "see its log" : list->failure,
                      endpoint.to_string()));
    }
    if (read_clocks().time >= end) {
      return failure(
          ErrorKind::kNotNow,
          fmt::format("the snapshot is not done yet; check later: connectctl -e {} snapshot list",
                      endpoint.to_string()));
    }
    std::this_thread::sleep_for(kSnapshotLookInterval);
  }
}

std::string age_text(int64_t seconds) {
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7200) return fmt::format("{} min", seconds / 60);
  if (seconds < 172'800) return fmt::format("{} h", seconds / 3600);
  return fmt::format("{} d", seconds / 86'400);
}

json::object object_of(const Address& endpoint, const Listed& listed) {
  json::object object{{"node", endpoint.to_string()}};
  const json::value fields = admin::to_value(listed);
  for (const auto& [key, value] : fields.get_object()) object[key] = value;
  return object;
}

// Downloads the whole file, piece by piece, into `path`.
Result<void> download(const Context& context, const Address& endpoint, const Listed& wanted,
                      storage::FileSystem& files, const std::string& path) {
  auto file = files.open(path, storage::OpenMode::kCreate);
  if (!file) {
    return failure(ErrorKind::kCannotCreate, file.error().text);
  }
  for (uint64_t offset = 0; offset < wanted.bytes;) {
    const uint64_t length = std::min<uint64_t>(admin::kMaxSnapshotPiece, wanted.bytes - offset);
    auto piece = ask(context, endpoint, admin::SnapshotPiece{wanted.name, offset, length});
    if (!piece) return failure(piece.error());
    if (piece->size() != length) {
      return failure(
          ErrorKind::kRefused,
          fmt::format("{} sent {} bytes of {}, not {} as listed; try again", endpoint.to_string(),
                      offset + piece->size(), wanted.name, wanted.bytes));
    }
    if (auto done = (*file)->write_at(offset, as_bytes(*piece)); !done) return done;
    offset += length;
  }
  return (*file)->sync();
}

// A node that refuses the request from this machine is a negative answer, too.
ExitCode fail(const Context& context, const Error& error) {
  if (error.kind == ErrorKind::kPermission) return context.fail(ExitCode::kNegative, error.text);
  return context.fail(error);
}

// The exit code of a command that asks every endpoint. An endpoint that refuses the request from
// this machine counts only if no endpoint accepts it.
class Verdict final {
 public:
  void done() { is_done_ = true; }
  void failed(const Context& context, const Error& error) {
    const ExitCode code = fail(context, error);
    if (error.kind == ErrorKind::kPermission) {
      is_elsewhere_ = true;
    } else {
      worst_ = code;
    }
  }
  ExitCode code() const {
    return worst_ == ExitCode::kOk && is_elsewhere_ && !is_done_ ? ExitCode::kNegative : worst_;
  }

 private:
  ExitCode worst_ = ExitCode::kOk;
  bool is_done_ = false;
  bool is_elsewhere_ = false;
};

// The newest snapshot at `endpoint`, or with --fresh one that it takes now.
Result<Listed> newest(const Context& context, const Address& endpoint) {
  if (context.has("fresh")) return take(context, endpoint);
  auto list = list_of(context, endpoint);
  if (!list) return failure(list.error());
  if (!list->snapshots.empty()) return list->snapshots.front();
  return failure(ErrorKind::kRefused,
                 fmt::format("{} has no snapshot yet; --fresh takes one", endpoint.to_string()));
}

// A removed member stays in the list until the next change.
std::vector<node::GenesisMember> members_of(const node::ReplicatedState& state) {
  std::vector<node::GenesisMember> members = state.members.members;
  std::erase_if(members, [&](const auto& member) { return state.members.is_removed(member.id); });
  return members;
}

}  // namespace

ExitCode snapshot_take_command(Context& context) {
  Verdict verdict;
  for (const Address& endpoint : context.endpoints) {
    auto taken = take(context, endpoint);
    if (!taken) {
      verdict.failed(context, taken.error());
      continue;
    }
    verdict.done();
    if (context.json) {
      context.streams.out << json::serialize(object_of(endpoint, *taken)) << "\n";
    } else {
      context.streams.out << fmt::format("{}: snapshot at index {}, {} bytes\n",
                                         endpoint.to_string(), taken->index, taken->bytes);
    }
  }
  return verdict.code();
}

ExitCode snapshot_list_command(Context& context) {
  Verdict verdict;
  std::vector<std::vector<std::string>> rows = {{"NODE", "INDEX", "TERM", "BYTES", "AGE", "NAME"}};
  for (const Address& endpoint : context.endpoints) {
    auto list = list_of(context, endpoint);
    if (!list) {
      verdict.failed(context, list.error());
      continue;
    }
    verdict.done();
    for (const Listed& listed : list->snapshots) {
      if (context.json) {
        context.streams.out << json::serialize(object_of(endpoint, listed)) << "\n";
      }
      rows.push_back({endpoint.to_string(), fmt::format("{}", listed.index),
                      fmt::format("{}", listed.term), std::to_string(listed.bytes),
                      age_text(listed.age_seconds), listed.name});
    }
    if (list->taking) context.streams.err << endpoint.to_string() << " is taking a snapshot\n";
    if (list->snapshots.empty()) {
      context.streams.err << endpoint.to_string() << " has no snapshot yet\n";
    }
  }
  if (!context.json && rows.size() > 1) context.streams.out << table(rows);
  return verdict.code();
}

ExitCode snapshot_save_command(Context& context) {
  const std::string& path = context.arguments[0];
  std::error_code ec;
  if (fs::exists(path, ec)) {
    return context.fail(
        ExitCode::kCannotCreate,
        fmt::format("{} exists already and is not overwritten; use another file", path));
  }
  // The first endpoint that answers, and accepts the request from this machine.
  Address endpoint;
  Result<Listed> wanted = failure(ErrorKind::kInternal, "");
  for (const Address& next : context.endpoints) {
    endpoint = next;
    wanted = newest(context, endpoint);
    const bool may_be_another = !wanted && (wanted.error().kind == ErrorKind::kPermission ||
                                            wanted.error().kind == ErrorKind::kUnreachable);
    if (!may_be_another) break;
    if (next != context.endpoints.back()) context.streams.err << wanted.error().text << "\n";
  }
  if (!wanted) return fail(context, wanted.error());
  tell_which(context, endpoint);

  // Only a complete and verified file gets the name, as in the node itself.
  auto files = storage::make_real_file_system();
  const std::string temporary = path + ".tmp";
  auto saved = download(context, endpoint, *wanted, *files, temporary);
  Result<offline::SnapshotDescription> verified = failure(ErrorKind::kInternal, "");
  if (saved) verified = offline::describe_snapshot(*files, temporary);
  if (!saved || !verified) {
    auto removed = files->remove(temporary);
    (void)removed;
    return context.fail(saved ? verified.error() : saved.error());
  }
  std::string directory = fs::path(path).parent_path().string();
  if (directory.empty()) directory = ".";
  if (auto done = files->rename(temporary, path); !done) return context.fail(done.error());
  if (auto done = files->sync_directory(directory); !done) return context.fail(done.error());
  if (context.json) {
    json::object object = object_of(endpoint, *wanted);
    object["file"] = path;
    context.streams.out << json::serialize(object) << "\n";
  } else {
    context.streams.out << fmt::format("{}: snapshot at index {}, {} bytes, verified\n", path,
                                       wanted->index, wanted->bytes);
  }
  return ExitCode::kOk;
}

ExitCode snapshot_inspect_command(Context& context) {
  const std::string& path = context.arguments[0];
  auto files = storage::make_real_file_system();
  auto found = offline::describe_snapshot(*files, path);
  if (!found) return context.fail(found.error());
  const node::ReplicatedState& state = found->state;
  const storage::SnapshotContent& file = found->file;
  if (context.json) {
    json::array members;
    for (const node::GenesisMember& member : members_of(state)) {
      members.push_back(json::object{{"id", member.id.value()},
                                     {"voter", state.conf.is_voter(member.id)},
                                     {"peer", member.peer_address},
                                     {"client", member.client_address},
                                     {"http", member.http_address}});
    }
    context.streams.out << json::serialize(
                               json::object{{"file", path},
                                            {"index", file.info.mark.index.value()},
                                            {"term", file.info.mark.term.value()},
                                            {"time_ns", state.stamp_ns},
                                            {"cluster_id", state.genesis.cluster_id.to_string()},
                                            {"cluster_name", state.genesis.cluster_name},
                                            {"members", std::move(members)},
                                            {"plugin", state.genesis.plugin_name},
                                            {"plugin_version", state.plugin_version},
                                            {"plugin_level", state.genesis.plugin_level},
                                            {"sessions", state.sessions.size()},
                                            {"digest", fmt::format("{:016x}", state.digest)},
                                            {"bytes", file.info.file_bytes},
                                            {"metadata_bytes", file.metadata_bytes},
                                            {"state_bytes", file.stream_bytes},
                                            {"writer", file.writer},
                                            {"valid", true}})
                        << "\n";
    return ExitCode::kOk;
  }
  std::string members;
  for (const node::GenesisMember& member : members_of(state)) {
    members += fmt::format("{}n{} {}{}", members.empty() ? "" : ", ", member.id,
                           member.peer_address, state.conf.is_voter(member.id) ? "" : " (learner)");
  }
  context.streams.out << fmt::format(
      "index     {} of term {}\n"
      "cluster   {} ({})\n"
      "members   {}\n"
      "plugin    {} {}, level {}\n"
      "sessions  {}\n"
      "digest    {:016x}\n"
      "size      {} bytes; before compression {} bytes of metadata, {} of state\n"
      "writer    {}\n"
      "verdict   all checksums are valid\n",
      file.info.mark.index, file.info.mark.term, state.genesis.cluster_name,
      state.genesis.cluster_id.to_string(), members, state.genesis.plugin_name,
      state.plugin_version, state.genesis.plugin_level, state.sessions.size(), state.digest,
      file.info.file_bytes, file.metadata_bytes, file.stream_bytes, file.writer);
  return ExitCode::kOk;
}

namespace {

// `configured_id`: the cluster.id of the configuration, if it has one. `owner`: to whom the files
// were given, if to anybody.
void print_restored(const Context& context, const node::ReplicatedState& restored,
                    const std::string& data_dir, const std::string& config_path,
                    const std::string& configured_id, const std::string& owner) {
  const node::Genesis& genesis = restored.genesis;
  const NodeId founder = genesis.members.front().id;
  if (context.json) {
    context.streams.out << json::serialize(
                               json::object{{"data_dir", data_dir},
                                            {"node", founder.value()},
                                            {"cluster_id", genesis.cluster_id.to_string()},
                                            {"cluster_name", genesis.cluster_name},
                                            {"index", restored.applied.value()},
                                            {"term", restored.applied_term.value()},
                                            {"plugin", genesis.plugin_name}})
                        << "\n";
  } else {
    context.streams.out << fmt::format(
        "{}: node {} of the new cluster '{}' ({}), plugin {}, state of index {}\ncluster.id: {}\n",
        data_dir, founder, genesis.cluster_name, genesis.cluster_id.to_string(),
        genesis.plugin_name, restored.applied, genesis.cluster_id.to_string());
  }
  context.streams.err << fmt::format(
      "Start it with: connectd --config {}. It is the only member; others join with empty data\n"
      "directories: connectctl member add. Members of the old cluster are refused.\n",
      config_path.empty() ? "FILE" : config_path);
  if (!owner.empty()) {
    context.streams.err << fmt::format("{} belongs to user {}, like the directory above it.\n",
                                       data_dir, owner);
  } else if (::geteuid() == 0) {
    context.streams.err << fmt::format(
        "{0} belongs to root: a service of another user cannot open it. If it runs as connectd: "
        "chown -R connectd: {0}\n",
        data_dir);
  }
  if (!configured_id.empty()) {
    context.streams.err << fmt::format(
        "Before that, in {} and in the files of all members, set cluster.id: {}; now it is {}, the "
        "id of\nanother cluster, and the node does not start with it.\n",
        config_path, genesis.cluster_id.to_string(), configured_id);
  }
}

}  // namespace

ExitCode snapshot_restore_command(Context& context) {
  const std::string& path = context.arguments[0];
  offline::RestoreOptions options;
  std::string data_dir = context.option("data-dir");
  std::string config_path = context.option("config");
  std::string configured_id;
  node::GenesisMember& founder = options.founder;
  if (!config_path.empty()) {
    config::LoadRequest request;
    request.file = config_path;
    if (context.has("node")) request.node = context.option("node");
    if (context.has("data-dir")) request.data_dir = data_dir;
    if (context.has("set")) request.sets = context.options["set"];
    Result<config::Loaded> loaded = config::load(request);
    if (!loaded) {
      context.streams.err << loaded.error().text;
      return exit_code(loaded.error().kind);
    }
    const config::Config& config = loaded->config;
    founder = {config.node.id, DiskId(), config.self().peer.to_string(),
               config.self().client.to_string(), config.self().http.to_string()};
    options.cluster_name = config.cluster.name;
    data_dir = config.node.data_dir;
    configured_id = config.cluster.id;
  } else if (!context.has("peer")) {
    return context.fail(ExitCode::kUsage,
                        "missing first member: pass --config FILE, the file that connectd will run "
                        "with, or --peer HOST:PORT with --node, --client and --http");
  } else if (data_dir.empty()) {
    return context.fail(ExitCode::kUsage, "missing --data-dir DIR, the node's new directory");
  }
  if (context.has("node") && config_path.empty()) {
    const std::string text = context.option("node");
    uint64_t id = 0;
    auto end = std::from_chars(text.data(), text.data() + text.size(), id);
    if (end.ec != std::errc() || end.ptr != text.data() + text.size() || id == 0) {
      return context.fail(ExitCode::kUsage, "--node must be a node id, a positive number");
    }
    founder.id = NodeId(id);
  }
  if (!founder.id) founder.id = NodeId(1);
  for (auto [name, to] :
       {std::pair("peer", &founder.peer_address), std::pair("client", &founder.client_address),
        std::pair("http", &founder.http_address)}) {
    if (!context.has(name)) continue;
    auto address = parse_address(context.option(name));
    if (!address) {
      return context.fail(ExitCode::kUsage, fmt::format("--{}: {}", name, address.error()));
    }
    *to = context.option(name);
  }
  if (context.has("cluster-name")) options.cluster_name = context.option("cluster-name");
  options.cluster_id.bytes = random_128();
  founder.disk_id.bytes = random_128();

  const KeepOwner owner(data_dir);
  auto files = storage::make_real_file_system();
  auto restored = offline::restore_into_new_cluster(*files, path, data_dir, options);
  // What a failed one has left, too: the next one finds it.
  const std::string problem = owner.give_back();
  if (!restored) {
    if (!problem.empty()) context.streams.err << "connectctl: " << problem << "\n";
    return context.fail(restored.error());
  }
  if (!problem.empty()) return context.fail(ExitCode::kPermission, problem);
  print_restored(context, *restored, data_dir, config_path, configured_id, owner.owner());
  return ExitCode::kOk;
}

}  // namespace connectd::ctl

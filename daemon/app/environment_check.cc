#include "app/environment_check.h"

#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "app/node_setup.h"
#include "app/own_files.h"
#include "app/own_port.h"
#include "app/systemd.h"
#include "base/log.h"
#include "base/owner.h"
#include "node/membership/genesis.h"
#include "node/membership/members.h"
#include "offline/recover.h"
#include "plugin/changeable.h"
#include "storage/data_directory.h"
#include "storage/file_system.h"

namespace connectd::app {
namespace {

// As the start begins. No genesis: the node was never part of a cluster.
Result<storage::Identity> check_identity_file(storage::FileSystem& files,
                                              const config::Config& config) {
  auto identity = storage::examine_directory(files, config.node.data_dir, config.node.id);
  if (!identity) return failure(identity.error());
  if (!*identity) return storage::Identity();
  if (auto fits = check_identity(**identity, config); !fits) return failure(fits.error());
  return std::move(**identity);
}

// As it goes on when it has its ports. `is_ours`: no node that runs changes the log meanwhile.
Result<void> check_data(storage::FileSystem& files, const config::Config& config,
                        const storage::Identity& identity, const plugin::Plugin* plugin,
                        bool is_ours) {
  if (identity.genesis.empty()) return {};
  auto genesis = node::Genesis::decode(as_bytes(identity.genesis));
  if (!genesis) return failure(genesis.error());
  if (plugin != nullptr) {
    if (auto fits = check_fits_cluster(*genesis, config, *plugin); !fits) return fits;
  }
  if (!is_ours || !identity.log_begun) return {};
  auto read = offline::look_at_survivor(files, config.node.data_dir);
  if (!read) return failure(read.error());
  if (!read->is_interrupted()) return {};
  return failure(
      ErrorKind::kWrongData,
      fmt::format("{}: `connectctl recover` was interrupted. Complete it: {}", config.node.data_dir,
                  node::recover_command(config.node.data_dir, read->members.recoveries.back())));
}

bool may_use(const struct stat& file, const struct stat& directory) {
  constexpr mode_t kGroup = S_IRGRP | S_IWGRP;
  constexpr mode_t kOthers = S_IROTH | S_IWOTH;
  if (file.st_uid == directory.st_uid || (file.st_mode & kOthers) == kOthers) return true;
  return file.st_gid == directory.st_gid && (file.st_mode & kGroup) == kGroup;
}

// Root can open everything. The service, whose user the directory belongs to, cannot.
Result<void> check_owners(storage::FileSystem& files, const std::string& data_dir) {
  struct stat directory {};
  if (::geteuid() != 0 || ::stat(data_dir.c_str(), &directory) != 0 || directory.st_uid == 0) {
    return {};
  }
  for (const char* part : {"", "/log", "/snapshots"}) {
    auto names = files.list(data_dir + part);
    for (const std::string& name : names ? *names : std::vector<std::string>()) {
      // Of other files there nothing is known.
      const bool is_ours = *part != '\0' || name == "identity" || name == "lock";
      const std::string path = fmt::format("{}{}/{}", data_dir, part, name);
      struct stat file {};
      if (!is_ours || ::stat(path.c_str(), &file) != 0 || !S_ISREG(file.st_mode)) continue;
      if (may_use(file, directory)) continue;
      const std::string user = user_name(directory.st_uid);
      return failure(ErrorKind::kPermission,
                     fmt::format("{} belongs to user {}, and {} to {}: a service of that user "
                                 "cannot open it: chown -R {}: {}",
                                 path, user_name(file.st_uid), data_dir, user, user, data_dir));
    }
  }
  return {};
}

// While it lives, files are opened as the user whom the data directory belongs to, if that is not
// root and this process is: the service runs as that user, and root can read everything. For the
// whole process, so only where no other thread opens anything.
class AsOwner final {
 public:
  explicit AsOwner(const std::string& data_dir) {
    struct stat directory {};
    if (::geteuid() != 0 || ::stat(data_dir.c_str(), &directory) != 0 || directory.st_uid == 0) {
      return;
    }
    const std::string name = user_name(directory.st_uid);
    const int count = ::getgroups(0, nullptr);
    groups_.resize(static_cast<size_t>(std::max(count, 0)));
    // Without the right to change the groups, as in some containers, root reads.
    if (::getgroups(count, groups_.data()) != count) return;
    if (::initgroups(name.c_str(), directory.st_gid) != 0) return;
    CHECK_EQ(::setegid(directory.st_gid), 0);
    CHECK_EQ(::seteuid(directory.st_uid), 0);
    user_ = name;
  }
  ~AsOwner() {
    if (user_.empty()) return;
    CHECK_EQ(::seteuid(0), 0);
    CHECK_EQ(::setegid(0), 0);
    CHECK_EQ(::setgroups(groups_.size(), groups_.data()), 0);
  }
  AsOwner(const AsOwner&) = delete;
  AsOwner& operator=(const AsOwner&) = delete;

  // Empty: nothing has changed.
  const std::string& user() const { return user_; }

 private:
  std::string user_;
  std::vector<gid_t> groups_;
};

// What `plugin.allow_writable: auto` lets this process load, and a service not.
void warn_of_changeable_plugin(const config::Config& config, const plugin::Plugin& plugin) {
  const bool depends = config.plugin.allow_writable == config::AllowWritable::kAuto &&
                       config.plugin.sha256.empty() && !is_run_by_systemd();
  if (!depends) return;
  const AsOwner owner(config.node.data_dir);
  const std::string part = plugin::changeable_part(plugin.path());
  if (part.empty()) return;
  // Root does not know which user the service will have.
  const std::string why =
      ::geteuid() == 0
          ? fmt::format("(77) if {} may be changed by connectd's user: it is not root's alone",
                        part)
          : fmt::format("(77): {} may be changed by connectd's user", part);
  print_to_stderr(LogLevel::kWarning,
                  fmt::format("warning: plugin file {}: under systemd this plugin is refused {}; "
                              "`chown root` and `chmod go-w` it, or set plugin.sha256",
                              plugin.path(), why));
}

Result<void> check_own_files(const config::Config& config, const plugin::Plugin* plugin) {
  const AsOwner owner(config.node.data_dir);
  auto own = read_own_files(config, plugin);
  if (own) {
    for (const std::string& warning : warnings_of(*own)) {
      print_to_stderr(LogLevel::kWarning, "warning: " + warning);
    }
    return {};
  }
  if (own.error().kind != ErrorKind::kPermission || owner.user().empty()) {
    return failure(own.error());
  }
  return failure(ErrorKind::kPermission,
                 fmt::format("{}\n(as user {}, whom {} belongs to)", own.error().text, owner.user(),
                             config.node.data_dir));
}

}  // namespace

std::vector<Error> check_environment(const config::Config& config, const plugin::Plugin* plugin) {
  std::vector<Error> problems;
  auto files = storage::make_real_file_system();
  const std::string& dir = config.node.data_dir;
  const KeepOwner owner(dir);
  auto lock = lock_data_directory(*files, dir);
  // Before anything is said about the files of others: these are to be made theirs.
  const std::string problem = owner.give_back();
  if (!problem.empty()) problems.push_back({ErrorKind::kPermission, problem});
  if (!lock) problems.push_back(lock.error());
  if (auto can = check_owners(*files, dir); !can) problems.push_back(can.error());
  // Its node may run: the identity can be checked all the same.
  auto identity = check_identity_file(*files, config);
  if (!identity) problems.push_back(identity.error());
  if (auto own = check_own_files(config, plugin); !own) problems.push_back(own.error());
  if (plugin != nullptr) warn_of_changeable_plugin(config, *plugin);
  for (const auto& [address, port] : {std::pair{config.listen.peer, net::kPeerPort},
                                      std::pair{config.listen.client, net::kClientPort},
                                      std::pair{config.listen.http, net::kHttpPort}}) {
    auto bound = bind_now(address, port);
    if (!bound) {
      problems.push_back(bound.error());
      continue;
    }
    const std::string warning = loopback_warning(config, address, bound->endpoint(), port);
    if (!warning.empty()) print_to_stderr(LogLevel::kWarning, "warning: " + warning);
  }
  if (!identity) return problems;
  auto data = check_data(*files, config, *identity, plugin, lock.has_value());
  if (!data) problems.push_back(data.error());
  return problems;
}

}  // namespace connectd::app

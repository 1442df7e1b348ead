#include "app/environment_check.h"

#include <string>
#include <utility>

#include "app/node_setup.h"
#include "app/own_port.h"
#include "base/log.h"
#include "base/owner.h"
#include "node/membership/genesis.h"
#include "storage/data_directory.h"
#include "storage/file_system.h"

namespace connectd::app {
namespace {

Result<void> check_data(storage::FileSystem& files, const config::Config& config,
                        const plugin::Plugin* plugin) {
  auto identity = storage::examine_directory(files, config.node.data_dir, config.node.id);
  if (!identity) return failure(identity.error());
  if (!*identity) return {};
  if (auto fits = check_identity(**identity, config); !fits) return fits;
  if ((*identity)->genesis.empty()) return {};
  auto genesis = node::Genesis::decode(as_bytes((*identity)->genesis));
  if (!genesis) return failure(genesis.error());
  return plugin == nullptr ? Result<void>() : check_fits_cluster(*genesis, config, *plugin);
}

}  // namespace

std::vector<Error> check_environment(const config::Config& config, const plugin::Plugin* plugin) {
  std::vector<Error> problems;
  auto files = storage::make_real_file_system();
  const std::string& dir = config.node.data_dir;
  const KeepOwner owner(dir);
  if (auto made = files->make_directory(dir); !made) {
    problems.push_back(made.error());
  } else {
    // Its node may run: the data can be checked all the same.
    auto lock = files->lock(dir + "/lock");
    if (!lock) problems.push_back(lock.error());
    if (auto fits = check_data(*files, config, plugin); !fits) problems.push_back(fits.error());
  }
  if (const std::string problem = owner.give_back(); !problem.empty()) {
    problems.push_back({ErrorKind::kPermission, problem});
  }
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
  return problems;
}

}  // namespace connectd::app

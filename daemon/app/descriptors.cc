#include "app/descriptors.h"

#include <dirent.h>
#include <sys/resource.h>

#include <algorithm>
#include <limits>

#include "admin/limits.h"
#include "base/log_event.h"
#include "storage/log.h"
#include "transport/peers.h"

namespace connectd::app {
namespace {

// What a node opens for itself, all at a time: the log's segments (current, spare, reserve, one in
// the making, and those that stay open), the directories, a snapshot that is taken, one that comes
// in and is verified, two that are sent, a fork's pipe, the identity; ports, epoll and timers; the
// resolver's sockets.
constexpr size_t kOwnFiles = storage::kOpenSegments + 4 + 3 + 5 + 2 + 1;
constexpr size_t kOwnSockets = 9;
constexpr size_t kOwn = kOwnFiles + kOwnSockets;
// Two connections with each of 32 members, and handshakes in progress: of TLS, and then of peers.
constexpr size_t kPeers = 64 + 2 * transport::kMaxPendingHandshakes;
// Files of the plugin, and requests of /v1/cluster to other members.
constexpr size_t kOtherDescriptors = 128;
// Of HTTP connections, when there are few for all.
constexpr size_t kSomeHttp = 128;
// With fewer for clients, peers and HTTP together a node is of no use.
constexpr size_t kMinShared = 16;

}  // namespace

size_t raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return std::numeric_limits<size_t>::max();
  if (limit.rlim_cur != limit.rlim_max) {
    rlimit raised{limit.rlim_max, limit.rlim_max};
    // A seccomp filter may forbid it.
    if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  return limit.rlim_cur;
}

size_t open_descriptors() {
  DIR* directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) return 0;
  size_t names = 0;
  while (::readdir(directory) != nullptr) ++names;
  ::closedir(directory);
  return names - std::min<size_t>(names, 3);  // "." and "..", and the one that lists them
}

Result<DescriptorShares> share_descriptors(size_t limit, size_t open, size_t clients) {
  const size_t needed = open + kOwn + kMinShared;
  if (limit < needed) {
    return failure(ErrorKind::kNoDescriptors,
                   fmt::format("the limit of open files is {}, and a node needs at least {}: raise "
                               "it (`ulimit -Hn`, LimitNOFILE= of a unit)",
                               limit, needed));
  }
  const size_t left = limit - open - kOwn;
  DescriptorShares shares;
  shares.limit = limit;
  shares.http = std::min(admin::kMaxConnections, std::max(std::min(kSomeHttp, left / 4), left / 8));
  const size_t peers = std::min(kPeers, left / 4);
  const size_t others = std::min(kOtherDescriptors, left / 8);
  const size_t most = left - shares.http - peers - others;
  shares.capped = most < clients;
  shares.clients = std::min(most, clients);
  return shares;
}

void log_descriptors(const DescriptorShares& shares, size_t clients_wanted) {
  if (!shares.capped) {
    log_event(LogEvent::kProcessDescriptors, "file descriptors limit={} clients={}", shares.limit,
              shares.clients);
    return;
  }
  log_event(LogEvent::kProcessFewDescriptors,
            "client connections limited to {}, less than client.max_connections={}: the limit of "
            "open files is {}, and the others are for log, snapshots, peers and HTTP; raise it "
            "(LimitNOFILE= of a unit) or lower client.max_connections",
            shares.clients, clients_wanted, shares.limit);
}

}  // namespace connectd::app

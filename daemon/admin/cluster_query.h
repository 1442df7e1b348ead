// Asks the other members for their status, for /v1/cluster. On the server's thread.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "admin/answers.h"
#include "base/address.h"
#include "config/config.h"
#include "net/names.h"
#include "node/status.h"
#include "tls/credentials.h"

namespace boost::asio {
class io_context;
}

namespace connectd::admin {

class ClusterQueries final {
 public:
  // `io` is run by the server's thread.
  explicit ClusterQueries(boost::asio::io_context& io) : io_(io), names_(io) {}
  ClusterQueries(const ClusterQueries&) = delete;
  ClusterQueries& operator=(const ClusterQueries&) = delete;

  // How the others are asked from now on; null: plain.
  void set_tls(std::shared_ptr<const tls::Credentials> tls) { tls_ = std::move(tls); }
  // Asks all members in `own` but this node, kMemberTimeout each, and calls `done` when all have
  // answered or failed, perhaps at once. `advertised`: where this node is found, if it is no
  // member. `token`: shown to members on this machine, which may ask for it, and to no others: the
  // connections are not encrypted.
  void ask(const node::StatusSnapshot& own, const Address& advertised, const std::string& token,
           std::function<void(const ClusterAnswer&)> done);

 private:
  struct Query;

  boost::asio::io_context& io_;
  net::Names names_;
  std::shared_ptr<const tls::Credentials> tls_;
};

}  // namespace connectd::admin

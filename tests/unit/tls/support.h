// Shared by the tests of TLS: certificates that are made at run time, and two sessions over a pair
// of sockets, driven by one thread.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>

#include "tls/certificate.h"
#include "tls/credentials.h"
#include "tls/make.h"
#include "tls/session.h"

namespace connectd::tls {

inline constexpr int64_t kDay = 86'400;
inline constexpr const char* kCluster = "orders";

inline int64_t now_s() { return static_cast<int64_t>(::time(nullptr)); }
inline Validity valid() { return {now_s() - 3600, now_s() + 397 * kDay}; }

inline std::shared_ptr<const Credentials> must_load(const Files& files,
                                                    const CredentialsOptions& options = {}) {
  auto loaded = load_credentials(files, options);
  EXPECT_TRUE(loaded) << (loaded ? "" : loaded.error().text);
  return loaded ? *loaded : nullptr;
}

// A directory with CAs and what they have issued.
class Pki {
 public:
  Pki() {
    std::string name = (std::filesystem::temp_directory_path() / "connectd-tls-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "mkdtemp";
    path_ = name;
    auto made = Authority::make("Test CA", {now_s() - 3600, now_s() + 3650 * kDay});
    EXPECT_TRUE(made);
    ca_.emplace(std::move(*made));
    write("ca.pem", ca_->certificate_pem());
  }
  ~Pki() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Pki(const Pki&) = delete;
  Pki& operator=(const Pki&) = delete;

  std::string path(const std::string& name) const { return (path_ / name).string(); }
  std::string write(const std::string& name, std::string_view text, mode_t mode = 0600) const {
    const std::string file = path(name);
    std::ofstream(file, std::ios::binary | std::ios::trunc) << text;
    EXPECT_EQ(::chmod(file.c_str(), mode), 0);
    return file;
  }
  const Authority& ca() const { return *ca_; }
  std::string ca_path() const { return path("ca.pem"); }

  // Issues, writes NAME.pem and NAME.key, and gives the files that a node would name.
  Files issue(const std::string& name, const Request& request,
              const Authority* by = nullptr) const {
    auto made = (by != nullptr ? by : &*ca_)->issue(request);
    EXPECT_TRUE(made) << (made ? "" : made.error().text);
    return {write(name + ".pem", made->certificate), write(name + ".key", made->key), ca_path(),
            ""};
  }
  static Request node_request(uint64_t id) {
    return {.common_name = "node " + std::to_string(id),
            .uris = {node_uri(kCluster, NodeId(id))},
            .hosts = {"localhost", "127.0.0.1"},
            .is_for_servers = true,
            .is_for_clients = true,
            .validity = valid()};
  }
  Files node(uint64_t id) const { return issue("node" + std::to_string(id), node_request(id)); }
  std::string revoke(const std::vector<std::string>& serials, Validity validity = valid()) const {
    auto list = ca_->revoke("", serials, validity);
    EXPECT_TRUE(list);
    return write("revoked.pem", *list);
  }

 private:
  std::filesystem::path path_;
  std::optional<Authority> ca_;
};

// Two ends of a connection that do not block.
class Pair {
 public:
  Pair() {
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends_), 0);
  }
  ~Pair() {
    close_one(0);
    close_one(1);
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  int client() const { return ends_[0]; }
  int server() const { return ends_[1]; }
  void close_client() { close_one(0); }
  void close_server() { close_one(1); }

 private:
  void close_one(int i) {
    if (ends_[i] >= 0) ::close(ends_[i]);
    ends_[i] = -1;
  }
  int ends_[2] = {-1, -1};
};

inline bool is_waiting(Status status) {
  return status == Status::kWantsRead || status == Status::kWantsWrite;
}

// A client and a server.
struct Both {
  Pair sockets;
  std::unique_ptr<Session> client;
  std::unique_ptr<Session> server;
  Status client_status = Status::kWantsRead;
  Status server_status = Status::kWantsRead;

  Both(const std::shared_ptr<const Credentials>& dials,
       const std::shared_ptr<const Credentials>& accepts, const Expected& expected,
       Demand demand = Demand::kRequired)
      : client(Session::dial(dials, sockets.client(), expected)),
        server(Session::accept(accepts, sockets.server(), demand)) {}

  // Until both are done, or neither gets further. Then the client reads: a refusal comes late.
  void shake() {
    for (int i = 0; i < 20; ++i) {
      if (is_waiting(client_status)) client_status = client->shake();
      if (is_waiting(server_status)) server_status = server->shake();
    }
    if (client_status != Status::kDone || server_status == Status::kDone) return;
    uint8_t byte = 0;
    client_status = client->read({&byte, 1}).status;
  }
};

inline Expected to_node(uint64_t id) { return {.uri = node_uri(kCluster, NodeId(id)), .host = ""}; }

}  // namespace connectd::tls

#include "admin/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <boost/json.hpp>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "admin/http_client.h"
#include "admin/limits.h"
#include "admin/routes.h"

namespace connectd::admin {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;
using ::testing::HasSubstr;

// Replaces the loop thread: accepts calls, and answers when the test tells it what.
class FakeLoop {
 public:
  struct Call {
    std::string request;
    std::function<void(CallResult)> done;
    node::ReadOptions read{};
  };

  CallFunction function() {
    return [this](CallRequest request, std::function<void(CallResult)> done) {
      std::lock_guard lock(mutex_);
      calls_.push_back({std::move(request.bytes), std::move(done), request.read});
      ready_.notify_all();
    };
  }
  // Waits for the next call.
  Call take(Duration limit = 10s) {
    std::unique_lock lock(mutex_);
    if (!ready_.wait_for(lock, limit, [&] { return !calls_.empty(); })) return {};
    Call call = std::move(calls_.front());
    calls_.pop_front();
    return call;
  }
  size_t size() {
    std::lock_guard lock(mutex_);
    return calls_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Call> calls_;
};

// A connection that sends any bytes, valid or not.
class RawClient {
 public:
  explicit RawClient(uint16_t port) {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    timeval limit{10, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~RawClient() { close(fd_); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool connected() const { return connected_; }
  void send(std::string_view text) {
    while (!text.empty()) {
      ssize_t sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      text.remove_prefix(static_cast<size_t>(sent));
    }
  }
  // What fits without waiting.
  void send_some(std::string_view text) {
    while (!text.empty()) {
      ssize_t sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent <= 0) return;
      text.remove_prefix(static_cast<size_t>(sent));
    }
  }
  // Until `end` was read, or the other one, or the connection was closed.
  std::string read_until(std::string_view end, std::string_view or_end = kNever) {
    std::string text;
    char block[4096];
    while (text.find(end) == std::string::npos && text.find(or_end) == std::string::npos) {
      ssize_t got = recv(fd_, block, sizeof block, 0);
      if (got <= 0) break;
      text.append(block, static_cast<size_t>(got));
    }
    return text;
  }
  std::string read_all() { return read_until(kNever); }
  std::string ask_livez() {
    send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    return read_until("ok\n");
  }

 private:
  static constexpr std::string_view kNever{"\0never", 6};

  int fd_ = -1;
  bool connected_ = false;
};

class HttpServerTest : public ::testing::Test {
 protected:
  void SetUp() override { open({}); }

  void open(ServerOptions options) {
    options.listen = {"127.0.0.1", 0};
    if (!options.id) options.id = NodeId(1);
    ServerHooks hooks;
    hooks.call = loop_.function();
    hooks.change_members = [this](node::MemberChange change, auto done) {
      changes_.push_back(change);
      done(outcome_);
    };
    hooks.change_setting = [this](SettingChange change, auto done) {
      settings_.push_back(change);
      done(outcome_);
    };
    hooks.snapshots.take = [this](auto done) { answer_snapshot(SnapshotTaken{Index(77)}, done); };
    hooks.snapshots.list = [this](auto done) { answer_snapshot(snapshot_list_, done); };
    hooks.snapshots.read = [this](SnapshotPiece piece, auto done) {
      pieces_.push_back(piece);
      answer_snapshot(std::string("\0bytes\n", 7), done);
    };
    auto server = HttpServer::open(options, board_, std::move(hooks));
    ASSERT_TRUE(server) << server.error().text;
    server_ = std::move(*server);
    ASSERT_TRUE(server_->start());
  }

  // With so few connections that a test can use them up.
  static constexpr size_t kFew = 16;
  static constexpr size_t kFewReserved = reserved_connections(kFew);
  void open_few(Duration idle_patience = kIdlePatience) {
    ServerOptions options;
    options.max_connections = kFew;
    options.idle_patience = idle_patience;
    open(options);
  }
  std::string raw_call(const std::string& body) const {
    return "POST /v1/call HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(server_->port()) +
           "\r\nX-Connect-Request: 1\r\nContent-Type: a/b\r\nContent-Length: " +
           std::to_string(body.size()) + "\r\n\r\n" + body;
  }

  template <class Value>
  void answer_snapshot(Value value, const SnapshotDone<Value>& done) {
    ++snapshot_verbs_;
    if (snapshot_refusal_) return done(tl::unexpected(*snapshot_refusal_));
    done(std::move(value));
  }

  static node::StatusSnapshot good_status() {
    node::StatusSnapshot status;
    status.made = read_clocks().time;
    status.id = NodeId(1);
    status.name = "n1";
    status.role = raft::Role::kLeader;
    status.leader = NodeId(1);
    status.term = Term(3);
    status.ready = true;
    return status;
  }
  void publish(const node::StatusSnapshot& status) {
    board_.publish(std::make_shared<const node::StatusSnapshot>(status));
  }

  Address address() const { return {"127.0.0.1", server_->port()}; }
  HttpAnswer get(const std::string& target) {
    HttpRequest request;
    request.target = target;
    return answer(std::move(request));
  }
  HttpRequest call_request(const std::string& body) {
    HttpRequest request;
    request.method = "POST";
    request.target = "/v1/call";
    request.headers = {{"X-Connect-Request", "1"}, {"Content-Type", "application/octet-stream"}};
    request.body = body;
    return request;
  }
  HttpAnswer answer(HttpRequest request) {
    HttpOutcome outcome = fetch(address(), std::move(request), 20s);
    EXPECT_TRUE(outcome) << outcome.error().text;
    return outcome ? std::move(*outcome) : HttpAnswer{};
  }
  // A call that the loop answers with `result`.
  HttpAnswer call(const std::string& body, const CallResult& result) {
    std::thread loop([&] {
      FakeLoop::Call taken = loop_.take();
      EXPECT_EQ(taken.request, body);
      if (taken.done) taken.done(result);
    });
    HttpAnswer got = answer(call_request(body));
    loop.join();
    return got;
  }
  static json::object problem_of(const HttpAnswer& got) {
    EXPECT_EQ(got.header("content-type"), "application/problem+json");
    json::object object = json::parse(got.body).as_object();
    EXPECT_EQ(object["status"].to_number<int>(), got.status);
    EXPECT_EQ(object["type"].as_string(), "about:blank");
    EXPECT_FALSE(object["title"].as_string().empty());
    EXPECT_FALSE(object["detail"].as_string().empty());
    return object;
  }

  node::StatusBoard board_;
  std::vector<node::MemberChange> changes_;  // of the server's thread; read after an answer
  node::ChangeOutcome outcome_{node::ChangeCode::kDone, "appended", Index(9)};
  std::vector<SettingChange> settings_;
  int snapshot_verbs_ = 0;
  SnapshotList snapshot_list_;
  std::vector<SnapshotPiece> pieces_;
  std::optional<SnapshotRefusal> snapshot_refusal_;
  FakeLoop loop_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, ChangesOfMembers) {
  auto post = [&](const std::string& target, const std::string& body) {
    HttpRequest request = call_request(body);
    request.target = target;
    return answer(std::move(request));
  };
  HttpAnswer added =
      post("/v1/admin/members",
           R"({"action": "add", "id": 4, "peer": "h:1", "client": "h:2", "http": "[::1]:3",
                              "learner": true, "force": true, "if_index": 7})");
  EXPECT_EQ(added.status, 200) << added.body;
  EXPECT_EQ(json::parse(added.body).at("index").as_int64(), 9);
  ASSERT_EQ(changes_.size(), 1u);
  EXPECT_EQ(changes_[0].kind, node::MemberChange::Kind::kAdd);
  EXPECT_EQ(changes_[0].member.id, NodeId(4));
  EXPECT_EQ(changes_[0].member.http_address, "[::1]:3");
  EXPECT_TRUE(changes_[0].learner_only && changes_[0].force);
  EXPECT_EQ(changes_[0].expected, Index(7));
  EXPECT_EQ(post("/v1/admin/leader", R"({"action": "transfer"})").status, 200);
  EXPECT_EQ(changes_[1].kind, node::MemberChange::Kind::kTransfer);

  for (const char* wrong :
       {"", "[]", "{", R"({"id": 4})", R"({"action": "eat", "id": 4})",
        R"({"action": "add", "id": -4})", R"({"action": "add", "id": "4"})",
        R"({"action": "add", "peer": "nowhere"})", R"({"action": "add", "speed": 4})",
        R"({"action": "transfer", "id": 4})"}) {
    HttpAnswer refused = post("/v1/admin/members", wrong);
    EXPECT_EQ(refused.status, 400) << wrong;
    EXPECT_EQ(json::parse(refused.body).at("code").as_string(), "REFUSED") << wrong;
  }
  EXPECT_EQ(changes_.size(), 2u);

  for (auto [name, status] :
       {std::pair("BUSY", 409), std::pair("CONFLICT", 409), std::pair("QUORUM", 409),
        std::pair("REFUSED", 400), std::pair("NOLEADER", 503), std::pair("TIMEOUT", 504)}) {
    outcome_ = {node::change_code_of(name), "why", Index()};
    HttpAnswer refused = post("/v1/admin/members", R"({"action": "remove", "id": 4})");
    EXPECT_EQ(refused.status, status) << name;
    EXPECT_EQ(json::parse(refused.body).at("code").as_string(), name);
    EXPECT_EQ(json::parse(refused.body).at("detail").as_string(), "why");
  }
}

TEST_F(HttpServerTest, VerbsOfSnapshots) {
  auto post = [&](const std::string& body) {
    HttpRequest request = call_request(body);
    request.target = "/v1/admin/snapshot";
    return answer(std::move(request));
  };
  HttpAnswer taken = post(R"({"action": "take"})");
  EXPECT_EQ(taken.status, 200) << taken.body;
  EXPECT_EQ(json::parse(taken.body).at("index").as_int64(), 77);

  snapshot_list_.taking = true;
  snapshot_list_.snapshots = {{"b.snapshot", Index(9), Term(2), 500, 60},
                              {"a.snapshot", Index(8), Term(2), 400, 120}};
  json::value list = json::parse(post(R"({"action": "list"})").body);
  EXPECT_TRUE(list.at("taking").as_bool());
  ASSERT_EQ(list.at("snapshots").as_array().size(), 2u);
  EXPECT_EQ(list.at("snapshots").at(0).at("name").as_string(), "b.snapshot");
  EXPECT_EQ(list.at("snapshots").at(0).at("age_seconds").as_int64(), 60);

  HttpAnswer piece =
      post(R"({"action": "read", "name": "b.snapshot", "offset": 4194304, "length": 1024})");
  EXPECT_EQ(piece.status, 200);
  EXPECT_EQ(piece.header("content-type"), "application/octet-stream");
  EXPECT_EQ(piece.body, std::string("\0bytes\n", 7));
  ASSERT_EQ(pieces_.size(), 1u);
  EXPECT_EQ(pieces_[0].name, "b.snapshot");
  EXPECT_EQ(pieces_[0].offset, 4194304u);
  EXPECT_EQ(pieces_[0].length, 1024u);

  for (const char* wrong :
       {"", "[]", "{}", R"({"action": "eat"})", R"({"action": "read", "name": "b", "length": 0})",
        R"({"action": "read", "length": 5})",
        R"({"action": "read", "name": "b", "length": 4194305})",
        R"({"action": "read", "name": "b", "length": 5, "offset": -1})",
        R"({"action": "take", "speed": 4})"}) {
    HttpAnswer refused = post(wrong);
    EXPECT_EQ(refused.status, 400) << wrong;
    EXPECT_EQ(json::parse(refused.body).at("code").as_string(), "REFUSED") << wrong;
  }
  EXPECT_EQ(snapshot_verbs_, 3);

  snapshot_refusal_ = {404, "GONE", "why"};
  HttpAnswer gone = post(R"({"action": "read", "name": "b", "length": 5})");
  EXPECT_EQ(gone.status, 404);
  EXPECT_EQ(json::parse(gone.body).at("code").as_string(), "GONE");
  EXPECT_EQ(snapshot_verbs_, 4);
}

TEST_F(HttpServerTest, ChangesOfSettings) {
  auto post = [&](const std::string& body) {
    HttpRequest request = call_request(body);
    request.target = "/v1/admin/settings";
    return answer(std::move(request));
  };
  EXPECT_EQ(post(R"({"key": "raft.lease_reads", "value": "true"})").body,
            R"({"index":9,"text":"appended"})");
  ASSERT_EQ(settings_.size(), 1u);
  EXPECT_EQ(settings_[0].key, "raft.lease_reads");
  EXPECT_EQ(settings_[0].value, "true");
  EXPECT_EQ(post(R"({"key": "a"})").status, 200) << "an empty value";
  const std::string long_text(257, 'a');
  for (const std::string& wrong :
       {std::string(), std::string("[]"), std::string("{}"), std::string(R"({"value": "b"})"),
        std::string(R"({"key": "a", "value": true})"), std::string(R"({"key": "a", "speed": "b"})"),
        R"({"key": "a", "value": ")" + long_text + R"("})"}) {
    HttpAnswer refused = post(wrong);
    EXPECT_EQ(refused.status, 400) << wrong;
    EXPECT_EQ(json::parse(refused.body).at("code").as_string(), "REFUSED") << wrong;
  }
  EXPECT_EQ(settings_.size(), 2u);
  outcome_ = {node::ChangeCode::kBusy, "why", Index()};
  EXPECT_EQ(post(R"({"key": "a", "value": "b"})").status, 409);
}

// Of what routes_test.cc shows of all routes without sockets, that it holds with them.
TEST_F(HttpServerTest, EveryGuardedRouteRefusesPages) {
  for (const Route& route : routes()) {
    if (route.guard.pages() != Pages::kRefused) continue;
    const std::vector<std::pair<std::string, std::string>> bad = {
        {"X-Connect-Request", "0"}, {"Host", "evil.example"}, {"Content-Type", "text/plain"}};
    for (const auto& [name, value] : bad) {
      HttpRequest request = call_request("");
      request.target = std::string(route.path);
      request.headers[name] = value;
      EXPECT_EQ(answer(std::move(request)).status, name == "Content-Type" ? 415 : 403)
          << route.path << " " << name;
    }
  }
  EXPECT_TRUE(changes_.empty() && settings_.empty() && snapshot_verbs_ == 0 && loop_.size() == 0);
}

TEST_F(HttpServerTest, WhileStartingItLivesAndIsNotReady) {
  EXPECT_EQ(get("/livez").status, 200);
  EXPECT_EQ(get("/readyz").status, 503);
  EXPECT_EQ(get("/leaderz").status, 503);
  EXPECT_EQ(get("/v1/status").status, 503);
  EXPECT_EQ(get("/v1/cluster").status, 503);
}

TEST_F(HttpServerTest, HealthOfAServingLeader) {
  publish(good_status());
  for (const char* path : {"/livez", "/readyz", "/leaderz"}) {
    HttpAnswer got = get(path);
    EXPECT_EQ(got.status, 200) << path;
    EXPECT_EQ(got.body, "ok\n");
  }
  EXPECT_THAT(get("/readyz?verbose").body, HasSubstr("[+] leader: leader 1 in term 3\n"));
  EXPECT_THAT(get("/leaderz?verbose").body, HasSubstr("[+] leader: leader in term 3\nok\n"));
}

TEST_F(HttpServerTest, HealthOfAWaitingFollower) {
  node::StatusSnapshot status = good_status();
  status.role = raft::Role::kFollower;
  status.leader = NodeId(2);
  status.ready = false;
  status.state = node::ServiceState::kForming;
  status.reason = "waiting for members 2, 3";
  publish(status);
  EXPECT_EQ(get("/livez").status, 200);
  HttpAnswer ready = get("/readyz");
  EXPECT_EQ(ready.status, 503);
  EXPECT_EQ(ready.header("retry-after"), "1");
  EXPECT_EQ(problem_of(ready)["detail"].as_string(), "waiting for members 2, 3");
  HttpAnswer leader = get("/leaderz");
  EXPECT_EQ(leader.status, 503);
  EXPECT_EQ(problem_of(leader)["detail"].as_string(), "follower; node 2 leads term 3");
  HttpAnswer verbose = get("/readyz?verbose");
  EXPECT_EQ(verbose.status, 503);
  EXPECT_THAT(verbose.body, HasSubstr("[-] cluster: waiting for members 2, 3\n"));
}

TEST_F(HttpServerTest, HangingLoopIsNotAlive) {
  node::StatusSnapshot status = good_status();
  status.made = read_clocks().time - kLoopHangs - 1s;
  publish(status);
  EXPECT_EQ(get("/livez").status, 503);
  EXPECT_EQ(get("/readyz").status, 503);
  EXPECT_THAT(get("/readyz?verbose").body, HasSubstr("[-] loop: the main loop hangs\n"));
}

TEST_F(HttpServerTest, StuckPluginCallIsShown) {
  publish(good_status());
  board_.set_stuck("apply at 812");
  EXPECT_EQ(get("/livez").status, 200);
  HttpAnswer ready = get("/readyz");
  EXPECT_EQ(ready.status, 503);
  EXPECT_EQ(problem_of(ready)["detail"].as_string(), "STUCK in apply at 812");
  EXPECT_THAT(get("/v1/status").body, HasSubstr("\"stuck\":\"apply at 812\""));
  // It holds the loop: a restart would hang at the same entry; but not so for classify.
  node::StatusSnapshot status = good_status();
  status.made = read_clocks().time - kLoopHangs - 1s;
  publish(status);
  EXPECT_EQ(get("/livez").status, 200);
  board_.set_stuck("classify");
  EXPECT_EQ(get("/livez").status, 503);
  board_.set_stuck("");
  publish(good_status());
  EXPECT_EQ(get("/readyz").status, 200);
}

TEST_F(HttpServerTest, StatusIsTheSnapshot) {
  publish(good_status());
  HttpAnswer got = get("/v1/status");
  EXPECT_EQ(got.status, 200);
  EXPECT_EQ(got.header("content-type"), "application/json");
  EXPECT_EQ(got.header("access-control-allow-origin"), "");
  EXPECT_EQ(json::parse(got.body).as_object()["term"].to_number<int>(), 3);
}

TEST_F(HttpServerTest, UnknownPathsAreNotFound) {
  HttpAnswer got = get("/v1/nothing");
  EXPECT_EQ(got.status, 404);
  problem_of(got);
  HttpRequest request;
  request.method = "DELETE";
  request.target = "/v1/status";
  got = answer(request);
  EXPECT_EQ(got.status, 405);
  EXPECT_EQ(got.header("allow"), "GET, HEAD");
  got = get("/v1/call");
  EXPECT_EQ(got.status, 405);
  EXPECT_EQ(got.header("allow"), "POST");
}

TEST_F(HttpServerTest, HeadHasNoBody) {
  publish(good_status());
  RawClient client(server_->port());
  client.send("HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  std::string text = client.read_all();
  EXPECT_THAT(text, HasSubstr("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(text, HasSubstr("Content-Length: 3\r\n"));
  EXPECT_TRUE(text.ends_with("\r\n\r\n"));
}

TEST_F(HttpServerTest, OneConnectionCarriesManyRequests) {
  publish(good_status());
  RawClient client(server_->port());
  for (int i = 0; i < 3; ++i) {
    client.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_THAT(client.read_until("ok\n"), HasSubstr("200 OK"));
  }
  // Two at once are answered one after the other.
  client.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(client.read_until("/v1/call"), HasSubstr("404"));
}

TEST_F(HttpServerTest, CallReachesThePluginAndItsReplyComesBack) {
  CallResult result;
  result.bytes = std::string("1\n\0\xff", 4);
  result.status = -3;
  result.index = Index(812);
  HttpAnswer got = call(std::string("in\0cr", 5), result);
  EXPECT_EQ(got.status, 200);
  EXPECT_EQ(got.body, result.bytes);
  EXPECT_EQ(got.header("x-connect-index"), "812");
  EXPECT_EQ(got.header("x-connect-status"), "-3");
  EXPECT_EQ(got.header("content-type"), "application/octet-stream");
}

TEST_F(HttpServerTest, EachErrorCodeHasItsStatus) {
  struct Case {
    node::ReplyCode code;
    int status;
    const char* name;
  };
  for (const Case& c : {Case{node::ReplyCode::kNoLeader, 503, "NOLEADER"},
                        Case{node::ReplyCode::kOverloaded, 429, "OVERLOADED"},
                        Case{node::ReplyCode::kTooLarge, 413, "TOOLARGE"},
                        Case{node::ReplyCode::kRejected, 400, "REJECTED"},
                        Case{node::ReplyCode::kDiskFull, 507, "DISKFULL"},
                        Case{node::ReplyCode::kShutdown, 503, "SHUTDOWN"},
                        Case{node::ReplyCode::kPlugin, 500, "PLUGIN"},
                        Case{node::ReplyCode::kUnknown, 504, "UNKNOWN"}}) {
    CallResult result;
    result.code = c.code;
    result.bytes = "some reason";
    HttpAnswer got = call("incr", result);
    EXPECT_EQ(got.status, c.status);
    json::object problem = problem_of(got);
    EXPECT_EQ(problem["code"].as_string(), c.name);
    EXPECT_EQ(problem["detail"].as_string(), "some reason");
  }
}

TEST_F(HttpServerTest, RefusalOfThePluginIsSentUnchanged) {
  CallResult result;
  result.code = node::ReplyCode::kRejected;
  result.plugin_refused = true;
  result.bytes = "-ERR wrong number of arguments\r\n";
  HttpAnswer got = call("SET", result);
  EXPECT_EQ(got.status, 400);
  EXPECT_EQ(got.body, result.bytes);
  EXPECT_EQ(got.header("x-connect-code"), "REJECTED");
}

TEST_F(HttpServerTest, BrowsersCannotCall) {
  HttpRequest request = call_request("incr");
  request.headers.erase("X-Connect-Request");
  HttpAnswer got = answer(request);
  EXPECT_EQ(got.status, 403);
  EXPECT_THAT(std::string(problem_of(got)["detail"].as_string()),
              HasSubstr("X-Connect-Request: 1"));

  for (const char* host : {"evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1"}) {
    request = call_request("incr");
    request.headers["Host"] = host;
    EXPECT_EQ(answer(request).status, 403) << host;
  }
  for (const char* type : {"", "application/x-www-form-urlencoded", "Text/Plain;charset=UTF-8",
                           "multipart/form-data; boundary=x"}) {
    request = call_request("incr");
    request.headers["Content-Type"] = type;
    EXPECT_EQ(answer(request).status, 415) << type;
  }
  EXPECT_EQ(loop_.size(), 0u);
}

TEST_F(HttpServerTest, NamesOfThisMachineAreGoodHosts) {
  for (std::string host : {"localhost", "127.0.0.1", "LOCALHOST", "[::1]"}) {
    std::thread loop([&] { loop_.take().done(CallResult{}); });
    HttpRequest request = call_request("incr");
    request.headers["Host"] = host + ":" + std::to_string(server_->port());
    EXPECT_EQ(answer(request).status, 200) << host;
    loop.join();
  }
}

TEST_F(HttpServerTest, UnsupportedRequestsAreRefused) {
  for (const char* name : {"X-Connect-Session", "X-Connect-Sequence"}) {
    HttpRequest request = call_request("get");
    request.headers[name] = "7";
    EXPECT_EQ(answer(request).status, 400) << name;
  }
  EXPECT_EQ(loop_.size(), 0u);
}

TEST_F(HttpServerTest, ReadLevelOfACallReachesTheNode) {
  using node::ReadLevel;
  const std::vector<std::pair<std::string, node::ReadOptions>> good = {
      {"linearizable", {}},
      {"Lease", {ReadLevel::kLease, Index(), {}}},
      {"stale", {ReadLevel::kStale, Index(), {}}},
      {"stale; max-age=500ms; min-index=123", {ReadLevel::kStale, Index(123), 500ms}},
      {" stale ;min-index = 7;max-age=0ms", {ReadLevel::kStale, Index(7), 0ms}},
  };
  for (const auto& [text, read] : good) {
    node::ReadOptions seen;
    std::thread loop([&] {
      FakeLoop::Call call = loop_.take();
      seen = call.read;
      call.done(CallResult{});
    });
    HttpRequest request = call_request("get");
    request.headers["X-Connect-Read"] = text;
    EXPECT_EQ(answer(request).status, 200) << text;
    loop.join();
    EXPECT_EQ(seen, read) << text;
  }
}

TEST_F(HttpServerTest, ReadLevelThatIsNoneIsRefusedWithWhatThereIs) {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"eventual", "must be linearizable, lease or stale"},
      {"stale; age=5s", "unknown bound 'age'"},
      {"lease; max-age=5s", "max-age is for stale reads only"},
      {"stale; max-age=5", "max-age: "},
      {"stale; max-age", "max-age: "},
      {"stale; max-age=-1s", "max-age: "},
      {"stale; min-index=-1", "min-index: "},
      {"stale; min-index=1; min-index=2", "duplicate min-index"},
      {"stale; max-age=1s; max-age=1s", "duplicate max-age"},
      {"stale;", "unknown bound ''"},
      {"; max-age=1s", "max-age is for stale reads only"},
  };
  for (const auto& [text, why] : bad) {
    HttpRequest request = call_request("get");
    request.headers["X-Connect-Read"] = text;
    HttpAnswer refused = answer(request);
    EXPECT_EQ(refused.status, 400) << text;
    EXPECT_THAT(refused.body, HasSubstr(why)) << text;
  }
  EXPECT_EQ(loop_.size(), 0u);
}

TEST_F(HttpServerTest, TooLargeIsRefusedBeforeItIsRead) {
  server_.reset();
  ServerOptions options;
  options.max_request = 1000;
  open(options);
  // With a length in the header, the body need not have arrived.
  RawClient told(server_->port());
  told.send("POST /v1/call HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n");
  EXPECT_THAT(told.read_until("TOOLARGE"), HasSubstr("413"));
  // Without a length.
  RawClient chunked(server_->port());
  chunked.send("POST /v1/call HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 3; ++i) chunked.send("200\r\n" + std::string(0x200, 'a') + "\r\n");
  EXPECT_THAT(chunked.read_until("TOOLARGE"), HasSubstr("413"));
  // A client that sends all of a large body before it reads gets the answer too.
  HttpAnswer got = answer(call_request(std::string(4 << 20, 'a')));
  EXPECT_EQ(got.status, 413);
  EXPECT_EQ(loop_.size(), 0u);
  EXPECT_EQ(call(std::string(1000, 'a'), CallResult{}).status, 200);
}

TEST_F(HttpServerTest, ExpectContinueIsAnswered) {
  RawClient client(server_->port());
  client.send("POST /v1/call HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(server_->port()) +
              "\r\nX-Connect-Request: 1\r\nContent-Type: application/octet-stream\r\n"
              "Content-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(client.read_until("\r\n\r\n"), HasSubstr("100 Continue"));
  client.send("incr");
  FakeLoop::Call taken = loop_.take();
  EXPECT_EQ(taken.request, "incr");
  CallResult result;
  result.bytes = "1\n";
  taken.done(result);
  EXPECT_TRUE(client.read_all().ends_with("\r\n\r\n1\n"));
}

TEST_F(HttpServerTest, NonHttpBytesAreRefused) {
  for (const char* garbage : {"hello\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
                              "GET / HTTP/1.1\r\nbad header\r\n\r\n"}) {
    RawClient client(server_->port());
    client.send(garbage);
    EXPECT_THAT(client.read_all(), ::testing::StartsWith("HTTP/1.1 400")) << garbage;
  }
  RawClient large(server_->port());
  large.send("GET / HTTP/1.1\r\nX: " + std::string(kMaxHeaderBytes, 'a') + "\r\n\r\n");
  EXPECT_THAT(large.read_until("\r\n"), HasSubstr("431"));
  EXPECT_EQ(get("/livez").status, 200);
}

// A proxy that reads these otherwise would take a part of one client's body for a request.
TEST_F(HttpServerTest, UnclearEndsOfBodiesAreRefused) {
  const std::string inner =
      "POST /v1/call HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(server_->port()) +
      "\r\nX-Connect-Request: 1\r\nContent-Type: a/b\r\n"
      "Content-Length: 4\r\n\r\nincr";
  struct Case {
    const char* headers;
    int status;
  };
  for (const Case& c : {Case{"Transfer-Encoding: gzip\r\n", 501},
                        Case{"Transfer-Encoding: xchunked\r\n", 501},
                        Case{"Transfer-Encoding: chunked, identity\r\n", 501},
                        Case{"Transfer-Encoding: gzip, chunked\r\n", 501},
                        Case{"Transfer-Encoding: identity\r\n", 501},
                        Case{"Transfer-Encoding: \"chunked\"\r\n", 501},
                        Case{"Transfer-Encoding: chunked;q=1\r\n", 501},
                        Case{"Transfer-Encoding:\tgzip\r\n", 501},
                        Case{"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400},
                        Case{"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400},
                        Case{"Transfer-Encoding: \r\n", 400},
                        Case{"Transfer-Encoding : chunked\r\n", 400},
                        Case{"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400},
                        Case{"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400},
                        Case{"Content-Length: 0\r\nContent-Length: 5\r\n", 400},
                        Case{"Content-Length: 0\r\nContent-Length: 0\r\n", 400},
                        Case{"Content-Length: +0\r\n", 400},
                        Case{"Content-Length: 0x0\r\n", 400},
                        Case{"Content-Length: -1\r\n", 400},
                        Case{"Content-Length: \r\n", 400},
                        Case{"Content-Length: 0, 0\r\n", 400},
                        Case{"Content-Length : 0\r\n", 400}}) {
    for (const char* version : {"1.0", "1.1"}) {
      SCOPED_TRACE(std::string(version) + " " + c.headers);
      RawClient client(server_->port());
      client.send(std::string("POST /v1/call HTTP/") + version + "\r\nHost: x\r\n" + c.headers +
                  "\r\n" + inner);
      const std::string answer = client.read_all();  // it was closed
      const int status = std::string_view(version) == "1.0" && c.status == 501 ? 400 : c.status;
      EXPECT_THAT(answer, ::testing::StartsWith("HTTP/1.1 " + std::to_string(status)));
      EXPECT_EQ(answer.find("HTTP/1.1", 1), std::string::npos) << answer;
      EXPECT_EQ(loop_.size(), 0u);
    }
  }
}

// What comes after the refusal is thrown away, so that the answer is seen.
TEST_F(HttpServerTest, EndlessChunksCostNoMemory) {
  for (const char* begin : {"5;a=", "0", "0\r\nA: "}) {
    RawClient client(server_->port());
    client.send(
        std::string("GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n") +
        begin);
    client.send(std::string(1 << 20, '0'));
    const std::string answer = client.read_all();
    EXPECT_THAT(answer, ::testing::StartsWith("HTTP/1.1 400")) << begin;
    EXPECT_THAT(answer, HasSubstr("Connection: close"));
    EXPECT_THAT(answer, HasSubstr("chunk headers and trailers"));
  }
}

TEST_F(HttpServerTest, TrailersAreNoHeaders) {
  RawClient client(server_->port());
  client.send("POST /v1/call HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(server_->port()) +
              "\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nincr\r\n0\r\n"
              "X-Connect-Request: 1\r\nContent-Type: a/b\r\n\r\n");
  EXPECT_THAT(client.read_all(), HasSubstr("403"));
}

TEST_F(HttpServerTest, KeepAliveOfHttp10) {
  RawClient client(server_->port());
  for (int i = 0; i < 2; ++i) {
    client.send("GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EXPECT_THAT(client.read_until("ok\n"), HasSubstr("Connection: keep-alive"));
  }
  client.send("GET /livez HTTP/1.0\r\n\r\n");
  EXPECT_THAT(client.read_all(), HasSubstr("Connection: close"));
}

// The answer arrives although the client has sent more than is read.
TEST_F(HttpServerTest, LastAnswerSurvivesUnreadBytes) {
  for (int i = 0; i < 50; ++i) {
    RawClient client(server_->port());
    client.send("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" +
                std::string(100'000, 'x'));
    EXPECT_THAT(client.read_all(), HasSubstr("ok\n"));
  }
}

TEST_F(HttpServerTest, AnswerThatNeverComesIsUnknown) {
  server_.reset();
  ServerOptions options;
  options.call_timeout = -kCallGrace + 50ms;
  open(options);
  HttpAnswer got = answer(call_request("incr"));
  EXPECT_EQ(got.status, 504);
  EXPECT_EQ(problem_of(got)["code"].as_string(), "UNKNOWN");
  // The late answer goes nowhere, and not to the next request.
  FakeLoop::Call late = loop_.take();
  CallResult old;
  old.bytes = "old";
  late.done(old);
  EXPECT_EQ(get("/livez").status, 200);
}

TEST_F(HttpServerTest, AnswersAfterTheServerIsGoneGoNowhere) {
  RawClient client(server_->port());
  client.send("POST /v1/call HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(server_->port()) +
              "\r\nX-Connect-Request: 1\r\nContent-Type: a/b\r\nContent-Length: 4\r\n\r\nincr");
  FakeLoop::Call taken = loop_.take();
  server_.reset();
  taken.done(CallResult{});
  taken.done = nullptr;
}

TEST_F(HttpServerTest, IdlestConnectionMakesRoom) {
  open_few(0ms);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (size_t i = 0; i < kFew - kFewReserved; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->port()));
    EXPECT_THAT(clients.back()->ask_livez(), HasSubstr("200")) << i;
  }
  // The first one is not the idlest any more.
  EXPECT_THAT(clients[0]->ask_livez(), HasSubstr("200"));
  RawClient one_more(server_->port());
  const std::string answer = one_more.ask_livez();
  EXPECT_THAT(answer, HasSubstr("200"));
  EXPECT_EQ(answer.find("Connection: close"), std::string::npos);
  EXPECT_EQ(clients[1]->read_all(), "");
  for (size_t kept : {size_t{0}, size_t{2}, clients.size() - 1}) {
    EXPECT_THAT(clients[kept]->ask_livez(), HasSubstr("200")) << kept;
  }
}

// Who was used a moment ago is not idle: its next request may be on its way.
TEST_F(HttpServerTest, WithoutIdleConnectionCallsAreRefused) {
  open_few(1h);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (size_t i = 0; i < kFew - kFewReserved; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->port()));
    EXPECT_THAT(clients.back()->ask_livez(), HasSubstr("200")) << i;
  }
  {
    RawClient caller(server_->port());
    caller.send(raw_call("incr"));
    const std::string refused = caller.read_all();
    EXPECT_THAT(refused, ::testing::StartsWith("HTTP/1.1 503"));
    EXPECT_THAT(refused, HasSubstr("OVERLOADED"));
    EXPECT_THAT(refused, HasSubstr("Retry-After: 1"));
    EXPECT_THAT(refused, HasSubstr("Connection: close"));
    EXPECT_EQ(loop_.size(), 0u);
    RawClient probe(server_->port());
    EXPECT_THAT(probe.ask_livez(), HasSubstr("Connection: close"));
  }
  for (const auto& client : clients) EXPECT_THAT(client->ask_livez(), HasSubstr("200"));
  clients.pop_back();
  const Time end = read_clocks().time + 10s;
  auto has_room = [&] {  // the server may not have noticed yet
    RawClient probe(server_->port());
    return probe.ask_livez().find("Connection: close") == std::string::npos;
  };
  while (!has_room() && read_clocks().time < end) {
  }
  RawClient caller(server_->port());
  caller.send(raw_call("incr"));
  loop_.take().done(CallResult{node::ReplyCode::kOk, "done", false, 0, Index(1)});
  EXPECT_THAT(caller.read_until("done"), HasSubstr("200"));
}

// Twice as many clients as connections, each with one call after the other.
TEST_F(HttpServerTest, EveryRequestIsAnsweredWhateverTheLimit) {
  open_few();
  std::atomic<bool> over = false;
  std::atomic<size_t> executed = 0;
  std::atomic<size_t> done = 0;
  std::atomic<size_t> refused = 0;
  std::atomic<size_t> lost = 0;
  std::thread loop([&] {
    while (!over) {
      FakeLoop::Call call = loop_.take(50ms);
      if (!call.done) continue;
      ++executed;
      call.done(CallResult{node::ReplyCode::kOk, "done", false, 0, Index(1)});
    }
  });
  std::vector<std::thread> clients;
  for (size_t i = 0; i < 2 * kFew; ++i) {
    clients.emplace_back([&, until = read_clocks().time + 1500ms] {
      std::unique_ptr<RawClient> client;
      while (read_clocks().time < until) {
        if (!client) client = std::make_unique<RawClient>(server_->port());
        client->send(raw_call("incr"));
        const std::string answer = client->read_until("\r\n\r\ndone", "OVERLOADED\"");
        if (answer.starts_with("HTTP/1.1 200")) {
          ++done;
        } else if (answer.starts_with("HTTP/1.1 503")) {
          ++refused;
          client.reset();
          std::this_thread::sleep_for(1ms);
        } else {
          ++lost;
          client.reset();
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
  over = true;
  loop.join();
  EXPECT_EQ(lost, 0u);
  EXPECT_EQ(executed, done);
  EXPECT_GT(done, 0u);
  EXPECT_GT(refused, 0u);
}

TEST_F(HttpServerTest, HalfSentRequestsMakeRoom) {
  open_few();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (size_t i = 0; i < kFew; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->port()));
    // Half of a header, or half of a body.
    clients.back()->send(i % 2 == 0
                             ? "GET /livez HT"
                             : "POST /v1/call HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1");
  }
  for (int i = 0; i < 20; ++i) {
    RawClient probe(server_->port());
    EXPECT_THAT(probe.ask_livez(), HasSubstr("200")) << i;
  }
  const std::string refused = clients[0]->read_all();
  EXPECT_THAT(refused, ::testing::StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(refused, HasSubstr("Connection: close"));
}

TEST_F(HttpServerTest, CallsInProgressLeaveRoom) {
  const std::string call = raw_call("incr");
  std::vector<std::unique_ptr<RawClient>> clients;
  std::vector<FakeLoop::Call> calls;
  for (size_t i = 0; i < kMaxCalls; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->port()));
    clients.back()->send(call);
    calls.push_back(loop_.take());
  }
  RawClient over(server_->port());
  over.send(call);
  const std::string refused = over.read_until("OVERLOADED\"");
  EXPECT_THAT(refused, HasSubstr("503"));
  EXPECT_THAT(refused, HasSubstr("OVERLOADED"));
  EXPECT_THAT(refused, HasSubstr("Retry-After: 1"));
  // However many connections come, no call is cut off.
  for (size_t i = 0; i < kMaxConnections; ++i) {
    RawClient probe(server_->port());
    EXPECT_THAT(probe.ask_livez(), HasSubstr("200")) << i;
  }
  for (size_t i = 0; i < kMaxCalls; ++i) {
    calls[i].done(CallResult{node::ReplyCode::kOk, "done", false, 0, Index(1)});
    EXPECT_THAT(clients[i]->read_until("done"), HasSubstr("200")) << i;
  }
  clients[0]->send(call);  // a place is free again
  loop_.take().done(CallResult{node::ReplyCode::kOk, "again", false, 0, Index(1)});
  EXPECT_THAT(clients[0]->read_until("again"), HasSubstr("200"));
}

// Bodies that are not sent on use no memory for long.
TEST_F(HttpServerTest, UnfinishedBodiesMakeRoom) {
  ServerOptions options;
  options.max_request = kMaxHeldBytes / 4 - kHeadBytes;
  open(options);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->port()));
    clients.back()->send(
        "POST /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
  }
  HttpRequest request;
  request.method = "POST";
  request.target = "/nothing";
  request.body = std::string(options.max_request, 'x');
  int status = 0;
  for (int i = 0; i < 100 && status != 404; ++i) {
    auto outcome = fetch(address(), request, 60s);
    status = outcome ? outcome->status : 0;
    EXPECT_TRUE(status == 404 || status == 503) << status;
    if (status != 404) std::this_thread::sleep_for(50ms);
  }
  EXPECT_EQ(status, 404);
  EXPECT_THAT(clients[0]->read_all(), HasSubstr("503"));
}

// Who asks and asks, and reads no answer.
TEST_F(HttpServerTest, SlowReadersMakeRoom) {
  open_few();
  std::string many;
  for (int i = 0; i < 20'000; ++i) many += "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
  std::vector<std::unique_ptr<RawClient>> clients;
  for (size_t i = 0; i < kFew; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->port()));
    clients.back()->send_some(many);
  }
  RawClient probe(server_->port());
  EXPECT_THAT(probe.ask_livez(), HasSubstr("200"));
}

TEST_F(HttpServerTest, ClusterAsksTheOthers) {
  node::StatusBoard second_board;
  ServerOptions options;
  options.listen = {"127.0.0.1", 0};
  options.id = NodeId(2);
  auto second = HttpServer::open(options, second_board, {.call = loop_.function()});
  ASSERT_TRUE(second);
  (*second)->start();
  node::StatusSnapshot other = good_status();
  other.id = NodeId(2);
  other.role = raft::Role::kFollower;
  second_board.publish(std::make_shared<const node::StatusSnapshot>(other));

  node::StatusBoard foreign_board;
  auto foreign = HttpServer::open(options, foreign_board, {.call = loop_.function()});
  ASSERT_TRUE(foreign);
  (*foreign)->start();
  other.id = NodeId(6);
  other.cluster_id.bytes[0] = 2;
  foreign_board.publish(std::make_shared<const node::StatusSnapshot>(other));
  std::string foreign_address = "127.0.0.1:" + std::to_string((*foreign)->port());

  std::string second_address = "127.0.0.1:" + std::to_string((*second)->port());
  node::StatusSnapshot status = good_status();
  status.members = {{NodeId(1), true, "", "", address().to_string()},
                    {NodeId(2), true, "", "", second_address},
                    {NodeId(3), true, "", "", "127.0.0.1:1"},
                    {NodeId(4), true, "", "", second_address},
                    {NodeId(5), true, "", "", "nonsense"},
                    {NodeId(6), true, "", "", foreign_address}};
  status.cluster_id.bytes[0] = 1;
  publish(status);
  json::object object = json::parse(get("/v1/cluster").body).as_object();
  EXPECT_EQ(object["asked"].to_number<int>(), 1);
  json::array nodes = object["nodes"].as_array();
  ASSERT_EQ(nodes.size(), 6u);
  auto at = [&](size_t i, const char* name) { return nodes[i].as_object()[name]; };
  EXPECT_EQ(at(0, "status").as_object()["role"].as_string(), "leader");
  EXPECT_EQ(at(1, "reachable").as_bool(), true);
  EXPECT_EQ(at(1, "status").as_object()["role"].as_string(), "follower");
  EXPECT_EQ(at(2, "reachable").as_bool(), false);
  EXPECT_EQ(at(2, "error").as_string(), "connection refused");
  EXPECT_EQ(at(3, "error").as_string(), "another node answers at this address: node 2");
  EXPECT_EQ(at(3, "stranger").as_bool(), true);
  EXPECT_EQ(at(3, "reachable").as_bool(), false);
  // Node 6 of another cluster of the same name.
  EXPECT_THAT(std::string(at(5, "error").as_string()), HasSubstr("a node of another cluster"));
  EXPECT_EQ(at(5, "stranger").as_bool(), true);
  EXPECT_TRUE(at(5, "status").is_null());
  EXPECT_EQ(at(4, "error").as_string(), "unknown http address");
}

TEST_F(HttpServerTest, AddressInUseIsNamed) {
  ServerOptions options;
  options.listen = address();
  auto second = HttpServer::open(options, board_, {.call = loop_.function()});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kAddressInUse);
  EXPECT_THAT(second.error().text, HasSubstr(address().to_string()));
  EXPECT_THAT(second.error().text, HasSubstr("ss -ltnp"));
}

TEST(HttpClient, OutcomeSaysIfRequestWasSent) {
  HttpOutcome refused = fetch({"127.0.0.1", 1}, {}, 5s);
  ASSERT_FALSE(refused);
  EXPECT_FALSE(refused.error().sent);

  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&here), sizeof here), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  socklen_t length = sizeof here;
  getsockname(listener, reinterpret_cast<sockaddr*>(&here), &length);
  HttpOutcome silent = fetch({"127.0.0.1", ntohs(here.sin_port)}, {}, 50ms);
  ASSERT_FALSE(silent);
  EXPECT_TRUE(silent.error().sent);
  EXPECT_EQ(silent.error().text, "no answer in time");
  close(listener);
}

}  // namespace
}  // namespace connectd::admin

// The route table without sockets: every route with every guard, and what is made of the table.
#include "admin/routes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <fstream>
#include <sstream>
#include <type_traits>

#include "admin/answers.h"
#include "admin/connection.h"
#include "tests/paths.h"

namespace connectd::admin {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

// ---- a row names its guard, or does not compile

template <class Row>
concept HasGuard = requires {
  Row{.path = "/x", .verbs = Verbs::kGet, .guard = kForAll, .handler = nullptr, .help = ""};
};
template <class Row>
concept NeedsNoGuard = requires {
  Row{.path = "/x", .verbs = Verbs::kGet, .handler = nullptr, .help = ""};
};
static_assert(HasGuard<Route> && !NeedsNoGuard<Route>);
static_assert(!std::is_default_constructible_v<Guard> && !std::is_constructible_v<Guard, Pages> &&
              !std::is_constructible_v<Guard, Callers>);

// ---- a server without a connection

// Keeps what is answered, and what another thread would have posted.
class FakeConnection final : public Reply::Connection {
 public:
  void answer(uint64_t request, Response response) override {
    if (request == 1 && !response_) response_ = std::move(response);
  }
  void set_deadline(uint64_t, Duration limit, std::function<Response()> late) override {
    limit_ = limit;
    late_ = std::move(late);
  }
  std::function<void(std::function<void()>)> poster() override {
    return [posted = posted_](std::function<void()> work) { posted->push_back(std::move(work)); };
  }

  void run_posted() {
    for (auto& work : *posted_) work();
    posted_->clear();
  }

  std::optional<Response> response_;
  Duration limit_{};
  std::function<Response()> late_;
  std::shared_ptr<std::vector<std::function<void()>>> posted_ =
      std::make_shared<std::vector<std::function<void()>>>();
};

class RoutesTest : public ::testing::Test {
 protected:
  RoutesTest() {
    options_.id = NodeId(1);
    hooks_.call = [this](std::string, const node::ReadOptions&, auto) { ++asked_; };
    hooks_.change_members = [this](node::MemberChange, auto) { ++asked_; };
    hooks_.change_setting = [this](SettingChange change, auto) {
      setting_ = change;
      ++asked_;
    };
    hooks_.snapshots.take = [this](auto) { ++asked_; };
    hooks_.snapshots.list = [this](auto) { ++asked_; };
    hooks_.snapshots.read = [this](SnapshotPiece, auto) { ++asked_; };
    auto status = std::make_shared<node::StatusSnapshot>();
    status->made = read_clocks().time;
    status->id = NodeId(1);
    board_.publish(status);
  }

  // As a program of this machine asks.
  static Request good(const Route& route) {
    Request request;
    request.method = route.verbs == Verbs::kGet ? "GET" : "POST";
    request.target = std::string(route.path);
    request.headers = {{"x-connect-request", "1"},
                       {"host", "127.0.0.1:7301"},
                       {"content-type", "application/json"}};
    request.body = body_of(route.path);
    request.from_this_machine = true;
    request.arrived_at = "127.0.0.1:7301";
    return request;
  }
  static std::string body_of(std::string_view path) {
    if (path == "/v1/admin/members") return R"({"action": "remove", "id": 4})";
    if (path == "/v1/admin/leader") return R"({"action": "transfer"})";
    if (path == "/v1/admin/settings") return R"({"key": "a", "value": "b"})";
    if (path == "/v1/admin/snapshot") return R"({"action": "list"})";
    return "";
  }
  // The answer; none when the handler waits for the node.
  std::optional<Response> ask(Request request) {
    auto connection = std::make_shared<FakeConnection>();
    dispatch(context_, std::move(request), Reply(connection, 1));
    return connection->response_;
  }
  // What a request is answered that must not reach its handler.
  int refused(Request request) {
    const int before = asked_;
    auto response = ask(std::move(request));
    EXPECT_EQ(asked_, before);
    if (!response) return 0;
    if (response->status >= 400) {
      EXPECT_TRUE(from_json<Problem>(response->body)) << response->body;
    }
    return response->status;
  }

  boost::asio::io_context io_;
  ServerOptions options_;
  node::StatusBoard board_;
  ServerHooks hooks_;
  ClusterQueries cluster_{io_};
  Context context_{options_, board_, hooks_, cluster_, {"db1.example:7301"}};
  int asked_ = 0;
  SettingChange setting_;
};

TEST_F(RoutesTest, GoodRequestsReachTheirHandlers) {
  for (const Route& route : routes()) {
    const int before = asked_;
    auto response = ask(good(route));
    if (route.verbs == Verbs::kPost) {
      EXPECT_EQ(asked_, before + 1) << route.path;
      EXPECT_FALSE(response) << route.path << response->body;
    } else {
      ASSERT_TRUE(response) << route.path;
      EXPECT_TRUE(response->status == 200 || response->status == 503) << route.path;
    }
  }
  EXPECT_EQ(setting_.key + "=" + setting_.value, "a=b");
}

TEST_F(RoutesTest, GuardsAreKept) {
  for (const Route& route : routes()) {
    SCOPED_TRACE(route.path);
    const bool pages = route.guard.pages() == Pages::kMayAsk;
    const bool others = route.guard.callers() == Callers::kAnyMachine;
    EXPECT_FALSE(route.verbs == Verbs::kPost && pages);
    EXPECT_FALSE(route.path.starts_with("/v1/admin") && (pages || others));

    for (const char* value : {"", "0", "2", "1 "}) {
      Request request = good(route);
      request.headers["x-connect-request"] = value;
      EXPECT_EQ(refused(std::move(request)) == 403, !pages) << value;
    }
    Request without = good(route);
    without.headers.erase("x-connect-request");
    EXPECT_EQ(refused(std::move(without)) == 403, !pages);

    for (const char* host : {"evil.example", "127.0.0.1", "127.0.0.1:1", ""}) {
      Request request = good(route);
      request.headers["host"] = host;
      EXPECT_EQ(refused(std::move(request)) == 403, !pages) << host;
    }
    Request nowhere = good(route);
    nowhere.headers["host"] = nowhere.arrived_at = "";
    EXPECT_EQ(refused(std::move(nowhere)) == 403, !pages);

    for (const char* type : {"", "application/x-www-form-urlencoded", "Text/Plain;charset=UTF-8",
                             "multipart/form-data; boundary=x"}) {
      Request request = good(route);
      request.headers["content-type"] = type;
      EXPECT_EQ(refused(std::move(request)) == 415, !pages) << type;
    }
    if (others) continue;
    Request remote = good(route);
    remote.from_this_machine = false;
    EXPECT_EQ(refused(std::move(remote)), 403);
  }
}

TEST_F(RoutesTest, HostsOfTheServerAreGood) {
  for (const char* host : {"127.0.0.1:7301", "DB1.example:7301"}) {
    Request request = good(routes().back());
    request.headers["host"] = host;
    EXPECT_FALSE(ask(std::move(request))) << host;
  }
}

TEST_F(RoutesTest, OtherVerbsAreNamed) {
  for (const Route& route : routes()) {
    for (const char* method : {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get"}) {
      const bool taken = route.verbs == Verbs::kPost
                             ? method == std::string("POST")
                             : method == std::string("GET") || method == std::string("HEAD");
      if (taken) continue;
      Request request = good(route);
      request.method = method;
      auto response = ask(std::move(request));
      ASSERT_TRUE(response) << route.path << method;
      EXPECT_EQ(response->status, 405);
      EXPECT_EQ(response->headers[0].first, "Allow");
      EXPECT_EQ(response->headers[0].second, route.verbs == Verbs::kPost ? "POST" : "GET, HEAD");
    }
  }
}

TEST_F(RoutesTest, NotFoundNamesAllRoutes) {
  for (const char* target : {"/", "/v1/statu", "/v1/status/", "/v1/admin", "/V1/STATUS", ""}) {
    Request request = good(routes().front());
    request.target = target;
    auto response = ask(std::move(request));
    ASSERT_TRUE(response) << target;
    EXPECT_EQ(response->status, 404) << target;
    for (const Route& route : routes()) {
      EXPECT_THAT(response->body, HasSubstr(std::string(route.path)));
    }
  }
}

TEST_F(RoutesTest, WithoutHooksChangesAreRefused) {
  hooks_ = {};
  for (const Route& route : routes()) {
    if (route.verbs != Verbs::kPost) continue;
    EXPECT_EQ(refused(good(route)), 503) << route.path;
  }
}

// To update the page, put the printed table into it.
TEST(Routes, OperationsPageHasTheTable) {
  std::ifstream in(CONNECTD_SOURCE_DIR "/docs/operations.md");
  std::stringstream page;
  page << in.rdbuf();
  EXPECT_NE(page.str().find("\n\n" + routes_markdown() + "\n"), std::string::npos)
      << "docs/operations.md, section HTTP, must have this table:\n\n"
      << routes_markdown();
}

TEST(IsThisMachine, LoopbackOnly) {
  auto is_own = [](const char* text) {
    return is_this_machine(boost::asio::ip::make_address(text));
  };
  EXPECT_TRUE(is_own("127.0.0.1") && is_own("127.8.9.10") && is_own("::1"));
  EXPECT_FALSE(is_own("10.0.0.1") || is_own("0.0.0.0") || is_own("::") || is_own("fe80::1"));
}

// ---- deferred answers

Response text_of(const std::string& text) { return text_response(200, text); }

TEST(Reply, LaterAnswersOnTheServersThreadOnly) {
  auto connection = std::make_shared<FakeConnection>();
  auto done = Reply(connection, 1).later<std::string>(5s, "late", text_of);
  EXPECT_EQ(connection->limit_, 5s);
  done("the answer");
  EXPECT_FALSE(connection->response_) << "this may be any thread";
  connection->run_posted();
  EXPECT_EQ(connection->response_->body, "the answer");
}

TEST(Reply, LaterHasAnAnswerForTheDeadline) {
  auto connection = std::make_shared<FakeConnection>();
  auto done = Reply(connection, 1).later<std::string>(5s, "late", text_of);
  EXPECT_EQ(connection->late_().body, "late");
}

TEST(Reply, LaterKeepsNoConnectionOpen) {
  auto connection = std::make_shared<FakeConnection>();
  std::weak_ptr<FakeConnection> weak = connection;
  auto posted = connection->posted_;
  auto done = Reply(connection, 1).later<std::string>(5s, "late", text_of);
  connection.reset();
  EXPECT_TRUE(weak.expired());
  done("the answer");
  for (auto& work : *posted) work();
}

}  // namespace
}  // namespace connectd::admin

// The route table without sockets: every route with every guard, and the texts made from the table.
#include "admin/routes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <type_traits>

#include "admin/answers.h"
#include "admin/connection.h"
#include "auth/token.h"
#include "tests/paths.h"

namespace connectd::admin {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

// ---- a row names its guard and what it needs, or does not compile

template <class Row>
concept HasBoth = requires {
  Row{.path = "/x",
      .verbs = Verbs::kGet,
      .guard = kForAll,
      .needs = kMonitorNeeds,
      .handler = nullptr,
      .help = ""};
};
template <class Row>
concept MayHaveNoGuard = requires {
  Row{.path = "/x", .verbs = Verbs::kGet, .needs = kMonitorNeeds, .handler = nullptr, .help = ""};
};
template <class Row>
concept MayNeedNothing = requires {
  Row{.path = "/x", .verbs = Verbs::kGet, .guard = kForAll, .handler = nullptr, .help = ""};
};
static_assert(HasBoth<Route> && !MayHaveNoGuard<Route> && !MayNeedNothing<Route>);
static_assert(!std::is_default_constructible_v<Needs>);
static_assert(!std::is_default_constructible_v<Guard> && !std::is_constructible_v<Guard, Pages> &&
              !std::is_constructible_v<Guard, Callers>);

// ---- a server without a connection

// Keeps the answers, and the tasks that another thread would have posted.
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

  void hold(uint64_t request, Shares::Place place) override {
    if (request == 1) place_ = std::move(place);
  }

  void run_posted() {
    for (auto& work : *posted_) work();
    posted_->clear();
  }

  Shares::Place place_;
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
    hooks_.call = [this](const CallRequest& request, auto) {
      rights_ = request.rights;
      ++asked_;
    };
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

  static ServerOptions options_with(std::shared_ptr<const auth::SharedPolicy> policy) {
    ServerOptions options;
    options.policy = std::move(policy);
    return options;
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
    request.origin = Origin::kLoopback;
    request.arrived_at = {"127.0.0.1", 7301};
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

  static HostNames hosts() {
    HostNames names;
    names.add_own({"db1.example", 7301});
    names.add_further("db.example");
    names.add_further("proxy.example:8080");
    return names;
  }

  static const Route* call_route() {
    return &*std::ranges::find(routes(), "/v1/call", &Route::path);
  }
  // The status of an answer that the guard gives; where the handler is reached instead: 0.
  int refused_if(bool is_refused, Request request) {
    if (is_refused) return refused(std::move(request));
    auto response = ask(std::move(request));
    return response && response->status < 500 && response->status >= 400 ? response->status : 0;
  }

  const std::shared_ptr<auth::SharedPolicy> policy_ = std::make_shared<auth::SharedPolicy>();
  boost::asio::io_context io_;
  ServerOptions options_ = options_with(policy_);
  node::StatusBoard board_;
  ServerHooks hooks_;
  ClusterQueries cluster_{io_};
  Shares shares_;
  Context context_{options_, board_, hooks_, cluster_, shares_, {AdminFrom::kThisMachine, hosts()}};
  int asked_ = 0;
  SettingChange setting_;
  node::Rights rights_{false, false};  // of the last call
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

    for (const char* host : {"evil.example", "127.0.0.1", "127.0.0.1:1", "proxy.example"}) {
      Request request = good(route);
      request.headers["host"] = host;
      EXPECT_EQ(refused(std::move(request)) == 403, !pages) << host;
    }
    Request further = good(route);
    further.headers["host"] = "db.example";
    EXPECT_EQ(refused_if(!others, std::move(further)), !others ? 403 : 0);

    for (const char* type : {"", "application/x-www-form-urlencoded", "Text/Plain;charset=UTF-8",
                             "multipart/form-data; boundary=x"}) {
      Request request = good(route);
      request.headers["content-type"] = type;
      EXPECT_EQ(refused(std::move(request)) == 415, !pages) << type;
    }
    if (others) continue;
    Request remote = good(route);
    remote.origin = Origin::kOtherMachine;
    EXPECT_EQ(refused(std::move(remote)), 403);
    for (const char* header : {"forwarded", "via", "x-real-ip", "x-forwarded-for",
                               "x-forwarded-host", "x-forwarded-proto"}) {
      Request proxied = good(route);
      proxied.headers[header] = "10.0.0.9";
      EXPECT_EQ(refused(std::move(proxied)), 403) << header;
    }
  }
}

TEST_F(RoutesTest, HostsOfTheServerAreGood) {
  for (const char* host : {"127.0.0.1:7301", "DB1.example:7301"}) {
    Request request = good(routes().back());
    request.headers["host"] = host;
    EXPECT_FALSE(ask(std::move(request))) << host;
  }
}

// RFC 9110 §7.2: a Host without a port means port 80.
TEST_F(RoutesTest, HostWithoutPortMeansPort80) {
  for (const char* host : {"10.0.0.1", "10.0.0.1:80"}) {
    Request request = good(*call_route());
    request.arrived_at = {"10.0.0.1", 80};
    request.headers["host"] = host;
    EXPECT_FALSE(ask(std::move(request))) << host;
  }
}

TEST_F(RoutesTest, FurtherHostsOpenCallsOnly) {
  for (const char* host : {"db.example", "db.example:81", "DB.Example:9", "proxy.example:8080"}) {
    Request call = good(*call_route());
    call.headers["host"] = host;
    EXPECT_FALSE(ask(std::move(call))) << host;
    Request admin = good(routes().back());
    admin.headers["host"] = host;
    EXPECT_EQ(refused(std::move(admin)), 403) << host;
  }
  Request foreign = good(*call_route());
  foreign.headers["host"] = "evil.example";
  auto response = ask(std::move(foreign));
  ASSERT_TRUE(response);
  EXPECT_THAT(response->body, HasSubstr("http.hosts"));
}

TEST_F(RoutesTest, AdminIsOpenAsConfigured) {
  struct Case {
    AdminFrom from;
    Origin origin;
    bool open;
  };
  for (const Case& c : {Case{AdminFrom::kThisMachine, Origin::kLoopback, true},
                        Case{AdminFrom::kThisMachine, Origin::kThisMachine, true},
                        Case{AdminFrom::kThisMachine, Origin::kOtherMachine, false},
                        Case{AdminFrom::kLoopback, Origin::kLoopback, true},
                        Case{AdminFrom::kLoopback, Origin::kThisMachine, false},
                        Case{AdminFrom::kNobody, Origin::kLoopback, false}}) {
    context_.access.admin = c.from;
    for (const Route& route : routes()) {
      Request request = good(route);
      request.origin = c.origin;
      const bool is_admin = route.guard.callers() == Callers::kThisMachine;
      if (is_admin && !c.open) {
        auto response = ask(std::move(request));
        ASSERT_TRUE(response) << route.path;
        EXPECT_EQ(response->status, 403);
        EXPECT_EQ(from_json<Problem>(response->body)->code, kNotLocalCode);
      } else {
        EXPECT_NE(refused_if(false, std::move(request)), 403) << route.path;
      }
    }
  }
}

// RFC 9112 §3.2.
TEST_F(RoutesTest, EveryRequestNamesOneHost) {
  for (const Route& route : routes()) {
    SCOPED_TRACE(route.path);
    Request none = good(route);
    none.host_headers = 0;
    none.headers.erase("host");
    EXPECT_EQ(refused(none), 400);
    none.is_http_1_0 = true;  // as simple probes ask
    const bool is_admin = route.guard.callers() == Callers::kThisMachine;
    EXPECT_EQ(refused_if(is_admin, none) == 403, is_admin);
    Request two = good(route);
    two.host_headers = 2;
    EXPECT_EQ(refused(two), 400);
    for (const char* host : {"", ":7301", "a b", "host:x", "user@127.0.0.1:7301", "[::1", "a,b"}) {
      Request invalid = good(route);
      invalid.headers["host"] = host;
      EXPECT_EQ(refused(invalid), 400) << host;
    }
  }
}

TEST_F(RoutesTest, AuthorityOfAnAbsoluteTargetCounts) {
  Request good_call = good(*call_route());
  good_call.headers["host"] = "evil.example";
  good_call.target = "http://127.0.0.1:7301/v1/call";
  EXPECT_FALSE(ask(good_call));
  Request bad_call = good(*call_route());
  bad_call.target = "http://evil.example/v1/call";
  EXPECT_EQ(refused(bad_call), 403);
  Request health = good(routes().front());
  health.target = "HTTP://db:1/livez?verbose";
  auto response = ask(health);
  ASSERT_TRUE(response);
  EXPECT_NE(response->status, 404);
  health.target = "http://";
  EXPECT_EQ(refused(health), 400);
  health.target = "http://db";
  EXPECT_EQ(ask(health)->status, 404);
}

// HAProxy's check without an expectation is OPTIONS / over HTTP/1.0.
TEST_F(RoutesTest, OptionsAreAnswered) {
  Request check = good(routes().front());
  check.method = "OPTIONS";
  check.headers.clear();
  check.host_headers = 0;
  check.is_http_1_0 = true;
  for (const char* target : {"/", "*", "/livez", "/v1/admin/members"}) {
    check.target = target;
    auto response = ask(check);
    ASSERT_TRUE(response) << target;
    EXPECT_EQ(response->status, 204) << target;
    EXPECT_EQ(response->headers[0].first, "Allow");
    EXPECT_EQ(response->headers.size(), 1u) << "no page gets a permission";
  }
  check.target = "/nothing";
  EXPECT_EQ(ask(check)->status, 404);
}

TEST_F(RoutesTest, OtherVerbsAreNamed) {
  for (const Route& route : routes()) {
    for (const char* method : {"GET", "HEAD", "POST", "PUT", "DELETE", "get"}) {
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

// ---- who may do what

// How a caller asks: what it shows, and over what.
struct Caller {
  enum class Shows : uint8_t { kNothing, kToken, kCertificate };
  Shows shows;
  auth::Roles roles;
  bool is_encrypted;
  Origin origin;
};

class RolesTest : public RoutesTest {
 protected:
  static std::string token_of(std::string_view id) {
    return fmt::format("connectd1_{}_{}", id, std::string(64, 'a'));
  }
  // One token for each set of roles of a test.
  static std::string id_of(auth::Roles roles) {
    std::string id = auth::format_roles(roles);
    std::erase(id, ',');
    return (id + "00000000").substr(0, 16);
  }
  void configure(const std::vector<auth::Roles>& tokens, auth::Roles anonymous = {},
                 auth::Roles local = {}) {
    std::string text;
    for (auth::Roles roles : tokens) {
      text += fmt::format("{} {} {}\n", id_of(roles), auth::token_hash(token_of(id_of(roles))),
                          auth::format_roles(roles));
    }
    auto table = auth::TokenTable::parse(text, "tokens");
    ASSERT_TRUE(table) << table.error().text;
    auto policy = std::make_shared<auth::Policy>();
    policy->tokens = std::make_shared<auth::TokenTable>(std::move(*table));
    policy->anonymous = anonymous;
    policy->local = local;
    policy_->replace_with(policy);
  }
  static Request request_of(const Route& route, const Caller& caller) {
    Request request = good(route);
    request.remote = request.remote_network = "10.0.0.9";
    request.is_encrypted = caller.is_encrypted;
    request.origin = caller.origin;
    if (caller.shows == Caller::Shows::kToken) {
      request.headers["authorization"] = "Bearer " + token_of(id_of(caller.roles));
    }
    if (caller.shows == Caller::Shows::kCertificate) {
      request.certificate = auth::Principal::certificate("x", caller.roles, {});
    }
    return request;
  }
  // 0: it reaches the handler.
  int refused_with(Request request) { return refused_if(false, std::move(request)); }
  static auth::Roles needed(const Route& route) { return route.needs.roles(false); }
};

// The rule itself, said once more: what each row of the table must answer to each kind of caller.
TEST_F(RolesTest, EveryRouteToEveryCaller) {
  std::vector<auth::Roles> sets = {{auth::Role::kRead, auth::Role::kWrite}};
  for (auth::Role role : auth::kAllRoles) sets.push_back({role});
  configure(sets);
  using Shows = Caller::Shows;
  for (const Route& route : routes()) {
    for (auth::Roles roles : sets) {
      for (Shows shows : {Shows::kNothing, Shows::kToken, Shows::kCertificate}) {
        for (bool tls : {false, true}) {
          for (Origin origin : {Origin::kLoopback, Origin::kThisMachine, Origin::kOtherMachine}) {
            if (shows == Shows::kCertificate && !tls) continue;
            const bool in_the_clear = !tls && origin == Origin::kOtherMachine;
            const bool is_admin = route.path.starts_with("/v1/admin/");
            const bool has_role = shows != Shows::kNothing && roles.has_any(needed(route));
            int expected = 0;
            if (in_the_clear && shows == Shows::kToken) {
              expected = 403;
            } else if (!needed(route).empty() && !has_role) {
              const bool may_ask_again = shows == Shows::kNothing && !in_the_clear;
              expected = may_ask_again ? 401 : 403;
            }
            // As before: the guard of the machine is first.
            if (is_admin && origin == Origin::kOtherMachine && shows == Shows::kNothing) {
              expected = 403;
            }
            EXPECT_EQ(refused_with(request_of(route, {shows, roles, tls, origin})), expected)
                << route.path << " roles=" << auth::format_roles(roles)
                << " shows=" << static_cast<int>(shows) << " tls=" << tls
                << " origin=" << static_cast<int>(origin);
          }
        }
      }
    }
  }
}

TEST_F(RolesTest, RoutesNeedWhatTheDesignSays) {
  using auth::Role;
  const std::map<std::string_view, auth::Roles> expected = {
      {"/livez", {}},
      {"/readyz", {}},
      {"/leaderz", {}},
      {"/metrics", {Role::kMonitor}},
      {"/v1/status", {Role::kMonitor}},
      {"/v1/cluster", {Role::kMonitor}},
      {"/v1/call", {Role::kRead, Role::kWrite}},
      {"/v1/admin/members", {Role::kAdmin}},
      {"/v1/admin/leader", {Role::kAdmin}},
      {"/v1/admin/settings", {Role::kAdmin}},
      {"/v1/admin/snapshot", {Role::kBackup}},
  };
  for (const Route& route : routes()) {
    ASSERT_TRUE(expected.contains(route.path)) << route.path;
    EXPECT_EQ(needed(route), expected.at(route.path)) << route.path;
  }
}

TEST_F(RolesTest, VerboseHealthNeedsMonitor) {
  configure({{auth::Role::kMonitor}, {auth::Role::kAdmin}});
  using Shows = Caller::Shows;
  for (const char* path : {"/livez", "/readyz", "/leaderz"}) {
    const Route& route = *std::ranges::find(routes(), path, &Route::path);
    auto ask_verbose = [&](Shows shows, auth::Roles roles) {
      Request request = request_of(route, {shows, roles, true, Origin::kOtherMachine});
      request.target += "?verbose";
      return refused_with(std::move(request));
    };
    EXPECT_EQ(ask_verbose(Shows::kNothing, {}), 401);
    EXPECT_EQ(ask_verbose(Shows::kToken, {auth::Role::kAdmin}), 403);
    EXPECT_EQ(ask_verbose(Shows::kToken, {auth::Role::kMonitor}), 0);
    // A probe is answered whatever it shows.
    Request bare = request_of(route, {Shows::kNothing, {}, true, Origin::kOtherMachine});
    bare.headers["authorization"] = "Bearer nonsense";
    EXPECT_EQ(refused_with(std::move(bare)), 0);
  }
}

TEST_F(RolesTest, CallsCarryTheRightsOfTheirCaller) {
  configure({{auth::Role::kRead}, {auth::Role::kWrite}, {auth::Role::kRead, auth::Role::kWrite}});
  for (auth::Roles roles : {auth::Roles{auth::Role::kRead}, auth::Roles{auth::Role::kWrite},
                            auth::Roles{auth::Role::kRead, auth::Role::kWrite}}) {
    EXPECT_FALSE(
        ask(request_of(*call_route(), {Caller::Shows::kToken, roles, false, Origin::kLoopback})));
    EXPECT_EQ(rights_.read, roles.has(auth::Role::kRead));
    EXPECT_EQ(rights_.write, roles.has(auth::Role::kWrite));
  }
  policy_->replace_with(std::make_shared<auth::Policy>());
  EXPECT_FALSE(ask(good(*call_route())));
  EXPECT_TRUE(rights_.read && rights_.write);
}

// The client learns no more from one failure than from another.
TEST_F(RolesTest, BadTokensGetOneAnswer) {
  configure({{auth::Role::kRead}});
  const auto good_token = token_of(id_of({auth::Role::kRead}));
  std::set<std::string> answers;
  for (const std::string& token :
       {good_token.substr(0, good_token.size() - 1) + "b", token_of("somebody"),
        std::string("nonsense"), good_token + "x"}) {
    Request request = good(*call_route());
    request.headers["authorization"] = "Bearer " + token;
    auto response = ask(std::move(request));
    ASSERT_TRUE(response);
    EXPECT_EQ(response->status, 401);
    ASSERT_EQ(response->headers.size(), 1u);
    EXPECT_EQ(response->headers[0].first, "WWW-Authenticate");
    EXPECT_EQ(response->headers[0].second, "Bearer realm=\"connectd\"");
    answers.insert(response->body);
  }
  EXPECT_EQ(answers.size(), 1u);
  Request basic = good(*call_route());
  basic.headers["authorization"] = "Basic YTpi";
  EXPECT_EQ(refused(std::move(basic)), 401);
}

// RFC 9457: "detail" is for people.
TEST_F(RolesTest, RefusalNamesWhatWouldHelp) {
  using testing::Not;
  const auto text = [&](bool is_encrypted) {
    auto response = ask(
        request_of(*call_route(), {Caller::Shows::kNothing, {}, is_encrypted, Origin::kLoopback}));
    EXPECT_TRUE(response);
    return response ? fmt::format("{} {}", response->status, response->body) : "";
  };
  const auto add_certificates = [&] {
    auto policy = std::make_shared<auth::Policy>(*policy_->get());
    policy->http_certificates = true;
    policy_->replace_with(policy);
  };
  configure({{auth::Role::kRead}});
  EXPECT_THAT(text(true), HasSubstr("401 "));
  EXPECT_THAT(text(true), HasSubstr("needs a token with the role read or write: connectctl "
                                    "--token-file FILE, or the header Authorization"));
  EXPECT_THAT(text(true), Not(HasSubstr("certificate")));
  add_certificates();
  for (bool is_encrypted : {false, true}) {
    EXPECT_THAT(text(is_encrypted), HasSubstr("401 "));
    EXPECT_THAT(text(is_encrypted),
                HasSubstr("a token or a client certificate with the role read or write"));
    EXPECT_THAT(text(is_encrypted), HasSubstr("--token-file FILE"));
    EXPECT_THAT(text(is_encrypted), HasSubstr("--cert FILE --key FILE"));
  }
  auto only_certificates = std::make_shared<auth::Policy>();
  only_certificates->anonymous = {};
  policy_->replace_with(only_certificates);
  EXPECT_THAT(text(true), HasSubstr("which auth.anonymous and admin.local give nobody here"));
  add_certificates();
  EXPECT_THAT(text(true), HasSubstr("403 "));
  EXPECT_THAT(text(true), HasSubstr("needs a client certificate with the role read or write"));
  EXPECT_THAT(text(true), Not(HasSubstr("token")));
}

TEST_F(RolesTest, ManyFailuresAreNotChecked) {
  configure({{auth::Role::kRead}});
  const std::string id = id_of({auth::Role::kRead});
  auto ask_with = [&](const std::string& token, const char* network) {
    Request request = good(*call_route());
    request.remote_network = network;
    request.headers["authorization"] = "Bearer " + token;
    auto response = ask(std::move(request));
    return response ? response->status : 0;
  };
  const std::string wrong = fmt::format("connectd1_{}_{}", id, std::string(64, 'b'));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(ask_with(wrong, "10.0.0.9"), 401);
  EXPECT_EQ(ask_with(wrong, "10.0.0.9"), 429);
  EXPECT_EQ(ask_with(token_of(id), "10.0.0.9"), 429);
  EXPECT_EQ(ask_with(token_of(id), "10.0.0.8"), 0);
}

// The checker is that of all ports.
TEST_F(RolesTest, FailuresOnOtherPortsCountToo) {
  configure({{auth::Role::kRead}});
  const std::string token = token_of(id_of({auth::Role::kRead}));
  const auth::TokenSource source{.is_this_machine = true, .network = "127.0.0.1"};
  for (int i = 0; i < 10; ++i) {
    options_.tokens->check(auth::TokenTable(), token, source, read_clocks());
  }
  Request request = good(*call_route());
  request.remote_network = source.network;
  request.headers["authorization"] = "Bearer " + token;
  EXPECT_EQ(refused(std::move(request)), 429);
}

TEST_F(RolesTest, ExposedTokensAreNotChecked) {
  configure({{auth::Role::kMonitor}});
  for (const char* token : {"nonsense", "connectd1_monitor0_x"}) {
    for (const Route& route : routes()) {
      Request request = good(route);
      request.origin = Origin::kOtherMachine;
      request.headers["authorization"] = std::string("Bearer ") + token;
      auto response = ask(std::move(request));
      ASSERT_TRUE(response) << route.path;
      EXPECT_EQ(response->status, 403);
      EXPECT_EQ(from_json<Problem>(response->body)->code, "EXPOSED");
    }
  }
}

TEST_F(RolesTest, WithoutTokensTheHeaderIsIgnored) {
  for (const Route& route : routes()) {
    Request request = good(route);
    request.headers["authorization"] = "Bearer nonsense";
    EXPECT_EQ(refused_with(std::move(request)), 0) << route.path;
  }
}

TEST_F(RolesTest, LocalCallersAreLocalForWhatOthersLack) {
  const auth::Roles local{auth::Role::kAdmin, auth::Role::kMonitor, auth::Role::kBackup};
  configure({{auth::Role::kRead}}, {auth::Role::kRead}, local);
  for (const Route& route : routes()) {
    EXPECT_EQ(refused_with(good(route)), 0) << route.path;
    Request proxied = good(route);
    proxied.headers["x-forwarded-for"] = "10.0.0.9";
    const bool is_open = needed(route).empty() || needed(route).has(auth::Role::kRead);
    EXPECT_EQ(refused_with(std::move(proxied)) == 0, is_open) << route.path;
    // A token counts alone.
    Request shown =
        request_of(route, {Caller::Shows::kToken, {auth::Role::kRead}, false, Origin::kLoopback});
    EXPECT_EQ(refused_with(std::move(shown)) == 0, is_open) << route.path;
  }
  EXPECT_TRUE(rights_.read);
  EXPECT_FALSE(rights_.write) << "administration is no data";
  context_.access.admin = AdminFrom::kNobody;
  for (const Route& route : routes()) {
    const bool is_open = needed(route).empty() || needed(route).has(auth::Role::kRead);
    EXPECT_EQ(refused_with(good(route)) == 0, is_open) << route.path;
  }
}

// Over TLS from anywhere, but http.admin: off is off.
TEST_F(RolesTest, AdminOverTlsIsFromAnywhere) {
  configure({{auth::Role::kAdmin}});
  const Route& route = *std::ranges::find(routes(), "/v1/admin/leader", &Route::path);
  for (AdminFrom from : {AdminFrom::kThisMachine, AdminFrom::kLoopback, AdminFrom::kNobody}) {
    context_.access.admin = from;
    EXPECT_EQ(
        refused_with(request_of(
            route, {Caller::Shows::kToken, {auth::Role::kAdmin}, true, Origin::kOtherMachine})),
        from == AdminFrom::kNobody ? 403 : 0);
  }
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

class RecordingObserver final : public AnswerObserver {
 public:
  explicit RecordingObserver(std::vector<std::string>& seen) : seen_(seen) {}
  ~RecordingObserver() override { seen_.emplace_back("end"); }
  RecordingObserver(const RecordingObserver&) = delete;
  RecordingObserver& operator=(const RecordingObserver&) = delete;
  void on_answer(const Response& response) override { seen_.push_back(response.body); }

 private:
  std::vector<std::string>& seen_;
};

TEST(Reply, ObserversSeeEveryAnswer) {
  std::vector<std::string> seen;
  auto connection = std::make_shared<FakeConnection>();
  Reply(connection, 1).observed_by(std::make_shared<RecordingObserver>(seen)).send(text_of("now"));
  EXPECT_EQ(seen, (std::vector<std::string>{"now", "end"}));
  seen.clear();
  auto posted = connection->posted_;
  {
    auto done = Reply(connection, 1)
                    .observed_by(std::make_shared<RecordingObserver>(seen))
                    .later<std::string>(5s, "late", text_of);
    EXPECT_EQ(connection->late_().body, "late");
    connection.reset();
    done("after its client has gone");
    for (auto& work : *posted) work();
  }
  posted->clear();
  EXPECT_EQ(seen, (std::vector<std::string>{"late", "after its client has gone", "end"}));
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

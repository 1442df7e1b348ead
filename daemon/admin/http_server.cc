#include "admin/http_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/json.hpp>
#include <optional>
#include <thread>
#include <utility>

#include "admin/http_client.h"
#include "admin/http_target.h"
#include "admin/read_level.h"
#include "admin/status_json.h"
#include "base/log.h"
#include "net/tcp.h"
#include "wire/address.h"

namespace connectd::admin {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace json = boost::json;
using tcp = asio::ip::tcp;
using beast::error_code;
using Request = http::request<http::string_body>;
using Response = http::response<http::string_body>;

constexpr const char* kText = "text/plain; charset=utf-8";
constexpr const char* kJson = "application/json";
constexpr const char* kBytes = "application/octet-stream";

constexpr size_t kMaxSettingBytes = 256;
constexpr size_t kDrainBytes = 8 << 10;
constexpr size_t kMaxDrained = 64 << 20;
constexpr Duration kDrainTimeout = std::chrono::seconds(2);

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

// What all connections share. It outlives the server while the loop still holds a `done` of a call,
// so that a late answer meets an io_context that is stopped, not one that is gone.
struct Shared : std::enable_shared_from_this<Shared> {
  Shared(ServerOptions o, const node::StatusBoard& b, CallFunction c, ChangeFunction m,
         SnapshotFunction s)
      : options(std::move(o)),
        board(b),
        call(std::move(c)),
        change(std::move(m)),
        snapshots(std::move(s)) {}

  ServerOptions options;
  const node::StatusBoard& board;  // used on the server's thread only
  CallFunction call;
  ChangeFunction change;
  SnapshotFunction snapshots;
  std::vector<std::string> hosts;  // good in a Host header, in lower case
  size_t connections = 0;
  size_t cluster_queries = 0;
  asio::io_context io{1};  // last: sessions die with it, and count themselves down
};

// One connection: reads a request, answers it, reads the next. Kept alive by its own operations.
class Session final : public std::enable_shared_from_this<Session> {
 public:
  Session(Shared& shared, tcp::socket socket)
      : shared_(shared), stream_(std::move(socket)), timer_(shared.io) {
    ++shared_.connections;
  }
  ~Session() { --shared_.connections; }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void start() { read_header(kRequestTimeout); }

 private:
  // ---- one request in

  void read_header(Duration timeout) {
    parser_.emplace();
    parser_->header_limit(kMaxHeaderBytes);
    parser_->body_limit(shared_.options.max_request);
    stream_.expires_after(timeout);
    http::async_read_header(
        stream_, buffer_, *parser_,
        [self = shared_from_this()](error_code ec, std::size_t) { self->on_header(ec); });
  }

  void on_header(error_code ec) {
    if (ec) return on_read_error(ec);
    const Request& request = parser_->get();
    if (request.version() != 10 && request.version() != 11) {
      return refuse(505, "HTTP version not supported", "write HTTP/1.1");
    }
    if (parser_->content_length().value_or(0) > shared_.options.max_request) return too_large();
    if (lower_case(request[http::field::expect]) == "100-continue") {
      static const std::string kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      stream_.expires_after(kRequestTimeout);
      asio::async_write(stream_, asio::buffer(kContinue),
                        [self = shared_from_this()](error_code write_error, std::size_t) {
                          if (!write_error) self->read_body();
                        });
      return;
    }
    read_body();
  }

  void read_body() {
    stream_.expires_after(kRequestTimeout);
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](error_code ec, std::size_t) {
                       if (ec) return self->on_read_error(ec);
                       self->request_ = self->parser_->release();
                       self->handle();
                     });
  }

  void on_read_error(error_code ec) {
    if (ec == http::error::body_limit) return too_large();
    if (ec == http::error::header_limit) {
      return refuse(431, "Request header fields too large",
                    fmt::format("at most {} bytes of headers are taken", kMaxHeaderBytes));
    }
    if (ec.category() == http::make_error_code(http::error::bad_method).category() &&
        ec != http::error::end_of_stream && ec != http::error::partial_message) {
      return refuse(400, "Bad request", fmt::format("this is not HTTP: {}", ec.message()));
    }
    close();
  }

  void too_large() {
    CallOutcome outcome = call_outcome(node::ReplyCode::kTooLarge);
    close_after_ = true;  // its body was not read
    problem(outcome.http_status, outcome.title,
            fmt::format("a request has at most client.max_request = {} bytes",
                        shared_.options.max_request),
            outcome.code);
  }

  void refuse(int status, std::string_view title, std::string detail) {
    close_after_ = true;
    problem(status, title, detail, "");
  }

  // ---- routes

  void handle() {
    const std::string_view target(request_.target().data(), request_.target().size());
    const auto [path, verbose] = parse_http_target(target);

    bool get = request_.method() == http::verb::get || request_.method() == http::verb::head;
    bool post = request_.method() == http::verb::post;
    if (path == "/livez") return get ? livez(verbose) : not_allowed("GET, HEAD");
    if (path == "/readyz") return get ? readyz(verbose) : not_allowed("GET, HEAD");
    if (path == "/leaderz") return get ? leaderz(verbose) : not_allowed("GET, HEAD");
    if (path == "/v1/status") return get ? status() : not_allowed("GET, HEAD");
    if (path == "/v1/cluster") return get ? cluster() : not_allowed("GET, HEAD");
    if (path == "/v1/call") return post ? call() : not_allowed("POST");
    if (path == "/v1/admin/settings") return post ? set_setting() : not_allowed("POST");
    if (path == "/v1/admin/members" || path == "/v1/admin/leader") {
      return post ? change(path == "/v1/admin/leader") : not_allowed("POST");
    }
    if (path == "/v1/admin/snapshot") return post ? snapshot() : not_allowed("POST");
    problem(404, "Not found",
            "there are /livez, /readyz, /leaderz, /v1/status, /v1/cluster, /v1/call, "
            "/v1/admin/members, /v1/admin/leader, /v1/admin/settings and /v1/admin/snapshot",
            "");
  }

  void not_allowed(const char* allow) {
    Response response = make(405, "application/problem+json");
    response.set(http::field::allow, allow);
    response.body() = problem_json(405, "Method not allowed", fmt::format("use {}", allow), "");
    write(std::move(response));
  }

  // `lines`: what was looked at, told with ?verbose.
  void health(bool good, bool verbose, const std::string& lines, std::string_view detail) {
    if (verbose) {
      Response response = make(good ? 200 : 503, kText);
      response.body() = lines + (good ? "ok\n" : "failed\n");
      return write(std::move(response));
    }
    if (!good) return problem(503, "Service unavailable", detail, "");
    Response response = make(200, kText);
    response.body() = "ok\n";
    write(std::move(response));
  }

  static std::string check_line(bool good, std::string_view text) {
    return fmt::format("[{}] {}\n", good ? '+' : '-', text);
  }

  void livez(bool verbose) {
    auto status = shared_.board.read();
    if (status == nullptr) {  // still reading its log: a restart would begin that anew
      return health(true, verbose, check_line(true, "starting"), "");
    }
    Duration age = read_clocks().time - status->made;
    bool good = age < kLoopHangs;
    std::string text =
        fmt::format("the loop told its status {} ms ago",
                    std::chrono::duration_cast<std::chrono::milliseconds>(age).count());
    health(good, verbose, check_line(good, text), text);
  }

  void readyz(bool verbose) {
    auto status = shared_.board.read();
    if (status == nullptr) {
      return health(false, verbose, check_line(false, "starting: the log is being read"),
                    "starting: the log is being read");
    }
    std::string why = status->reason.empty() ? "not ready" : status->reason;
    std::string lines = check_line(status->ready, status->ready ? "ready" : why);
    lines += check_line(static_cast<bool>(status->leader),
                        status->leader
                            ? fmt::format("leader {} in term {}", status->leader, status->term)
                            : fmt::format("no leader known in term {}", status->term));
    lines += check_line(
        true, fmt::format("applied {} of {}", status->applied_index, status->commit_index));
    health(status->ready, verbose, lines, why);
  }

  void leaderz(bool verbose) {
    auto status = shared_.board.read();
    bool good = status != nullptr && status->role == raft::Role::kLeader;
    std::string text =
        status == nullptr ? "starting"
        : good            ? fmt::format("leader in term {}", status->term)
        : status->leader
            ? fmt::format("{}; node {} leads term {}", role_text(status->role), status->leader,
                          status->term)
            : fmt::format("{}; no leader known in term {}", role_text(status->role), status->term);
    health(good, verbose, check_line(good, text), text);
  }

  void status() {
    auto status = shared_.board.read();
    if (status == nullptr) return starting();
    Response response = make(200, kJson);
    response.body() = status_json(*status);
    write(std::move(response));
  }

  void starting() {
    problem(503, "Service unavailable", "starting: the log is being read; try again in a moment",
            "");
  }

  // ---- /v1/cluster

  // What the members answer, gathered on the server's thread.
  struct ClusterQuery {
    explicit ClusterQuery(Shared& s) : shared(s) { ++shared.cluster_queries; }
    ~ClusterQuery() { --shared.cluster_queries; }
    ClusterQuery(const ClusterQuery&) = delete;
    ClusterQuery& operator=(const ClusterQuery&) = delete;

    Shared& shared;
    json::array nodes;
    size_t waiting = 0;
  };

  void cluster() {
    auto status = shared_.board.read();
    if (status == nullptr) return starting();
    if (shared_.cluster_queries >= kMaxClusterQueries) {
      CallOutcome outcome = call_outcome(node::ReplyCode::kOverloaded);
      return problem(outcome.http_status, outcome.title,
                     fmt::format("{} of these are under way; try again", kMaxClusterQueries),
                     outcome.code);
    }
    stream_.expires_never();
    auto query = std::make_shared<ClusterQuery>(shared_);
    struct Ask {
      size_t place;
      NodeId id;
      config::Address address;
    };
    std::vector<Ask> asks;
    bool listed = false;
    for (const node::MemberStatus& member : status->members) {
      json::object entry{{"id", member.id.value()},
                         {"http", member.http},
                         {"reachable", false},
                         {"error", nullptr},
                         {"status", nullptr}};
      if (member.id == status->id) {
        listed = true;
        entry["reachable"] = true;
        entry["status"] = json::parse(status_json(*status));
      } else if (auto address = config_address(member.http)) {
        asks.push_back({query->nodes.size(), member.id, *address});
      } else {
        entry["error"] = "its http address is not known";
      }
      query->nodes.push_back(std::move(entry));
    }
    if (!listed) {
      query->nodes.push_back(json::object{{"id", status->id.value()},
                                          {"http", shared_.options.advertised.to_string()},
                                          {"reachable", true},
                                          {"error", nullptr},
                                          {"status", json::parse(status_json(*status))}});
    }
    query->waiting = asks.size();
    if (asks.empty()) return cluster_done(*query, status->id);
    for (Ask& ask : asks) {
      HttpRequest request;
      request.target = "/v1/status";
      fetch(shared_.io, ask.address, std::move(request), kMemberTimeout, kMaxMemberAnswer,
            [self = shared_from_this(), query, place = ask.place, id = ask.id,
             own = status->id](HttpOutcome outcome) {
              take_member(query->nodes[place].as_object(), id, outcome);
              if (--query->waiting == 0) self->cluster_done(*query, own);
            });
    }
  }

  static std::optional<config::Address> config_address(const std::string& text) {
    size_t colon = text.rfind(':');
    if (colon == std::string::npos) return std::nullopt;
    std::string host = text.substr(0, colon);
    if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
    int port = 0;
    for (char c : text.substr(colon + 1)) {
      if (c < '0' || c > '9' || port > 65535) return std::nullopt;
      port = port * 10 + (c - '0');
    }
    if (host.empty() || port < 1 || port > 65535) return std::nullopt;
    return config::Address{host, static_cast<uint16_t>(port)};
  }

  static void take_member(json::object& entry, NodeId id, const HttpOutcome& outcome) {
    if (!outcome) {
      entry["error"] = outcome.error().text;
      return;
    }
    error_code ec;
    json::value value = json::parse(outcome->body, ec);
    if (outcome->status != 200 || ec || !value.is_object()) {
      const json::value* detail =
          !ec && value.is_object() ? value.as_object().if_contains("detail") : nullptr;
      entry["error"] = detail != nullptr && detail->is_string()
                           ? std::string(detail->as_string())
                           : fmt::format("answered {}", outcome->status);
      return;
    }
    const json::value* named = value.as_object().if_contains("id");
    bool same = named != nullptr && named->is_number() &&
                named->to_number<uint64_t>(ec) == id.value() && !ec;
    if (!same) {
      entry["error"] = "another node answers at this address";
      return;
    }
    entry["reachable"] = true;
    entry["status"] = std::move(value);
  }

  void cluster_done(ClusterQuery& query, NodeId own) {
    Response response = make(200, kJson);
    response.body() =
        json::serialize(json::object{{"asked", own.value()}, {"nodes", std::move(query.nodes)}});
    write(std::move(response));
  }

  // ---- /v1/call

  // No page of another site may reach the plugin through a browser: a form cannot set the header, a
  // script needs a permission (CORS) that nobody gives, and a name that was bent to this machine
  // does not match.
  bool refuse_foreign() {
    if (request_["X-Connect-Request"] != "1") {
      problem(403, "Forbidden", "give the header 'X-Connect-Request: 1'", "");
      return true;
    }
    std::string host = lower_case(request_[http::field::host]);
    error_code ec;
    tcp::endpoint local = stream_.socket().local_endpoint(ec);
    std::string here =
        ec ? "" : config::Address{local.address().to_string(), local.port()}.to_string();
    const std::vector<std::string>& hosts = shared_.hosts;
    if (host != here && std::find(hosts.begin(), hosts.end(), host) == hosts.end()) {
      problem(403, "Forbidden",
              fmt::format("the Host '{}' is none of this server's addresses; ask it as {}",
                          host.substr(0, 128), here),
              "");
      return true;
    }
    std::string type = lower_case(request_[http::field::content_type]);
    type = type.substr(0, type.find(';'));
    if (type.empty() || type.starts_with("application/x-www-form-urlencoded") ||
        type.starts_with("multipart/form-data") || type.starts_with("text/plain")) {
      problem(415, "Unsupported media type",
              "give a Content-Type that no form has: 'Content-Type: application/octet-stream'", "");
      return true;
    }
    for (const char* name : {"X-Connect-Session", "X-Connect-Sequence"}) {
      if (!request_[name].empty()) {
        problem(400, "Bad request", fmt::format("{} is not in this version; leave it out", name),
                "");
        return true;
      }
    }
    return false;
  }

  void call() {
    if (refuse_foreign()) return;
    auto read = parse_read_level(lower_case(request_["X-Connect-Read"]));
    if (!read) {
      return problem(400, "Bad request", fmt::format("X-Connect-Read: {}", read.error().text), "");
    }
    // Only the answer to the present call counts: an older one comes too late.
    uint64_t number = ++call_number_;
    stream_.expires_never();
    timer_.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(
        shared_.options.call_timeout + kCallGrace));
    timer_.async_wait([self = shared_from_this(), number](error_code ec) {
      if (ec) return;
      CallResult late;
      late.code = node::ReplyCode::kUnknown;
      late.bytes = "the node gave no answer in time; a write may have happened or not";
      self->on_result(number, std::move(late));
    });
    // The timer's handler keeps the session; `done` must not, as the loop may hold it for long.
    auto done = [keep = shared_.shared_from_this(), weak = weak_from_this(),
                 number](CallResult result) {
      asio::post(keep->io, [weak, number, result = std::move(result)]() mutable {
        if (auto self = weak.lock()) self->on_result(number, std::move(result));
      });
    };
    shared_.call(std::move(request_.body()), *read, std::move(done));
  }

  // ---- /v1/admin

  // {"action": "add"|"promote"|"remove"|"replace", "id": 4, "peer": "H:P", "client": ...,
  //  "http": ..., "learner": true, "force": true, "if_index": 7};
  // of the leader {"action": "transfer", "id": 2}.
  static Result<node::MemberChange> change_of(std::string_view body, bool of_leader) {
    auto wrong = [](std::string text) { return failure(ExitCode::kUsage, std::move(text)); };
    error_code ec;
    json::value value = json::parse(body, ec);
    if (ec || !value.is_object()) return wrong("the body is no JSON object");
    const std::map<std::string_view, node::MemberChange::Kind> actions =
        of_leader
            ? std::map<std::string_view,
                       node::MemberChange::Kind>{{"transfer", node::MemberChange::Kind::kTransfer}}
            : std::map<std::string_view, node::MemberChange::Kind>{
                  {"add", node::MemberChange::Kind::kAdd},
                  {"promote", node::MemberChange::Kind::kPromote},
                  {"remove", node::MemberChange::Kind::kRemove},
                  {"replace", node::MemberChange::Kind::kReplace}};
    node::MemberChange change;
    bool has_action = false;
    for (const auto& [key, field] : value.as_object()) {
      const std::string_view name(key.data(), key.size());
      std::string* text = name == "peer"     ? &change.member.peer_address
                          : name == "client" ? &change.member.client_address
                          : name == "http"   ? &change.member.http_address
                                             : nullptr;
      bool* flag = name == "learner" ? &change.learner_only
                   : name == "force" ? &change.force
                                     : nullptr;
      if (text != nullptr && field.is_string()) {
        *text = std::string(field.as_string());
        auto address = wire::parse_address(*text);
        if (!address) return wrong(fmt::format("{}: {}", name, address.error().text));
      } else if (flag != nullptr && field.is_bool()) {
        *flag = field.as_bool();
      } else if ((name == "id" || name == "if_index") && field.is_number()) {
        error_code range;
        const uint64_t number = field.to_number<uint64_t>(range);
        if (range) return wrong(fmt::format("{} is a whole number that is not negative", name));
        if (name == "id") change.member.id = NodeId(number);
        if (name == "if_index") change.expected = Index(number);
      } else if (name == "action" && field.is_string()) {
        auto action = actions.find(std::string_view(field.as_string()));
        if (action == actions.end()) {
          return wrong(fmt::format("there is no action '{}'",
                                   std::string_view(field.as_string()).substr(0, 32)));
        }
        change.kind = action->second;
        has_action = true;
      } else {
        return wrong(
            fmt::format("'{}' is not known, or has a value of the wrong kind", name.substr(0, 32)));
      }
    }
    if (!has_action) return wrong("an action is wanted");
    return change;
  }

  void change(bool of_leader) {
    if (!refuse_foreign() && !refuse_remote("members are changed")) {
      start_change(change_of(request_.body(), of_leader));
    }
  }

  // {"key": "raft.lease_reads", "value": "true"}: values are texts, as in the configuration.
  static Result<node::MemberChange> setting_of(std::string_view body) {
    auto wrong = [](std::string text) { return failure(ExitCode::kUsage, std::move(text)); };
    error_code ec;
    json::value value = json::parse(body, ec);
    if (ec || !value.is_object()) return wrong("the body is no JSON object");
    node::MemberChange change;
    change.kind = node::MemberChange::Kind::kSetting;
    for (const auto& [key, field] : value.as_object()) {
      const std::string_view name(key.data(), key.size());
      std::string* text = name == "key" ? &change.key : name == "value" ? &change.value : nullptr;
      if (text == nullptr || !field.is_string() || field.as_string().size() > kMaxSettingBytes) {
        return wrong(
            fmt::format("'{}' is not known, is no text, or is too long", name.substr(0, 32)));
      }
      *text = std::string(field.as_string());
    }
    if (change.key.empty()) return wrong("a key is wanted");
    return change;
  }

  void set_setting() {
    if (!refuse_foreign() && !refuse_remote("settings are changed")) {
      start_change(setting_of(request_.body()));
    }
  }

  // True when the request came from another machine, and was answered.
  bool refuse_remote(std::string_view what) {
    error_code ec;
    if (stream_.socket().remote_endpoint(ec).address().is_loopback() && !ec) return false;
    problem(403, "Forbidden",
            fmt::format("{} from this machine only: ask 127.0.0.1, with connectctl on the node's "
                        "own machine",
                        what),
            "");
    return true;
  }

  void start_change(Result<node::MemberChange> wanted) {
    if (!wanted) {
      return problem(400, "Bad request", wanted.error().text,
                     node::change_code_name(node::ChangeCode::kRefused));
    }
    if (!shared_.change) return problem(503, "Service unavailable", "no changes are taken", "");
    uint64_t number = ++call_number_;
    stream_.expires_never();
    timer_.expires_after(
        std::chrono::duration_cast<std::chrono::steady_clock::duration>(kChangeTimeout));
    timer_.async_wait([self = shared_from_this(), number](error_code aborted) {
      if (aborted) return;
      self->on_outcome(number,
                       {node::ChangeCode::kTimeout, "the node gave no answer in time", Index()});
    });
    auto done = [keep = shared_.shared_from_this(), weak = weak_from_this(),
                 number](node::ChangeOutcome outcome) {
      asio::post(keep->io, [weak, number, outcome = std::move(outcome)]() mutable {
        if (auto self = weak.lock()) self->on_outcome(number, outcome);
      });
    };
    shared_.change(std::move(*wanted), std::move(done));
  }

  void on_outcome(uint64_t number, const node::ChangeOutcome& outcome) {
    if (number != call_number_) return;
    ++call_number_;
    timer_.cancel();
    if (!outcome.done()) {
      const node::ChangeCodeRow& row = node::change_code_row(outcome.code);
      return problem(row.http_status, "The change was not taken", outcome.text, row.name);
    }
    Response response = make(200, kJson);
    response.body() =
        json::serialize(json::object{{"index", outcome.index.value()}, {"text", outcome.text}});
    write(std::move(response));
  }

  // {"action": "take"}, {"action": "list"},
  // {"action": "read", "name": "...", "offset": 0, "length": 4194304}
  static Result<SnapshotRequest> snapshot_request_of(std::string_view body) {
    auto wrong = [](std::string text) { return failure(ExitCode::kUsage, std::move(text)); };
    error_code ec;
    json::value value = json::parse(body, ec);
    if (ec || !value.is_object()) return wrong("the body is no JSON object");
    SnapshotRequest request;
    std::string action;
    for (const auto& [key, field] : value.as_object()) {
      const std::string_view name(key.data(), key.size());
      error_code range;
      if (name == "action" && field.is_string()) {
        action = field.as_string();
      } else if (name == "name" && field.is_string()) {
        request.name = field.as_string();
      } else if (name == "offset" && field.is_number()) {
        request.offset = field.to_number<uint64_t>(range);
      } else if (name == "length" && field.is_number()) {
        request.length = field.to_number<uint64_t>(range);
      } else {
        return wrong(
            fmt::format("'{}' is not known, or has a value of the wrong kind", name.substr(0, 32)));
      }
      if (range) return wrong(fmt::format("{} is a whole number that is not negative", name));
    }
    if (action == "take") {
      request.verb = SnapshotRequest::Verb::kTake;
    } else if (action == "list") {
      request.verb = SnapshotRequest::Verb::kList;
    } else if (action == "read") {
      request.verb = SnapshotRequest::Verb::kRead;
      if (request.name.empty()) return wrong("a name is wanted, as listed");
      if (request.length == 0 || request.length > kMaxSnapshotPiece) {
        return wrong(fmt::format("a length is wanted, from 1 to {}", kMaxSnapshotPiece));
      }
    } else {
      return wrong(action.empty() ? "an action is wanted"
                                  : fmt::format("there is no action '{}'", action.substr(0, 32)));
    }
    return request;
  }

  void snapshot() {
    if (refuse_foreign() || refuse_remote("snapshots are taken and read")) return;
    auto wanted = snapshot_request_of(request_.body());
    if (!wanted) return problem(400, "Bad request", wanted.error().text, "REFUSED");
    if (!shared_.snapshots) {
      return problem(503, "Service unavailable", "there are no snapshots here", "");
    }
    uint64_t number = ++call_number_;
    stream_.expires_never();
    timer_.expires_after(
        std::chrono::duration_cast<std::chrono::steady_clock::duration>(kSnapshotTimeout));
    const SnapshotRequest::Verb verb = wanted->verb;
    timer_.async_wait([self = shared_from_this(), number, verb](error_code aborted) {
      if (aborted) return;
      SnapshotAnswer late;
      late.status = 504;
      late.code = "TIMEOUT";
      late.text = "the node gave no answer in time";
      self->on_snapshot(number, verb, std::move(late));
    });
    auto done = [keep = shared_.shared_from_this(), weak = weak_from_this(), number,
                 verb](SnapshotAnswer answer) {
      asio::post(keep->io, [weak, number, verb, answer = std::move(answer)]() mutable {
        if (auto self = weak.lock()) self->on_snapshot(number, verb, std::move(answer));
      });
    };
    shared_.snapshots(std::move(*wanted), std::move(done));
  }

  void on_snapshot(uint64_t number, SnapshotRequest::Verb verb, SnapshotAnswer answer) {
    if (number != call_number_) return;
    ++call_number_;
    timer_.cancel();
    if (answer.status != 200) {
      return problem(answer.status, "No snapshot", answer.text, answer.code);
    }
    Response response = make(200, verb == SnapshotRequest::Verb::kRead ? kBytes : kJson);
    if (verb == SnapshotRequest::Verb::kTake) {
      response.body() = json::serialize(json::object{{"index", answer.index.value()}});
    } else if (verb == SnapshotRequest::Verb::kList) {
      json::array snapshots;
      for (const SnapshotAnswer::Listed& listed : answer.snapshots) {
        snapshots.push_back(json::object{{"name", listed.name},
                                         {"index", listed.mark.index.value()},
                                         {"term", listed.mark.term.value()},
                                         {"bytes", listed.bytes},
                                         {"age_seconds", listed.age_seconds}});
      }
      response.body() = json::serialize(json::object{{"taking", answer.taking},
                                                     {"failure", answer.failure},
                                                     {"snapshots", std::move(snapshots)}});
    } else {
      response.body() = std::move(answer.bytes);
    }
    write(std::move(response));
  }

  void on_result(uint64_t number, CallResult result) {
    if (number != call_number_) return;
    ++call_number_;
    timer_.cancel();
    if (result.code != node::ReplyCode::kOk && !result.plugin_refused) {
      CallOutcome outcome = call_outcome(result.code);
      return problem(outcome.http_status, outcome.title, result.bytes, outcome.code);
    }
    Response response = make(call_outcome(result.code).http_status, kBytes);
    if (result.plugin_refused) {
      response.result(call_outcome(node::ReplyCode::kRejected).http_status);
      response.set("X-Connect-Code", call_outcome(node::ReplyCode::kRejected).code);
    }
    response.set("X-Connect-Status", std::to_string(result.status));
    if (result.index) response.set("X-Connect-Index", std::to_string(result.index.value()));
    response.body() = std::move(result.bytes);
    write(std::move(response));
  }

  // ---- one answer out

  Response make(int status, const char* content_type) const {
    Response response;
    response.version(11);
    response.result(static_cast<unsigned>(status));
    response.set(http::field::server, "connectd");
    response.set(http::field::content_type, content_type);
    response.set(http::field::cache_control, "no-store");
    response.set("X-Content-Type-Options", "nosniff");
    return response;
  }

  void problem(int status, std::string_view title, std::string_view detail, std::string_view code) {
    Response response = make(status, "application/problem+json");
    if (status == 429 || status == 503) response.set(http::field::retry_after, "1");
    response.body() = problem_json(status, title, detail, code);
    write(std::move(response));
  }

  void write(Response response) {
    response_ = std::move(response);
    bool keep = !close_after_ && request_.keep_alive();
    response_.keep_alive(keep);
    response_.prepare_payload();
    if (request_.method() == http::verb::head) response_.body().clear();  // Content-Length stays
    stream_.expires_after(kRequestTimeout);
    http::async_write(stream_, response_,
                      [self = shared_from_this(), keep](error_code ec, std::size_t) {
                        if (ec || !keep) return self->close();
                        self->request_ = {};
                        self->response_ = {};
                        self->read_header(kIdleTimeout);
                      });
  }

  void close() {
    error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    if (close_after_) drain();
  }

  // What the client still sends of a refused request is thrown away, for a moment: closing with
  // unread bytes would reset the connection, and the client might never see the answer.
  void drain() {
    if (drained_ > kMaxDrained) return;
    stream_.expires_after(kDrainTimeout);
    buffer_.clear();
    stream_.async_read_some(buffer_.prepare(kDrainBytes),
                            [self = shared_from_this()](error_code ec, std::size_t bytes) {
                              if (ec) return;
                              self->drained_ += bytes;
                              self->drain();
                            });
  }

  Shared& shared_;
  beast::tcp_stream stream_;
  asio::steady_timer timer_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  Request request_;
  Response response_;
  uint64_t call_number_ = 0;
  bool close_after_ = false;
  size_t drained_ = 0;
};

class Server final : public HttpServer {
 public:
  explicit Server(std::shared_ptr<Shared> shared)
      : shared_(std::move(shared)), acceptor_(shared_->io), pause_(shared_->io) {}

  Result<void> listen() {
    const config::Address& address = shared_->options.listen;
    auto listening = net::listen(acceptor_, {address.host, address.port}, net::kHttpPort);
    if (!listening) return listening;
    uint16_t bound = port();
    for (const config::Address& good :
         {config::Address{address.host, bound}, shared_->options.advertised,
          config::Address{"localhost", bound}, config::Address{"127.0.0.1", bound},
          config::Address{"::1", bound}}) {
      if (good && !good.is_wildcard()) shared_->hosts.push_back(lower_case(good.to_string()));
    }
    return {};
  }

  void start() override {
    accept();
    thread_ = std::thread([this] { shared_->io.run(); });
  }

  uint16_t port() const override {
    error_code ignored;
    return acceptor_.local_endpoint(ignored).port();
  }

  ~Server() override {
    if (!thread_.joinable()) return;
    shared_->io.stop();
    thread_.join();
  }

 private:
  void accept() {
    acceptor_.async_accept([this](error_code ec, tcp::socket socket) {
      if (ec == asio::error::operation_aborted) return;
      if (ec) {  // out of descriptors, mostly: give others time to close some
        LOG_WARNING("admin", "cannot accept an HTTP connection: {}", ec.message());
        pause_.expires_after(std::chrono::milliseconds(100));
        pause_.async_wait([this](error_code stopped) {
          if (!stopped) accept();
        });
        return;
      }
      if (shared_->connections < kMaxConnections) {
        socket.set_option(tcp::no_delay(true), ec);
        std::make_shared<Session>(*shared_, std::move(socket))->start();
      }
      accept();
    });
  }

  std::shared_ptr<Shared> shared_;
  tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::open(ServerOptions options,
                                                     const node::StatusBoard& board,
                                                     CallFunction call, ChangeFunction change,
                                                     SnapshotFunction snapshots) {
  auto server = std::make_unique<Server>(std::make_shared<Shared>(
      std::move(options), board, std::move(call), std::move(change), std::move(snapshots)));
  Result<void> listening = server->listen();
  if (!listening) return failure(listening.error());
  return server;
}

}  // namespace connectd::admin

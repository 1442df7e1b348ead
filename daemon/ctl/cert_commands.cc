// cert ca, node, client, renew, revoke, show, check: certificates without a node. Only renew, and
// revoke for its list, replace files.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "auth/roles.h"
#include "auth/times.h"
#include "base/limits.h"
#include "base/wall_clock.h"
#include "config/values.h"
#include "ctl/cert_files.h"
#include "ctl/commands.h"
#include "tls/credentials.h"
#include "tls/make.h"
#include "tls/session.h"

namespace connectd::ctl {
namespace {

namespace json = boost::json;

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kCaDays = 3650;
constexpr uint64_t kUsualDays = 397;
constexpr uint64_t kMaxDays = 10'950;
// For clocks that are a little behind this one.
constexpr int64_t kBackdatedSeconds = 3600;

int64_t now_seconds() { return read_clocks().wall_ns / kSecondNs; }

Result<tls::Validity> validity(const Context& context, uint64_t usual_days) {
  const int64_t now_ns = read_clocks().wall_ns;
  if (!is_plausible(now_ns)) {
    return failure(ErrorKind::kUsage, "the clock of this machine was not set");
  }
  uint64_t days = usual_days;
  if (context.has("days")) {
    const auto parsed = config::parse_integer(context.option("days"));
    if (!parsed || *parsed < 1 || *parsed > kMaxDays) {
      return failure(ErrorKind::kUsage, fmt::format("--days: must be 1 to {}", kMaxDays));
    }
    days = *parsed;
  }
  const int64_t now = now_ns / kSecondNs;
  return tls::Validity{now - kBackdatedSeconds,
                       now + static_cast<int64_t>(days) * auth::kDaySeconds};
}

// As cluster.name has it, and as a part of a file's name.
Result<std::string> name_of(std::string_view what, const std::string& text) {
  constexpr size_t kMax = 64;
  const bool fits = std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
  if (fits && !text.empty() && text.size() <= kMax) return text;
  return failure(ErrorKind::kUsage,
                 fmt::format("{}: must be 1 to {} letters, digits, '-', '_' or '.'", what, kMax));
}

Result<std::string> cluster_name(const Context& context) {
  if (!context.has("cluster-name")) return std::string("connectd");
  return name_of("--cluster-name", context.option("cluster-name"));
}

std::string directory_of(const Context& context) {
  return context.has("dir") ? context.option("dir") : ".";
}

// The list that `cert revoke` writes; empty: there is none.
Result<std::string> read_list(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  if (text.str().empty() && ::access(path.c_str(), F_OK) == 0) {
    return failure(ErrorKind::kBadConfig, fmt::format("{}: is empty or cannot be read", path));
  }
  return text.str();
}

// The certificate that `cert renew` is given as ID, NAME or FILE, without its ".pem".
Result<std::string> base_of(const Context& context, const std::string& what) {
  constexpr std::string_view kEnd = ".pem";
  if (what.ends_with(kEnd)) return what.substr(0, what.size() - kEnd.size());
  const auto id = config::parse_integer(what);
  if (id && *id > 0 && *id <= kMaxNodeId) {
    return fmt::format("{}/node-{}", directory_of(context), *id);
  }
  auto name = name_of("NAME", what);
  if (!name) return failure(ErrorKind::kUsage, "must be a node id, a client's name or FILE.pem");
  return fmt::format("{}/client-{}", directory_of(context), *name);
}

ExitCode report(const Context& context, const std::string& base) {
  const std::string certificate = base + ".pem";
  auto facts = tls::read_facts(certificate);
  if (!facts) return context.fail(facts.error());
  const std::string until = tls::second_text(facts->front().not_after);
  if (context.json) {
    context.streams.out << json::serialize(json::object{{"certificate", certificate},
                                                        {"key", base + ".key"},
                                                        {"expires", until}})
                        << "\n";
  } else {
    context.streams.out << fmt::format("{}\n{}\n", certificate, base + ".key");
    context.streams.err << fmt::format("expires at {}\n", until);
  }
  return ExitCode::kOk;
}

// Of `cert node` and `cert client`.
ExitCode issue(const Context& context, const std::string& name, tls::Request request) {
  auto valid = validity(context, kUsualDays);
  if (!valid) return context.fail(valid.error());
  request.validity = *valid;
  const std::string directory = directory_of(context);
  auto authority = tls::Authority::load(directory + "/ca.pem", directory + "/ca.key");
  if (!authority) return context.fail(authority.error());
  auto made = authority->issue(request);
  if (!made) return context.fail(made.error());
  const std::string base = directory + "/" + name;
  if (auto written = write_pair(base, *made); !written) return context.fail(written.error());
  return report(context, base);
}

// ---- show

std::string state_of(const tls::Certificate& facts, int64_t now) {
  if (now < facts.not_before) return "not valid yet";
  if (now > facts.not_after) return "expired";
  return fmt::format("{} days left", (facts.not_after - now) / auth::kDaySeconds);
}

void print(const Context& context, const tls::Certificate& facts, int64_t now) {
  std::ostream& out = context.streams.out;
  const auto row = [&](std::string_view name, std::string_view value) {
    out << fmt::format("{:<12} {}\n", name, value);
  };
  row("subject", facts.subject);
  row("issuer", facts.issuer);
  row("serial", facts.serial);
  row("sha256", facts.fingerprint);
  for (const std::string& uri : facts.uris) row("uri", uri);
  for (const std::string& name : facts.dns_names) row("dns", name);
  for (const std::string& address : facts.addresses) row("address", address);
  row("from", tls::second_text(facts.not_before));
  row("until", fmt::format("{} ({})", tls::second_text(facts.not_after), state_of(facts, now)));
}

json::array to_json(const std::vector<std::string>& texts) {
  json::array array;
  for (const std::string& text : texts) array.emplace_back(text);
  return array;
}

json::object to_json(const tls::Certificate& facts, int64_t now) {
  return {{"subject", facts.subject},
          {"issuer", facts.issuer},
          {"serial", facts.serial},
          {"sha256", facts.fingerprint},
          {"uris", to_json(facts.uris)},
          {"dns_names", to_json(facts.dns_names)},
          {"addresses", to_json(facts.addresses)},
          {"not_before", tls::second_text(facts.not_before)},
          {"not_after", tls::second_text(facts.not_after)},
          {"days_left", (facts.not_after - now) / auth::kDaySeconds},
          {"valid", now >= facts.not_before && now <= facts.not_after}};
}

// ---- check

// A handshake of these files with themselves, as of two nodes that share all but their names.
// Empty: both sides are content.
std::string fault_among_peers(const std::shared_ptr<const tls::Credentials>& credentials,
                              const std::string& uri) {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) {
    return fmt::format("no sockets: {}", errno_text(errno));
  }
  std::string fault;
  {
    auto dials = tls::Session::dial(credentials, ends[0], {.uri = uri, .host = ""});
    auto accepts = tls::Session::accept(credentials, ends[1], tls::Demand::kRequired);
    tls::Status first = tls::Status::kWantsRead;
    tls::Status second = tls::Status::kWantsRead;
    // Each side says something two or three times.
    constexpr int kMostTurns = 16;
    for (int i = 0; i < kMostTurns && fault.empty(); ++i) {
      first = dials->shake();
      second = accepts->shake();
      if (first == tls::Status::kFailed) fault = dials->error();
      if (second == tls::Status::kFailed && fault.empty()) fault = accepts->error();
    }
    if (fault.empty() && (first != tls::Status::kDone || second != tls::Status::kDone)) {
      fault = "the handshake did not end";
    }
  }
  ::close(ends[0]);
  ::close(ends[1]);
  return fault;
}

Result<tls::Use> parse_use(const std::string& text) {
  if (text.empty() || text == "peers") return tls::Use::kPeers;
  if (text == "server") return tls::Use::kServer;
  if (text == "client") return tls::Use::kClient;
  return failure(ErrorKind::kUsage, "--use: must be peers, server or client");
}

// The URI that a peer of this certificate would be dialled by; kWrongData: it has none, or another.
Result<std::string> peer_uri(const Context& context, const tls::Certificate& own) {
  auto cluster = cluster_name(context);
  if (!cluster) return failure(cluster.error());
  if (context.has("node")) {
    const auto id = config::parse_integer(context.option("node"));
    if (!id || *id == 0 || *id > kMaxNodeId) {
      return failure(ErrorKind::kUsage, "--node: must be a node id");
    }
    return tls::node_uri(*cluster, NodeId(*id));
  }
  const auto node = tls::node_of(own, *cluster);
  if (node) return tls::node_uri(*cluster, *node);
  return failure(ErrorKind::kRefused,
                 fmt::format("{}: names no node of the cluster {}, or several: it needs one URI "
                             "such as {}",
                             own.subject, *cluster, tls::node_uri(*cluster, NodeId(1))));
}

}  // namespace

ExitCode cert_ca_command(Context& context) {
  auto valid = validity(context, kCaDays);
  if (!valid) return context.fail(valid.error());
  auto made =
      tls::Authority::make(context.has("name") ? context.option("name") : "connectd CA", *valid);
  if (!made) return context.fail(made.error());
  const std::string& directory = context.arguments[0];
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return context.fail(cannot_write(directory));
  }
  const std::string base = directory + "/ca";
  auto written = write_pair(base, {made->certificate_pem(), made->key_pem()});
  if (!written) return context.fail(written.error());
  return report(context, base);
}

ExitCode cert_node_command(Context& context) {
  const auto id = config::parse_integer(context.arguments[0]);
  if (!id || *id == 0 || *id > kMaxNodeId) {
    return context.fail(ExitCode::kUsage, with_help("ID must be a node id", "cert node"));
  }
  auto cluster = cluster_name(context);
  if (!cluster) return context.fail(cluster.error());
  tls::Request request;
  request.common_name = fmt::format("node {}", *id);
  request.uris = {tls::node_uri(*cluster, NodeId(*id))};
  if (context.has("host")) request.hosts = context.options["host"];
  for (const std::string& host : request.hosts) {
    if (auto good = parse_host(host.find(':') == std::string::npos ? host : "[" + host + "]", 1);
        !good) {
      return context.fail(ExitCode::kUsage, fmt::format("--host: {}", good.error()));
    }
  }
  request.is_for_servers = true;
  request.is_for_clients = true;
  return issue(context, fmt::format("node-{}", *id), std::move(request));
}

ExitCode cert_client_command(Context& context) {
  auto name = name_of("NAME", context.arguments[0]);
  if (!name) return context.fail(name.error());
  auto cluster = cluster_name(context);
  if (!cluster) return context.fail(cluster.error());
  auto roles = auth::parse_roles(context.has("roles") ? context.option("roles") : "read");
  if (!roles) return context.fail(ExitCode::kUsage, "--roles: " + roles.error().text);
  tls::Request request;
  request.common_name = *name;
  request.uris = {tls::client_uri(*cluster, *name)};
  for (auth::Role role : auth::kAllRoles) {
    if (roles->has(role)) request.uris.push_back(tls::role_uri(*cluster, auth::role_name(role)));
  }
  request.is_for_clients = true;
  return issue(context, "client-" + *name, std::move(request));
}

ExitCode cert_renew_command(Context& context) {
  auto valid = validity(context, kUsualDays);
  if (!valid) return context.fail(valid.error());
  auto base = base_of(context, context.arguments[0]);
  if (!base) return context.fail(base.error());
  const std::string directory = directory_of(context);
  auto authority = tls::Authority::load(directory + "/ca.pem", directory + "/ca.key");
  if (!authority) return context.fail(authority.error());
  auto revocations = read_list(directory + "/revoked.pem");
  if (!revocations) return context.fail(revocations.error());
  auto request = authority->request_of(*base + ".pem", *revocations);
  if (!request) return context.fail(request.error());
  request->validity = *valid;
  auto made = authority->issue(*request);
  if (!made) return context.fail(made.error());
  if (auto written = replace_pair(*base, *made); !written) return context.fail(written.error());
  const ExitCode code = report(context, *base);
  if (code == ExitCode::kOk && !context.json) {
    context.streams.err << "next: when both files are where the node reads them, on its machine: "
                           "connectctl reload DIR\n";
  }
  return code;
}

ExitCode cert_revoke_command(Context& context) {
  auto valid = validity(context, kUsualDays);
  if (!valid) return context.fail(valid.error());
  const std::string directory = directory_of(context);
  auto authority = tls::Authority::load(directory + "/ca.pem", directory + "/ca.key");
  if (!authority) return context.fail(authority.error());
  std::vector<std::string> serials;
  for (const std::string& file : context.arguments) {
    auto facts = tls::read_facts(file);
    if (!facts) return context.fail(facts.error());
    if (facts->front().issuer != authority->facts().subject) {
      return context.fail(ExitCode::kNegative,
                          fmt::format("{}: was issued by {}, not by {}", file,
                                      facts->front().issuer, authority->facts().subject));
    }
    serials.push_back(facts->front().serial);
  }
  const std::string list = directory + "/revoked.pem";
  auto before = read_list(list);
  if (!before) return context.fail(before.error());
  auto text = authority->revoke(*before, serials, *valid);
  if (!text)
    return context.fail({text.error().kind, fmt::format("{}: {}", list, text.error().text)});
  const std::string temporary = list + ".new";
  ::unlink(temporary.c_str());
  if (auto written = write_new(temporary, *text, kPublicFileMode); !written) {
    return context.fail(written.error());
  }
  if (std::rename(temporary.c_str(), list.c_str()) != 0) return context.fail(cannot_write(list));
  context.streams.out << list << "\n";
  context.streams.err << fmt::format("{} revoked; renew the list before {}\n", serials.size(),
                                     tls::second_text(valid->until));
  return ExitCode::kOk;
}

ExitCode cert_show_command(Context& context) {
  auto all = tls::read_facts(context.arguments[0]);
  if (!all) return context.fail(all.error());
  const int64_t now = now_seconds();
  json::array array;
  bool valid = true;
  for (const tls::Certificate& facts : *all) {
    valid = valid && now >= facts.not_before && now <= facts.not_after;
    if (context.json) {
      array.push_back(to_json(facts, now));
    } else {
      if (&facts != &all->front()) context.streams.out << "\n";
      print(context, facts, now);
    }
  }
  if (context.json) context.streams.out << json::serialize(array) << "\n";
  return valid ? ExitCode::kOk : ExitCode::kNegative;
}

ExitCode cert_check_command(Context& context) {
  auto use = parse_use(context.option("use"));
  if (!use) return context.fail(use.error());
  const tls::Files files{context.option("cert"), context.option("key"), context.option("cacert"),
                         context.option("crl")};
  auto credentials = tls::load_credentials(files, {.use = *use});
  if (!credentials) return context.fail(credentials.error());
  std::vector<std::string> faults = (*credentials)->warnings(now_seconds());
  const tls::Certificate* own = (*credentials)->own();
  if (*use == tls::Use::kPeers && own != nullptr) {
    auto uri = peer_uri(context, *own);
    if (!uri && uri.error().kind == ErrorKind::kUsage) return context.fail(uri.error());
    if (!uri) {
      faults.push_back(uri.error().text);
    } else if (faults.empty()) {
      // A warning says what its refusal would say again.
      const std::string fault = fault_among_peers(*credentials, *uri);
      if (!fault.empty()) faults.push_back("a node with these files " + fault);
    }
  }
  if (context.json) {
    json::object object{{"good", faults.empty()}, {"warnings", to_json(faults)}};
    if (own != nullptr) object["certificate"] = to_json(*own, now_seconds());
    context.streams.out << json::serialize(object) << "\n";
  } else {
    for (const std::string& fault : faults) context.fail(ExitCode::kNegative, fault);
    if (faults.empty()) {
      context.streams.out << fmt::format("good{}\n",
                                         own == nullptr ? "" : ": " + tls::name_of(*own));
    }
  }
  return faults.empty() ? ExitCode::kOk : ExitCode::kNegative;
}

}  // namespace connectd::ctl

#include "ctl/endpoints.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "config/load.h"

namespace connectd::ctl {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOthers = "set others with -e HOST:PORT";
const Address kDefaultEndpoint{"127.0.0.1", 7301};

std::vector<std::string> configurations_in(const std::string& directory, std::error_code& ec) {
  std::vector<std::string> files;
  for (fs::directory_iterator at(directory, ec), end; !ec && at != end; at.increment(ec)) {
    const fs::path& path = at->path();
    if (path.extension() == ".yaml" || path.extension() == ".yml") files.push_back(path.string());
  }
  std::ranges::sort(files);
  return files;
}

void add_members(const config::Config& config, Endpoints& found) {
  for (const config::Member& member : config.cluster.members) {
    const bool is_own = member.id == config.node.id;
    const bool is_known = std::ranges::find(found.members, member.http) != found.members.end();
    if (is_own || is_known || !member.http || found.members.size() == kMaxEndpoints) continue;
    found.members.push_back(member.http);
  }
}

// The address at which a node that listens at `address` is reached from its own machine.
Address from_here(Address address) {
  if (address.host == "0.0.0.0") address.host = "127.0.0.1";
  if (address.host == "::") address.host = "::1";
  return address;
}

// A command for one cluster must not go to another because its file comes first.
std::string choose_text(const std::map<std::string, std::string>& clusters,
                        const std::string& directory) {
  std::string text =
      fmt::format("{} has nodes of {} clusters; choose one of them: ", directory, clusters.size());
  const char* separator = "";
  for (const auto& [name, address] : clusters) {
    text += fmt::format("{}-e {} ('{}')", separator, address, name);
    separator = ", ";
  }
  return text;
}

}  // namespace

LocalPort local_port(const config::Config& config) {
  const bool is_tls = config.tls.http.mode == config::TlsMode::kPrefer ||
                      config.tls.http.mode == config::TlsMode::kRequire;
  if (!is_tls) return {from_here(config.listen.http), ""};
  // At the name that the certificate has, which others use, too.
  return {config.self().http, config.file_at(config.tls.http.ca)};
}

Result<void> take_endpoints(std::string_view list, std::string_view name,
                            std::vector<Address>& out) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    const std::string_view text = list.substr(0, comma);
    if (text.find("://") != std::string_view::npos) {
      return failure(
          ErrorKind::kUsage,
          fmt::format("{}: '{}' is a URL; must be host:port, such as 10.0.0.11:7301", name, text));
    }
    auto address = parse_address(text);
    if (!address && text.find(':') == std::string_view::npos) {
      return failure(ErrorKind::kUsage,
                     fmt::format("{}: '{}' has no port; the http port of a node is 7301 unless its "
                                 "configuration says otherwise",
                                 name, text));
    }
    if (!address) {
      return failure(ErrorKind::kUsage, fmt::format("{}: {}", name, address.error()));
    }
    out.push_back(*address);
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  if (out.size() > kMaxEndpoints) {
    return failure(ErrorKind::kUsage,
                   fmt::format("{}: must have at most {} addresses", name, kMaxEndpoints));
  }
  return {};
}

Result<Endpoints> find_endpoints(const char* variable, const std::string& directory) {
  Endpoints found;
  if (variable != nullptr && *variable != '\0') {
    auto taken = take_endpoints(variable, kEndpointsVariable, found.addresses);
    if (!taken) return failure(taken.error());
    found.origin = fmt::format("the addresses come from {}; {}", kEndpointsVariable, kOthers);
    return found;
  }
  std::string files;
  std::string unread;
  std::map<std::string, std::string> clusters;  // by name: a node of each
  std::error_code ec;
  const std::vector<std::string> configurations = configurations_in(directory, ec);
  if (ec == std::errc::permission_denied) {
    unread = fmt::format("{} is not readable for this user", directory);
  }
  for (const std::string& file : configurations) {
    config::LoadRequest request;
    request.file = file;
    auto loaded = config::load(request);
    if (!loaded) {
      const bool is_hidden = loaded.error().kind == ErrorKind::kPermission;
      unread += fmt::format("{}{} {}", unread.empty() ? "" : ", ", file,
                            is_hidden ? "is not readable for this user" : "is not valid");
      continue;
    }
    add_members(loaded->config, found);
    const LocalPort port = local_port(loaded->config);
    const Address& address = port.address;
    if (found.authorities.empty()) found.authorities = port.authorities;
    clusters.try_emplace(loaded->config.cluster.name, address.to_string());
    if (std::ranges::find(found.addresses, address) != found.addresses.end()) continue;
    if (found.addresses.size() == kMaxEndpoints) break;
    found.addresses.push_back(address);
    files += fmt::format("{}{}", files.empty() ? "" : ", ", file);
  }
  if (clusters.size() > 1) return failure(ErrorKind::kUsage, choose_text(clusters, directory));
  std::erase_if(found.members, [&](const Address& member) {
    return std::ranges::find(found.addresses, member) != found.addresses.end();
  });
  if (!found.addresses.empty()) {
    found.origin = fmt::format("{} from {}; {}",
                               found.addresses.size() == 1 ? "the address is" : "the addresses are",
                               files, kOthers);
    return found;
  }
  found.addresses = {kDefaultEndpoint};
  found.origin =
      unread.empty()
          ? fmt::format("the address is the default, because {} has no configuration; {}",
                        directory, kOthers)
          : fmt::format("the address is the default, because {}; {}", unread, kOthers);
  return found;
}

}  // namespace connectd::ctl

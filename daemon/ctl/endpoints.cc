#include "ctl/endpoints.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "config/load.h"

namespace connectd::ctl {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOthers = "set others with -e HOST:PORT";
const Address kDefaultEndpoint{"127.0.0.1", 7301};

std::vector<std::string> configurations_in(const std::string& directory) {
  std::vector<std::string> files;
  std::error_code ec;
  for (fs::directory_iterator at(directory, ec), end; !ec && at != end; at.increment(ec)) {
    const fs::path& path = at->path();
    if (path.extension() == ".yaml" || path.extension() == ".yml") files.push_back(path.string());
  }
  std::ranges::sort(files);
  return files;
}

// The address at which a node that listens at `address` is reached from its own machine.
Address from_here(Address address) {
  if (address.host == "0.0.0.0") address.host = "127.0.0.1";
  if (address.host == "::") address.host = "::1";
  return address;
}

}  // namespace

Result<void> take_endpoints(std::string_view list, std::string_view name,
                            std::vector<Address>& out) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    auto address = parse_address(list.substr(0, comma));
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
  for (const std::string& file : configurations_in(directory)) {
    config::LoadRequest request;
    request.file = file;
    auto loaded = config::load(request);
    if (!loaded) {
      const bool is_hidden = loaded.error().kind == ErrorKind::kPermission;
      unread += fmt::format("{}{} {}", unread.empty() ? "" : ", ", file,
                            is_hidden ? "is not readable for this user" : "is not valid");
      continue;
    }
    const Address address = from_here(loaded->config.listen.http);
    if (std::ranges::find(found.addresses, address) != found.addresses.end()) continue;
    if (found.addresses.size() == kMaxEndpoints) break;
    found.addresses.push_back(address);
    files += fmt::format("{}{}", files.empty() ? "" : ", ", file);
  }
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

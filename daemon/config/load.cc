#include "config/load.h"

#include <fmt/format.h>

#include <cerrno>
#include <fstream>
#include <utility>

#include "config/checks.h"
#include "config/document.h"
#include "config/options.h"
#include "config/values.h"

namespace connectd::config {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

Result<std::string> read_text(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) {
    int error = errno;
    ErrorKind kind = error == ENOENT                     ? ErrorKind::kNotFound
                     : error == EACCES || error == EPERM ? ErrorKind::kPermission
                                                         : ErrorKind::kBadConfig;
    std::string next =
        error == ENOENT ? "; `connectctl config reference` prints an example to start from" : "";
    return failure(
        kind, fmt::format("{}: error: cannot be opened: {}{}\n", file, errno_text(error), next));
  }
  std::string text(kMaxFileBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad() || (in.fail() && !in.eof())) {
    return failure(ErrorKind::kBadConfig, fmt::format("{}: error: cannot be read: {}\n", file,
                                                      errno_text(errno == 0 ? EISDIR : errno)));
  }
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMaxFileBytes) {
    return failure(ErrorKind::kBadConfig,
                   fmt::format("{}: error: is larger than {}\n", file, format_size(kMaxFileBytes)));
  }
  return text;
}

}  // namespace

std::string Loaded::source(std::string_view path) const {
  auto it = places.find(path);
  if (it == places.end()) return "default";
  const Place& place = it->second;
  if (place.kind == Place::Kind::kFile) return fmt::format("{}:{}", file, place.at.line);
  return place.label.substr(0, place.label.find(' '));
}

std::string Loaded::complain(std::string_view path, std::string text) const {
  Diagnostics diagnostics(file, source_text);
  auto it = places.find(path);
  diagnostics.error(it != places.end() ? it->second : Place{}, fmt::format("'{}': {}", path, text));
  return diagnostics.render();
}

Result<Loaded> load(const LoadRequest& request) {
  for (const std::string& set : request.sets) {
    if (set.find('=') == std::string::npos || set.starts_with('=')) {
      return failure(ErrorKind::kUsage,
                     fmt::format("--set {}: error: must be section.key=value\n", set));
    }
  }
  std::string text;
  if (request.file) {
    Result<std::string> read = read_text(*request.file);
    if (!read) return failure(read.error());
    text = std::move(*read);
  }
  Draft draft(request.file.value_or(""), text);
  set_defaults(draft);
  if (!request.file || read_document(draft, text)) {
    apply_overrides(draft, request);
    complete(draft, request);
    check(draft, request);
  }
  if (draft.diagnostics.errors() > 0) {
    return failure(ErrorKind::kBadConfig, draft.diagnostics.render());
  }
  Loaded loaded;
  loaded.config = std::move(draft.config);
  loaded.warnings = draft.diagnostics.render();
  loaded.places = std::move(draft.places);
  loaded.file = draft.diagnostics.file();
  loaded.source_text = std::move(text);
  return loaded;
}

Result<Reloaded> reload(const LoadRequest& request, const Config& running) {
  Result<Loaded> loaded = load(request);
  if (!loaded) return failure(loaded.error());
  Reloaded result;
  result.config = running;
  for (const Difference& difference : differences(running, loaded->config)) {
    const Option& option = *difference.option;
    std::string text =
        fmt::format("{}: {} -> {}", option.path, difference.before, difference.after);
    if (option.live) {
      copy_value(option, loaded->config, result.config);
      result.applied.push_back(std::move(text));
    } else if (option.cluster_setting) {
      result.of_cluster.push_back(fmt::format(
          "{}; the cluster's value applies. To change it: connectctl settings set {} {}", text,
          option.path, difference.after));
    } else {
      result.need_restart.push_back(std::move(text));
    }
  }
  return result;
}

}  // namespace connectd::config

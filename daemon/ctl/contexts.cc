#include "ctl/contexts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <vector>

#include "auth/private_file.h"
#include "config/yaml.h"

namespace connectd::ctl {
namespace {

namespace fs = std::filesystem;
using config::YamlEntry;
using config::YamlNode;

constexpr std::array<std::string_view, 7> kKeys = {"endpoint", "cacert",     "cert",   "key",
                                                   "token",    "token-file", "timeout"};
constexpr std::array<std::string_view, 4> kPathKeys = {"cacert", "cert", "key", "token-file"};

// Reads all contexts, so that a mistake is found when it is made and not when it is needed.
class Reader final {
 public:
  explicit Reader(std::string path) : path_(std::move(path)) {}

  Result<void> read(const std::string& text) {
    const config::YamlDocument document = config::parse_yaml(text);
    for (const config::YamlProblem& problem : document.problems) wrong(problem.at, problem.text);
    if (document.problems.empty()) read_root(document.root);
    if (problems_.empty()) return {};
    return failure(ErrorKind::kBadConfig, fmt::format("{}", fmt::join(problems_, "\n")));
  }
  const std::map<std::string, ContextOptions>& contexts() const { return contexts_; }
  const std::optional<std::string>& default_name() const { return default_; }

 private:
  void wrong(config::Position at, std::string_view text) {
    problems_.push_back(fmt::format("{}:{}: {}", path_, at.line, text));
  }

  void read_root(const YamlNode& root) {
    if (root.kind == YamlNode::Kind::kNull) return;  // an empty file
    if (root.kind != YamlNode::Kind::kMap) {
      return wrong(root.at, "must have the keys contexts and, if one is the usual one, default");
    }
    for (const YamlEntry& entry : root.entries) {
      if (entry.key.text == "default" && default_) {
        wrong(entry.key.at, "default: given twice");
      } else if (entry.key.text == "default" && entry.value.kind == YamlNode::Kind::kScalar) {
        default_ = entry.value.text;
        default_at_ = entry.value.at;
      } else if (entry.key.text == "contexts" && entry.value.kind == YamlNode::Kind::kMap) {
        for (const YamlEntry& context : entry.value.entries) read_one(context);
      } else {
        wrong(entry.key.at, "must be `default: NAME` or `contexts:` with a map of contexts");
      }
    }
    if (default_ && !contexts_.contains(*default_)) {
      wrong(default_at_, "default: there is no context of this name");
    }
  }

  void read_one(const YamlEntry& entry) {
    auto [at, fresh] = contexts_.try_emplace(entry.key.text);
    if (!fresh) return wrong(entry.key.at, "another context has this name");
    if (entry.value.kind != YamlNode::Kind::kMap) {
      return wrong(entry.key.at, "a context is a map of options");
    }
    for (const YamlEntry& option : entry.value.entries) {
      const std::string& key = option.key.text;
      if (std::ranges::find(kKeys, key) == kKeys.end()) {
        wrong(option.key.at, fmt::format("unknown; must be one of {}", fmt::join(kKeys, ", ")));
      } else if (option.value.kind != YamlNode::Kind::kScalar || option.value.text.empty()) {
        wrong(option.key.at, fmt::format("{}: needs a value", key));
      } else if (!at->second.emplace(key, value_of(key, option.value.text)).second) {
        wrong(option.key.at, fmt::format("{}: given twice", key));
      }
    }
    if (at->second.contains("token") && at->second.contains("token-file")) {
      wrong(entry.key.at, "token and token-file exclude each other");
    }
  }

  std::string value_of(const std::string& key, const std::string& text) const {
    if (std::ranges::find(kPathKeys, key) == kPathKeys.end()) return text;
    return (fs::path(path_).parent_path() / text).string();
  }

  const std::string path_;
  std::vector<std::string> problems_;
  std::map<std::string, ContextOptions> contexts_;
  std::optional<std::string> default_;
  config::Position default_at_;
};

}  // namespace

std::string contexts_path() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  if (std::string path = variable(kContextsVariable); !path.empty()) return path;
  if (const std::string base = variable("XDG_CONFIG_HOME"); base.starts_with('/')) {
    return base + "/connectctl/contexts.yaml";
  }
  const std::string home = variable("HOME");
  return home.empty() ? "" : home + "/.config/connectctl/contexts.yaml";
}

Result<ContextOptions> read_context(const std::string& path,
                                    const std::optional<std::string>& name) {
  // As another user with this home directory: the file is not meant for it.
  if (!name && ::access(path.c_str(), R_OK) != 0) return ContextOptions();
  auto content = path.empty() ? failure(ErrorKind::kNotFound, "no home directory is known")
                              : auth::read_private_file(path, kMaxContextsFile);
  if (!content) return tl::unexpected(content.error());
  Reader reader(path);
  if (auto read = reader.read(*content); !read) return tl::unexpected(read.error());
  if (!name && !reader.default_name()) return ContextOptions();
  const auto found = reader.contexts().find(name ? *name : *reader.default_name());
  if (found != reader.contexts().end()) return found->second;
  std::vector<std::string_view> names;
  for (const auto& [each, options] : reader.contexts()) names.push_back(each);
  return failure(ErrorKind::kUsage, fmt::format("{} has no context '{}'; it has: {}", path, *name,
                                                fmt::join(names, ", ")));
}

}  // namespace connectd::ctl

#include "plugin/plugin.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "plugin/call.h"
#include "plugin/file.h"

namespace connectd::plugin {
namespace {

constexpr const char* kSymbol = "connectd_plugin_v1";
constexpr uint64_t kDemandBits = 0xffffffffu;
constexpr uint64_t kKnownDemands = 0;  // none is defined yet
constexpr size_t kMaxName = 64;

std::string abi_text(uint32_t abi) { return fmt::format("{}.{}", abi >> 16, abi & 0xffff); }

std::string our_version() {
  return fmt::format("connectd {} (plugin ABI {})", CONNECTD_VERSION, abi_text(CONNECTD_ABI));
}

tl::unexpected<Error> invalid(const std::string& path, std::string_view why) {
  return failure(ErrorKind::kBadPlugin, fmt::format("plugin file {}: {}", path, why));
}

bool is_name(const char* name) {
  if (name == nullptr) return false;
  size_t length = ::strnlen(name, kMaxName + 1);
  if (length == 0 || length > kMaxName) return false;
  return std::all_of(name, name + length, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  });
}

bool is_version_text(const char* version) {
  if (version == nullptr) return false;
  size_t length = ::strnlen(version, kMaxVersionText + 1);
  return length > 0 && length <= kMaxVersionText &&
         std::all_of(version, version + length, [](char c) { return c > ' ' && c < 0x7f; });
}

std::string bit_list(uint64_t bits) {
  std::string list;
  for (int bit = 0; bit < 64; ++bit) {
    if ((bits >> bit & 1) == 0) continue;
    list += fmt::format("{}{}", list.empty() ? "" : ", ", bit);
  }
  return list;
}

bool cannot_map(const std::string& dlerror_text) {
  return dlerror_text.find("failed to map segment") != std::string::npos;
}

std::string hint(const std::string& dlerror_text, bool is_pinned) {
  if (cannot_map(dlerror_text)) return std::string(kNoExecuteHint);
  if (dlerror_text.find("undefined symbol") != std::string::npos) {
    return "; link the plugin with the library that has the symbol (-Wl,-z,defs finds this when "
           "the plugin is built)";
  }
  if (dlerror_text.find("cannot open shared object file") != std::string::npos) {
    return fmt::format("; install the missing library ('ldd' lists them){}",
                       is_pinned ? "; a search path with $ORIGIN has no effect in a plugin that "
                                   "plugin.sha256 pins"
                                 : "");
  }
  if (dlerror_text.find("static TLS block") != std::string::npos) {
    return "; the plugin, or a library that it needs, has more thread-local data in the static "
           "block than is left there. Build it without -ftls-model=initial-exec, or start connectd "
           "with more room: GLIBC_TUNABLES=glibc.rtld.optional_static_tls=16384 in its environment "
           "(Environment= in a drop-in, systemctl edit)";
  }
  return "";
}

// The dynamic loader, and all who ask it (dladdr(), debuggers, sanitizers), know the library by the
// path it was opened by. From here on it is the file's, as if that had been mapped.
void name_by_file(void* library, const std::string& path) {
  link_map* map = nullptr;
  if (::dlinfo(library, RTLD_DI_LINKMAP, &map) != 0 || map == nullptr) return;
  // Never freed, as the library is never closed. Neither is the old name, which others may have.
  map->l_name = ::strdup(path.c_str());
}

Result<void*> open_library(PluginFile& file, bool is_pinned) {
  constexpr int kFlags = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE;
  const std::string& path = file.loaded.path;
  const bool is_copy = file.load_path != path;
  void* library = ::dlopen(file.load_path.c_str(), kFlags);
  auto reason = [] {
    const char* text = ::dlerror();
    return std::string(text != nullptr ? text : "no reason given");
  };
  std::string why = library == nullptr ? reason() : "";
  if (library == nullptr && is_copy && !is_pinned && cannot_map(why)) {
    // A security module may forbid it for memory alone. Nothing of the plugin has run.
    file.loaded.warnings.push_back(
        map_warning(path, "its copy in memory cannot be mapped as code"));
    library = ::dlopen(path.c_str(), kFlags);
    if (library == nullptr) why = reason();
  } else if (library != nullptr && is_copy) {
    name_by_file(library, path);
  }
  if (library != nullptr) return library;
  for (size_t at = 0; is_copy && (at = why.find(file.load_path, at)) != why.npos;) {
    why.replace(at, file.load_path.size(), path);
    at += path.size();
  }
  return invalid(path, fmt::format("cannot be loaded: {}{}", why, hint(why, is_pinned)));
}

}  // namespace

Result<std::shared_ptr<const Plugin>> Plugin::load(const LoadOptions& options) {
  auto file = open_plugin_file(options);
  if (!file) return failure(file.error());
  const std::string path = file->loaded.path;
  // Constructors of the file's static objects run in here.
  std::string name = std::filesystem::path(path).filename().string();
  CallScope call(name.c_str(), "", "load");
  auto library = open_library(*file, !options.sha256.empty());
  if (!library) return failure(library.error());
  void* symbol = ::dlsym(*library, kSymbol);
  if (symbol == nullptr) {
    if (::dlsym(*library, "connectd_plugin_v2") != nullptr) {
      return failure(ErrorKind::kMismatch,
                     fmt::format("plugin file {}: is built for plugin ABI 2 only, this is {}; "
                                 "upgrade connectd, or build the plugin against this one's SDK",
                                 path, our_version()));
    }
    return invalid(path, fmt::format("is not a connectd plugin: missing symbol {}; export it (see "
                                     "docs/plugin-guide.md); this is {}",
                                     kSymbol, our_version()));
  }
  auto entry = reinterpret_cast<const connectd_plugin* (*)()>(symbol);
  return check(entry(), std::move(file->loaded));
}

Result<std::shared_ptr<const Plugin>> Plugin::wrap(const connectd_plugin* table) {
  return check(table, LoadedFile{"(built in)", {}, {}, {}});
}

Result<std::shared_ptr<const Plugin>> Plugin::check(const connectd_plugin* table, LoadedFile file) {
  const std::string& path = file.path;
  if (table == nullptr) return invalid(path, fmt::format("{}() returned nothing", kSymbol));
  // size and abi are where they are in every major; nothing else is read before they are right.
  if (table->abi >> 16 != CONNECTD_ABI_MAJOR) {
    return failure(ErrorKind::kMismatch,
                   fmt::format("plugin file {}: is built for plugin ABI {}, this is {}; {}", path,
                               abi_text(table->abi), our_version(),
                               table->abi >> 16 > CONNECTD_ABI_MAJOR
                                   ? "upgrade connectd, or build the plugin against this one's SDK"
                                   : "build the plugin against this connectd's SDK"));
  }
  if (table->size < sizeof(connectd_plugin)) {
    return invalid(path, fmt::format("its table has {} bytes, plugin ABI {} needs {}; build it "
                                     "again with connect/plugin.h, and set size by "
                                     "CONNECTD_PLUGIN_HEAD",
                                     table->size, abi_text(table->abi), sizeof(connectd_plugin)));
  }
  if (!is_name(table->name)) {
    return invalid(path, fmt::format("its name is not 1 to {} of the characters a-z 0-9 . _ -; "
                                     "correct CONNECTD_PLUGIN_HEAD",
                                     kMaxName));
  }
  std::string who = fmt::format("plugin '{}' ", table->name);
  if (!is_version_text(table->version)) {
    return invalid(path, who + fmt::format("has no version text of 1 to {} visible ASCII "
                                           "characters; correct CONNECTD_PLUGIN_HEAD",
                                           kMaxVersionText));
  }
  who = fmt::format("plugin '{} {}' ", table->name, table->version);
  if (table->level_min == 0 || table->level_min > table->level_max) {
    return invalid(path, who + fmt::format("supports no behaviour level: level_min {}, level_max "
                                           "{}; levels count from 1, and level_min must not be "
                                           "above level_max",
                                           table->level_min, table->level_max));
  }
  if (uint64_t unknown = table->flags & kDemandBits & ~kKnownDemands; unknown != 0) {
    return invalid(path,
                   who + fmt::format("requires unknown features (flag bits {}; its ABI is {}, this "
                                     "is {}); upgrade connectd, or build the plugin without them",
                                     bit_list(unknown), abi_text(table->abi), our_version()));
  }
  if (table->framing > CONNECTD_FRAMING_LENGTH) {
    return invalid(path,
                   who + fmt::format("has framing {}; must be 0 (line), 1 (RESP) or 2 (length)",
                                     table->framing));
  }
  const std::pair<bool, const char*> required[] = {{table->create != nullptr, "create"},
                                                   {table->destroy != nullptr, "destroy"},
                                                   {table->apply != nullptr, "apply"},
                                                   {table->snapshot != nullptr, "snapshot"},
                                                   {table->restore != nullptr, "restore"}};
  for (auto [present, function] : required) {
    if (!present) {
      return invalid(path, who + fmt::format("is missing function {}; every plugin requires "
                                             "create, destroy, apply, snapshot and restore",
                                             function));
    }
  }
  if ((table->classify == nullptr) != (table->read == nullptr)) {
    return invalid(path, who + fmt::format("has a function {} but not {}; set both, or neither "
                                           "(then every request is a write)",
                                           table->classify != nullptr ? "classify" : "read",
                                           table->classify != nullptr ? "read" : "classify"));
  }
  const connectd_ext_timers* timers = nullptr;
  const connectd_ext_snapshot_view* views = nullptr;
  if (table->get_extension != nullptr) {
    CallScope call(table->name, table->version, "get_extension");
    timers = static_cast<const connectd_ext_timers*>(table->get_extension(CONNECTD_EXT_TIMERS));
    views = static_cast<const connectd_ext_snapshot_view*>(
        table->get_extension(CONNECTD_EXT_SNAPSHOT_VIEW));
  }
  if (timers != nullptr && (timers->size < sizeof(connectd_ext_timers) ||
                            timers->next_deadline == nullptr || timers->on_tick == nullptr)) {
    return invalid(
        path, who + fmt::format("has an incomplete table for {}: it has {} bytes and must have {}, "
                                "with both functions",
                                CONNECTD_EXT_TIMERS, timers->size, sizeof(connectd_ext_timers)));
  }
  if (views != nullptr &&
      (views->size < sizeof(connectd_ext_snapshot_view) || views->begin == nullptr ||
       views->save == nullptr || views->end == nullptr)) {
    return invalid(path, who + fmt::format("has an incomplete table for {}: it has {} bytes and "
                                           "must have {}, with begin, save and end",
                                           CONNECTD_EXT_SNAPSHOT_VIEW, views->size,
                                           sizeof(connectd_ext_snapshot_view)));
  }
  return std::shared_ptr<const Plugin>(new Plugin(table, timers, views, std::move(file)));
}

}  // namespace connectd::plugin

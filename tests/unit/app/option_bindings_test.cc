// Every option of the table, once more for everyone: it arrives where it is used.
#include "app/option_bindings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "config/load.h"
#include "config/options.h"
#include "config/values.h"
#include "node/membership/settings.h"

namespace connectd::app {
namespace {

using config::Option;
using config::Type;

config::Config defaults() {
  auto loaded = config::load({});
  EXPECT_TRUE(loaded) << loaded.error().text;
  return loaded->config;
}

// Values to try for an option, as they would be written.
std::vector<std::string> other_values(const Option& option) {
  std::vector<std::string> values;
  switch (option.type) {
    case Type::kBool:
      return {"true", "false"};
    case Type::kChoice:
      for (std::string_view choice : option.choices) values.emplace_back(choice);
      return values;
    case Type::kAddress:
      return {"127.0.0.1:9999"};
    case Type::kText:
      return {"other"};
    case Type::kTextList:
      return {option.pattern == "host" ? "[other]" : "[/other]"};
    case Type::kTextMap:
      return {"{key: value}"};
    case Type::kMembers:
      return {"[{id: 1, peer: \"a:1\", client: \"a:2\", http: \"a:3\"}]"};
    case Type::kInteger:
      return {std::string(option.min), "50", std::string(option.max)};
    case Type::kDuration: {
      auto given = config::parse_duration(option.default_text);
      if (given)
        values = {config::format_duration(2 * *given), config::format_duration(*given / 2)};
      break;
    }
    case Type::kSize: {
      auto given = config::parse_size(option.default_text);
      if (given) values = {config::format_size(2 * *given), config::format_size(*given / 2)};
      break;
    }
  }
  values.emplace_back(option.min);
  values.emplace_back(option.max);
  return values;
}

// A configuration that differs in this option.
config::Config with_other(const Option& option) {
  const std::string before = config::format_value(option, defaults());
  for (const std::string& value : other_values(option)) {
    config::LoadRequest request;
    request.sets = {std::string(option.path) + "=" + value};
    // It needs the quorum to be checked, which is no matter here.
    auto loaded = config::load(request);
    if (loaded && config::format_value(option, loaded->config) != before) return loaded->config;
  }
  ADD_FAILURE() << "no other value for " << option.path;
  return defaults();
}

// Options that are used without a copy, and their users.
struct UsedDirectly {
  std::string_view path;
  std::string_view by;
};
constexpr UsedDirectly kUsedDirectly[] = {
    {"node.name", "StatusMaker"},
    {"node.data_dir", "Daemon"},
    {"cluster.id", "bootstrap_options, open_data_directory"},
    {"cluster.members", "bootstrap_options, node_options, peer_addresses"},
    {"listen.peer", "Daemon"},
    {"listen.client", "Daemon"},
    {"admin.local", "read_own_files"},
    {"auth.tokens", "read_own_files"},
    {"auth.certificates", "read_own_files"},
    {"auth.anonymous", "read_own_files"},
    {"plugin.path", "main"},
    {"plugin.dirs", "main"},
    {"plugin.sha256", "main"},
    {"plugin.allow_writable", "main"},
    {"tls.peer.mode", "read_own_files"},
    {"tls.peer.cert", "read_own_files"},
    {"tls.peer.key", "read_own_files"},
    {"tls.peer.ca", "read_own_files"},
    {"tls.peer.crl", "read_own_files"},
    {"tls.client.mode", "read_own_files"},
    {"tls.client.cert", "read_own_files"},
    {"tls.client.key", "read_own_files"},
    {"tls.client.ca", "read_own_files"},
    {"tls.client.crl", "read_own_files"},
    {"tls.http.mode", "read_own_files"},
    {"tls.http.cert", "read_own_files"},
    {"tls.http.key", "read_own_files"},
    {"tls.http.ca", "read_own_files"},
    {"tls.http.crl", "read_own_files"},
    {"tls.crl_stale", "read_own_files"},
    {"log.level", "live_options"},
    {"log.format", "live_options"},
    {"shutdown.transfer_timeout", "Daemon"},
    {"shutdown.drain_timeout", "Daemon"},
};

bool is_used_directly(std::string_view path) {
  return std::ranges::any_of(kUsedDirectly,
                             [&](const UsedDirectly& used) { return used.path == path; });
}

TEST(OptionBindings, EveryOptionArrivesWhereItIsUsed) {
  const ProcessOptions standard = set_up(defaults());
  for (const Option& option : config::options()) {
    size_t rows = 0;
    for (const Binding& binding : bindings()) {
      if (binding.path != option.path) continue;
      ++rows;
      // node.id needs a list of members with it.
      config::Config changed = defaults();
      if (option.path == "node.id") {
        changed.node.id = NodeId(7);
      } else {
        changed = with_other(option);
      }
      const size_t row = static_cast<size_t>(&binding - bindings().data());
      if (binding.shown(set_up(changed)) == binding.shown(standard)) {
        // Two sizes may lead to the same number of entries that trail; one of them must not.
        changed.snapshot.log_min = 4096;
      }
      EXPECT_NE(binding.shown(set_up(changed)), binding.shown(standard))
          << option.path << ", row " << row;
    }
    EXPECT_NE(rows > 0, is_used_directly(option.path))
        << option.path << " needs a row in kBindings, or one in kUsedDirectly";
  }
}

TEST(OptionBindings, RowsNameOptionsThatExist) {
  for (const Binding& binding : bindings()) {
    EXPECT_NE(config::find_option(binding.path), nullptr) << binding.path;
  }
  for (const UsedDirectly& used : kUsedDirectly) {
    EXPECT_NE(config::find_option(used.path), nullptr) << used.path;
  }
}

// The parts have defaults of their own, which tests and the simulator use. They are the table's.
TEST(OptionBindings, DefaultsAreThoseOfTheTable) {
  // Off, or none, by default.
  const std::set<std::string_view> neutral = {"node.id",
                                              "cluster.name",
                                              "listen.http",
                                              "client.max_request",
                                              "plugin.compare_interval",
                                              "storage.min_free_disk",

                                              "snapshot.fork_memory"};
  const ProcessOptions bare;
  const ProcessOptions standard = set_up(defaults());
  for (const Binding& binding : bindings()) {
    if (neutral.contains(binding.path)) continue;
    EXPECT_EQ(binding.shown(bare), binding.shown(standard)) << binding.path;
  }
}

TEST(OptionBindings, EveryLiveOptionIsApplied) {
  std::set<std::string_view> live;
  for (const Option& option : config::options()) {
    if (option.live) live.insert(option.path);
  }
  std::set<std::string_view> applied;
  for (const LiveOption& option : live_options()) applied.insert(option.path);
  EXPECT_EQ(applied, live);

  config::Config changed = defaults();
  changed.log.level = LogLevel::kError;
  apply_live_options(changed, nullptr);
  EXPECT_FALSE(log_enabled(LogLevel::kWarning));
  apply_live_options(defaults(), nullptr);
  EXPECT_TRUE(log_enabled(LogLevel::kInfo));
}

TEST(OptionBindings, EveryClusterSettingIsTheClusters) {
  // Those that `connectctl settings set` takes.
  std::set<std::string> cluster;
  for (const node::Setting& setting : node::list_settings({})) cluster.insert(setting.key);
  cluster.erase("cluster.feature_level");  // raised by a command only, never by a file
  std::set<std::string> table;
  std::set<std::string> founding;
  for (const Option& option : config::options()) {
    if (option.cluster_setting) table.emplace(option.path);
    if (option.at_formation) founding.emplace(option.path);
  }
  EXPECT_EQ(table, cluster);
  // Part of the genesis, and never changed after it.
  EXPECT_EQ(founding,
            (std::set<std::string>{"cluster.members", "plugin.options", "client.max_request"}));
}

}  // namespace
}  // namespace connectd::app

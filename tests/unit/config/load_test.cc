#include "config/load.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/limits.h"
#include "config/options.h"
#include "config/reference.h"
#include "config/values.h"
#include "config/yaml.h"
#include "tests/paths.h"

namespace connectd::config {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

const std::string kSource = CONNECTD_SOURCE_DIR;

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// A file that is removed at the end of the test.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text) {
    path_ = std::filesystem::temp_directory_path() /
            ("connectd-config-test-" + std::to_string(getpid()) + "-" + std::to_string(++counter_) +
             ".yaml");
    std::ofstream(path_, std::ios::binary) << text;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  static inline int counter_ = 0;
  std::filesystem::path path_;
};

const char kGood[] =
    "node: {id: 1, data_dir: data}\n"
    "cluster:\n"
    "  members: [{id: 1, peer: \"a:1\", client: \"a:2\", http: \"a:3\"}]\n";

Result<Loaded> load_text(const std::string& text, std::vector<std::string> sets = {}) {
  TemporaryFile file(text);
  LoadRequest request;
  request.file = file.path();
  request.sets = std::move(sets);
  return load(request);
}

TEST(Load, WithoutAFileOneNodeOnLoopback) {
  Result<Loaded> loaded = load({});
  ASSERT_TRUE(loaded) << loaded.error().text;
  const Config& c = loaded->config;
  EXPECT_EQ(c.node.id, NodeId(1));
  EXPECT_EQ(c.node.name, "n1");
  EXPECT_EQ(c.node.data_dir, "./connectd-data");
  ASSERT_EQ(c.cluster.members.size(), 1u);
  EXPECT_EQ(c.listen.peer.to_string(), "127.0.0.1:7101");
  EXPECT_EQ(c.listen.client.to_string(), "127.0.0.1:7201");
  EXPECT_EQ(c.listen.http.to_string(), "127.0.0.1:7301");
  EXPECT_EQ(c.plugin.compare_interval, Duration(1h));
  EXPECT_EQ(c.raft.tick, Duration(10ms));
  EXPECT_EQ(c.raft.heartbeat_interval, Duration(50ms));
  EXPECT_EQ(c.raft.election_timeout, Duration(500ms));
  EXPECT_TRUE(c.raft.pre_vote);
  EXPECT_TRUE(c.raft.check_quorum);
  EXPECT_EQ(c.storage.segment_size, 64u << 20);
  EXPECT_EQ(c.storage.sync, SyncMode::kAlways);
  EXPECT_EQ(c.snapshot.keep, 2u);
  EXPECT_EQ(c.client.request_timeout, Duration(5s));
  EXPECT_EQ(c.client.max_request, 2u << 20);
  EXPECT_EQ(c.log.level, LogLevel::kInfo);
  EXPECT_EQ(c.shutdown.drain_timeout, Duration(10s));
  EXPECT_EQ(loaded->warnings, "");
  EXPECT_EQ(loaded->source("raft.tick"), "default");
}

TEST(Load, PluginIsNeededWhereItIsLoaded) {
  LoadRequest request;
  request.need_plugin = true;
  Result<Loaded> loaded = load(request);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().kind, ErrorKind::kBadConfig);
  EXPECT_THAT(loaded.error().text, HasSubstr("pass --plugin FILE"));
  request.plugin = "libcounter.so";
  loaded = load(request);
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(loaded->config.plugin.path, "libcounter.so");
  EXPECT_EQ(loaded->config.plugin.base_dir, ".");
  EXPECT_EQ(loaded->source("plugin.path"), "--plugin");
}

TEST(Load, EveryFileInConfLoadsWithoutWarnings) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kSource + "/conf")) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    LoadRequest request;
    request.file = entry.path().string();
    request.plugin = "libcounter.so";
    request.need_plugin = true;
    Result<Loaded> loaded = load(request);
    ASSERT_TRUE(loaded) << loaded.error().text;
    EXPECT_EQ(loaded->warnings, "");
  }
  EXPECT_GE(count, 4);
}

TEST(Load, ThreeNodesShareAllButTheNode) {
  std::vector<Config> configs;
  for (std::string id : {"1", "2", "3"}) {
    LoadRequest request;
    request.file = kSource + "/conf/node" + id + ".yaml";
    Result<Loaded> loaded = load(request);
    ASSERT_TRUE(loaded) << loaded.error().text;
    EXPECT_EQ(loaded->config.node.data_dir, "./connectd-data/" + id);
    EXPECT_EQ(loaded->config.listen.client.to_string(), "127.0.0.1:720" + id);
    configs.push_back(loaded->config);
  }
  for (size_t i = 1; i < configs.size(); ++i) {
    for (const Difference& difference : differences(configs[0], configs[i])) {
      EXPECT_THAT(difference.option->section(), ::testing::AnyOf("node", "listen"));
    }
  }
}

TEST(Load, OverridesWinAndSayWhoTheyAre) {
  TemporaryFile file(std::string(kGood) + "raft: {tick: 20ms}\nplugin: {options: {a: x}}\n");
  LoadRequest request;
  request.file = file.path();
  request.sets = {"raft.tick=5ms",        "raft.tick=6ms",        "plugin.options.a=y",
                  "plugin.options.b.c=0", "plugin.dirs=[/p, /q]", "storage.sync=always",
                  "listen.http=0.0.0.0:9"};
  request.data_dir = "/elsewhere";
  Result<Loaded> loaded = load(request);
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(loaded->config.raft.tick, Duration(6ms));
  EXPECT_EQ(loaded->config.node.data_dir, "/elsewhere");
  EXPECT_EQ(loaded->config.plugin.options,
            (std::map<std::string, std::string>{{"a", "y"}, {"b.c", "0"}}));
  EXPECT_EQ(loaded->config.plugin.dirs, (std::vector<std::string>{"/p", "/q"}));
  EXPECT_EQ(loaded->config.listen.http.to_string(), "0.0.0.0:9");
  EXPECT_EQ(loaded->config.listen.peer.to_string(), "a:1");
  EXPECT_EQ(loaded->source("raft.tick"), "--set");
  EXPECT_EQ(loaded->source("node.data_dir"), "--data-dir");
  EXPECT_EQ(loaded->source("node.id"), file.path() + ":1");
  EXPECT_EQ(loaded->source("cluster.members"), file.path() + ":3");
}

TEST(Load, ErrorsOfOverridesAreAtTheOverride) {
  LoadRequest request;
  request.sets = {"raft.tick=10", "raft.tik=10ms",  "rift.tick=1ms",    "raft=1",
                  "tls.peer=x",   "plugin.dirs=[a", "snapshot.keep=010"};
  request.node = "zero";
  Result<Loaded> loaded = load(request);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().kind, ErrorKind::kBadConfig);
  for (const char* line :
       {"--set raft.tick=10: error: 'raft.tick': '10' has no unit; append one of",
        "--set raft.tik=10ms: error: unknown key 'raft.tik'; did you mean 'tick'?",
        "--set rift.tick=1ms: error: unknown key 'rift'; did you mean 'raft'?",
        "--set raft=1: error: 'raft' must be section.key",
        "--set tls.peer=x: error: 'tls.peer' is a map of keys; 'tls' has peer.mode",
        "--set plugin.dirs=[a: error: not YAML",
        "--set snapshot.keep=010: error: 'snapshot.keep': '010' has a leading zero",
        "--node zero: error: 'node.id': 'zero' is not a whole number", "connectd: 8 errors.\n"}) {
    EXPECT_THAT(loaded.error().text, HasSubstr(line));
  }
}

TEST(Load, SetWithoutEqualsIsUsage) {
  LoadRequest request;
  request.sets = {"raft.tick"};
  Result<Loaded> loaded = load(request);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().kind, ErrorKind::kUsage);
}

TEST(Load, OneFileServesAllNodes) {
  LoadRequest request;
  request.file = kSource + "/conf/node1.yaml";
  request.node = "3";
  request.data_dir = "three";
  Result<Loaded> loaded = load(request);
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(loaded->config.self().id, NodeId(3));
  EXPECT_EQ(loaded->config.node.name, "n3");
  EXPECT_EQ(loaded->config.listen.peer.to_string(), "127.0.0.1:7103");
  request.node = "9";
  loaded = load(request);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(
      loaded.error().text,
      HasSubstr(
          "--node 9: error: 'node.id': 9 is not one of the ids in 'cluster.members' (1, 2, 3)"));
}

TEST(Load, RelativePluginIsRelativeToTheFile) {
  TemporaryFile file(std::string(kGood) + "plugin: {path: libcounter.so}\n");
  LoadRequest request;
  request.file = file.path();
  Result<Loaded> loaded = load(request);
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(loaded->config.plugin.base_dir,
            std::filesystem::path(file.path()).parent_path().string());
  EXPECT_EQ(loaded->complain("plugin.path", "no such file"),
            file.path() +
                ":4:16: error: 'plugin.path': no such file\n"
                "    4 | plugin: {path: libcounter.so}\n"
                "      |                ^~~~~~~~~~~~~\n" +
                file.path() + ": 1 error.\n");
}

TEST(Load, RelativeFilesAreRelativeToTheFile) {
  TemporaryFile file(kGood);
  LoadRequest request;
  request.file = file.path();
  Result<Loaded> loaded = load(request);
  ASSERT_TRUE(loaded) << loaded.error().text;
  const std::string directory = std::filesystem::path(file.path()).parent_path().string();
  EXPECT_EQ(loaded->config.file_at("tls/node.pem"), directory + "/tls/node.pem");
  EXPECT_EQ(loaded->config.file_at("/etc/node.pem"), "/etc/node.pem");
  EXPECT_EQ(loaded->config.file_at(""), "");
  request.file.reset();
  loaded = load(request);
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(loaded->config.file_at("node.pem"), "./node.pem");
}

TEST(Load, PluginOptionsAreFlattenedTexts) {
  Result<Loaded> loaded = load_text(std::string(kGood) +
                                    "plugin:\n  options:\n    start: \"010\"\n    a: {b: {c: 1}, "
                                    "d: true}\n    empty: \"\"\n    real: 1.50\n");
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(
      loaded->config.plugin.options,
      (std::map<std::string, std::string>{
          {"start", "010"}, {"a.b.c", "1"}, {"a.d", "true"}, {"empty", ""}, {"real", "1.50"}}));
}

TEST(Load, WarningsDoNotRefuse) {
  Result<Loaded> loaded = load_text(
      "node: {id: 1, data_dir: data}\n"
      "cluster:\n"
      "  members:\n"
      "    - {id: 1, peer: \"127.0.0.1:1\", client: \"127.0.0.1:2\", http: \"127.0.0.1:3\"}\n"
      "    - {id: 2, peer: \"b:1\", client: \"b:2\", http: \"b:3\"}\n"
      "storage: {sync: none}\n"
      "client: {request_timeout: 500ms}\n");
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(loaded->config.storage.sync, SyncMode::kNone);
  for (const char* text : {"2 members tolerate 0 failures, as 1 would", "loopback addresses",
                           "none is for experiments", "shorter than an election can take"}) {
    EXPECT_THAT(loaded->warnings, HasSubstr(text));
  }
}

// A value that is left out is an error: tests/unit/config/broken/blank-cluster-id.yaml.
TEST(Load, NullThatIsWrittenOutIsNone) {
  for (const char* byte_order_mark : {"", "\xEF\xBB\xBF"}) {
    for (const char* none : {"null", "~", "Null # none"}) {
      auto loaded = load_text(
          fmt::format("{}node: {{id: 1, data_dir: data}}\ncluster:\n  id: {}\n"
                      "  members: [{{id: 1, peer: \"a:1\", client: \"a:2\", http: \"a:3\"}}]\n",
                      byte_order_mark, none));
      ASSERT_TRUE(loaded) << none << loaded.error().text;
      EXPECT_EQ(loaded->config.cluster.id, "");
    }
  }
}

TEST(Reload, AppliesTheLiveKeysAndNamesTheOthers) {
  Config running = load({})->config;
  LoadRequest request;
  request.sets = {"log.level=debug", "shutdown.drain_timeout=7s", "raft.tick=7ms",
                  "raft.lease_reads=true"};
  Result<Reloaded> reloaded = reload(request, running);
  ASSERT_TRUE(reloaded) << reloaded.error().text;
  EXPECT_EQ(reloaded->config.log.level, LogLevel::kDebug);
  EXPECT_EQ(reloaded->config.shutdown.drain_timeout, Duration(7s));
  EXPECT_EQ(reloaded->config.raft.tick, running.raft.tick);
  EXPECT_EQ(reloaded->applied, (std::vector<std::string>{"log.level: info -> debug",
                                                         "shutdown.drain_timeout: 10s -> 7s"}));
  EXPECT_EQ(reloaded->need_restart, (std::vector<std::string>{"raft.tick: 10ms -> 7ms"}));
  ASSERT_EQ(reloaded->of_cluster.size(), 1u);
  EXPECT_THAT(
      reloaded->of_cluster[0],
      HasSubstr("raft.lease_reads: false -> true; the cluster's value applies. To change it: "
                "connectctl settings set raft.lease_reads true"));
}

TEST(Reload, WithAnErrorNothingChanges) {
  LoadRequest request;
  request.sets = {"log.level=debug", "raft.tick=7"};
  Result<Reloaded> reloaded = reload(request, load({})->config);
  ASSERT_FALSE(reloaded);
  EXPECT_THAT(reloaded.error().text, HasSubstr("--set raft.tick=7: error"));
}

TEST(Load, MissingAndUnreadableFiles) {
  LoadRequest request;
  request.file = "/nonexistent/node1.yaml";
  Result<Loaded> loaded = load(request);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(loaded.error().text, HasSubstr("/nonexistent/node1.yaml: error: cannot be opened: No "
                                             "such file or directory"));
  request.file = kSource + "/conf";
  loaded = load(request);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().kind, ErrorKind::kBadConfig);
  EXPECT_THAT(loaded.error().text, HasSubstr("Is a directory"));
}

// A file that was right before a default rose is right after it.
TEST(Load, SizesThatAreSetLowerTheLargestRequest) {
  Result<Loaded> loaded = load_text(std::string(kGood) + "storage: {segment_size: 4MiB}\n");
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(loaded->config.client.max_request, 1u << 20);
  EXPECT_FALSE(loaded->config.client.max_request_is_set);
  loaded = load_text(std::string(kGood) + "storage: {segment_size: 4MiB}\n" +
                     "client: {max_request: 2MiB}\n");
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().text, HasSubstr("'client.max_request' (2MiB) must not be larger"));
  EXPECT_THAT(loaded.error().text, HasSubstr("storage.segment_size"));
}

TEST(Load, FileThatIsTooLarge) {
  Result<Loaded> loaded = load_text(std::string(kGood) + std::string((1 << 20) + 1, '#'));
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().text, HasSubstr("larger than 1MiB"));
}

// Each file in broken/ has the whole text of its errors beside it, with its name without a folder.
// CONNECTD_UPDATE_EXPECTED=1 rewrites the texts.
TEST(Load, BrokenFilesGiveTheirMessages) {
  int count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(kSource + "/tests/unit/config/broken")) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    LoadRequest request;
    request.file = entry.path().string();
    Result<Loaded> loaded = load(request);
    ASSERT_FALSE(loaded) << entry.path() << " loads";
    EXPECT_EQ(loaded.error().kind, ErrorKind::kBadConfig) << entry.path();
    std::string folder = entry.path().parent_path().string() + "/";
    std::string text = loaded.error().text;
    for (size_t at = text.find(folder); at != std::string::npos; at = text.find(folder)) {
      text.erase(at, folder.size());
    }
    std::filesystem::path expected = entry.path();
    expected.replace_extension(".expected");
    if (getenv("CONNECTD_UPDATE_EXPECTED") != nullptr) std::ofstream(expected) << text;
    EXPECT_EQ(text, read_file(expected.string())) << entry.path();
  }
  EXPECT_GE(count, 20);
}

TEST(Load, NoBytesCrashIt) {
  // Every prefix of a real file, and the file with each byte replaced by ones that mean something.
  std::string text = read_file(kSource + "/conf/node1.yaml");
  text = text.substr(text.find("node:\n"));
  for (size_t i = 0; i < text.size(); ++i) (void)load_text(text.substr(0, i));
  for (size_t i = 0; i < text.size(); ++i) {
    for (char c : {'{', ']', ':', '\t', '"', '&', '\xff'}) {
      std::string changed = text;
      changed[i] = c;
      (void)load_text(changed);
    }
  }
  Result<Loaded> deep = load_text(std::string(100000, '['));
  ASSERT_FALSE(deep);
  EXPECT_THAT(deep.error().text, HasSubstr("nested deeper than"));
}

TEST(Table, PathsAreUniqueAndSectionsAreKnownAndTogether) {
  std::set<std::string_view> paths;
  std::vector<std::string_view> order;
  for (const Option& option : options()) {
    EXPECT_TRUE(paths.insert(option.path).second) << option.path;
    EXPECT_FALSE(option.help.empty()) << option.path;
    EXPECT_FALSE(option.default_text.empty() && option.default_note.empty()) << option.path;
    if (order.empty() || order.back() != option.section()) order.push_back(option.section());
  }
  std::vector<std::string_view> known;
  for (const Section& section : sections()) known.push_back(section.name);
  EXPECT_EQ(order, known);
}

TEST(Table, RangesParseAndHoldTheDefaults) {
  LoadRequest request;
  for (const Option& option : options()) {
    bool ranged = option.type == Type::kInteger || option.type == Type::kDuration ||
                  option.type == Type::kSize;
    EXPECT_EQ(ranged, !option.min.empty() && !option.max.empty()) << option.path;
    EXPECT_EQ(option.type == Type::kChoice, !option.choices.empty()) << option.path;
  }
  EXPECT_TRUE(load(request));  // which parses all of them, and sets all defaults
}

TEST(Table, RangesEndAtTheLimitsOfTheFormats) {
  EXPECT_EQ(*parse_size(find_option("client.max_request")->max), kMaxEntryPayloadBytes);
  EXPECT_EQ(*parse_integer(find_option("raft.max_clock_drift_percent")->max),
            kMaxClockDriftPercent);
}

TEST(Load, MaximumOfMembersIsAccepted) {
  for (size_t count : {kMaxMembers, kMaxMembers + 1}) {
    std::string text = "node: {id: 1, data_dir: data}\ncluster:\n  members:\n";
    for (size_t id = 1; id <= count; ++id) {
      text += "    - {id: " + std::to_string(id);
      for (const char* port : {"peer", "client", "http"}) {
        text += std::string(", ") + port + ": \"" + port + std::to_string(id) + ":1\"";
      }
      text += "}\n";
    }
    Result<Loaded> loaded = load_text(text);
    ASSERT_EQ(loaded.has_value(), count == kMaxMembers);
    if (!loaded) {
      EXPECT_THAT(loaded.error().text, HasSubstr("has 65 members; must be at most 64"));
    }
  }
}

TEST(Table, EveryValueIsStoredWhereItIsReadFrom) {
  // A value other than the default for each option arrives, and changes nothing else.
  Config standard = load({})->config;
  int count = 0;
  for (const Option& option : options()) {
    std::string other;
    switch (option.type) {
      case Type::kBool:
        other = option.default_text == "true" ? "false" : "true";
        break;
      case Type::kInteger:
        other = "7";
        break;
      case Type::kDuration:
        other = option.path == "raft.election_timeout" ? "777ms"
                : option.path == "raft.tick"           ? "7ms"
                                                       : "77ms";
        break;
      case Type::kSize:
        other = "8MiB";
        break;
      case Type::kText:
        other = option.pattern == "sha256"       ? std::string(64, 'a')
                : option.pattern == "cluster id" ? std::string(32, 'a')
                                                 : "other";
        break;
      case Type::kChoice:
        other = std::string(option.choices.back());
        break;
      case Type::kAddress:
        other = "127.0.0.1:9";
        break;
      case Type::kTextList:
        other = option.path == "auth.anonymous" ? "[monitor]"
                : option.pattern == "host"      ? "[a, \"b:80\"]"
                                                : "[/a]";
        break;
      case Type::kTextMap:
        other = option.pattern == "certificate" ? "{\"OU=ops\": \"admin\"}" : "{a: \"b\"}";
        break;
      case Type::kMembers:
        continue;
    }
    if (option.choices.size() == 1) continue;
    LoadRequest request;
    request.sets = {std::string(option.path) + "=" + other};
    const bool is_tls_mode = option.section() == "tls" && option.name() == "mode";
    if (is_tls_mode) {
      for (const char* file : {"cert", "key", "ca"}) {
        request.sets.push_back(fmt::format("tls.{}.{}=some.pem", option.group(), file));
      }
    }
    Result<Loaded> loaded = load(request);
    ASSERT_TRUE(loaded) << loaded.error().text;
    ++count;
    bool changed = false;
    for (const Difference& difference : differences(standard, loaded->config)) {
      bool follows = option.path == "node.id" && (difference.option->path == "node.name" ||
                                                  difference.option->path == "cluster.members");
      follows = follows || (is_tls_mode && difference.option->group() == option.group());
      EXPECT_TRUE(difference.option->path == option.path || follows)
          << option.path << " changed " << difference.option->path;
      changed = changed || difference.option->path == option.path;
    }
    EXPECT_TRUE(changed) << option.path;
  }
  EXPECT_GT(count, 25);
}

TEST(Reference, PageInDocsIsTheTablesPage) {
  std::string path = kSource + "/docs/reference-config.md";
  if (getenv("CONNECTD_UPDATE_EXPECTED") != nullptr) std::ofstream(path) << reference_page();
  EXPECT_EQ(read_file(path), reference_page())
      << "write it anew: connectctl config reference > docs/reference-config.md";
}

TEST(Reference, ExampleLoadsToTheDefaults) {
  Result<Loaded> loaded = load_text(annotated_example());
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_TRUE(differences(load({})->config, loaded->config).empty());
  for (const Option& option : options()) {
    EXPECT_THAT(annotated_example(), HasSubstr(std::string(option.name()) + ":"));
  }
}

TEST(Reference, ExampleStaysGoodWithItsCommentsTakenAway) {
  // Each "  # key: default" of an option is a line that can be used without a change.
  std::istringstream in(annotated_example());
  std::string text;
  for (std::string line; std::getline(in, line);) {
    for (const Option& option : options()) {
      std::string commented = "  # " + std::string(option.key()) + ": ";
      bool has_value = line.find("# default:") == std::string::npos;
      if (has_value && line.starts_with(commented)) line = "  " + line.substr(4);
    }
    text += line + "\n";
  }
  Result<Loaded> loaded = load_text(text);
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_GT(loaded->places.size(), 30u);
  EXPECT_TRUE(differences(load({})->config, loaded->config).empty());
}

// The node follows the cluster's setting, which may be another than the file's.
TEST(Load, StallTimeoutWithoutAValueStaysUnset) {
  const std::string unset = "2 x the cluster's `raft.election_timeout`";
  LoadRequest request;
  request.sets = {"raft.election_timeout=700ms"};
  Result<Loaded> loaded = load(request);
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(loaded->config.storage.stall_timeout, Duration::zero());
  EXPECT_EQ(format_value(*find_option("storage.stall_timeout"), loaded->config), unset);
  EXPECT_THAT(print_config(*loaded), HasSubstr("# default: " + unset + "\n"));
  EXPECT_THAT(print_config(*loaded), HasSubstr("\n  # stall_timeout:  "));
  request.sets.push_back("storage.stall_timeout=3s");
  loaded = load(request);
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(loaded->config.storage.stall_timeout, std::chrono::seconds(3));
  EXPECT_THAT(print_config(*loaded), HasSubstr("\n  stall_timeout: 3s  "));
}

TEST(Reference, PrintedConfigLoadsToTheSame) {
  LoadRequest request;
  request.file = kSource + "/conf/node2.yaml";
  request.sets = {"plugin.options.a.b=tab\there \"quoted\" \\ 010", "plugin.options.yes=no",
                  "plugin.path=/p/with space.so", "raft.tick=7ms", "cluster.name=x"};
  Result<Loaded> loaded = load(request);
  ASSERT_TRUE(loaded) << loaded.error().text;
  std::string printed = print_config(*loaded);
  EXPECT_THAT(printed, HasSubstr("  tick: 7ms"));
  EXPECT_THAT(printed, HasSubstr("# --set"));
  EXPECT_THAT(printed, HasSubstr("# " + *request.file + ":10"));
  EXPECT_THAT(printed, HasSubstr("# default"));
  Result<Loaded> again = load_text(printed);
  ASSERT_TRUE(again) << again.error().text << printed;
  std::vector<Difference> all = differences(loaded->config, again->config);
  for (const Difference& d : all)
    ADD_FAILURE() << d.option->path << " " << d.before << " " << d.after;
}

TEST(Yaml, PositionsAreThoseOfTheText) {
  YamlDocument document = parse_yaml("a: 1\nb:\n  - x\n  - 'y z'\n");
  ASSERT_TRUE(document.problems.empty());
  const auto& entries = document.root.entries;
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].value.at, (Position{1, 4}));
  EXPECT_EQ(entries[1].value.items[0].at, (Position{3, 5}));
  EXPECT_EQ(entries[1].value.items[1].at, (Position{4, 5}));
  EXPECT_TRUE(entries[1].value.items[1].quoted);
}

}  // namespace
}  // namespace connectd::config

#include <set>

#include "support.h"
#include "tests/paths.h"

namespace connectd::ctl {
namespace {

using ::testing::HasSubstr;

TEST(CommandTable, WordsAndOptionsAreUnique) {
  std::set<std::string_view> words;
  for (const Command& command : commands()) {
    EXPECT_TRUE(words.insert(command.words).second) << command.words;
    EXPECT_NE(command.run, nullptr);
    EXPECT_LE(command.min_arguments, command.max_arguments);
    std::set<std::string_view> names;
    for (const OptionSpec& spec : global_options()) names.insert(spec.name);
    for (const OptionSpec& spec : command.options) {
      EXPECT_TRUE(names.insert(spec.name).second) << command.words << " --" << spec.name;
      EXPECT_FALSE(spec.help.empty()) << command.words << " --" << spec.name;
    }
  }
}

TEST(CommandTable, HelpKnowsEveryCommand) {
  Outcome all = connectctl({"help"});
  EXPECT_EQ(all.code, ExitCode::kOk);
  EXPECT_EQ(all.err, "");
  for (const Command& command : commands()) {
    EXPECT_THAT(all.out, HasSubstr("  " + std::string(command.words)));
    std::vector<std::string> words = {"help"};
    std::istringstream split{std::string(command.words)};
    for (std::string word; split >> word;) words.push_back(word);
    Outcome one = connectctl(words);
    EXPECT_EQ(one.code, ExitCode::kOk);
    EXPECT_THAT(one.out, HasSubstr("usage: connectctl " + std::string(command.words)));
    for (const OptionSpec& spec : command.options) {
      EXPECT_THAT(one.out, HasSubstr("--" + std::string(spec.name)));
    }
  }
  EXPECT_THAT(connectctl({"cluster", "--help"}).out, HasSubstr("connectctl cluster stop"));
}

// They know their nodes by their directory, whatever is configured on the machine.
TEST(CommandLine, ClusterCommandsLookForNoEndpoints) {
  ASSERT_EQ(::setenv("CONNECTCTL_ENDPOINTS", "wrong", 1), 0);
  for (const char* verb : {"stop", "status"}) {
    EXPECT_THAT(connectctl({"cluster", verb, "/none"}).err,
                ::testing::Not(HasSubstr("CONNECTCTL_ENDPOINTS")));
  }
  EXPECT_THAT(connectctl({"status"}).err, HasSubstr("CONNECTCTL_ENDPOINTS: 'wrong'"));
  ASSERT_EQ(::unsetenv("CONNECTCTL_ENDPOINTS"), 0);
}

TEST(CommandLine, WrongUseIs64AndNamesTheNextStep) {
  struct Case {
    std::vector<std::string> arguments;
    const char* text;
  };
  for (const Case& c : std::vector<Case>{
           {{"statsu"}, "unknown command 'statsu'; did you mean 'status'? Try: connectctl help"},
           {{"cluster"},
            "`cluster` requires one of: start, stop, status. Try: connectctl help cluster"},
           {{"-x"}, "unknown option '-x'. Try: connectctl help"},
           {{"--peer", "status", "member", "add", "4"}, "`status` has no option --peer"},
           {{"--file", "call", "text"},
            "put the options of `call` after it. Try: connectctl help call"},
           {{"config", "chek", "x"}, "`config` requires one of: check, reference"},
           {{"status", "more"}, "usage: connectctl status. Try: connectctl help status"},
           {{"config", "check"}, "usage: connectctl config check FILE [options]"},
           {{"status", "--hex"}, "`status` has no option --hex. Try: connectctl help status"},
           {{"status", "--outp", "json"},
            "`status` has no option --outp. Try: connectctl help status"},
           {{"status", "-x"}, "`status` has no option -x"},
           {{"status", "-o"}, "the required argument for option '--output' is missing"},
           {{"status", "-o", "xml"}, "--output: 'xml' must be table or json"},
           {{"status", "-e", "localhost"}, "--endpoint: 'localhost' has no port"},
           {{"status", "--timeout", "5"}, "--timeout: '5' has no unit"},
           {{"status", "--timeout", "0s"}, "--timeout: must be longer than 0"},
           {{"call"}, "missing request. Try: connectctl help call"},
           {{"call", "a", "b"}, "the request must be one argument: put it in quotes"},
           {{"call", "--hex", "4"}, "--hex: must have an even number of digits"},
           {{"call", "--hex", "zz"}, "--hex: 'z' is not a hexadecimal digit"},
           {{"call", "--hex", "--resp", "00"}, "--hex, --file and --resp exclude each other"},
           {{"call", "--read", "eventual", "get"}, "unknown read level 'eventual'"},
           {{"call", "--read", "stale; max-age=1s", "get"}, "--read must be linearizable, lease"},
           {{"call", "--read", "stale", "--max-age", "5", "get"}, "max-age: "},
           {{"call", "--read", "stale", "--min-index", "x", "get"}, "min-index: "},
           {{"call", "--read", "lease", "--max-age", "5s", "get"},
            "max-age is for stale reads only"},
           {{"call", "--min-index", "5", "get"}, "min-index is for stale reads only"},
           {{"settings"}, "`settings` requires one of: list, set"},
           {{"settings", "set", "raft.lease_reads"}, "usage: connectctl settings set KEY VALUE"},
           {{"cluster", "start", "/tmp/none", "--connectd", "/bin/true"},
            "missing --plugin FILE for a new cluster. Try: connectctl help cluster start"},
           {{"cluster", "start", "/tmp/none", "--connectd", "/bin/true", "--nodes", "10"},
            "--nodes 10: must be from 1 to 9"},
           {{"cluster", "start", "/tmp/none", "--connectd", "/bin/true", "--port", "70000"},
            "--port 70000: must be from 1 to"}}) {
    Outcome outcome = connectctl(c.arguments);
    EXPECT_EQ(outcome.code, ExitCode::kUsage) << c.text;
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, HasSubstr(std::string("connectctl: ") + c.text));
  }
  EXPECT_EQ(connectctl({}).code, ExitCode::kUsage);
}

TEST(CommandLine, OptionsStandAnywhere) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"-o", "json", "version"},
        {"version", "-o", "json"},
        {"version", "--output=json"},
        {"-ojson", "version"}}) {
    Outcome outcome = connectctl(arguments);
    EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
    EXPECT_THAT(outcome.out, ::testing::StartsWith("{\"version\":\""));
  }
}

TEST(ConfigCommands, CheckTellsGoodFromBad) {
  std::string source = CONNECTD_SOURCE_DIR;
  Outcome good = connectctl({"config", "check", source + "/conf/node1.yaml"});
  EXPECT_EQ(good.code, ExitCode::kOk);
  EXPECT_EQ(good.out, source + "/conf/node1.yaml: good\n");
  EXPECT_EQ(good.err, "");
  Outcome bad = connectctl({"config", "check", source + "/tests/unit/config/broken/timing.yaml"});
  EXPECT_EQ(bad.code, ExitCode::kConfig);
  EXPECT_EQ(bad.out, "");
  EXPECT_THAT(bad.err, HasSubstr("timing.yaml:6:9: error: 'raft.tick' (60ms) must not"));
  EXPECT_EQ(connectctl({"config", "check", "/nonexistent"}).code, ExitCode::kNoInput);
  Outcome set = connectctl(
      {"config", "check", source + "/conf/node1.yaml", "--set", "raft.tick=1", "--node", "7"});
  EXPECT_EQ(set.code, ExitCode::kConfig);
  EXPECT_THAT(set.err, HasSubstr("2 errors"));
}

TEST(ConfigCommands, ReferenceIsThePageInDocs) {
  Outcome outcome = connectctl({"config", "reference"});
  EXPECT_EQ(outcome.code, ExitCode::kOk);
  EXPECT_THAT(outcome.out, HasSubstr("# Configuration reference"));
}

TEST(Table, PadsToTheWidestCell) {
  EXPECT_EQ(table({{"A", "LONG", "C"}, {"xyz", "1", ""}}), "A    LONG  C\nxyz  1\n");
}

TEST(Tls, FilesAreCheckedBeforeANodeIsAsked) {
  const Outcome alone = connectctl({"status", "--cert", "x.pem", "--cacert", "ca.pem"});
  EXPECT_EQ(alone.code, ExitCode::kUsage);
  EXPECT_THAT(alone.err, HasSubstr("--cert and --key need each other"));
  const Outcome to_anybody =
      connectctl({"status", "-e", "127.0.0.1:1", "--cert", "x.pem", "--key", "x.key"});
  EXPECT_EQ(to_anybody.code, ExitCode::kUsage);
  EXPECT_THAT(to_anybody.err, HasSubstr("--cert needs --cacert"));
  const Outcome missing = connectctl({"status", "-e", "127.0.0.1:1", "--cacert", "/none/ca.pem"});
  EXPECT_EQ(missing.code, ExitCode::kNoInput);
  EXPECT_THAT(missing.err, HasSubstr("/none/ca.pem"));
}

}  // namespace
}  // namespace connectd::ctl

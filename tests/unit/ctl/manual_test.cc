// The texts that are made from the command table.
#include <fstream>
#include <set>

#include "support.h"
#include "tests/paths.h"

namespace connectd::ctl {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

std::string run_bash(const std::string& script) {
  TemporaryDirectory directory;
  std::ofstream(directory.path("script")) << script;
  std::FILE* pipe = popen(("bash " + directory.path("script") + " 2>&1").c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  std::string out;
  for (int c; (c = std::fgetc(pipe)) != EOF;) out += static_cast<char>(c);
  pclose(pipe);
  return out;
}

// The completions that bash offers after these words, the last of which is being typed.
std::vector<std::string> offered(const std::vector<std::string>& words) {
  std::string script = completion("bash") + "COMP_WORDS=(connectctl";
  for (const std::string& word : words) script += " '" + word + "'";
  script += fmt::format(")\nCOMP_CWORD={}\n_connectctl\necho ${{COMPREPLY[@]}}\n", words.size());
  std::string out = run_bash(script);
  if (out.ends_with('\n')) out.pop_back();
  return split_words(out);
}

TEST(Manual, DocsListEveryCommand) {
  std::ifstream in(std::string(CONNECTD_SOURCE_DIR) + "/docs/operations.md");
  std::ostringstream page;
  page << in.rdbuf();
  EXPECT_THAT(page.str(), HasSubstr("```\n" + command_list() + "```\n"))
      << "the list in docs/operations.md, under \"connectctl\", is:\n"
      << command_list();
}

TEST(Manual, HelpIsOneLineAndImperative) {
  for (const Command& command : commands()) {
    EXPECT_THAT(std::string(command.help), Not(HasSubstr("\n"))) << command.words;
    EXPECT_TRUE(std::isupper(command.help[0])) << command.words;
    EXPECT_LE(command.help.size(), 64u) << command.words;
    EXPECT_NE(command.help.back(), '.') << command.words;
  }
  std::istringstream lines(connectctl({"help"}).out);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
}

TEST(Manual, HelpNamesTheDefaultTimeout) {
  EXPECT_THAT(connectctl({"help", "member", "add"}).out, HasSubstr("Waits up to 10 minutes"));
  EXPECT_THAT(connectctl({"help", "status"}).out, HasSubstr("5 seconds"));
  EXPECT_THAT(connectctl({"help", "inspect", "wal"}).out, Not(HasSubstr("Waits up to")));
}

TEST(Manual, PageHasEveryCommandAndOption) {
  const Outcome page = connectctl({"help", "--man"});
  EXPECT_EQ(page.code, ExitCode::kOk);
  EXPECT_THAT(page.out, ::testing::StartsWith(".TH CONNECTCTL 1 "));
  for (const Command& command : commands()) {
    EXPECT_THAT(page.out, HasSubstr(fmt::format(".SS {}", command.words)));
    for (const OptionSpec& option : command.options) {
      std::string name = "\\-\\-";
      for (char c : option.name) name += c == '-' ? "\\-" : std::string(1, c);
      EXPECT_THAT(page.out, HasSubstr(name)) << command.words;
    }
  }
}

TEST(Completion, BashOffersWhatFits) {
  std::set<std::string> first;
  for (const Command& command : commands()) first.insert(split_words(command.words)[0]);
  std::vector<std::string> top = offered({""});
  for (const std::string& word : first) EXPECT_THAT(top, Contains(word));
  EXPECT_THAT(top, Contains("--endpoint"));
  EXPECT_THAT(top, Not(Contains("--peer")));
  EXPECT_EQ(offered({"stat"}), std::vector<std::string>{"status"});
  EXPECT_EQ(offered({"member", "re"}), (std::vector<std::string>{"remove", "replace"}));
  EXPECT_EQ(offered({"member", "add", "4", "--le"}), std::vector<std::string>{"--learner"});
  EXPECT_THAT(offered({"member", "remove", "--"}), Not(Contains("--learner")));
}

TEST(Completion, BashSkipsTheValuesOfOptions) {
  // bash splits words at colons.
  EXPECT_EQ(offered({"-e", "127.0.0.1", ":", "7301", "snapshot", "ta"}),
            std::vector<std::string>{"take"});
  EXPECT_EQ(offered({"--output", "=", "json", "sta"}), std::vector<std::string>{"status"});
  EXPECT_EQ(offered({"sim", "--plugin", "status", "--tra"}), std::vector<std::string>{"--trace"});
  EXPECT_TRUE(offered({"sim", "--plugin", "sta"}).empty());
}

TEST(Completion, EveryShellKnowsEveryCommand) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Outcome script = connectctl({"completion", shell});
    EXPECT_EQ(script.code, ExitCode::kOk);
    for (const Command& command : commands()) {
      for (const std::string& word : split_words(command.words)) {
        EXPECT_THAT(script.out, HasSubstr(word)) << shell;
      }
      for (const OptionSpec& option : command.options) {
        EXPECT_THAT(script.out, HasSubstr(std::string(option.name))) << shell;
      }
    }
  }
  const Outcome unknown = connectctl({"completion", "tcsh"});
  EXPECT_EQ(unknown.code, ExitCode::kUsage);
  EXPECT_THAT(unknown.err, HasSubstr("unknown shell 'tcsh'"));
}

}  // namespace
}  // namespace connectd::ctl

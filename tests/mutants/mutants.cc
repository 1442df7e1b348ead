// Puts bugs back, one at a time, and sees whether the tests notice.
//
// Each mutant (catalogue.txt) runs in a process of its own, seed after seed, until something
// breaks: a rule of the simulator, an invariant, a CHECK. A mutant that lives longer than it may is
// a hole in the tests. The control runs the same seeds with no mutant on, and must live; so must
// the seed that killed a mutant, or it was not the mutant that was noticed.
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "mutants/switch.h"
#include "tests/mutants/runners.h"

namespace connectd::mutants {
namespace {

struct Entry {
  const char* name;
  const char* about;
  Killer killer;
  bool is_quick;
};
constexpr Entry kCatalogue[] = {
#include "mutants.inc"
};
constexpr int kCount = static_cast<int>(std::size(kCatalogue));

struct Options {
  bool list = false;
  bool quick = false;
  bool markdown = false;
  bool trace = false;
  uint64_t seconds = 60;
  uint64_t control_seconds = 20;
  uint64_t first = 1;
  std::optional<Killer> by;
  unsigned jobs = std::max(1u, std::thread::hardware_concurrency());
  std::vector<int> chosen;
};

constexpr const char* kUsage = R"(usage: mutants [OPTION...] [NAME...]

Run each mutant NAME [all] until a check fails.

  --list              names, and the bug of each
  --quick             mutants of the quick tier only
  --seconds N         processor time after which a mutant has survived [60]
  --control N         seconds of each runner without a mutant, before the mutants; 0: none [20]
  --by RUNNER         simulator, cores, scenarios, storage, node, transport, conversation
                      or offline [from the catalogue]
  --seed N            first seed, or scenario [1]
  --jobs N            mutants at a time [number of processors]
  --trace             events of the simulator; for one mutant and one seed
  --markdown          table in the format of the documentation
)";

constexpr Killer kKillers[] = {
    Killer::kSimulator, Killer::kCores,          Killer::kScenarios,         Killer::kStorageUnits,
    Killer::kNodeUnits, Killer::kTransportUnits, Killer::kConversationUnits, Killer::kOfflineUnits};

[[noreturn]] void usage_error(const std::string& text) {
  fmt::print(stderr, "mutants: {}\n{}", text, kUsage);
  std::exit(64);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    std::string_view word = argv[i];
    auto number = [&](uint64_t least) {
      if (++i == argc) usage_error(fmt::format("{} requires a number", word));
      std::string_view text = argv[i];
      uint64_t value = 0;
      auto end = std::from_chars(text.data(), text.data() + text.size(), value);
      if (end.ec != std::errc() || end.ptr != text.data() + text.size() || value < least) {
        usage_error(fmt::format("{} must be a number of at least {}, not '{}'", word, least, text));
      }
      return value;
    };
    if (word == "--list") {
      options.list = true;
    } else if (word == "--quick") {
      options.quick = true;
    } else if (word == "--markdown") {
      options.markdown = true;
    } else if (word == "--trace") {
      options.trace = true;
    } else if (word == "--seconds") {
      options.seconds = number(1);
    } else if (word == "--control") {
      options.control_seconds = number(0);
    } else if (word == "--seed") {
      options.first = number(1);
    } else if (word == "--jobs") {
      options.jobs = static_cast<unsigned>(number(1));
    } else if (word == "--by") {
      std::string_view way = ++i < argc ? argv[i] : "";
      for (Killer killer : kKillers) {
        if (way == killer_name(killer)) options.by = killer;
      }
      if (!options.by)
        usage_error(
            "--by must be simulator, cores, scenarios, storage, node, transport, conversation or "
            "offline");
    } else if (word == "--help" || word == "-h") {
      fmt::print("{}", kUsage);
      std::exit(0);
    } else if (word.starts_with("-")) {
      usage_error(fmt::format("unknown option '{}'", word));
    } else {
      auto found = std::find_if(std::begin(kCatalogue), std::end(kCatalogue),
                                [&](const Entry& entry) { return entry.name == word; });
      if (found == std::end(kCatalogue)) usage_error(fmt::format("unknown mutant '{}'", word));
      options.chosen.push_back(static_cast<int>(found - std::begin(kCatalogue)) + 1);
    }
  }
  if (options.quick && !options.chosen.empty()) usage_error("--quick excludes names");
  if (options.trace && options.chosen.size() != 1) usage_error("--trace requires one name");
  if (options.chosen.empty()) {
    for (int number = 1; number <= kCount; ++number) {
      if (!options.quick || kCatalogue[number - 1].is_quick) options.chosen.push_back(number);
    }
  }
  return options;
}

// What a process of its own did with one mutant, or with none.
struct Outcome {
  int number = 0;  // 0: the control
  Killer killer = Killer::kSimulator;
  bool killed = false;
  uint64_t seed = 0;  // the one under way at the end
  std::string why{};
  double seconds = 0;  // of its process on a processor: a busy machine changes nothing
};

struct Running {
  Outcome outcome;
  bool is_repeated = false;  // the seed that killed it, with no mutant on
  pid_t pid = -1;
  int progress = -1;  // read end of what the process says: seeds, and what broke
  std::string said;
  uint64_t limit_seconds = 0;
};

double processor_seconds(pid_t pid) {
  clockid_t clock{};
  timespec time{};
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    ssize_t done = write(fd, text.data(), text.size());
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) _exit(3);
    text.remove_prefix(static_cast<size_t>(done));
  }
}

// `count`: so many seeds; 0: as many as there are.
Running start(int number, Killer killer, uint64_t first, uint64_t count, uint64_t limit_seconds) {
  int ends[2];
  if (pipe(ends) != 0) {
    std::perror("mutants: pipe");
    std::exit(71);
  }
  std::fflush(stdout);
  pid_t pid = fork();
  if (pid < 0) {
    std::perror("mutants: fork");
    std::exit(71);
  }
  if (pid == 0) {
    close(ends[0]);
    dup2(ends[1], STDERR_FILENO);  // a CHECK says there what broke
    if (is_units(killer)) {
      dup2(ends[1], STDOUT_FILENO);
      become_units(killer, number);
    }
    selected = number;
    uint64_t there = count > 0 ? count : runs_there_are(killer);
    for (uint64_t seed = first; there == 0 || seed < first + there; ++seed) {
      write_all(ends[1], fmt::format("\nseed {}\n", seed));
      std::string failure = run(killer, seed, false);
      if (failure.empty()) continue;
      write_all(ends[1], fmt::format("\nbroken {}\n", failure.substr(0, failure.find('\n'))));
      _exit(1);
    }
    _exit(0);
  }
  close(ends[1]);
  Running running;
  running.outcome.number = number;
  running.outcome.killer = killer;
  running.pid = pid;
  running.progress = ends[0];
  running.limit_seconds = limit_seconds;
  return running;
}

// The end of the line that begins behind the last `mark`.
std::string last_after(const std::string& text, std::string_view mark) {
  size_t at = text.rfind(mark);
  if (at == std::string::npos) return {};
  at += mark.size();
  return text.substr(at, text.find('\n', at) - at);
}

// "rule: text" of the simulator, or "CHECK file: text".
std::string reason(const std::string& said, int status) {
  if (std::string broken = last_after(said, "\nbroken "); !broken.empty()) return broken;
  if (std::string check = last_after(said, "Check failed: "); !check.empty()) {
    // glog: "F1124 11:30:00.000000  1234 core.cc:77] Check failed: ..."
    size_t bracket = said.rfind("] Check failed: ");
    size_t colon = bracket == std::string::npos ? bracket : said.rfind(':', bracket);
    size_t space = colon == std::string::npos ? colon : said.rfind(' ', colon);
    std::string file = space == std::string::npos ? "" : said.substr(space + 1, colon - space - 1);
    return fmt::format("CHECK {}: {}", file, check);
  }
  constexpr std::string_view kFailed = "[  FAILED  ] ";
  if (size_t at = said.find(kFailed); at != std::string::npos) {
    at += kFailed.size();
    return "test " + said.substr(at, said.find_first_of(" \n", at) - at);
  }
  if (WIFSIGNALED(status)) return fmt::format("signal: {}", strsignal(WTERMSIG(status)));
  return fmt::format("exit status {}", WEXITSTATUS(status));
}

// Runs the work, `jobs` at a time; `done` gets each outcome as it comes.
template <class Done>
void run_all(std::vector<Outcome> work, const Options& options, Done&& done) {
  std::reverse(work.begin(), work.end());
  std::vector<Running> running;
  while (!work.empty() || !running.empty()) {
    while (!work.empty() && running.size() < options.jobs) {
      const Outcome& next = work.back();
      running.push_back(start(next.number, next.killer, options.first, 0,
                              next.number == 0 ? options.control_seconds : options.seconds));
      work.pop_back();
    }
    std::vector<pollfd> waiting;
    for (const Running& r : running) waiting.push_back({r.progress, POLLIN, 0});
    poll(waiting.data(), waiting.size(), 200);
    for (size_t i = running.size(); i-- > 0;) {
      Running& r = running[i];
      const double seconds = processor_seconds(r.pid);
      if (!r.is_repeated) r.outcome.seconds = seconds;
      bool ended = false;
      if ((waiting[i].revents & (POLLIN | POLLHUP)) != 0) {
        char buffer[65536];
        ssize_t got = read(r.progress, buffer, sizeof buffer);
        if (got > 0) r.said.append(buffer, static_cast<size_t>(got));
        ended = got == 0;
        // Of long lives only the end counts.
        if (r.said.size() > (1 << 20)) r.said.erase(0, r.said.size() - (1 << 19));
      }
      const bool too_long = seconds > static_cast<double>(r.limit_seconds);
      if (!ended && !too_long) continue;
      if (!ended) kill(r.pid, SIGKILL);
      int status = 0;
      while (waitpid(r.pid, &status, 0) < 0 && errno == EINTR) {
      }
      close(r.progress);
      const bool broke = ended && !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
      if (r.is_repeated) {
        if (broke) {
          r.outcome.killed = false;
          r.outcome.why = "with no mutant on: " + reason(r.said, status);
        }
      } else {
        std::string seed = last_after(r.said, "\nseed ");
        std::from_chars(seed.data(), seed.data() + seed.size(), r.outcome.seed);
        r.outcome.killed = broke;
        if (broke) r.outcome.why = reason(r.said, status);
      }
      Outcome outcome = std::move(r.outcome);
      const bool is_done =
          r.is_repeated || !broke || outcome.number == 0 || is_units(outcome.killer);
      running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
      if (is_done) {
        done(outcome);
      } else {
        running.push_back(start(0, outcome.killer, outcome.seed, 1, options.seconds));
        running.back().is_repeated = true;
        running.back().outcome = std::move(outcome);
      }
    }
  }
}

// The name of the rule alone, without what it says about this one case.
std::string rule_of(const std::string& why) {
  if (why.starts_with("CHECK ")) {
    return why.size() <= 90 ? why : why.substr(0, 87) + "...";
  }
  if (why.starts_with("scenario ")) return why.substr(0, why.find(':'));
  if (why.starts_with("core: ")) {
    size_t begin = why.find(": ", 6);
    size_t end = why.rfind(" (");
    return "core invariant:" +
           (begin == std::string::npos ? why.substr(5) : why.substr(begin + 1, end - begin - 1));
  }
  return why.substr(0, why.find(':'));
}

int main_of(const Options& options) {
  if (options.list) {
    for (const Entry& entry : kCatalogue) {
      fmt::print("{:<38}{:<13}{}{}\n", entry.name, killer_name(entry.killer),
                 entry.is_quick ? "(quick) " : "", entry.about);
    }
    return 0;
  }
  prepare();
  if (options.trace) {
    selected = options.chosen.front();
    const Killer killer = options.by.value_or(kCatalogue[selected - 1].killer);
    if (is_units(killer)) become_units(killer, selected);
    std::string failure = run(killer, options.first, true);
    fmt::print("{}\n", failure.empty() ? "nothing broke" : failure);
    return failure.empty() ? 0 : 1;
  }
  int wrong = 0;
  if (options.control_seconds > 0) {
    std::vector<Outcome> control;
    for (Killer killer : kKillers) {
      control.emplace_back();
      control.back().killer = killer;
    }
    run_all(std::move(control), options, [&](const Outcome& outcome) {
      if (outcome.killed) ++wrong;
      if (!options.markdown || outcome.killed) {
        fmt::print("no mutant, {}: {} up to {}\n", killer_name(outcome.killer),
                   outcome.killed ? outcome.why : "nothing breaks", outcome.seed);
      }
    });
  }
  std::vector<Outcome> work;
  for (int number : options.chosen) {
    work.push_back({number, options.by.value_or(kCatalogue[number - 1].killer)});
  }
  std::vector<Outcome> outcomes;
  constexpr const char* kRow = "{:<38}{:<13}{:>8} {:>7.1f}  {}\n";
  if (options.markdown) {
    fmt::print("| mutant | what it does | killed by | seed | seconds |\n|---|---|---|---|---|\n");
  } else {
    fmt::print("{:<38}{:<13}{:>8} {:>7}  {}\n", "mutant", "run by", "seed", "seconds", "killed by");
  }
  run_all(std::move(work), options, [&](const Outcome& outcome) {
    if (!options.markdown) {
      fmt::print(kRow, kCatalogue[outcome.number - 1].name, killer_name(outcome.killer),
                 outcome.seed, outcome.seconds,
                 outcome.killed ? outcome.why : "IT LIVES " + outcome.why);
      std::fflush(stdout);
    }
    outcomes.push_back(outcome);
  });
  std::sort(outcomes.begin(), outcomes.end(),
            [](const Outcome& a, const Outcome& b) { return a.number < b.number; });
  std::string survivors;
  for (const Outcome& outcome : outcomes) {
    const Entry& entry = kCatalogue[outcome.number - 1];
    if (!outcome.killed) survivors += fmt::format(" {}", entry.name);
    if (!options.markdown) continue;
    fmt::print("| `{}` | {} | {}, {} | {} | {:.1f} |\n", entry.name, entry.about,
               killer_name(outcome.killer), outcome.killed ? rule_of(outcome.why) : "**it lives**",
               outcome.seed, outcome.seconds);
  }
  if (!survivors.empty()) {
    fmt::print(stderr, "mutants: the tests do not notice{}\n", survivors);
    ++wrong;
  } else if (!options.markdown) {
    fmt::print("all {} mutants are killed\n", outcomes.size());
  }
  return wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace connectd::mutants

int main(int argc, char** argv) {
  return connectd::mutants::main_of(connectd::mutants::parse(argc, argv));
}

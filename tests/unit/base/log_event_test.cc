// The table of events, its page in docs/, the text and the JSON of a line, and the limits.
#include "base/log_event.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/flight_recorder.h"
#include "base/json_text.h"
#include "base/log_format.h"
#include "base/log_limiter.h"
#include "base/log_message.h"
#include "base/utc_text.h"
#include "tests/paths.h"
#include "tests/unit/base/recorder_dump.h"

namespace connectd {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

const std::string kSource = CONNECTD_SOURCE_DIR;
constexpr std::string_view kConstants[] = {
#define LOG_EVENT_ROW(constant, ...) #constant,
#include "base/log_events.inc"
#undef LOG_EVENT_ROW
};

const std::vector<LogEventRow>& log_events() {
  static const auto rows = [] {
    std::vector<LogEventRow> all;
    for (size_t i = 0; i < std::size(kConstants); ++i) {
      all.push_back(row_of(static_cast<LogEvent>(i)));
    }
    return all;
  }();
  return rows;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// ---- the table

std::string lines_text(const LogLimit& limit) {
  if (limit.lines == 0) return "all";
  return limit.window == minutes(1)
             ? fmt::format("{} a minute", limit.lines)
             : fmt::format("{} in {} s", limit.lines, limit.window / seconds(1));
}

std::string page() {
  std::string text =
      "# Events of the log\n\n"
      "Made from `daemon/base/log_events.inc` by the base test (CONNECTD_UPDATE_EXPECTED=1); do "
      "not "
      "edit.\n\n"
      "Every line of connectd's log is one of these events. Their names are stable: match them, "
      "not "
      "the texts. They are\nin each line with `log.format: json`, and in the flight recorder "
      "([operations.md](operations.md#logs)). A line of text has the\nlevel, the area and the "
      "message.\n\n"
      "*Lines*: how many are written; what is beyond is counted (`log.suppressed`) and in the "
      "flight recorder. Events that\nname a member are limited for each member. What strangers "
      "cause is limited over all of them, and suppressed lines of it\nare only counted.\n\n"
      "| event | level | area | lines | meaning | what to do |\n|---|---|---|---|---|---|\n";
  constexpr std::string_view kLevels[] = {"debug", "info", "warning", "error"};
  for (const LogEventRow& row : log_events()) {
    text += fmt::format("| `{}` | {} | {} | {} | {} | {} |\n", row.name,
                        kLevels[static_cast<size_t>(row.level)], row.area, lines_text(row.limit),
                        row.meaning, row.advice);
  }
  return text;
}

TEST(LogEvents, PageInDocsIsTheTables) {
  const std::string path = kSource + "/docs/log-events.md";
  if (getenv("CONNECTD_UPDATE_EXPECTED") != nullptr) std::ofstream(path) << page();
  EXPECT_EQ(read_file(path), page()) << "rewrite it: CONNECTD_UPDATE_EXPECTED=1 base_test";
}

TEST(LogEvents, NamesAreUniqueAndOfOneForm) {
  std::set<std::string_view> names;
  for (const LogEventRow& row : log_events()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_THAT(std::string(row.name), MatchesRegex("[a-z]+[.][a-z_]+"));
    EXPECT_TRUE(row.meaning.ends_with('.') && row.advice.ends_with('.')) << row.name;
  }
}

TEST(LogEvents, EachIsLoggedSomewhere) {
  std::string sources;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kSource + "/daemon")) {
    const std::string type = entry.path().extension();
    if (type == ".cc" || type == ".h") sources += read_file(entry.path());
  }
  for (std::string_view constant : kConstants) {
    EXPECT_THAT(sources, HasSubstr(fmt::format("LogEvent::{}", constant)));
  }
}

// ---- text

template <class... Args>
std::vector<std::string> fields_of(fmt::format_string<Args...> format, Args&&... args) {
  const fmt::string_view view = format;
  const LogMessage message(view, fmt::make_format_args(args...));
  EXPECT_EQ(message.text(), fmt::vformat(view, fmt::make_format_args(args...)));
  std::vector<std::string> fields;
  for (const LogMessage::Field& field : message.fields()) {
    fields.push_back(
        fmt::format("{}{}{}", field.key, field.is_number ? "#" : "=", message.value_of(field)));
  }
  return fields;
}

TEST(LogMessage, FieldsAreTheFormatsKeys) {
  EXPECT_THAT(fields_of("lost node={} address={} opened_by=this: {}", NodeId(3), "h:1", "x=y a=7"),
              ElementsAre("node#3", "address=h:1", "opened_by=this"));
  EXPECT_THAT(fields_of("starting cluster='{}' plugin='{} {}'", "a b", "kv", "1"),
              ElementsAre("cluster=a b", "plugin=kv"));
  EXPECT_THAT(fields_of("failed index={0} failures={4} retry_s={2}{3}: {1}", 5, "why", 7, "", 8),
              ElementsAre("index#5", "failures#8", "retry_s#7"));
  EXPECT_THAT(fields_of("{{a={{}}}} b={:016x} c= d={} d={}", 255, 1, 2),
              ElementsAre("b=00000000000000ff", "d#1"));
  EXPECT_THAT(fields_of("text={} big={} minus={}", "12", std::numeric_limits<uint64_t>::max(), -3),
              ElementsAre("text=12", "big=18446744073709551615", "minus#-3"));
}

TEST(UtcText, IsRfc3339) {
  const auto text = [](int64_t wall_ns) { return std::string(UtcText(wall_ns).view()); };
  EXPECT_EQ(text(0), "1970-01-01T00:00:00.000000Z");
  EXPECT_EQ(text(951'827'696'789'012'999), "2000-02-29T12:34:56.789012Z");
  EXPECT_EQ(text(1'709'251'199'999'999'999), "2024-02-29T23:59:59.999999Z");
  EXPECT_EQ(text(4'107'542'400'000'000'000), "2100-03-01T00:00:00.000000Z");
  EXPECT_EQ(text(-1), "1969-12-31T23:59:59.999999Z");
}

TEST(JsonText, StringsAreValidUtf8) {
  const auto json = [](std::string_view text, size_t most = 100) {
    char buffer[128];
    return std::string(JsonText(buffer, sizeof buffer).string(text, most).view());
  };
  EXPECT_EQ(json("a\"b\\c\n\t\r\x01\x7f"), R"("a\"b\\c\n\t\u000d\u0001\u007f")");
  EXPECT_EQ(json("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"),
            "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"");
  EXPECT_EQ(json("\xff\xc3"), R"("\\xff\\xc3")") << "no sequence, and a cut one";
  EXPECT_EQ(json("\xc0\xaf\xe0\x80\xaf\xed\xa0\x80\xf4\x90\x80\x80"),
            R"("\\xc0\\xaf\\xe0\\x80\\xaf\\xed\\xa0\\x80\\xf4\\x90\\x80\\x80")")
      << "overlong, surrogate, beyond the last";
  EXPECT_EQ(json("\xc2\x9b\xc2\xa0"), "\"\\u009b\xc2\xa0\"") << "a terminal's command";
  EXPECT_EQ(json("abcdefgh", 8), "\"abcdefgh\"");
  EXPECT_EQ(json("abcdefghi", 8), "\"abcde...\"");
  EXPECT_EQ(json("\n\n\n\n\n", 8), "\"\\n\\n...\"") << "no half of an escape";
  EXPECT_LE(json(std::string(500, '\x01'), 500).size(), 128u) << "within the buffer";
}

// ---- limits

TEST(LogLimiter, PeerThatIsDownCostsAFewLinesAMinute) {
  const LogLimit limit = row_of(LogEvent::kPeerUnreachable).limit;
  LogLimiter limiter;
  std::map<int64_t, int> lines;  // of each minute
  uint64_t attempts = 0;
  uint64_t counted = 0;
  const Time begin = Time() + minutes(100);
  for (Time now = begin; now < begin + minutes(60); now += std::chrono::milliseconds(500)) {
    const int64_t minute = (now - begin) / minutes(1);
    limiter.report(now, [&](uint32_t, uint64_t member, uint64_t suppressed, Duration) {
      EXPECT_EQ(member, 3u);
      ++lines[minute];
      counted += suppressed;
    });
    ++attempts;
    if (limiter.passes(1, 3, limit, now)) {
      ++lines[minute];
      ++counted;
    }
  }
  limiter.report(begin + minutes(61),
                 [&](uint32_t, uint64_t, uint64_t suppressed, Duration) { counted += suppressed; });
  EXPECT_EQ(counted, attempts) << "each one is written or counted";
  for (const auto& [minute, count] : lines) EXPECT_LE(count, 3) << "minute " << minute;
  EXPECT_EQ(lines.size(), 60u) << "and never silent";
}

TEST(LogLimiter, KeysHaveWindowsOfTheirOwn) {
  const LogLimit limit{2, minutes(1)};
  LogLimiter limiter;
  const Time now = Time() + minutes(9);
  EXPECT_TRUE(limiter.passes(1, 2, limit, now));
  EXPECT_TRUE(limiter.passes(1, 2, limit, now));
  EXPECT_FALSE(limiter.passes(1, 2, limit, now));
  EXPECT_TRUE(limiter.passes(1, 3, limit, now)) << "another member";
  EXPECT_TRUE(limiter.passes(2, 2, limit, now)) << "another event";
  EXPECT_TRUE(limiter.passes(1, 2, limit, now + minutes(1))) << "another window";
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(limiter.passes(3, 0, LogLimit{}, now)) << "no limit";
}

TEST(LogLimiter, KeysAreBounded) {
  LogLimiter limiter;
  size_t lines = 0;
  for (uint64_t member = 0; member < 2 * LogLimiter::kKeysMax; ++member) {
    lines += limiter.passes(1, member, {1, minutes(1)}, Time() + minutes(9)) ? 1 : 0;
  }
  EXPECT_EQ(lines, LogLimiter::kKeysMax + 1);
}

// ---- lines

Time g_now;

class LogLines : public ::testing::Test {
 protected:
  void SetUp() override {
    g_now = Time() + minutes(9);
    limit_log_lines([] { return g_now; });
    testing::internal::CaptureStderr();
  }
  void TearDown() override {
    set_log_format(LogFormat::kAuto);
    set_log_level(LogLevel::kInfo);
    limit_log_lines();
  }
  static std::string lines() { return testing::internal::GetCapturedStderr(); }
};

TEST_F(LogLines, SuppressedOnesAreCounted) {
  for (int i = 0; i < 10; ++i) {
    log_event_of(LogEvent::kPeerUnreachable, NodeId(3), "peer unreachable attempt={}", i);
    log_event_of(LogEvent::kPeerLost, kStrangers, "lost attempt={}", i);
  }
  g_now += minutes(1);
  report_suppressed_lines();
  const std::string text = lines();
  EXPECT_THAT(text, HasSubstr("transport: peer unreachable attempt=1\n"));
  EXPECT_THAT(text, Not(HasSubstr("unreachable attempt=2")));
  EXPECT_THAT(text, HasSubstr("log: suppressed event=peer.unreachable key=3 lines=8 seconds=60\n"));
  EXPECT_THAT(text, HasSubstr("log: suppressed event=peer.lost lines=6 seconds=60\n"));
}

TEST_F(LogLines, JsonIsOneObjectALine) {
  set_log_format(LogFormat::kJson);
  set_log_origin(NodeId(1), "orders \"eu\"");
  log_event(LogEvent::kPeerRefused, "refused by node={} address={}: {}", NodeId(2), "h:1",
            "a\nb=\xff");
  log_event(LogEvent::kProcessStopped, "stopped\n");
  log_line(LogLevel::kWarning, "kv", "from the plugin");
  print_to_stderr(LogLevel::kError, "printed");
  const std::string origin = R"(,"node":1,"cluster":"orders \\"eu\\"","message":)";
  EXPECT_THAT(
      lines(),
      MatchesRegex(
          "[{]\"time\":\"[-0-9T:.]+Z\",\"level\":\"warning\",\"priority\":4,\"event\":\"peer."
          "refused\","
          "\"area\":\"transport\"" +
          origin +
          "\"refused by node=2 address=h:1: a\\\\nb=\\\\\\\\xff\",\"fields\":[{]\"node\":2,"
          "\"address\":\"h:1\"[}][}]\n"
          "[{]\"time\":\"[^\"]+\",\"level\":\"info\",\"priority\":6,\"event\":\"process.stopped\","
          "\"area\":\"connectd\"" +
          origin +
          "\"stopped\"[}]\n"
          "[{]\"time\":\"[^\"]+\",\"level\":\"warning\",\"priority\":4,\"event\":\"plugin.line\","
          "\"area\":\"kv\"" +
          origin +
          "\"from the plugin\"[}]\n"
          "[{]\"time\":\"[^\"]+\",\"level\":\"error\",\"priority\":3,\"event\":\"process.message\","
          "\"area\":\"connectd\"" +
          origin + "\"printed\"[}]\n"));
}

TEST_F(LogLines, LongJsonIsStillAnObject) {
  set_log_format(LogFormat::kJson);
  const std::string text(20000, '\x01');
  log_event(LogEvent::kSettingChanged, "a={} b={} c={} d={} e={} f={} g={} h={} i={} j={} k={}",
            text, text, text, text, text, text, text, text, text, text, text);
  const std::string line = lines();
  EXPECT_LT(line.size(), 16u << 10);
  EXPECT_THAT(line, HasSubstr("...\",\"fields\":{\"a\":\"\\u0001"));
  EXPECT_TRUE(line.ends_with("...\"}}\n")) << line.substr(line.size() - 20);
}

// ---- the flight recorder

TEST_F(LogLines, RecorderAlsoHasWhatIsNotWritten) {
  for (int i = 0; i < 4; ++i) {
    log_event_of(LogEvent::kPeerUnreachable, NodeId(3), "flight attempt={}", i);
  }
  log_event(LogEvent::kPeerAccepted, "flight debug");
  for (int i = 0; i < 9; ++i) log_event(LogEvent::kPeerHandshakeBroken, "flight stranger={}", i);
  log_event(LogEvent::kPluginStuckRequest, "flight request={}", "SECRET");
  log_line(LogLevel::kInfo, "kv", "flight SECRET");
  log_event(LogEvent::kStateLine, "flight state");
  lines();
  const std::string text = dump(flight_recorder());
  EXPECT_THAT(text, HasSubstr("\"fate\":\"written\",\"message\":\"flight attempt=1\""));
  EXPECT_THAT(text, HasSubstr("\"fate\":\"suppressed\",\"message\":\"flight attempt=2\""));
  EXPECT_THAT(text, HasSubstr("\"fate\":\"below_level\",\"message\":\"flight debug\""));
  EXPECT_THAT(text, HasSubstr("flight stranger=3"));
  EXPECT_THAT(text, Not(HasSubstr("flight stranger=4"))) << "a flood pushes nothing out";
  EXPECT_THAT(text, HasSubstr("\"event\":\"plugin.stuck_request\""));
  EXPECT_THAT(text, HasSubstr("\"event\":\"plugin.line\""));
  EXPECT_THAT(text, Not(HasSubstr("SECRET")));
  EXPECT_THAT(text, Not(HasSubstr("flight state")));
}

}  // namespace
}  // namespace connectd

// The helpers of connect/plugin.h for plugins in C.
#include <connect/plugin.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace connectd::plugin {
namespace {

connectd_bytes bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// A sink that keeps what is written, and fails after `writes_left` writes.
struct Sink {
  std::string text;
  int writes_left = 1000;
  const connectd_sink c = {sizeof(connectd_sink), 0, this,
                           [](void* self, const void* data, size_t size) -> int32_t {
                             Sink& sink = *static_cast<Sink*>(self);
                             if (sink.writes_left-- <= 0) return CONNECTD_E_IO;
                             sink.text.append(static_cast<const char*>(data), size);
                             return CONNECTD_OK;
                           }};
};

TEST(CHelpers, BytesAreComparedWithText) {
  EXPECT_EQ(connectd_begins_with(bytes("incr"), "incr"), 1);
  EXPECT_EQ(connectd_begins_with(bytes("increase"), "incr"), 1);
  EXPECT_EQ(connectd_begins_with(bytes("inc"), "incr"), 0);
  EXPECT_EQ(connectd_begins_with(bytes("xincr"), "incr"), 0);
  EXPECT_EQ(connectd_begins_with({nullptr, 0}, "incr"), 0);
  EXPECT_EQ(connectd_begins_with({nullptr, 0}, ""), 1);
  EXPECT_EQ(connectd_begins_with(bytes("\xff\xfe"), "\xff"), 1);

  EXPECT_EQ(connectd_equals(bytes("incr"), "incr"), 1);
  EXPECT_EQ(connectd_equals(bytes("incr "), "incr"), 0);
  EXPECT_EQ(connectd_equals(bytes("inc"), "incr"), 0);
  EXPECT_EQ(connectd_equals(bytes({"incr\0", 5}), "incr"), 0);
  EXPECT_EQ(connectd_equals({nullptr, 0}, ""), 1);
}

TEST(CHelpers, SkipStopsAtEnd) {
  std::string text = "add 5";
  connectd_bytes rest = connectd_skip(bytes(text), 4);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(rest.ptr), rest.len), "5");
  EXPECT_EQ(connectd_skip(bytes(text), 5).len, 0);
  EXPECT_EQ(connectd_skip(bytes(text), 6).len, 0);
  EXPECT_EQ(connectd_skip({nullptr, 0}, 1).len, 0);
}

TEST(CHelpers, ParseAcceptsOnlyDigits) {
  const std::pair<const char*, uint64_t> right[] = {
      {"0", 0}, {"7", 7}, {"0042", 42}, {"18446744073709551615", UINT64_MAX}};
  for (auto [text, number] : right) {
    uint64_t value = 1;
    EXPECT_EQ(connectd_parse_u64(bytes(text), &value), 1) << text;
    EXPECT_EQ(value, number);
  }
  for (const char* text :
       {"", " 1", "1 ", "-1", "+1", "x", "1x", "1.0", "0x10", "/", ":", "18446744073709551616",
        "18446744073709551620", "99999999999999999999", "184467440737095516150", "1\xb0"}) {
    uint64_t value = 5;
    EXPECT_EQ(connectd_parse_u64(bytes(text), &value), 0) << text;
    EXPECT_EQ(value, 5) << text;
  }
}

TEST(CHelpers, PutWritesTextAndDecimals) {
  Sink sink;
  EXPECT_EQ(connectd_put_decimal(&sink.c, 0, "\n"), CONNECTD_OK);
  EXPECT_EQ(connectd_put_decimal(&sink.c, 10, ""), CONNECTD_OK);
  EXPECT_EQ(connectd_put_text(&sink.c, " and "), CONNECTD_OK);
  EXPECT_EQ(connectd_put_decimal(&sink.c, UINT64_MAX, "."), CONNECTD_OK);
  EXPECT_EQ(sink.text, "0\n10 and 18446744073709551615.");
}

TEST(CHelpers, PutReturnsSinkError) {
  Sink sink;
  sink.writes_left = 0;
  EXPECT_EQ(connectd_put_decimal(&sink.c, 1, "\n"), CONNECTD_E_IO);
  sink.writes_left = 1;
  EXPECT_EQ(connectd_put_decimal(&sink.c, 1, "\n"), CONNECTD_E_IO);
  EXPECT_EQ(sink.text, "1");
}

TEST(CHelpers, SnapshotNumbersRoundTrip) {
  for (uint64_t number : {uint64_t{0}, uint64_t{0x0102030405060708}, UINT64_MAX}) {
    Sink sink;
    ASSERT_EQ(connectd_put_u64(&sink.c, number), CONNECTD_OK);
    ASSERT_EQ(sink.text.size(), 8);
    EXPECT_EQ(static_cast<uint8_t>(sink.text[0]), number & 0xff);
    connectd_source source = {sizeof(connectd_source), 0, &sink.text,
                              [](void* context, void* to, size_t cap) -> int64_t {
                                std::string& left = *static_cast<std::string*>(context);
                                size_t part = left.copy(static_cast<char*>(to), cap);
                                left.erase(0, part);
                                return static_cast<int64_t>(part);
                              }};
    uint64_t value = 5;
    EXPECT_EQ(connectd_get_u64(&source, &value), CONNECTD_OK);
    EXPECT_EQ(value, number);
    EXPECT_EQ(connectd_get_u64(&source, &value), CONNECTD_E_CORRUPT);
  }
}

// A host with options that keeps the last text.
struct RecordingHost {
  std::map<std::string, std::string> set;
  std::string last;
  int32_t number = 0;
  const connectd_host c = {
      sizeof(connectd_host),
      CONNECTD_ABI,
      this,
      "test",
      "1",
      [](const connectd_host* h, int32_t level, const char* text, size_t size) {
        static_cast<RecordingHost*>(h->ctx)->number = level;
        static_cast<RecordingHost*>(h->ctx)->last.assign(text, size);
      },
      [](const connectd_host* h, int32_t code, const char* text, size_t size) {
        static_cast<RecordingHost*>(h->ctx)->last.assign(text, size);
        return code;
      },
      [](const connectd_host* h, const char* key) -> const char* {
        auto& options = static_cast<RecordingHost*>(h->ctx)->set;
        auto found = options.find(key);
        return found == options.end() ? nullptr : found->second.c_str();
      },
      [](const connectd_host*, const char*) -> const void* { return nullptr; }};
};

TEST(CHelpers, LogAndFailPassText) {
  RecordingHost host;
  connectd_log(&host.c, CONNECTD_LOG_WARN, "a warning");
  EXPECT_EQ(host.number, CONNECTD_LOG_WARN);
  EXPECT_EQ(host.last, "a warning");
  EXPECT_EQ(connectd_fail(&host.c, CONNECTD_E_IO, "the reason"), CONNECTD_E_IO);
  EXPECT_EQ(host.last, "the reason");
}

TEST(CHelpers, InvalidOptionIsReportedWithKey) {
  RecordingHost host;
  uint64_t value = 7;
  EXPECT_EQ(connectd_option_u64(&host.c, "start", &value), CONNECTD_OK);
  EXPECT_EQ(value, 7);
  host.set["start"] = "100";
  EXPECT_EQ(connectd_option_u64(&host.c, "start", &value), CONNECTD_OK);
  EXPECT_EQ(value, 100);
  host.set["start"] = "1e3";
  EXPECT_EQ(connectd_option_u64(&host.c, "start", &value), CONNECTD_E_CONFIG);
  EXPECT_EQ(value, 100);
  EXPECT_EQ(host.last,
            "plugin.options.start must be a whole number from 0 to 18446744073709551615, and is "
            "1e3");
  host.set["start"] = std::string(1000, 'x');
  EXPECT_EQ(connectd_option_u64(&host.c, "start", &value), CONNECTD_E_CONFIG);
  EXPECT_EQ(host.last.size(), 256);
}

}  // namespace
}  // namespace connectd::plugin

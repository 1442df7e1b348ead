// The counter in C and in C++, echo, and the host's side of each call.
#include "plugin/instance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/unit/plugin/support.h"

namespace connectd::plugin {
namespace {

using ::testing::HasSubstr;

// ---- the two counters

class Counter : public ::testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Instance> make(Options options = {}) {
    return make_instance(Plugin::load(at(build_path(GetParam()))), std::move(options));
  }
};

INSTANTIATE_TEST_SUITE_P(Plugin, Counter,
                         ::testing::Values("plugins/libcounter.so", "abi/libabi_counter.so"));

TEST_P(Counter, OnlyIncrIsAWrite) {
  auto counter = make();
  std::string reply;
  for (const char* request : {"incr", "incr ", "increment"}) {
    EXPECT_EQ(counter->classify(as_bytes(request), reply), RequestKind::kWrite) << request;
  }
  for (const char* request : {"", "get", "inc", "INCR", " incr"}) {
    EXPECT_EQ(counter->classify(as_bytes(request), reply), RequestKind::kRead) << request;
  }
  EXPECT_EQ(reply, "");
}

TEST_P(Counter, CountsAndAppendsToReply) {
  auto counter = make();
  EXPECT_EQ(read(*counter, "get"), "0\n");
  EXPECT_EQ(apply(*counter, 2, "incr"), "1\n");
  EXPECT_EQ(apply(*counter, 7, "incr"), "2\n");
  EXPECT_EQ(read(*counter, ""), "2\n");
  std::string replies = "before ";
  ASSERT_EQ(counter->apply(entry(8), as_bytes("incr"), replies), CONNECTD_OK);
  EXPECT_EQ(replies, "before 3\n");
}

TEST_P(Counter, StartOptionSetsFirstValue) {
  auto counter = make({{"start", "41"}, {"other", "x"}});
  EXPECT_EQ(apply(*counter, 1, "incr"), "42\n");
}

TEST_P(Counter, InvalidStartIsRejected) {
  for (const char* start : {"", "x", "12x", "-1", " 1", "18446744073709551616"}) {
    auto plugin = Plugin::load(at(build_path(GetParam())));
    auto counter = Instance::create(*plugin, {{"start", start}});
    ASSERT_FALSE(counter.has_value()) << "'" << start << "'";
    EXPECT_EQ(counter.error().kind, ErrorKind::kBadConfig);
    EXPECT_THAT(counter.error().text, HasSubstr("plugin counter 1.0.0 failed in create"));
    EXPECT_THAT(counter.error().text, HasSubstr("plugin.options.start"));
  }
}

TEST_P(Counter, SnapshotRoundTrip) {
  auto counter = make({{"start", "1000000007"}});
  apply(*counter, 1, "incr");
  std::string bytes;
  ASSERT_TRUE(counter->snapshot(covering(1, 0), into(bytes)).has_value());
  EXPECT_EQ(bytes, std::string("\x08\xca\x9a\x3b\0\0\0\0", 8));
  auto restored = make();
  ASSERT_TRUE(restored->restore(covering(1, bytes.size()), from(bytes)).has_value());
  EXPECT_EQ(read(*restored, "get"), "1000000008\n");
}

TEST_P(Counter, ShortOrLongSnapshotIsRejected) {
  auto early = make();
  std::string bytes(7, '\0');
  auto result = early->restore(covering(9, bytes.size()), from(bytes));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kPluginFailed);
  EXPECT_THAT(result.error().text, HasSubstr("failed in restore at index 9"));
  EXPECT_THAT(result.error().text, HasSubstr("CONNECTD_E_CORRUPT"));

  auto late = make();
  bytes = std::string(9, '\0');
  result = late->restore(covering(9, bytes.size()), from(bytes));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kPluginFailed);
}

TEST_P(Counter, InstancesAreIndependent) {
  auto one = make();
  auto two = make({{"start", "10"}});
  apply(*one, 1, "incr");
  apply(*two, 1, "incr");
  EXPECT_EQ(read(*one, "get"), "1\n");
  EXPECT_EQ(read(*two, "get"), "11\n");
}

TEST(Echo, RepliesWithRequestAndKeepsNothing) {
  auto echo = make_instance(Plugin::load(at(build_path("plugins/libecho.so"))));
  std::string reply;
  EXPECT_EQ(echo->classify(as_bytes("read it"), reply), RequestKind::kRead);
  EXPECT_EQ(echo->classify(as_bytes("write it"), reply), RequestKind::kWrite);
  EXPECT_EQ(echo->classify({}, reply), RequestKind::kWrite);
  EXPECT_EQ(read(*echo, "read it"), "read it\n");
  EXPECT_EQ(apply(*echo, 1, "write it"), "write it\n");
  EXPECT_EQ(apply(*echo, 2, ""), "\n");
  std::string bytes;
  ASSERT_TRUE(echo->snapshot(covering(2, 0), into(bytes)).has_value());
  EXPECT_EQ(bytes, "");
  auto restored = make_instance(Plugin::load(at(build_path("plugins/libecho.so"))));
  EXPECT_TRUE(restored->restore(covering(2, 0), from(bytes)).has_value());
}

// ---- the host's side, against a table whose functions do what the command says

struct Script {
  const connectd_host* host;
  std::string history;
};
connectd_apply_context last_context;  // of the last apply in this test program

std::string_view text_of(connectd_bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.ptr), bytes.len};
}
int32_t fail_with(const connectd_host* host, int32_t code, std::string_view text) {
  return host->fail(host, code, text.data(), text.size());
}

// "status N" | "fail N TEXT" | "reply N" (N bytes) | anything else: status 0, no reply.
int32_t perform(const Script& script, std::string_view command, const connectd_sink* reply) {
  int number = 0;
  int used = 0;
  std::string text(command);
  if (std::sscanf(text.c_str(), "status %d", &number) == 1) return number;
  if (std::sscanf(text.c_str(), "fail %d%n", &number, &used) == 1) {
    std::string why = text.substr(std::min(text.size(), static_cast<size_t>(used) + 1));
    return why.empty() ? number : fail_with(script.host, number, why);
  }
  if (std::sscanf(text.c_str(), "reply %d", &number) == 1) {
    std::string part(1 << 20, 'x');
    for (auto left = static_cast<size_t>(number); left > 0;) {
      size_t n = std::min(left, part.size());
      int32_t result = connectd_put(reply, part.data(), n);
      if (result != CONNECTD_OK) return result;
      left -= n;
    }
    return 5;
  }
  return CONNECTD_OK;
}

int32_t script_create(const connectd_host* host, void** self) {
  const char* wish = host->option(host, "create.result");
  if (wish != nullptr) return fail_with(host, std::atoi(wish), host->option(host, "create.text"));
  *self = new Script{host, {}};
  return CONNECTD_OK;
}
void script_destroy(void* self) { delete static_cast<Script*>(self); }
int32_t classify(const void* self, connectd_bytes request, const connectd_sink* reply) {
  connectd_put(reply, "text", 4);
  return perform(*static_cast<const Script*>(self), text_of(request), reply);
}
int32_t read_script(const void* self, const connectd_read_context*, connectd_bytes request,
                    const connectd_sink* reply) {
  connectd_put(reply, "part", 4);
  return perform(*static_cast<const Script*>(self), text_of(request), reply);
}
int32_t apply_script(void* self, const connectd_apply_context* context, connectd_bytes command,
                     const connectd_sink* reply) {
  auto& script = *static_cast<Script*>(self);
  last_context = *context;
  script.history += text_of(command);
  return perform(script, text_of(command), reply);
}
int32_t script_snapshot(void* self, const connectd_snapshot*, const connectd_sink* out) {
  auto& script = *static_cast<Script*>(self);
  if (script.history == "bad snapshot") return fail_with(script.host, CONNECTD_E_IO, "no disk");
  for (char c : script.history) {
    if (int32_t result = connectd_put(out, &c, 1); result != CONNECTD_OK) return result;
  }
  return CONNECTD_OK;
}
int32_t script_restore(void* self, const connectd_snapshot* info, const connectd_source* in) {
  auto& script = *static_cast<Script*>(self);
  std::string bytes(static_cast<size_t>(info->length) + 16, '\0');
  int64_t got = in->read(in->ctx, bytes.data(), bytes.size());
  if (got < 0) return static_cast<int32_t>(got);
  script.history = bytes.substr(0, static_cast<size_t>(got));
  script.history += std::string(" by ") + info->writer_version;
  return CONNECTD_OK;
}

class Host : public ::testing::Test {
 protected:
  static constexpr connectd_plugin table(uint32_t framing) {
    return {CONNECTD_PLUGIN_HEAD("script", "0.9", 1, 4, 0, framing),
            script_create,
            script_destroy,
            classify,
            read_script,
            apply_script,
            script_snapshot,
            script_restore,
            nullptr};
  }
  std::unique_ptr<Instance> make(uint32_t framing = CONNECTD_FRAMING_LINE) {
    static constexpr connectd_plugin kTables[] = {table(0), table(1), table(2)};
    return make_instance(Plugin::wrap(&kTables[framing]));
  }
};

TEST_F(Host, StatusReachesCaller) {
  auto instance = make();
  std::string reply;
  EXPECT_EQ(instance->apply(entry(1), as_bytes("status 3"), reply), 3);
  EXPECT_EQ(instance->read({}, as_bytes("status 8"), reply), 8);
  EXPECT_EQ(reply, "part");
}

TEST_F(Host, ContextMatchesEntry) {
  auto instance = make();
  ApplyContext context{.index = Index(11),
                       .term = Term(12),
                       .time_ns = 13,
                       .session = SessionId(14),
                       .sequence = Sequence(15),
                       .seed = {16, 17},
                       .level = 4};
  std::string reply;
  ASSERT_TRUE(instance->apply(context, as_bytes("x"), reply).has_value());
  EXPECT_EQ(last_context.size, sizeof(connectd_apply_context));
  EXPECT_EQ(last_context.level, 4u);
  EXPECT_EQ(last_context.index, 11u);
  EXPECT_EQ(last_context.term, 12u);
  EXPECT_EQ(last_context.time_ns, 13);
  EXPECT_EQ(last_context.session_id, 14u);
  EXPECT_EQ(last_context.session_seq, 15u);
  EXPECT_EQ(last_context.seed[0], 16u);
  EXPECT_EQ(last_context.seed[1], 17u);
}

TEST_F(Host, FailedApplyReportsPlaceAndReason) {
  auto instance = make();
  std::string reply = "kept";
  auto result = instance->apply(entry(812), as_bytes("fail -3 disk on fire"), reply);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kPluginFailed);
  EXPECT_EQ(result.error().text,
            "plugin script 0.9 failed in apply at index 812: disk on fire (CONNECTD_E_IO, -3)");
  EXPECT_EQ(reply, "kept");
}

TEST_F(Host, FailedInstanceIsNotCalledAgain) {
  auto instance = make();
  apply(*instance, 1, "fail -1 x");
  std::string reply;
  EXPECT_DEATH((void)instance->apply(entry(2), as_bytes("status 0"), reply), "failed plugin");
}

TEST_F(Host, FailTextLastsForOneCall) {
  auto instance = make();
  EXPECT_EQ(read(*instance, "fail -7 first"),
            "!plugin script 0.9 failed in read: first (CONNECTD_E_UNSUPPORTED, -7)");
  EXPECT_EQ(read(*instance, "fail -77"),
            "!plugin script 0.9 failed in read: it gave no reason (an unknown code, -77)");
  EXPECT_THAT(read(*instance, "fail -2"), HasSubstr("out of memory"));
}

TEST_F(Host, FailTextIsBounded) {
  auto instance = make();
  std::string text = read(*instance, "fail -1 " + std::string(1 << 20, 'y'));
  EXPECT_LT(text.size(), kMaxFailText + 200);
}

TEST_F(Host, OnlyCorruptFromReadStopsNode) {
  auto instance = make();
  std::string reply = "kept";
  auto result = instance->read({}, as_bytes("fail -3 x"), reply);
  EXPECT_EQ(result.error().kind, ErrorKind::kRequestFailed);
  result = instance->read({}, as_bytes("fail -4 x"), reply);
  EXPECT_EQ(result.error().kind, ErrorKind::kPluginFailed);
  EXPECT_EQ(reply, "kept");
}

TEST_F(Host, ClassifyReplyIsKeptForRejectAndReply) {
  auto instance = make();
  struct {
    const char* request;
    RequestKind kind;
    const char* reply;
  } cases[] = {{"status 1", RequestKind::kWrite, ""},
               {"status 2", RequestKind::kRead, ""},
               {"status 3", RequestKind::kReadLocal, ""},
               {"status 4", RequestKind::kReject, "text"},
               {"status 5", RequestKind::kReply, "text"}};
  for (auto& c : cases) {
    std::string reply;
    EXPECT_EQ(instance->classify(as_bytes(c.request), reply), c.kind) << c.request;
    EXPECT_EQ(reply, c.reply) << c.request;
  }
  for (const char* request : {"status 0", "status 6", "status -1", "fail -10 thrown"}) {
    std::string reply;
    auto kind = instance->classify(as_bytes(request), reply);
    ASSERT_FALSE(kind.has_value()) << request;
    EXPECT_EQ(kind.error().kind, ErrorKind::kRequestFailed);
    EXPECT_EQ(reply, "");
  }
}

TEST_F(Host, WithoutClassifyAllRequestsAreWrites) {
  static connectd_plugin only_writes = table(CONNECTD_FRAMING_LINE);
  only_writes.classify = nullptr;
  only_writes.read = nullptr;
  auto instance = make_instance(Plugin::wrap(&only_writes));
  std::string reply;
  EXPECT_EQ(instance->classify(as_bytes("get"), reply), RequestKind::kWrite);
}

TEST_F(Host, ReplyAtLimitIsComplete) {
  auto instance = make();
  std::string reply = "b";
  auto command = "reply " + std::to_string(kMaxReply);
  EXPECT_EQ(instance->apply(entry(1), as_bytes(command), reply), 5);
  EXPECT_EQ(reply.size(), kMaxReply + 1);
}

// The command has its effect; status and bytes are the same on every replica.
TEST_F(Host, ReplyOverLimitIsReplacedAfterApply) {
  auto command = "reply " + std::to_string(kMaxReply + 1);
  const char* ends[] = {"dropped\n", "dropped\r\n", "dropped"};
  const char* begins[] = {"ERR UNKNOWN ", "-UNKNOWN ", "ERR UNKNOWN "};
  for (uint32_t framing : {0, 1, 2}) {
    auto instance = make(framing);
    std::string reply = "b";
    EXPECT_EQ(instance->apply(entry(1), as_bytes(command), reply), CONNECTD_STATUS_REPLY_TOO_BIG);
    EXPECT_TRUE(reply.starts_with(std::string("b") + begins[framing])) << reply;
    EXPECT_TRUE(reply.ends_with(ends[framing])) << reply;
    std::string bytes;
    ASSERT_TRUE(instance->snapshot(covering(1, 0), into(bytes)).has_value());
    EXPECT_EQ(bytes, command);
  }
  auto instance = make();
  std::string reply;
  auto result = instance->read({}, as_bytes(command), reply);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kRequestFailed);
  EXPECT_THAT(result.error().text, HasSubstr("CONNECTD_E_TOO_BIG"));
  EXPECT_EQ(reply, "");
}

TEST_F(Host, SinkFailureKeepsInstance) {
  auto instance = make();
  apply(*instance, 1, "abc");
  int calls = 0;
  auto result = instance->snapshot(covering(1, 0), [&](ByteView) -> Result<void> {
    if (++calls == 2) return failure(ErrorKind::kDisk, "disk full");
    return {};
  });
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kDisk);
  EXPECT_EQ(result.error().text, "disk full");
  EXPECT_EQ(calls, 2);
  result =
      instance->snapshot(covering(1, 0), [](ByteView) -> Result<void> { throw std::bad_alloc(); });
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kInternal);
  EXPECT_EQ(apply(*instance, 2, "status 0"), "");
}

TEST_F(Host, FailedSnapshotStopsReplica) {
  auto instance = make();
  apply(*instance, 1, "bad snapshot");
  std::string bytes;
  auto result = instance->snapshot(covering(1, 0), into(bytes));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kPluginFailed);
  EXPECT_EQ(result.error().text,
            "plugin script 0.9 failed in snapshot at index 1: no disk (CONNECTD_E_IO, -3)");
}

TEST_F(Host, RestoreGetsLengthAndWriter) {
  auto instance = make();
  std::string bytes = "state";
  ASSERT_TRUE(instance->restore(covering(4, bytes.size()), from(bytes)).has_value());
  std::string again;
  ASSERT_TRUE(instance->snapshot(covering(4, 0), into(again)).has_value());
  EXPECT_EQ(again, "state by 1.0.0");
}

TEST_F(Host, FailingOrShortSourceFailsRestore) {
  auto instance = make();
  auto result = instance->restore(covering(4, 5), [](std::span<uint8_t>) -> Result<size_t> {
    return failure(ErrorKind::kCorrupt, "checksum differs");
  });
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().text, "checksum differs");
  instance = make();
  std::string bytes = "abc";
  result = instance->restore(covering(4, 5), from(bytes));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kCorrupt);
  EXPECT_THAT(result.error().text, HasSubstr("ends 2 bytes before"));
}

TEST_F(Host, FailedCreateIsReported) {
  static constexpr connectd_plugin kTable = table(CONNECTD_FRAMING_LINE);
  auto plugin = Plugin::wrap(&kTable);
  ASSERT_TRUE(plugin.has_value());
  auto instance = Instance::create(*plugin, {{"create.result", "-2"}, {"create.text", "why"}});
  ASSERT_FALSE(instance.has_value());
  EXPECT_EQ(instance.error().kind, ErrorKind::kPluginFailed);
  EXPECT_EQ(instance.error().text,
            "plugin script 0.9 failed in create: why (CONNECTD_E_NOMEM, -2)");
}

}  // namespace
}  // namespace connectd::plugin

// The plugin through its table of functions: expiry by the log's time, snapshots, determinism.
#include <gtest/gtest.h>

#include <random>

#include "support.h"

namespace connectd::kv::test {
namespace {

constexpr int64_t kMillisecond = 1'000'000;
constexpr int64_t kSecond = 1000 * kMillisecond;

TEST(Expiry, GoesByTheTimeOfTheEntry) {
  Plugin plugin;
  plugin.call(command("SET a 1 PX 1500"));
  plugin.now += 1500 * kMillisecond;
  EXPECT_EQ(plugin.apply(command("GET a")).reply, "$1\r\n1\r\n");
  plugin.now += kMillisecond;
  EXPECT_EQ(plugin.apply(command("GET a")).reply, "$-1\r\n");
  EXPECT_EQ(plugin.call(command("INCR a")), ":1\r\n");
  EXPECT_EQ(plugin.call(command("TTL a")), ":-1\r\n");
}

TEST(Expiry, InAReadGoesByTheAppliedTimeAndNotByTheClock) {
  Plugin plugin;
  plugin.call(command("SET a 1 EX 10"));
  int64_t applied = plugin.now;
  EXPECT_EQ(plugin.read(command("GET a"), applied, applied + 100 * kSecond).reply, "$1\r\n1\r\n");
  EXPECT_EQ(plugin.read(command("EXISTS a"), applied, applied + 100 * kSecond).reply, ":1\r\n");
  EXPECT_EQ(plugin.read(command("DBSIZE"), applied, applied + 100 * kSecond).reply, ":1\r\n");
  // Only the reported remaining time depends on the clock, and it is never negative.
  EXPECT_EQ(plugin.read(command("TTL a"), applied, applied + 4 * kSecond).reply, ":6\r\n");
  EXPECT_EQ(plugin.read(command("PTTL a"), applied, applied + 4 * kSecond).reply, ":6000\r\n");
  EXPECT_EQ(plugin.read(command("TTL a"), applied, applied + 100 * kSecond).reply, ":0\r\n");
  // Once the log's time has passed, a read sees no key, though no tick has removed it yet.
  EXPECT_EQ(plugin.read(command("GET a"), applied + 11 * kSecond, applied + 11 * kSecond).reply,
            "$-1\r\n");
  EXPECT_EQ(plugin.read(command("DBSIZE"), applied + 11 * kSecond, applied + 11 * kSecond).reply,
            ":0\r\n");
}

TEST(Expiry, DeadlineIsTheFirstMomentAtWhichAKeyIsGone) {
  Plugin plugin;
  EXPECT_EQ(plugin.next_deadline(), INT64_MAX);
  plugin.call(command("SET a 1"));
  EXPECT_EQ(plugin.next_deadline(), INT64_MAX);
  plugin.call(command("SET b 1 EX 20"));
  plugin.call(command("SET c 1 EX 10"));
  int64_t deadline = plugin.next_deadline();
  EXPECT_EQ(plugin.read(command("EXISTS c"), deadline - 1, deadline).reply, ":1\r\n");
  EXPECT_EQ(plugin.read(command("EXISTS c"), deadline, deadline).reply, ":0\r\n");
  plugin.now = deadline;
  EXPECT_EQ(plugin.tick(), CONNECTD_OK);
  EXPECT_EQ(plugin.next_deadline(), deadline + 10 * kSecond);
  plugin.call(command("PERSIST b"));
  EXPECT_EQ(plugin.next_deadline(), INT64_MAX);
  plugin.call(command("PEXPIREAT b 9223372036854775807"));
  EXPECT_EQ(plugin.next_deadline(), INT64_MAX);
}

TEST(Expiry, TicksRemoveInBoundedSteps) {
  Plugin plugin;
  for (int i = 0; i < 2500; i++) plugin.call(command({"SET", std::to_string(i), "x", "EX", "1"}));
  plugin.call(command("SET stays x"));
  plugin.now += 2 * kSecond;
  int ticks = 0;
  while (plugin.next_deadline() <= plugin.now) {
    ASSERT_LT(ticks++, 100);
    plugin.tick();
  }
  EXPECT_EQ(ticks, 3);
  EXPECT_EQ(plugin.call(command("DBSIZE")), ":1\r\n");
}

TEST(Expiry, TimesBeforeTheEpoch) {
  Plugin plugin;
  plugin.now = -10 * kSecond - 1;
  EXPECT_EQ(plugin.call(command("SET a 1 EX 10")), "-ERR invalid expire time in 'set' command\r\n");
  EXPECT_EQ(plugin.call(command("SET a 1 EX 11")), "+OK\r\n");
  EXPECT_EQ(plugin.call(command("TTL a")), ":11\r\n");
}

// ---- Snapshots

void fill(Plugin& plugin) {
  plugin.call(command("MSET one 1 two 2 three 3"));
  plugin.call(command("SET four 4 EX 100"));
  plugin.call(command("SET gone 5 PX 1"));
  plugin.call(command({"SET", std::string("\0\xff\r\n", 4), std::string(300, 'v')}));
  plugin.call(command("SET '' ''"));
  plugin.now += kSecond;
}

TEST(Snapshot, RoundTrip) {
  Plugin plugin;
  fill(plugin);
  std::string data = plugin.snapshot();
  Plugin restored;
  restored.now = plugin.now;
  ASSERT_EQ(restored.restore(data), CONNECTD_OK) << restored.failure;
  EXPECT_EQ(restored.snapshot(), data);
  EXPECT_EQ(restored.next_deadline(), plugin.next_deadline());
  for (const char* text : {"MGET one two three four gone ''", "TTL four", "DBSIZE", "INFO"}) {
    EXPECT_EQ(restored.call(command(std::string_view(text))),
              plugin.call(command(std::string_view(text))))
        << text;
  }
}

TEST(Snapshot, EqualStatesGiveEqualBytes) {
  Plugin a, b;
  for (int i = 0; i < 1000; i++) a.call(command({"SET", "k" + std::to_string(i), "v"}));
  for (int i = 5000; i-- > 0;) b.call(command({"SET", "k" + std::to_string(i), "x"}));
  for (int i = 4999; i >= 1000; i--) b.call(command({"DEL", "k" + std::to_string(i)}));
  EXPECT_NE(a.snapshot(), b.snapshot());
  for (int i = 0; i < 1000; i++) b.call(command({"SET", "k" + std::to_string(i), "v"}));
  EXPECT_EQ(a.snapshot(), b.snapshot());
}

TEST(Snapshot, KeysOutOfOrderAreRefused) {
  auto record = [](char key) {
    return std::string("\1\xff\xff\xff\xff\xff\xff\xff\x7f\1\0\0\0\0\0\0\0", 17) + key +
           std::string("\0\0\0\0\0\0\0\0", 8);
  };
  std::string two = "KVSTATE1" + std::string("\2\0\0\0\0\0\0\0", 8);
  EXPECT_EQ(Plugin().restore(two + record('a') + record('b')), CONNECTD_OK);
  EXPECT_EQ(Plugin().restore(two + record('b') + record('a')), CONNECTD_E_CORRUPT);
  EXPECT_EQ(Plugin().restore(two + record('a') + record('a')), CONNECTD_E_CORRUPT);
}

TEST(Snapshot, EveryCutIsRefused) {
  Plugin plugin;
  fill(plugin);
  std::string data = plugin.snapshot();
  for (size_t size = 0; size < data.size(); size++) {
    Plugin restored;
    ASSERT_EQ(restored.restore(std::string_view(data).substr(0, size)), CONNECTD_E_CORRUPT) << size;
  }
  Plugin restored;
  EXPECT_EQ(restored.restore(data + "x"), CONNECTD_E_CORRUPT);
}

TEST(Snapshot, DamagedByteIsRefusedOrGivesAnotherState) {
  Plugin plugin;
  fill(plugin);
  std::string data = plugin.snapshot();
  int refused = 0;
  for (size_t i = 0; i < data.size(); i++) {
    for (int bit = 0; bit < 8; bit++) {
      std::string damaged = data;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      Plugin restored;
      int32_t result = restored.restore(damaged);
      if (result == CONNECTD_OK) {
        ASSERT_EQ(restored.snapshot(), damaged) << "byte " << i << " bit " << bit;
      } else {
        ASSERT_EQ(result, CONNECTD_E_CORRUPT) << "byte " << i << " bit " << bit;
        ASSERT_FALSE(restored.failure.empty());
        refused++;
      }
    }
  }
  EXPECT_GT(refused, 500);
}

// ---- Any bytes, and the same on every replica

std::string random_words(std::mt19937_64& random) {
  static const std::vector<std::string> kWords = {
      "APPEND", "CAS",     "DECR",     "DECRBY",   "DEL",     "EXISTS", "EXPIRE", "FLUSHALL",
      "GET",    "GETDEL",  "GETEX",    "GETRANGE", "GETSET",  "INCR",   "INCRBY", "INCRBYFLOAT",
      "MGET",   "MSET",    "MSETNX",   "PERSIST",  "PEXPIRE", "PSETEX", "PTTL",   "SET",
      "SETEX",  "SETNX",   "SETRANGE", "STRLEN",   "TTL",     "TYPE",   "DBSIZE", "INFO",
      "PING",   "COMMAND", "HELLO",    "CLIENT",   "CONFIG",  "SELECT", "FOO"};
  static const std::vector<std::string> kArguments = {"a",
                                                      "b",
                                                      "c",
                                                      "d",
                                                      "e",
                                                      "1",
                                                      "2",
                                                      "-1",
                                                      "10",
                                                      "1.5",
                                                      "x",
                                                      "",
                                                      "EX",
                                                      "PX",
                                                      "NX",
                                                      "XX",
                                                      "GET",
                                                      "KEEPTTL",
                                                      "GT",
                                                      "LT",
                                                      "9223372036854775807",
                                                      "long value that does not fit inline"};
  std::vector<std::string> words = {kWords[random() % kWords.size()]};
  if (words[0] == "FLUSHALL" && random() % 20 != 0) words[0] = "SET";
  for (size_t i = random() % 6; i > 0; i--)
    words.push_back(kArguments[random() % kArguments.size()]);
  return command(std::span<const std::string>(words));
}

std::string random_request(std::mt19937_64& random) {
  std::string request = random_words(random);
  while (random() % 8 == 0) request += random_words(random);
  if (random() % 10 == 0) {
    for (size_t i = random() % 4; i > 0; i--) {
      request[random() % request.size()] = static_cast<char>(random());
    }
  }
  if (random() % 40 == 0) request.resize(random() % (request.size() + 1));
  return request;
}

TEST(AnyBytes, GetAnAnswer) {
  std::mt19937_64 random(3);
  Plugin plugin;
  int rejected = 0;
  for (int i = 0; i < 50'000; i++) {
    std::string request;
    if (i % 2 == 0) {
      request = random_request(random);
    } else {
      static constexpr char kBytes[] = "*$:+-0123456789\r\n\r\n\r\n";
      for (size_t n = random() % 40; n > 0; n--) {
        request += random() % 8 == 0 ? static_cast<char>(random())
                                     : kBytes[random() % (sizeof kBytes - 1)];
      }
    }
    Answer answer = plugin.classify(request);
    ASSERT_GE(answer.result, CONNECTD_WRITE);
    ASSERT_LE(answer.result, CONNECTD_REPLY);
    ASSERT_EQ(plugin.classify(request).reply, answer.reply);
    bool answered = answer.result == CONNECTD_REJECT || answer.result == CONNECTD_REPLY;
    ASSERT_EQ(answer.reply.empty(), !answered);
    if (answer.result == CONNECTD_REJECT) rejected++;
    // Older nodes may let through what this one would not.
    Answer applied = plugin.apply(request);
    ASSERT_GE(applied.result, 0);
    ASSERT_FALSE(applied.reply.empty());
    Answer read = plugin.read(request);
    ASSERT_GE(read.result, 0);
    ASSERT_FALSE(read.reply.empty());
  }
  EXPECT_GT(rejected, 1000);
}

TEST(Determinism, EqualCommandsGiveEqualRepliesAndStates) {
  for (uint64_t seed = 1; seed <= 5; seed++) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    // The second is replaced by what a snapshot of it gives, now and then; and is read from.
    auto a = std::make_unique<Plugin>();
    auto b = std::make_unique<Plugin>();
    for (int i = 0; i < 20'000; i++) {
      a->now = b->now = a->now + static_cast<int64_t>(random() % (200 * kMillisecond));
      std::string request = random_request(random);
      b->read(random_request(random));
      b->classify(request);
      Answer x = a->apply(request), y = b->apply(request);
      ASSERT_EQ(x.result, y.result) << request;
      ASSERT_EQ(x.reply, y.reply) << request;
      ASSERT_EQ(a->next_deadline(), b->next_deadline());
      if (a->next_deadline() <= a->now && random() % 4 == 0) {
        a->tick();
        b->tick();
      }
      if (i % 1000 == 999) {
        std::string data = b->snapshot();
        ASSERT_EQ(a->snapshot(), data);
        auto restored = std::make_unique<Plugin>();
        restored->now = b->now;
        ASSERT_EQ(restored->restore(data), CONNECTD_OK);
        b = std::move(restored);
      }
    }
  }
}

TEST(Table, SaysWhatThePluginIs) {
  const connectd_plugin& table = Plugin::table();
  EXPECT_STREQ(table.name, "kv");
  EXPECT_EQ(table.framing, static_cast<uint32_t>(CONNECTD_FRAMING_RESP));
  EXPECT_NE(table.flags & CONNECTD_F_CANONICAL_SNAPSHOT, 0u);
  EXPECT_NE(table.flags & CONNECTD_F_READ_SHARED, 0u);
}

}  // namespace
}  // namespace connectd::kv::test

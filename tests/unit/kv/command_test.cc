// Each command's replies, errors among them, as Redis 7.0 gives them. In the tables a reply is
// written with | for the line ends.
#include <gtest/gtest.h>

#include "support.h"

namespace connectd::kv::test {
namespace {

struct Exchange {
  const char* command;  // words parted by spaces, '' for an empty one
  const char* reply;
};

std::string with_bars(std::string_view reply) {
  std::string text;
  for (size_t i = 0; i < reply.size(); i++) {
    if (reply.substr(i, 2) == "\r\n") {
      text += '|';
      i++;
    } else {
      text += reply[i];
    }
  }
  return text;
}

void run(Plugin& plugin, std::initializer_list<Exchange> exchanges) {
  for (const Exchange& exchange : exchanges) {
    EXPECT_EQ(with_bars(plugin.call(command(std::string_view(exchange.command)))), exchange.reply)
        << exchange.command;
  }
}

constexpr const char* kNotAnInteger = "-ERR value is not an integer or out of range|";
constexpr const char* kSyntax = "-ERR syntax error|";

TEST(Commands, GetAndSet) {
  Plugin plugin;
  run(plugin, {
                  {"GET a", "$-1|"},
                  {"SET a 1", "+OK|"},
                  {"get a", "$1|1|"},
                  {"SET a ''", "+OK|"},
                  {"GET a", "$0||"},
                  {"SET a 2 NX", "$-1|"},
                  {"SET b 2 XX", "$-1|"},
                  {"SET b 2 nx", "+OK|"},
                  {"SET b 3 xx", "+OK|"},
                  {"SET b 4 GET", "$1|3|"},
                  {"SET c 4 GET", "$-1|"},
                  {"SET c 5 NX GET", "$1|4|"},
                  {"GET c", "$1|4|"},
                  {"SET d 5 XX GET", "$-1|"},
                  {"EXISTS d", ":0|"},
                  {"SET a b c", kSyntax},
                  {"SET a b NX XX", kSyntax},
                  {"SET a b EX", kSyntax},
                  {"SET a b EX 1 PX 1", kSyntax},
                  {"SET a b KEEPTTL EX 1", kSyntax},
                  {"SET a b PERSIST", kSyntax},
                  {"SET a b EX x", kNotAnInteger},
                  {"SET a b EX 0", "-ERR invalid expire time in 'set' command|"},
                  {"SET a b PX -1", "-ERR invalid expire time in 'set' command|"},
                  {"SET a b EX 9223372036854775807", "-ERR invalid expire time in 'set' command|"},
                  {"SET a b PX 9223372036854775807", "-ERR invalid expire time in 'set' command|"},
                  {"SET a", "-ERR wrong number of arguments for 'set' command|"},
                  {"GET", "-ERR wrong number of arguments for 'get' command|"},
                  {"GET a b", "-ERR wrong number of arguments for 'get' command|"},
                  {"SETNX a 9", ":0|"},
                  {"SETNX e 9", ":1|"},
                  {"GETSET e 10", "$1|9|"},
                  {"GETSET f 10", "$-1|"},
                  {"GETDEL f", "$2|10|"},
                  {"GETDEL f", "$-1|"},
              });
}

TEST(Commands, Counters) {
  Plugin plugin;
  run(plugin, {
                  {"INCR n", ":1|"},
                  {"INCRBY n 41", ":42|"},
                  {"DECR n", ":41|"},
                  {"DECRBY n -9", ":50|"},
                  {"GET n", "$2|50|"},
                  {"INCRBY n x", kNotAnInteger},
                  {"DECRBY n -9223372036854775808", "-ERR decrement would overflow|"},
                  {"SET n 9223372036854775807", "+OK|"},
                  {"INCR n", "-ERR increment or decrement would overflow|"},
                  {"SET n -9223372036854775808", "+OK|"},
                  {"DECR n", "-ERR increment or decrement would overflow|"},
                  {"SET n 01", "+OK|"},
                  {"INCR n", kNotAnInteger},
                  {"SET f 10.50", "+OK|"},
                  {"INCRBYFLOAT f 0.1", "$4|10.6|"},
                  {"INCRBYFLOAT f -5", "$3|5.6|"},
                  {"INCRBYFLOAT f x", "-ERR value is not a valid float|"},
                  {"INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity|"},
                  {"INCRBYFLOAT g 3.0e3", "$4|3000|"},
                  {"SET f x", "+OK|"},
                  {"INCRBYFLOAT f 1", "-ERR value is not a valid float|"},
              });
}

TEST(Commands, PartsOfStrings) {
  Plugin plugin;
  run(plugin, {
                  {"APPEND s Hello", ":5|"},
                  {"APPEND s World", ":10|"},
                  {"STRLEN s", ":10|"},
                  {"STRLEN none", ":0|"},
                  {"GETRANGE s 0 4", "$5|Hello|"},
                  {"GETRANGE s -5 -1", "$5|World|"},
                  {"GETRANGE s -1 -5", "$0||"},
                  {"GETRANGE s 0 -1", "$10|HelloWorld|"},
                  {"GETRANGE s 5 100", "$5|World|"},
                  {"GETRANGE s -100 -100", "$1|H|"},
                  {"GETRANGE s 9223372036854775807 9223372036854775807", "$0||"},
                  {"GETRANGE s -9223372036854775808 9223372036854775807", "$10|HelloWorld|"},
                  {"GETRANGE none 0 -1", "$0||"},
                  {"GETRANGE s x 1", kNotAnInteger},
                  {"SETRANGE s 5 Redis", ":10|"},
                  {"GET s", "$10|HelloRedis|"},
                  {"SETRANGE s 9 ab", ":11|"},
                  {"SETRANGE none 5 ''", ":0|"},
                  {"EXISTS none", ":0|"},
                  {"SETRANGE s 0 ''", ":11|"},
                  {"SETRANGE s -1 a", "-ERR offset is out of range|"},
                  {"SETRANGE s x a", kNotAnInteger},
                  {"SETRANGE s 9223372036854775807 a",
                   "-ERR string exceeds maximum allowed size (proto-max-bulk-len)|"},
                  {"SETRANGE s 66060288 a",
                   "-ERR string exceeds maximum allowed size (proto-max-bulk-len)|"},
              });
  EXPECT_EQ(plugin.call(command("SETRANGE z 2 a")), ":3\r\n");
  EXPECT_EQ(plugin.call(command("GET z")), std::string("$3\r\n\0\0a\r\n", 9));
}

TEST(Commands, ManyKeys) {
  Plugin plugin;
  run(plugin, {
                  {"MSET a 1 b 2", "+OK|"},
                  {"MGET a none b a", "*4|$1|1|$-1|$1|2|$1|1|"},
                  {"MSET a 1 b", "-ERR wrong number of arguments for 'mset' command|"},
                  {"MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command|"},
                  {"MSETNX c 1 a 2", ":0|"},
                  {"MSETNX c 1 d 2", ":1|"},
                  {"EXISTS a a none c", ":3|"},
                  {"DBSIZE", ":4|"},
                  {"DEL a none a", ":1|"},
                  {"UNLINK b c", ":2|"},
                  {"TYPE d", "+string|"},
                  {"TYPE a", "+none|"},
                  {"FLUSHALL NOW", kSyntax},
                  {"FLUSHALL ASYNC x", kSyntax},
                  {"FLUSHALL async", "+OK|"},
                  {"DBSIZE", ":0|"},
                  {"SET a 1", "+OK|"},
                  {"FLUSHDB", "+OK|"},
                  {"EXISTS a", ":0|"},
              });
}

TEST(Commands, CompareAndSet) {
  Plugin plugin;
  run(plugin, {
                  {"CAS a x y", ":0|"},
                  {"EXISTS a", ":0|"},
                  {"SET a x EX 100", "+OK|"},
                  {"CAS a y z", ":0|"},
                  {"CAS a x y", ":1|"},
                  {"GET a", "$1|y|"},
                  {"TTL a", ":100|"},
                  {"CAS a x", "-ERR wrong number of arguments for 'cas' command|"},
              });
}

TEST(Commands, SettingAnExpiry) {
  Plugin plugin;
  run(plugin,
      {
          {"TTL a", ":-2|"},
          {"PTTL a", ":-2|"},
          {"EXPIRE a 10", ":0|"},
          {"SET a 1", "+OK|"},
          {"TTL a", ":-1|"},
          {"PEXPIRETIME a", ":-1|"},
          {"PERSIST a", ":0|"},
          {"EXPIRE a 10", ":1|"},
          {"TTL a", ":10|"},
          {"PTTL a", ":10000|"},
          {"EXPIRETIME a", ":1700000010|"},
          {"PEXPIRETIME a", ":1700000010000|"},
          {"EXPIRE a 5 GT", ":0|"},
          {"EXPIRE a 20 LT", ":0|"},
          {"EXPIRE a 20 NX", ":0|"},
          {"EXPIRE a 20 XX GT", ":1|"},
          {"EXPIRE a 5 LT", ":1|"},
          {"TTL a", ":5|"},
          {"PERSIST a", ":1|"},
          {"EXPIRE a 20 XX", ":0|"},
          {"EXPIRE a 20 GT", ":0|"},
          {"EXPIRE a 20 LT", ":1|"},
          {"PEXPIRE a 1500", ":1|"},
          {"TTL a", ":2|"},
          {"EXPIREAT a 1700000030", ":1|"},
          {"TTL a", ":30|"},
          {"PEXPIREAT a 1700000040000", ":1|"},
          {"TTL a", ":40|"},
          {"PEXPIREAT a 9223372036854775807", ":1|"},
          {"PEXPIRETIME a", ":9223372036854775806|"},
          {"EXPIRE a x", kNotAnInteger},
          {"EXPIRE a 9223372036854775807", "-ERR invalid expire time in 'expire' command|"},
          {"EXPIRE a 1 FOO", "-ERR Unsupported option FOO|"},
          {"EXPIRE a 1 NX XX",
           "-ERR NX and XX, GT or LT options at the same time are not compatible|"},
          {"EXPIRE a 1 GT LT", "-ERR GT and LT options at the same time are not compatible|"},
          {"EXPIRE a -1", ":1|"},
          {"EXISTS a", ":0|"},
          {"SETEX b 10 v", "+OK|"},
          {"PSETEX c 2500 v", "+OK|"},
          {"MGET b c", "*2|$1|v|$1|v|"},
          {"TTL b", ":10|"},
          {"PTTL c", ":2500|"},
          {"SETEX b 0 v", "-ERR invalid expire time in 'setex' command|"},
          {"PSETEX b x v", kNotAnInteger},
          {"SET b w KEEPTTL", "+OK|"},
          {"TTL b", ":10|"},
          {"APPEND b x", ":2|"},
          {"TTL b", ":10|"},
          {"SET b w", "+OK|"},
          {"TTL b", ":-1|"},
          {"GETEX b EX 10", "$1|w|"},
          {"TTL b", ":10|"},
          {"GETEX b", "$1|w|"},
          {"TTL b", ":10|"},
          {"GETEX b PERSIST", "$1|w|"},
          {"TTL b", ":-1|"},
          {"GETEX b NX", kSyntax},
          {"GETEX b EX 0", "-ERR invalid expire time in 'getex' command|"},
          {"GETEX none EX 0", "$-1|"},
          {"GETEX b EXAT 1", "$1|w|"},
          {"EXISTS b", ":0|"},
          {"SET b v PXAT 1", "+OK|"},
          {"EXISTS b", ":0|"},
      });
}

TEST(Commands, OnConnecting) {
  Plugin plugin;
  constexpr const char* kHello =
      "*14|$6|server|$5|redis|$7|version|$5|7.0.0|$5|proto|:2|$2|id|:1|$4|mode|$10|standalone|"
      "$4|role|$6|master|$7|modules|*0|";
  run(plugin,
      {
          {"PING", "+PONG|"},
          {"PING hi", "$2|hi|"},
          {"PING a b", "-ERR wrong number of arguments for 'ping' command|"},
          {"ECHO hi", "$2|hi|"},
          {"HELLO", kHello},
          {"HELLO 2", kHello},
          {"HELLO 2 AUTH default x SETNAME me", kHello},
          {"HELLO 3",
           "%7|$6|server|$5|redis|$7|version|$5|7.0.0|$5|proto|:3|$2|id|:1|$4|mode|$10|standalone|"
           "$4|role|$6|master|$7|modules|*0|"},
          {"HELLO 3 AUTH me x", "-WRONGPASS invalid username-password pair or user is disabled.|"},
          {"HELLO 4", "-NOPROTO unsupported protocol version|"},
          {"HELLO x", "-ERR Protocol version is not an integer or out of range|"},
          {"HELLO 2 FOO", "-ERR Syntax error in HELLO option 'FOO'|"},
          {"AUTH default x", "+OK|"},
          {"AUTH me x", "-WRONGPASS invalid username-password pair or user is disabled.|"},
          {"SELECT 0", "+OK|"},
          {"SELECT 1", "-ERR DB index is out of range|"},
          {"SELECT x", kNotAnInteger},
          {"CLIENT SETNAME me", "+OK|"},
          {"CLIENT SETINFO LIB-NAME x", "+OK|"},
          {"CLIENT GETNAME", "$-1|"},
          {"CLIENT ID", ":1|"},
          {"CLIENT SETNAME", "-ERR wrong number of arguments for 'client|setname' command|"},
          {"CLIENT KILL x", "-ERR unknown subcommand 'KILL'. Try CLIENT HELP.|"},
          {"CONFIG GET save", "*2|$4|save|$0||"},
          {"CONFIG GET appendonly", "*2|$10|appendonly|$3|yes|"},
          {"CONFIG GET nothing", "*0|"},
          {"CONFIG GET app*y sa?e", "*4|$10|appendonly|$3|yes|$4|save|$0||"},
          {"CONFIG SET save x", "-ERR unknown subcommand 'SET'. Try CONFIG HELP.|"},
          {"COMMAND COUNT", ":46|"},
          {"COMMAND INFO get none",
           "*2|*10|$3|get|:2|*1|+readonly|:1|:1|:1|*2|+@read|+@string|*0|*0|*0|$-1|"},
          {"COMMAND DOCS none", "*0|"},
          {"COMMAND FOO", "-ERR unknown subcommand 'FOO'. Try COMMAND HELP.|"},
      });
  EXPECT_TRUE(plugin.call(command("COMMAND")).starts_with("*46\r\n*10\r\n$6\r\nappend\r\n:3\r\n"));
  EXPECT_TRUE(plugin.call(command("COMMAND DOCS")).starts_with("*92\r\n$6\r\nappend\r\n*6\r\n"));
  EXPECT_TRUE(plugin.call(command("COMMAND LIST")).starts_with("*46\r\n$6\r\nappend\r\n"));
  plugin.call(command("SETEX a 10 b"));
  EXPECT_EQ(with_bars(plugin.call(command("INFO keyspace"))),
            "$44|# Keyspace|db0:keys=1,expires=1,avg_ttl=0||");
}

TEST(Commands, Unknown) {
  Plugin plugin;
  run(plugin,
      {
          {"FOO", "-ERR unknown command 'FOO', with args beginning with: |"},
          {"lpush a b", "-ERR unknown command 'lpush', with args beginning with: 'a' 'b' |"},
          {"''", "-ERR unknown command '', with args beginning with: |"},
      });
  EXPECT_EQ(plugin.call(command({"a\r\nb", "c\nd"})),
            "-ERR unknown command 'a  b', with args beginning with: 'c d' \r\n");
  EXPECT_EQ(plugin.call(command({std::string(300, 'x'), std::string(300, 'y'), "z"})),
            "-ERR unknown command '" + std::string(128, 'x') + "', with args beginning with: '" +
                std::string(128, 'y') + "' \r\n");
}

TEST(Commands, KindOfEach) {
  Plugin plugin;
  EXPECT_EQ(plugin.classify(command("GET a")).result, CONNECTD_READ);
  EXPECT_EQ(plugin.classify(command("SET a b")).result, CONNECTD_WRITE);
  EXPECT_EQ(plugin.classify(command("INFO")).result, CONNECTD_READ_LOCAL);
  EXPECT_EQ(plugin.classify(command("PING")).result, CONNECTD_REPLY);
  EXPECT_EQ(plugin.classify(command("FOO")).result, CONNECTD_REJECT);
  EXPECT_EQ(plugin.classify(command("GET")).result, CONNECTD_REJECT);
  EXPECT_EQ(plugin.classify("").result, CONNECTD_REJECT);
  EXPECT_EQ(plugin.classify("PING\r\n").result, CONNECTD_REJECT);
  EXPECT_EQ(plugin.classify(command("GET a") + command("GET b")).result, CONNECTD_WRITE);
  EXPECT_EQ(plugin.classify(command("GET a") + "x").result, CONNECTD_REJECT);
  // classify answers a command that depends only on its arguments; for the others its reply is
  // empty.
  EXPECT_EQ(plugin.classify(command("SET a b")).reply, "");
  EXPECT_EQ(plugin.classify(command("GET a")).reply, "");
}

TEST(Commands, SeveralInOneRequest) {
  Plugin plugin;
  std::string request = command("SET a 1") + command("INCR a") + command("GET a") +
                        command("PING") + command("SET b x") + command("INCR b") + command("TTL a");
  EXPECT_EQ(with_bars(plugin.call(request)),
            "*7|+OK|:2|$1|2|+PONG|+OK|-ERR value is not an integer or out of range|:-1|");
  // An entry of an older log is answered as it was then.
  EXPECT_EQ(with_bars(plugin.apply(command("GET a") + command("FOO") + command("INCR a x")).reply),
            "*3|$1|2|-ERR unknown command 'FOO', with args beginning with: |"
            "-ERR wrong number of arguments for 'incr' command|");
  EXPECT_EQ(with_bars(plugin.apply(command("GET a") + command("HELLO 3")).reply),
            "*2|$1|2|-NOPROTO unsupported protocol version|");
  // A request that cannot be understood to its end changes nothing.
  Answer answer = plugin.apply(command("SET a 9") + "*1\r\n$4\r\nPI");
  EXPECT_GT(answer.result, 0);
  EXPECT_EQ(with_bars(answer.reply), "-ERR Protocol error: invalid bulk length|");
  run(plugin, {{"GET a", "$1|2|"}});
}

// Redis answers EXECABORT, and executes none.
TEST(Commands, OneThatCannotBeQueuedRejectsAll) {
  Plugin plugin;
  const std::string unknown = "-ERR unknown command '";
  const std::string arity = "-ERR wrong number of arguments for 'set' command|";
  for (const auto& [line, error] :
       {std::pair{"NOSUCH", unknown + "NOSUCH', with args beginning with: |"},
        std::pair{"SET a", arity},
        std::pair{"MULTI", unknown + "MULTI', with args beginning with: |"},
        std::pair{"EXEC", unknown + "EXEC', with args beginning with: |"},
        std::pair{"WATCH a", unknown + "WATCH', with args beginning with: 'a' |"}}) {
    for (const std::string& request :
         {command("SET a 1") + command(line), command(line) + command("SET a 1"),
          command("SET a 1") + command(line) + command("SET a 2")}) {
      const Answer answer = plugin.classify(request);
      EXPECT_EQ(answer.result, CONNECTD_REJECT) << line;
      EXPECT_EQ(with_bars(answer.reply), error);
    }
  }
}

TEST(Commands, StatusTellsAnError) {
  Plugin plugin;
  EXPECT_EQ(plugin.apply(command("SET a x")).result, 0);
  EXPECT_GT(plugin.apply(command("INCR a")).result, 0);
  EXPECT_GT(plugin.apply(command("FOO")).result, 0);
  EXPECT_GT(plugin.apply("").result, 0);
  EXPECT_GT(plugin.apply(command("GET a") + command("FOO")).result, 0);
  EXPECT_EQ(plugin.apply(command("GET a")).result, 0);
  EXPECT_GT(plugin.read(command("SET a y")).result, 0);
  EXPECT_GT(plugin.read(command("GET a") + command("GET a")).result, 0);
  EXPECT_EQ(plugin.call(command("GET a")), "$1\r\nx\r\n");
}

TEST(Limits, LengthOfAValue) {
  Plugin plugin(Plugin::Options{{"limits.value", "10"}});
  constexpr const char* kTooLong = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)|";
  run(plugin, {
                  {"SET a 0123456789", "+OK|"},
                  {"SET a 01234567890", kTooLong},
                  {"APPEND a x", kTooLong},
                  {"SETRANGE a 9 x", ":10|"},
                  {"SETRANGE a 10 x", kTooLong},
                  {"SETNX b 01234567890", kTooLong},
                  {"GETSET a 01234567890", kTooLong},
                  {"SETEX a 1 01234567890", kTooLong},
                  {"MSET c 1 d 01234567890", kTooLong},
                  {"EXISTS c", ":0|"},
                  {"MSETNX c 1 d 01234567890", kTooLong},
                  {"CAS a 012345678x 01234567890", kTooLong},
                  {"GET a", "$10|012345678x|"},
              });
}

TEST(Limits, Memory) {
  Plugin plugin(Plugin::Options{{"limits.memory", "1000"}});
  int stored = 0;
  std::string reply;
  for (; stored < 100; stored++) {
    reply = plugin.call(command({"SET", "key" + std::to_string(stored), std::string(50, 'x')}));
    if (reply != "+OK\r\n") break;
  }
  EXPECT_EQ(reply, "-OOM command not allowed when used memory > 'maxmemory'.\r\n");
  EXPECT_GT(stored, 2);
  EXPECT_LT(stored, 12);
  run(plugin, {{"INCR n", "-OOM command not allowed when used memory > 'maxmemory'.|"},
               {"DEL key0 key1", ":2|"},
               {"INCR n", ":1|"}});
}

TEST(Limits, OptionThatIsNoNumber) {
  Plugin plugin(Plugin::Options{{"limits.value", "lots"}});
  EXPECT_EQ(plugin.created, CONNECTD_E_CONFIG);
  EXPECT_NE(plugin.failure.find("limits.value"), std::string::npos) << plugin.failure;
}

}  // namespace
}  // namespace connectd::kv::test

#include "plugins/kv/resp.h"

#include <gtest/gtest.h>

#include <string>

namespace connectd::kv {
namespace {

using Step = RequestReader::Step;

TEST(RequestReader, CutsCommandsAndTheirWords) {
  RequestReader reader(std::string_view("*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n*1\r\n$0\r\n\r\n"));
  Arguments arguments;
  ASSERT_EQ(reader.next(arguments), Step::kCommand);
  ASSERT_EQ(arguments.size(), 2u);
  EXPECT_EQ(arguments[0], "GET");
  EXPECT_EQ(arguments[1], "a\r\nb");
  ASSERT_EQ(reader.next(arguments), Step::kCommand);
  ASSERT_EQ(arguments.size(), 1u);
  EXPECT_EQ(arguments[0], "");
  EXPECT_TRUE(reader.at_end());
  EXPECT_EQ(reader.next(arguments), Step::kEnd);
}

TEST(RequestReader, TakesMoreWordsThanFitInline) {
  std::string request = "*1000\r\n";
  for (int i = 0; i < 1000; i++) request += "$1\r\nx\r\n";
  RequestReader reader(request);
  Arguments arguments;
  ASSERT_EQ(reader.next(arguments), Step::kCommand);
  ASSERT_EQ(arguments.size(), 1000u);
  EXPECT_EQ(arguments[999], "x");
}

TEST(RequestReader, RefusesEveryPrefixOfACommand) {
  std::string request = "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n";
  for (size_t size = 1; size < request.size(); size++) {
    RequestReader reader(std::string_view(request).substr(0, size));
    Arguments arguments;
    EXPECT_EQ(reader.next(arguments), Step::kMalformed) << size;
  }
}

TEST(RequestReader, BelievesNoNumber) {
  for (std::string_view request :
       {"*4294967295\r\n$1\r\nx\r\n", "*18446744073709551615\r\n$1\r\nx\r\n",
        "*99999999999999999999999\r\n", "*-1\r\n", "*0\r\n", "*+1\r\n$1\r\nx\r\n", "*1\r\n$-1\r\n",
        "*1\r\n$18446744073709551615\r\nx\r\n", "*1\r\n$18446744073709551614\r\nx\r\n",
        "*1\r\n$2\r\nx\r\n", "*1\r\n$1\r\nxy\r\n", "*1\n$1\nx\n", "PING\r\n", "*1\r\n:1\r\n",
        "*\r\n", "*1\r\n$\r\n\r\n"}) {
    RequestReader reader(request);
    Arguments arguments;
    EXPECT_EQ(reader.next(arguments), Step::kMalformed) << request;
    EXPECT_NE(std::string_view(reader.what()), "") << request;
  }
}

TEST(Reply, WritesEachForm) {
  std::string out;
  Output output{&out, [](void* to, const void* data, size_t size) {
                  static_cast<std::string*>(to)->append(static_cast<const char*>(data), size);
                }};
  std::string large(2000, 'x');
  {
    Reply reply(output);
    reply.array(6);
    reply.simple("OK");
    reply.error("ERR a\r\nb");
    reply.integer(-42);
    reply.bulk("a");
    reply.null();
    reply.bulk(large);
    EXPECT_TRUE(reply.has_error());
  }
  EXPECT_EQ(out, "*6\r\n+OK\r\n-ERR a  b\r\n:-42\r\n$1\r\na\r\n$-1\r\n$2000\r\n" + large + "\r\n");
}

}  // namespace
}  // namespace connectd::kv

#include "wire/framing.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "base/random.h"

namespace connectd::wire {
namespace {

using Maker = std::function<std::unique_ptr<FrameParser>(size_t)>;

// What came of a stream, one line per outcome: "R:bytes", "A:reply", "Q:reply", "L" too large,
// "B:text" bad frame, "Z:reply" reset, "C:user/secret" credentials, of which the secret "good" is;
// then how many bytes were left over.
struct Outcomes {
  std::vector<std::string> lines;
  size_t left = 0;
  size_t buffer_max = 0;
  bool operator==(const Outcomes& other) const {
    return lines == other.lines && left == other.left;
  }
};

std::string text_of(const Parsed& parsed) { return std::string(as_text(parsed.bytes)); }

// Feeds `stream` in pieces of the given sizes (the last size repeats) from exactly sized blocks, so
// that a read past the end is seen by AddressSanitizer.
Outcomes run(const Maker& make, std::string_view stream, std::vector<size_t> sizes,
             size_t max_request = 1000) {
  auto parser = make(max_request);
  Outcomes out;
  std::vector<uint8_t> buffer;
  size_t size_at = 0;
  while (!stream.empty()) {
    size_t size = std::min(sizes[std::min(size_at++, sizes.size() - 1)], stream.size());
    ByteView piece = as_bytes(stream.substr(0, size));
    std::vector<uint8_t> grown(buffer);
    grown.insert(grown.end(), piece.begin(), piece.end());
    buffer = std::vector<uint8_t>(grown.begin(), grown.end());
    stream.remove_prefix(size);
    while (true) {
      out.buffer_max = std::max(out.buffer_max, buffer.size());
      Parsed parsed = parser->next(buffer);
      EXPECT_LE(parsed.consumed, buffer.size());
      switch (parsed.outcome) {
        case ParseOutcome::kRequest:
          out.lines.push_back("R:" + text_of(parsed));
          break;
        case ParseOutcome::kReply:
          out.lines.push_back("A:" + text_of(parsed));
          break;
        case ParseOutcome::kReset:
          out.lines.push_back("Z:" + text_of(parsed));
          break;
        case ParseOutcome::kCredentials:
          out.lines.push_back("C:" + std::string(parsed.user) + "/" + std::string(parsed.secret));
          if (parsed.secret == "good") {
            parser->set_known(true);
            const Parsed next = parser->authenticated();
            EXPECT_EQ(next.consumed, 0u);
            const bool is_request = next.outcome == ParseOutcome::kRequest;
            out.lines.push_back((is_request ? "R:" : "A:") + text_of(next));
          }
          break;
        case ParseOutcome::kQuit:
          out.lines.push_back("Q:" + text_of(parsed));
          return out;
        case ParseOutcome::kTooLarge:
          out.lines.push_back("L");
          break;
        case ParseOutcome::kBadFrame:
          out.lines.push_back("B:" + text_of(parsed));
          return out;
        case ParseOutcome::kNeedMore:
          break;
      }
      buffer = std::vector<uint8_t>(buffer.begin() + static_cast<ptrdiff_t>(parsed.consumed),
                                    buffer.end());
      if (parsed.outcome == ParseOutcome::kNeedMore) {
        EXPECT_GT(parsed.wanted, buffer.size());
        break;
      }
    }
  }
  out.left = buffer.size();
  return out;
}

using Lines = std::vector<std::string>;

Lines lines_of(const Maker& make, std::string_view stream, size_t max_request = 1000) {
  return run(make, stream, {stream.size()}, max_request).lines;
}

std::string bulk_array(const std::vector<std::string>& words) {
  std::string out = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words) {
    out += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
  }
  return out;
}

std::string with_length(std::string_view bytes) {
  std::string out;
  ByteWriter(out).counted(bytes);
  return out;
}

// ---- line

TEST(LineFraming, RequestIsTheBytesBeforeTheLineEnd) {
  EXPECT_EQ(lines_of(make_line_parser, "incr\nget\r\n\n\r\na\rb\nrest"),
            (Lines{"R:incr", "R:get", "R:", "R:", "R:a\rb"}));
  EXPECT_EQ(run(make_line_parser, "incr\nrest", {100}).left, 4u);
}

TEST(LineFraming, BodyIsOneLine) {
  auto line = [](std::string_view body) -> std::string {
    auto found = one_line(as_bytes(body));
    return found ? std::string(as_text(*found)) : "none";
  };
  EXPECT_EQ(line("incr"), "incr");
  EXPECT_EQ(line("incr\n"), "incr");
  EXPECT_EQ(line("incr\r\n"), "incr");
  EXPECT_EQ(line(""), "");
  EXPECT_EQ(line("\n"), "");
  EXPECT_EQ(line("a\rb\r"), "a\rb\r");
  EXPECT_EQ(line("incr\nincr"), "none");
  EXPECT_EQ(line("incr\nincr\n"), "none");
  EXPECT_EQ(line("\n\n"), "none");
}

TEST(LineFraming, ExactlyTheLimitIsARequestAndOneMoreIsTooLarge) {
  EXPECT_EQ(lines_of(make_line_parser, "12345\n12345\r\n123456\n123456\r\nx\n", 5),
            (Lines{"R:12345", "R:12345", "L", "L", "R:x"}));
}

TEST(LineFraming, EndlessLineIsSkippedInBoundedMemory) {
  std::string stream(100000, 'x');
  stream += "\nok\n";
  Outcomes out = run(make_line_parser, stream, {7}, 100);
  EXPECT_EQ(out.lines, (Lines{"L", "R:ok"}));
  EXPECT_LE(out.buffer_max, 100 + kFrameSlackBytes);
}

TEST(LineFraming, RepliesAndErrors) {
  auto parser = make_line_parser(10);
  std::string out;
  parser->append_reply(out, as_bytes("7\n"), 0);
  parser->append_error(out, "NOLEADER", "two\r\nlines");
  EXPECT_EQ(out, "7\nERR NOLEADER two  lines\n");
}

// ---- length

TEST(LengthFraming, RequestsOfEverySize) {
  std::string big(1000, 'b');
  EXPECT_EQ(lines_of(make_length_parser, with_length("") + with_length("abc") + with_length(big)),
            (Lines{"R:", "R:abc", "R:" + big}));
}

TEST(LengthFraming, SkipsTooLargeRejectsAbsurdLength) {
  std::string stream = with_length(std::string(70000, 'x')) + with_length("ok");
  Outcomes out = run(make_length_parser, stream, {11}, 100);
  EXPECT_EQ(out.lines, (Lines{"L", "R:ok"}));
  EXPECT_LE(out.buffer_max, 100 + kFrameSlackBytes);
  Lines lines = lines_of(make_length_parser, "GET / HTTP/1.1\r\n");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].substr(0, 46), "B:the frame announces a request of 542393671 b");
}

TEST(LengthFraming, RepliesAndErrors) {
  auto parser = make_length_parser(10);
  std::string out;
  parser->append_reply(out, as_bytes("7"), 0);
  parser->append_error(out, "UNKNOWN", "late");
  EXPECT_EQ(out, with_length("7") + with_length("ERR UNKNOWN late"));
}

// ---- RESP

TEST(RespFraming, RequestIsTheWholeArrayAsItCame) {
  std::string set = bulk_array({"SET", "key", "a\r\nb"});
  std::string ping = bulk_array({"PING"});
  EXPECT_EQ(lines_of(make_resp_parser, set + ping), (Lines{"R:" + set, "R:" + ping}));
}

TEST(RespFraming, NoCopyOfAnArray) {
  auto parser = make_resp_parser(1000);
  std::string set = bulk_array({"SET", "key", "value"});
  Parsed parsed = parser->next(as_bytes(set));
  EXPECT_EQ(static_cast<const void*>(parsed.bytes.data()), static_cast<const void*>(set.data()));
}

TEST(RespFraming, EmptyArraysAndEmptyLinesAreNothing) {
  std::string ping = bulk_array({"PING"});
  EXPECT_EQ(lines_of(make_resp_parser, "*0\r\n\r\n\n*-1\r\n*-10\r\n  \r\n" + ping + "*0\r\n"),
            (Lines{"R:" + ping}));
}

TEST(RespFraming, InlineCommandBecomesAnArray) {
  EXPECT_EQ(lines_of(make_resp_parser, "SET  key 5\r\nGET key\n"),
            (Lines{"R:" + bulk_array({"SET", "key", "5"}), "R:" + bulk_array({"GET", "key"})}));
}

TEST(RespFraming, QuotesOfInlineCommandsAreThoseOfRedis) {
  struct Case {
    const char* line;
    std::vector<std::string> words;
  };
  const Case cases[] = {
      {R"(SET k "a b")", {"SET", "k", "a b"}},
      {R"(SET k "\x41\n\r\t\b\a\"\\\q")", {"SET", "k", "A\n\r\t\b\a\"\\q"}},
      {R"(SET k '\x41 \' \n')", {"SET", "k", R"(\x41 ' \n)"}},
      {R"(SET k "" '')", {"SET", "k", "", ""}},
      {R"(SET k ab"c d")", {"SET", "k", "abc d"}},
      {R"(SET k "\xg1")", {"SET", "k", "xg1"}},
      {"\tSET\tk\tv ", {"SET", "k", "v"}},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(lines_of(make_resp_parser, std::string(c.line) + "\r\n"),
              (Lines{"R:" + bulk_array(c.words)}))
        << c.line;
  }
  for (const char* line :
       {R"(SET k "a)", R"(SET k 'a)", R"(SET k "a"b)", R"(SET k 'a'b)", R"(SET k "a\)"}) {
    EXPECT_EQ(lines_of(make_resp_parser, std::string(line) + "\r\n"),
              (Lines{"B:unbalanced quotes in request"}))
        << line;
  }
}

TEST(RespFraming, FramingAnswersSomeCommandsItself) {
  EXPECT_EQ(
      lines_of(make_resp_parser, bulk_array({"ReSeT"}) + "exec\r\ndiscard\r\nmulti\r\n"),
      (Lines{"Z:+RESET\r\n", "A:-ERR EXEC without MULTI\r\n", "A:-ERR DISCARD without MULTI\r\n",
             "A:-ERR MULTI is not supported by this version of connectd: send the commands "
             "one by one\r\n"}));
  EXPECT_EQ(lines_of(make_resp_parser, bulk_array({"quit"}) + bulk_array({"PING"})),
            (Lines{"Q:+OK\r\n"}));
  EXPECT_EQ(lines_of(make_resp_parser, bulk_array({"QUITE"})),
            (Lines{"R:" + bulk_array({"QUITE"})}));
}

TEST(RespFraming, ArgumentsOfOwnCommandsAreErrors) {
  EXPECT_EQ(lines_of(make_resp_parser, bulk_array({"RESET", "x"}) + "multi 1\r\nEXEC 2\r\n"
                                                                    "DISCARD 3\r\nQUIT now\r\n"),
            (Lines{"A:-ERR wrong number of arguments for 'reset' command\r\n",
                   "A:-ERR wrong number of arguments for 'multi' command\r\n",
                   "A:-ERR wrong number of arguments for 'exec' command\r\n",
                   "A:-ERR wrong number of arguments for 'discard' command\r\n", "Q:+OK\r\n"}));
}

// Half of a transaction must not happen.
TEST(RespFraming, CommandsOfARefusedMultiDoNotRun) {
  const std::string set = bulk_array({"SET", "k", "v"});
  const std::string multi =
      "A:-ERR MULTI is not supported by this version of connectd: send the commands one by one\r\n";
  const std::string refused =
      "A:-ERR not executed: MULTI is not supported by this version of connectd; EXEC, DISCARD or "
      "RESET ends it\r\n";
  const std::string aborted = "A:-EXECABORT Transaction discarded because of previous errors.\r\n";
  EXPECT_EQ(lines_of(make_resp_parser, bulk_array({"MULTI"}) + set + "SET k w\r\n" +
                                           bulk_array({"EXEC"}) + set + bulk_array({"EXEC"})),
            (Lines{multi, refused, refused, aborted, "R:" + set, "A:-ERR EXEC without MULTI\r\n"}));
  EXPECT_EQ(lines_of(make_resp_parser, "MULTI\r\n" + set + "DISCARD\r\n" + set),
            (Lines{multi, refused, "A:+OK\r\n", "R:" + set}));
  EXPECT_EQ(lines_of(make_resp_parser, "MULTI\r\nRESET\r\n" + set),
            (Lines{multi, "Z:+RESET\r\n", "R:" + set}));
  EXPECT_EQ(
      lines_of(make_resp_parser, "MULTI\r\nMULTI\r\n" + set + "MULTI 1\r\nEXEC\r\n" + set),
      (Lines{multi, "A:-ERR MULTI calls can not be nested\r\n", refused,
             "A:-ERR wrong number of arguments for 'multi' command\r\n", aborted, "R:" + set}));
}

// What a browser, or a proxy, sends to a port that it takes for HTTP's.
TEST(Framing, BytesForAnotherPortEndTheConnection) {
  const std::string body = "\r\nincr\r\nSET k theirs\r\n";
  const std::string http =
      "B:this port does not speak HTTP; HTTP has a port of its own, see "
      "listen.http";
  const std::string proxy =
      "B:the PROXY protocol is not supported: turn it off in the proxy that "
      "connects";
  for (Maker maker : {make_line_parser, make_resp_parser}) {
    for (const char* first : {"POST / HTTP/1.1", "GET /a?b HTTP/1.0", "PRI * HTTP/2.0",
                              "OPTIONS * HTTP/1.1", "Host: h:7201", "HOST:h"}) {
      EXPECT_EQ(lines_of(maker, first + body), Lines{http}) << first;
      EXPECT_EQ(lines_of(maker, std::string(first) + "\n" + body), Lines{http}) << first;
    }
    for (const char* first :
         {"PROXY TCP4 10.0.0.1 10.0.0.2 1 2", "PROXY TCP6 ::1 ::2 1 2", "PROXY UNKNOWN"}) {
      EXPECT_EQ(lines_of(maker, first + body), Lines{proxy}) << first;
    }
  }
  // A first line over the limit, in any pieces.
  const std::string endless = "POST /" + std::string(500, 'a') + " HTTP/1.1" + body;
  for (size_t piece : {1, 7, 100, 100000}) {
    EXPECT_EQ(run(make_line_parser, endless, {piece}, 120).lines, Lines{http}) << piece;
    EXPECT_EQ(run(make_resp_parser, endless, {piece}, 120).lines, Lines{http}) << piece;
  }
  // Redis' rule: such a header anywhere.
  EXPECT_EQ(lines_of(make_resp_parser, "PING\r\nHost: h\r\nPING\r\n"),
            (Lines{"R:" + bulk_array({"PING"}), http}));
  // Not the first line, or not a request line.
  EXPECT_EQ(lines_of(make_line_parser, "a\nPOST / HTTP/1.1\n"),
            (Lines{"R:a", "R:POST / HTTP/1.1"}));
  EXPECT_EQ(lines_of(make_line_parser, "set v HTTP/1\n"), (Lines{"R:set v HTTP/1"}));
  // Four letters are an announced length over every limit.
  for (const char* first : {"POST / HTTP/1.1", "GET / HTTP/1.1", "PROXY TCP4 a b 1 2"}) {
    Lines lines = lines_of(make_length_parser, first + body);
    ASSERT_EQ(lines.size(), 1u) << first;
    EXPECT_EQ(lines[0].substr(0, 2), "B:") << first;
  }
}

// Its lines are requests, and its first four bytes a length that is below the largest.
TEST(Framing, BinaryProxyHeaderEndsTheConnection) {
  const std::string header("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", 16);
  const std::string proxy =
      "B:the PROXY protocol is not supported: turn it off in the proxy that connects";
  for (Maker maker : {make_line_parser, make_resp_parser, make_length_parser}) {
    EXPECT_EQ(lines_of(maker, header + "incr\n"), Lines{proxy});
    for (size_t piece : {1, 3, 7, 11}) {
      const Lines lines = run(maker, header + "incr\n", {piece}, 120).lines;
      ASSERT_FALSE(lines.empty());
      EXPECT_EQ(lines.back(), proxy) << piece;
    }
  }
  // An empty line is answered without a wait for more.
  EXPECT_EQ(lines_of(make_line_parser, "\r\n"), Lines{"R:"});
  EXPECT_EQ(lines_of(make_line_parser, "\r\n\r\nincr\n"), (Lines{"R:", "R:", "R:incr"}));
  // Only at the beginning of a connection.
  EXPECT_EQ(lines_of(make_line_parser, "a\n" + header.substr(0, 12)),
            (Lines{"R:a", "R:", "R:", std::string("R:\0", 3), "R:QUIT"}));
}

TEST(RespFraming, TooLargeIsSkippedInBoundedMemory) {
  std::string ok = bulk_array({"PING"});
  std::string stream = bulk_array({"SET", "k", std::string(70000, 'x')}) + ok;
  std::vector<std::string> many(3000, "el");
  stream += bulk_array(many) + ok;
  stream += "GET " + std::string(150, 'k') + "\r\n" + ok;
  for (size_t piece : {1, 13, 100, 100000}) {
    Outcomes out = run(make_resp_parser, stream, {piece}, 120);
    EXPECT_EQ(out.lines, (Lines{"L", "R:" + ok, "L", "R:" + ok, "L", "R:" + ok})) << piece;
    if (piece < 100) {
      EXPECT_LE(out.buffer_max, 120 + kFrameSlackBytes + piece) << piece;
    }
  }
}

TEST(RespFraming, ExactlyTheLimitIsARequest) {
  std::string request = bulk_array({"SET", "key", "value"});
  EXPECT_EQ(lines_of(make_resp_parser, request, request.size()), (Lines{"R:" + request}));
  EXPECT_EQ(lines_of(make_resp_parser, request, request.size() - 1), (Lines{"L"}));
}

TEST(RespFraming, BrokenFramesHaveTheirTexts) {
  struct Case {
    std::string stream;
    const char* text;
  };
  const Case cases[] = {
      {"*x\r\n", "invalid multibulk length"},
      {"*1\n$4\r\nPING\r\n", "invalid multibulk length"},
      {"*1048577\r\n", "invalid multibulk length"},
      {"*01\r\n", "invalid multibulk length"},
      {"*-0\r\n", "invalid multibulk length"},
      {"*-01\r\n", "invalid multibulk length"},
      {"*+1\r\n", "invalid multibulk length"},
      {"*1\r\n$04\r\nPING\r\n", "invalid bulk length"},
      {"*99999999999999999999\r\n", "invalid multibulk length"},
      {"*1\r\n:4\r\n", "expected '$', got ':'"},
      {std::string("*1\r\n\0", 5), "expected '$', got byte 0"},
      {"*1\r\n$-1\r\n", "invalid bulk length"},
      {"*1\r\n$\r\n", "invalid bulk length"},
      {"*1\r\n$536870913\r\n", "invalid bulk length"},
      {"*1\r\n$4\r\nPINGxx", "a bulk string does not end with CR LF"},
      {"*" + std::string(70, '0') + "1\r\n",
       "a count of more than 64 bytes in an array or bulk string header"},
      {std::string(kMaxInlineBytes + 1, 'x'), "too big inline request"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(lines_of(make_resp_parser, c.stream), (Lines{std::string("B:") + c.text}))
        << c.stream.substr(0, 40);
  }
}

// The replies to `stream`, the n-th of which is replies[n].
std::string replied(FrameParser& parser, std::string_view stream,
                    const std::vector<std::string>& replies) {
  uint64_t requests = 0;
  while (!stream.empty()) {
    const Parsed parsed = parser.next(as_bytes(stream));
    if (parsed.outcome == ParseOutcome::kRequest) ++requests;
    stream.remove_prefix(parsed.consumed);
  }
  EXPECT_EQ(requests, replies.size());
  std::string out;
  for (uint64_t i = 0; i < requests; ++i) parser.append_reply(out, as_bytes(replies[i]), i);
  return out;
}

// All requests are here before the first reply is.
TEST(RespFraming, NullsAreOfTheAgreedVersion) {
  const std::string null = "$-1\r\n";
  const std::string map = "%1\r\n$5\r\nproto\r\n:3\r\n";
  auto agreed = make_resp_parser(1000);
  EXPECT_EQ(replied(*agreed, "GET a\r\nhello 3 SETNAME x\r\nGET a\r\n", {null, map, null}),
            null + map + "_\r\n");
  auto array = make_resp_parser(1000);
  EXPECT_EQ(replied(*array, "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\nGET a\r\n", {map, null}),
            map + "_\r\n");
  auto refused = make_resp_parser(1000);
  EXPECT_EQ(replied(*refused, "HELLO 3\r\nGET a\r\n", {"-NOPROTO no\r\n", null}),
            "-NOPROTO no\r\n" + null);
  auto not_asked = make_resp_parser(1000);
  EXPECT_EQ(replied(*not_asked, "X 3\r\nGET a\r\n", {map, null}), map + null);
  const std::string pairs = "*2\r\n$5\r\nproto\r\n:2\r\n";
  auto back = make_resp_parser(1000);
  EXPECT_EQ(replied(*back, "HELLO 3\r\nGET a\r\nHELLO 2\r\nGET a\r\n", {map, null, pairs, null}),
            map + "_\r\n" + pairs + null);
  auto reset = make_resp_parser(1000);
  EXPECT_EQ(replied(*reset, "HELLO 3\r\nGET a\r\nRESET\r\nRESET\r\nGET a\r\n", {map, null, null}),
            map + "_\r\n" + null);
  for (const char* short_one : {"HELLO\r\n", "*1\r\n$5\r\nHELLO\r\n", "HELLO ''\r\n"}) {
    auto parser = make_resp_parser(1000);
    EXPECT_EQ(replied(*parser, short_one, {map}), map) << short_one;
  }
}

TEST(RespFraming, OnlyNullsChangeInVersion3) {
  auto parser = make_resp_parser(1000);
  EXPECT_EQ(replied(*parser, "HELLO 3\r\n", {"%0\r\n"}), "%0\r\n");
  auto as_3 = [&](std::string_view reply) {
    std::string out = "before";
    parser->append_reply(out, as_bytes(reply), 1);
    return out.substr(6);
  };
  EXPECT_EQ(as_3("*-1\r\n"), "_\r\n");
  EXPECT_EQ(as_3("*4\r\n$-1\r\n$1\r\nx\r\n*1\r\n$-1\r\n*-1\r\n"),
            "*4\r\n_\r\n$1\r\nx\r\n*1\r\n_\r\n_\r\n");
  for (const char* same :
       {"$7\r\n\r\n$-1\r\n\r\n", "+$-1\r\n", ":-1\r\n", "-ERR\r\n", "$0\r\n\r\n", "*0\r\n", "",
        "$-1", "$9\r\n$-1\r\n", "$x\r\n$-1\r\n", "\r\n", "*2\r\n$5\r\n*-1\r\n\r\n:1\r\n"}) {
    EXPECT_EQ(as_3(same), same);
  }
}

TEST(RespFraming, RepliesAndErrors) {
  auto parser = make_resp_parser(10);
  std::string out;
  parser->append_reply(out, as_bytes("+OK\r\n"), 0);
  parser->append_error(out, "OVERLOADED", "later");
  EXPECT_EQ(out, "+OK\r\n-OVERLOADED later\r\n");
}

// ---- all

struct NamedMaker {
  const char* name;
  Maker make;
};
const NamedMaker kMakers[] = {
    {"line", make_line_parser}, {"length", make_length_parser}, {"resp", make_resp_parser}};

// ---- who asks

std::unique_ptr<FrameParser> make_unknown_resp_parser(size_t max_request) {
  auto parser = make_resp_parser(max_request);
  parser->set_known(false);
  return parser;
}

TEST(RespFraming, CredentialsAreTheFramings) {
  EXPECT_EQ(lines_of(make_resp_parser, "AUTH good\r\nauth me good\r\n" +
                                           bulk_array({"AUTH", "me", "bad\n"}) + "GET k\r\n"),
            (Lines{"C:default/good", "A:+OK\r\n", "C:me/good", "A:+OK\r\n", "C:me/bad\n",
                   "R:" + bulk_array({"GET", "k"})}));
  EXPECT_EQ(lines_of(make_resp_parser, "AUTH\r\nAUTH a b c\r\nHELLO 3 AUTH me\r\n"),
            (Lines{"A:-ERR wrong number of arguments for 'auth' command\r\n",
                   "A:-ERR syntax error\r\n", "A:-ERR Syntax error in HELLO option 'AUTH'\r\n"}));
}

// The plugin never sees a secret.
TEST(RespFraming, HelloReachesThePluginWithoutCredentials) {
  EXPECT_EQ(lines_of(make_resp_parser,
                     bulk_array({"hello", "3", "setname", "AUTH", "Auth", "me", "good"})),
            (Lines{"C:me/good", "R:" + bulk_array({"hello", "3", "setname", "AUTH"})}));
  EXPECT_EQ(lines_of(make_resp_parser, "HELLO 2 AUTH me bad SETNAME x\r\n"), Lines{"C:me/bad"});
  const std::string plain = bulk_array({"HELLO", "3", "SETNAME", "AUTH"});
  EXPECT_EQ(lines_of(make_resp_parser, plain), Lines{"R:" + plain});
}

TEST(RespFraming, VersionOfAHelloWithCredentials) {
  auto parser = make_unknown_resp_parser(1000);
  const std::string bad = bulk_array({"HELLO", "3", "AUTH", "me", "bad"});
  EXPECT_EQ(parser->next(as_bytes(bad)).outcome, ParseOutcome::kCredentials);
  const std::string good = bulk_array({"HELLO", "3", "AUTH", "me", "good"});
  EXPECT_EQ(parser->next(as_bytes(good)).outcome, ParseOutcome::kCredentials);
  parser->set_known(true);
  EXPECT_EQ(parser->authenticated().outcome, ParseOutcome::kRequest);
  std::string out;
  parser->append_reply(out, as_bytes("%0\r\n"), 0);
  parser->append_reply(out, as_bytes("$-1\r\n"), 1);
  EXPECT_EQ(out, "%0\r\n_\r\n");
}

TEST(RespFraming, UnknownCallerGetsNothingButCredentials) {
  EXPECT_EQ(lines_of(make_unknown_resp_parser,
                     "GET k\r\nRESET\r\nAUTH bad\r\nGET k\r\nAUTH good\r\nGET k\r\n"),
            (Lines{"A:-NOAUTH Authentication required.\r\n", "Z:+RESET\r\n", "C:default/bad",
                   "A:-NOAUTH Authentication required.\r\n", "C:default/good", "A:+OK\r\n",
                   "R:" + bulk_array({"GET", "k"})}));
  const Lines hello = lines_of(make_unknown_resp_parser, "HELLO 3\r\n");
  ASSERT_EQ(hello.size(), 1u);
  EXPECT_TRUE(hello[0].starts_with("A:-NOAUTH HELLO must be called")) << hello[0];
  EXPECT_EQ(lines_of(make_unknown_resp_parser, "QUIT\r\n"), Lines{"Q:+OK\r\n"});
}

TEST(RespFraming, UnknownCallerSendsLittle) {
  EXPECT_EQ(lines_of(make_unknown_resp_parser, "*11\r\n"),
            Lines{"B:unauthenticated multibulk length"});
  EXPECT_EQ(lines_of(make_unknown_resp_parser, "*1\r\n$16385\r\n", 1 << 20),
            Lines{"B:unauthenticated bulk length"});
  const std::string ten(1700, 'x');  // together over the limit of a request
  EXPECT_EQ(lines_of(make_unknown_resp_parser, bulk_array(std::vector<std::string>(10, ten)),
                     size_t{1} << 20),
            Lines{"L"});
}

TEST(RespFraming, UnknownCallerSendsLittleInline) {
  EXPECT_EQ(lines_of(make_unknown_resp_parser, "a b c d e f g h i j k\r\n"),
            Lines{"B:unauthenticated multibulk length"});
  EXPECT_EQ(lines_of(make_unknown_resp_parser, std::string(kUnknownRequestBytes + 1, 'x')),
            Lines{"B:too big inline request"});
}

// As in Redis.
TEST(RespFraming, HelloThatFailsLetsNobodyIn) {
  EXPECT_EQ(
      lines_of(make_unknown_resp_parser, "HELLO 4 AUTH me good\r\nHELLO 3 AUTH me good X\r\n"),
      (Lines{"A:-NOPROTO unsupported protocol version\r\n",
             "A:-ERR Syntax error in HELLO option\r\n"}));
}

TEST(Framing, UnknownCallersRequestsAreSmall) {
  auto make = [](size_t max_request) {
    auto parser = make_line_parser(max_request);
    parser->set_known(false);
    return parser;
  };
  const std::string most(kUnknownRequestBytes, 'x');
  EXPECT_EQ(lines_of(make, most + "\nx" + most + "\n", size_t{1} << 20), (Lines{"R:" + most, "L"}));
}

TEST(Framing, WhereTheStreamIsCutMakesNoDifference) {
  std::string set = bulk_array({"SET", "key", "value with \r\n and *3\r\n"});
  std::string resp = set + "\r\nSET a 'b c'\r\n*0\r\n" + bulk_array({"reset"}) +
                     bulk_array({"SET", std::string(300, 'k')}) + set + "quit\r\n";
  std::string length =
      with_length("abc") + with_length("") + with_length(std::string(300, 'x')) + with_length("z");
  std::string line = "incr\r\n\nget\n" + std::string(300, 'x') + "\nq\n";
  const std::string* streams[] = {&line, &length, &resp};
  for (size_t m = 0; m < 3; m++) {
    const std::string& stream = *streams[m];
    Outcomes whole = run(kMakers[m].make, stream, {stream.size()}, 200);
    ASSERT_GE(whole.lines.size(), 4u);
    EXPECT_EQ(run(kMakers[m].make, stream, {1}, 200), whole) << kMakers[m].name;
    for (size_t cut = 1; cut < stream.size(); cut++) {
      EXPECT_EQ(run(kMakers[m].make, stream, {cut, stream.size()}, 200), whole)
          << kMakers[m].name << " cut at " << cut;
    }
  }
}

// Random bytes, and random bytes that look like the protocol: never a crash, always the same
// outcome however they are cut.
TEST(Framing, RandomStreams) {
  Random random(20260101);
  const std::string alphabet = "*$12305-\r\n\r\n\r\n'\"\\x aAPINGQUIT";
  for (int round = 0; round < 3000; round++) {
    std::string stream;
    size_t length = random.below(120);
    bool is_plain = random.chance(50);
    for (size_t i = 0; i < length; i++) {
      stream.push_back(is_plain ? static_cast<char>(random.below(256))
                                : alphabet[random.below(alphabet.size())]);
    }
    if (stream.empty()) continue;
    for (const NamedMaker& maker : kMakers) {
      Outcomes whole = run(maker.make, stream, {stream.size()}, 30);
      std::vector<size_t> sizes;
      for (int i = 0; i < 20; i++) sizes.push_back(1 + random.below(9));
      EXPECT_EQ(run(maker.make, stream, sizes, 30), whole) << maker.name << " round " << round;
    }
  }
}

// Eight megabytes that arrive byte by byte costs one look at each byte, not one at each byte for
// every byte: the quadratic way would need 3 * 10^13 steps here and run into the test's time limit.
TEST(Framing, TricklingBytesCostLinearTime) {
  const size_t size = size_t{8} << 20;
  std::string bytes(size, 'x');
  const std::string streams[] = {bytes + "\n", with_length(bytes), bulk_array({"SET", bytes})};
  for (size_t m = 0; m < 3; m++) {
    auto parser = kMakers[m].make(size + 100);
    const std::string& stream = streams[m];
    for (size_t have = 1; have < stream.size(); have++) {
      ASSERT_EQ(parser->next(as_bytes(stream).first(have)).outcome, ParseOutcome::kNeedMore);
    }
    Parsed parsed = parser->next(as_bytes(stream));
    EXPECT_EQ(parsed.outcome, ParseOutcome::kRequest);
    EXPECT_EQ(parsed.consumed, stream.size());
  }
}

}  // namespace
}  // namespace connectd::wire

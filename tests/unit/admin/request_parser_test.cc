#include "admin/request_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "admin/limits.h"

namespace connectd::admin {
namespace {

using ::testing::HasSubstr;
using Step = RequestParser::Step;

constexpr size_t kMaxBody = 1 << 20;
const std::string kChunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";

class RequestParserTest : public ::testing::Test {
 protected:
  // As a connection does, `piece` bytes in each read; stops at anything but kNeedMore and kHead.
  Step feed(std::string_view bytes, size_t piece = 100'000) {
    while (!bytes.empty()) {
      auto room = parser_.prepare();
      if (room.size() == 0) ADD_FAILURE() << "no room after kNeedMore";
      if (room.size() == 0) return Step::kWhole;
      const size_t now = std::min({room.size(), piece, bytes.size()});
      std::memcpy(room.data(), bytes.data(), now);
      parser_.commit(now);
      bytes.remove_prefix(now);
      sent_ += now;
      Step step = parser_.next();
      while (step == Step::kHead) step = parser_.next();
      if (step != Step::kNeedMore) return step;
    }
    return Step::kNeedMore;
  }
  // The same text until it is refused; how many bytes that took.
  size_t sent_until_refused(std::string_view begin, std::string_view then, size_t piece = 100'000) {
    sent_ = 0;
    Step step = feed(begin, piece);
    while (step == Step::kNeedMore && sent_ < (4u << 20)) step = feed(then, piece);
    EXPECT_EQ(step, Step::kRefused);
    return sent_;
  }

  RequestParser parser_{kMaxBody};
  size_t sent_ = 0;
};

TEST_F(RequestParserTest, EndlessChunkHeadersAreRefused) {
  const std::string many(4096, 'a');
  const std::string zeros(4096, '0');
  for (size_t piece : {size_t{1000}, size_t{100'000}}) {
    for (const auto& [begin, then] :
         {std::pair{std::string("5;a="), many}, std::pair{std::string("0"), zeros},
          std::pair{std::string("0;a="), many}, std::pair{std::string("1\r\nx\r\n5;a="), many}}) {
      parser_.drop();
      parser_.begin();
      EXPECT_LT(sent_until_refused(kChunked + begin, then, piece), 2 * kMaxHeaderBytes) << begin;
      EXPECT_EQ(parser_.refusal().status, 400);
      EXPECT_THAT(parser_.refusal().body, HasSubstr("chunk headers and trailers"));
    }
  }
}

TEST_F(RequestParserTest, EndlessTrailersAreRefused) {
  EXPECT_LT(sent_until_refused(kChunked + "0\r\nA: ", std::string(1000, 'a')), 2 * kMaxHeaderBytes);
  EXPECT_EQ(parser_.refusal().status, 400);
  parser_.drop();
  parser_.begin();
  EXPECT_LT(sent_until_refused(kChunked + "0\r\n", "A: b\r\n", 6), 2 * kMaxHeaderBytes);
  EXPECT_EQ(parser_.refusal().status, 400);
}

// Each chunk is short, and so is each of their headers.
TEST_F(RequestParserTest, ChunkHeadersCountTogether) {
  EXPECT_LT(sent_until_refused(kChunked, "1;" + std::string(998, 'a') + "\r\nx\r\n"),
            2 * kMaxHeaderBytes);
  EXPECT_EQ(parser_.refusal().status, 400);
}

TEST_F(RequestParserTest, BodyOfChunksOfOneByteIsTaken) {
  ASSERT_EQ(feed(kChunked), Step::kNeedMore);
  for (int i = 0; i < 100'000; ++i) ASSERT_EQ(feed("1\r\nx\r\n"), Step::kNeedMore) << i;
  ASSERT_EQ(feed("0\r\nA: b\r\n\r\n"), Step::kWhole);
  const Request request = parser_.take();
  EXPECT_EQ(request.body, std::string(100'000, 'x'));
  EXPECT_EQ(request.header("a"), "");  // a trailer
}

TEST_F(RequestParserTest, BodyTakesNoMoreMemoryThanAllowed) {
  ASSERT_EQ(feed(kChunked), Step::kNeedMore);
  for (size_t i = 0; i < kMaxBody / 4096; ++i) {
    ASSERT_EQ(feed("1000\r\n" + std::string(4096, 'x') + "\r\n"), Step::kNeedMore);
  }
  ASSERT_EQ(feed("0\r\n\r\n"), Step::kWhole);
  const Request request = parser_.take();
  EXPECT_EQ(request.body.size(), kMaxBody);
  EXPECT_LE(request.body.capacity(), kMaxBody);
}

// A line in each read: the lines that were read before count.
TEST_F(RequestParserTest, HeadersCountTogether) {
  const std::string line = "A: " + std::string(1000, 'b') + "\r\n";
  EXPECT_LT(sent_until_refused("GET / HTTP/1.1\r\n", line), kMaxHeaderBytes + 2000);
  EXPECT_EQ(parser_.refusal().status, 431);
  parser_.drop();
  parser_.begin();
  std::string short_ones = "GET / HTTP/1.1\r\n";
  for (size_t i = 0; i < kMaxHeaders; ++i) short_ones += "A:\r\n";
  EXPECT_EQ(feed(short_ones + "\r\n"), Step::kWhole);
  parser_.drop();
  parser_.begin();
  EXPECT_EQ(feed(short_ones + "A:\r\n\r\n"), Step::kRefused);  // each costs memory
  EXPECT_EQ(parser_.refusal().status, 431);
  parser_.drop();
  parser_.begin();
  EXPECT_LT(sent_until_refused("GET /", "aaaaaaaa"), 2 * kMaxHeaderBytes);
  EXPECT_EQ(parser_.refusal().status, 431);
}

TEST_F(RequestParserTest, PipelinedRequestsComeOneByOne) {
  const std::string post = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
  ASSERT_EQ(feed(post + "GET /b HTTP/1.1\r\nHost: x\r\n\r\nGET"), Step::kWhole);
  EXPECT_EQ(parser_.take().body, "abc");
  parser_.begin();
  EXPECT_TRUE(parser_.has_begun());
  EXPECT_EQ(parser_.next(), Step::kHead);
  EXPECT_EQ(parser_.next(), Step::kWhole);
  EXPECT_EQ(parser_.take().target, "/b");
  parser_.begin();
  EXPECT_EQ(parser_.next(), Step::kNeedMore);
  ASSERT_EQ(feed(" /c HTTP/1.1\r\n\r\n"), Step::kWhole);
  EXPECT_EQ(parser_.take().target, "/c");
  parser_.begin();
  EXPECT_FALSE(parser_.has_begun());
}

TEST_F(RequestParserTest, BytesOneByOneGiveTheSame) {
  ASSERT_EQ(feed(kChunked + "3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n", 1), Step::kWhole);
  EXPECT_EQ(parser_.take().body, "abcde");
}

}  // namespace
}  // namespace connectd::admin

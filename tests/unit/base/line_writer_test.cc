#include "base/line_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

namespace connectd {
namespace {

using std::chrono::milliseconds;

std::string note(uint64_t lines) { return "dropped " + std::to_string(lines); }

Time in(milliseconds span) { return read_clocks().time + span; }

// A pipe of one page, read by the test. Its write end is left open by a writer that hangs.
struct Pipe {
  Pipe() {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    reader = ends[0];
    writer = ends[1];
    ::fcntl(writer, F_SETPIPE_SZ, 4096);
  }
  ~Pipe() { close_reader(); }
  void close_reader() {
    if (reader >= 0) ::close(reader);
    reader = -1;
  }
  // Reads until the text ends with `end`.
  std::string read_to(const std::string& end) const {
    std::string text;
    char buffer[8192];
    while (!text.ends_with(end)) {
      pollfd ready{reader, POLLIN, 0};
      if (::poll(&ready, 1, 20'000) == 0) {
        ADD_FAILURE() << "'" << end << "' does not come";
        break;
      }
      const ssize_t n = ::read(reader, buffer, sizeof buffer);
      if (n <= 0) break;
      text.append(buffer, static_cast<size_t>(n));
    }
    return text;
  }
  int reader;
  int writer;
};

class LineWriterTest : public ::testing::Test {
 protected:
  LineWriterTest() { ::signal(SIGPIPE, SIG_IGN); }
  // Until nothing has room; returns the number of lines.
  int fill(LineWriter& writer) {
    int lines = 0;
    const std::string line(1000, 'x');
    const uint64_t before = writer.dropped();
    for (; writer.dropped() == before; ++lines) writer.put(line, false);
    return lines - 1;
  }
  Pipe pipe_;
};

TEST_F(LineWriterTest, KeepsOrderAndWholeLines) {
  LineWriter writer(pipe_.writer, note);
  ASSERT_TRUE(writer.start());
  std::string expected;
  for (int i = 0; i < 2000; ++i) {
    const std::string line = std::to_string(i) + std::string(static_cast<size_t>(i % 300), 'a');
    writer.put(line, false);
    expected += line + "\n";
  }
  writer.put("last", false);
  expected += "last\n";
  EXPECT_EQ(pipe_.read_to("last\n"), expected);
  EXPECT_TRUE(writer.finish_until(in(milliseconds(5000))));
  EXPECT_EQ(writer.dropped(), 0U);
}

TEST_F(LineWriterTest, StuckReaderCostsLinesNotTime) {
  LineWriter writer(pipe_.writer, note);
  ASSERT_TRUE(writer.start());
  const Time begin = read_clocks().time;
  const int kept = fill(writer);
  for (int i = 0; i < 99; ++i) writer.put(std::string(1000, 'y'), false);
  EXPECT_LT(read_clocks().time - begin, std::chrono::seconds(5));
  EXPECT_GT(kept, 900);
  // The writer's thread may have begun late, and made room by what fits into the pipe and its hand.
  const uint64_t dropped = writer.dropped();
  EXPECT_LE(dropped, 100U);
  EXPECT_GE(dropped, 100U - 2 * 4096 / 1001);
  // It waits, and no longer than it is told.
  EXPECT_FALSE(writer.finish_until(in(milliseconds(50))));
  // An urgent line has a reserve.
  writer.put("urgent", true);
  EXPECT_EQ(writer.dropped(), dropped);
  const std::string text = pipe_.read_to("dropped " + std::to_string(dropped) + "\n");
  EXPECT_EQ(static_cast<uint64_t>(std::ranges::count(text, '\n')), kept + 100 - dropped + 2);
  EXPECT_TRUE(text.ends_with("urgent\ndropped " + std::to_string(dropped) + "\n"));
}

TEST_F(LineWriterTest, ReaderThatIsGoneIsCounted) {
  LineWriter writer(pipe_.writer, note);
  ASSERT_TRUE(writer.start());
  pipe_.close_reader();
  for (int i = 0; i < 10; ++i) writer.put("nobody reads this", false);
  EXPECT_TRUE(writer.finish_until(in(milliseconds(5000))));
  EXPECT_EQ(writer.dropped(), 10U);
}

TEST_F(LineWriterTest, NonBlockingDescriptorLosesNothing) {
  ::fcntl(pipe_.writer, F_SETFL, O_NONBLOCK);  // by another process that has it
  LineWriter writer(pipe_.writer, note);
  ASSERT_TRUE(writer.start());
  for (int i = 0; i < 500; ++i) writer.put(std::string(100, 'x'), false);
  writer.put("last", false);
  EXPECT_EQ(pipe_.read_to("last\n").size(), 500U * 101 + 5);
  EXPECT_EQ(writer.dropped(), 0U);
}

TEST_F(LineWriterTest, KeepsTheFlagsOfTheDescriptor) {
  const int before = ::fcntl(pipe_.writer, F_GETFL);
  LineWriter writer(pipe_.writer, note);
  ASSERT_TRUE(writer.start());
  writer.put("line", false);
  pipe_.read_to("line\n");
  EXPECT_EQ(::fcntl(pipe_.writer, F_GETFL), before);
}

TEST_F(LineWriterTest, LongLineIsCut) {
  LineWriter writer(pipe_.writer, note);
  ASSERT_TRUE(writer.start());
  std::thread put([&] { writer.put(std::string(LineWriter::kMaxLine + 5, 'x'), false); });
  std::string cut(LineWriter::kMaxLine, 'x');
  cut += '\n';
  EXPECT_EQ(pipe_.read_to("\n"), cut);
  put.join();
}

TEST_F(LineWriterTest, WriteUntilEndsAtItsDeadline) {
  const std::string page(4096, 'x');
  ASSERT_EQ(::write(pipe_.writer, page.data(), page.size()), 4096);
  const Time begin = read_clocks().time;
  write_until(pipe_.writer, "crashed\n", in(milliseconds(50)));
  const Duration took = read_clocks().time - begin;
  EXPECT_GE(took, milliseconds(40));
  EXPECT_LT(took, std::chrono::seconds(5));
}

}  // namespace
}  // namespace connectd

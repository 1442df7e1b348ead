// A conversation without sockets: a driver that is a fake moves the bytes.
#include "client/conversation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/unit/client/fake_service.h"

namespace connectd::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const std::string kTooLarge =
    "ERR TOOLARGE the request is larger than client.max_request (10 bytes)\n";

// Does what a socket would do, as far as the test permits.
class Driver final : public ConversationDriver {
 public:
  explicit Driver(Shared& shared)
      : conversation(std::make_unique<Conversation>(shared, *this, now)) {
    turn();
  }

  // The client sends these bytes; a read brings at most `piece_bytes` of them.
  void give(std::string_view bytes) {
    input += bytes;
    turn();
  }
  void half_close() {
    is_half_closed = true;
    turn();
  }
  // The client reads this many more bytes.
  void take(size_t bytes) {
    room += bytes;
    turn();
  }
  void sweep() {
    switch (conversation->sweep(now)) {
      case Conversation::Sweep::kNothing:
        return;
      case Conversation::Sweep::kClose:
        close();
        return;
      case Conversation::Sweep::kShrink:
        shrunk++;
        is_reading = false;
        conversation->read_cancelled();
        turn();
        return;
      case Conversation::Sweep::kTurn:
        turn();
    }
  }
  void turn() {
    if (is_in_turn || is_closed) return;
    is_in_turn = true;
    conversation->begin_turn();
    while (step()) {
    }
    is_in_turn = false;
  }

  // ConversationDriver
  void on_replies_end() override { turn(); }
  void relieve_output() override {
    relieved++;
    send();
  }
  std::optional<CredentialsError> on_credentials(std::string_view user,
                                                 std::string_view secret) override {
    shown.emplace_back(user, secret);
    if (secret != "good") return CredentialsError{"WRONGPASS", "no such user"};
    conversation->set_caller({}, true, now);
    return std::nullopt;
  }
  void on_reset() override {
    if (demands_credentials) conversation->set_caller({false, false}, false, now);
  }
  void on_no_permission() override { refused++; }
  void on_room(Room of) override {
    conversation->stopped_waiting(of);
    turn();
  }

  SteadyTime now{seconds(1000)};
  std::unique_ptr<Conversation> conversation;
  std::string input;  // sent by the client, not read yet
  size_t piece_bytes = SIZE_MAX;
  bool is_half_closed = false;
  size_t room = SIZE_MAX / 2;
  std::string got;  // by the client
  size_t space_bytes = 0;
  int reads = 0;
  int sends = 0;
  int relieved = 0;
  int shrunk = 0;
  int refused = 0;
  std::vector<std::pair<std::string, std::string>> shown;  // credentials
  bool demands_credentials = false;
  int turns_wanted = 0;
  bool takes_turns = true;
  bool is_reading = false;
  bool is_shut_down = false;
  bool is_closed = false;

 private:
  bool step() {
    Conversation::Wants wants = conversation->next();
    turns_wanted += wants.again;
    if (wants.close) {
      close();
      return false;
    }
    if (wants.shut_down) {
      EXPECT_TRUE(conversation->output().empty());
      is_shut_down = true;
      conversation->was_shut_down(now);
      return true;
    }
    if (wants.send && room > 0) {
      send();
      return true;
    }
    if (wants.read) {
      EXPECT_FALSE(is_reading);
      space = conversation->begin_read();
      EXPECT_FALSE(space.empty());
      space_bytes = space.size();
      is_reading = true;
    }
    if (wants.again && takes_turns) conversation->begin_turn();
    if (wants.again) return takes_turns;
    if (!is_reading || (input.empty() && !is_half_closed)) return false;
    is_reading = false;
    if (input.empty()) {
      conversation->end_of_input();
      return true;
    }
    const size_t bytes = std::min({piece_bytes, space.size(), input.size()});
    std::memcpy(space.data(), input.data(), bytes);
    input.erase(0, bytes);
    reads++;
    conversation->received(bytes, now);
    return true;
  }
  void send() {
    const size_t bytes = std::min(room, conversation->output().size());
    got += conversation->output().substr(0, bytes);
    room -= bytes;
    if (bytes > 0) sends++;
    conversation->sent(bytes);
    if (!conversation->output().empty()) conversation->cannot_send(now);
  }
  void close() {
    is_closed = true;
    conversation->close();
  }

  std::span<uint8_t> space;
  bool is_in_turn = false;
};

class ConversationTest : public testing::Test {
 protected:
  void open() {
    driver_.reset();
    shared_.reset(new Shared{.options = options_, .service = service_});
    driver_ = std::make_unique<Driver>(*shared_);
  }
  int resumed() { return (*service_.streams.begin())->resumed; }

  FakeService service_;
  ClientPortOptions options_;
  std::unique_ptr<Shared> shared_;
  std::unique_ptr<Driver> driver_;
};

std::string lines(int count, size_t bytes = 1) {
  std::string text;
  for (int i = 0; i < count; i++)
    text += std::string(bytes, static_cast<char>('a' + i % 26)) + "\n";
  return text;
}

// A client that sends this and reads `room` bytes.
std::unique_ptr<Driver> reader(Shared& shared, std::string_view requests, size_t room = 0) {
  auto driver = std::make_unique<Driver>(shared);
  driver->room = room;
  driver->give(requests);
  return driver;
}

// ---- the hot path

TEST_F(ConversationTest, OneReadAndOneSendServeManyRequests) {
  open();
  driver_->give(lines(500));
  EXPECT_EQ(driver_->got, lines(500));
  EXPECT_EQ(driver_->reads, 1);
  EXPECT_EQ(driver_->sends, 1);
  EXPECT_EQ(shared_->counters.requests, 500u);
}

TEST_F(ConversationTest, RepliesBetweenReadsAreOneSend) {
  service_.is_immediate = false;
  open();
  driver_->give(lines(20));
  EXPECT_EQ(driver_->got, "");
  service_.deliver_all();
  EXPECT_EQ(driver_->got, lines(20));
  EXPECT_EQ(driver_->sends, 1);
}

// ---- framings

TEST_F(ConversationTest, RequestsCutAnywhereGiveTheSameReplies) {
  struct Case {
    node::Framing framing;
    std::string requests;
    std::string replies;
  };
  const Case cases[] = {
      {node::Framing::kLine, "get\r\n\nlong one\n" + std::string(12, 'x') + "\nb\n",
       "get\n\nlong one\n" + kTooLarge + "b\n"},
      {node::Framing::kResp, "*1\r\n$1\r\nA\r\nB\r\nRESET\r\n*1\r\n$1\r\nC\r\nQUIT\r\n",
       "*1\r\n$1\r\nA\r\n\n*1\r\n$1\r\nB\r\n\n+RESET\r\n*1\r\n$1\r\nC\r\n\n+OK\r\n"},
      {node::Framing::kLength, std::string("\3\0\0\0get\0\0\0\0\1\0\0\0b", 16),
       std::string("\4\0\0\0get\n\1\0\0\0\n\2\0\0\0b\n", 19)},
  };
  service_.limit = 10;
  for (const Case& c : cases) {
    service_.declared = c.framing;
    if (c.framing == node::Framing::kResp) service_.limit = 100;
    for (bool is_immediate : {true, false}) {
      service_.is_immediate = is_immediate;
      for (size_t cut = 1; cut < c.requests.size(); cut++) {
        open();
        driver_->give(c.requests.substr(0, cut));
        driver_->give(c.requests.substr(cut));
        service_.deliver_all();
        EXPECT_EQ(driver_->got, c.replies) << "cut at " << cut;
      }
      open();
      driver_->piece_bytes = 1;
      driver_->give(c.requests);
      service_.deliver_all();
      EXPECT_EQ(driver_->got, c.replies) << "byte by byte";
    }
  }
}

TEST_F(ConversationTest, FramingOptionOverridesThePlugin) {
  service_.declared = node::Framing::kLength;
  options_.framing = node::Framing::kLine;
  open();
  driver_->give("get\n");
  EXPECT_EQ(driver_->got, "get\n");
}

TEST_F(ConversationTest, ErrorCodesAndPluginRefusals) {
  service_.answer = [](const std::string& request, std::string& bytes) {
    node::Reply reply;
    bytes = "the text";
    if (request == "noleader") reply.code = node::ReplyCode::kNoLeader;
    if (request == "refused") {
      reply.code = node::ReplyCode::kRejected;
      reply.plugin_refused = true;
      bytes = "-ERR wrong\n";
    }
    return reply;
  };
  open();
  driver_->give("noleader\nrefused\n");
  EXPECT_EQ(driver_->got, "ERR NOLEADER the text\n-ERR wrong\n");
}

TEST_F(ConversationTest, NativeMagicSplitAnywhereIsRefused) {
  const std::string magic(wire::kNativeMagic);
  for (auto framing : {node::Framing::kLine, node::Framing::kResp, node::Framing::kLength}) {
    service_.declared = framing;
    for (size_t cut = 0; cut <= magic.size(); cut++) {
      open();
      driver_->give(magic.substr(0, cut));
      EXPECT_EQ(driver_->is_shut_down, cut == magic.size()) << cut;
      driver_->give(magic.substr(cut) + "get\n");
      EXPECT_NE(driver_->got.find("BADFRAME this version of connectd does not support"),
                std::string::npos)
          << cut;
      EXPECT_TRUE(driver_->is_shut_down);
      EXPECT_EQ(service_.submitted, 0u);
      EXPECT_EQ(shared_->counters.bad_frames, 1u);
    }
  }
}

TEST_F(ConversationTest, PartOfTheNativeMagicIsARequest) {
  for (size_t cut = 1; cut <= 4; cut++) {
    open();
    const std::string start(wire::kNativeMagic.substr(0, cut));
    driver_->give(start);
    driver_->give("\nCNTD\x01\n");
    EXPECT_EQ(driver_->got, start + "\nCNTD\x01\n") << "only as the first bytes";
  }
}

// ---- limits on requests

TEST_F(ConversationTest, PipeliningStopsAtItsLimit) {
  service_.is_immediate = false;
  options_.kept_bytes_max = 0;
  options_.pipelined_max = 3;
  open();
  driver_->give(lines(10));
  EXPECT_EQ(service_.submitted, 3u);
  EXPECT_FALSE(driver_->is_reading) << "a blocked connection is not read";
  driver_->give(lines(1000));
  EXPECT_EQ(driver_->input.size(), 2000u);
  service_.deliver_all(1);
  EXPECT_EQ(service_.submitted, 4u);
  while (driver_->got.size() < 2020) service_.deliver_all(2);
  EXPECT_EQ(driver_->got, lines(10) + lines(1000));
  EXPECT_EQ(service_.pending_max, 3u);
}

// However much is there, others get their turn in between.
TEST_F(ConversationTest, TurnTakesSoManyRequests) {
  options_.requests_per_turn = 3;
  open();
  driver_->takes_turns = false;
  driver_->give(lines(5));
  EXPECT_EQ(service_.submitted, 3u);
  EXPECT_EQ(driver_->turns_wanted, 1);
  EXPECT_EQ(driver_->got, "") << "sent with those of the next turn";
  EXPECT_FALSE(driver_->is_reading) << "not while there is something to parse";
  driver_->turn();
  EXPECT_EQ(service_.submitted, 5u);
  EXPECT_EQ(driver_->got, lines(5));
  EXPECT_TRUE(driver_->is_reading);
}

TEST_F(ConversationTest, DrainTakesWhatIsThere) {
  options_.requests_per_turn = 3;
  open();
  driver_->takes_turns = false;
  driver_->give(lines(10));
  driver_->conversation->drain();
  for (int turn = 0; turn < 3; ++turn) {
    EXPECT_FALSE(driver_->is_shut_down);
    driver_->turn();
  }
  EXPECT_EQ(driver_->got, lines(10));
  EXPECT_TRUE(driver_->is_shut_down);
}

TEST_F(ConversationTest, OwnRepliesCountAsPipelined) {
  service_.is_immediate = false;
  service_.limit = 10;
  options_.pipelined_max = 3;
  open();
  std::string long_line = std::string(11, 'x') + "\n";
  driver_->give("a\n" + long_line + long_line + long_line + long_line + "b\n");
  EXPECT_EQ(shared_->counters.too_large, 2u);
  service_.deliver_all();
  EXPECT_EQ(driver_->got, "a\n" + kTooLarge + kTooLarge + kTooLarge + kTooLarge);
  service_.deliver_all();
  EXPECT_TRUE(driver_->got.ends_with("b\n"));
}

TEST_F(ConversationTest, PendingBytesStopAtTheirLimit) {
  service_.is_immediate = false;
  options_.pending_bytes_max = 1000;
  open();
  driver_->give(lines(10, 400));
  EXPECT_EQ(service_.submitted, 3u);
  while (driver_->got.size() < lines(10, 400).size()) service_.deliver_all(1);
  EXPECT_EQ(driver_->got, lines(10, 400));
  EXPECT_EQ(service_.pending_bytes_max, 1200u);
}

// ---- limits on replies

TEST_F(ConversationTest, FullOutputPausesAndRoomResumes) {
  options_.kept_bytes_max = 0;
  options_.output_pause_bytes = 100;
  open();
  driver_->room = 0;
  driver_->give(lines(10, 49));
  EXPECT_EQ(service_.submitted, 2u);
  EXPECT_TRUE(driver_->conversation->is_congested());
  EXPECT_FALSE(driver_->is_reading);
  EXPECT_EQ(resumed(), 0);
  driver_->take(1);
  EXPECT_EQ(resumed(), 1);
  EXPECT_EQ(service_.submitted, 3u);
  EXPECT_TRUE(driver_->conversation->is_congested());
  driver_->take(10000);
  EXPECT_GT(resumed(), 1);
  EXPECT_FALSE(driver_->conversation->is_congested());
  EXPECT_EQ(driver_->got, lines(10, 49));
}

TEST_F(ConversationTest, OutputOverItsMaximumCloses) {
  options_.output_bytes_max = 200;
  service_.is_immediate = false;
  open();
  driver_->room = 0;
  driver_->give(lines(10, 49));
  service_.deliver_all(4);
  EXPECT_FALSE(driver_->is_closed);
  EXPECT_EQ(driver_->relieved, 0);
  service_.deliver_all(6);
  EXPECT_TRUE(driver_->is_closed);
  EXPECT_EQ(driver_->relieved, 1) << "nothing more is tried on a connection that has failed";
  EXPECT_EQ(shared_->counters.stalled, 1u);
  EXPECT_TRUE(service_.streams.empty());
}

TEST_F(ConversationTest, SocketThatTakesManyRepliesStaysOpen) {
  options_.output_bytes_max = 200;
  options_.output_pause_bytes = 100;
  service_.is_immediate = false;
  open();
  driver_->give(lines(10, 49));
  service_.deliver_all();  // resume() within on_reply() would fail in the fake
  EXPECT_EQ(driver_->got, lines(10, 49));
  EXPECT_EQ(driver_->relieved, 2);
  EXPECT_EQ(resumed(), 1);
  EXPECT_EQ(shared_->counters.stalled, 0u);
}

TEST_F(ConversationTest, RoomMadeWhileSubmittingGoesOn) {
  options_.output_bytes_max = 200;
  options_.output_pause_bytes = 100;
  service_.answer = [](const std::string&, std::string& bytes) {
    bytes = std::string(300, 'r');
    return node::Reply{};
  };
  open();
  driver_->give("get\n");
  EXPECT_EQ(driver_->got.size(), 300u);
  EXPECT_EQ(driver_->relieved, 1);
  EXPECT_FALSE(driver_->conversation->is_congested());
  EXPECT_EQ(resumed(), 0) << "it was never told to wait";
}

// ---- the replies of all clients together

TEST_F(ConversationTest, UnsentBytesAreCountedUntilTheyAreGone) {
  open();
  auto second = reader(*shared_, lines(3, 49));
  EXPECT_EQ(shared_->unsent_bytes, 150u);
  second->take(70);
  EXPECT_EQ(shared_->unsent_bytes, 80u);
  auto third = reader(*shared_, lines(2, 49));
  EXPECT_EQ(shared_->unsent_bytes, 180u);
  third->half_close();
  third->take(1000);
  EXPECT_TRUE(third->is_closed);
  EXPECT_EQ(shared_->unsent_bytes, 80u);
  second->now += options_.stall_timeout + milliseconds(1);
  second->sweep();
  EXPECT_TRUE(second->is_closed);
  EXPECT_EQ(shared_->unsent_bytes, 0u) << "a closed connection holds nothing";
  auto fourth = reader(*shared_, lines(1, 49));
  fourth.reset();
  EXPECT_EQ(shared_->unsent_bytes, 0u);
}

// The more is held by all, the less may one hold; who holds nothing may still begin.
TEST_F(ConversationTest, ShareOfRepliesFallsAsTheyGrow) {
  options_.replies_bytes_max = 3200;  // a share is an eighth of what is left of 1600
  open();
  auto first = reader(*shared_, lines(100, 49));
  EXPECT_EQ(shared_->unsent_bytes, 200u) << "at 200 an eighth of 1400 is not more than that";
  auto second = reader(*shared_, lines(100, 49));
  EXPECT_EQ(shared_->unsent_bytes, 400u);
  std::vector<std::unique_ptr<Driver>> more;
  for (int i = 0; i < 7; ++i) more.push_back(reader(*shared_, lines(100, 49)));
  EXPECT_LE(shared_->unsent_bytes, 1600u);
  EXPECT_TRUE(shared_->waiting.empty());
  driver_->give("get\n");
  EXPECT_EQ(driver_->got, "get\n");
}

TEST_F(ConversationTest, AtTheCommonBoundOthersWaitInLine) {
  options_.replies_bytes_max = 100;
  open();
  auto hog = reader(*shared_, lines(10, 99));
  EXPECT_EQ(shared_->unsent_bytes, 100u) << "it may hold one reply";
  driver_->give("get\n");
  EXPECT_EQ(driver_->got, "");
  EXPECT_EQ(shared_->waiting.size(), 1u);
  {
    auto gone = reader(*shared_, "get\n");
    EXPECT_EQ(shared_->waiting.size(), 2u);
  }
  EXPECT_EQ(shared_->waiting.size(), 1u);
  hog->take(1);
  ASSERT_TRUE(shared_->has_room(0));
  ConversationDriver* first = shared_->waiting.front();
  shared_->waiting.pop_front();
  first->on_room(Room::kReplies);
  EXPECT_EQ(driver_->got, "get\n");
  EXPECT_TRUE(shared_->waiting.empty());
}

// The holder asks before it makes the reply to a read, which is outside of next(). Nobody else
// reminds a client of it that sends nothing more.
TEST_F(ConversationTest, ReadThatIsHeldBackWaitsInLine) {
  options_.replies_bytes_max = 100;
  service_.is_immediate = false;
  open();
  driver_->give("get\n");
  EXPECT_EQ(service_.submitted, 1u);
  EXPECT_TRUE(shared_->waiting.empty());
  shared_->unsent_bytes += 100;  // of others
  EXPECT_TRUE(driver_->conversation->is_congested());
  ASSERT_EQ(shared_->waiting.size(), 1u);
  shared_->unsent_bytes -= 100;
  ConversationDriver* first = shared_->waiting.front();
  shared_->waiting.pop_front();
  first->on_room(Room::kReplies);
  EXPECT_EQ((*service_.streams.begin())->resumed, 1);
}

TEST_F(ConversationTest, SlowReaderMakesRoomForThoseThatWait) {
  options_.replies_bytes_max = 4 * kProgressBytes;
  open();
  auto slow = reader(*shared_, lines(1, 2 * kProgressBytes - 1));
  auto steady = reader(*shared_, lines(1, 3 * kProgressBytes - 1));
  auto both = [&](size_t bytes) {
    for (Driver* one : {slow.get(), steady.get()}) {
      one->now += options_.short_stall_timeout;
      one->sweep();
    }
    steady->take(bytes);
    slow->take(1);
  };
  both(kProgressBytes);
  both(1);
  EXPECT_FALSE(slow->is_closed) << "nobody waits";
  auto third = reader(*shared_, lines(1, 2 * kProgressBytes));
  driver_->give("get\n");
  ASSERT_EQ(shared_->waiting.size(), 1u);
  steady->now += milliseconds(1);
  steady->sweep();
  EXPECT_FALSE(steady->is_closed) << "it gets on";
  slow->now += milliseconds(1);
  slow->sweep();
  EXPECT_TRUE(slow->is_closed);
  EXPECT_EQ(shared_->counters.stalled, 1u);
}

// The replies to writes come whether or not there is room.
TEST_F(ConversationTest, FarOverTheBoundTheLargeHolderEnds) {
  options_.replies_bytes_max = 1000;
  options_.output_pause_bytes = 100;
  service_.is_immediate = false;
  open();
  auto first = reader(*shared_, lines(20, 99));
  driver_->room = 0;
  driver_->give("get\nget\n");
  service_.deliver_all(1);
  service_.deliver_all(13);
  EXPECT_FALSE(first->is_closed);
  auto second = reader(*shared_, lines(1, 99));
  EXPECT_EQ(service_.submitted, 22u) << "no room to begin";
  service_.deliver_all(2);
  EXPECT_TRUE(first->is_closed) << "one and a half times the bound";
  EXPECT_EQ(shared_->counters.stalled, 1u);
  EXPECT_FALSE(driver_->is_closed);
}

TEST_F(ConversationTest, ClientThatTakesNothingStalls) {
  open();
  driver_->room = 0;
  driver_->give("get\n");
  driver_->now += options_.stall_timeout;
  driver_->sweep();
  EXPECT_FALSE(driver_->is_closed);
  driver_->take(1);  // a byte gives it the whole time again
  driver_->now += options_.stall_timeout;
  driver_->sweep();
  EXPECT_FALSE(driver_->is_closed);
  driver_->now += milliseconds(1);
  driver_->sweep();
  EXPECT_TRUE(driver_->is_closed);
  EXPECT_EQ(shared_->counters.stalled, 1u);
  EXPECT_TRUE(service_.streams.empty());
}

TEST_F(ConversationTest, ClientWithNothingToTakeDoesNotStall) {
  open();
  driver_->give("get\n");
  driver_->now += 10 * options_.stall_timeout;
  driver_->sweep();
  EXPECT_FALSE(driver_->is_closed);
}

// ---- the input buffer

TEST_F(ConversationTest, BufferGrowsWithWhatHasCome) {
  service_.limit = size_t{1} << 20;
  open();
  EXPECT_EQ(driver_->space_bytes, kIdleInputBytes);
  driver_->piece_bytes = 1000;
  const std::string request = std::string(900000, 'q') + "\n";
  driver_->give(request.substr(0, 200000));
  EXPECT_LE(driver_->space_bytes, 200000u);
  driver_->give(request.substr(200000));
  EXPECT_TRUE(driver_->got == request);
  EXPECT_EQ(driver_->space_bytes, kBusyInputBytes) << "the large buffer is given back";
  EXPECT_EQ(shared_->large_input_bytes, 0u);
}

TEST_F(ConversationTest, IdleClientHasASmallBuffer) {
  open();
  driver_->give(lines(40000));
  EXPECT_EQ(driver_->space_bytes, kBusyInputBytes);
  driver_->now += options_.idle_time;
  driver_->sweep();
  EXPECT_EQ(driver_->shrunk, 0);
  driver_->now += milliseconds(1);
  driver_->sweep();
  EXPECT_EQ(driver_->shrunk, 1);
  EXPECT_EQ(driver_->space_bytes, kIdleInputBytes);
  driver_->sweep();
  EXPECT_EQ(driver_->shrunk, 1);
  driver_->give("get\n");
  EXPECT_TRUE(driver_->got.ends_with("get\n"));
}

TEST_F(ConversationTest, FullLastReadDoesNotKeepTheBuffer) {
  open();
  std::string request = std::string(kIdleInputBytes - 1, 'x') + "\n";
  driver_->give(request);
  EXPECT_EQ(driver_->space_bytes, kBusyInputBytes);
  driver_->now += options_.idle_time + milliseconds(1);
  driver_->sweep();
  EXPECT_EQ(driver_->space_bytes, kIdleInputBytes);
}

TEST_F(ConversationTest, UnfinishedRequestKeepsItsBuffer) {
  open();
  driver_->give(std::string(50000, 'x'));
  driver_->now += options_.idle_time + seconds(1);
  driver_->sweep();
  EXPECT_EQ(driver_->shrunk, 0);
  driver_->give("\n");
  EXPECT_EQ(driver_->got.size(), 50001u);
}

// ---- few requests of all connections are in progress

TEST_F(ConversationTest, ConnectionsBeginRequestsInTurn) {
  service_.is_immediate = false;
  options_.begun_requests_max = 10;
  options_.requests_per_turn = 4;
  open();
  Driver second(*shared_);
  driver_->give(lines(100));
  EXPECT_EQ(service_.submitted, 10u);
  EXPECT_EQ(shared_->begun_requests, 10u);
  second.give(lines(50));
  EXPECT_EQ(service_.submitted, 11u) << "the first request of a connection does not wait";
  ASSERT_EQ(shared_->begin_waiting.size(), 2u);
  Driver third(*shared_);
  third.give("get\n");
  EXPECT_EQ(service_.submitted, 12u);
  EXPECT_EQ(shared_->begin_waiting.size(), 2u);
  // Twelve are answered: each of both has the same share of the room.
  driver_->takes_turns = second.takes_turns = false;
  service_.deliver_all();
  EXPECT_EQ(third.got, "get\n");
  for (int i = 0; i < 10; ++i) shared_->give_turns();
  EXPECT_EQ(shared_->begun_requests, 10u);
  EXPECT_GE(service_.submitted, 22u);
}

TEST_F(ConversationTest, OwnRepliesDoNotTakeTheTurnOfOthers) {
  service_.is_immediate = false;
  options_.begun_requests_max = 4;
  options_.requests_per_turn = 2;
  open();
  Driver second(*shared_);
  second.give("a\n");
  driver_->give(lines(100));
  second.give(lines(10));
  ASSERT_EQ(shared_->begin_waiting.size(), 2u);
  EXPECT_EQ(shared_->begin_waiting.front(), driver_.get());
  driver_->takes_turns = second.takes_turns = false;
  const size_t before = service_.submitted;
  // Its turn comes: it begins some, and goes to the end of the queue, whatever is answered to it.
  service_.streams.front()->deliver(3);
  EXPECT_GT(service_.submitted, before);
  EXPECT_EQ(shared_->begin_waiting.front(), &second);
}

TEST_F(ConversationTest, BytesInProgressAreBounded) {
  service_.is_immediate = false;
  options_.begun_bytes_usual = 1000;
  options_.begun_bytes_least = 500;
  open();
  driver_->give(lines(10, 400));
  EXPECT_EQ(service_.submitted, 3u);
  service_.deliver_all();
  EXPECT_EQ(shared_->answered_bytes, 1200u);
  driver_->turn();
  shared_->measure(10 * options_.begun_time);
  EXPECT_EQ(shared_->begun_bytes_max, 560u) << "half of the way to 120";
  shared_->measure(options_.begun_time);
  EXPECT_EQ(shared_->begun_bytes_max, 500u);
  while (driver_->got.size() < 4010) service_.deliver_all();
  EXPECT_TRUE(shared_->begin_waiting.empty());
  shared_->measure(options_.begun_time);
  EXPECT_EQ(shared_->begun_bytes_max, 1000u) << "nobody waits";
}

// Each connection may begin a small one, but a large one only if it will be answered in time.
TEST_F(ConversationTest, LargeRequestsWaitForTheirTurn) {
  service_.is_immediate = false;
  options_.begun_bytes_usual = 200000;
  open();
  driver_->give(lines(1, 150000));
  Driver second(*shared_);
  second.give(lines(1, 150000));
  Driver third(*shared_);
  third.give(lines(2, 150000));
  EXPECT_EQ(service_.submitted, 2u);
  EXPECT_EQ(shared_->begin_waiting.size(), 1u);
  Driver small(*shared_);
  small.give("get\n");
  EXPECT_EQ(service_.submitted, 3u);
  service_.deliver_all();
  EXPECT_EQ(small.got, "get\n");
  shared_->give_turns();
  EXPECT_EQ(service_.submitted, 5u);
  service_.deliver_all();
  EXPECT_EQ(third.got.size(), 2 * 150001u);
  EXPECT_EQ(shared_->begun_bytes, 0u);
}

// The node still has an answer for what is here: that it is shutting down, at least.
TEST_F(ConversationTest, DrainAnswersWhoWaitsForATurn) {
  service_.is_immediate = false;
  options_.begun_bytes_usual = 200000;
  open();
  driver_->give(lines(1, 150000));
  Driver second(*shared_);
  second.give(lines(1, 150000));
  Driver third(*shared_);
  third.give(lines(1, 150000));
  ASSERT_EQ(shared_->begin_waiting.size(), 1u);
  third.conversation->drain();
  third.turn();
  EXPECT_FALSE(third.is_shut_down);
  service_.deliver_all();
  shared_->give_turns();
  service_.deliver_all();
  EXPECT_EQ(third.got.size(), 150001u);
  EXPECT_TRUE(third.is_shut_down);
}

// To leave one queue is not to leave the other: it would get a place for each time.
TEST_F(ConversationTest, WaitsOnceInEachQueue) {
  service_.is_immediate = false;
  options_.begun_requests_max = 4;
  options_.replies_bytes_max = 1000;
  open();
  Driver second(*shared_);
  second.give("a\n");
  driver_->give(lines(100));
  second.give(lines(10));
  ASSERT_EQ(shared_->begin_waiting.size(), 2u);
  for (int i = 0; i < 3; ++i) {
    shared_->unsent_bytes += 1000;  // of others
    EXPECT_TRUE(second.conversation->is_congested());
    EXPECT_EQ(shared_->waiting.size(), 1u);
    shared_->unsent_bytes -= 1000;
    shared_->wake_waiting();
    EXPECT_TRUE(shared_->waiting.empty());
    EXPECT_EQ(shared_->begin_waiting.size(), 2u);
  }
}

TEST_F(ConversationTest, RequestsOfASlowReaderDoNotCount) {
  service_.is_immediate = false;
  options_.begun_requests_max = 10;
  options_.output_pause_bytes = 100;
  options_.kept_bytes_max = 0;
  open();
  auto slow = reader(*shared_, lines(20, 99));
  EXPECT_EQ(shared_->begun_requests, 10u);
  service_.deliver_all(1);
  EXPECT_EQ(shared_->begun_requests, 0u);
  shared_->give_turns();
  EXPECT_TRUE(shared_->begin_waiting.empty()) << "it could not begin any";
  driver_->give(lines(10));
  EXPECT_EQ(shared_->begun_requests, 10u);
  slow->half_close();
  slow.reset();
  EXPECT_EQ(shared_->begun_requests, 10u);
  driver_.reset();
  EXPECT_EQ(shared_->begun_requests, 0u);
  EXPECT_EQ(shared_->begun_bytes, 0u);
  EXPECT_TRUE(shared_->begin_waiting.empty());
}

// ---- requests that cannot begin

// As a client does that writes all its requests before it reads the first reply.
TEST_F(ConversationTest, LongPipelineIsKeptAndAnsweredWhole) {
  options_.output_pause_bytes = 1000;
  open();
  driver_->room = 0;
  const std::string requests = lines(100000, 26);
  driver_->give(requests);
  EXPECT_TRUE(driver_->input.empty()) << "received while its replies are not read";
  EXPECT_LT(service_.submitted, 50u);
  driver_->half_close();
  EXPECT_FALSE(driver_->is_closed);
  while (driver_->got.size() < requests.size()) {
    const size_t before = driver_->got.size();
    driver_->take(10000);
    ASSERT_GT(driver_->got.size(), before);
  }
  driver_->take(1);
  EXPECT_TRUE(driver_->got == requests);
  EXPECT_TRUE(driver_->is_closed) << "all is answered that came before its end";
  EXPECT_EQ(shared_->large_input_bytes, 0u);
}

TEST_F(ConversationTest, KeptRequestsHaveABound) {
  service_.is_immediate = false;
  options_.pipelined_max = 1;
  options_.kept_bytes_max = 1000;
  open();
  driver_->give(lines(100000));
  EXPECT_GT(driver_->input.size(), 100000u);
  EXPECT_FALSE(driver_->is_reading);
  while (driver_->got.size() < 200000) service_.deliver_all();
  EXPECT_EQ(driver_->got, lines(100000));
}

// Half of the bound is for incomplete requests only.
TEST_F(ConversationTest, KeptRequestsLeaveRoomForOthers) {
  service_.is_immediate = false;
  options_.pipelined_max = 1;
  options_.input_bytes_max = size_t{4} << 20;
  open();
  std::vector<std::unique_ptr<Driver>> keepers;
  for (int i = 0; i < 8; ++i) keepers.push_back(reader(*shared_, lines(1000000)));
  EXPECT_GT(shared_->large_input_bytes, size_t{1} << 20);
  EXPECT_LE(shared_->large_input_bytes, size_t{2} << 20);
  EXPECT_GT(keepers[0]->input.size(), 0u);
  EXPECT_TRUE(shared_->input_waiting.empty());
  driver_->give(std::string(900000, 'x') + "\n");
  EXPECT_EQ(service_.submitted, 9u);
}

TEST_F(ConversationTest, KeptBytesAreGivenBackAsTheyAreUsed) {
  service_.is_immediate = false;
  options_.pipelined_max = 100;
  open();
  driver_->give(lines(500000));
  EXPECT_GT(shared_->large_input_bytes, size_t{500000});
  while (driver_->got.size() < 1000000) service_.deliver_all();
  driver_->now += milliseconds(1);
  driver_->sweep();
  EXPECT_EQ(driver_->shrunk, 1) << "at once, when it is this large";
  EXPECT_EQ(shared_->large_input_bytes, 0u);
}

// ---- incomplete requests

const std::string kPart(600000, 'x');
const std::string kNotInTime = "ERR BADFRAME the rest of the request did not arrive in time\n";

TEST_F(ConversationTest, HalfSentRequestHasATimeLimit) {
  open();
  driver_->give("a\n" + kPart);
  driver_->sweep();  // what has come counts as progress
  driver_->now += options_.half_sent_timeout;
  driver_->sweep();
  EXPECT_FALSE(driver_->is_shut_down);
  driver_->now += milliseconds(1);
  driver_->sweep();
  EXPECT_EQ(driver_->got, "a\n" + kNotInTime);
  EXPECT_TRUE(driver_->is_shut_down);
  EXPECT_EQ(shared_->counters.half_sent, 1u);
  EXPECT_EQ(shared_->large_input_bytes, 0u);
}

TEST_F(ConversationTest, SteadySenderOfALargeRequestIsServed) {
  open();
  driver_->give(kPart);
  for (int i = 0; i < 6; ++i) {
    driver_->sweep();
    driver_->now += options_.half_sent_timeout;
    driver_->give(std::string(kProgressBytes, 'x'));
  }
  driver_->sweep();
  driver_->give("\n");
  EXPECT_EQ(driver_->got.size(), 600000 + 6 * kProgressBytes + 1);
}

TEST_F(ConversationTest, SmallHalfSentRequestMayWait) {
  open();
  driver_->give("ge");
  for (int i = 0; i < 100; ++i) {
    driver_->now += options_.half_sent_timeout;
    driver_->sweep();
  }
  driver_->give("t\n");
  EXPECT_EQ(driver_->got, "get\n");
}

// At the bound one may complete its request beyond it; others wait, and those that stand still end.
TEST_F(ConversationTest, HalfSentRequestsMakeRoomForOthers) {
  options_.input_bytes_max = size_t{2} << 20;
  open();
  std::vector<std::unique_ptr<Driver>> halves;
  for (int i = 0; i < 3; ++i) halves.push_back(reader(*shared_, kPart, 1000));
  EXPECT_EQ(shared_->over_bound, halves[2].get());
  driver_->give(kPart);
  EXPECT_EQ(shared_->input_waiting.size(), 1u);
  EXPECT_FALSE(driver_->is_reading);
  for (auto& half : halves) {
    half->sweep();
    half->now += options_.short_stall_timeout + milliseconds(1);
    half->sweep();
  }
  EXPECT_TRUE(halves[0]->is_shut_down);
  EXPECT_EQ(shared_->counters.half_sent, 3u);
  ASSERT_TRUE(shared_->has_input_room());
  shared_->input_waiting.pop_front();
  driver_->on_room(Room::kInput);
  driver_->give("\n");
  EXPECT_EQ(driver_->got.size(), kPart.size() + 1);
  EXPECT_TRUE(shared_->input_waiting.empty());
}

TEST_F(ConversationTest, RequestsBeyondTheBoundComeOneByOne) {
  options_.input_bytes_max = size_t{1} << 20;
  open();
  driver_->give(kPart);
  Driver second(*shared_);
  second.give(kPart);
  EXPECT_EQ(shared_->over_bound, &second);
  Driver third(*shared_);
  third.give(kPart);
  ASSERT_EQ(shared_->input_waiting.size(), 1u);
  second.give("\n");
  EXPECT_EQ(second.got.size(), kPart.size() + 1);
  EXPECT_EQ(shared_->over_bound, nullptr);
  shared_->input_waiting.pop_front();
  third.on_room(Room::kInput);
  third.give("\n");
  EXPECT_EQ(third.got.size(), kPart.size() + 1);
}

// Otherwise several could each have half of their room, and none could continue.
TEST_F(ConversationTest, LargeRequestReservesAllItsRoom) {
  service_.declared = node::Framing::kResp;
  open();
  const std::string request = "*1\r\n$500000\r\n" + std::string(500000, 'x') + "\r\n";
  driver_->piece_bytes = 10000;
  driver_->give(request.substr(0, 60000));
  EXPECT_EQ(shared_->large_input_bytes, 0u);
  driver_->give(request.substr(60000, 10000));
  EXPECT_EQ(shared_->large_input_bytes, (512u << 10) - kBusyInputBytes);
  EXPECT_EQ(driver_->space_bytes + 70000, 128u << 10) << "the buffer grows with what arrives";
  driver_->give(request.substr(70000));
  EXPECT_EQ(service_.submitted, 1u);
  EXPECT_EQ(shared_->large_input_bytes, 0u);
}

TEST_F(ConversationTest, WaitForInputRoomEndsWithOverloaded) {
  options_.input_bytes_max = size_t{1} << 20;
  open();
  driver_->give(kPart);
  Driver second(*shared_);
  second.give(kPart);
  Driver third(*shared_);
  third.give("a\n" + kPart);
  third.sweep();
  third.now += options_.half_sent_timeout + milliseconds(1);
  third.sweep();
  EXPECT_EQ(third.got,
            "a\nERR OVERLOADED too many large requests in progress on this node; try again\n");
  EXPECT_TRUE(third.is_shut_down);
  EXPECT_TRUE(shared_->input_waiting.empty());
}

TEST_F(ConversationTest, DestructionReturnsLargeInput) {
  open();
  driver_->give(std::string(600000, 'x'));
  EXPECT_GT(shared_->large_input_bytes, 0u);
  driver_.reset();
  EXPECT_EQ(shared_->large_input_bytes, 0u);
}

// ---- the framing's own replies

TEST_F(ConversationTest, OwnRepliesComeInTheirPlace) {
  service_.is_immediate = false;
  service_.limit = 10;
  open();
  const std::string long_line = std::string(11, 'x') + "\n";
  driver_->give(long_line + "a\nb\n" + long_line + long_line + "c\n" + long_line);
  EXPECT_EQ(driver_->got, kTooLarge);
  service_.deliver_all(1);
  EXPECT_EQ(driver_->got, kTooLarge + "a\n");
  service_.deliver_all(1);
  EXPECT_EQ(driver_->got, kTooLarge + "a\nb\n" + kTooLarge + kTooLarge);
  service_.deliver_all(1);
  EXPECT_EQ(driver_->got, kTooLarge + "a\nb\n" + kTooLarge + kTooLarge + "c\n" + kTooLarge);
  EXPECT_EQ(shared_->counters.too_large, 4u);
}

// ---- the end

TEST_F(ConversationTest, QuitWaitsForRepliesThatAreOwed) {
  service_.declared = node::Framing::kResp;
  service_.is_immediate = false;
  open();
  driver_->give("PING\r\nQUIT\r\nPING\r\n");
  EXPECT_EQ(service_.submitted, 1u);
  EXPECT_FALSE(driver_->is_shut_down);
  driver_->room = 5;
  service_.deliver_all();
  EXPECT_FALSE(driver_->is_shut_down) << "output is left";
  driver_->take(1000);
  EXPECT_EQ(driver_->got, "*1\r\n$4\r\nPING\r\n\n+OK\r\n");
  EXPECT_TRUE(driver_->is_shut_down);
  EXPECT_FALSE(driver_->is_closed);
  EXPECT_TRUE(service_.streams.empty());
}

TEST_F(ConversationTest, BadFrameWaitsForRepliesThatAreOwed) {
  service_.declared = node::Framing::kResp;
  service_.is_immediate = false;
  open();
  driver_->give("PING\r\n*1\r\n:1\r\nPING\r\n");
  EXPECT_EQ(driver_->got, "");
  service_.deliver_all();
  EXPECT_EQ(driver_->got, "*1\r\n$4\r\nPING\r\n\n-ERR Protocol error: expected '$', got ':'\r\n");
  EXPECT_TRUE(driver_->is_shut_down);
  EXPECT_EQ(shared_->counters.bad_frames, 1u);
  EXPECT_EQ(service_.submitted, 1u);
}

TEST_F(ConversationTest, HalfCloseWaitsForRepliesThatAreOwed) {
  service_.is_immediate = false;
  options_.pipelined_max = 1;
  open();
  driver_->give("incr\nget\nhalf a requ");
  driver_->half_close();
  EXPECT_FALSE(driver_->is_closed);
  service_.deliver_all();
  EXPECT_EQ(service_.submitted, 2u) << "what came before the end is served";
  service_.deliver_all();
  EXPECT_EQ(driver_->got, "incr\nget\n");
  EXPECT_TRUE(driver_->is_closed);
  EXPECT_FALSE(driver_->is_shut_down) << "the client is gone already";
}

TEST_F(ConversationTest, DrainEndsAnIdleConversation) {
  open();
  driver_->give("get\nhalf");
  driver_->conversation->drain();
  driver_->turn();
  EXPECT_TRUE(driver_->is_shut_down);
  EXPECT_EQ(driver_->got, "get\n");
}

TEST_F(ConversationTest, DrainWaitsForRepliesThatAreOwed) {
  service_.is_immediate = false;
  open();
  driver_->give("incr\n");
  driver_->conversation->drain();
  driver_->turn();
  driver_->give("get\n");
  EXPECT_EQ(service_.submitted, 2u) << "it is for the node to refuse it";
  EXPECT_FALSE(driver_->is_shut_down);
  service_.deliver_all();
  EXPECT_EQ(driver_->got, "incr\nget\n");
  EXPECT_TRUE(driver_->is_shut_down);
}

TEST_F(ConversationTest, LingeringReadsOnForATime) {
  service_.declared = node::Framing::kResp;
  open();
  driver_->give("QUIT\r\n");
  ASSERT_TRUE(driver_->is_shut_down);
  driver_->now += options_.linger_time;
  driver_->give(std::string(300000, 'x'));
  EXPECT_TRUE(driver_->input.empty()) << "read, and thrown away";
  EXPECT_EQ(shared_->large_input_bytes, 0u);
  driver_->sweep();
  EXPECT_FALSE(driver_->is_closed);
  driver_->now += milliseconds(1);
  driver_->sweep();
  EXPECT_TRUE(driver_->is_closed);
  EXPECT_EQ(shared_->counters.stalled, 0u);
  EXPECT_EQ(service_.submitted, 0u);
}

TEST_F(ConversationTest, LingeringEndsWhenTheClientCloses) {
  service_.declared = node::Framing::kResp;
  open();
  driver_->give("QUIT\r\n");
  ASSERT_TRUE(driver_->is_shut_down);
  driver_->half_close();
  EXPECT_TRUE(driver_->is_closed);
}

TEST_F(ConversationTest, FailedSocketClosesAfterTheReplies) {
  service_.is_immediate = false;
  open();
  driver_->give("a\nb\n");
  driver_->conversation->fail();
  service_.deliver_all();
  EXPECT_TRUE(driver_->is_closed);
  EXPECT_EQ(driver_->got, "");
  EXPECT_TRUE(service_.streams.empty());
}

// ---- who asks

constexpr const char* kNoAuth = "-NOAUTH Authentication required.\r\n";

TEST_F(ConversationTest, UnknownClientReachesNothing) {
  service_.declared = node::Framing::kResp;
  open();
  driver_->conversation->set_caller({false, false}, false, driver_->now);
  driver_->give("GET k\r\nAUTH bad\r\nGET k\r\n");
  EXPECT_EQ(driver_->got, std::string(kNoAuth) + "-WRONGPASS no such user\r\n" + kNoAuth);
  EXPECT_EQ(service_.submitted, 0u);
  driver_->got.clear();
  driver_->demands_credentials = true;
  driver_->give("AUTH me good\r\nGET k\r\nRESET\r\nGET k\r\n");
  EXPECT_EQ(driver_->got,
            "+OK\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\n+RESET\r\n" + std::string(kNoAuth));
  EXPECT_EQ(service_.submitted, 1u);
  EXPECT_EQ(driver_->shown.size(), 2u);
}

TEST_F(ConversationTest, HelloWithCredentialsIsSubmitted) {
  service_.declared = node::Framing::kResp;
  service_.is_immediate = false;
  open();
  driver_->give("GET k\r\nHELLO 2 AUTH me bad\r\nHELLO 2 AUTH me good\r\nAUTH good\r\n");
  EXPECT_EQ(service_.submitted, 2u);
  EXPECT_EQ(driver_->got, "");
  service_.deliver_all();
  EXPECT_EQ(driver_->got,
            "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\n-WRONGPASS no such user\r\n"
            "*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n\n+OK\r\n");
}

TEST_F(ConversationTest, UnknownClientHasALimitedTime) {
  open();
  driver_->conversation->set_caller({false, false}, false, driver_->now);
  driver_->now += options_.unknown_timeout;
  driver_->give("x\n");  // asking does not help
  driver_->sweep();
  EXPECT_FALSE(driver_->is_closed);
  driver_->now += milliseconds(1);
  driver_->sweep();
  EXPECT_TRUE(driver_->is_closed);
  EXPECT_EQ(shared_->counters.unknown, 1u);
  open();
  driver_->conversation->set_caller({false, false}, false, driver_->now);
  driver_->conversation->set_caller({true, false}, true, driver_->now);
  driver_->now += 2 * options_.unknown_timeout;
  driver_->sweep();
  EXPECT_FALSE(driver_->is_closed);
}

TEST_F(ConversationTest, UnknownClientThatDoesNotReadIsClosed) {
  service_.declared = node::Framing::kResp;
  open();
  driver_->conversation->set_caller({false, false}, false, driver_->now);
  std::string many;
  for (int i = 0; i < 100; ++i) many += "GET k\r\n";
  driver_->give(many);  // who reads them is served
  EXPECT_FALSE(driver_->is_closed);
  EXPECT_EQ(driver_->got.size(), 100 * std::string(kNoAuth).size());
  driver_->room = 0;
  driver_->give(many);
  EXPECT_TRUE(driver_->is_closed);
  EXPECT_EQ(shared_->counters.stalled, 1u);
}

// What it asked for while it was known is answered, however much that is.
TEST_F(ConversationTest, ResetCutsNoReplyThatIsOwed) {
  service_.declared = node::Framing::kResp;
  service_.is_immediate = false;
  service_.answer = [](const std::string&, std::string& bytes) {
    bytes = std::string(100'000, 'x');
    return node::Reply{};
  };
  open();
  driver_->demands_credentials = true;
  driver_->room = 0;
  driver_->give("GET k\r\nGET k\r\nRESET\r\nGET k\r\n");
  service_.deliver_all();
  EXPECT_FALSE(driver_->is_closed);
  driver_->take(1'000'000);
  EXPECT_EQ(driver_->got.size(),
            200'000 + std::string("+RESET\r\n").size() + std::string(kNoAuth).size());
}

TEST_F(ConversationTest, RefusedRequestsAreTold) {
  service_.answer = [](const std::string& request, std::string&) {
    node::Reply reply;
    if (request == "no") reply.code = node::ReplyCode::kNoPerm;
    return reply;
  };
  open();
  driver_->give("yes\nno\nyes\n");
  EXPECT_EQ(driver_->refused, 1);
}

}  // namespace
}  // namespace connectd::client

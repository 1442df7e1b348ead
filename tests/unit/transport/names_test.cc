#include "net/names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>

namespace connectd::net {
namespace {

namespace ip = boost::asio::ip;
using std::chrono::milliseconds;
using ::testing::ElementsAre;

// A resolver in which names hang until they are let go.
class NamesTest : public ::testing::Test {
 protected:
  struct Resolver {
    std::mutex mutex;
    std::condition_variable changed;
    std::set<std::string> hanging;
    std::map<std::string, Names::Addresses> answers;
    size_t inside = 0;
    size_t most = 0;
    std::map<std::string, int> asked;

    Names::Found look(const std::string& host) {
      std::unique_lock lock(mutex);
      ++asked[host];
      most = std::max(most, ++inside);
      changed.wait(lock, [&] { return !hanging.contains(host); });
      --inside;
      if (auto at = answers.find(host); at != answers.end()) return at->second;
      return tl::unexpected<std::string>("not known");
    }
    void set(const std::string& host, std::initializer_list<const char*> texts) {
      std::lock_guard lock(mutex);
      answers[host].clear();
      for (const char* text : texts) answers[host].push_back(ip::make_address(text));
    }
    void hang(const std::string& host) {
      std::lock_guard lock(mutex);
      hanging.insert(host);
    }
    void release_all() {
      std::lock_guard lock(mutex);
      hanging.clear();
      changed.notify_all();
    }
  };

  NamesTest() { make(); }
  ~NamesTest() override { resolver_->release_all(); }
  void make() {
    names_ = std::make_unique<Names>(
        io_, [resolver = resolver_](const std::string& host) { return resolver->look(host); });
  }
  void run_until(const std::function<bool()>& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition() && std::chrono::steady_clock::now() < end) {
      io_.run_one_for(milliseconds(5));
      io_.restart();
    }
    EXPECT_TRUE(condition());
  }
  std::vector<std::string> find(const std::string& host) {
    std::optional<std::vector<std::string>> texts;
    names_->find(host, [&](const Names::Found& found) {
      texts.emplace();
      if (!found) return texts->push_back(found.error());
      for (const auto& address : *found) texts->push_back(address.to_string());
    });
    run_until([&] { return texts.has_value(); });
    return texts.value_or(std::vector<std::string>{});
  }

  boost::asio::io_context io_;
  std::shared_ptr<Resolver> resolver_ = std::make_shared<Resolver>();
  std::unique_ptr<Names> names_;
};

TEST_F(NamesTest, NumbersNeedNoThread) {
  EXPECT_THAT(find("10.0.0.1"), ElementsAre("10.0.0.1"));
  EXPECT_THAT(find("::1"), ElementsAre("::1"));
  EXPECT_TRUE(resolver_->asked.empty());
}

TEST_F(NamesTest, HangingNameHoldsUpNoOther) {
  resolver_->set("good", {"10.0.0.1"});
  resolver_->hang("dead");
  for (int i = 0; i < 100; ++i) names_->find("dead", [](const Names::Found&) {});
  EXPECT_THAT(find("good"), ElementsAre("10.0.0.1"));
  // Its thread may be later than the one of the other name.
  run_until([&] {
    std::lock_guard lock(resolver_->mutex);
    return resolver_->inside == 1;
  });
  EXPECT_EQ(resolver_->asked["dead"], 1);
}

TEST_F(NamesTest, SlowNamesLeaveAThreadToTheOthers) {
  resolver_->set("good", {"10.0.0.1"});
  int failed = 0;
  const auto ask_dead = [&] {
    for (int i = 0; i < 4; ++i) {
      const std::string host = "dead" + std::to_string(i);
      resolver_->hang(host);
      names_->find(host, [&](const Names::Found&) { ++failed; });
    }
  };
  ask_dead();
  run_until([&] {
    std::lock_guard lock(resolver_->mutex);
    return resolver_->inside == Names::kMaxThreads;
  });
  std::this_thread::sleep_for(milliseconds(1100));  // now they are slow
  resolver_->release_all();
  run_until([&] { return failed == 4; });
  ask_dead();
  EXPECT_THAT(find("good"), ElementsAre("10.0.0.1"));
  EXPECT_LE(resolver_->most, Names::kMaxThreads);
}

TEST_F(NamesTest, KnownAddressesComeAtOnceTheLastGoodFirst) {
  resolver_->set("a", {"10.0.0.1", "10.0.0.2", "10.0.0.3"});
  EXPECT_THAT(find("a"), ElementsAre("10.0.0.1", "10.0.0.2", "10.0.0.3"));
  names_->worked("a", ip::make_address("10.0.0.2"));
  resolver_->hang("a");
  EXPECT_THAT(find("a"), ElementsAre("10.0.0.2", "10.0.0.1", "10.0.0.3"));
  names_->failed("a");
  EXPECT_THAT(find("a"), ElementsAre("10.0.0.1", "10.0.0.3", "10.0.0.2"));
}

TEST_F(NamesTest, ChangedAddressIsLearnt) {
  resolver_->set("a", {"10.0.0.1"});
  find("a");
  resolver_->set("a", {"10.0.0.7"});
  find("a");
  run_until([&] {
    std::lock_guard lock(resolver_->mutex);
    return resolver_->asked["a"] >= 2;
  });
  run_until([&] { return find("a") == std::vector<std::string>{"10.0.0.7"}; });
}

TEST_F(NamesTest, FailureKeepsWhatIsKnown) {
  resolver_->set("a", {"10.0.0.1"});
  find("a");
  {
    std::lock_guard lock(resolver_->mutex);
    resolver_->answers.clear();
  }
  for (int i = 0; i < 10; ++i) EXPECT_THAT(find("a"), ElementsAre("10.0.0.1"));
  EXPECT_THAT(find("b"), ElementsAre("not known"));
}

TEST_F(NamesTest, EndNeverWaitsForTheResolver) {
  resolver_->hang("dead");
  bool called = false;
  names_->find("dead", [&](const Names::Found&) { called = true; });
  run_until([&] {
    std::lock_guard lock(resolver_->mutex);
    return resolver_->inside == 1;
  });
  const auto begin = std::chrono::steady_clock::now();
  names_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(50));
  resolver_->release_all();
  io_.run_for(milliseconds(50));
  EXPECT_FALSE(called);
}

TEST(LookUp, NamesOfThisMachine) {
  auto found = Names::look_up("localhost");
  ASSERT_TRUE(found) << found.error();
  EXPECT_TRUE(found->front().is_loopback());
  EXPECT_FALSE(Names::look_up("no-such-host.invalid"));
  EXPECT_TRUE(Names::look_up("fe80::1%lo"));
  EXPECT_FALSE(Names::look_up("fe80::1%nosuchif0"));
}

}  // namespace
}  // namespace connectd::net

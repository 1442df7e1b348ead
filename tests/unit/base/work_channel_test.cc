#include "base/work_channel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <string>
#include <thread>

#include "tests/unit/base/supervisors.h"

namespace connectd {
namespace {

using Squares = WorkChannel<int, std::vector<int>>;

TEST(WorkChannel, PollDoesTasksInOrderAndWakesAfterEach) {
  StrictSupervisor supervisor;
  Squares squares(10, supervisor);
  auto square = [&](int n) { squares.put(n * n); };
  std::vector<int> results = {99};
  EXPECT_FALSE(squares.poll(square));
  EXPECT_FALSE(squares.take_results(results));
  EXPECT_TRUE(results.empty());
  for (int n : {1, 2, 3}) EXPECT_TRUE(squares.submit(std::move(n)));
  EXPECT_TRUE(squares.has_work());
  EXPECT_FALSE(squares.has_results());
  EXPECT_TRUE(squares.poll(square));
  EXPECT_FALSE(squares.has_work());
  EXPECT_TRUE(squares.has_results());
  EXPECT_EQ(supervisor.wakes, 3);
  EXPECT_TRUE(squares.take_results(results));
  EXPECT_EQ(results, (std::vector<int>{1, 4, 9}));
  EXPECT_FALSE(squares.take_results(results));
}

TEST(WorkChannel, FullChannelLeavesTheTaskToItsOwner) {
  StrictSupervisor supervisor;
  WorkChannel<std::unique_ptr<int>, std::vector<int>> channel(1, supervisor);
  EXPECT_TRUE(channel.submit(std::make_unique<int>(1)));
  auto second = std::make_unique<int>(2);
  EXPECT_FALSE(channel.submit(std::move(second)));
  ASSERT_NE(second, nullptr);
  EXPECT_TRUE(channel.poll([&](std::unique_ptr<int>& task) { channel.put(*task); }));
  EXPECT_TRUE(channel.submit(std::move(second)));
  channel.close();
  EXPECT_FALSE(channel.submit(std::make_unique<int>(3)));
}

TEST(WorkChannel, MergeKeepsWhatWasNotCollected) {
  StrictSupervisor supervisor;
  WorkChannel<int, std::string> channel(1, supervisor);
  auto add = [&](const char* text) {
    channel.merge([&](std::string& results, bool collected) {
      if (collected) results.clear();
      results += text;
    });
  };
  std::string results;
  add("a");
  add("b");
  EXPECT_TRUE(channel.take_results(results));
  EXPECT_EQ(results, "ab");
  add("");  // that something happened is a result, too
  EXPECT_TRUE(channel.take_results(results));
  EXPECT_EQ(results, "");
}

TEST(WorkChannel, RunDoesWhatWasQueuedBeforeClose) {
  constexpr int kTasks = 1000;
  struct WaitingSupervisor final : Supervisor {
    void wake() override {
      std::lock_guard lock(mutex);
      is_awake = true;
      woken.notify_one();
    }
    void fail(Error error) override { ADD_FAILURE() << error.text; }

    std::mutex mutex;
    std::condition_variable woken;
    bool is_awake = false;
  };
  WaitingSupervisor supervisor;
  Squares squares(kTasks, supervisor);
  std::thread worker([&] { squares.run([&](int n) { squares.put(n); }); });
  for (int n = 0; n < kTasks; ++n) ASSERT_TRUE(squares.submit(std::move(n)));
  squares.close();
  std::vector<int> all;
  while (all.size() < kTasks) {
    std::unique_lock lock(supervisor.mutex);
    supervisor.woken.wait(lock, [&] { return std::exchange(supervisor.is_awake, false); });
    lock.unlock();
    std::vector<int> results;
    squares.take_results(results);
    all.insert(all.end(), results.begin(), results.end());
  }
  worker.join();
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
  EXPECT_EQ(all.size(), static_cast<size_t>(kTasks));
}

TEST(WorkChannel, QuietTasksWaitForTheOwnerOrTheWorker) {
  int turns = 0;
  StrictSupervisor supervisor;
  std::vector<int> tasks;
  Squares squares(10, supervisor);
  for (int n : {1, 2}) EXPECT_TRUE(squares.submit_quietly(std::move(n)));
  EXPECT_TRUE(squares.drain(tasks));  // the owner does the work itself
  EXPECT_EQ(tasks, (std::vector<int>{1, 2}));
  for (int n : {3, 4}) EXPECT_TRUE(squares.submit_quietly(std::move(n)));
  std::thread worker([&] {
    squares.run_batches([&] {
      ++turns;
      return squares.drain(tasks);
    });
  });
  squares.wake_worker();
  squares.close();
  worker.join();
  EXPECT_EQ(turns, 1);
  EXPECT_EQ(supervisor.wakes, 1);
  EXPECT_EQ(tasks, (std::vector<int>{3, 4}));
}

}  // namespace
}  // namespace connectd

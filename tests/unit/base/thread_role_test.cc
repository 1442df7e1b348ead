// A thread role belongs to one thread at a time. scripts/check-clang.py shows what clang finds.
#include "base/thread_role.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "base/mutex.h"
#include "base/work_channel.h"
#include "tests/unit/base/supervisors.h"

namespace connectd {
namespace {

#ifdef CONNECTD_CHECK_THREADS
TEST(ThreadRoleDeathTest, AnotherThreadIsCaught) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  ThreadRole role("loop");
  role.check();
  role.check();
  EXPECT_DEATH(std::thread([&] { role.check(); }).join(), "not on the thread of the role loop");
}

TEST(ThreadRoleDeathTest, PollBesideRunIsCaught) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto poll_beside_run = [] {
    StrictSupervisor supervisor;
    WorkChannel<int, std::vector<int>> channel(10, supervisor);
    const auto work = [&](int& task) { channel.put(task); };
    std::thread worker([&] { channel.run(work); });
    int task = 1;
    if (!channel.submit(std::move(task))) return;
    while (!channel.has_results()) std::this_thread::yield();
    channel.poll(work);
  };
  EXPECT_DEATH(poll_beside_run(), "not on the thread of the role worker");
}
#endif

TEST(ThreadRole, IsHandedOver) {
  ThreadRole role("loop");
  role.check();
  role.hand_over();
  std::thread([&] { role.check(); }).join();
}

TEST(Condition, WaitEndsAtItsDeadline) {
  Mutex mutex;
  Condition condition;
  MutexLock lock(mutex);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
  while (condition.wait_until(lock, deadline)) {
  }
  EXPECT_GE(std::chrono::steady_clock::now(), deadline);
}

}  // namespace
}  // namespace connectd

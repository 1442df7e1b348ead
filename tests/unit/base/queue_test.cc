#include "base/queue.h"

#include <gtest/gtest.h>

#include <thread>

namespace connectd {
namespace {

TEST(BoundedQueue, RefusesOverItsLimitAndDrainsWhole) {
  BoundedQueue<int> queue(2);
  EXPECT_TRUE(queue.push(1));
  EXPECT_TRUE(queue.push(2));
  EXPECT_FALSE(queue.push(3));
  std::vector<int> out;
  EXPECT_TRUE(queue.drain(out));
  EXPECT_EQ(out, (std::vector<int>{1, 2}));
  EXPECT_FALSE(queue.drain(out));
}

TEST(BoundedQueue, CloseWakesTheConsumerAfterTheLastItem) {
  BoundedQueue<int> queue(1000);
  std::vector<int> seen;
  std::thread consumer([&] {
    std::vector<int> out;
    while (queue.wait() && queue.drain(out)) seen.insert(seen.end(), out.begin(), out.end());
  });
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(queue.push(std::move(i)));
  queue.close();
  consumer.join();
  ASSERT_EQ(seen.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(seen[i], i);
  EXPECT_FALSE(queue.push(1));
}

}  // namespace
}  // namespace connectd

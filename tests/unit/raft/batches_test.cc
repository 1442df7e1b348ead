#include "raft/batches.h"

#include <gtest/gtest.h>

namespace connectd::raft {
namespace {

TEST(Batches, CompleteInOrderOnceEach) {
  Batches batches(Term(1), NodeId());
  EXPECT_FALSE(batches.any_in_flight());
  EXPECT_EQ(batches.submit(Term(1), NodeId(), Index(3), Term(1)), 1u);
  EXPECT_EQ(batches.submit(Term(1), NodeId(), Index(5), Term(1)), 2u);
  EXPECT_EQ(batches.submit(Term(1), NodeId(), Index(6), Term(1)), 3u);
  EXPECT_FALSE(batches.take_completed());
  batches.complete(2);
  batches.complete(1);  // says nothing new
  EXPECT_EQ(batches.take_completed()->last_index, Index(3));
  EXPECT_EQ(batches.take_completed()->last_index, Index(5));
  EXPECT_FALSE(batches.take_completed());
  EXPECT_TRUE(batches.any_in_flight());
}

// Paper, figure 2: a vote leaves when it is durable, not when it is written.
TEST(Batches, HardStateIsDurableWithItsBatch) {
  Batches batches(Term(1), NodeId());
  EXPECT_TRUE(batches.is_durable(Term(1), NodeId()));
  EXPECT_FALSE(batches.is_submitted(Term(2), NodeId(3)));
  batches.submit(Term(1), NodeId(), Index(3), Term(1));
  const uint64_t vote = batches.submit(Term(2), NodeId(3), Index(3), Term(1));
  batches.submit(Term(2), NodeId(3), Index(4), Term(2));
  EXPECT_TRUE(batches.is_submitted(Term(2), NodeId(3)));
  batches.complete(vote - 1);
  EXPECT_FALSE(batches.is_durable(Term(2), NodeId(3)));
  batches.complete(vote);
  EXPECT_TRUE(batches.is_durable(Term(2), NodeId(3)));
  EXPECT_FALSE(batches.is_durable(Term(1), NodeId()));
}

TEST(BatchesDeathTest, CompletingWhatWasNeverSubmittedAborts) {
  Batches batches(Term(1), NodeId());
  EXPECT_DEATH(batches.complete(1), "never submitted");
}

}  // namespace
}  // namespace connectd::raft

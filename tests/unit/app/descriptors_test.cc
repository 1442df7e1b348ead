// How file descriptors are shared.
#include "app/descriptors.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

namespace connectd::app {
namespace {

TEST(Descriptors, ClientsGetWhatIsLeft) {
  auto many = share_descriptors(65536, 20, 10000);
  ASSERT_TRUE(many);
  EXPECT_EQ(many->clients, 10000u);
  EXPECT_FALSE(many->capped);
  EXPECT_EQ(many->http, 1024u);

  auto few = share_descriptors(1024, 20, 10000);
  ASSERT_TRUE(few);
  EXPECT_TRUE(few->capped);
  EXPECT_GT(few->clients, 500u);
  EXPECT_EQ(few->http, 128u);
  EXPECT_LT(few->clients + few->http, 1024u - 20 - 100);

  auto very_few = share_descriptors(64, 15, 10000);
  ASSERT_TRUE(very_few);
  EXPECT_GE(very_few->http, 4u);
  EXPECT_GE(very_few->clients, 8u);
}

TEST(Descriptors, TooLowALimitIsRefused) {
  auto none = share_descriptors(40, 15, 100);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind, ErrorKind::kNoDescriptors);
  EXPECT_NE(none.error().text.find("limit of open files is 40"), std::string::npos);
}

TEST(Descriptors, EveryShareIsWithinTheLimit) {
  for (size_t limit = 0; limit < 4096; ++limit) {
    auto shares = share_descriptors(limit, 15, 2000);
    if (!shares) continue;
    ASSERT_LT(15 + shares->clients + shares->http, limit);
    ASSERT_LE(shares->clients, 2000u);
    ASSERT_GE(shares->clients, 4u);
  }
}

TEST(Descriptors, AreCounted) {
  const size_t before = open_descriptors();
  const int file = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(open_descriptors(), before + 1);
  ::close(file);
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Descriptors, SoftLimitIsRaised) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit low{before.rlim_max / 2, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  EXPECT_EQ(raise_descriptor_limit(), before.rlim_max);
  ::setrlimit(RLIMIT_NOFILE, &before);
}

}  // namespace
}  // namespace connectd::app

#include "base/cgroup.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace connectd {
namespace {

class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "cgroup-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text << "\n";
  }
  std::string root_;
};

TEST_F(CgroupTest, SmallestLimitOfAllGroupsAbove) {
  write("/proc/self/cgroup", "0::/system.slice/connectd.service");
  write("/sys/fs/cgroup/system.slice/connectd.service/memory.max", "max");
  write("/sys/fs/cgroup/system.slice/memory.max", "1048576");
  write("/sys/fs/cgroup/system.slice/connectd.service/pids.max", "7");
  write("/sys/fs/cgroup/system.slice/pids.max", "100");
  EXPECT_EQ(cgroup_limit(CgroupLimit::kMemory, root_), 1048576U);
  EXPECT_EQ(cgroup_limit(CgroupLimit::kThreads, root_), 7U);
  EXPECT_EQ(usable_memory(root_), 1048576U);
}

TEST_F(CgroupTest, ContainerSeesItsOwnGroupAsTheRoot) {
  write("/proc/self/cgroup", "0::/../../host/path");
  write("/sys/fs/cgroup/memory.max", "4096");
  EXPECT_EQ(cgroup_limit(CgroupLimit::kMemory, root_), 4096U);
}

TEST_F(CgroupTest, Version1) {
  write("/proc/self/cgroup", "5:cpu,memory:/docker/a\n4:pids:/docker/a\n1:name=systemd:/");
  write("/sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", "8192");
  write("/sys/fs/cgroup/pids/docker/a/pids.max", "max");
  EXPECT_EQ(cgroup_limit(CgroupLimit::kMemory, root_), 8192U);
  EXPECT_EQ(cgroup_limit(CgroupLimit::kThreads, root_), std::nullopt);
}

TEST_F(CgroupTest, NoLimitIsTheMachine) {
  EXPECT_EQ(cgroup_limit(CgroupLimit::kMemory, root_), std::nullopt);
  EXPECT_GT(usable_memory(root_), uint64_t{64} << 20);
  write("/proc/self/cgroup", "0::/a");
  write("/sys/fs/cgroup/a/memory.max", std::to_string(UINT64_MAX / 2));
  EXPECT_LT(usable_memory(root_), UINT64_MAX / 2);
}

}  // namespace
}  // namespace connectd

// Which data directories a configuration accepts.
#include "app/node_setup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace connectd::app {
namespace {

using ::testing::HasSubstr;

ClusterId cluster(uint8_t n) {
  ClusterId id;
  id.bytes[0] = n;
  return id;
}

config::Config with_id(const std::string& id) {
  config::Config config;
  config.node.id = NodeId(2);
  config.node.data_dir = "/data";
  config.cluster.id = id;
  return config;
}

// Recovered once.
storage::Identity identity() {
  storage::Identity identity;
  identity.node_id = NodeId(2);
  identity.cluster_id = cluster(7);
  identity.former_cluster_ids = {cluster(6)};
  return identity;
}

TEST(CheckIdentity, PresentFormerOrNoIdFits) {
  for (const std::string& id : {std::string(), cluster(7).to_string(), cluster(6).to_string()}) {
    EXPECT_TRUE(check_identity(identity(), with_id(id))) << id;
  }
  storage::Identity empty = identity();
  empty.cluster_id = ClusterId();
  empty.former_cluster_ids.clear();
  EXPECT_TRUE(check_identity(empty, with_id(cluster(9).to_string()))) << "it waits to be let in";
}

TEST(CheckIdentity, OtherIdNamesBoth) {
  const auto checked = check_identity(identity(), with_id(cluster(9).to_string()));
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().kind, ErrorKind::kMismatch);
  EXPECT_THAT(checked.error().text,
              HasSubstr("belongs to the cluster with id " + cluster(7).to_string()));
  EXPECT_THAT(checked.error().text, HasSubstr("cluster.id is " + cluster(9).to_string()));
}

TEST(CheckIdentity, OtherNodeIsNamed) {
  storage::Identity other = identity();
  other.node_id = NodeId(3);
  const auto checked = check_identity(other, with_id(""));
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().kind, ErrorKind::kMismatch);
  EXPECT_THAT(checked.error().text, HasSubstr("belongs to node 3, node.id is 2"));
}

TEST(FoundingDifferences, EachNamesTheWayOut) {
  node::Genesis genesis;
  genesis.max_request = 1 << 20;
  genesis.plugin_options = {{"a", "1"}, {"b", "2"}};
  config::Config config = with_id("");
  config.client.max_request = 1 << 20;
  config.client.max_request_is_set = true;
  config.plugin.options = genesis.plugin_options;
  EXPECT_TRUE(founding_differences(genesis, config).empty());
  config.client.max_request = 2 << 20;
  config.plugin.options = {{"b", "3"}, {"c", "4"}};
  const std::vector<std::string> warnings = founding_differences(genesis, config);
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_THAT(warnings[0], HasSubstr("Set it to 1048576, or remove it"));
  EXPECT_THAT(warnings[1], HasSubstr("differ: a (not in the file), b (other value), c (only in the "
                                     "file): "));
  EXPECT_THAT(warnings[1], HasSubstr("Correct the file"));
}

TEST(FoundingDifferences, WholeValuesCountAndNoneIsShown) {
  node::Genesis genesis;
  config::Config config = with_id("");
  genesis.plugin_options = {{"same", "public"}, {"token", std::string(64, 's') + "1"}};
  config.plugin.options = {{"same", "public"}, {"token", std::string(64, 's') + "2"}};
  const std::vector<std::string> warnings = founding_differences(genesis, config);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], HasSubstr("differ: token (other value): "));
  EXPECT_THAT(warnings[0], Not(HasSubstr("sss")));
  EXPECT_THAT(warnings[0], Not(HasSubstr("public")));
}

}  // namespace
}  // namespace connectd::app

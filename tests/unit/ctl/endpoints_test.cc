// The nodes that connectctl asks without --endpoint.
#include "ctl/endpoints.h"

#include <fstream>

#include "tests/unit/ctl/support.h"

namespace connectd::ctl {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class EndpointsTest : public ::testing::Test {
 protected:
  void configure(const std::string& name, const std::string& text) {
    std::ofstream(directory_.path(name)) << text;
  }
  static std::string node(int id, const std::string& host, const std::string& more = "") {
    return fmt::format(
        "node: {{id: {0}, data_dir: d}}\ncluster:\n  members:\n"
        "    - {{id: {0}, peer: \"{1}:7101\", client: \"{1}:7201\", http: \"{1}:7301\"}}\n{2}",
        id, host, more);
  }
  Endpoints found(const char* variable = nullptr) {
    auto found = find_endpoints(variable, directory_.path());
    EXPECT_TRUE(found) << found.error().text;
    return found ? *found : Endpoints{};
  }

  TemporaryDirectory directory_;
};

TEST_F(EndpointsTest, WithoutConfigurationTheDefault) {
  EXPECT_THAT(found().addresses, ElementsAre(Address{"127.0.0.1", 7301}));
  EXPECT_THAT(found().origin, HasSubstr("has no configuration"));
  EXPECT_TRUE(find_endpoints(nullptr, directory_.path("none")));
}

TEST_F(EndpointsTest, NodesOfThisMachineByTheirFiles) {
  configure("node2.yaml", node(2, "10.0.0.12", "listen: {http: \"0.0.0.0:7311\"}\n"));
  configure("node1.yaml", node(1, "10.0.0.11"));
  configure("node3.yml", node(3, "h", "listen: {http: \"[::]:7321\"}\n"));
  configure("notes.txt", "nothing");
  EXPECT_THAT(found().addresses, ElementsAre(Address{"10.0.0.11", 7301}, Address{"127.0.0.1", 7311},
                                             Address{"::1", 7321}));
  EXPECT_THAT(found().origin, HasSubstr("node1.yaml"));
}

// For `status`, when the node of this machine is down.
TEST_F(EndpointsTest, OtherMembersComeFromTheFiles) {
  configure("node1.yaml", R"(
node: {id: 1, data_dir: d}
cluster:
  members:
    - {id: 1, peer: "h1:7101", client: "h1:7201", http: "h1:7301"}
    - {id: 2, peer: "h2:7101", client: "h2:7201", http: "h2:7301"}
)");
  EXPECT_THAT(found().addresses, ElementsAre(Address{"h1", 7301}));
  EXPECT_THAT(found().members, ElementsAre(Address{"h2", 7301}));
  EXPECT_TRUE(found("a:1").members.empty());
}

TEST_F(EndpointsTest, UnreadableFileIsReported) {
  configure("broken.yaml", "node: {id: 0}\n");
  EXPECT_THAT(found().addresses, ElementsAre(Address{"127.0.0.1", 7301}));
  EXPECT_THAT(found().origin, HasSubstr("broken.yaml is not valid"));
  configure("good.yaml", node(1, "10.0.0.11"));
  EXPECT_THAT(found().addresses, ElementsAre(Address{"10.0.0.11", 7301}));
}

TEST_F(EndpointsTest, SeveralClustersNeedAChoice) {
  configure("a.yaml", node(1, "10.0.0.11") + "  name: stock\n");
  configure("b.yaml", node(2, "10.0.0.11") + "  name: stock\n");
  EXPECT_THAT(found().addresses, ElementsAre(Address{"10.0.0.11", 7301}));
  configure("c.yaml", node(1, "10.0.0.12") + "  name: orders\n");
  auto refused = find_endpoints(nullptr, directory_.path());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(
      refused.error().text,
      HasSubstr("has nodes of 2 clusters; choose one of them: -e 10.0.0.12:7301 ('orders'), "
                "-e 10.0.0.11:7301 ('stock')"));
  EXPECT_EQ(found("10.0.0.12:7301").addresses.size(), 1U);
}

TEST_F(EndpointsTest, VariableComesFirst) {
  configure("node1.yaml", node(1, "10.0.0.11"));
  EXPECT_THAT(found("a:1,b:2").addresses, ElementsAre(Address{"a", 1}, Address{"b", 2}));
  EXPECT_THAT(found("a:1").origin, HasSubstr("CONNECTCTL_ENDPOINTS"));
  EXPECT_THAT(found("").addresses, ElementsAre(Address{"10.0.0.11", 7301}));
  auto wrong = find_endpoints("a", directory_.path());
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(wrong.error().text, HasSubstr("CONNECTCTL_ENDPOINTS: 'a' has no port"));
  EXPECT_THAT(wrong.error().text, HasSubstr("7301"));
  wrong = find_endpoints("http://10.0.2.11:7301", directory_.path());
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().text, HasSubstr("is a URL; must be host:port"));
}

}  // namespace
}  // namespace connectd::ctl

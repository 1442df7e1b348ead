// GET /metrics: names, types and values.
#include "admin/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string>

#include "base/log.h"
#include "plugin/metric_table.h"
#include "tests/paths.h"

namespace connectd::admin {
namespace {

using std::chrono::microseconds;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr Time kScrapedAt{std::chrono::seconds(1000)};

node::StatusSnapshot leader_of_three() {
  node::StatusSnapshot status;
  status.made = kScrapedAt - std::chrono::milliseconds(500);
  status.id = status.leader = NodeId(1);
  status.role = raft::Role::kLeader;
  status.state = node::ServiceState::kReady;
  status.ready = true;
  status.version = "1.2.3";
  status.plugin_name = "kv \"x\"\n";
  status.term = Term(7);
  status.commit_index = Index(12);
  for (uint64_t id : {1, 2, 3}) status.members.push_back({NodeId(id), true, "", "", ""});
  status.peers = {{NodeId(2), true, "replicate", Index(12), 0},
                  {NodeId(3), false, "probe", Index(2), 10}};
  return status;
}

std::string scraped(const node::StatusSnapshot* status, const node::Metrics& counts,
                    const node::TrafficSnapshot* traffic = nullptr) {
  return metrics_text({status, traffic, counts, kScrapedAt});
}

TEST(Metrics, ValuesOfALeader) {
  const node::StatusSnapshot status = leader_of_three();
  node::Metrics counts;
  counts.loop.elections.add();
  counts.loop.requests[static_cast<size_t>(node::ReplyCode::kNoLeader)].add(3);
  const std::string text = scraped(&status, counts);
  for (const char* line :
       {"# TYPE connectd_raft_term gauge\n", "\nconnectd_raft_term 7\n",
        "\nconnectd_raft_is_leader 1\n", "\nconnectd_raft_role{role=\"leader\"} 1\n",
        "\nconnectd_raft_commit_index 12\n", "\nconnectd_state{state=\"ready\"} 1\n",
        "# TYPE connectd_raft_elections_total counter\n", "\nconnectd_raft_elections_total 1\n",
        "\nconnectd_requests_total{code=\"NOLEADER\"} 3\n",
        "\nconnectd_requests_total{code=\"OK\"} 0\n",
        "\nconnectd_raft_peer_match_lag_entries{peer=\"3\"} 10\n",
        "\nconnectd_raft_peer_active{peer=\"3\"} 0\n", "\nconnectd_raft_failure_tolerance 0\n",
        "connectd_plugin_info{name=\"kv \\\"x\\\"\\n\",version=\"\",level=\"0\"} 1\n",
        "\nconnectd_build_info{version=\"1.2.3\"} 1\n", "\nprocess_open_fds "}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

// As /readyz says: the state that was reported last is not that of a loop that hangs.
TEST(Metrics, LoopThatHangsIsNotReady) {
  node::StatusSnapshot status = leader_of_three();
  EXPECT_THAT(scraped(&status, {}), HasSubstr("\nconnectd_ready 1\n"));
  EXPECT_THAT(scraped(&status, {}), HasSubstr("\nconnectd_status_age_seconds 0.5\n"));
  status.made = kScrapedAt - std::chrono::seconds(9);
  EXPECT_THAT(scraped(&status, {}), HasSubstr("\nconnectd_ready 0\n"));
}

TEST(Metrics, FollowersLeaveOutWhatTheyDoNotKnow) {
  node::StatusSnapshot status = leader_of_three();
  status.role = raft::Role::kFollower;
  status.peers.clear();
  const std::string text = scraped(&status, node::Metrics());
  EXPECT_THAT(text, Not(HasSubstr("failure_tolerance")));
  EXPECT_THAT(text, Not(HasSubstr("peer_match_lag")));
  EXPECT_THAT(text, HasSubstr("\nconnectd_raft_is_leader 0\n"));
}

TEST(Metrics, FailureToleranceCountsVotersThatAnswer) {
  node::StatusSnapshot status = leader_of_three();
  status.peers[1].active = true;
  EXPECT_THAT(scraped(&status, {}), HasSubstr("\nconnectd_raft_failure_tolerance 1\n"));
  status.peers[0].active = status.peers[1].active = false;
  EXPECT_THAT(scraped(&status, {}), HasSubstr("\nconnectd_raft_failure_tolerance -1\n"));
  status.peers[0].active = status.peers[1].active = true;
  status.members[2].voter = false;  // a learner adds nothing
  EXPECT_THAT(scraped(&status, {}), HasSubstr("\nconnectd_raft_failure_tolerance 0\n"));
}

// While a node reads its log there is little to say, and it is said.
TEST(Metrics, BeforeTheLoopRuns) {
  const std::string text = scraped(nullptr, {});
  EXPECT_THAT(text, HasSubstr("\nconnectd_requests_total{code=\"OK\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("\nprocess_cpu_seconds_total "));
  EXPECT_THAT(text, HasSubstr("\nconnectd_ready 0\n"));
  EXPECT_THAT(text, Not(HasSubstr("connectd_raft_term")));
}

TEST(Metrics, Traffic) {
  node::TrafficSnapshot traffic;
  traffic.peers[NodeId(2)] = {
      .messages_sent = 4, .bytes_sent = 1'000'000'000'000, .is_plain = true};
  traffic.clients.connected = 6;
  traffic.clients.unknown = 7;
  traffic.certificates["peer"] = 1'800'000'000;
  const std::string text = scraped(nullptr, {}, &traffic);
  for (const char* line :
       {"\nconnectd_net_sent_bytes_total{peer=\"2\"} 1000000000000\n",
        "\nconnectd_net_messages_sent_total{peer=\"2\"} 4\n",
        "\nconnectd_net_peer_plain{peer=\"2\"} 1\n", "\nconnectd_clients_connected 6\n",
        "\nconnectd_clients_closed_total{reason=\"unknown\"} 7\n",
        "tls_certificate_expiry_timestamp_seconds{port=\"peer\"} 1800000000\n",
        "\nconnectd_config_last_reload_success 1\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(Metrics, HistogramsAreCumulative) {
  node::Metrics counts;
  for (int us : {0, 100, 101, 200, 999'999'999}) counts.loop.write_time.observe(microseconds(us));
  const std::string text = scraped(nullptr, counts);
  for (const char* line : {"{op=\"write\",le=\"0.0001\"} 2\n", "{op=\"write\",le=\"0.0002\"} 4\n",
                           "{op=\"write\",le=\"0.0004\"} 4\n", "{op=\"write\",le=\"+Inf\"} 5\n",
                           "connectd_request_duration_seconds_count{op=\"write\"} 5\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

// A row of Markdown for each family, of the text of a node that has something to say about each.
node::TrafficSnapshot with_plugin(std::shared_ptr<const plugin::MetricTable> table) {
  node::TrafficSnapshot traffic;
  traffic.plugin = std::move(table);
  return traffic;
}

// Families by name, whatever the order of their making; the plugin's name is part of each.
TEST(Metrics, ThoseOfThePlugin) {
  using plugin::MetricType;
  auto table = std::make_shared<plugin::MetricTable>();
  const auto add = [&](MetricType type, const char* name, const char* value) {
    auto metric = table->add(type, name, "Its help.", value == nullptr ? nullptr : "op", value);
    CHECK(metric);
    return *metric;
  };
  add(MetricType::kCounter, "calls_total", "get \"all\"")->add(3);
  add(MetricType::kGauge, "keys", nullptr)->set(2.5);
  add(MetricType::kCounter, "calls_total", "set")->add(4);
  add(MetricType::kHistogram, "call_seconds", nullptr)->observe(150'000);
  node::StatusSnapshot status = leader_of_three();
  status.plugin_name = "my-store.v2";
  const node::TrafficSnapshot traffic = with_plugin(table);
  const std::string text = scraped(&status, node::Metrics(), &traffic);
  EXPECT_THAT(text, HasSubstr("# HELP plugin_my_store_v2_calls_total Its help.\n"
                              "# TYPE plugin_my_store_v2_calls_total counter\n"
                              "plugin_my_store_v2_calls_total{op=\"get \\\"all\\\"\"} 3\n"
                              "plugin_my_store_v2_calls_total{op=\"set\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE plugin_my_store_v2_keys gauge\n"
                              "plugin_my_store_v2_keys 2.5\n"));
  EXPECT_THAT(text, HasSubstr("plugin_my_store_v2_call_seconds_bucket{le=\"0.0002\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("plugin_my_store_v2_call_seconds_count 1\n"));
}

std::string table_of_all() {
  const node::StatusSnapshot status = leader_of_three();
  node::TrafficSnapshot traffic;
  traffic.peers[NodeId(2)] = {};
  traffic.certificates["peer"] = 1;
  std::istringstream text(scraped(&status, node::Metrics(), &traffic));
  std::string table = "| name | type | |\n|---|---|---|\n";
  std::string help;
  for (std::string line; std::getline(text, line);) {
    std::istringstream words(line);
    std::string hash, kind, name, rest;
    words >> hash >> kind >> name;
    std::getline(words >> std::ws, rest);
    if (hash == "#" && kind == "HELP") help = rest;
    if (hash == "#" && kind == "TYPE")
      table += "| `" + name + "` | " + rest + " | " + help + " |\n";
  }
  return table;
}

TEST(Metrics, NamesAreThoseOfThePage) {
  std::ifstream in(CONNECTD_SOURCE_DIR "/docs/metrics.md");
  std::stringstream page;
  page << in.rdbuf();
  EXPECT_NE(page.str().find("\n\n" + table_of_all()), std::string::npos)
      << "docs/metrics.md must have this table:\n\n"
      << table_of_all();
}

}  // namespace
}  // namespace connectd::admin

// The cluster's settings: their bytes, their texts, and the effect of a change on the confirmed
// ones.
#include "node/membership/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/limits.h"
#include "node/membership/feature_levels.h"
#include "node/membership/members.h"

namespace connectd::node {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

raft::Settings sample_settings() {
  raft::Settings settings;
  settings.election_timeout = 700ms;
  settings.lease_reads = true;
  settings.max_clock_drift_percent = 20;
  settings.confirmed_timeout = 500ms;
  return settings;
}

TEST(Settings, AreReadBackAsTheyWereWritten) {
  const std::string bytes = sample_settings().encode();
  ByteReader in(as_bytes(bytes));
  raft::Settings read;
  ASSERT_TRUE(raft::Settings::decode(in, read));
  EXPECT_TRUE(in.done());
  EXPECT_EQ(read, sample_settings());
}

TEST(Settings, TheirBytesAreThoseOfTheDocument) {
  // docs/storage-format.md, "Settings".
  std::string hex;
  for (char c : sample_settings().encode())
    hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
  EXPECT_EQ(hex, "0101140027b929000000000065cd1d00000000");
}

// Builds that know no levels read all settings until the level is raised.
TEST(Settings, LevelIsInTheBytesOnlyOverTheFirst) {
  raft::Settings settings = sample_settings();
  const std::string before = settings.encode();
  EXPECT_EQ(before[0], 1);
  settings.feature_level = 2;
  const std::string bytes = settings.encode();
  EXPECT_EQ(bytes, "\x02" + before.substr(1) + std::string("\x02\0\0\0", 4));
  ByteReader in(as_bytes(bytes));
  raft::Settings read;
  ASSERT_TRUE(raft::Settings::decode(in, read));
  EXPECT_TRUE(in.done());
  EXPECT_EQ(read, settings);
  EXPECT_TRUE(read.allow(1) && read.allow(2) && !read.allow(3));
  for (size_t length = 0; length < bytes.size(); ++length) {
    ByteReader cut(as_bytes(bytes).first(length));
    EXPECT_FALSE(raft::Settings::decode(cut, read)) << length;
  }
  std::string first_level = bytes;
  first_level[first_level.size() - 4] = 1;
  ByteReader bad(as_bytes(first_level));
  EXPECT_FALSE(raft::Settings::decode(bad, read)) << "there is one way to write it";
}

TEST(Settings, LaterVersionIsNewer) {
  EXPECT_FALSE(raft::Settings::are_newer(as_bytes("\x01")));
  EXPECT_FALSE(raft::Settings::are_newer(as_bytes("\x02")));
  EXPECT_TRUE(raft::Settings::are_newer(as_bytes("\x03")));
  EXPECT_FALSE(raft::Settings::are_newer({}));
}

TEST(Settings, LevelIsRaisedAndNeverLowered) {
  raft::Settings settings = sample_settings();
  settings.feature_level = 3;
  EXPECT_EQ(with_setting(settings, "cluster.feature_level", "5", 50ms)->feature_level, 5u);
  EXPECT_EQ(with_setting(settings, "cluster.feature_level", "3", 50ms)->feature_level, 3u);
  for (const char* value : {"2", "0", "4294967296", "x", ""}) {
    auto changed = with_setting(settings, "cluster.feature_level", value, 50ms);
    ASSERT_FALSE(changed) << value;
    EXPECT_THAT(changed.error().text, HasSubstr("cluster.feature_level: "));
  }
  EXPECT_THAT(with_setting(settings, "cluster.feature_level", "2", 50ms).error().text,
              HasSubstr("never lowered"));
  EXPECT_THAT(setting_differences(sample_settings(), settings), ElementsAre()) << "no file says it";
}

TEST(FeatureLevels, EveryMemberCountsAlsoTheOnesThatAreDown) {
  auto disk = [](uint8_t byte) {
    DiskId id;
    id.bytes.fill(byte);
    return id;
  };
  std::vector<GenesisMember> members;
  for (uint8_t id : {1, 2, 3}) members.push_back({NodeId(id), disk(id), "", "", ""});
  FeatureLevels levels(NodeId(1), 3);
  levels.announced(NodeId(2), disk(2), 2);
  auto why = [&](uint32_t level) {
    auto may = levels.check_raise(level, members);
    return may ? std::string() : may.error().text;
  };
  EXPECT_THAT(why(2), HasSubstr("node 3 has not announced"));
  EXPECT_THAT(why(2), Not(HasSubstr("node 2")));
  levels.announced(NodeId(3), disk(3), 1);
  EXPECT_THAT(why(2), HasSubstr("node 3 supports levels up to 1"));
  levels.announced(NodeId(3), disk(9), 2);
  EXPECT_THAT(why(2), HasSubstr("node 3 has not announced")) << "that was another disk";
  levels.announced(NodeId(3), disk(3), 3);
  EXPECT_EQ(why(2), "");
  EXPECT_THAT(why(3), HasSubstr("node 2 supports levels up to 2"));
  levels.announced(NodeId(2), disk(2), 4);
  EXPECT_EQ(why(3), "");
  EXPECT_THAT(why(4), HasSubstr("node 1 supports levels up to 3")) << "itself";
  levels.announced(NodeId(2), disk(2), 1);
  EXPECT_THAT(why(2), HasSubstr("node 2")) << "it went back: the last announcement counts";
  members.push_back({NodeId(4), DiskId(), "", "", ""});
  EXPECT_THAT(why(2), HasSubstr("node 4 has not announced"));
}

TEST(FeatureLevels, DataOfHigherLevelIsMismatch) {
  raft::Settings settings;
  settings.feature_level = 2;
  EXPECT_TRUE(check_supported(settings, Index(7), 2, "/data"));
  auto refused = check_supported(settings, Index(7), 1, "/data");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kNewerVersion);
  EXPECT_THAT(refused.error().text,
              HasSubstr("/data: index 7 set the cluster's feature level to 2"));
}

TEST(Settings, InvalidBytesAreRefused) {
  const std::string good = sample_settings().encode();
  auto refused = [](std::string bytes) {
    ByteReader in(as_bytes(bytes));
    raft::Settings read;
    return !raft::Settings::decode(in, read);
  };
  for (size_t length = 0; length < good.size(); ++length)
    EXPECT_TRUE(refused(good.substr(0, length)));
  for (auto [place, byte] : {std::pair(0, 2), std::pair(1, 2), std::pair(2, 41)}) {
    std::string bad = good;
    bad[static_cast<size_t>(place)] = static_cast<char>(byte);
    EXPECT_TRUE(refused(bad)) << place;
  }
  raft::Settings settings = sample_settings();
  settings.confirmed_timeout = 701ms;
  EXPECT_TRUE(refused(settings.encode())) << "more is confirmed than there is";
  settings.election_timeout = 0ms;
  EXPECT_TRUE(refused(settings.encode()));
}

TEST(Settings, LeaseIsShortenedByWhatTwoClocksMayDiffer) {
  raft::Settings settings = sample_settings();
  EXPECT_NEAR(static_cast<double>(settings.lease_length().count()), 500e6 * 80 / 120, 100);
  // The fastest clock has not counted the promise when the slowest has counted the lease.
  for (uint8_t percent = 0; percent <= kMaxClockDriftPercent; ++percent) {
    settings.max_clock_drift_percent = percent;
    const double time =
        static_cast<double>(settings.lease_length().count()) / (1 - percent / 100.0);
    EXPECT_LE(time * (1 + percent / 100.0), 500e6 + 1) << +percent;
  }
  settings.lease_reads = false;
  EXPECT_EQ(settings.lease_length(), Duration());
}

TEST(Settings, ChangeConfirmsNothing) {
  const raft::Settings before = sample_settings();  // 700 ms, of which every voter keeps 500
  raft::Settings wanted = before;
  wanted.election_timeout = 2s;
  EXPECT_EQ(before.changed_to(wanted).confirmed_timeout, Duration(500ms));
  wanted.election_timeout = 300ms;
  EXPECT_EQ(before.changed_to(wanted).confirmed_timeout, Duration(300ms));
  wanted.lease_reads = false;
  EXPECT_EQ(before.changed_to(wanted).confirmed_timeout, Duration());
  wanted.lease_reads = true;
  EXPECT_EQ(before.changed_to(wanted).changed_to(wanted).confirmed_timeout, Duration(300ms));
  raft::Settings off = before;
  off.lease_reads = false;
  EXPECT_EQ(before.changed_to(off).changed_to(before).confirmed_timeout, Duration())
      << "off and on again: nobody is known to have kept anything in between";
}

TEST(Settings, AreShownAndSetAsInTheConfiguration) {
  EXPECT_THAT(
      list_settings(sample_settings()),
      ElementsAre(Setting{"raft.election_timeout", "700ms"}, Setting{"raft.lease_reads", "true"},
                  Setting{"raft.max_clock_drift_percent", "20"},
                  Setting{"cluster.feature_level", "1"}));
  for (const Setting& setting : list_settings(raft::Settings())) {
    EXPECT_TRUE(with_setting(sample_settings(), setting.key, setting.value, 50ms)) << setting.key;
  }
  EXPECT_EQ(with_setting(sample_settings(), "raft.election_timeout", "2s", 50ms)->election_timeout,
            Duration(2s));
  EXPECT_FALSE(with_setting(sample_settings(), "raft.lease_reads", "false", 50ms)->lease_reads);
  EXPECT_EQ(with_setting(sample_settings(), "raft.max_clock_drift_percent", "1", 50ms)
                ->max_clock_drift_percent,
            1);
}

TEST(Settings, ErrorNamesWrongValue) {
  const std::vector<std::array<std::string, 3>> bad = {
      {"raft.tick", "5ms", "'raft.tick' is not a cluster setting; must be one of "},
      {"", "1", "is not a cluster setting"},
      {"raft.election_timeout", "500", "raft.election_timeout: '500' has no unit"},
      {"raft.election_timeout", "1ms", "out of range 10ms to 5m"},
      {"raft.election_timeout", "149ms", "less than 3 x raft.heartbeat_interval, which is 50ms"},
      {"raft.lease_reads", "on", "raft.lease_reads: "},
      {"raft.max_clock_drift_percent", "0", "out of range 1 to 40"},
      {"raft.max_clock_drift_percent", "41", "out of range 1 to 40"},
      {"raft.max_clock_drift_percent", "10%", "raft.max_clock_drift_percent: "},
  };
  for (const auto& [key, value, why] : bad) {
    auto changed = with_setting(sample_settings(), key, value, 50ms);
    ASSERT_FALSE(changed) << key << " " << value;
    EXPECT_EQ(changed.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(changed.error().text, HasSubstr(why));
  }
}

TEST(Settings, ConfigurationThatDiffersIsToldWhatToDo) {
  raft::Settings configured = sample_settings();
  configured.confirmed_timeout = Duration();  // not in any file
  EXPECT_THAT(setting_differences(configured, sample_settings()), ElementsAre());
  configured.lease_reads = false;
  EXPECT_THAT(setting_differences(configured, sample_settings()),
              ElementsAre(HasSubstr("connectctl settings set raft.lease_reads false")));
}

TEST(Settings, ChangeOfThemTravelsToTheLeader) {
  MemberChange change;
  change.kind = MemberChange::Kind::kSetting;
  change.key = "raft.lease_reads";
  change.value = "true";
  auto read = MemberChange::decode(as_bytes(change.encode()));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->key, change.key);
  EXPECT_EQ(read->value, change.value);
  EXPECT_FALSE(MemberChange::decode(as_bytes(change.encode() + "x")));
}

}  // namespace
}  // namespace connectd::node

#include "auth/certificate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace connectd::auth {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kFingerprint(64, 'f');

CertificateFacts facts_with(std::vector<std::string> uris) {
  CertificateFacts facts;
  facts.uris = std::move(uris);
  facts.fingerprint = kFingerprint;
  facts.until = 1801353600;
  return facts;
}
CertificateMap map_of(const std::map<std::string, std::string>& entries) {
  auto map = CertificateMap::parse(entries);
  EXPECT_TRUE(map) << map.error().text;
  return map ? std::move(*map) : CertificateMap();
}
// "PRINCIPAL ROLES"
std::string owner(const CertificateFacts& facts, const CertificateMap& map = {}) {
  auto owner = owner_of(facts, "prod", map);
  if (!owner) return owner.error().text;
  EXPECT_EQ(owner->principal.until(), facts.until);
  return owner->principal.text() + " " + format_roles(owner->principal.roles());
}

TEST(Certificate, UrisNameOwnerAndRoles) {
  EXPECT_EQ(owner(facts_with({"connectd://prod/client/billing", "connectd://prod/role/read",
                              "connectd://prod/role/write"})),
            "cert:billing read,write");
  EXPECT_EQ(owner(facts_with({"connectd://prod/role/monitor"})),
            "cert:FINGERPRINT=" + kFingerprint + " monitor");
}

TEST(Certificate, OnlyTheExactUriCounts) {
  for (const char* uri :
       {"connectd://prod/role/Admin", "connectd://PROD/role/admin", "Connectd://prod/role/admin",
        "connectd://prod/role/admin/", "connectd://prod/role/admin ",
        "connectd://prod/role/%61dmin", "connectd://prod//role/admin",
        "connectd://other/role/admin", "connectd://prod/role/", "connectd://prod/roles/admin",
        "connectd://prod/x/../role/admin", "connectd://user@prod/role/admin",
        "connectd://prod:443/role/admin", "http://prod/role/admin", "connectd://prod/role/admin?x",
        "xconnectd://prod/role/admin"}) {
    EXPECT_EQ(owner(facts_with({uri})), "cert:FINGERPRINT=" + kFingerprint + " none") << uri;
  }
  EXPECT_EQ(owner(facts_with({std::string("connectd://prod/role/admin\0", 27)})),
            "cert:FINGERPRINT=" + kFingerprint + " none");
}

TEST(Certificate, UnknownUrisAreNamed) {
  auto unknown =
      owner_of(facts_with({"connectd://prod/role/superuser", "connectd://prod/client/a b",
                           "connectd://prod/node/7", "connectd://other/role/x", "spiffe://x"}),
               "prod", {});
  ASSERT_TRUE(unknown);
  EXPECT_THAT(unknown->ignored,
              ElementsAre("connectd://prod/role/superuser", "connectd://prod/client/a%20b"));
}

TEST(Certificate, TwoNamesAreRefused) {
  auto two =
      owner_of(facts_with({"connectd://prod/client/a", "connectd://prod/client/b"}), "prod", {});
  ASSERT_FALSE(two);
  EXPECT_EQ(two.error().kind, ErrorKind::kRefused);
  EXPECT_EQ(owner(facts_with({"connectd://prod/client/a", "connectd://prod/client/a"})),
            "cert:a none");
}

// A corporate CA's OU=admin is no administrator.
TEST(Certificate, ForeignNamesCountByTheMapOnly) {
  CertificateFacts facts = facts_with({"spiffe://corp/billing"});
  facts.units = {"admin", "ops"};
  facts.common_names = {"admin", "alice"};
  facts.dns_names = {"DB1.example.org"};
  EXPECT_EQ(owner(facts), "cert:FINGERPRINT=" + kFingerprint + " none");
  EXPECT_EQ(owner(facts, map_of({{"OU=ops", "monitor"}})),
            "cert:FINGERPRINT=" + kFingerprint + " monitor");
  EXPECT_EQ(owner(facts, map_of({{"CN=alice", "read"}, {"OU=ops", "monitor"}})),
            "cert:CN=alice read,monitor");
  EXPECT_EQ(owner(facts, map_of({{"DNS=db1.Example.org", "read"}, {"CN=alice", "write"}})),
            "cert:DNS=db1.example.org read,write");
  EXPECT_EQ(owner(facts, map_of({{"URI=spiffe://corp/billing", "read"}})),
            "cert:URI=spiffe://corp/billing read");
  EXPECT_EQ(owner(facts, map_of({{"OU=Ops", "admin"},
                                 {"CN=ALICE", "admin"},
                                 {"CN=alic", "admin"},
                                 {"DNS=example.org", "admin"},
                                 {"CN=ops", "admin"}})),
            "cert:FINGERPRINT=" + kFingerprint + " none");
  facts.uris.emplace_back("connectd://prod/client/billing");
  EXPECT_EQ(owner(facts, map_of({{"CN=alice", "read"}})), "cert:billing read");
}

TEST(Certificate, FingerprintsInAnySpelling) {
  std::string spelled;
  for (int i = 0; i < 32; ++i) spelled += i == 0 ? "FF" : ":FF";
  EXPECT_EQ(owner(facts_with({}), map_of({{"FINGERPRINT=" + spelled, "backup"}})),
            "cert:FINGERPRINT=" + kFingerprint + " backup");
}

TEST(Certificate, MapErrorsSayHowToWriteIt) {
  using Entries = std::map<std::string, std::string>;
  for (const auto& [entries, text] : std::vector<std::pair<Entries, std::string>>{
           {{{"ops", "read"}}, "a key must be OU=, CN=, DNS=, URI= or FINGERPRINT="},
           {{{"ou=ops", "read"}}, "a key must be OU="},
           {{{"OU=", "read"}}, "missing name after 'OU='"},
           {{{"OU=ops", "raed"}}, "OU=ops: unknown role 'raed'"},
           {{{"OU=ops", ""}}, "OU=ops: missing role"},
           {{{"FINGERPRINT=abc", "read"}}, "must be 64 hexadecimal digits"},
           {{{"DNS=a.b", "read"}, {"DNS=A.b", "read"}}, "duplicate name DNS=a.b"}}) {
    auto map = CertificateMap::parse(entries);
    ASSERT_FALSE(map) << text;
    EXPECT_EQ(map.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(map.error().text, HasSubstr(text));
  }
}

// Names come from whoever has a certificate of the CA.
TEST(Certificate, AnyBytesAreAName) {
  CertificateFacts facts = facts_with({std::string("connectd://prod/client/a\0b", 26)});
  facts.common_names = {std::string("al\0ice\n", 7)};
  auto named = owner_of(facts, "prod", map_of({{std::string("CN=al\0ice\n", 10), "read"}}));
  ASSERT_TRUE(named);
  EXPECT_EQ(named->principal.text(), "cert:CN=al%00ice%0A");
  EXPECT_THAT(named->ignored, ElementsAre("connectd://prod/client/a%00b"));
  EXPECT_THAT(owner_of(facts_with({}), "prod", {})->ignored, IsEmpty());
}

}  // namespace
}  // namespace connectd::auth

// What a certificate says, and names that try to say something else.
#include "tls/certificate.h"

#include <openssl/asn1.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/limits.h"
#include "support.h"
#include "tls/handles.h"

namespace connectd::tls {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A certificate with any bytes as names; not signed.
class Crafted {
 public:
  Crafted() : certificate_(X509_new_ex(library(), nullptr)), names_(GENERAL_NAMES_new()) {}
  ~Crafted() { GENERAL_NAMES_free(names_); }
  Crafted(const Crafted&) = delete;
  Crafted& operator=(const Crafted&) = delete;

  Crafted& part(const char* field, int type, std::string_view bytes) {
    X509_NAME* name = X509_get_subject_name(certificate_.get());
    EXPECT_EQ(X509_NAME_add_entry_by_txt(name, field, type,
                                         reinterpret_cast<const unsigned char*>(bytes.data()),
                                         static_cast<int>(bytes.size()), -1, 0),
              1);
    return *this;
  }
  Crafted& alternative(int type, std::string_view bytes) {
    ASN1_STRING* value =
        ASN1_STRING_type_new(type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
    ASN1_STRING_set(value, bytes.data(), static_cast<int>(bytes.size()));
    GENERAL_NAME* name = GENERAL_NAME_new();
    GENERAL_NAME_set0_value(name, type, value);
    sk_GENERAL_NAME_push(names_, name);
    return *this;
  }
  Certificate facts() {
    if (sk_GENERAL_NAME_num(names_) > 0) {
      X509_add1_ext_i2d(certificate_.get(), NID_subject_alt_name, names_, 0, X509V3_ADD_REPLACE);
    }
    return facts_of(certificate_.get());
  }

 private:
  Handle<x509_st> certificate_;
  GENERAL_NAMES* names_;
};

TEST(Certificate, FactsAreThoseRequested) {
  Pki pki;
  Request request = Pki::node_request(7);
  request.hosts = {"db1.example.org", "10.0.0.11", "2001:db8::1"};
  auto loaded = must_load(pki.issue("n", request));
  const Certificate& own = *loaded->own();
  EXPECT_EQ(own.subject, "CN=node 7");
  EXPECT_EQ(own.issuer, "CN=Test CA");
  EXPECT_THAT(own.common_names, ElementsAre("node 7"));
  EXPECT_THAT(own.uris, ElementsAre("connectd://orders/node/7"));
  EXPECT_THAT(own.dns_names, ElementsAre("db1.example.org"));
  EXPECT_THAT(own.addresses, ElementsAre("10.0.0.11", "2001:db8::1"));
  EXPECT_EQ(own.serial.size(), 32u);
  EXPECT_EQ(own.fingerprint.size(), 64u);
  EXPECT_EQ(own.not_before, request.validity.from);
  EXPECT_EQ(own.not_after, request.validity.until);
}

TEST(Certificate, HostileNamesAreEscaped) {
  Crafted crafted;
  crafted.part("CN", MBSTRING_UTF8, "a\x1b[31m\nfake line\\")
      .part("OU", MBSTRING_UTF8, "admin, O=Evil")
      .part("OU", V_ASN1_BMPSTRING, std::string_view("\0o\0p\0s", 6))
      .part("OU", V_ASN1_UTF8STRING, "\xff\xfe")
      .part("OU", MBSTRING_UTF8, "B\xc3\xbcro")
      .part("OU", MBSTRING_UTF8,
            "\xe2\x80\xae"
            "nimda");
  crafted.alternative(GEN_DNS, std::string_view("good.example\0.evil", 18))
      .alternative(GEN_URI, std::string_view("connectd://orders/node/1\0", 25))
      .alternative(GEN_IPADD, "123");
  const Certificate facts = crafted.facts();
  EXPECT_THAT(facts.common_names, ElementsAre("a\\x1b[31m\\x0afake line\\x5c"));
  EXPECT_THAT(facts.units, ElementsAre("admin, O=Evil", "ops", "\\xff\\xfe", "B\xc3\xbcro",
                                       "\\xe2\\x80\\xaenimda"));
  EXPECT_THAT(facts.subject, HasSubstr("OU=admin\\, O=Evil"));
  EXPECT_THAT(facts.dns_names, ElementsAre("good.example\\x00.evil"));
  EXPECT_THAT(facts.uris, ElementsAre("connectd://orders/node/1\\x00"));
  EXPECT_EQ(node_of(facts, "orders"), std::nullopt);
}

TEST(Certificate, LongNamesAreCut) {
  Crafted crafted;
  for (int i = 0; i < 50; ++i) crafted.part("OU", MBSTRING_UTF8, std::string(60, 'x'));
  for (int i = 0; i < 1000; ++i) crafted.alternative(GEN_DNS, "h" + std::to_string(i));
  crafted.alternative(GEN_URI, std::string(100'000, 'u'));
  const Certificate facts = crafted.facts();
  EXPECT_LE(facts.subject.size(), 260u);
  EXPECT_TRUE(facts.subject.ends_with("...")) << facts.subject;
  EXPECT_EQ(facts.dns_names.size(), 256u);
  EXPECT_LE(facts.uris.at(0).size(), 1030u);
}

TEST(Certificate, PrintableNeverMergesNames) {
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(printable("a\\x00b"), "a\\x5cx00b");
  EXPECT_EQ(printable("\xc3"), "\\xc3");
  EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");
  EXPECT_EQ(printable("abcdef", 4), "abcd...");
}

TEST(Certificate, NodeIsReadByteForByte) {
  const auto node = [](std::vector<std::string> uris) {
    Certificate certificate;
    certificate.uris = std::move(uris);
    return node_of(certificate, "orders");
  };
  EXPECT_EQ(node({"connectd://orders/node/7"}), NodeId(7));
  EXPECT_EQ(node({"spiffe://x/y", "connectd://orders/node/7"}), NodeId(7));
  for (const char* wrong :
       {"connectd://orders/node/07", "connectd://orders/node/", "connectd://orders/node/7/",
        "connectd://orders/node/ 7", "connectd://orders/node/+7", "connectd://orders/node/0",
        "connectd://Orders/node/7", "connectd://other/node/7", "CONNECTD://orders/node/7",
        "connectd://orders/node/18446744073709551616", "connectd://orders/node/7?x"}) {
    EXPECT_EQ(node({wrong}), std::nullopt) << wrong;
  }
  EXPECT_EQ(node({"connectd://orders/node/7", "connectd://orders/node/8"}), std::nullopt);
}

TEST(Certificate, EveryZeroRunOfAnAddressIsShort) {
  Crafted crafted;
  crafted.alternative(GEN_IPADD, std::string(16, '\0'))
      .alternative(GEN_IPADD, std::string(15, '\0') + '\1')
      .alternative(GEN_IPADD, std::string("\x20\x01\x0d\xb8") + std::string(12, '\0'));
  EXPECT_THAT(crafted.facts().addresses, ElementsAre("::", "::1", "2001:db8::"));
}

}  // namespace
}  // namespace connectd::tls

// What a start refuses, what it only warns of, and how it says so.
#include "tls/credentials.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/xattr.h>

#include "support.h"
#include "tls/handles.h"

namespace connectd::tls {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The error of loading these files.
Error refusal(const Files& files, const CredentialsOptions& options = {}) {
  auto loaded = load_credentials(files, options);
  EXPECT_FALSE(loaded);
  return loaded ? Error{} : loaded.error();
}

// A key in PEM: of RSA with these bits, or encrypted.
std::string pem_of_key(evp_pkey_st* key, const char* password = nullptr) {
  BIO* text = BIO_new(BIO_s_mem());
  PEM_write_bio_PKCS8PrivateKey(text, key, password != nullptr ? EVP_aes_256_cbc() : nullptr,
                                password, password != nullptr ? 6 : 0, nullptr, nullptr);
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(text, &bytes);
  std::string pem(bytes, static_cast<size_t>(size));
  BIO_free(text);
  return pem;
}

TEST(Credentials, WarningsAreEmptyWhenAllIsGood) {
  Pki pki;
  auto loaded = must_load(pki.node(1));
  EXPECT_THAT(loaded->warnings(now_s()), IsEmpty());
  EXPECT_EQ(loaded->authorities().size(), 1u);
}

TEST(Credentials, OwnTimesWarnAndNeverRefuse) {
  Pki pki;
  Request request = Pki::node_request(1);
  request.validity = {now_s() - 40 * kDay, now_s() + 20 * kDay + 60};
  EXPECT_THAT(must_load(pki.issue("soon", request))->warnings(now_s()),
              ElementsAre(HasSubstr("expires in 20 days, at 20")));
  request.validity = {now_s() - 40 * kDay, now_s() - kDay};
  EXPECT_THAT(must_load(pki.issue("late", request))->warnings(now_s()),
              ElementsAre(HasSubstr("has expired at 20")));
  request.validity = {now_s() + kDay, now_s() + 400 * kDay};
  EXPECT_THAT(must_load(pki.issue("early", request))->warnings(now_s()),
              ElementsAre(HasSubstr("probably this machine's clock is wrong")));
  // A clock in 1970 at boot: the certificate and its CA are not valid yet.
  EXPECT_THAT(must_load(pki.node(1))->warnings(100),
              ElementsAre(HasSubstr("the clock here says 1970-01-01T00:01:40Z"),
                          HasSubstr("ca.pem: the CA CN=Test CA is not valid before")));
}

TEST(Credentials, KeyThatOthersMayReadIsRefused) {
  Pki pki;
  Files files = pki.node(1);
  for (mode_t mode : {0640, 0604, 0620, 0601, 0666}) {
    ASSERT_EQ(::chmod(files.key.c_str(), mode), 0);
    const Error error = refusal(files);
    EXPECT_EQ(error.kind, ErrorKind::kPermission);
    EXPECT_THAT(error.text, HasSubstr(files.key + ": this key can be used by other users (mode 0"));
  }
  for (mode_t mode : {0400, 0600, 0500}) {
    ASSERT_EQ(::chmod(files.key.c_str(), mode), 0);
    EXPECT_TRUE(load_credentials(files, {}));
  }
}

// As systemd's LoadCredential= makes it: root's, 0400, and a list that names the service's user.
TEST(Credentials, KeyWithOwnUserInItsAccessListIsGood) {
  Pki pki;
  Files files = pki.node(1);
  ASSERT_EQ(::chmod(files.key.c_str(), 0400), 0);
  struct Entry {
    uint16_t tag, rights;
    uint32_t id;
  };
  const auto set_list = [&](uint32_t user, uint16_t group_rights) {
    struct {
      uint32_t version = 2;
      Entry entries[5];
    } list;
    const Entry entries[] = {
        {1, 4, ~0u}, {2, 4, user}, {4, group_rights, ~0u}, {16, 4, ~0u}, {32, 0, ~0u}};
    std::copy(std::begin(entries), std::end(entries), list.entries);
    return ::setxattr(files.key.c_str(), "system.posix_acl_access", &list, sizeof list, 0);
  };
  if (set_list(::geteuid(), 0) != 0) GTEST_SKIP() << "no access lists here";
  struct stat facts {};
  ASSERT_EQ(::stat(files.key.c_str(), &facts), 0);
  ASSERT_EQ(facts.st_mode & 07777, 0440u);
  EXPECT_TRUE(load_credentials(files, {}));
  ASSERT_EQ(set_list(::geteuid() + 1, 0), 0);
  EXPECT_EQ(refusal(files).kind, ErrorKind::kPermission);
  ASSERT_EQ(set_list(::geteuid(), 4), 0);
  EXPECT_EQ(refusal(files).kind, ErrorKind::kPermission);
}

TEST(Credentials, KeyMustBeARegularFile) {
  Pki pki;
  Files files = pki.node(1);
  files.key = pki.path("");
  EXPECT_EQ(refusal(files).kind, ErrorKind::kPermission);
  files.key = pki.path("pipe");
  ASSERT_EQ(::mkfifo(files.key.c_str(), 0600), 0);
  EXPECT_THAT(refusal(files).text, HasSubstr("must be a regular file"));
  files.key = "/dev/null";
  EXPECT_EQ(refusal(files).kind, ErrorKind::kPermission);
}

TEST(Credentials, KeyOfAnotherCertificateIsRefused) {
  Pki pki;
  Files files = pki.node(1);
  files.key = pki.node(2).key;
  const Error error = refusal(files);
  EXPECT_EQ(error.kind, ErrorKind::kBadConfig);
  EXPECT_THAT(error.text, HasSubstr(files.key + ": is not the key of the first certificate in " +
                                    files.certificate + " (CN=node 1"));
}

TEST(Credentials, EncryptedKeyIsRefused) {
  Pki pki;
  Files files = pki.node(1);
  Handle<evp_pkey_st> key(EVP_PKEY_Q_keygen(library(), nullptr, "EC", "P-256"));
  files.key = pki.write("encrypted.key", pem_of_key(key.get(), "secret"));
  EXPECT_THAT(refusal(files).text, HasSubstr("encrypted.key: this key is encrypted"));
}

TEST(Credentials, WeakKeyIsRefused) {
  Pki pki;
  Files files = pki.node(1);
  Handle<evp_pkey_st> key(EVP_PKEY_Q_keygen(library(), nullptr, "RSA", size_t{1024}));
  files.key = pki.write("weak.key", pem_of_key(key.get()));
  EXPECT_THAT(refusal(files).text, HasSubstr("its RSA key has 1024 bits; 2048 at least"));
  Handle<evp_pkey_st> curve(EVP_PKEY_Q_keygen(library(), nullptr, "EC", "P-224"));
  files.key = pki.write("weak.key", pem_of_key(curve.get()));
  EXPECT_THAT(refusal(files).text, HasSubstr("its elliptic curve has 224 bits; 256 at least"));
}

TEST(Credentials, UnreadableFilesAreNamed) {
  Pki pki;
  const Files good = pki.node(1);
  const std::string damaged = pki.ca().certificate_pem().replace(100, 20, "????????????????????");
  const std::pair<std::string, std::string> contents[] = {
      {"", "is empty"},
      {"hello\n", "has no certificate (no line '-----BEGIN CERTIFICATE-----')"},
      {std::string("\x30\x82\x01\x00", 4), "may be DER"},
      {damaged, "cannot read certificate number 1"},
      {pki.ca().certificate_pem() + damaged, "cannot read certificate number 2"},
      {std::string(2 << 20, 'x'), "at most 1048576 are read"}};
  for (const auto& [content, text] : contents) {
    Files files = good;
    files.authorities = pki.write("bad.pem", content);
    const Error error = refusal(files);
    EXPECT_EQ(error.kind, ErrorKind::kBadConfig);
    EXPECT_THAT(error.text, HasSubstr("bad.pem: ")) << text;
    EXPECT_THAT(error.text, HasSubstr(text));
    files = good;
    files.certificate = pki.path("bad.pem");
    EXPECT_THAT(refusal(files).text, HasSubstr(text));
  }
  Files files = good;
  files.certificate = pki.path("missing.pem");
  EXPECT_EQ(refusal(files).kind, ErrorKind::kNotFound);
  EXPECT_THAT(refusal(files).text, HasSubstr("missing.pem: cannot read: No such file"));
  files = good;
  files.key = good.certificate;
  EXPECT_THAT(refusal(files).text, HasSubstr("has no private key"));
  files = good;
  files.key.clear();
  EXPECT_THAT(refusal(files).text, HasSubstr("the file with its key is missing"));
}

TEST(Credentials, AuthoritiesMustBeCas) {
  Pki pki;
  Files files = pki.node(1);
  files.authorities = files.certificate;
  EXPECT_THAT(refusal(files).text, HasSubstr("CN=node 1, issuer CN=Test CA"));
  EXPECT_THAT(refusal(files).text, HasSubstr("is not of a CA"));
  files.authorities.clear();
  EXPECT_THAT(refusal(files).text, HasSubstr("the CAs that are trusted"));
  EXPECT_TRUE(load_credentials(files, {.use = Use::kServer}));
}

TEST(Credentials, OwnPurposeMustFit) {
  Pki pki;
  Request request = Pki::node_request(1);
  request.is_for_clients = false;
  const Files files = pki.issue("server", request);
  EXPECT_THAT(refusal(files).text, HasSubstr("must have serverAuth and clientAuth"));
  EXPECT_THAT(refusal(files, {.use = Use::kClient}).text, HasSubstr("must have clientAuth"));
  EXPECT_TRUE(load_credentials(files, {.use = Use::kServer}));
  request.is_for_servers = false;
  EXPECT_THAT(refusal(pki.issue("none", request), {.use = Use::kServer}).text,
              HasSubstr("must have serverAuth"));
}

TEST(Credentials, ListsMustBeOfTheCas) {
  Pki pki;
  Files files = pki.node(1);
  auto foreign = Authority::make("Test CA", {now_s() - 3600, now_s() + 3650 * kDay});
  const std::string list = *foreign->revoke("", {"01"}, valid());
  files.revocations = pki.write("foreign.crl", list);
  EXPECT_THAT(refusal(files).text, HasSubstr("list number 1 is signed by no CA in"));
  const std::string own = *pki.ca().revoke("", {"01"}, valid());
  files.revocations = pki.write("double.crl", own + own);
  EXPECT_THAT(refusal(files).text, HasSubstr("two lists of the CA CN=Test CA: keep the newest"));
  files.revocations = pki.write("no.crl", "nothing");
  EXPECT_THAT(refusal(files).text, HasSubstr("no revocation list"));
  // One for each of two CAs.
  files.authorities =
      pki.write("both.pem", pki.ca().certificate_pem() + foreign->certificate_pem());
  files.revocations = pki.write("both.crl", own + list);
  EXPECT_TRUE(load_credentials(files, {}));
}

TEST(Credentials, ListGrowsAndIsNumbered) {
  Pki pki;
  const std::string first = *pki.ca().revoke("", {"0a"}, valid());
  const std::string second = *pki.ca().revoke(first, {"0b", "0a"}, valid());
  BIO* reader = BIO_new_mem_buf(second.data(), static_cast<int>(second.size()));
  Handle<X509_crl_st> list(PEM_read_bio_X509_CRL(reader, nullptr, nullptr, nullptr));
  BIO_free(reader);
  ASSERT_NE(list, nullptr);
  EXPECT_EQ(sk_X509_REVOKED_num(X509_CRL_get_REVOKED(list.get())), 2);
  EXPECT_FALSE(pki.ca().revoke("", {"xyz"}, valid()));
  EXPECT_FALSE(pki.ca().revoke("rubbish", {}, valid()));
  auto other = Authority::make("Other", valid());
  EXPECT_THAT(other->revoke(first, {}, valid()).error().text, HasSubstr("of another CA"));
}

TEST(Credentials, IssuedEndsWithItsCa) {
  Pki pki;
  auto brief = Authority::make("Brief", {now_s() - 10, now_s() + kDay});
  Request request = Pki::node_request(1);
  auto made = brief->issue(request);
  ASSERT_TRUE(made);
  Files files{pki.write("b.pem", made->certificate), pki.write("b.key", made->key), pki.ca_path(),
              ""};
  EXPECT_EQ(must_load(files)->own()->not_after, brief->facts().not_after);
  request.common_name = std::string(65, 'x');
  EXPECT_EQ(brief->issue(request).error().kind, ErrorKind::kUsage);
}

}  // namespace
}  // namespace connectd::tls

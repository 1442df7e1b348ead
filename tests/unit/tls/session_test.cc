// Sessions: who is refused and what both sides say of it, the ends of a connection, would-block in
// both directions, and what other programs may not get: old versions, renegotiation, resumption.
#include "tls/session.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "support.h"

namespace connectd::tls {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// What each side says when the certificate of one of them is refused.
void expect_refused(Both& both, const std::string& refuser, const std::string& refused,
                    bool by_server) {
  both.shake();
  const auto& no = by_server ? both.server : both.client;
  const auto& other = by_server ? both.client : both.server;
  EXPECT_EQ(by_server ? both.server_status : both.client_status, Status::kFailed);
  EXPECT_EQ(by_server ? both.client_status : both.server_status, Status::kFailed);
  EXPECT_THAT(no->error(), HasSubstr(refuser));
  EXPECT_THAT(other->error(), HasSubstr(refused));
}

TEST(Session, NodesProveThemselves) {
  Pki pki;
  Both both(must_load(pki.node(1)), must_load(pki.node(2)), to_node(2));
  both.shake();
  ASSERT_EQ(both.server_status, Status::kDone) << both.server->error();
  ASSERT_EQ(both.client_status, Status::kDone) << both.client->error();
  EXPECT_EQ(both.client->version(), "TLSv1.3");
  EXPECT_EQ(both.client->cipher(), "TLS_AES_128_GCM_SHA256");
  EXPECT_EQ(node_of(*both.server->other(), kCluster), NodeId(1));
  EXPECT_EQ(node_of(*both.client->other(), kCluster), NodeId(2));
}

TEST(Session, WrongNodeIsRefused) {
  Pki pki;
  for (uint64_t id : {3, 22}) {
    Both both(must_load(pki.node(1)), must_load(pki.node(2)), to_node(id));
    expect_refused(both,
                   fmt::format("is not of connectd://orders/node/{} (its URIs: "
                               "connectd://orders/node/2)",
                               id),
                   "its name is wrong", false);
    EXPECT_THAT(both.client->error(), HasSubstr("CN=node 2, issuer CN=Test CA, serial "));
  }
}

TEST(Session, ForeignCaIsRefusedBothWays) {
  Pki pki;
  auto foreign = Authority::make("Test CA", {now_s() - 3600, now_s() + 3650 * kDay});
  ASSERT_TRUE(foreign);
  Files files = pki.issue("foreign", Pki::node_request(2), &*foreign);
  auto good = must_load(pki.node(1));
  auto bad = must_load(files);
  EXPECT_THAT(bad->warnings(now_s()), ::testing::ElementsAre(HasSubstr("is of no CA in")));
  Both dialled(good, bad, to_node(2));
  expect_refused(dialled, "is of no CA in " + pki.ca_path(), "its CA is not among", false);
  Both accepted(bad, good, to_node(1));
  expect_refused(accepted, "is of no CA in " + pki.ca_path(), "its CA is not among", true);
  EXPECT_THAT(accepted.client->error(), HasSubstr(files.certificate));
}

TEST(Session, WrongTimesAreRefusedBothWays) {
  Pki pki;
  auto good = must_load(pki.node(1));
  Request request = Pki::node_request(2);
  request.validity = {now_s() - 10 * kDay, now_s() - 3 * kDay};
  auto expired = must_load(pki.issue("expired", request));
  request.validity = {now_s() + kDay, now_s() + 3 * kDay};
  auto early = must_load(pki.issue("early", request));
  for (bool by_server : {false, true}) {
    const auto& other = by_server ? good : expired;
    Both late(by_server ? expired : good, other, to_node(by_server ? 1 : 2));
    expect_refused(late, "has expired at 20", "has expired", by_server);
    Both soon(by_server ? early : good, by_server ? good : early, to_node(by_server ? 1 : 2));
    expect_refused(soon, "probably a clock is wrong", "not valid yet", by_server);
  }
}

TEST(Session, RevokedIsRefusedBothWays) {
  Pki pki;
  Files good = pki.node(1);
  auto revoked = must_load(pki.node(2));
  auto unrevoked = must_load(pki.node(3));
  good.revocations = pki.revoke({revoked->own()->serial});
  auto checks = must_load(good);
  for (bool by_server : {false, true}) {
    Both both(by_server ? revoked : checks, by_server ? checks : revoked,
              to_node(by_server ? 1 : 2));
    expect_refused(both, "is revoked by " + good.revocations, "it is revoked there", by_server);
  }
  Both fine(unrevoked, checks, to_node(1));
  fine.shake();
  EXPECT_EQ(fine.server_status, Status::kDone) << fine.server->error();
}

TEST(Session, WrongPurposeIsRefusedBothWays) {
  Pki pki;
  auto good = must_load(pki.node(1));
  Request request = Pki::node_request(2);
  request.is_for_clients = false;
  auto server_only = must_load(pki.issue("server", request), {.use = Use::kServer});
  // Good for TLS alone, and not for a peer.
  Both dialled(good, server_only, to_node(2));
  expect_refused(dialled, "its extendedKeyUsage lacks clientAuth", "another purpose", false);
  request.is_for_clients = true;
  request.is_for_servers = false;
  auto client_only = must_load(pki.issue("client", request), {.use = Use::kClient});
  Both accepted(client_only, good, to_node(1));
  expect_refused(accepted, "its extendedKeyUsage lacks serverAuth", "another purpose", true);
  // A port of clients takes it.
  auto port = must_load(pki.issue("port", Pki::node_request(1)), {.use = Use::kServer});
  Both client(client_only, port, {.uri = "", .host = "localhost"});
  client.shake();
  EXPECT_EQ(client.server_status, Status::kDone) << client.server->error();
}

TEST(Session, MissingCertificateIsRefused) {
  Pki pki;
  auto none = must_load({"", "", pki.ca_path(), ""}, {.use = Use::kClient});
  auto port = must_load(pki.node(1), {.use = Use::kServer});
  const Expected host{.uri = "", .host = "localhost"};
  Both required(none, port, host, Demand::kRequired);
  expect_refused(required, "it shows no certificate", "it requires a certificate", true);
  Both optional(none, port, host, Demand::kOptional);
  optional.shake();
  EXPECT_EQ(optional.server_status, Status::kDone);
  EXPECT_EQ(optional.server->other(), nullptr);
  EXPECT_EQ(port->check(*optional.server), "");
}

TEST(Session, BadOptionalCertificateIsRefused) {
  Pki pki;
  auto foreign = Authority::make("Other CA", {now_s() - 3600, now_s() + 3650 * kDay});
  auto client = must_load(pki.issue("c", Pki::node_request(2), &*foreign), {.use = Use::kClient});
  auto port = must_load(pki.node(1), {.use = Use::kServer});
  Both both(client, port, {.uri = "", .host = "127.0.0.1"}, Demand::kOptional);
  expect_refused(both, "is of no CA in", "its CA is not among", true);
}

TEST(Session, HostsAreMatchedByAlternativeNamesOnly) {
  Pki pki;
  Request request = Pki::node_request(1);
  request.common_name = "cn.example.org";
  request.hosts = {"db1.example.org", "*.apps.example.org", "10.0.0.11", "2001:db8::1"};
  auto server = must_load(pki.issue("s", request), {.use = Use::kServer});
  auto client = must_load({"", "", pki.ca_path(), ""}, {.use = Use::kClient});
  const auto reaches = [&](const std::string& host) {
    Both both(client, server, {.uri = "", .host = host}, Demand::kOptional);
    both.shake();
    if (both.server_status != Status::kDone) {
      EXPECT_THAT(both.client->error(), HasSubstr("a CN does not count")) << host;
    }
    return both.server_status == Status::kDone;
  };
  for (const char* host : {"db1.example.org", "DB1.example.org", "db1.example.org.",
                           "x.apps.example.org", "10.0.0.11", "2001:db8::1", "2001:DB8:0::1"}) {
    EXPECT_TRUE(reaches(host)) << host;
  }
  for (const char* host : {"cn.example.org", "example.org", "a.b.apps.example.org", "10.0.0.12",
                           "db1.example.org.evil", "2001:db8::2", "apps.example.org"}) {
    EXPECT_FALSE(reaches(host)) << host;
  }
}

TEST(Session, PlainClientIsNamed) {
  Pki pki;
  for (const char* text : {"GET / HTTP/1.1\r\n\r\n", "*1\r\n$4\r\nPING\r\n", "incr\n", "x"}) {
    Pair pair;
    auto server = Session::accept(must_load(pki.node(1)), pair.server(), Demand::kRequired);
    ASSERT_GT(::write(pair.client(), text, strlen(text)), 0);
    Status status = server->shake();
    if (status == Status::kWantsRead) {
      pair.close_client();
      status = server->shake();
    }
    EXPECT_EQ(status, Status::kFailed);
    EXPECT_TRUE(server->is_other_plain());
    EXPECT_THAT(server->error(), HasSubstr("speaks plain, and this port requires TLS"));
  }
}

TEST(Session, PlainServerIsNamed) {
  Pki pki;
  auto own = must_load(pki.node(1));
  Pair answers;
  auto first = Session::dial(own, answers.client(), to_node(2));
  EXPECT_EQ(first->shake(), Status::kWantsRead);
  ASSERT_GT(::write(answers.server(), "-ERR unknown command\r\n", 22), 0);
  EXPECT_EQ(first->shake(), Status::kFailed);
  EXPECT_THAT(first->error(), HasSubstr("answers without TLS"));
  Pair closes;
  auto second = Session::dial(own, closes.client(), to_node(2));
  EXPECT_EQ(second->shake(), Status::kWantsRead);
  closes.close_server();
  EXPECT_EQ(second->shake(), Status::kFailed);
  EXPECT_THAT(second->error(), HasSubstr("its port may be plain"));
}

// ---- the ends of a connection, and data

struct Connected : Both {
  explicit Connected(const Pki& pki)
      : Both(must_load(pki.node(1)), must_load(pki.node(2)), to_node(2)) {
    shake();
    EXPECT_EQ(server_status, Status::kDone) << server->error();
  }
};

TEST(Session, TruncationIsToldFromTheEnd) {
  Pki pki;
  uint8_t to[16];
  Connected proper(pki);
  EXPECT_EQ(proper.server->write("bye").status, Status::kDone);
  EXPECT_EQ(proper.server->shut_down(), Status::kDone);
  proper.sockets.close_server();
  EXPECT_EQ(proper.client->read(to).bytes, 3u);
  EXPECT_EQ(proper.client->read(to).status, Status::kEnd);
  EXPECT_EQ(proper.client->read(to).status, Status::kEnd);

  Connected cut(pki);
  EXPECT_EQ(cut.server->write("bye").status, Status::kDone);
  cut.sockets.close_server();
  EXPECT_EQ(cut.client->read(to).bytes, 3u);
  EXPECT_EQ(cut.client->read(to).status, Status::kTruncated);
  EXPECT_THAT(cut.client->error(), HasSubstr("bytes may be missing"));
  EXPECT_EQ(cut.client->read(to).status, Status::kFailed);
  EXPECT_EQ(cut.client->shut_down(), Status::kFailed);
}

TEST(Session, DamagedRecordFails) {
  Pki pki;
  Connected both(pki);
  ASSERT_GT(::write(both.sockets.server(), "\x17\x03\x03\x00\x18 no record of this key..", 29), 0);
  uint8_t to[16];
  EXPECT_EQ(both.client->read(to).status, Status::kFailed);
  EXPECT_THAT(both.client->error(), HasSubstr("TLS failed: "));
}

TEST(Session, WritingToNobodyRaisesNoSignal) {
  Pki pki;
  Connected both(pki);
  both.sockets.close_client();
  // SIGPIPE would end the test.
  EXPECT_EQ(both.server->write("x").status, Status::kFailed);
  EXPECT_THAT(both.server->error(), HasSubstr("Broken pipe"));
}

TEST(Session, DataBehindTheHandshakeIsKept) {
  Pki pki;
  Both both(must_load(pki.node(1)), must_load(pki.node(2)), to_node(2));
  while (both.client->shake() != Status::kDone) both.server->shake();
  EXPECT_EQ(both.client->write("early").status, Status::kDone);
  ASSERT_EQ(both.server->shake(), Status::kDone) << both.server->error();
  EXPECT_TRUE(both.server->has_pending());
  uint8_t to[16];
  EXPECT_EQ(both.server->read(to).bytes, 5u);
  EXPECT_EQ(both.server->read(to).status, Status::kWantsRead);
  EXPECT_FALSE(both.server->has_pending());
}

// One direction: writes all, from a buffer that moves at each call.
struct Flow {
  std::string all;
  size_t sent = 0;
  std::string got{};
  size_t blocked = 0;

  void send(Session& from) {
    while (sent < all.size()) {
      const std::string moved = all.substr(sent, 300'000);
      const Io io = from.write(moved);
      if (io.status != Status::kDone) {
        ASSERT_EQ(io.status, Status::kWantsWrite) << from.error();
        ++blocked;
        return;
      }
      sent += io.bytes;
    }
  }
  void receive(Session& to) {
    std::vector<uint8_t> bytes(70'000);
    // Not all that there is: the other direction goes on in between.
    for (int i = 0; i < 3; ++i) {
      const Io io = to.read(bytes);
      if (io.status != Status::kDone) {
        ASSERT_EQ(io.status, Status::kWantsRead) << to.error();
        return;
      }
      got.append(bytes.begin(), bytes.begin() + static_cast<long>(io.bytes));
    }
  }
};

TEST(Session, BigWritesBlockInBothDirections) {
  Pki pki;
  Connected both(pki);
  Flow up{.all = std::string(5'000'003, 'u')};
  Flow down{.all = std::string(4'000'001, 'd')};
  for (size_t i = 0; i < up.all.size(); i += 1000) up.all[i] = static_cast<char>(i / 1000);
  for (int i = 0;
       i < 10'000 && (up.got.size() < up.all.size() || down.got.size() < down.all.size()); ++i) {
    up.send(*both.client);
    down.send(*both.server);
    up.receive(*both.server);
    down.receive(*both.client);
    if (HasFatalFailure()) return;
  }
  EXPECT_TRUE(up.got == up.all);
  EXPECT_TRUE(down.got == down.all);
  EXPECT_GT(up.blocked, 0u);
  EXPECT_GT(down.blocked, 0u);
}

// ---- other programs' clients

// A client of OpenSSL's own, in its default context, with any settings.
class RawClient {
 public:
  RawClient(int fd, const std::string& ca, int version, const char* ciphers = nullptr)
      : context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_set_security_level(context_, 0);
    SSL_CTX_set_min_proto_version(context_, version);
    SSL_CTX_set_max_proto_version(context_, version);
    if (ciphers != nullptr) SSL_CTX_set_cipher_list(context_, ciphers);
    EXPECT_EQ(SSL_CTX_load_verify_file(context_, ca.c_str()), 1);
    ssl_ = SSL_new(context_);
    SSL_set_fd(ssl_, fd);
    SSL_set_connect_state(ssl_);
  }
  ~RawClient() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
    ERR_clear_error();
  }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  SSL* get() { return ssl_; }

  // Both take turns; the last status of the server.
  Status shake(Session& server) {
    Status status = Status::kWantsRead;
    for (int i = 0; i < 10; ++i) {
      ERR_clear_error();
      SSL_do_handshake(ssl_);
      if (is_waiting(status)) status = server.shake();
    }
    ERR_clear_error();
    return status;
  }

 private:
  SSL_CTX* context_;
  SSL* ssl_;
};

// A server that anybody may talk to, and such a client.
struct Scan {
  Pki pki;
  Pair pair;
  std::unique_ptr<Session> server{Session::accept(must_load(pki.node(1), {.use = Use::kServer}),
                                                  pair.server(), Demand::kOptional)};
};

TEST(Session, OldVersionsAreRefused) {
  for (int version : {TLS1_VERSION, TLS1_1_VERSION}) {
    Scan scan;
    RawClient client(scan.pair.client(), scan.pki.ca_path(), version);
    EXPECT_EQ(client.shake(*scan.server), Status::kFailed);
    EXPECT_THAT(scan.server->error(), HasSubstr("no TLS version in common"));
  }
}

TEST(Session, Tls12TakesAeadWithEcdheOnly) {
  for (const char* ciphers : {"ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "AES128-SHA",
                              "DHE-RSA-AES128-GCM-SHA256", "AECDH-AES128-SHA"}) {
    Scan scan;
    RawClient client(scan.pair.client(), scan.pki.ca_path(), TLS1_2_VERSION, ciphers);
    EXPECT_EQ(client.shake(*scan.server), Status::kFailed);
    EXPECT_THAT(scan.server->error(), HasSubstr("no TLS cipher in common")) << ciphers;
  }
  for (const char* cipher : {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"}) {
    Scan scan;
    RawClient client(scan.pair.client(), scan.pki.ca_path(), TLS1_2_VERSION, cipher);
    ASSERT_EQ(client.shake(*scan.server), Status::kDone) << scan.server->error();
    EXPECT_EQ(scan.server->version(), "TLSv1.2");
    EXPECT_EQ(scan.server->cipher(), cipher);
  }
}

TEST(Session, RenegotiationIsRefused) {
  Scan scan;
  RawClient client(scan.pair.client(), scan.pki.ca_path(), TLS1_2_VERSION);
  ASSERT_EQ(client.shake(*scan.server), Status::kDone);
  ASSERT_EQ(SSL_renegotiate(client.get()), 1);
  SSL_do_handshake(client.get());
  uint8_t to[16];
  EXPECT_NE(scan.server->read(to).status, Status::kDone);
  ERR_clear_error();
  EXPECT_LT(SSL_do_handshake(client.get()), 1);
  EXPECT_EQ(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
}

TEST(Session, NothingCanBeResumed) {
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    Scan scan;
    RawClient client(scan.pair.client(), scan.pki.ca_path(), version);
    ASSERT_EQ(client.shake(*scan.server), Status::kDone);
    ASSERT_EQ(scan.server->write("x").status, Status::kDone);
    char byte = 0;
    ASSERT_EQ(SSL_read(client.get(), &byte, 1), 1);  // tickets would have come before
    SSL_SESSION* session = SSL_get1_session(client.get());
    EXPECT_EQ(SSL_SESSION_has_ticket(session), 0);
    EXPECT_EQ(SSL_SESSION_get_max_early_data(session), 0u);

    Pair again;
    auto server = Session::accept(must_load(scan.pki.node(1), {.use = Use::kServer}),
                                  again.server(), Demand::kOptional);
    RawClient second(again.client(), scan.pki.ca_path(), version);
    SSL_set_session(second.get(), session);
    ASSERT_EQ(second.shake(*server), Status::kDone) << server->error();
    EXPECT_EQ(SSL_session_reused(second.get()), 0);
    SSL_SESSION_free(session);
  }
}

// ---- a reload, and live sessions

TEST(Session, ReloadFindsWhatIsNoLongerGood) {
  Pki pki;
  Files files = pki.node(1);
  auto client = must_load(pki.node(2));
  Both both(client, must_load(files), to_node(1));
  both.shake();
  ASSERT_EQ(both.server_status, Status::kDone);
  EXPECT_EQ(must_load(files)->check(*both.server), "");
  EXPECT_EQ(client->check(*both.client), "");

  files.revocations = pki.revoke({client->own()->serial});
  EXPECT_THAT(must_load(files)->check(*both.server),
              AllOf(HasSubstr("CN=node 2, issuer CN=Test CA, serial " + client->own()->serial),
                    HasSubstr("is revoked by")));
  files.revocations = pki.revoke({"01"});
  EXPECT_EQ(must_load(files)->check(*both.server), "");

  // A rotation: both CAs, then the new one alone.
  auto next = Authority::make("Next CA", {now_s() - 3600, now_s() + 3650 * kDay});
  ASSERT_TRUE(next);
  files.revocations.clear();
  files.authorities = pki.write("both.pem", pki.ca().certificate_pem() + next->certificate_pem());
  EXPECT_EQ(must_load(files)->check(*both.server), "");
  files.authorities = pki.write("next.pem", next->certificate_pem());
  EXPECT_THAT(must_load(files)->check(*both.server), HasSubstr("is of no CA in"));
}

TEST(Session, ExpiryOfALiveSessionIsFound) {
  Pki pki;
  Request request = Pki::node_request(2);
  request.validity.until = now_s() + 1;
  auto server = must_load(pki.node(1));
  Both both(must_load(pki.issue("short", request)), server, to_node(1));
  both.shake();
  ASSERT_EQ(both.server_status, Status::kDone) << both.server->error();
  std::string why;
  for (int i = 0; i < 500 && why.empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    why = server->check(*both.server);
  }
  EXPECT_THAT(why, HasSubstr("has expired"));
}

TEST(Session, StaleListCountsOrRefuses) {
  Pki pki;
  Files files = pki.node(1);
  auto revoked = must_load(pki.node(2));
  auto other = must_load(pki.node(3));
  files.revocations = pki.revoke({revoked->own()->serial}, {now_s() - 20 * kDay, now_s() - kDay});
  auto warns = must_load(files);
  EXPECT_THAT(warns->warnings(now_s()), ::testing::ElementsAre(HasSubstr("is stale since")));
  Both still(revoked, warns, to_node(1));
  expect_refused(still, "is revoked by", "it is revoked there", true);
  Both fine(other, warns, to_node(1));
  fine.shake();
  EXPECT_EQ(fine.server_status, Status::kDone) << fine.server->error();
  auto refuses = must_load(files, {.stale_crl = StaleCrl::kRefuse});
  Both stale(other, refuses, to_node(1));
  expect_refused(stale, "tls.crl_stale is refuse", "the revocation list there has expired", true);
  EXPECT_THAT(refuses->check(*fine.server), HasSubstr("tls.crl_stale is refuse"));
}

// ---- what others do to OpenSSL in this process

// Loads, shakes hands, and checks again.
bool works(const Files& one, const Files& two) {
  Both both(must_load(one), must_load(two), to_node(2));
  both.shake();
  return both.server_status == Status::kDone && both.server->version() == "TLSv1.3" &&
         must_load(two)->check(*both.server).empty();
}

TEST(SessionDeathTest, PluginCannotBreakOpenSsl) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto hostile = [] {
    Pki pki;
    const Files one = pki.node(1);
    Files two = pki.node(2);
    two.revocations = pki.revoke({"01"});
    bool good = works(one, two);
    // Nothing can be fetched in the default context from now on.
    OSSL_PROVIDER* const nothing = OSSL_PROVIDER_load(nullptr, "null");
    good = good && nothing != nullptr;
    EVP_set_default_properties(nullptr, "provider=none,fips=yes");
    good = good && EVP_MD_fetch(nullptr, "SHA256", nullptr) == nullptr;
    good = good && works(one, two);
    OSSL_PROVIDER_unload(nothing);
    std::exit(good ? 0 : 1);
  };
  EXPECT_EXIT(hostile(), ::testing::ExitedWithCode(0), "");
}

TEST(SessionDeathTest, ConfigurationOfOpenSslDoesNotCount) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto with_file = [](const char* text) {
    Pki pki;
    const std::string file = pki.write("openssl.cnf", text);
    ::setenv("OPENSSL_CONF", file.c_str(), 1);
    Scan scan;
    RawClient old(scan.pair.client(), scan.pki.ca_path(), TLS1_1_VERSION);
    const bool refuses = old.shake(*scan.server) == Status::kFailed;
    std::exit(refuses && works(scan.pki.node(1), scan.pki.node(2)) ? 0 : 1);
  };
  EXPECT_EXIT(with_file("openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = all\n"
                        "[all]\nMinProtocol = TLSv1\nMaxProtocol = TLSv1.2\n"
                        "CipherString = ALL:@SECLEVEL=0\nOptions = UnsafeLegacyRenegotiation\n"),
              ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(
      with_file("openssl_conf = init\n[init]\nproviders = p\n[p]\nnull = n\n[n]\nactivate=1\n"),
      ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(with_file("[broken\n= =\n"), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace connectd::tls

#include "tls/credentials.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>
#include <set>

#include "base/log.h"
#include "tls/pem_files.h"
#include "tls/session.h"
#include "tls/verify.h"

namespace connectd::tls {
namespace {

constexpr int64_t kSecondsPerDay = 86'400;
constexpr int64_t kWarnDays = 30;
// A handshake's message with the other side's chain; what OpenSSL verifies of it.
constexpr long kMaxChainBytes = 64 << 10;
constexpr int kMaxChainDepth = 6;
constexpr int kSecurityLevel = 2;
constexpr unsigned char kSessionContext[] = "connectd";

tl::unexpected<Error> bad(const std::string& path, std::string_view text) {
  return failure(ErrorKind::kBadConfig, fmt::format("{}: {}", path, text));
}

// Everything that could come from elsewhere is set: whatever a configuration file for OpenSSL, or a
// plugin, has made the default for new contexts does not count.
Result<Handle<ssl_ctx_st>> make_context(const SSL_METHOD* method) {
  Handle<ssl_ctx_st> handle(SSL_CTX_new_ex(library(), nullptr, method));
  if (!handle) {
    return failure(ErrorKind::kInternal,
                   fmt::format("OpenSSL gives no context: {}", take_reasons()));
  }
  SSL_CTX* context = handle.get();
  SSL_CTX_clear_options(context, ~uint64_t{0});
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                   SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_security_level(context, kSecurityLevel);
  SSL_CTX_set_max_cert_list(context, kMaxChainBytes);
  SSL_CTX_set_verify_depth(context, kMaxChainDepth);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  const bool good =
      SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
      SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
      SSL_CTX_set_num_tickets(context, 0) == 1 && SSL_CTX_set_max_early_data(context, 0) == 1 &&
      SSL_CTX_set_recv_max_early_data(context, 0) == 1 &&
      SSL_CTX_set_session_id_context(context, kSessionContext, sizeof kSessionContext - 1) == 1 &&
      SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20:!PSK:!aNULL") == 1 &&
      SSL_CTX_set_ciphersuites(context,
                               "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                               "TLS_CHACHA20_POLY1305_SHA256") == 1 &&
      SSL_CTX_set1_groups_list(context, "X25519:P-256:P-384:P-521") == 1 &&
      SSL_CTX_set1_sigalgs_list(context,
                                "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ed25519:ed448:"
                                "RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:"
                                "rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512:"
                                "RSA+SHA256:RSA+SHA384:RSA+SHA512") == 1;
  if (!good) {
    return failure(ErrorKind::kInternal,
                   fmt::format("this OpenSSL lacks what TLS needs here: {}", take_reasons()));
  }
  return handle;
}

int64_t seconds_or_zero(const ASN1_TIME* time) {
  tm parts{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) return 0;
  return timegm(&parts);
}

bool has_purposes(x509_st* certificate, uint32_t purposes) {
  return (X509_get_extension_flags(certificate) & EXFLAG_XKUSAGE) != 0 &&
         (X509_get_extended_key_usage(certificate) & purposes) == purposes;
}

void warn_of_times(std::vector<std::string>& warnings, const std::string& what,
                   const Certificate& facts, int64_t now) {
  if (now < facts.not_before) {
    warnings.push_back(
        fmt::format("{} is not valid before {}, and the clock here says {}: probably "
                    "this machine's clock is wrong",
                    what, second_text(facts.not_before), second_text(now)));
  } else if (now > facts.not_after) {
    warnings.push_back(
        fmt::format("{} has expired at {} (the clock here: {}): all others refuse it; "
                    "install a new one and reload",
                    what, second_text(facts.not_after), second_text(now)));
  } else if (const int64_t left = facts.not_after - now; left < kWarnDays * kSecondsPerDay) {
    warnings.push_back(fmt::format("{} expires in {} days, at {}: install a new one and reload",
                                   what, left / kSecondsPerDay, second_text(facts.not_after)));
  }
}

}  // namespace

// The steps of load_credentials(), and what they share.
class CredentialsLoader final {
 public:
  CredentialsLoader(const Files& files, const CredentialsOptions& options)
      : made_(new Credentials()) {
    made_->files_ = files;
    made_->options_ = options;
  }

  Result<std::shared_ptr<const Credentials>> load() {
    for (auto step : {&CredentialsLoader::check_names, &CredentialsLoader::load_own,
                      &CredentialsLoader::load_authorities, &CredentialsLoader::load_revocations,
                      &CredentialsLoader::make_contexts}) {
      if (Result<void> good = (this->*step)(); !good) return failure(good.error());
    }
    ERR_clear_error();
    return std::shared_ptr<const Credentials>(std::move(made_));
  }

 private:
  const Files& files() const { return made_->files_; }
  Use use() const { return made_->options_.use; }

  Result<void> check_names() {
    const Files& f = files();
    if (f.certificate.empty() != f.key.empty()) {
      return failure(ErrorKind::kBadConfig,
                     f.key.empty()
                         ? fmt::format("{}: the file with its key is missing", f.certificate)
                         : fmt::format("{}: the file with its certificate is missing", f.key));
    }
    if (f.certificate.empty() && use() != Use::kClient) {
      return failure(ErrorKind::kBadConfig, "TLS needs a certificate and its key");
    }
    if (f.authorities.empty() && use() != Use::kServer) {
      return failure(ErrorKind::kBadConfig, "TLS needs a file with the CAs that are trusted");
    }
    if (f.authorities.empty() && !f.revocations.empty()) {
      return bad(f.revocations, "revocation lists need the file with their CAs");
    }
    return {};
  }

  Result<void> load_own() {
    if (files().certificate.empty()) return {};
    Result<std::vector<Handle<x509_st>>> chain = read_certificates(files().certificate);
    if (!chain) return failure(chain.error());
    chain_ = std::move(*chain);
    x509_st* own = chain_.front().get();
    made_->own_ = facts_of(own);
    made_->has_own_ = true;
    Result<Handle<evp_pkey_st>> key = read_key(files().key);
    if (!key) return failure(key.error());
    key_ = std::move(*key);
    for (const Handle<x509_st>& one : chain_) {
      const std::string weakness = weakness_of(X509_get0_pubkey(one.get()));
      if (!weakness.empty()) {
        return bad(files().certificate,
                   fmt::format("{}: {}", name_of(facts_of(one.get())), weakness));
      }
    }
    if (X509_check_private_key(own, key_.get()) != 1) {
      return bad(files().key, fmt::format("is not the key of the first certificate in {} ({})",
                                          files().certificate, name_of(made_->own_)));
    }
    const uint32_t purposes = use() == Use::kServer   ? XKU_SSL_SERVER
                              : use() == Use::kClient ? XKU_SSL_CLIENT
                                                      : XKU_SSL_SERVER | XKU_SSL_CLIENT;
    if (has_purposes(own, purposes)) return {};
    return bad(files().certificate,
               fmt::format("{}: its extendedKeyUsage must have {}", name_of(made_->own_),
                           use() == Use::kServer   ? "serverAuth"
                           : use() == Use::kClient ? "clientAuth"
                                                   : "serverAuth and clientAuth"));
  }

  Result<void> load_authorities() {
    made_->store_.reset(X509_STORE_new());
    CHECK(made_->store_ != nullptr) << "no memory";
    // Each CA in the file is trusted itself, also one between others.
    X509_STORE_set_flags(made_->store_.get(), X509_V_FLAG_PARTIAL_CHAIN);
    if (files().authorities.empty()) return {};
    Result<std::vector<Handle<x509_st>>> read = read_certificates(files().authorities);
    if (!read) return failure(read.error());
    authorities_ = std::move(*read);
    for (const Handle<x509_st>& one : authorities_) {
      const Certificate facts = facts_of(one.get());
      std::string why = weakness_of(X509_get0_pubkey(one.get()));
      if (X509_check_ca(one.get()) != 1) {
        why = "is not of a CA (basicConstraints lacks CA:TRUE); only CAs belong here";
      }
      if (!why.empty()) return bad(files().authorities, fmt::format("{}: {}", name_of(facts), why));
      if (X509_STORE_add_cert(made_->store_.get(), one.get()) != 1) {
        return bad(files().authorities, fmt::format("{}: {}", name_of(facts), take_reasons()));
      }
      made_->authorities_.push_back(facts);
    }
    return {};
  }

  // The CA that has signed the list; -1: none here.
  int signer_of(X509_crl_st* list) const {
    for (size_t i = 0; i < authorities_.size(); ++i) {
      x509_st* authority = authorities_[i].get();
      if (X509_NAME_cmp(X509_CRL_get_issuer(list), X509_get_subject_name(authority)) != 0) continue;
      if (X509_CRL_verify(list, X509_get0_pubkey(authority)) == 1) return static_cast<int>(i);
    }
    return -1;
  }

  Result<void> load_revocations() {
    if (files().revocations.empty()) return {};
    Result<std::vector<Handle<X509_crl_st>>> read = read_revocations(files().revocations);
    if (!read) return failure(read.error());
    std::set<int> signers;
    for (const Handle<X509_crl_st>& list : *read) {
      std::string issuer = "?";
      if (const int signer = signer_of(list.get()); signer < 0) {
        return bad(files().revocations, fmt::format("list number {} is signed by no CA in {}",
                                                    signers.size() + 1, files().authorities));
      } else {
        issuer = made_->authorities_[static_cast<size_t>(signer)].subject;
        if (!signers.insert(signer).second) {
          return bad(files().revocations,
                     fmt::format("has two lists of the CA {}: keep the newest", issuer));
        }
      }
      if (X509_STORE_add_crl(made_->store_.get(), list.get()) != 1) {
        return bad(files().revocations, take_reasons());
      }
      made_->lists_.push_back({issuer, seconds_or_zero(X509_CRL_get0_nextUpdate(list.get()))});
    }
    X509_STORE_set_flags(made_->store_.get(), X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return {};
  }

  Result<void> make_contexts() {
    if (use() != Use::kClient) {
      Result<Handle<ssl_ctx_st>> server = make_context(TLS_server_method());
      if (!server) return failure(server.error());
      made_->server_ = std::move(*server);
      for (const Handle<x509_st>& one : authorities_) {
        // So that a client with several certificates knows which one to show.
        SSL_CTX_add_client_CA(made_->server_.get(), one.get());
      }
      if (Result<void> good = fill(made_->server_.get()); !good) return good;
    }
    Result<Handle<ssl_ctx_st>> client = make_context(TLS_client_method());
    if (!client) return failure(client.error());
    made_->client_ = std::move(*client);
    if (Result<void> good = fill(made_->client_.get()); !good) return good;
    check_own_chain();
    return {};
  }

  Result<void> fill(ssl_ctx_st* context) {
    SSL_CTX_set1_cert_store(context, made_->store_.get());
    SSL_CTX_set_cert_verify_callback(context, Session::verify, nullptr);
    if (chain_.empty()) return {};
    bool good = SSL_CTX_use_certificate(context, chain_.front().get()) == 1 &&
                SSL_CTX_use_PrivateKey(context, key_.get()) == 1;
    for (size_t i = 1; i < chain_.size() && good; ++i) {
      good = SSL_CTX_add1_chain_cert(context, chain_[i].get()) == 1;
    }
    if (!good) return bad(files().certificate, fmt::format("cannot be used: {}", take_reasons()));
    return {};
  }

  // For a warning only: the own certificate may be of a CA that others trust and this one does not.
  void check_own_chain() {
    if (chain_.empty() || authorities_.empty()) return;
    STACK_OF(X509)* between = sk_X509_new_null();
    for (const Handle<x509_st>& one : chain_) sk_X509_push(between, one.get());
    Handle<x509_store_ctx_st> context(X509_STORE_CTX_new_ex(library(), nullptr));
    CHECK(context != nullptr) << "no memory";
    if (X509_STORE_CTX_init(context.get(), made_->store_.get(), chain_.front().get(), between) ==
        1) {
      X509_VERIFY_PARAM* parameters = X509_STORE_CTX_get0_param(context.get());
      X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_NO_CHECK_TIME);
      X509_VERIFY_PARAM_clear_flags(parameters, X509_V_FLAG_CRL_CHECK);
      made_->is_own_of_authorities_ = X509_verify_cert(context.get()) == 1;
    }
    sk_X509_free(between);
  }

  std::unique_ptr<Credentials> made_;
  std::vector<Handle<x509_st>> chain_;
  std::vector<Handle<x509_st>> authorities_;
  Handle<evp_pkey_st> key_;
};

Result<std::shared_ptr<const Credentials>> load_credentials(const Files& files,
                                                            const CredentialsOptions& options) {
  return CredentialsLoader(files, options).load();
}

Result<std::vector<Certificate>> read_facts(const std::string& path) {
  Result<std::vector<Handle<x509_st>>> read = read_certificates(path);
  if (!read) return failure(read.error());
  std::vector<Certificate> all;
  for (const Handle<x509_st>& one : *read) all.push_back(facts_of(one.get()));
  return all;
}

std::vector<std::string> Credentials::warnings(int64_t now) const {
  std::vector<std::string> warnings;
  if (has_own_) {
    warn_of_times(warnings,
                  fmt::format("{}: this certificate ({})", files_.certificate, name_of(own_)), own_,
                  now);
    if (!is_own_of_authorities_ && options_.use == Use::kPeers) {
      warnings.push_back(
          fmt::format("{}: this certificate ({}) is of no CA in {}: nodes with the "
                      "same CA file refuse it",
                      files_.certificate, name_of(own_), files_.authorities));
    }
  }
  for (const Certificate& authority : authorities_) {
    warn_of_times(warnings, fmt::format("{}: the CA {}", files_.authorities, authority.subject),
                  authority, now);
  }
  for (const RevocationList& list : lists_) {
    if (list.next_update == 0 || now <= list.next_update) continue;
    warnings.push_back(fmt::format(
        "{}: the list of the CA {} is stale since {}: {}; install a new list and reload",
        files_.revocations, list.issuer, second_text(list.next_update),
        options_.stale_crl == StaleCrl::kRefuse ? "all certificates of this CA are refused"
                                                : "what was revoked since is not known here"));
  }
  return warnings;
}

std::string Credentials::check(const Session& session) const {
  if (session.other() == nullptr) return "";
  ERR_set_mark();
  Check check{.files = files_,
              .options = options_,
              .is_of_server = !session.is_server_,
              .expected = session.is_server_ ? nullptr : &session.expected_};
  Handle<x509_store_ctx_st> context =
      begin_check(store_.get(), session.ssl_.get(), check.is_of_server);
  if (!context) {
    check.refusal = "its certificate cannot be checked: no memory";
  } else {
    verify_chain(context.get(), check);
  }
  ERR_pop_to_mark();
  return check.refusal;
}

}  // namespace connectd::tls

#include "tls/session.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/log.h"
#include "tls/verify.h"

namespace connectd::tls {
namespace {

// The first byte of a TLS record with a handshake message, and of one with an alert.
constexpr uint8_t kRecordOfHandshake = 0x16;
constexpr uint8_t kAlertRecord = 0x15;

bool is_alert(int reason) {
  return reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256;
}

}  // namespace

// The socket as OpenSSL sees it: an end and an error are remembered, and no write raises SIGPIPE.
struct Session::Socket {
  int fd = -1;
  bool is_at_end = false;
  int error = 0;  // errno
  bool has_received = false;
  uint8_t first_byte = 0;

  static int read(BIO* bio, char* to, int size) {
    auto& self = *static_cast<Socket*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    ssize_t got = 0;
    do {
      got = ::recv(self.fd, to, static_cast<size_t>(size), MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got > 0) {
      if (!self.has_received) self.first_byte = static_cast<uint8_t>(to[0]);
      self.has_received = true;
    } else if (got == 0) {
      self.is_at_end = true;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      BIO_set_retry_read(bio);
    } else {
      self.error = errno;
    }
    return static_cast<int>(got);
  }

  static int write(BIO* bio, const char* from, int size) {
    auto& self = *static_cast<Socket*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    ssize_t sent = 0;
    do {
      sent = ::send(self.fd, from, static_cast<size_t>(size), MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      BIO_set_retry_write(bio);
    } else if (sent < 0 && !self.is_at_end) {
      self.error = errno;  // not that of the alert which answers an end
    }
    return static_cast<int>(sent);
  }

  static long control(BIO* bio, int command, long, void*) {
    auto& self = *static_cast<Socket*>(BIO_get_data(bio));
    switch (command) {
      case BIO_CTRL_EOF:
        return self.is_at_end ? 1 : 0;
      case BIO_CTRL_FLUSH:
        return 1;
      default:
        return 0;
    }
  }

  static BIO_METHOD* calls() {
    // Never freed, as library() is not.
    static BIO_METHOD* const kCalls = [] {
      BIO_METHOD* made =
          BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connectd socket");
      CHECK(made != nullptr) << "no memory";
      BIO_meth_set_read(made, read);
      BIO_meth_set_write(made, write);
      BIO_meth_set_ctrl(made, control);
      return made;
    }();
    return kCalls;
  }
};

Session::Session(std::shared_ptr<const Credentials> credentials, int fd, bool is_server)
    : credentials_(std::move(credentials)),
      is_server_(is_server),
      socket_(std::make_unique<Socket>()) {
  SSL_CTX* context = is_server ? credentials_->server_.get() : credentials_->client_.get();
  CHECK(context != nullptr) << "credentials of a client cannot accept";
  ERR_clear_error();
  socket_->fd = fd;
  ssl_.reset(SSL_new(context));
  BIO* bio = BIO_new(Socket::calls());
  CHECK(ssl_ != nullptr && bio != nullptr)
      << "OpenSSL makes no TLS session: no memory, or a plugin has called its OPENSSL_cleanup()";
  BIO_set_data(bio, socket_.get());
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_app_data(ssl_.get(), this);
}

Session::~Session() = default;

std::unique_ptr<Session> Session::accept(std::shared_ptr<const Credentials> credentials, int fd,
                                         Demand demand) {
  const bool asks = !credentials->authorities().empty();
  CHECK(asks || demand == Demand::kOptional) << "no CAs to check a certificate with";
  std::unique_ptr<Session> session(new Session(std::move(credentials), fd, true));
  int mode = asks ? SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE : SSL_VERIFY_NONE;
  if (demand == Demand::kRequired) mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
  SSL_set_verify(session->ssl_.get(), mode, nullptr);
  SSL_set_accept_state(session->ssl_.get());
  return session;
}

std::unique_ptr<Session> Session::dial(std::shared_ptr<const Credentials> credentials, int fd,
                                       Expected expected) {
  CHECK(expected.uri.empty() != expected.host.empty()) << "one name is expected";
  CHECK(!credentials->authorities().empty()) << "no CAs to check a certificate with";
  std::unique_ptr<Session> session(new Session(std::move(credentials), fd, false));
  session->expected_ = std::move(expected);
  SSL_set_verify(session->ssl_.get(), SSL_VERIFY_PEER, nullptr);
  SSL_set_connect_state(session->ssl_.get());
  // A server with several names chooses its certificate by it. An address is no such name.
  std::string name = session->expected_.host;
  if (name.ends_with('.')) name.pop_back();
  ASN1_OCTET_STRING* address = a2i_IPADDRESS(name.c_str());
  if (!name.empty() && address == nullptr && name.find_first_of(":%") == std::string::npos) {
    SSL_set_tlsext_host_name(session->ssl_.get(), name.c_str());
  }
  ASN1_OCTET_STRING_free(address);
  ERR_clear_error();
  return session;
}

int Session::verify(x509_store_ctx_st* context, void*) {
  auto* ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto& self = *static_cast<Session*>(SSL_get_app_data(ssl));
  Check check{.files = self.credentials_->files_,
              .options = self.credentials_->options_,
              .is_of_server = !self.is_server_,
              .expected = self.is_server_ ? nullptr : &self.expected_};
  // Reasons that are left in the queue would make the handshake's next pause look like an error.
  ERR_set_mark();
  const bool good = verify_chain(context, check);
  ERR_pop_to_mark();
  self.refusal_ = std::move(check.refusal);
  return good ? 1 : 0;
}

Status Session::shake() {
  if (is_failed_) return Status::kFailed;
  if (is_done_) return Status::kDone;
  ERR_clear_error();
  const Status status = settle(SSL_do_handshake(ssl_.get()));
  // An end in the middle of a handshake is no end of anything.
  if (status == Status::kEnd || status == Status::kTruncated) return fail();
  if (status != Status::kDone) return status;
  is_done_ = true;
  if (X509* shown = SSL_get0_peer_certificate(ssl_.get())) {
    other_ = facts_of(shown);
    has_other_ = true;
  }
  ERR_clear_error();
  return Status::kDone;
}

Io Session::read(std::span<uint8_t> to) {
  CHECK(is_done_ && !to.empty());
  if (is_failed_) return {Status::kFailed, 0};
  ERR_clear_error();
  size_t bytes = 0;
  const Status status = settle(SSL_read_ex(ssl_.get(), to.data(), to.size(), &bytes));
  return {status, bytes};
}

bool Session::has_pending() const { return !is_failed_ && SSL_has_pending(ssl_.get()) == 1; }

Io Session::write(std::string_view bytes) {
  CHECK(is_done_ && !bytes.empty());
  if (is_failed_) return {Status::kFailed, 0};
  size_t total = 0;
  while (total < bytes.size()) {
    ERR_clear_error();
    size_t written = 0;
    const Status status =
        settle(SSL_write_ex(ssl_.get(), bytes.data() + total, bytes.size() - total, &written));
    total += written;
    if (status == Status::kDone) continue;
    // What was written is reported first; the next call meets the same obstacle.
    if (total > 0 && !is_failed_) break;
    return {status == Status::kEnd ? fail() : status, 0};
  }
  return {Status::kDone, total};
}

Status Session::shut_down() {
  if (is_failed_ || !is_done_) return is_failed_ ? Status::kFailed : Status::kDone;
  ERR_clear_error();
  const int result = SSL_shutdown(ssl_.get());
  // 0: sent, and the other side has not answered.
  if (result >= 0) return Status::kDone;
  const Status status = settle(result);
  return status == Status::kWantsRead ? Status::kDone : status;
}

Status Session::settle(int result) {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_NONE:
      return Status::kDone;
    case SSL_ERROR_WANT_READ:
      return Status::kWantsRead;
    case SSL_ERROR_WANT_WRITE:
      return Status::kWantsWrite;
    case SSL_ERROR_ZERO_RETURN:
      return Status::kEnd;
    default:
      break;
  }
  const unsigned long code = ERR_peek_error();
  const bool is_end = socket_->is_at_end && socket_->error == 0 &&
                      (code == 0 || ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING);
  if (!is_end || !is_done_) return fail();
  is_failed_ = true;
  ERR_clear_error();
  error_ =
      "the other side ended the connection without TLS's end (close_notify): bytes may be missing";
  return Status::kTruncated;
}

Status Session::fail() {
  is_failed_ = true;
  error_ = reason();
  ERR_clear_error();
  return Status::kFailed;
}

std::string Session::version() const { return SSL_get_version(ssl_.get()); }

std::string Session::cipher() const { return SSL_get_cipher_name(ssl_.get()); }

// ---- why

std::string Session::reason() {
  if (!refusal_.empty()) return fmt::format("refused the other side: {}", refusal_);
  // The first reason is the cause, unless it is one of another library in passing.
  unsigned long code = 0;
  while (const unsigned long next = ERR_get_error()) {
    if (code == 0 || ERR_GET_LIB(code) != ERR_LIB_SSL) code = next;
  }
  const bool is_plain = socket_->has_received && socket_->first_byte != kRecordOfHandshake &&
                        socket_->first_byte != kAlertRecord;
  if (is_plain && !is_done_) {
    is_other_plain_ = true;
    return is_server_
               ? "the other side speaks plain, and this port requires TLS: configure TLS there"
               : "the other side answers without TLS: its port is plain, or another program's";
  }
  if (code != 0 && ERR_GET_REASON(code) != SSL_R_UNEXPECTED_EOF_WHILE_READING) {
    return reason_of_code(code);
  }
  // A plain server that closes, as it cannot read this, may do so with a reset.
  const bool is_answer = !is_done_ && !is_server_ && !socket_->has_received;
  if (socket_->error != 0 && !(is_answer && socket_->error == ECONNRESET)) {
    return fmt::format("the connection failed{}: {}", is_done_ ? "" : " during the TLS handshake",
                       errno_text(socket_->error));
  }
  if (is_done_) return "the other side has ended the connection";
  if (socket_->has_received) {
    return "the other side ended the connection during the TLS handshake: its log may say why";
  }
  return is_server_
             ? "the other side ended the connection before the TLS handshake"
             : "the other side ended the connection instead of a TLS handshake: its port may be "
               "plain, or has too many connections";
}

std::string Session::reason_of_code(unsigned long code) {
  const int reason = ERR_GET_REASON(code);
  if (ERR_GET_LIB(code) == ERR_LIB_SSL && is_alert(reason)) {
    return text_of_alert(reason - SSL_AD_REASON_OFFSET);
  }
  switch (ERR_GET_LIB(code) == ERR_LIB_SSL ? reason : 0) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return "refused the other side: it shows no certificate, and this port requires one: give it "
             "a "
             "certificate and its key";
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_WRONG_SSL_VERSION:
    case SSL_R_WRONG_VERSION_NUMBER:
      return "no TLS version in common: connectd speaks 1.3 and 1.2, and the other side an older "
             "one";
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_NO_SUITABLE_GROUPS:
    case SSL_R_WRONG_CIPHER_RETURNED:
    case SSL_R_UNKNOWN_CIPHER_RETURNED:
      return "no TLS cipher in common: connectd takes ECDHE with AES-GCM or ChaCha20 only";
    case SSL_R_EXCESSIVE_MESSAGE_SIZE:
      return "refused the other side: the message with its certificates is too long";
    default:
      break;
  }
  const char* text = ERR_reason_error_string(code);
  return fmt::format("TLS failed: {}", text != nullptr ? text : fmt::format("error {}", code));
}

std::string Session::text_of_alert(int alert) const {
  const Certificate* own = credentials_->own();
  const std::string mine = own == nullptr
                               ? "this side, which shows no certificate"
                               : fmt::format("the certificate {} ({})",
                                             credentials_->files().certificate, name_of(*own));
  const auto refused = [&](std::string_view why) {
    return fmt::format("the other side refuses {}: {} (its alert: {})", mine, why,
                       SSL_alert_desc_string_long(alert));
  };
  switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
      return refused(
          "for the other side its name is wrong, or it is not valid yet: compare names "
          "with `connectctl cert show`, and the clocks; the other side's log says which");
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
      return refused("it is for another purpose: see its extendedKeyUsage");
    case SSL_AD_CERTIFICATE_REVOKED:
      return refused("it is revoked there: install a new one and reload");
    case SSL_AD_CERTIFICATE_EXPIRED:
      return refused(
          "by the other side's clock it, its CA or the revocation list there has expired: "
          "`connectctl cert show` it, and compare the clocks");
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_ACCESS_DENIED:
      return refused("the other side's log says why");
    case SSL_AD_UNKNOWN_CA:
      return refused(
          "its CA is not among those that the other side trusts: compare its issuer with "
          "the other side's file of CAs");
    case SSL_AD_CERTIFICATE_REQUIRED:
      return refused("it requires a certificate");
    case SSL_AD_HANDSHAKE_FAILURE:
      return fmt::format(
          "the other side refuses the TLS handshake: no cipher in common{} (its alert: "
          "handshake failure); its log may say why",
          own == nullptr ? ", or it requires a certificate" : "");
    case SSL_AD_PROTOCOL_VERSION:
      return "no TLS version in common: connectd speaks 1.3 and 1.2, and the other side refuses "
             "both";
    case SSL_AD_INSUFFICIENT_SECURITY:
      return "the other side refuses the TLS handshake: it demands stronger ciphers or keys";
    default:
      return fmt::format("the other side broke off TLS (its alert: {}); its log may say why",
                         SSL_alert_desc_string_long(alert));
  }
}

}  // namespace connectd::tls

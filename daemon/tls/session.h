// One TLS connection over a non-blocking socket. It never waits: each call says what the socket
// must be ready for before the next one. It writes without SIGPIPE.
//
//   shake() until kDone; then read() and write(); shut_down() at the end.
//
// One thread at a time; it may move between threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "tls/certificate.h"
#include "tls/credentials.h"
#include "tls/handles.h"

namespace connectd::tls {

enum class Status : uint8_t {
  kDone,
  kWantsRead,   // again when the socket is readable
  kWantsWrite,  // again when it is writable
  kEnd,         // read(): the other side has ended its direction, properly
  kTruncated,   // read(): TCP has ended without TLS's end: bytes may be missing. error() says so
  kFailed,      // error() says why; the session is of no further use
};

struct Io {
  Status status = Status::kFailed;
  size_t bytes = 0;  // of kDone, more than 0
};

// Of the certificate of one who dialled.
enum class Demand : uint8_t {
  kOptional,  // none is fine; one that is not good is refused all the same
  kRequired,
};

// Whom one has dialled: the one of the two that is not empty.
struct Expected {
  std::string uri;   // a node: this URI is in the certificate, byte for byte
  std::string host;  // a server: a DNS name or an address, by RFC 9525. The CN never counts
};

class Session final {
 public:
  // `fd` is non-blocking, is not owned, and outlives the session. `credentials` has a certificate,
  // and CAs where one is required.
  static std::unique_ptr<Session> accept(std::shared_ptr<const Credentials> credentials, int fd,
                                         Demand demand);
  // `fd` is connected.
  static std::unique_ptr<Session> dial(std::shared_ptr<const Credentials> credentials, int fd,
                                       Expected expected);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Goes on with the handshake. With TLS 1.3 the one who dialled is done before the other side has
  // checked its certificate: a refusal then comes as kFailed of a later call.
  Status shake();

  // Until it says kWantsRead there may be more, whether or not the socket is readable. That is also
  // when an idle session releases its buffer.
  Io read(std::span<uint8_t> to);
  // Whether a read() may have bytes without the socket: for those who stop before kWantsRead.
  bool has_pending() const;

  // May take the first part of `bytes` only. After kWantsRead or kWantsWrite, the next call must
  // begin with the same bytes, from any address, and have at least as many.
  Io write(std::string_view bytes);

  // Tells the other side that nothing more comes. It is not waited for. kDone, kWantsWrite, or
  // kFailed, which is as good as done. Before the end of the handshake it does nothing.
  Status shut_down();

  // The certificate of the other side, once shake() is done; null: it has shown none.
  const Certificate* other() const { return has_other_ ? &other_ : nullptr; }
  // "TLSv1.3"; "TLS_AES_128_GCM_SHA256".
  std::string version() const;
  std::string cipher() const;

  // After kFailed or kTruncated: one sentence for a log, without a full stop. It names the
  // certificate that was refused, on both sides, and what to look at. No secrets.
  const std::string& error() const { return error_; }
  // The other side does not speak TLS.
  bool is_other_plain() const { return is_other_plain_; }

 private:
  friend class Credentials;
  friend class CredentialsLoader;
  struct Socket;

  Session(std::shared_ptr<const Credentials> credentials, int fd, bool is_server);
  // Called by OpenSSL.
  static int verify(x509_store_ctx_st* context, void* unused);

  // What comes of a call of OpenSSL that returned `result`.
  Status settle(int result);
  Status fail();
  std::string reason();
  std::string reason_of_code(unsigned long code);
  std::string text_of_alert(int alert) const;

  const std::shared_ptr<const Credentials> credentials_;
  const bool is_server_;
  Expected expected_;
  const std::unique_ptr<Socket> socket_;
  Handle<ssl_st> ssl_;
  bool is_done_ = false;    // the handshake
  bool is_failed_ = false;  // no further call of OpenSSL
  bool has_other_ = false;
  bool is_other_plain_ = false;
  Certificate other_;
  std::string refusal_;  // why the other side's certificate is refused
  std::string error_;
};

}  // namespace connectd::tls

// What a port does with TLS at this moment, as the configuration and its files say. A reload makes
// another one.
#pragma once

#include <cstdint>
#include <memory>

#include "tls/credentials.h"

namespace connectd::net {

enum class TlsMode : uint8_t {
  kOff,      // takes and dials plain connections only
  kAccept,   // takes both, dials plain
  kPrefer,   // takes both, dials TLS only
  kRequire,  // TLS only
};

struct PortTls {
  TlsMode mode = TlsMode::kOff;
  std::shared_ptr<const tls::Credentials> credentials{};  // null with kOff only
  // Of one who dials, where they are others: the HTTP port's have no certificate of their own.
  std::shared_ptr<const tls::Credentials> dial_credentials{};

  bool takes_tls() const { return mode != TlsMode::kOff; }
  bool takes_plain() const { return mode != TlsMode::kRequire; }
  bool dials_tls() const { return mode == TlsMode::kPrefer || mode == TlsMode::kRequire; }
};

}  // namespace connectd::net

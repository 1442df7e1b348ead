// Who the clients of the port are, and what they may do: by the certificate of their TLS session,
// or by a token that they show with AUTH or HELLO of RESP; else what auth.anonymous says.
//
// Loop thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "auth/policy.h"
#include "auth/principal.h"
#include "auth/token_checker.h"
#include "base/clock.h"
#include "client/conversation.h"
#include "net/stream.h"

namespace connectd::client {

// The client of one connection, as far as it is known.
struct Caller {
  auth::Principal principal;
  std::string token_hash;  // of the token that it has shown; empty: none
};

// Where it comes from.
struct Source {
  auth::TokenSource token;
  std::string address;  // for the log
};
// An empty address: the connection has gone.
Source source_of(net::Stream& stream);

class Access final {
 public:
  explicit Access(std::shared_ptr<auth::TokenChecker> tokens) : tokens_(std::move(tokens)) {}

  // Until it is called, everybody may do everything. `cluster`: in the names of certificates.
  void set(std::shared_ptr<const auth::Policy> policy, std::string cluster);

  // Without a token. `session`: null if the connection is plain.
  Caller caller_of(const tls::Session* session) const;
  // Checks a token, with the name "default", or its ID. Good: `caller` is its owner from now on.
  // Else: the answer; `caller` stays who it was. Writes an audit line of a token that is not good.
  std::optional<CredentialsError> authenticate(Caller& caller, const Source& source,
                                               std::string_view user, std::string_view secret,
                                               const Now& now);
  // After set(): what the caller has shown may count no longer, or for something else. False: it
  // counts no longer.
  bool check_again(Caller& caller, const tls::Session* session, const Now& now) const;
  static bool has_ended(const Caller& caller, const Now& now);

  node::Rights rights_of(const Caller& caller) const;
  // Whether it has shown what is known, or needs to show nothing.
  bool is_known(const Caller& caller) const;

 private:
  const std::shared_ptr<auth::TokenChecker> tokens_;
  std::shared_ptr<const auth::Policy> policy_;
  std::string cluster_;
};

}  // namespace connectd::client

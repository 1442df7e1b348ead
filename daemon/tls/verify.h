// The check of the other side's certificate chain: the same in a handshake and after a reload.
// Private to this module.
#pragma once

#include <cstdint>
#include <string>

#include "tls/credentials.h"
#include "tls/handles.h"

namespace connectd::tls {

struct Expected;

// What is checked, and what came of it.
struct Check {
  const Files& files;  // for the texts
  CredentialsOptions options;
  bool is_of_server = false;           // the other side was dialled
  const Expected* expected = nullptr;  // null: its name is checked elsewhere

  std::string refusal{};  // a sentence; empty: it is good
};

// Checks the chain that `context` was set up with. On a refusal, also sets the context's error,
// which decides the alert that the other side gets.
bool verify_chain(x509_store_ctx_st* context, Check& check);

// As a handshake would set it up, for a chain that was shown in one. Null: no memory.
Handle<x509_store_ctx_st> begin_check(x509_store_st* store, ssl_st* ssl, bool is_of_server);

// Seconds since 1970, by the machine's clock.
int64_t seconds_now();

}  // namespace connectd::tls

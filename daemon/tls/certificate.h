// What a certificate says, as plain values, and the names that connectd gives to nodes, clients and
// roles in it. A certificate comes from outside: every text here is printable and bounded, whatever
// bytes it was made of. Values; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"

struct x509_st;

namespace connectd::tls {

struct Certificate {
  std::string subject;  // one line: "CN=db1, O=Example"
  std::string issuer;
  std::string serial;       // lower-case hexadecimal digits
  std::string fingerprint;  // SHA-256 of the whole, 64 lower-case hexadecimal digits
  std::vector<std::string> common_names;
  std::vector<std::string> units;
  // Subject alternative names.
  std::vector<std::string> uris;
  std::vector<std::string> dns_names;
  std::vector<std::string> addresses;  // "10.0.0.11", "2001:db8::1"
  // Seconds since 1970.
  int64_t not_before = 0;
  int64_t not_after = 0;
};

// Bytes that are not printable, and a backslash, become "\x0a"; UTF-8 stays, but for the characters
// that turn or hide text. So two different names never become the same text, and a text without a
// backslash is exactly the bytes of the name. What is longer than `limit` bytes is cut, and then
// ends in "...": `limit` is above all that connectd compares with.
std::string printable(std::string_view bytes, size_t limit = 1024);

// Names beyond the first 256 of each kind are left out: a login by one of them fails.
Certificate facts_of(x509_st* certificate);

// "CN=db1, issuer CN=Example CA, serial 4f00": for logs and errors.
std::string name_of(const Certificate& certificate);

// "2026-11-30T09:40:29Z". Of any year that a certificate can have.
std::string second_text(int64_t seconds);

// ---- the names in URIs of a certificate

// "connectd://CLUSTER/node/ID": the name of a node, byte for byte.
std::string node_uri(std::string_view cluster_name, NodeId id);
// "connectd://CLUSTER/client/NAME" and "connectd://CLUSTER/role/ROLE".
std::string client_uri(std::string_view cluster_name, std::string_view client);
std::string role_uri(std::string_view cluster_name, std::string_view role);
// The node that it names in this cluster. None also if it names several.
std::optional<NodeId> node_of(const Certificate& certificate, std::string_view cluster_name);

}  // namespace connectd::tls

// One request to the HTTP port and its answer, as handlers see them: plain values, without Beast
// (admin/connection.h makes the one and sends the other).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "auth/anonymous.h"
#include "auth/principal.h"
#include "base/address.h"
#include "net/origin.h"

namespace connectd::admin {

using net::Origin;

struct Request {
  std::string method = "GET";
  std::string target = "/";
  // Names in lower case; of a header that was sent twice, the first.
  std::map<std::string, std::string, std::less<>> headers;
  std::string body;
  size_t host_headers = 1;  // how often Host was sent
  bool is_http_1_0 = false;
  bool beyond_limit = false;  // on one connection too many: no calls

  Origin origin = Origin::kOtherMachine;
  Address arrived_at;  // the address that the connection was made to: 127.0.0.1:7301
  std::string remote;  // the caller's address, without the port
  // The same for limits: an IPv4 address, or the first half of an IPv6 one.
  std::string remote_network;
  bool is_encrypted = false;                     // by TLS
  std::optional<auth::Principal> certificate{};  // whom the client's certificate names
  // Who asks: known before a handler runs (admin/authorization.h).
  auth::Principal principal = auth::Principal::anonymous(auth::anonymous_roles({}, {}));

  // Empty when there is none.
  std::string_view header(std::string_view lower_case_name) const;
};

struct Response {
  int status = 200;
  std::string content_type;
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers{};  // beside those that all answers have
  std::shared_ptr<const void> held{};  // what its body holds elsewhere, until it is sent
};

Response text_response(int status, std::string body);
Response json_response(std::string body);
Response bytes_response(std::string body);
// RFC 9457. `code` may be empty.
Response problem(int status, std::string_view title, std::string detail,
                 std::string_view code = "");

// A to Z only, as in header names.
std::string lower_case(std::string_view text);

}  // namespace connectd::admin

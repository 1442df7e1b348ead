// One HTTP request and its answer: for /v1/cluster (asynchronous, on the HTTP thread) and for
// connectctl (waiting). Beast stays in the .cc.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tl/expected.hpp>

#include "base/address.h"
#include "base/clock.h"
#include "config/config.h"
#include "net/names.h"
#include "tls/credentials.h"

namespace boost::asio {
class io_context;
}

namespace connectd::admin {

// Of an answer, whole.
inline constexpr size_t kMaxAnswerBytes = 128 << 20;

struct HttpRequest {
  std::string method = "GET";
  std::string target = "/";
  std::map<std::string, std::string> headers;
  std::string body;
  // The server's certificate must be good for the host that is asked; null: it is plain.
  std::shared_ptr<const tls::Credentials> tls{};
  // Sent as `Authorization: Bearer` inside TLS, or if the connection stays within this machine;
  // else left out.
  std::string token{};
};

struct HttpAnswer {
  int status = 0;
  // Names in lower case.
  std::map<std::string, std::string> headers;
  std::string body;

  std::string header(const std::string& lower_case_name) const {
    auto it = headers.find(lower_case_name);
    return it == headers.end() ? std::string() : it->second;
  }
};

struct HttpFailure {
  std::string text;   // "connection refused"
  bool sent = false;  // the request may have reached the server
};

using HttpOutcome = tl::expected<HttpAnswer, HttpFailure>;

// `done` is called once, on the thread that runs `io`; never when `io` is destroyed before. `names`
// must live as long as `io` is run.
void fetch(boost::asio::io_context& io, net::Names& names, const Address& address,
           HttpRequest request, Duration timeout, size_t max_answer,
           std::function<void(HttpOutcome)> done);

// Waits for it.
HttpOutcome fetch(const Address& address, HttpRequest request, Duration timeout,
                  size_t max_answer = kMaxAnswerBytes);

}  // namespace connectd::admin

// How a request that is held is named on its way through the node.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "node/service.h"

namespace connectd::node {

class Stream;

// Names a request without keeping its connection alive.
struct RequestRef {
  std::shared_ptr<Stream> stream;
  uint64_t ordinal = 0;
};

// Nobody waits for its reply any more. Any thread.
bool is_gone(const RequestRef& request);

// A read on its way to the apply thread.
struct ReadTask {
  RequestRef ref;
  Slice request;
  Time deadline;
  ReadOptions options{};
  Time came = Time::max();  // of a stale read: the turn that saw it first
};

// The status of a command, or a tick, that an operator had skipped: here, and in the digest chain.
// (A command that the sessions did not admit has -1 to -3 there, a plugin's own are 0 or more.)
inline constexpr int32_t kSkippedStatus = -64;

// The answer to a read that reached its index, and expired before its turn came.
inline constexpr std::string_view kNotExecuted =
    "the plugin did not execute the read within client.request_timeout";

// A request that ends without the plugin's answer.
struct Refused {
  RequestRef ref;
  ReplyCode code = ReplyCode::kUnknown;
  std::string text;
};

}  // namespace connectd::node

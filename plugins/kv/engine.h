// Requests against the store: which kind a request is, and what happens on it.
//
// A request is one command, or several in sequence: those are one write, as between MULTI and EXEC.
// It is rejected if it cannot be parsed to its end, or if a command is unknown or has the wrong
// number of arguments; otherwise all are executed, also behind one that fails. Its reply is an
// array of their replies.
//
// Every byte string gets an answer, which depends only on the request, the state and the given
// times.
#pragma once

#include <cstdint>
#include <string_view>

#include "commands.h"
#include "store.h"
#include "stream.h"

namespace connectd::kv {

enum class RequestKind { kWrite, kRead, kReadLocal, kReject, kReply };

// The plugin's status of a request whose reply is an error, or holds one.
constexpr int32_t kStatusOk = 0;
constexpr int32_t kStatusError = 1;

class Engine {
 public:
  explicit Engine(const Limits& limits) : limits_(limits) {}

  // Looks at the request alone. For kReject and kReply it writes the reply. Any thread.
  static RequestKind classify(std::string_view request, const Output& output);

  int32_t read(std::string_view request, int64_t now_ms, int64_t report_ms,
               const Output& output) const;
  int32_t apply(std::string_view request, int64_t now_ms, const Output& output);

  Store& store() { return store_; }
  const Store& store() const { return store_; }

 private:
  void execute(const Arguments& arguments, int64_t now_ms, Reply& reply);

  const Limits limits_;
  Store store_;
};

}  // namespace connectd::kv

// Every limit and time-out of the HTTP port.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/clock.h"

namespace connectd::admin {

// ---- connections

// Descriptors may allow fewer (app/descriptors.h).
inline constexpr size_t kMaxConnections = 1024;
// So many of them, or a quarter if they are few, carry one request each, which is no call: probes
// and connectctl find them whatever the others do.
inline constexpr size_t kReservedConnections = 64;
constexpr size_t reserved_connections(size_t all) {
  return all / 4 < kReservedConnections ? all / 4 : kReservedConnections;
}
// Some of those can always be closed for another, whatever is in progress, unless there are fewer
// than kReservedConnections (admin/shares.h).
inline constexpr size_t kMinWaiting = 8;
// A connection that was used within this time is not idle: its next request may be on its way.
inline constexpr Duration kIdlePatience = std::chrono::seconds(5);
// When nothing could connect for kFullPatience, who has sent nothing for kPatience makes room, and
// what has begun and takes longer: a request, or the reading of an answer.
inline constexpr Duration kPatience = std::chrono::seconds(1);
inline constexpr Duration kFullPatience = std::chrono::milliseconds(200);
// Requests in progress, with their answers: a body that does not fit is refused. One request may
// always have max_request.
inline constexpr size_t kMaxHeldBytes = 128 << 20;
// The request line and all headers; also chunk headers and trailers of one body, beside the bytes
// that frame chunks of any size.
inline constexpr uint32_t kMaxHeaderBytes = 16 << 10;
inline constexpr size_t kMaxHeaders = 128;  // each costs some memory of its own
inline constexpr size_t kChunkFramingPerByte = 16;
inline constexpr size_t kReadBytes = 8 << 10;
inline constexpr size_t kMaxReadBuffer = kMaxHeaderBytes + kReadBytes;
// What a connection holds for a request beside its body: its buffer, and the headers, parsed.
inline constexpr size_t kHeadBytes = 64 << 10;
// Of a text that is not understood, an error shows so much.
inline constexpr size_t kMaxShownText = 32;
// A client that is slower with the headers of one request, with its body, or to read one answer, is
// closed.
inline constexpr Duration kRequestTimeout = std::chrono::seconds(10);
// Between two requests of one connection.
inline constexpr Duration kIdleTimeout = std::chrono::seconds(60);

// ---- /livez

// The loop has published no status for this long: /livez fails.
inline constexpr Duration kLoopHangs = std::chrono::seconds(5);

// ---- /v1/cluster

// For each of the other members.
inline constexpr Duration kMemberTimeout = std::chrono::seconds(2);
inline constexpr size_t kMaxMemberAnswer = 1 << 20;
// Requests in progress; each asks all other members.
inline constexpr size_t kMaxClusterQueries = 8;

// ---- /v1/call and /v1/admin/: requests in progress

inline constexpr size_t kMaxCalls = 256;
inline constexpr size_t kMaxAdminRequests = 16;

// Replies to calls that are made and not sent. From the first on no call begins, and no read of one
// is executed. Beyond the second a reply is dropped, and the answer says so.
inline constexpr size_t kCallRepliesPause = kMaxHeldBytes / 2;
inline constexpr size_t kCallRepliesMax = kMaxHeldBytes;
// Of this size a reply always has room: at most kMaxCalls of them.
inline constexpr size_t kSmallCallReply = 4 << 10;

// ---- what the loop answers

// What a call may take longer than ServerOptions::call_timeout before the server answers itself.
inline constexpr Duration kCallGrace = std::chrono::seconds(2);
// Timeout of a membership change, settings or leadership.
inline constexpr Duration kChangeTimeout = std::chrono::seconds(5);
inline constexpr size_t kMaxSettingBytes = 256;
// A snapshot verb that was not answered by then; taking one is not waited for.
inline constexpr Duration kSnapshotTimeout = std::chrono::seconds(30);
// Of a snapshot file, in one answer.
inline constexpr size_t kMaxSnapshotPiece = 4 << 20;

}  // namespace connectd::admin

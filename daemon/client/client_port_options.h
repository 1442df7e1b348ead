// The limits of the client port and the counters of its connections. No sockets.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "node/service.h"

namespace connectd::client {

struct ClientPortOptions {
  std::optional<node::Framing> framing;  // none: what the plugin declares
  size_t max_connections = 10000;
  bool lacks_descriptors = false;  // max_connections is what the limit of open files permits
  // Of one connection in one turn: then others come first.
  size_t requests_per_turn = 128;
  size_t bytes_per_turn = size_t{1} << 20;  // of requests
  // Of all connections together, in progress at the node. At this bound a connection that has none
  // may begin one, and the others begin theirs in turn (client/shared.h).
  size_t begun_requests_max = 5120;
  // The same in bytes: 1 MiB, or what the node answers in begun_time, as measured, if that is less;
  // at least begun_bytes_least. So a small request never waits long behind large ones. And so much
  // that the node has room for one more, whatever its limit.
  std::chrono::nanoseconds begun_time = std::chrono::milliseconds(1250);
  size_t begun_bytes_least = size_t{512} << 10;
  size_t begun_bytes_usual = size_t{1} << 20;
  size_t begun_bytes_most = size_t{64} << 20;
  // Of one connection: while one of these is reached, it begins no request.
  size_t pipelined_max = 4096;                  // requests without a reply
  size_t pending_bytes_max = size_t{8} << 20;   // of those requests
  size_t output_pause_bytes = size_t{1} << 20;  // replies that the client has not taken
  // Then requests are still received and kept, up to this; nothing more is read after that.
  size_t kept_bytes_max = size_t{64} << 20;
  // More than this, and the client does not read: its connection closes.
  size_t output_bytes_max = size_t{64} << 20;
  // Replies that clients have not taken, over all connections: at this bound no connection begins a
  // request (client/shared.h).
  size_t replies_bytes_max = size_t{256} << 20;
  // Takes no byte of its replies for so long: the connection closes.
  std::chrono::milliseconds stall_timeout{60000};
  // The same while other connections wait for room: it took less than kProgressBytes.
  std::chrono::milliseconds short_stall_timeout{5000};
  // Received bytes that are not begun, over all connections, not counting what every connection may
  // hold: incomplete requests, and up to half of this for requests that are kept.
  size_t input_bytes_max = size_t{256} << 20;
  // An incomplete large request ends its connection when less than kProgressBytes of it arrive in
  // this time, or in short_stall_timeout while other connections wait for room.
  std::chrono::milliseconds half_sent_timeout{30000};
  // A connection that was silent for so long gives back all but a small buffer.
  std::chrono::milliseconds idle_time{10000};
  // After its last reply a connection that ends is read from for so long, unless the client closes.
  std::chrono::milliseconds linger_time{2000};
  // A client that must say who it is has so long; half of max_connections are for such clients.
  std::chrono::milliseconds unknown_timeout{10000};
  // How often these times are looked at.
  std::chrono::milliseconds sweep_interval{1000};
};

struct ClientPortCounters {
  uint64_t accepted = 0;
  uint64_t rejected = 0;    // over max_connections, or no descriptors left
  uint64_t requests = 0;    // handed to the node
  uint64_t bad_frames = 0;  // connections closed for bytes that were not understood
  uint64_t too_large = 0;
  uint64_t stalled = 0;    // connections closed because the client did not read
  uint64_t half_sent = 0;  // connections closed because a request did not arrive in time
  uint64_t unknown = 0;    // connections closed because the client did not say who it is
  uint64_t trims = 0;      // how often freed memory was given back to the system
};

}  // namespace connectd::client

// What the conversations of one port have in common: the bytes that they hold together.
//
// Replies that clients have not taken are bounded for each connection and for all of them (ADR 38).
// A connection begins a request only while it has room: it holds less than output_pause_bytes, and
// less than an eighth of what is free of the first half of the common bound. So the share of one
// connection falls as the sum grows, and clients that do not read cannot use up the bound. The
// second half is for connections that hold no replies: these may begin requests until the bound is
// reached. Then they wait, and connections that make no progress are closed (Conversation::sweep).
//
// Received requests that are not begun are kept while half of input_bytes_max has room for them,
// and a connection gets at most half of what is free there: then it is not read from. An incomplete
// request may use all of input_bytes_max, and reserves what it will need. At that bound its
// connection waits, except for one at a time, which completes its request beyond the bound:
// otherwise requests of unknown length could wait for each other for ever.
//
// Few requests are in progress at a time, over all connections, so that a request waits only for
// those before it at the node, and not for all that pipelining connections have sent. Their number
// is fixed; their bytes are what the node answers in a part of client.request_timeout, so that they
// do not expire there. Connections that have requests in progress and want to begin more do so in
// turn, a limited number each. Requests of a connection that does not read its replies do not
// count.
//
// Loop thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "client/client_port_options.h"
#include "node/service.h"

namespace connectd::client {

using SteadyTime = std::chrono::steady_clock::time_point;

class ConversationDriver;

// What connections wait for in the queues of Shared: to have room for replies, for the rest of an
// incomplete request, or to begin a request in turn.
enum class Room : uint8_t { kReplies, kInput, kTurn };

struct Shared {
  const ClientPortOptions options;
  node::Service& service;
  ClientPortCounters counters{};
  size_t large_input_bytes = 0;  // used or reserved in buffers over kBusyInputBytes
  size_t unsent_bytes = 0;       // replies that are not sent
  size_t most_bytes = 0;         // the most of both together since memory was given back
  // Connections without replies that wait until the sum is below the bound, in order of arrival.
  std::deque<ConversationDriver*> waiting{};

  // May a connection that has `unsent` bytes of replies begin a request?
  bool has_room(size_t unsent) const;
  // Connections wait for room, and most of the bound is in use.
  bool is_short() const;

  // Connections with an incomplete request that wait for room for its rest, in order of arrival.
  std::deque<ConversationDriver*> input_waiting{};
  ConversationDriver* over_bound = nullptr;  // the one that completes its request beyond the bound
  // May so many more bytes be received for requests that cannot begin?
  bool may_keep(size_t more) const;
  // For a request that is incomplete? The driver may become `over_bound`.
  bool may_receive(size_t more, ConversationDriver* driver);
  bool has_input_room() const {
    return large_input_bytes < options.input_bytes_max || over_bound == nullptr;
  }
  // In progress at the node, without those of connections that have no room for replies.
  size_t begun_requests = 0;
  size_t begun_bytes = 0;
  size_t begun_bytes_max = std::min(options.begun_bytes_usual, options.begun_bytes_most);
  size_t answered_bytes = 0;                        // of requests, since the last measurement
  std::deque<ConversationDriver*> begin_waiting{};  // to begin a request
  const ConversationDriver* in_turn = nullptr;      // it was taken from the front
  bool has_begin_room() const {
    return begun_requests < options.begun_requests_max && begun_bytes < begun_bytes_max;
  }
  // Connections wait, and there may be room for one of them.
  bool may_wake() const;
  // Gives those that wait what room there is, in order of arrival. Not from within a turn of a
  // connection. When may_wake() afterwards, it is to be called again after other events.
  void wake();

  // May a connection begin a request, though it has some in progress?
  bool may_begin(const ConversationDriver* driver) const;
  // One turn for each connection that waits to begin a request, as long as there is room.
  void give_turns();
  // Sets begun_bytes_max by what was answered since the last call.
  void measure(std::chrono::nanoseconds elapsed);

  // The parts of wake().
  void wake_waiting();
  void wake_input_waiting();

  size_t held_bytes() const { return large_input_bytes + unsent_bytes; }
  void note_most() { most_bytes = std::max(most_bytes, held_bytes()); }
};

}  // namespace connectd::client

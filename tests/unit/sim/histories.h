// Histories for the tests of the checkers: by hand, and drawn.
//
// A drawn history is one that a correct cluster could have shown: clients call, each operation
// takes effect at a moment between its call and its return (of unknown outcome: at any later
// moment, or never), on one copy of the state, and replies with what it found there.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "sim/history.h"

namespace connectd::sim {

inline std::string resp(const std::vector<std::string>& words) {
  std::string bytes = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words) {
    bytes += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
  }
  return bytes;
}
inline std::string bulk(const std::string& text) {
  return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
}
inline const std::string kNull = "$-1\r\n";

// A request as the tests know it, and a state machine of theirs: as simple as can be, and not the
// models that are tested.
struct Request {
  std::string name;  // "incr" and "get" of the counter, or a command of the kv
  std::string key, value;

  bool is_write() const { return name != "get" && name != "GET" && name != "STRLEN"; }
  std::string bytes() const {
    if (key.empty()) return name;
    return value.empty() ? resp({name, key}) : resp({name, key, value});
  }
};

inline const Request kGet{"get", "", ""};
inline constexpr OutcomeKind kRefused = OutcomeKind::kRefused;

struct SimpleMachine {
  uint64_t count = 0;
  std::map<std::string, std::string> values;

  std::string execute(const Request& r) {
    if (r.name.starts_with("incr")) return std::to_string(++count) + "\n";
    if (r.name == "get") return std::to_string(count) + "\n";
    auto at = values.find(r.key);
    std::string old = at == values.end() ? kNull : bulk(at->second);
    if (r.name == "GET") return old;
    if (r.name == "SET") {
      values[r.key] = r.value;
      return "+OK\r\n";
    }
    if (r.name == "GETSET") {
      values[r.key] = r.value;
      return old;
    }
    if (r.name == "APPEND") return ":" + std::to_string((values[r.key] += r.value).size()) + "\r\n";
    if (r.name == "DEL") return values.erase(r.key) > 0 ? ":1\r\n" : ":0\r\n";
    if (r.name == "STRLEN") {
      return ":" + std::to_string(at == values.end() ? 0 : at->second.size()) + "\r\n";
    }
    if (r.name == "INCR") {
      long long number = at == values.end() ? 0 : std::stoll(at->second);
      values[r.key] = std::to_string(number + 1);
      return ":" + values[r.key] + "\r\n";
    }
    return "?";
  }
};

// ---- by hand

inline Operation answered(uint64_t client, const Request& request, uint64_t call, uint64_t returned,
                          std::string reply, uint64_t index = 0) {
  Operation operation;
  operation.client = client;
  operation.is_write = request.is_write();
  operation.request = request.bytes();
  operation.called = Time(Duration(call));
  operation.call_order = call;
  operation.returned = Time(Duration(returned));
  operation.return_order = returned;
  operation.outcome = OutcomeKind::kOk;
  operation.reply = std::move(reply);
  operation.index = Index(index);
  return operation;
}
inline Operation unanswered(uint64_t client, const Request& request, uint64_t call,
                            OutcomeKind outcome = OutcomeKind::kUnknown) {
  Operation operation = answered(client, request, call, UINT64_MAX, "");
  operation.returned = Time::max();
  operation.outcome = outcome;
  return operation;
}

// ---- drawn

struct DrawOptions {
  size_t operations = 6;
  size_t clients = 3;
  size_t pipelined_max = 3;  // operations in flight on a connection
  double unknown_percent = 15;
  double refused_percent = 5;
  std::function<Request(Random&)> request;
};

struct Drawn {
  History history;
  std::vector<Request> requests;  // of each operation
  std::vector<size_t> effects;    // in the order in which they took effect; reads too
};

inline Drawn draw_history(Random& random, const DrawOptions& options) {
  Drawn drawn;
  SimpleMachine machine;
  uint64_t order = 0;
  uint64_t connections = options.clients;
  struct Client {
    uint64_t connection;
    std::vector<size_t> called, done;  // not yet in effect; in effect, not yet answered
  };
  std::vector<Client> clients(options.clients);
  for (size_t i = 0; i < clients.size(); ++i) clients[i].connection = i;
  std::vector<size_t> floating;  // of unknown outcome, without effect so far
  auto take_effect = [&](size_t at) {
    drawn.history[at].reply = machine.execute(drawn.requests[at]);
    drawn.effects.push_back(at);
    drawn.history[at].index = Index(drawn.effects.size());
  };
  auto pop = [](std::vector<size_t>& from) {
    size_t at = from.front();
    from.erase(from.begin());
    return at;
  };
  for (;;) {
    bool all_called = drawn.history.size() == options.operations;
    bool idle = std::ranges::all_of(
        clients, [](const Client& c) { return c.called.empty() && c.done.empty(); });
    if (all_called && idle) break;
    if (!floating.empty() && random.chance(10)) {
      size_t which = random.below(floating.size());
      take_effect(floating[which]);
      floating.erase(floating.begin() + static_cast<ptrdiff_t>(which));
    }
    Client& client = clients[random.below(clients.size())];
    switch (random.below(3)) {
      case 0: {
        // A connection starts a run of one kind only when the other kind is answered.
        if (all_called || client.called.size() + client.done.size() >= options.pipelined_max) break;
        Request request = options.request(random);
        auto other_kind = [&](size_t at) {
          return drawn.history[at].is_write != request.is_write();
        };
        if (std::ranges::any_of(client.called, other_kind) ||
            std::ranges::any_of(client.done, other_kind)) {
          break;
        }
        client.called.push_back(drawn.history.size());
        Operation operation = unanswered(client.connection, request, ++order);
        drawn.history.push_back(std::move(operation));
        drawn.requests.push_back(std::move(request));
        break;
      }
      case 1: {
        if (client.called.empty()) break;
        size_t at = pop(client.called);
        Operation& operation = drawn.history[at];
        if (random.chance(options.refused_percent)) {
          operation.outcome = OutcomeKind::kRefused;
          operation.return_order = ++order;
        } else if (operation.is_write && random.chance(options.unknown_percent)) {
          if (random.chance(50)) floating.push_back(at);
          // The connection is lost, and its operations in flight with it.
          for (size_t lost : client.called) {
            if (drawn.history[lost].is_write && random.chance(50)) floating.push_back(lost);
          }
          for (size_t lost : client.done) drawn.history[lost].reply.clear();
          client = {connections++, {}, {}};
        } else {
          take_effect(at);
          client.done.push_back(at);
        }
        break;
      }
      default: {
        if (client.done.empty()) break;
        Operation& operation = drawn.history[pop(client.done)];
        operation.outcome = OutcomeKind::kOk;
        operation.return_order = ++order;
        operation.returned = Time(Duration(order));
      }
    }
  }
  for (Operation& operation : drawn.history) {
    if (operation.outcome != OutcomeKind::kOk) {
      operation.reply.clear();
      operation.index = Index();
    }
  }
  return drawn;
}

inline Request counter_request(Random& random) {
  return {random.chance(60) ? "incr" : "get", "", ""};
}
// Few keys and short values, so that operations meet.
inline std::function<Request(Random&)> kv_requests(size_t keys) {
  return [keys](Random& random) -> Request {
    std::string key = "k" + std::to_string(random.below(keys));
    std::string digit = std::to_string(1 + random.below(3));
    switch (random.below(8)) {
      case 0:
        return {"SET", key, digit};
      case 1:
        return {"APPEND", key, digit};
      case 2:
        return {"DEL", key, ""};
      case 3:
        return {"INCR", key, ""};
      case 4:
        return {"GETSET", key, digit};
      case 5:
        return {"STRLEN", key, ""};
      default:
        return {"GET", key, ""};
    }
  };
}

}  // namespace connectd::sim

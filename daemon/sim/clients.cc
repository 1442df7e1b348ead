// What asks, and what is noted of the answers.

#include <algorithm>

#include "base/log.h"
#include "sim/describe.h"
#include "sim/simulation_impl.h"

namespace connectd::sim {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {
// The latest answer to a request: this long after its deadline, by its node's clock, without
// pauses.
constexpr Duration kAnswerSlack = seconds(1);
constexpr size_t kMaxOutstanding = 40;
}  // namespace

// The limits of the client port, often so small that they are reached.
void Simulation::Impl::draw_client_limits() {
  Random& random = link_random_;
  if (!options_.requests.empty()) port_.framing = node::Framing::kLength;  // may be any bytes
  if (random.chance(50)) port_.pipelined_max = random.between(1, 8);
  if (random.chance(30)) port_.pending_bytes_max = random.between(1, 1000);
  if (random.chance(50)) port_.output_pause_bytes = random.between(1, 300);
  if (random.chance(30)) port_.begun_requests_max = random.between(1, 8);
  if (random.chance(50)) port_.kept_bytes_max = random.between(0, 300);
  if (random.chance(20)) port_.output_bytes_max = random.between(1000, 8000);
  if (random.chance(70)) socket_bytes_ = random.between(1, 200);
  port_.stall_timeout = milliseconds(option_random_.between(1000, 10'000));
  port_.idle_time = milliseconds(500);
  // Over all connections of a node.
  Random& rare = option_random_;
  if (rare.chance(30)) port_.replies_bytes_max = rare.between(10, 2000);
  if (rare.chance(20)) port_.begun_bytes_usual = port_.begun_bytes_most = rare.between(100, 5000);
}

void Simulation::Impl::open(Client& client) {
  client.connection = next_connection_++;
  Process& p = *client.process;
  SimPort& port = client.is_probe ? *p.probe_port : *p.port;
  client.link = std::make_unique<ClientLink>(port, socket_bytes_, link_random_, client, timeline_);
}

void Simulation::Impl::open_ports(Process& p) {
  client::ClientPortOptions options;
  options.framing = port_.framing;
  p.port = std::make_unique<SimPort>(*p.node, port_);
  p.probe_port = std::make_unique<SimPort>(*p.node, options);
  p.wakes_port = false;
}

// As in production, after the events that are there now.
void Simulation::Impl::wake_port(Process& p) {
  if (std::exchange(p.wakes_port, true)) return;
  when_free(p, now(), [this, at = &p] {
    if (!at->up()) return;
    at->node->set_now(at->clock.now(now()));
    for (SimPort* port : {at->port.get(), at->probe_port.get()}) port->shared().wake();
    at->wakes_port = false;  // not before: their turns would ask for this again
    schedule_turn(*at, now());
    const client::Shared& shared = at->port->shared();
    if (!shared.begin_waiting.empty() && shared.may_wake()) wake_port(*at);
  });
}

void Simulation::Impl::drop(Client& client) {
  for (size_t at : client.outstanding) {
    history_[at].outcome = OutcomeKind::kUnknown;
    if (history_[at].is_write) ++report_.unknown;
  }
  client.outstanding.clear();
  client.link.reset();
  client.carry_at = Time::max();
  // What it held is free for others.
  Process* p = client.process;
  if (p != nullptr && p->port && p->port->shared().may_wake()) wake_port(*p);
}

void Simulation::Impl::close(Client& client) {
  if (client.link->is_ending()) return;
  if (link_random_.chance(50)) return drop(client);
  client.link->end();
  carry_later(client);
}

void Simulation::Impl::drop_clients_of(Process& p) {
  for (auto* clients : {&clients_, &probes_}) {
    for (auto& client : *clients) {
      if (client->process == &p) drop(*client);
    }
  }
}

void Simulation::Impl::submit(Client& client) {
  submit(client, workload_->next(client_random_, client.is_probe     ? 100
                                                 : client.only_reads ? 0
                                                                     : write_percent_));
}

void Simulation::Impl::submit(Client& client, const Workload::Request& request) {
  Operation operation;
  operation.client = client.connection;
  operation.is_write = request.is_write;
  operation.request = request.bytes;
  operation.called = now();
  operation.call_order = next_order_++;
  checkers_.called(operation);
  node::ReadOptions read;
  if (!request.is_write && reads_have_levels_) {
    const uint64_t level = read_random_.below(100);
    if (level < 40) {
      read.level = node::ReadLevel::kLease;
      if (clocks_are_wild_) checkers_.called_stale(operation, Index(), Time::min());
    } else if (level < 70) {
      read.level = node::ReadLevel::kStale;
      if (read_random_.chance(40)) read.min_index = checkers_.shown();
      Time fresh_since = Time::min();
      if (read_random_.chance(50)) {
        const bool is_short = read_random_.chance(50);
        read.max_age = draw(read_random_, Duration(0), is_short ? milliseconds(50) : seconds(1));
        // Of the node's own time, which may be slow.
        fresh_since = now() - *read.max_age * 1000 / static_cast<int64_t>(slowest_clock_);
      }
      checkers_.called_stale(operation, read.min_index, fresh_since);
    }
  }
  // Before the submission, because the reply may come during it.
  client.outstanding.push_back(history_.size());
  history_.push_back(std::move(operation));
  waiting_.emplace_back().read = read;
  // Of 64 KiB where the framing has no shorter one.
  const bool is_resp = client.process->node->framing() == node::Framing::kResp;
  if (link_random_.chance(is_resp ? 3 : 0.1)) client.link->send_own();
  client.link->send(history_.size() - 1, request.bytes);
  carry_later(client);
}

node::ReadOptions Simulation::Impl::submitting(Client& client, size_t operation) {
  Waiting& waiting = waiting_[operation];
  waiting.process = client.process;
  waiting.local = client.process->clock.local(now());
  waiting.paused = client.process->paused_total(now());
  return waiting.read;
}

// ---- bytes in flight

Simulation::Impl::Client* Simulation::Impl::client_on(uint64_t connection) {
  for (auto* clients : {&clients_, &probes_}) {
    for (auto& client : *clients) {
      if (client->link && client->connection == connection) return client.get();
    }
  }
  return nullptr;
}

void Simulation::Impl::carry_later(Client& client) {
  const bool is_for_client =
      client.link && !client.link->is_closed() && !client.link->has_bytes(false);
  Time time = is_for_client ? std::max(now(), client.slow_until) : now();
  if (client.carry_at <= time) return;
  Random& random = link_random_;
  time +=
      draw(random, Duration(0), random.chance(80) ? microseconds(50) : Duration(milliseconds(2)));
  client.carry_at = time;
  // A probe is gone sooner than its connection's last event.
  when_free(*client.process, time, [this, time, connection = client.connection] {
    Client* at = client_on(connection);
    if (at != nullptr && at->carry_at == time) carry(*at);
  });
}

void Simulation::Impl::carry(Client& client) {
  client.carry_at = Time::max();
  Process& p = *client.process;
  p.node->set_now(p.clock.now(now()));
  const bool takes = now() >= client.slow_until;
  if (client.slow_may_bite && client.link->take_waited()) {
    bite(Fault::kSlowReader);
    client.slow_may_bite = false;
  }
  if (takes) client.slow_may_bite = false;
  client.link->carry(takes);
  timeline_.note('B', client.number, client.link->has_bytes(true), client.link->is_closed());
  schedule_turn(p, now());
  if (client.link->is_closed()) return drop(client);
  if (client.link->has_bytes(true)) carry_later(client);
}

void Simulation::Impl::arm_slow_readers() {
  every(Fault::kSlowReader, milliseconds(500), milliseconds(4000), [this](Random& r) {
    if (clients_.empty()) return;
    count(Fault::kSlowReader);
    slow_down(*clients_[r.below(clients_.size())],
              draw(r, milliseconds(100), milliseconds(r.chance(20) ? 10000 : 2000)));
  });
}

void Simulation::Impl::slow_down(Client& client, Duration length) {
  client.slow_until = now() + length;
  client.slow_may_bite = true;
  if (client.link) client.link->take_waited();
  timeline_.trace("client {} takes nothing for {} ms", client.number, length / milliseconds(1));
}

// Requests that the client prevented the node from answering get a new timeout.
void Simulation::Impl::give_time_again(Client& client) {
  for (size_t at : client.outstanding) {
    if (waiting_[at].process != nullptr) submitting(client, at);
  }
}

// ---- requests

void Simulation::Impl::client_act(Client& client) {
  if (stopped() || !clients_on_) return;
  Random& random = client_random_;
  const bool hurries = client.only_reads && clocks_are_wild_;
  if (client.link && random.chance(hurries ? 30 : client.only_reads ? 10 : 1)) {
    // On a partitioned leader, a reader that waited for its replies would send no more requests.
    hurries ? drop(client) : close(client);
  }
  if (!client.link && client.outstanding.empty() && !client.only_reads && random.chance(20)) {
    client.process = processes_[random.below(processes_.size())].get();
  }
  Process& p = *client.process;
  if (p.up() && !p.paused && now() >= p.in_turn_until) {
    if (!client.link) open(client);
    size_t burst = random.chance(20) ? random.between(2, 20) : 1;
    const bool one_by_one = calm_ || !faults_on_;
    if (one_by_one) burst = 1;
    const size_t limit = one_by_one ? 1 : kMaxOutstanding;
    if (client.link->is_ending() || client.link->is_closed()) burst = 0;
    for (size_t i = 0; i < burst && client.outstanding.size() < limit; ++i) {
      submit(client);
      if (active_.has(Fault::kLargeRequests) && faults_on_) send_large(client);
    }
    schedule_turn(p, now());
  }
  // After the safety phase, the load is below the smallest limits: the check is that the effects of
  // the faults end, not that a queue drains.
  const int slower = faults_on_ ? 1 : 10;
  timeline_.after(slower * draw(random, microseconds(500), milliseconds(30)),
                  [this, at = &client] { client_act(*at); });
}

void Simulation::Impl::replied(Client& client, const node::Reply& reply) {
  CHECK(!client.outstanding.empty());
  const size_t at = client.outstanding.front();
  client.outstanding.pop_front();
  Operation& operation = history_[at];
  operation.returned = now();
  operation.return_order = next_order_++;
  operation.reply = as_text(reply.bytes);
  operation.status = reply.status;
  operation.index = reply.index;
  timeline_.note('R', at, static_cast<uint64_t>(reply.code), reply.index.value());
  timeline_.trace("client {} at node {}: {} -> {} {} index={}", client.number, client.process->id,
                  quoted(operation.request), node::reply_code_name(reply.code),
                  quoted(operation.reply), reply.index);
  const Waiting& waiting = waiting_[at];
  Duration took = client.process->clock.local(now()) - waiting.local;
  Duration paused =
      (client.process->paused_total(now()) - waiting.paused) * 2;  // rates are up to 2
  if (took > kRequestTimeout + kAnswerSlack + paused) {
    checkers_.fail(fmt::format("answered in time: {} took {} ms", quoted(operation.request),
                               took / milliseconds(1)));
  }
  switch (reply.code) {
    case node::ReplyCode::kTooLarge:
      checkers_.fail(fmt::format("request limit: a request of {} bytes is too large",
                                 operation.request.size()));
      break;
    case node::ReplyCode::kOk:
      if (operation.is_large) bite(Fault::kLargeRequests);
      operation.outcome = reply.plugin_refused ? OutcomeKind::kRefused : OutcomeKind::kOk;
      ++(operation.is_write ? report_.acknowledged : report_.reads);
      if (client.is_probe && operation.is_write) client.probe_done = true;
      break;
    case node::ReplyCode::kUnknown:
      operation.outcome = OutcomeKind::kUnknown;
      operation.returned = Time::max();
      operation.return_order = UINT64_MAX;
      ++report_.unknown;
      break;
    case node::ReplyCode::kDiskFull:
      if (client.process->disk_is_full) bite(*client.process, Fault::kDiskFull);
      [[fallthrough]];
    default:
      operation.outcome = OutcomeKind::kRefused;
      ++report_.refused;
  }
  checkers_.replied(operation);
}

void Simulation::Impl::look_for_late_answers() {
  for (auto& p : processes_) {
    if (p->up() && !p->paused) p->port->shared().measure(milliseconds(500));
  }
  for (auto* clients : {&clients_, &probes_}) {
    for (auto& client : *clients) {
      if (!client->link || !client->process->up()) continue;
      Process& p = *client->process;
      if (p.paused || now() < p.in_turn_until) continue;
      p.node->set_now(p.clock.now(now()));
      client->link->sweep();
      schedule_turn(p, now());
      if (client->outstanding.empty() || client->link->is_congested() || p.wakes_port) continue;
      if (waiting_[client->outstanding.front()].process == nullptr) continue;
      const Waiting& waiting = waiting_[client->outstanding.front()];
      Duration took = p.clock.local(now()) - waiting.local;
      Duration paused = (p.paused_total(now()) - waiting.paused) * 2;
      if (took > kRequestTimeout + kAnswerSlack + paused) {
        checkers_.fail(fmt::format("answered in time: {} at node {} has no answer after {} ms",
                                   quoted(history_[client->outstanding.front()].request), p.id,
                                   took / milliseconds(1)));
      }
    }
  }
  timeline_.after(milliseconds(500), [this] {
    if (!stopped()) look_for_late_answers();
  });
}

}  // namespace connectd::sim

// Sizes that bind: requests near and over the largest one, and links between nodes whose buffers
// hold little more than a window and one message.
#include <algorithm>
#include <utility>

#include "sim/simulation_impl.h"

namespace connectd::sim {

using std::chrono::seconds;

namespace {
// A request of this much less than the largest one is large.
constexpr size_t kNear = 40;
// By then a connection that is to break has broken, however quiet its other end is.
constexpr Duration kBreaks = seconds(4);
}  // namespace

void Simulation::Impl::draw_sizes() {
  if (!options_.requests.empty()) return;  // of any size
  if (active_.has(Fault::kLargeRequests)) {
    Random& random = fault_random_[static_cast<size_t>(Fault::kLargeRequests)];
    genesis_.max_request = random.between(400, 4000);
  }
  if (!active_.has(Fault::kSmallLinks)) return;
  Random& random = fault_random_[static_cast<size_t>(Fault::kSmallLinks)];
  window_bytes_ = random.between(500, 8000);
  if (!active_.has(Fault::kLargeRequests)) genesis_.max_request = random.between(400, 2000);
  // As wire::kMaxInflightBytes: the window, one message, and some room for others.
  output_bytes_ =
      window_bytes_ + genesis_.max_request + wire::kMaxRequestOverhead + random.below(2000);
  network_.set_small_sockets(random.between(300, 4000));
}

// What one window holds fits in a link, as it does with the options of production.
void Simulation::Impl::scale_options(node::NodeOptions& options) {
  if (window_bytes_ == 0) return;
  options.raft.inflight_bytes = std::min(options.raft.inflight_bytes, window_bytes_);
  const size_t message = window_bytes_ / 4;
  options.raft.max_append_bytes = std::min(options.raft.max_append_bytes, message);
  options.holder.forward_bytes = std::min(options.holder.forward_bytes, message);
  options.chunk_bytes = std::min(options.chunk_bytes, message);
}

// A message that is dropped breaks the connection that took an earlier one.
void Simulation::Impl::send_on_small_link(Process& from, NodeId to, wire::PeerMessage message) {
  auto counters = [&] {
    const auto all = from.peers->counters();
    const auto found = all.find(to);
    return found == all.end() ? transport::PeerCounters() : found->second;
  };
  const uint64_t connection = network_.connection_of(from.id, to);
  const transport::PeerCounters before = counters();
  from.peers->send(to, std::move(message));
  const transport::PeerCounters after = counters();
  auto& [took, breaks] = from.links[to];
  if (after.messages_sent > before.messages_sent) took = connection;
  if (after.messages_dropped == before.messages_dropped || connection == 0) return;
  if (took != connection || std::exchange(breaks, connection) == connection) return;
  count(Fault::kSmallLinks);
  bite(Fault::kSmallLinks);
  timeline_.after(
      kBreaks, [this, at = &from, to, connection, life = from.life, pauses = from.pauses] {
        const bool ran = at->life == life && at->pauses == pauses && !at->paused;
        if (stopped() || !ran || network_.connection_of(at->id, to) != connection) return;
        checkers_.fail(fmt::format(
            "links: node {} drops a message to node {}, and their connection stands", at->id, to));
      });
}

// Beside the others, so that they stay what they are without this fault.
void Simulation::Impl::send_large(Client& client) {
  Random& random = fault_random_[static_cast<size_t>(Fault::kLargeRequests)];
  if (!options_.requests.empty() || client.only_reads || !random.chance(5)) return;
  const size_t limit = client.process->node->max_request();
  const size_t bytes = random.between(limit - kNear, limit + kNear);
  const Workload::Request request = workload_->large(random, bytes);
  count(Fault::kLargeRequests);
  if (request.bytes.size() > limit) return client.link->send_too_large(request.bytes);
  submit(client, request);
  history_.back().is_large = true;
}

}  // namespace connectd::sim

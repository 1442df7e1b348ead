#include "node/snapshots/snapshot_sender.h"

#include <algorithm>
#include <utility>

#include "base/log_event.h"

namespace connectd::node {

void SnapshotSender::begin(NodeId peer, Term term, Index first_index, Time now, Effects& out) {
  Stream& stream = streams_[peer] = Stream{};
  stream.term = term;
  stream.heard = stream.asked_at = now;
  auto refused = refusals_.find(peer);
  if (refused != refusals_.end() && now < refused->second.until) {
    stream.begin_at = refused->second.until;
    return;
  }
  auto kept = kept_.find(peer);
  if (kept != kept_.end()) {
    const bool in_time = now - kept->second.since <= kResumePatience;
    std::shared_ptr<storage::SnapshotSource> source = std::move(kept->second.source);
    kept_.erase(kept);
    if (in_time && source->info().mark.index + 1 >= first_index) {
      stream.source = std::move(source);
      open(peer, stream, now, out);
      return;
    }
  }
  out.tasks.push_back(jobs::OpenSource{peer});
}

void SnapshotSender::source_opened(jobs::SourceOpened& opened, Time now, Effects& out) {
  auto found = streams_.find(opened.peer);
  // A stream that began twice made two requests; the first answer counts.
  if (found == streams_.end() || found->second.source || found->second.begin_at) return;
  if (!opened.source) return end(opened.peer, End::kBroken, now, out);
  found->second.source = std::move(opened.source);
  open(opened.peer, found->second, now, out);
}

void SnapshotSender::open(NodeId peer, Stream& stream, Time now, Effects& out) {
  stream.heard = now;
  holds_[peer] = {stream.source->info().mark.index + 1, now};
  log_event(LogEvent::kSnapshotOffering, "offering index={} bytes={} to={}",
            stream.source->info().mark.index, stream.source->info().file_bytes, peer);
  offer(peer, stream, now, out);
}

void SnapshotSender::offer(NodeId peer, Stream& stream, Time now, Effects& out) {
  stream.asked = true;
  stream.asked_at = now;
  out.send(peer, wire::SnapshotOffer{stream.source->file(), stream.term});
}

void SnapshotSender::on_ack(NodeId from, const wire::SnapshotAck& ack, Time now, Effects& out) {
  auto found = streams_.find(from);
  if (found == streams_.end() || !found->second.source ||
      !(found->second.source->file() == ack.file)) {
    return;
  }
  Stream& stream = found->second;
  stream.heard = now;
  switch (ack.state) {
    case wire::SnapshotAck::State::kReceiving: {
      const uint64_t received = std::min(ack.received, ack.file.bytes);
      if (std::exchange(stream.asked, false)) {
        if (!std::exchange(stream.placed, true)) {
          if (received > 0) ++resumed_;
          log_event(LogEvent::kSnapshotSending, "sending index={} bytes={} to={} offset={}",
                    ack.file.mark.index, ack.file.bytes, from, received);
        }
        stream.acked = stream.read = received;
        progressed(from, now);
      } else if (received > stream.acked) {
        stream.acked = received;
        stream.read = std::max(stream.read, received);
        progressed(from, now);
      }
      pump(now, out);
      break;
    }
    case wire::SnapshotAck::State::kWorking:
      progressed(from, now);
      break;
    case wire::SnapshotAck::State::kInstalled:
      end(from, End::kInstalled, now, out);
      break;
    case wire::SnapshotAck::State::kRefused:
      end(from, End::kRefused, now, out);
      break;
  }
}

void SnapshotSender::progressed(NodeId peer, Time now) {
  auto hold = holds_.find(peer);
  if (hold != holds_.end()) hold->second.progressed = now;
}

bool SnapshotSender::wants_chunk(const Stream& stream) const {
  return stream.source && !stream.asked && stream.read < stream.source->info().file_bytes &&
         stream.read < stream.acked + kStreamWindowChunks * chunk_bytes_;
}

// Reads one chunk for each stream in turn, while the rate limit allows it.
void SnapshotSender::pump(Time now, Effects& out) {
  throttled_ = false;
  size_t idle = 0;
  while (idle < streams_.size()) {
    auto next = streams_.upper_bound(served_last_);
    if (next == streams_.end()) next = streams_.begin();
    auto& [peer, stream] = *next;
    if (!wants_chunk(stream)) {
      served_last_ = peer;
      ++idle;
      continue;
    }
    const uint64_t length =
        std::min(rate_.largest(chunk_bytes_), stream.source->info().file_bytes - stream.read);
    if (!rate_.take(length, now)) {
      throttled_ = true;
      return;
    }
    served_last_ = peer;
    idle = 0;
    if (stream.read == stream.acked) stream.heard = now;  // an answer is due from now on
    out.tasks.push_back(jobs::ReadChunk{peer, stream.source, stream.read, length});
    stream.read += length;
  }
}

void SnapshotSender::chunk_read(jobs::ChunkRead& chunk, Time now, Effects& out) {
  auto found = streams_.find(chunk.peer);
  if (found == streams_.end() || found->second.source != chunk.source) return;
  Stream& stream = found->second;
  if (chunk.bytes.empty()) {
    stream.source = nullptr;  // to be opened and verified again
    return end(chunk.peer, End::kBroken, now, out);
  }
  stream.sent += chunk.bytes.size();
  out.send(chunk.peer, wire::SnapshotChunk{chunk.source->file(), stream.term, chunk.offset,
                                           std::move(chunk.bytes)});
}

void SnapshotSender::peer_lost(NodeId peer, Time now, Effects& out) {
  if (streams_.contains(peer)) end(peer, End::kBroken, now, out);
}

void SnapshotSender::lead(bool leads, Term term, Time now) {
  for (auto it = streams_.begin(); it != streams_.end();) {
    if (leads && it->second.term == term) {
      ++it;
      continue;
    }
    keep(it->first, it->second, now);
    it = streams_.erase(it);
  }
  if (!leads) holds_.clear();
}

void SnapshotSender::keep(NodeId peer, Stream& stream, Time now) {
  if (stream.source) kept_[peer] = {std::move(stream.source), now};
}

void SnapshotSender::end(NodeId peer, End how, Time now, Effects& out) {
  auto found = streams_.find(peer);
  Stream stream = std::move(found->second);
  streams_.erase(found);
  raft::SnapshotMark mark;
  if (stream.source) {
    mark = stream.source->info().mark;
    log_event(LogEvent::kSnapshotSent, "transfer ended index={} to={} outcome={} sent={} bytes={}",
              mark.index, peer,
              how == End::kInstalled ? "installed"
              : how == End::kRefused ? "refused"
                                     : "aborted",
              stream.sent, stream.source->info().file_bytes);
  }
  if (how == End::kInstalled) refusals_.erase(peer);
  if (how == End::kBroken) keep(peer, stream, now);
  if (how == End::kRefused) {
    Refusals& refusals = refusals_[peer];
    refusals.pause = std::clamp(2 * refusals.pause, kRefusalPauseMin, kRefusalPauseMax);
    refusals.until = now + refusals.pause;
  }
  out.events.push_back(raft::SnapshotSent{peer, how == End::kInstalled, mark});
}

void SnapshotSender::advance(Time now, Effects& out) {
  for (auto it = streams_.begin(); it != streams_.end();) {
    const NodeId peer = it->first;
    Stream& stream = (it++)->second;
    if (stream.begin_at) {
      if (now < *stream.begin_at) continue;
      stream.begin_at.reset();
      out.tasks.push_back(jobs::OpenSource{peer});
    }
    if (!stream.source) continue;
    const bool waits = stream.asked || stream.read > stream.acked ||
                       stream.acked == stream.source->info().file_bytes;
    if (!waits) continue;
    if (now - stream.heard > kStreamTimeout) {
      end(peer, End::kBroken, now, out);
    } else if (now - std::max(stream.heard, stream.asked_at) > kStreamRetry) {
      offer(peer, stream, now, out);
    }
  }
  pump(now, out);
}

bool SnapshotSender::release(const LogView& log, Time now) {
  bool released = false;
  for (auto it = holds_.begin(); it != holds_.end();) {
    const NodeId id = it->first;
    Hold& hold = it->second;
    auto peer = std::ranges::find(log.peers, id, &raft::PeerStatus::id);
    if (peer != log.peers.end() && peer->match >= hold.from) {
      hold = {peer->match + 1, now};
      released = true;
    }
    const char* why = nullptr;
    if (peer == log.peers.end() ||
        (peer->state == raft::PeerStatus::State::kReplicate && peer->match >= log.snapshot)) {
      why = "";  // compaction does not reach the log it needs
    } else if (log.no_space) {
      why = "this node's disk is full";
    } else if (now - hold.progressed > kResumePatience) {
      why = "it makes no progress";
    } else if (log.bytes_from(hold.from) > log.held_bytes_max) {
      why = "the log exceeds its limit";
    }
    if (why == nullptr) {
      ++it;
      continue;
    }
    if (*why != '\0') {
      log_event(LogEvent::kSnapshotLogReleased,
                "log no longer kept for follower from={} node={}: {}", hold.from, id, why);
    }
    it = holds_.erase(it);
    released = true;
  }
  std::erase_if(kept_, [&](const auto& kept) {
    return log.no_space || now - kept.second.since > kResumePatience;
  });
  return released;
}

std::optional<Index> SnapshotSender::keep_from() const {
  std::optional<Index> from;
  for (const auto& [peer, hold] : holds_) from = std::min(from.value_or(hold.from), hold.from);
  return from;
}

}  // namespace connectd::node

#include "node/disk/worker.h"

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "base/log_event.h"
#include "base/overloaded.h"

namespace connectd::node {
namespace {

// Loads are bounded by the core, chunks by the window of each stream.
constexpr size_t kMaxQueuedDiskTasks = 1 << 16;

void not_measured(const Error& error, Supervisor& supervisor) {
  // Another directory, or perhaps another node, has its place: as a failed disk.
  if (error.kind == ErrorKind::kWrongData) supervisor.fail({ErrorKind::kDisk, error.text});
  log_event(LogEvent::kStorageNotMeasured, "{}", error.text);
}

void log_superseded(Index index) {
  log_event(LogEvent::kSnapshotSuperseded, "transfer superseded index={}; partial file removed",
            index);
}

}  // namespace

Worker::Worker(const Options& options, storage::Log& log, storage::SnapshotStore& snapshots,
               std::shared_ptr<const plugin::Plugin> plugin, Supervisor& supervisor)
    : options_(options),
      log_(log),
      snapshots_(snapshots),
      plugin_(std::move(plugin)),
      supervisor_(supervisor),
      channel_(kMaxQueuedDiskTasks, supervisor) {}

void Worker::submit(Task task) {
  bool may_drop = std::holds_alternative<jobs::ReceiveChunk>(task) ||
                  std::holds_alternative<jobs::TakeOffer>(task);
  bool taken = channel_.submit(std::move(task));
  // A peer may send what it likes; what it means is sent again.
  CHECK(taken || may_drop) << "more tasks for the worker than their makers' bounds allow";
}

bool Worker::poll_once() {
  return channel_.poll([this](Task& task) { work(task); });
}

void Worker::run() {
  worker_.hand_over();  // this thread is the worker now, not the one that polled
  channel_.run([this](Task& task) { work(task); });
  worker_.hand_over();
}

void Worker::work(Task& task) {
  std::visit(Overloaded{
                 [&](jobs::Load& load) {
                   worker_.check();
                   if (!read_entries(load.request)) waiting_loads_.push_back(load.request);
                 },
                 [&](jobs::Compact& compact) {
                   auto first = log_.compact(kept_from(compact));
                   if (!first && is_out_of_resources(first.error().kind)) {
                     // Some file systems need space to remove a file. The next time does the rest.
                     log_event(LogEvent::kStorageNotCompacted, "{}", first.error().text);
                   } else if (!first) {
                     supervisor_.fail(first.error());
                   } else {
                     put(jobs::Compacted{*first});
                   }
                 },
                 [&](jobs::PrepareSegment&) {
                   worker_.check();
                   auto prepared = log_.prepare_next_segment();
                   // The log continues without: append() makes a small segment itself.
                   if (!prepared && !preparing_failed_) {
                     log_event(LogEvent::kStorageNotPreallocated,
                               "cannot preallocate a log segment: {}", prepared.error().text);
                   }
                   preparing_failed_ = !prepared;
                   put(jobs::SegmentPrepared{
                       prepared.has_value(),
                       !prepared && prepared.error().kind == ErrorKind::kNoDescriptors});
                 },
                 [&](jobs::CheckSpace&) {
                   worker_.check();
                   std::erase_if(waiting_loads_, [&](const auto& load) {
                     worker_.check();
                     return read_entries(load);
                   });
                   auto free_bytes = options_.files->free_bytes(options_.data_dir);
                   if (free_bytes) {
                     put(jobs::SpaceChecked{*free_bytes});
                   } else {
                     not_measured(free_bytes.error(), supervisor_);
                   }
                 },
                 [&](jobs::OpenSource& open) { open_source(open); },
                 [&](jobs::ReadChunk& read) {
                   auto bytes = read.source->read(read.offset, read.length);
                   if (!bytes) log_event(LogEvent::kSnapshotNotRead, "{}", bytes.error().text);
                   put(jobs::ChunkRead{read.peer, std::move(read.source), read.offset,
                                       bytes ? std::move(*bytes) : Slice()});
                 },
                 [&](jobs::TakeOffer& offer) {
                   worker_.check();
                   take_offer(offer);
                 },
                 [&](jobs::ReceiveChunk& receive_chunk) {
                   worker_.check();
                   receive(receive_chunk);
                 },
                 [&](jobs::DropPartial& drop) {
                   worker_.check();
                   auto part = snapshots_.partial();
                   if (!part || part->mark.index > drop.covered) return;
                   receiver_.reset();
                   snapshots_.drop_partial();
                   log_superseded(part->mark.index);
                 },
                 [&](jobs::Retire& retire) { retire.instance.reset(); },
             },
             task);
}

// False: there is no descriptor for it. The request waits for the next CheckSpace: an answer
// without entries would mean that they were compacted.
bool Worker::read_entries(const raft::LoadRequest& request) {
  auto entries = log_.read(request.from, request.to, request.max_bytes);
  if (!entries && is_out_of_resources(entries.error().kind)) {
    if (waiting_loads_.empty()) log_event(LogEvent::kStorageNotRead, "{}", entries.error().text);
    return false;
  }
  if (!entries) {
    supervisor_.fail(entries.error());
  } else {
    put(raft::Loaded{request.from, std::move(*entries)});
  }
  return true;
}

void Worker::open_source(const jobs::OpenSource& task) {
  jobs::SourceOpened opened{task.peer, nullptr, false};
  for (const storage::SnapshotInfo& info : snapshots_.list()) {
    auto source = snapshots_.open_source(info.mark);
    if (source) {
      opened.source = std::move(*source);
      break;
    }
    opened.newest_is_damaged = !is_out_of_resources(source.error().kind);
    log_event(LogEvent::kSnapshotNotRead, "{}", source.error().text);
  }
  put(std::move(opened));
}

void Worker::take_offer(const jobs::TakeOffer& task) {
  const wire::SnapshotFile& file = task.file;
  wire::SnapshotAck ack{file, 0, wire::SnapshotAck::State::kRefused};
  auto refuse = [&](std::string_view why) {
    worker_.check();
    warn_of_rejected(file.mark.index, task.from, why);
    put(jobs::OfferTaken{task.from, ack});
  };
  if (!receiver_ || !(receiver_->file() == file)) {
    receiver_.reset();
    auto begun = snapshots_.receive(file);
    if (!begun) return refuse(begun.error().text);
    receiver_ = std::move(*begun);
    log_event(LogEvent::kSnapshotReceiving, "receiving index={} bytes={} from={} offset={}",
              file.mark.index, file.bytes, task.from, receiver_->received());
  }
  const uint64_t missing = file.bytes - receiver_->received();
  auto free_bytes = options_.files->free_bytes(options_.data_dir);
  if (free_bytes && *free_bytes < missing) {
    receiver_.reset();
    snapshots_.drop_partial();
    return refuse(
        fmt::format("not enough disk space missing={} free={} directory={}: free some space",
                    missing, *free_bytes, options_.data_dir));
  }
  ack.received = receiver_->received();
  ack.state = wire::SnapshotAck::State::kReceiving;
  // Whoever was ended while it restored has all of it.
  if (missing == 0) ack.state = wire::SnapshotAck::State::kWorking;
  if (missing == 0 && !install(task.from, ack)) return;
  put(jobs::OfferTaken{task.from, ack});
}

void Worker::warn_of_rejected(Index index, NodeId from, std::string_view why) {
  log_event(LogEvent::kSnapshotRejected, "rejected index={} from={}: {}", index, from, why);
}

void Worker::receive(jobs::ReceiveChunk& task) {
  const wire::SnapshotChunk& chunk = task.chunk;
  if (!receiver_ || !(receiver_->file() == chunk.file)) {
    // The rest of a stream that is over: its end was told already.
    put(jobs::ChunkReceived{task.from, std::nullopt});
    return;
  }
  wire::SnapshotAck ack{chunk.file, 0, wire::SnapshotAck::State::kReceiving};
  // A gap is no error: chunks were lost, and the sender is told where to continue.
  if (chunk.offset <= receiver_->received()) {
    auto written = receiver_->write(chunk.offset, chunk.bytes.view());
    if (!written) {
      // Full, mostly: what came would only make it worse.
      warn_of_rejected(chunk.file.mark.index, task.from, written.error().text);
      receiver_->discard();
      receiver_.reset();
      ack.state = wire::SnapshotAck::State::kRefused;
      put(jobs::ChunkReceived{task.from, ack});
      return;
    }
  }
  ack.received = receiver_->received();
  if (ack.received == chunk.file.bytes && !install(task.from, ack)) return;
  put(jobs::ChunkReceived{task.from, ack});
}

// Entries may be large. bytes_from() falls from index to index.
Index Worker::kept_from(const jobs::Compact& compact) const {
  Index low = compact.keep_from;
  Index high = compact.up_to;
  while (low < high) {
    const Index middle = low + (high - low) / 2;
    const uint64_t behind = log_.bytes_from(compact.up_to);
    if (log_.bytes_from(middle) <= behind + compact.trailing_bytes) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// All of it is here. It gets its name only when the plugin has restored it: it would be the newest
// one at the next start. False: Restored says the rest; else `ack` says what came of it.
bool Worker::install(NodeId from, wire::SnapshotAck& ack) {
  const wire::SnapshotFile file = receiver_->file();
  auto refuse = [&](std::string_view why) {
    worker_.check();
    warn_of_rejected(file.mark.index, from, why);
    ack.state = wire::SnapshotAck::State::kRefused;
    return true;
  };
  auto reader = receiver_->verify();
  if (!reader && is_out_of_resources(reader.error().kind)) return refuse(reader.error().text);
  if (!reader) {
    receiver_->discard();
    receiver_.reset();
    return refuse(reader.error().text);
  }
  auto state = restore_snapshot(**reader, plugin_);
  // The file is as it should be, and stays: when it is offered again, it need not be sent again.
  if (!state) return refuse(state.error().text);
  if (state->state.genesis != options_.genesis) {
    receiver_->discard();
    receiver_.reset();
    return refuse("it belongs to another cluster");
  }
  if (!std::ranges::includes(options_.skips, state->state.skipped)) {
    // Its sender and this node told each other the same list; another one comes from elsewhere.
    receiver_->discard();
    receiver_.reset();
    return refuse("it skips entries that this node does not skip");
  }
  auto published = receiver_->publish();
  if (!published) {
    // Full, mostly. Nobody was told of it, and the log does not begin after it.
    receiver_->discard();
    receiver_.reset();
    return refuse(published.error().text);
  }
  receiver_.reset();
  put(Restored{from, file, std::move(*state)});
  return false;
}

}  // namespace connectd::node

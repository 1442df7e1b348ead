#include "node/worker.h"

#include "base/log.h"
#include "base/overloaded.h"

namespace connectd::node {
namespace {
// Loads are bounded by the core, chunks by the window of each stream.
constexpr size_t kMaxQueuedTasks = 1 << 16;

}  // namespace

Result<RestoredState> restore_snapshot(storage::SnapshotReader& reader,
                                       const std::shared_ptr<const plugin::Plugin>& plugin) {
  auto state = ReplicatedState::decode(as_bytes(reader.metadata()));
  if (!state) return failure(state.error());
  const raft::SnapshotMark& mark = reader.info().mark;
  if (state->applied != mark.index || state->applied_term != mark.term) {
    return failure(ExitCode::kData, "a snapshot's metadata is of another index than its file");
  }
  if (state->genesis.plugin_name != plugin->name()) {
    return failure(ExitCode::kMismatch,
                   fmt::format("the snapshot at index {} holds the state of plugin '{}', this node "
                               "runs plugin '{}': start it with the right plugin",
                               mark.index, state->genesis.plugin_name, plugin->name()));
  }
  auto instance = plugin::Instance::create(
      plugin, {state->genesis.plugin_options.begin(), state->genesis.plugin_options.end()});
  if (!instance) return failure(instance.error());
  plugin::SnapshotContext context;
  context.index = mark.index;
  context.term = mark.term;
  context.time_ns = state->stamp_ns;
  context.level = state->genesis.plugin_level;
  context.length = reader.stream_bytes();
  context.writer_version = state->plugin_version;
  auto restored = (*instance)->restore(
      context, [&](std::span<uint8_t> to) -> Result<size_t> { return reader.read(to); });
  if (!restored) return failure(restored.error());
  return RestoredState{std::move(*state), std::move(*instance)};
}

Worker::Worker(const Options& options, storage::Log& log, storage::SnapshotStore& snapshots,
               std::shared_ptr<const plugin::Plugin> plugin, std::function<void()> wake,
               std::function<void(Error)> fatal)
    : options_(options),
      log_(log),
      snapshots_(snapshots),
      plugin_(std::move(plugin)),
      wake_(std::move(wake)),
      fatal_(std::move(fatal)),
      queue_(kMaxQueuedTasks) {}

void Worker::submit(Task task) {
  bool may_drop = std::holds_alternative<ReceiveChunk>(task);
  bool taken = queue_.push(std::move(task));
  // A peer may send what it likes; what it means is sent again.
  CHECK(taken || may_drop) << "more tasks for the worker than their makers' bounds allow";
}

bool Worker::take_results(std::vector<Item>& out) {
  out.clear();
  std::lock_guard lock(results_mutex_);
  out.swap(results_);
  return !out.empty();
}

void Worker::put(Item item) {
  std::lock_guard lock(results_mutex_);
  results_.push_back(std::move(item));
}

bool Worker::poll_once() {
  if (!queue_.drain(tasks_)) return false;
  for (Task& task : tasks_) {
    work(task);
    wake_();
  }
  tasks_.clear();
  return true;
}

void Worker::run() {
  while (queue_.wait()) poll_once();
}

void Worker::close() { queue_.close(); }

void Worker::work(Task& task) {
  std::visit(Overloaded{
                 [&](Load& load) {
                   auto entries =
                       log_.read(load.request.from, load.request.to, load.request.max_bytes);
                   if (!entries) {
                     fatal_(entries.error());
                   } else {
                     put(raft::Loaded{load.request.from, std::move(*entries)});
                   }
                 },
                 [&](Compact& compact) {
                   auto first = log_.compact(compact.keep_from);
                   if (!first && first.error().no_space) {
                     // Some file systems need space to remove a file. The next time does the rest.
                     LOG_WARNING("storage", "{}", first.error().text);
                   } else if (!first) {
                     fatal_(first.error());
                   } else {
                     put(Compacted{*first});
                   }
                 },
                 [&](PrepareSegment&) {
                   auto prepared = log_.prepare_next_segment();
                   // The log goes on without: append() makes a small segment itself.
                   if (!prepared && !preparing_failed_) {
                     LOG_WARNING("storage", "no file for the log to go on in yet: {}",
                                 prepared.error().text);
                   }
                   preparing_failed_ = !prepared;
                   put(SegmentPrepared{prepared.has_value()});
                 },
                 [&](CheckSpace&) {
                   auto free_bytes = options_.files->free_bytes(options_.data_dir);
                   if (free_bytes) {
                     put(SpaceChecked{*free_bytes});
                   } else {
                     LOG_WARNING("storage", "{}", free_bytes.error().text);
                   }
                 },
                 [&](OpenSource& open) {
                   SourceOpened opened{open.peer, nullptr, false};
                   for (const storage::SnapshotInfo& info : snapshots_.list()) {
                     auto source = snapshots_.open_source(info.mark);
                     if (source) {
                       opened.source = std::move(*source);
                       break;
                     }
                     opened.newest_is_damaged = true;
                     LOG_WARNING("snapshot", "{}", source.error().text);
                   }
                   put(std::move(opened));
                 },
                 [&](ReadChunk& read) {
                   auto bytes = read.source->read(read.offset, options_.chunk_bytes);
                   if (!bytes) LOG_WARNING("snapshot", "{}", bytes.error().text);
                   put(ChunkRead{read.peer, std::move(read.source), read.offset,
                                 bytes ? std::move(*bytes) : Slice()});
                 },
                 [&](ReceiveChunk& receive_chunk) { receive(receive_chunk); },
             },
             task);
}

void Worker::receive(ReceiveChunk& task) {
  const wire::SnapshotChunk& chunk = task.chunk;
  wire::SnapshotAck ack{chunk.mark, 0, wire::SnapshotAck::State::kRefused};
  auto refuse = [&](const Error& error) {
    LOG_WARNING("snapshot", "the snapshot at index {} from node {} is not taken: {}",
                chunk.mark.index, task.from, error.text);
    receiver_.reset();
    put(ChunkReceived{task.from, ack});
  };
  bool fits =
      receiver_ && receiver_->mark() == chunk.mark && receiver_->file_bytes() == chunk.file_size;
  if (!fits || (chunk.offset == 0 && receiver_->received() > 0)) {
    if (chunk.offset != 0) {
      put(ChunkReceived{task.from, ack});  // the rest of a stream that was given up
      return;
    }
    receiver_.reset();
    auto begun = snapshots_.receive(chunk.mark, chunk.file_size);
    if (!begun) return refuse(begun.error());
    receiver_ = std::move(*begun);
  }
  auto written = receiver_->write(chunk.offset, chunk.bytes.view());
  if (!written) return refuse(written.error());
  if (receiver_->received() < receiver_->file_bytes()) {
    ack.received = receiver_->received();
    ack.state = wire::SnapshotAck::State::kReceiving;
    put(ChunkReceived{task.from, ack});
    return;
  }
  auto info = receiver_->finish();
  if (!info) return refuse(info.error());
  receiver_.reset();
  auto reader = snapshots_.open_reader(chunk.mark);
  if (!reader) return refuse(reader.error());
  auto state = restore_snapshot(**reader, plugin_);
  if (!state) return refuse(state.error());
  put(Restored{task.from, chunk.mark, std::move(*state)});
}

}  // namespace connectd::node

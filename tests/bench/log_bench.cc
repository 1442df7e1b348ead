// How fast the log appends and recovers, on a real disk. Not a test.
//
//   log_bench [DIRECTORY]     default /tmp/connectd-log-bench; its content is removed
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "storage/log.h"

namespace connectd::storage {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void require(const Result<void>& result) {
  if (result) return;
  std::fprintf(stderr, "log_bench: %s\n", result.error().text.c_str());
  std::exit(1);
}

std::unique_ptr<Log> open_log(FileSystem& files, const std::string& directory,
                              Recovered& recovered) {
  auto log = Log::open(files, directory, LogOptions(), {}, recovered);
  if (!log) require(failure(log.error()));
  return std::move(*log);
}

void bench_append(FileSystem& files, const std::string& directory, size_t entries_per_batch,
                  size_t batches) {
  std::filesystem::remove_all(directory);
  Recovered recovered;
  auto log = open_log(files, directory, recovered);
  require(log->prepare_next_segment());
  const Slice payload = Slice::copy_of(std::string(128, 'x'));
  std::vector<raft::Entry> entries(entries_per_batch);
  std::vector<double> micros;
  Index next(1);
  Duration encode_time{};
  const auto start = Clock::now();
  for (size_t i = 0; i < batches; ++i) {
    for (raft::Entry& entry : entries) {
      entry.index = next;
      entry.term = Term(1);
      entry.kind = raft::EntryKind::kCommand;
      entry.stamp_ns = static_cast<int64_t>(next.value());
      entry.payload = payload;
      entry.checksum = raft::entry_checksum(entry);
      ++next;
    }
    LogBatch batch{{Term(1), NodeId(1), next - 1}, std::nullopt, entries};
    const auto begin = Clock::now();
    require(log->append(std::span(&batch, 1)));
    micros.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    if (log->wants_next_segment()) require(log->prepare_next_segment());
  }
  const double took = seconds_since(start);
  std::sort(micros.begin(), micros.end());
  std::printf("append %4zu x 128 B: %9.0f entries/s   p50 %6.0f us   p99 %6.0f us   max %6.0f us\n",
              entries_per_batch, static_cast<double>(entries_per_batch * batches) / took,
              micros[micros.size() / 2], micros[micros.size() * 99 / 100], micros.back());
}

// CPU alone: encoding and write, no sync.
void bench_encode(FileSystem& files, const std::string& directory) {
  std::filesystem::remove_all(directory);
  Recovered recovered;
  auto log = Log::open(files, directory, {.segment_bytes = 64 << 20, .sync = false}, {}, recovered);
  if (!log) require(failure(log.error()));
  const Slice payload = Slice::copy_of(std::string(128, 'x'));
  std::vector<raft::Entry> entries(512);
  Index next(1);
  double spent = 0;
  constexpr size_t kBatches = 2000;
  for (size_t i = 0; i < kBatches; ++i) {
    for (raft::Entry& entry : entries) {
      entry.index = next;
      entry.term = Term(1);
      entry.kind = raft::EntryKind::kCommand;
      entry.payload = payload;
      entry.checksum = raft::entry_checksum(entry);
      ++next;
    }
    LogBatch batch{{Term(1), NodeId(1), next - 1}, std::nullopt, entries};
    if ((*log)->wants_next_segment()) require((*log)->prepare_next_segment());
    const auto begin = Clock::now();
    require((*log)->append(std::span(&batch, 1)));
    spent += seconds_since(begin);
  }
  std::printf("encode and write, no sync: %6.0f ns an entry\n", spent * 1e9 / (kBatches * 512));
}

void bench_recovery(FileSystem& files, const std::string& directory) {
  Recovered recovered;
  auto start = Clock::now();
  auto log = open_log(files, directory, recovered);
  double took = seconds_since(start);
  std::printf("recovery: %.0f MB in %.0f ms: %.0f MB/s, %llu entries (in the page cache)\n",
              static_cast<double>(recovered.bytes_read) / 1e6, took * 1e3,
              static_cast<double>(recovered.bytes_read) / 1e6 / took,
              static_cast<unsigned long long>(recovered.last_index.value()));
  start = Clock::now();
  size_t bytes = 0;
  for (Index next(1); next <= recovered.last_index;) {
    auto entries = log->read(next, recovered.last_index + 1, 1 << 20);
    if (!entries) require(failure(entries.error()));
    for (const raft::Entry& entry : *entries) bytes += entry.payload.size();
    next = next + entries->size();
  }
  took = seconds_since(start);
  std::printf("read back, 1 MiB at a time: %.0f MB of payload in %.0f ms\n",
              static_cast<double>(bytes) / 1e6, took * 1e3);
}

}  // namespace
}  // namespace connectd::storage

int main(int argc, char** argv) {
  using namespace connectd::storage;
  const std::string directory = argc > 1 ? argv[1] : "/tmp/connectd-log-bench";
  auto files = make_real_file_system();
  bench_append(*files, directory, 1, 3000);
  bench_append(*files, directory, 64, 3000);
  bench_append(*files, directory, 512, 3000);
  bench_encode(*files, directory);
  bench_recovery(*files, directory);
  std::filesystem::remove_all(directory);
  return 0;
}

#include "storage/snapshot_store.h"

#include <fmt/format.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <optional>
#include <utility>

#include "base/checksum.h"
#include "base/log.h"
#include "base/mutex.h"
#include "storage/snapshot_format.h"

namespace connectd::storage {
namespace {

// A snapshot is synced in small pieces while it is written, because a sync of the log waits for
// the sync in progress. A local snapshot uses the smallest ones (docs/performance.md).
constexpr uint64_t kSyncEveryBytes = 256 << 10;
constexpr uint64_t kSyncReceivedBytes = 4 << 20;

struct FreeCompressor {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};
struct FreeDecompressor {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

ByteView bytes_of(const auto& value) {
  return {reinterpret_cast<const uint8_t*>(&value), sizeof value};
}

std::string snapshot_name(raft::SnapshotMark mark) {
  return fmt::format("{:016x}-{:016x}.snapshot", mark.index.value(), mark.term.value());
}

// Parses numbers of 16 hexadecimal digits separated by '-', followed by the suffix.
template <size_t kCount>
std::optional<std::array<uint64_t, kCount>> numbers_of(std::string_view name,
                                                       std::string_view suffix) {
  constexpr size_t kDigits = 16;
  if (name.size() != kCount * (kDigits + 1) - 1 + suffix.size() || !name.ends_with(suffix)) {
    return std::nullopt;
  }
  std::array<uint64_t, kCount> numbers{};
  for (size_t i = 0; i < kCount * (kDigits + 1) - 1; ++i) {
    const char c = name[i];
    uint64_t& number = numbers[i / (kDigits + 1)];
    if (i % (kDigits + 1) == kDigits) {
      if (c != '-') return std::nullopt;
    } else if (c >= '0' && c <= '9') {
      number = number * 16 + static_cast<uint64_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      number = number * 16 + static_cast<uint64_t>(c - 'a') + 10;
    } else {
      return std::nullopt;
    }
  }
  return numbers;
}

std::optional<raft::SnapshotMark> mark_of(std::string_view name) {
  auto numbers = numbers_of<2>(name, ".snapshot");
  if (!numbers) return std::nullopt;
  return raft::SnapshotMark{Index((*numbers)[0]), Term((*numbers)[1])};
}

// The name of a part identifies the whole file, so no second file has to be kept consistent.
std::string partial_name(const wire::SnapshotFile& file) {
  return fmt::format("{:016x}-{:016x}-{:016x}-{:016x}.partial", file.mark.index.value(),
                     file.mark.term.value(), file.bytes, file.checksum);
}

std::optional<wire::SnapshotFile> partial_of(std::string_view name) {
  auto numbers = numbers_of<4>(name, ".partial");
  if (!numbers) return std::nullopt;
  const auto& [index, term, bytes, checksum] = *numbers;
  return wire::SnapshotFile{{Index(index), Term(term)}, bytes, checksum};
}

// ---- reading

// Iterates over the blocks of a file and verifies each.
class BlockReader {
 public:
  BlockReader(std::unique_ptr<File> file, std::string path)
      : file_(std::move(file)), path_(std::move(path)), context_(ZSTD_createDCtx()) {
    CHECK(context_ != nullptr) << "out of memory for zstd";
  }

  Result<void> read_header() {
    auto size = file_->size();
    if (!size) return failure(size.error());
    file_bytes_ = *size;
    auto got =
        file_->read_at(0, std::span<uint8_t>(reinterpret_cast<uint8_t*>(&header_), sizeof header_));
    if (!got) return failure(got.error());
    if (*got != sizeof header_) return damage("the file is too short");
    if (std::memcmp(header_.magic, kSnapshotMagic, sizeof kSnapshotMagic) != 0) {
      return damage("invalid snapshot magic");
    }
    if (header_.checksum != struct_checksum(header_, 0)) {
      return damage("checksum mismatch in its header");
    }
    if (header_.version != kSnapshotVersion || header_.group != kGroup) {
      return newer(fmt::format("format version {} and group {} (readable: version {} and group {})",
                               header_.version, header_.group, kSnapshotVersion, kGroup));
    }
    if (header_.reserved != 0) return newer("more fields in its header");
    if (header_.block_bytes > kMaxBlockBytes || header_.index == 0 ||
        header_.metadata_bytes > kMaxSnapshotMetadataBytes) {
      return damage("invalid sizes in its header");
    }
    offset_ = sizeof header_;
    chain_ = header_.checksum;
    return {};
  }

  // Whether next() decompresses. If not, it only verifies the stored bytes.
  void set_unpacks(bool on) { unpacks_ = on; }

  // Reads the next block of metadata or stream into plain(); false: the trailer was read, the file
  // is valid.
  Result<bool> next() {
    BlockHeader block{};
    auto got = file_->read_at(offset_,
                              std::span<uint8_t>(reinterpret_cast<uint8_t*>(&block), sizeof block));
    if (!got) return failure(got.error());
    if (*got != sizeof block) return damage("the file ends too early");
    if (block.checksum != struct_checksum(block, offset_)) {
      return damage("checksum mismatch in a block header");
    }
    if (block.kind < static_cast<uint32_t>(BlockKind::kMetadata) ||
        block.kind > static_cast<uint32_t>(BlockKind::kTrailer)) {
      return newer(fmt::format("a block of kind {}", block.kind));
    }
    if (block.reserved != 0) return newer("more fields in a block header");
    if (block.plain_bytes == 0 || block.plain_bytes > kMaxBlockBytes ||
        block.stored_bytes > block.plain_bytes || block.stored_bytes == 0) {
      return damage("invalid sizes of a block");
    }
    stored_.resize(block.stored_bytes);
    got = file_->read_at(offset_ + sizeof block, stored_);
    if (!got) return failure(got.error());
    if (*got != block.stored_bytes) return damage("the file ends too early");
    if (checksum64(stored_) != block.stored_checksum) {
      return damage("checksum mismatch in a block");
    }
    kind_ = static_cast<BlockKind>(block.kind);
    if (kind_ == BlockKind::kTrailer) return read_trailer(block);
    if (block.plain_bytes > header_.block_bytes) return damage("invalid sizes of a block");
    if (!unpacks_) {
      plain_.clear();
    } else if (block.stored_bytes == block.plain_bytes) {
      plain_ = stored_;
    } else {
      plain_.resize(block.plain_bytes);
      size_t size = ZSTD_decompressDCtx(context_.get(), plain_.data(), plain_.size(),
                                        stored_.data(), stored_.size());
      if (ZSTD_isError(size) != 0 || size != plain_.size()) {
        return damage("a block cannot be decompressed");
      }
    }
    if (kind_ == BlockKind::kMetadata) {
      metadata_seen_ += block.plain_bytes;
      if (stream_blocks_ > 0 || metadata_seen_ > header_.metadata_bytes) {
        return damage("its metadata does not match its header");
      }
    } else {
      if (metadata_seen_ != header_.metadata_bytes) {
        return damage("its metadata does not match its header");
      }
      stream_bytes_ += block.plain_bytes;
      ++stream_blocks_;
    }
    chain_ = checksum64(bytes_of(block), chain_);
    offset_ += sizeof block + block.stored_bytes;
    return true;
  }

  BlockKind kind() const { return kind_; }
  const std::vector<uint8_t>& plain() const { return plain_; }
  const SnapshotHeader& header() const { return header_; }
  uint64_t file_bytes() const { return file_bytes_; }
  uint64_t stream_bytes() const { return stream_bytes_; }
  uint64_t stream_blocks() const { return stream_blocks_; }
  uint64_t metadata_bytes() const { return metadata_seen_; }
  raft::SnapshotMark mark() const { return {Index(header_.index), Term(header_.term)}; }
  // Valid after the trailer was read.
  wire::SnapshotFile file() const { return {mark(), file_bytes_, chain_}; }
  uint64_t offset() const { return offset_; }  // after the blocks that were read

  // Returns to the beginning.
  void rewind() {
    offset_ = sizeof header_;
    chain_ = header_.checksum;
    metadata_seen_ = stream_bytes_ = stream_blocks_ = 0;
  }

 private:
  tl::unexpected<Error> damage(const char* what) const {
    return failure(ErrorKind::kCorrupt,
                   fmt::format("the snapshot {} is damaged: {} (at offset {}). To inspect: "
                               "connectctl inspect snapshot {}",
                               path_, what, offset_, path_));
  }

  // The checksum is valid, but the kind is unknown.
  tl::unexpected<Error> newer(std::string_view what) const {
    return failure(
        ErrorKind::kNewerVersion,
        fmt::format(
            "the snapshot {} has {} (at offset {}), unknown to connectd {}: a newer version wrote "
            "it. It was not changed. Start the version that ran here before, or a newer one",
            path_, what, offset_, CONNECTD_VERSION));
  }

  Result<bool> read_trailer(const BlockHeader& block) {
    TrailerBody body{};
    if (block.stored_bytes != sizeof body || block.plain_bytes != sizeof body) {
      return damage("wrong size of its trailer");
    }
    std::memcpy(&body, stored_.data(), sizeof body);
    if (metadata_seen_ != header_.metadata_bytes || body.stream_bytes != stream_bytes_ ||
        body.stream_blocks != stream_blocks_ || body.chain != chain_) {
      return damage("its trailer does not match its blocks");
    }
    if (offset_ + sizeof block + sizeof body != file_bytes_) {
      return damage("bytes after its trailer");
    }
    return false;
  }

  const std::unique_ptr<File> file_;
  const std::string path_;
  std::unique_ptr<ZSTD_DCtx, FreeDecompressor> context_;
  SnapshotHeader header_{};
  uint64_t file_bytes_ = 0;
  uint64_t offset_ = 0;
  uint64_t chain_ = 0;
  uint64_t metadata_seen_ = 0;
  uint64_t stream_bytes_ = 0;
  uint64_t stream_blocks_ = 0;
  bool unpacks_ = true;
  BlockKind kind_ = BlockKind::kTrailer;
  std::vector<uint8_t> stored_;
  std::vector<uint8_t> plain_;
};

// Opens and verifies a whole file. `metadata`: gets the metadata; may be null.
Result<std::unique_ptr<BlockReader>> open_verified(FileSystem& files, const std::string& path,
                                                   std::string* metadata) {
  auto file = files.open(path, OpenMode::kRead);
  if (!file) return failure(file.error());
  auto reader = std::make_unique<BlockReader>(std::move(*file), path);
  if (auto done = reader->read_header(); !done) return failure(done.error());
  while (true) {
    auto more = reader->next();
    if (!more) return failure(more.error());
    if (!*more) return reader;
    if (metadata != nullptr && reader->kind() == BlockKind::kMetadata) {
      metadata->append(as_text(reader->plain()));
    }
  }
}

class Reader final : public SnapshotReader {
 public:
  Reader(std::unique_ptr<BlockReader> blocks, SnapshotInfo info, std::string metadata)
      : blocks_(std::move(blocks)),
        info_(std::move(info)),
        metadata_(std::move(metadata)),
        stream_bytes_(blocks_->stream_bytes()) {
    blocks_->rewind();
  }

  const SnapshotInfo& info() const override { return info_; }
  const std::string& metadata() const override { return metadata_; }
  uint64_t stream_bytes() const override { return stream_bytes_; }

  Result<size_t> read(std::span<uint8_t> to) override {
    size_t done = 0;
    while (done < to.size() && !at_end_) {
      if (used_ == available_) {
        auto more = blocks_->next();
        if (!more) return failure(more.error());
        at_end_ = !*more;
        used_ = 0;
        available_ = *more && blocks_->kind() == BlockKind::kStream ? blocks_->plain().size() : 0;
        continue;
      }
      size_t part = std::min(to.size() - done, available_ - used_);
      std::memcpy(to.data() + done, blocks_->plain().data() + used_, part);
      done += part;
      used_ += part;
    }
    return done;
  }

 private:
  const std::unique_ptr<BlockReader> blocks_;
  const SnapshotInfo info_;
  const std::string metadata_;
  const uint64_t stream_bytes_;
  size_t used_ = 0;
  size_t available_ = 0;
  bool at_end_ = false;
};

class Source final : public SnapshotSource {
 public:
  Source(std::unique_ptr<File> file, SnapshotInfo info, wire::SnapshotFile identity)
      : file_(std::move(file)), info_(std::move(info)), identity_(identity) {}

  const SnapshotInfo& info() const override { return info_; }
  const wire::SnapshotFile& file() const override { return identity_; }

  Result<Slice> read(uint64_t offset, size_t length) const override {
    if (offset >= info_.file_bytes) return Slice();
    length = std::min<uint64_t>(length, info_.file_bytes - offset);
    auto block = std::make_shared_for_overwrite<uint8_t[]>(length);
    auto got = file_->read_at(offset, std::span<uint8_t>(block.get(), length));
    if (!got) return failure(got.error());
    ByteView view(block.get(), *got);
    return Slice(std::move(block), view);
  }

 private:
  const std::unique_ptr<File> file_;
  const SnapshotInfo info_;
  const wire::SnapshotFile identity_;
};

// ---- the store

class Store final : public SnapshotStore {
 public:
  Store(FileSystem& files, std::string directory, SnapshotOptions options)
      : files_(files), directory_(std::move(directory)), options_(options) {}

  // No other thread has the store yet.
  Result<void> start() NO_THREAD_SAFETY_ANALYSIS;

  std::vector<SnapshotInfo> list() const override {
    MutexLock lock(mutex_);
    return published_;
  }
  Result<std::unique_ptr<SnapshotWriter>> begin(raft::SnapshotMark mark,
                                                ByteView metadata) override;
  Result<std::unique_ptr<SnapshotReceiver>> receive(const wire::SnapshotFile& file) override;
  std::optional<wire::SnapshotFile> partial() const override {
    MutexLock lock(mutex_);
    return partial_;
  }
  void drop_partial() override;
  Result<std::unique_ptr<SnapshotReader>> open_reader(raft::SnapshotMark mark) override;
  Result<std::unique_ptr<SnapshotReader>> open_newest(std::vector<std::string>& warnings) override;
  Result<std::unique_ptr<SnapshotSource>> open_source(raft::SnapshotMark mark) override;

  FileSystem& files() { return files_; }
  int compression_level() const { return options_.compression_level; }
  size_t block_bytes() const { return options_.block_bytes; }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  std::string temporary_path() { return path(fmt::format("{}.tmp", next_temporary_++)); }
  // Gives a finished and synced file its name, and removes the oldest ones beyond the limit.
  Result<SnapshotInfo> publish(const std::string& temporary, raft::SnapshotMark mark,
                               uint64_t file_bytes);

 private:
  FileSystem& files_;
  const std::string directory_;
  const SnapshotOptions options_;
  std::vector<std::string> note_published(const SnapshotInfo& info, const std::string& temporary);
  std::atomic<uint64_t> next_temporary_{1};
  Mutex publishing_;  // while files get their names and go; locked before mutex_
  // The loop takes it, so nobody waits for the disk under it.
  mutable Mutex mutex_;
  std::vector<SnapshotInfo> published_ GUARDED_BY(mutex_);  // newest first
  std::optional<wire::SnapshotFile> partial_ GUARDED_BY(mutex_);
};

// A temporary file, removed unless it is published.
class TemporaryFile {
 public:
  TemporaryFile(Store& store, std::unique_ptr<File> file, std::string path)
      : store_(store), file_(std::move(file)), path_(std::move(path)) {}
  TemporaryFile(TemporaryFile&&) = default;
  ~TemporaryFile() {
    if (file_ == nullptr) return;
    file_.reset();
    // If this fails, the next start removes it.
    auto removed = store_.files().remove(path_);
    (void)removed;
  }

  static Result<TemporaryFile> create(Store& store) {
    std::string path = store.temporary_path();
    auto file = store.files().open(path, OpenMode::kCreate);
    if (!file) return failure(file.error());
    return TemporaryFile(store, std::move(*file), std::move(path));
  }

  Result<void> append(ByteView bytes) {
    if (auto done = file_->write_at(size_, bytes); !done) return done;
    size_ += bytes.size();
    if (size_ - synced_ < kSyncEveryBytes) return {};
    synced_ = size_;
    return file_->sync();
  }
  Result<SnapshotInfo> publish(raft::SnapshotMark mark) {
    if (auto done = file_->sync(); !done) return failure(done.error());
    auto info = store_.publish(path_, mark, size_);
    if (info) file_.reset();
    return info;
  }
  uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  Store& store_;
  std::unique_ptr<File> file_;
  std::string path_;
  uint64_t size_ = 0;
  uint64_t synced_ = 0;
};

class Writer final : public SnapshotWriter {
 public:
  Writer(Store& store, TemporaryFile file, raft::SnapshotMark mark)
      : file_(std::move(file)),
        mark_(mark),
        level_(store.compression_level()),
        block_bytes_(store.block_bytes()),
        context_(ZSTD_createCCtx()) {
    CHECK(context_ != nullptr) << "out of memory for zstd";
  }

  Result<void> begin(ByteView metadata) {
    SnapshotHeader header{};
    std::memcpy(header.magic, kSnapshotMagic, sizeof header.magic);
    header.version = kSnapshotVersion;
    header.group = kGroup;
    header.index = mark_.index.value();
    header.term = mark_.term.value();
    header.metadata_bytes = metadata.size();
    header.block_bytes = static_cast<uint32_t>(block_bytes_);
    constexpr std::string_view kWriter = "connectd " CONNECTD_VERSION;
    static_assert(kWriter.size() < sizeof header.writer);
    std::memcpy(header.writer, kWriter.data(), kWriter.size());
    header.checksum = struct_checksum(header, 0);
    chain_ = header.checksum;
    if (auto done = file_.append(bytes_of(header)); !done) return done;
    while (!metadata.empty()) {
      ByteView part = metadata.first(std::min(metadata.size(), block_bytes_));
      if (auto done = write_block(BlockKind::kMetadata, part); !done) return done;
      metadata = metadata.subspan(part.size());
    }
    return {};
  }

  Result<void> write(ByteView bytes) override {
    while (!bytes.empty()) {
      if (plain_.empty() && bytes.size() >= block_bytes_) {
        if (auto done = write_stream(bytes.first(block_bytes_)); !done) return done;
        bytes = bytes.subspan(block_bytes_);
        continue;
      }
      ByteView part = bytes.first(std::min(bytes.size(), block_bytes_ - plain_.size()));
      plain_.insert(plain_.end(), part.begin(), part.end());
      bytes = bytes.subspan(part.size());
      if (plain_.size() < block_bytes_) continue;
      if (auto done = write_stream(plain_); !done) return done;
      plain_.clear();
    }
    return {};
  }

  Result<SnapshotInfo> finish() override {
    if (!plain_.empty()) {
      if (auto done = write_stream(plain_); !done) return failure(done.error());
      plain_.clear();
    }
    TrailerBody body{stream_bytes_, stream_blocks_, chain_};
    if (auto done = append_block(BlockKind::kTrailer, bytes_of(body), sizeof body); !done) {
      return failure(done.error());
    }
    return file_.publish(mark_);
  }

 private:
  Result<void> write_stream(ByteView plain) {
    stream_bytes_ += plain.size();
    ++stream_blocks_;
    return write_block(BlockKind::kStream, plain);
  }
  Result<void> write_block(BlockKind kind, ByteView plain) {
    ByteView stored = plain;
    if (level_ != 0) {
      compressed_.resize(ZSTD_compressBound(plain.size()));
      size_t size = ZSTD_compressCCtx(context_.get(), compressed_.data(), compressed_.size(),
                                      plain.data(), plain.size(), level_);
      if (ZSTD_isError(size) != 0) {
        return failure(ErrorKind::kInternal,
                       fmt::format("cannot compress a snapshot: {}", ZSTD_getErrorName(size)));
      }
      if (size < plain.size()) stored = ByteView(compressed_.data(), size);
    }
    return append_block(kind, stored, plain.size());
  }
  Result<void> append_block(BlockKind kind, ByteView stored, size_t plain_bytes) {
    BlockHeader block{};
    block.kind = static_cast<uint32_t>(kind);
    block.stored_bytes = static_cast<uint32_t>(stored.size());
    block.plain_bytes = static_cast<uint32_t>(plain_bytes);
    block.stored_checksum = checksum64(stored);
    block.checksum = struct_checksum(block, file_.size());
    chain_ = checksum64(bytes_of(block), chain_);
    if (auto done = file_.append(bytes_of(block)); !done) return done;
    return file_.append(stored);
  }

  TemporaryFile file_;
  const raft::SnapshotMark mark_;
  const int level_;
  const size_t block_bytes_;
  std::unique_ptr<ZSTD_CCtx, FreeCompressor> context_;
  std::vector<uint8_t> plain_;  // of the stream, less than one block
  std::vector<uint8_t> compressed_;
  uint64_t chain_ = 0;
  uint64_t stream_bytes_ = 0;
  uint64_t stream_blocks_ = 0;
};

class Receiver final : public SnapshotReceiver {
 public:
  // `received`: valid bytes that the file already has.
  Receiver(Store& store, std::unique_ptr<File> file, const wire::SnapshotFile& identity,
           uint64_t received)
      : store_(store),
        file_(std::move(file)),
        identity_(identity),
        path_(store.path(partial_name(identity))),
        received_(received),
        synced_(received) {}

  const wire::SnapshotFile& file() const override { return identity_; }
  uint64_t received() const override { return received_; }

  Result<void> write(uint64_t offset, ByteView bytes) override {
    if (offset > received_) {
      return failure(
          ErrorKind::kCorrupt,
          fmt::format("received a snapshot chunk for offset {} at offset {}", offset, received_));
    }
    if (bytes.size() > identity_.bytes || offset > identity_.bytes - bytes.size()) {
      return failure(ErrorKind::kCorrupt,
                     fmt::format("a snapshot chunk ends at {}, after the announced {} bytes",
                                 offset + bytes.size(), identity_.bytes));
    }
    const uint64_t known = received_ - offset;
    if (known >= bytes.size()) return {};
    bytes = bytes.subspan(known);
    if (auto done = file_->write_at(received_, bytes); !done) return done;
    received_ += bytes.size();
    if (received_ - synced_ < kSyncReceivedBytes) return {};
    synced_ = received_;
    return file_->sync();
  }

  Result<std::unique_ptr<SnapshotReader>> verify() override {
    if (received_ != identity_.bytes) {
      return failure(
          ErrorKind::kCorrupt,
          fmt::format("received only {} of {} bytes of the snapshot", received_, identity_.bytes));
    }
    std::string metadata;
    auto verified = open_verified(store_.files(), path_, &metadata);
    if (!verified) return failure(verified.error());
    if (!((*verified)->file() == identity_)) {
      return failure(ErrorKind::kCorrupt,
                     fmt::format("received a snapshot of index {}, announced was index {}",
                                 (*verified)->mark().index, identity_.mark.index));
    }
    SnapshotInfo info{identity_.mark, identity_.bytes, snapshot_name(identity_.mark)};
    return std::make_unique<Reader>(std::move(*verified), std::move(info), std::move(metadata));
  }

  Result<SnapshotInfo> publish() override {
    if (auto done = file_->sync(); !done) return failure(done.error());
    return store_.publish(path_, identity_.mark, identity_.bytes);
  }

  void discard() override { store_.drop_partial(); }

 private:
  Store& store_;
  const std::unique_ptr<File> file_;
  const wire::SnapshotFile identity_;
  const std::string path_;
  uint64_t received_;
  uint64_t synced_;
};

// The size of the valid beginning of the file, by the checksums of its blocks. What follows was cut
// off by the end of the process or by a power failure, and is sent again.
uint64_t whole_bytes(FileSystem& files, const std::string& path) {
  auto file = files.open(path, OpenMode::kRead);
  if (!file) return 0;
  BlockReader reader(std::move(*file), path);
  if (!reader.read_header()) return 0;
  reader.set_unpacks(false);
  while (true) {
    auto more = reader.next();
    if (!more) return reader.offset();
    if (!*more) return reader.file_bytes();
  }
}

Result<void> Store::start() {
  if (auto done = files_.make_directory(directory_); !done) return done;
  auto names = files_.list(directory_);
  if (!names) return failure(names.error());
  for (const std::string& name : *names) {
    auto part = partial_of(name);
    // A crash between two steps of receive() may leave two parts: the newer one counts.
    if (part && (!partial_ || partial_->mark.index < part->mark.index)) std::swap(part, partial_);
    if (name.ends_with(".tmp")) {
      if (auto done = files_.remove(path(name)); !done) return done;
    }
    if (part) {
      if (auto done = files_.remove(path(partial_name(*part))); !done) return done;
    }
    auto mark = mark_of(name);
    if (!mark) continue;
    auto file = files_.open(path(name), OpenMode::kRead);
    if (!file) return failure(file.error());
    auto size = (*file)->size();
    if (!size) return failure(size.error());
    published_.push_back({*mark, *size, name});
  }
  std::sort(published_.begin(), published_.end(), [](const SnapshotInfo& a, const SnapshotInfo& b) {
    return a.mark.index > b.mark.index;
  });
  // A visible name is not always on disk: the sync after its rename may have failed. And the log is
  // compacted because the snapshot exists.
  return files_.sync_directory(directory_);
}

Result<SnapshotInfo> Store::publish(const std::string& temporary, raft::SnapshotMark mark,
                                    uint64_t file_bytes) {
  SnapshotInfo info{mark, file_bytes, snapshot_name(mark)};
  MutexLock one_at_a_time(publishing_);
  if (auto done = files_.rename(temporary, path(info.name)); !done) return failure(done.error());
  if (auto done = files_.sync_directory(directory_); !done) return failure(done.error());
  std::vector<std::string> surplus = note_published(info, temporary);
  if (surplus.empty()) return info;
  for (const std::string& name : surplus) {
    if (auto done = files_.remove(path(name)); !done) return failure(done.error());
    MutexLock lock(mutex_);
    std::erase_if(published_, [&](const SnapshotInfo& other) { return other.name == name; });
  }
  if (auto done = files_.sync_directory(directory_); !done) return failure(done.error());
  return info;
}

// Returns the names of the files that are too many.
std::vector<std::string> Store::note_published(const SnapshotInfo& info,
                                               const std::string& temporary) {
  std::vector<std::string> surplus;
  MutexLock lock(mutex_);
  std::erase_if(published_, [&](const SnapshotInfo& other) { return other.name == info.name; });
  if (partial_ && temporary == path(partial_name(*partial_))) partial_.reset();
  auto place = std::find_if(published_.begin(), published_.end(), [&](const SnapshotInfo& other) {
    return other.mark.index < info.mark.index;
  });
  published_.insert(place, info);
  for (size_t i = published_.size(); i > options_.keep; --i) {
    surplus.push_back(published_[i - 1].name);
  }
  return surplus;
}

Result<std::unique_ptr<SnapshotWriter>> Store::begin(raft::SnapshotMark mark, ByteView metadata) {
  CHECK(mark.index) << "a snapshot covers at least one entry";
  if (metadata.size() > kMaxSnapshotMetadataBytes) {
    return failure(ErrorKind::kInternal,
                   fmt::format("a snapshot's metadata has {} bytes, more than the limit of {}",
                               metadata.size(), kMaxSnapshotMetadataBytes));
  }
  auto file = TemporaryFile::create(*this);
  if (!file) return failure(file.error());
  auto writer = std::make_unique<Writer>(*this, std::move(*file), mark);
  if (auto done = writer->begin(metadata); !done) return failure(done.error());
  return writer;
}

Result<std::unique_ptr<SnapshotReceiver>> Store::receive(const wire::SnapshotFile& file) {
  const std::string to = path(partial_name(file));
  uint64_t received = 0;
  if (partial() == file) {
    received = std::min(whole_bytes(files_, to), file.bytes);
  } else {
    drop_partial();
  }
  auto opened = files_.open(to, received > 0 ? OpenMode::kWrite : OpenMode::kCreate);
  if (!opened) return failure(opened.error());
  if (received == 0) {
    if (auto done = files_.sync_directory(directory_); !done) return failure(done.error());
  }
  {
    MutexLock lock(mutex_);
    partial_ = file;
  }
  return std::make_unique<Receiver>(*this, std::move(*opened), file, received);
}

void Store::drop_partial() {
  std::optional<wire::SnapshotFile> part = partial();
  if (!part) return;
  // If this fails, the next part or the next start removes it.
  if (auto removed = files_.remove(path(partial_name(*part))); !removed) return;
  MutexLock lock(mutex_);
  partial_.reset();
}

Result<std::unique_ptr<SnapshotReader>> Store::open_reader(raft::SnapshotMark mark) {
  std::string metadata;
  const std::string name = snapshot_name(mark);
  auto blocks = open_verified(files_, path(name), &metadata);
  if (!blocks) return failure(blocks.error());
  if (!((*blocks)->mark() == mark)) {
    return failure(ErrorKind::kCorrupt,
                   fmt::format("the snapshot {} is damaged: its header has index {}", path(name),
                               (*blocks)->mark().index));
  }
  SnapshotInfo info{mark, (*blocks)->file_bytes(), name};
  return std::make_unique<Reader>(std::move(*blocks), std::move(info), std::move(metadata));
}

Result<std::unique_ptr<SnapshotReader>> Store::open_newest(std::vector<std::string>& warnings) {
  std::optional<Error> last;
  for (const SnapshotInfo& info : list()) {
    auto reader = open_reader(info.mark);
    if (reader) return reader;
    if (reader.error().kind != ErrorKind::kCorrupt) return failure(reader.error());
    warnings.push_back(reader.error().text + "; an older one is tried");
    last = reader.error();
  }
  if (last) return failure(*last);
  return std::unique_ptr<SnapshotReader>();
}

Result<std::unique_ptr<SnapshotSource>> Store::open_source(raft::SnapshotMark mark) {
  const std::string name = snapshot_name(mark);
  auto verified = open_verified(files_, path(name), nullptr);
  if (!verified) return failure(verified.error());
  auto file = files_.open(path(name), OpenMode::kRead);
  if (!file) return failure(file.error());
  auto size = (*file)->size();
  if (!size) return failure(size.error());
  const wire::SnapshotFile identity = (*verified)->file();
  if (!(identity.mark == mark) || identity.bytes != *size) {
    return failure(ErrorKind::kCorrupt,
                   fmt::format("the snapshot {} is damaged: its header has index {}", path(name),
                               identity.mark.index));
  }
  return std::make_unique<Source>(std::move(*file), SnapshotInfo{mark, *size, name}, identity);
}

}  // namespace

Result<std::unique_ptr<SnapshotStore>> SnapshotStore::open(FileSystem& files, std::string directory,
                                                           SnapshotOptions options) {
  options.keep = std::max<size_t>(options.keep, 1);
  options.block_bytes = std::clamp<size_t>(options.block_bytes, 1, kSnapshotChunkBytes);
  auto store = std::make_unique<Store>(files, std::move(directory), options);
  if (auto done = store->start(); !done) return failure(done.error());
  return store;
}

Result<SnapshotContent> inspect_snapshot(FileSystem& files, const std::string& path,
                                         std::string* metadata) {
  auto blocks = open_verified(files, path, metadata);
  if (!blocks) return failure(blocks.error());
  const BlockReader& b = **blocks;
  SnapshotContent content;
  content.info = {b.mark(), b.file_bytes(), path.substr(path.find_last_of('/') + 1)};
  content.writer =
      std::string(b.header().writer, strnlen(b.header().writer, sizeof b.header().writer));
  content.metadata_bytes = b.metadata_bytes();
  content.stream_bytes = b.stream_bytes();
  content.chunks = b.stream_blocks();
  return content;
}

Result<std::unique_ptr<SnapshotReader>> open_snapshot_file(FileSystem& files,
                                                           const std::string& path) {
  std::string metadata;
  auto blocks = open_verified(files, path, &metadata);
  if (!blocks) return failure(blocks.error());
  SnapshotInfo info{(*blocks)->mark(), (*blocks)->file_bytes(),
                    path.substr(path.find_last_of('/') + 1)};
  return std::make_unique<Reader>(std::move(*blocks), std::move(info), std::move(metadata));
}

}  // namespace connectd::storage

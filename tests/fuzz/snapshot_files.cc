// A snapshot file. The first byte: bit 0, the checksums are made to fit.
//
// It is read to its end, twice the same, with as many bytes as it said; or it is damaged, and says
// so. What a receiver takes by chunks is the same file.
#include "base/log.h"
#include "sim/faulty_file_system.h"
#include "storage/snapshot_format.h"
#include "storage/snapshot_store.h"
#include "tests/fuzz/input.h"

namespace connectd {
namespace {

constexpr size_t kMaxBytes = 64 << 10;

template <class T>
T get(const std::string& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}
template <class T>
void put(std::string& bytes, size_t at, const T& value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

void make_checksums_fit(std::string& bytes) {
  if (bytes.size() < sizeof(storage::SnapshotHeader)) return;
  auto header = get<storage::SnapshotHeader>(bytes, 0);
  std::memcpy(header.magic, storage::kSnapshotMagic, sizeof header.magic);
  header.version = storage::kSnapshotVersion;
  header.group = 0;
  header.reserved = 0;
  header.checksum = storage::struct_checksum(header, 0);
  put(bytes, 0, header);
  uint64_t chain = header.checksum;
  size_t at = sizeof header;
  while (at + sizeof(storage::BlockHeader) <= bytes.size()) {
    auto block = get<storage::BlockHeader>(bytes, at);
    const size_t body_at = at + sizeof block;
    if (block.stored_bytes > bytes.size() - body_at) return;
    if (block.kind == static_cast<uint32_t>(storage::BlockKind::kTrailer) &&
        block.stored_bytes == sizeof(storage::TrailerBody)) {
      auto body = get<storage::TrailerBody>(bytes, body_at);
      body.chain = chain;
      put(bytes, body_at, body);
    }
    block.reserved = 0;
    block.stored_checksum = checksum64(as_bytes(bytes).subspan(body_at, block.stored_bytes));
    block.checksum = storage::struct_checksum(block, at);
    put(bytes, at, block);
    chain = checksum64(as_bytes(bytes).subspan(at, sizeof block), chain);
    at = body_at + block.stored_bytes;
  }
}

std::string read_all(storage::SnapshotStore& store, raft::SnapshotMark mark) {
  auto reader = store.open_reader(mark);
  if (!reader) {
    CHECK(!reader.error().text.empty());
    CHECK(reader.error().kind == ErrorKind::kCorrupt ||
          reader.error().kind == ErrorKind::kNewerVersion);
    return "?";
  }
  std::string all((*reader)->metadata());
  uint64_t stream = 0;
  uint8_t buffer[1000];
  while (true) {
    auto got = (*reader)->read(buffer);
    CHECK(got) << "it was verified when it was opened: " << got.error().text;
    if (*got == 0) break;
    stream += *got;
    all.append(reinterpret_cast<const char*>(buffer), *got);
  }
  CHECK(stream == (*reader)->stream_bytes());
  return all;
}

}  // namespace
}  // namespace connectd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace connectd;
  if (size > kMaxBytes) return 0;
  fuzz::Input input(data, size);
  const uint8_t flags = input.byte();
  std::string bytes = input.rest_as_text();
  if ((flags & 1) != 0) make_checksums_fit(bytes);
  raft::SnapshotMark mark{Index(1), Term(1)};
  if (bytes.size() >= sizeof(storage::SnapshotHeader)) {
    auto header = get<storage::SnapshotHeader>(bytes, 0);
    if (header.index != 0) mark = {Index(header.index), Term(header.term)};
  }
  sim::FaultyFileSystem files;
  files.put("s/" + fmt::format("{:016x}-{:016x}.snapshot", mark.index.value(), mark.term.value()),
            bytes);
  auto store = storage::SnapshotStore::open(files, "s", {});
  CHECK(store) << store.error().text;
  std::string all = read_all(**store, mark);
  CHECK(read_all(**store, mark) == all);
  auto content = storage::inspect_snapshot(files, "s/" + (*store)->list().front().name);
  CHECK(content.has_value() == (all != "?"));

  sim::FaultyFileSystem other_files;
  auto other = storage::SnapshotStore::open(other_files, "s", {});
  CHECK(other);
  wire::SnapshotFile file{mark, bytes.size(), 0};
  if (auto source = (*store)->open_source(mark)) file = (*source)->file();
  size_t at = 0;
  auto send = [&](storage::SnapshotReceiver& receiver, size_t to) {
    while (at < to) {
      const size_t part = std::min<size_t>(1000, to - at);
      auto written = receiver.write(at, as_bytes(bytes).subspan(at).first(part));
      CHECK(written) << written.error().text;
      at += part;
    }
  };
  {
    auto receiver = (*other)->receive(file);
    CHECK(receiver);
    send(**receiver, bytes.size() / 2);
  }
  // The rest in another life: what is whole of the first half is there.
  other_files.restart_process();
  other = storage::SnapshotStore::open(other_files, "s", {});
  CHECK(other);
  auto receiver = (*other)->receive(file);
  CHECK(receiver);
  CHECK((*receiver)->received() <= at);
  at = (*receiver)->received();
  send(**receiver, bytes.size());
  CHECK((*receiver)->verify().has_value() == (all != "?"));
  if (all != "?") {
    CHECK((*receiver)->publish());
    CHECK(read_all(**other, mark) == all);
  }
  return 0;
}

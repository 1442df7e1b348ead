#include "store.h"

#include <sys/auxv.h>

#include <algorithm>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace connectd::kv {
namespace {

constexpr size_t kSlotsMin = 16;
constexpr uint64_t kEntryWeight = 96;
// A value that shrank gives memory back once its buffer is this much too large.
constexpr size_t kSlackBytesMax = 1024;

// The random bytes the kernel gives every process at its start.
uint64_t process_seed() {
  uint64_t seed = 0;
  // getauxval() gives addresses as numbers. NOLINTNEXTLINE(performance-no-int-to-ptr)
  if (const auto* bytes = reinterpret_cast<const void*>(getauxval(AT_RANDOM))) {
    std::memcpy(&seed, bytes, sizeof seed);
  }
  return seed;
}

uint64_t weight_of(const Entry& entry) {
  return kEntryWeight + entry.key.size() + entry.value.size();
}

}  // namespace

Store::Store() : seed_(process_seed()), slots_(kSlotsMin) {}

Store::~Store() {
  for (const Slot& slot : slots_) delete slot.entry;
}

uint64_t Store::hash_of(std::string_view key) const {
  return XXH3_64bits_withSeed(key.data(), key.size(), seed_);
}

size_t Store::locate(std::string_view key, uint64_t hash) const {
  size_t mask = slots_.size() - 1;
  size_t at = hash & mask;
  while (slots_[at].entry != nullptr && (slots_[at].hash != hash || slots_[at].entry->key != key)) {
    at = (at + 1) & mask;
  }
  return at;
}

const Entry* Store::find(std::string_view key, int64_t now_ms) const {
  const Entry* entry = slots_[locate(key, hash_of(key))].entry;
  return entry != nullptr && !entry->expired(now_ms) ? entry : nullptr;
}

Entry* Store::find(std::string_view key, int64_t now_ms) {
  size_t at = locate(key, hash_of(key));
  Entry* entry = slots_[at].entry;
  if (entry != nullptr && entry->expired(now_ms)) {
    erase_slot(at);
    ++expired_;
    return nullptr;
  }
  return entry;
}

void Store::insert(std::unique_ptr<Entry> entry, uint64_t hash) {
  if ((used_ + 1) * 4 > slots_.size() * 3) resize(slots_.size() * 2);
  if (entry->expires()) expiries_.insert(entry.get());
  weight_ += weight_of(*entry);
  size_t at = locate(entry->key, hash);
  slots_[at] = {hash, entry.release()};
  used_++;
}

void Store::set(std::string_view key, std::string_view value, int64_t expire_at_ms) {
  uint64_t hash = hash_of(key);
  if (Entry* entry = slots_[locate(key, hash)].entry) {
    set_expiry(*entry, expire_at_ms);
    set_value(*entry, value);
    return;
  }
  auto entry = std::make_unique<Entry>();
  entry->key = key;
  entry->value = value;
  entry->expire_at_ms = expire_at_ms;
  insert(std::move(entry), hash);
}

void Store::set_value(Entry& entry, std::string_view value) {
  weight_ += value.size();
  weight_ -= entry.value.size();
  entry.value = value;
  if (entry.value.capacity() > 2 * value.size() + kSlackBytesMax) entry.value.shrink_to_fit();
}

void Store::append(Entry& entry, std::string_view tail) {
  weight_ += tail.size();
  entry.value += tail;
}

void Store::set_range(Entry& entry, size_t offset, std::string_view part) {
  size_t end = offset + part.size();
  if (end > entry.value.size()) {
    weight_ += end - entry.value.size();
    entry.value.resize(end);
  }
  std::copy(part.begin(), part.end(), entry.value.begin() + static_cast<ptrdiff_t>(offset));
}

void Store::set_expiry(Entry& entry, int64_t expire_at_ms) {
  if (entry.expire_at_ms == expire_at_ms) return;
  if (entry.expires()) expiries_.erase(&entry);
  entry.expire_at_ms = expire_at_ms;
  if (entry.expires()) expiries_.insert(&entry);
}

bool Store::erase(std::string_view key, int64_t now_ms) {
  size_t at = locate(key, hash_of(key));
  Entry* entry = slots_[at].entry;
  if (entry == nullptr) return false;
  bool present = !entry->expired(now_ms);
  erase_slot(at);
  if (!present) ++expired_;
  return present;
}

// Moves back every later entry of the run that may stand nearer to its own place, so that a search
// never has to step over a hole.
void Store::erase_slot(size_t at) {
  std::unique_ptr<Entry> entry(slots_[at].entry);
  if (entry->expires()) expiries_.erase(entry.get());
  weight_ -= weight_of(*entry);
  used_--;
  size_t mask = slots_.size() - 1;
  size_t hole = at;
  for (size_t next = (hole + 1) & mask; slots_[next].entry != nullptr; next = (next + 1) & mask) {
    size_t home = slots_[next].hash & mask;
    if (((next - home) & mask) >= ((next - hole) & mask)) {
      slots_[hole] = slots_[next];
      hole = next;
    }
  }
  slots_[hole] = {};
  if (slots_.size() > kSlotsMin && used_ * 8 < slots_.size()) resize(slots_.size() / 2);
}

void Store::resize(size_t slots) {
  std::vector<Slot> old(slots);
  old.swap(slots_);
  size_t mask = slots - 1;
  for (const Slot& slot : old) {
    if (slot.entry == nullptr) continue;
    size_t at = slot.hash & mask;
    while (slots_[at].entry != nullptr) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

void Store::clear() {
  expiries_.clear();
  for (const Slot& slot : slots_) delete slot.entry;
  slots_.assign(kSlotsMin, Slot{});
  slots_.shrink_to_fit();
  used_ = 0;
  weight_ = 0;
}

size_t Store::expiring(int64_t now_ms) const {
  size_t count = expiries_.size();
  for (const Entry* entry : expiries_) {
    if (!entry->expired(now_ms)) break;
    count--;
  }
  return count;
}

size_t Store::size(int64_t now_ms) const { return used_ - expiries_.size() + expiring(now_ms); }

int64_t Store::earliest_expiry() const {
  return expiries_.empty() ? kNever : (*expiries_.begin())->expire_at_ms;
}

size_t Store::remove_expired(int64_t now_ms, size_t max) {
  size_t removed = 0;
  while (removed < max && !expiries_.empty() && (*expiries_.begin())->expired(now_ms)) {
    const Entry& entry = **expiries_.begin();
    erase_slot(locate(entry.key, hash_of(entry.key)));
    removed++;
  }
  expired_ += removed;
  return removed;
}

// Sorted by the eight bytes that follow what all keys have in common, kept beside the pointer: only
// keys equal in those are looked at again. With many keys that is most of the cost.
std::vector<const Entry*> Store::sorted() const {
  struct Item {
    uint64_t front;
    const Entry* entry;
  };
  std::vector<Item> items;
  items.reserve(used_);
  size_t common = std::string::npos;
  for (const Slot& slot : slots_) {
    if (slot.entry == nullptr) continue;
    if (!items.empty()) {
      const std::string& first = items.front().entry->key;
      const std::string& key = slot.entry->key;
      size_t limit = std::min({common, first.size(), key.size()});
      common = static_cast<size_t>(
          std::mismatch(key.begin(), key.begin() + static_cast<ptrdiff_t>(limit), first.begin())
              .first -
          key.begin());
    }
    items.push_back({0, slot.entry});
  }
  for (Item& item : items) {
    std::string_view rest = std::string_view(item.entry->key);
    rest.remove_prefix(std::min(common, rest.size()));
    for (size_t i = 0; i < sizeof item.front; i++) {
      item.front = item.front << 8 | (i < rest.size() ? static_cast<uint8_t>(rest[i]) : 0);
    }
  }
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
    return a.front != b.front ? a.front < b.front : a.entry->key < b.entry->key;
  });
  std::vector<const Entry*> entries;
  entries.reserve(items.size());
  for (const Item& item : items) entries.push_back(item.entry);
  return entries;
}

}  // namespace connectd::kv

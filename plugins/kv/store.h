// The keys, their values and their expiries: the whole replicated state of the plugin.
//
// A hash table with open addressing (linear probing, deletion by shifting back) of pointers to
// entries, each with its hash beside it, so that growing never touches an entry. Beside it an index
// of the keys that expire, in the order (time, key). The order of the hash table is never shown:
// all lists of keys use sorted(). So the hash can be seeded per process, which makes colliding keys
// hard to choose, and still no reply depends on the seed.
//
// Times are milliseconds of the log's clock, handed in by the caller. A key whose time has passed
// is absent for every function that takes `now_ms`, even if it has not been removed yet.
//
// Thread: reads (const) may run concurrently with reads; changes run alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace connectd::kv {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

struct Entry {
  std::string key;
  std::string value;
  int64_t expire_at_ms = kNever;

  bool expired(int64_t now_ms) const { return now_ms > expire_at_ms; }
  bool expires() const { return expire_at_ms != kNever; }
};

class Store {
 public:
  Store();
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  const Entry* find(std::string_view key, int64_t now_ms) const;
  // Removes the key if its time has passed. The pointer is valid until the next change of keys.
  Entry* find(std::string_view key, int64_t now_ms);

  // Sets value and expiry, whether the key was there or not.
  void set(std::string_view key, std::string_view value, int64_t expire_at_ms);
  // New value, same expiry.
  void set_value(Entry& entry, std::string_view value);
  void append(Entry& entry, std::string_view tail);
  // Overwrites from `offset` on; the value grows with zero bytes as needed.
  void set_range(Entry& entry, size_t offset, std::string_view part);
  void set_expiry(Entry& entry, int64_t expire_at_ms);
  // False if the key was absent.
  bool erase(std::string_view key, int64_t now_ms);
  void clear();

  // Keys that are not expired, and how many of them have an expiry.
  size_t size(int64_t now_ms) const;
  size_t expiring(int64_t now_ms) const;
  // Keys held, the expired ones not yet removed among them.
  size_t held() const { return used_; }
  // What the state weighs: its bytes and a fixed charge for each entry. A function of the state
  // alone, equal on all replicas, so that a limit on it is deterministic.
  uint64_t weight() const { return weight_; }
  // How many keys this object has removed because they had expired; no part of the state.
  uint64_t expired() const { return expired_; }

  // Earliest time of an expiry, kNever for none.
  int64_t earliest_expiry() const;
  // Removes expired keys in the order (time, key), at most `max`. Returns how many.
  size_t remove_expired(int64_t now_ms, size_t max);

  // All entries held, by key.
  std::vector<const Entry*> sorted() const;

 private:
  struct Slot {
    uint64_t hash = 0;
    Entry* entry = nullptr;
  };
  struct EarlierFirst {
    bool operator()(const Entry* a, const Entry* b) const {
      return a->expire_at_ms != b->expire_at_ms ? a->expire_at_ms < b->expire_at_ms
                                                : a->key < b->key;
    }
  };

  uint64_t hash_of(std::string_view key) const;
  // The slot that holds the key, or the empty one where it would go.
  size_t locate(std::string_view key, uint64_t hash) const;
  void insert(std::unique_ptr<Entry> entry, uint64_t hash);
  void erase_slot(size_t at);
  void resize(size_t slots);

  const uint64_t seed_;
  std::vector<Slot> slots_;  // a power of two
  size_t used_ = 0;
  uint64_t weight_ = 0;
  uint64_t expired_ = 0;
  std::set<Entry*, EarlierFirst> expiries_;
};

}  // namespace connectd::kv

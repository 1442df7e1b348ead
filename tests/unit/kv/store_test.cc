#include "plugins/kv/store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace connectd::kv {
namespace {

// The same, in the plainest way.
class Model {
 public:
  struct Item {
    std::string value;
    int64_t expire_at_ms;
  };
  Item* find(const std::string& key, int64_t now) {
    auto found = items_.find(key);
    if (found == items_.end() || now > found->second.expire_at_ms) return nullptr;
    return &found->second;
  }
  size_t size(int64_t now) const {
    size_t count = 0;
    for (const auto& [key, item] : items_) count += now > item.expire_at_ms ? 0 : 1;
    return count;
  }
  uint64_t weight(const Store& store) const {
    uint64_t sum = 0;
    for (const Entry* entry : store.sorted()) sum += 96 + entry->key.size() + entry->value.size();
    return sum;
  }
  std::map<std::string, Item> items_;
};

void compare(const Store& store, Model& model, int64_t now) {
  ASSERT_EQ(store.size(now), model.size(now));
  ASSERT_EQ(store.weight(), model.weight(store));
  std::string last;
  int64_t earliest = kNever;
  size_t live = 0;
  for (const Entry* entry : store.sorted()) {
    ASSERT_LT(last, entry->key);
    last = entry->key;
    earliest = std::min(earliest, entry->expire_at_ms);
    const Model::Item* item = model.find(entry->key, now);
    ASSERT_EQ(item != nullptr, !entry->expired(now)) << entry->key;
    if (item == nullptr) continue;
    live++;
    ASSERT_EQ(item->value, entry->value);
    ASSERT_EQ(item->expire_at_ms, entry->expire_at_ms);
    ASSERT_EQ(store.find(entry->key, now), entry);
  }
  ASSERT_EQ(live, model.size(now));
  ASSERT_EQ(store.earliest_expiry(), earliest);
}

// Few keys for many collisions in what happens to one; many keys for growth and shrinking.
void run(uint64_t seed, size_t keys, int steps) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  Store store;
  Model model;
  int64_t now = 1000;
  size_t bias = 0;
  for (int step = 0; step < steps; step++) {
    if (step % 1000 == 0) bias = random() % 3;
    std::string key = "key" + std::to_string(random() % keys);
    std::string value(random() % 40, static_cast<char>('a' + random() % 26));
    int64_t expire_at = random() % 3 == 0 ? now + static_cast<int64_t>(random() % 50) : kNever;
    switch (random() % (8 + bias * 4)) {
      case 0:
        now += static_cast<int64_t>(random() % 3);
        break;
      case 1:
      case 2:
        store.set(key, value, expire_at);
        model.items_[key] = {value, expire_at};
        break;
      case 3: {
        Entry* entry = store.find(key, now);
        Model::Item* item = model.find(key, now);
        ASSERT_EQ(entry != nullptr, item != nullptr);
        if (entry == nullptr) break;
        store.append(*entry, value);
        item->value += value;
        break;
      }
      case 4: {
        Entry* entry = store.find(key, now);
        if (entry == nullptr || value.empty()) break;
        size_t offset = random() % 60;
        store.set_range(*entry, offset, value);
        std::string& expected = model.find(key, now)->value;
        if (expected.size() < offset + value.size()) expected.resize(offset + value.size());
        expected.replace(offset, value.size(), value);
        break;
      }
      case 5: {
        Entry* entry = store.find(key, now);
        if (entry == nullptr) break;
        store.set_expiry(*entry, expire_at);
        model.find(key, now)->expire_at_ms = expire_at;
        break;
      }
      case 6: {
        // The earliest go first, and no more than asked for.
        size_t before = store.held();
        size_t removed = store.remove_expired(now, 2);
        ASSERT_EQ(store.held(), before - removed);
        ASSERT_TRUE(removed == 2 || store.earliest_expiry() >= now);
        break;
      }
      default:
        ASSERT_EQ(store.erase(key, now), model.find(key, now) != nullptr);
        model.items_.erase(key);
    }
    if (step % 500 == 0) compare(store, model, now);
  }
  compare(store, model, now);
  store.clear();
  model.items_.clear();
  compare(store, model, now);
}

TEST(Store, DoesWhatAPlainMapDoes) {
  for (uint64_t seed = 1; seed <= 10; seed++) {
    run(seed, 20, 20'000);
    run(seed, 3000, 20'000);
  }
}

TEST(Store, RemovesTheExpiredInOrderOfTimeThenKey) {
  Store store;
  store.set("c", "", 10);
  store.set("b", "", 20);
  store.set("a", "", 20);
  store.set("d", "", kNever);
  EXPECT_EQ(store.remove_expired(20, 10), 1u);
  EXPECT_EQ(store.remove_expired(21, 1), 1u);
  ASSERT_EQ(store.held(), 2u);
  EXPECT_EQ(store.sorted()[0]->key, "b");
  EXPECT_EQ(store.size(21), 1u);
}

TEST(Store, SortsByTheBytesOfTheKeys) {
  std::vector<std::string> parts = {"",     std::string(1, '\0'),      "a", "b", "\xff", "prefix",
                                    "\x7f", "prefix longer than eight"};
  for (std::string common : {"", "common:"}) {
    std::vector<std::string> expected;
    Store store;
    for (const auto& a : parts) {
      for (const auto& b : parts) {
        for (const auto& c : parts) {
          expected.push_back(common + a + b + c);
          store.set(expected.back(), "", kNever);
        }
      }
    }
    std::sort(expected.begin(), expected.end());
    expected.erase(std::unique(expected.begin(), expected.end()), expected.end());
    std::vector<std::string> sorted;
    for (const Entry* entry : store.sorted()) sorted.push_back(entry->key);
    EXPECT_EQ(sorted, expected);
  }
}

TEST(Store, GivesMemoryOfAShrunkValueBack) {
  Store store;
  store.set("a", std::string(1 << 20, 'x'), kNever);
  store.set("a", "small", kNever);
  EXPECT_LT(store.find("a", 0)->value.capacity(), 4096u);
}

}  // namespace
}  // namespace connectd::kv

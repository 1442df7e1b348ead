// The search for a linearization: histories by hand, each with the one thing that makes it right or
// wrong; all orders of small drawn histories; the models against the plugins; and what it costs.
#include "sim/linearizability.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "tests/unit/sim/histories.h"
#include "tests/unit/sim/support.h"

namespace connectd::sim {
namespace {

using ::testing::HasSubstr;

const Request kIncr{"incr", "", ""};
Request set(const std::string& key, const std::string& value) { return {"SET", key, value}; }
Request get(const std::string& key) { return {"GET", key, ""}; }

SearchResult search(const History& history, const Model& model, SearchBudget budget = {}) {
  auto result = check_linearizable(history, model, budget);
  CHECK(result.has_value()) << result.error().text;
  return *result;
}
bool is_linearizable(const History& history, const Model& model) {
  SearchResult result = search(history, model);
  EXPECT_NE(result.verdict, Verdict::kBudgetExhausted);
  return result.verdict == Verdict::kLinearizable;
}
bool counter_allows(const History& history) { return is_linearizable(history, CounterModel()); }
bool kv_allows(const History& history) { return is_linearizable(history, KvModel()); }

// ---- by hand

TEST(SearchByHand, NothingAndOneAfterTheOther) {
  EXPECT_TRUE(counter_allows({}));
  EXPECT_TRUE(counter_allows({answered(1, kIncr, 1, 2, "1\n"), answered(2, kGet, 3, 4, "1\n"),
                              answered(1, kIncr, 5, 6, "2\n")}));
}

TEST(SearchByHand, ReadBehindAWriteSeesIt) {
  EXPECT_FALSE(counter_allows({answered(1, kIncr, 1, 2, "1\n"), answered(2, kGet, 3, 4, "0\n")}));
  // Beside it, either.
  EXPECT_TRUE(counter_allows({answered(1, kIncr, 1, 3, "1\n"), answered(2, kGet, 2, 4, "0\n")}));
  EXPECT_TRUE(counter_allows({answered(1, kIncr, 1, 3, "1\n"), answered(2, kGet, 2, 4, "1\n")}));
}

TEST(SearchByHand, TwoReadsBesideAWriteDoNotGoBack) {
  auto reads = [](const char* first, const char* second) -> History {
    return {answered(1, kIncr, 1, 8, "1\n"), answered(2, kGet, 2, 3, first),
            answered(3, kGet, 4, 5, second)};
  };
  EXPECT_TRUE(counter_allows(reads("0\n", "1\n")));
  EXPECT_FALSE(counter_allows(reads("1\n", "0\n")));
}

TEST(SearchByHand, NoUpdateIsLostAndNoneCountsTwice) {
  EXPECT_FALSE(counter_allows({answered(1, kIncr, 1, 3, "1\n"), answered(2, kIncr, 2, 4, "1\n")}));
  EXPECT_FALSE(counter_allows({answered(1, kIncr, 1, 2, "1\n"), answered(2, kGet, 3, 4, "2\n")}));
  EXPECT_FALSE(counter_allows({answered(1, kIncr, 1, 2, "one\n")}));
}

TEST(SearchByHand, OneConnectionKeepsItsOrder) {
  auto pipelined = [](uint64_t first, uint64_t second) -> History {
    return {answered(first, kIncr, 1, 3, "2\n"), answered(second, kIncr, 2, 4, "1\n")};
  };
  EXPECT_TRUE(counter_allows(pipelined(1, 2)));
  EXPECT_FALSE(counter_allows(pipelined(1, 1)));
  // A read after a write, a write after a read: the barrier, in both directions.
  EXPECT_FALSE(counter_allows({answered(1, kIncr, 1, 3, "1\n"), answered(1, kGet, 2, 4, "0\n")}));
  EXPECT_TRUE(counter_allows({answered(1, kIncr, 1, 3, "1\n"), answered(2, kGet, 2, 4, "0\n")}));
  EXPECT_FALSE(counter_allows({answered(1, kGet, 1, 3, "1\n"), answered(1, kIncr, 2, 4, "1\n")}));
  EXPECT_TRUE(counter_allows({answered(1, kGet, 1, 3, "1\n"), answered(2, kIncr, 2, 4, "1\n")}));
}

TEST(SearchByHand, UnknownWriteTakesEffectOnceLaterOrNever) {
  auto reads = [](const char* first, const char* second) -> History {
    return {unanswered(1, kIncr, 1), answered(2, kGet, 2, 3, first),
            answered(2, kGet, 4, 5, second)};
  };
  EXPECT_TRUE(counter_allows(reads("0\n", "0\n")));
  EXPECT_TRUE(counter_allows(reads("0\n", "1\n")));
  EXPECT_TRUE(counter_allows(reads("1\n", "1\n")));
  EXPECT_FALSE(counter_allows(reads("1\n", "0\n")));
  EXPECT_FALSE(counter_allows(reads("1\n", "2\n")));
  // Not before it was called.
  EXPECT_FALSE(counter_allows({answered(2, kGet, 1, 2, "1\n"), unanswered(1, kIncr, 3)}));
}

TEST(SearchByHand, UnknownWriteFollowsRepliesOfItsConnection) {
  auto history = [](uint64_t client) -> History {
    return {answered(1, kIncr, 1, 9, "2\n"), unanswered(client, kIncr, 2)};
  };
  EXPECT_TRUE(counter_allows(history(2)));
  EXPECT_FALSE(counter_allows(history(1)));
  // But it does not hold up what its connection asks later.
  EXPECT_TRUE(counter_allows(
      {unanswered(1, kIncr, 1), answered(1, kGet, 2, 3, "0\n"), answered(1, kGet, 4, 5, "1\n")}));
}

TEST(SearchByHand, RefusedCallHasNoEffect) {
  EXPECT_TRUE(counter_allows({unanswered(1, kIncr, 1, kRefused), answered(2, kGet, 2, 3, "0\n")}));
  EXPECT_FALSE(counter_allows({unanswered(1, kIncr, 1, kRefused), answered(2, kGet, 2, 3, "1\n")}));
}

TEST(SearchByHand, EveryEndOfAWindowIsCarriedAcrossTheCut) {
  auto history = [](const std::string& first, const std::string& second) -> History {
    return {answered(1, set("k", "a"), 1, 3, "+OK\r\n"),
            answered(2, set("k", "b"), 2, 4, "+OK\r\n"), answered(1, get("k"), 5, 6, bulk(first)),
            answered(2, get("k"), 7, 8, bulk(second))};
  };
  EXPECT_EQ(search(history("a", "a"), KvModel()).windows, 3u);
  EXPECT_TRUE(kv_allows(history("a", "a")));
  EXPECT_TRUE(kv_allows(history("b", "b")));
  EXPECT_FALSE(kv_allows(history("a", "b")));
  EXPECT_FALSE(kv_allows(history("b", "a")));
}

TEST(SearchByHand, UnknownWriteOfAnEarlierWindowIsCarriedToo) {
  EXPECT_TRUE(kv_allows(
      {unanswered(1, set("k", "late"), 1), answered(2, set("k", "a"), 2, 3, "+OK\r\n"),
       answered(2, get("k"), 4, 5, bulk("a")), answered(2, get("k"), 6, 7, bulk("late"))}));
  EXPECT_FALSE(kv_allows(
      {unanswered(1, set("k", "late"), 1), answered(2, get("k"), 2, 3, bulk("late")),
       answered(2, set("k", "a"), 4, 5, "+OK\r\n"), answered(2, get("k"), 6, 7, bulk("late"))}));
}

TEST(SearchByHand, KeysAreSearchedApartUnlessACommandConnectsThem) {
  History history = {answered(1, set("a", "1"), 1, 2, "+OK\r\n"),
                     answered(2, set("b", "1"), 3, 4, "+OK\r\n"),
                     answered(3, get("a"), 5, 6, bulk("1"))};
  EXPECT_EQ(search(history, KvModel()).parts, 2u);
  // Wrong only across keys: b was written after a.
  Request both{"MGET", "a", "b"};
  Operation read = answered(4, both, 1, 6, "*2\r\n" + kNull + bulk("1"));
  read.is_write = false;
  history[0].call_order = 7;  // a is written at the very end...
  history[0].return_order = 8;
  history[2] = read;
  EXPECT_EQ(search(history, KvModel()).parts, 1u);
  EXPECT_TRUE(kv_allows(history));
  history[0].call_order = 2;  // ... or before b
  history[0].return_order = 3;
  history[1].call_order = 4;
  history[1].return_order = 5;
  EXPECT_FALSE(kv_allows(history));
}

TEST(SearchByHand, CommandOnSeveralKeysIsCutUpWhenEachKeyIsSearched) {
  auto read = [](std::vector<std::string> words, uint64_t call, const std::string& reply) {
    Operation operation = answered(2, kGet, call, call + 1, reply);
    operation.request = resp(words);
    return operation;
  };
  Operation write = answered(1, kIncr, 1, 2, "+OK\r\n");
  write.request = resp({"MSET", "a", "0", "a", "1", "b", "2"});
  KvModel each(KvModel::Keys::kEach);
  auto allows = [&](const std::vector<std::string>& words, const std::string& reply) {
    return is_linearizable({write, read(words, 3, reply)}, each);
  };
  EXPECT_EQ(search({write}, each).parts, 2u);
  EXPECT_TRUE(allows({"MGET", "a", "b", "c"}, "*3\r\n" + bulk("1") + bulk("2") + kNull));
  EXPECT_FALSE(allows({"MGET", "a", "b", "c"}, "*3\r\n" + bulk("0") + bulk("2") + kNull));
  EXPECT_FALSE(allows({"MGET", "a", "b", "c"}, "*3\r\n" + bulk("1") + kNull + kNull));
  EXPECT_FALSE(allows({"MGET", "a", "b", "c"}, "*2\r\n" + bulk("1") + bulk("2")));
  EXPECT_TRUE(allows({"EXISTS", "a", "b"}, ":2\r\n"));
  EXPECT_FALSE(allows({"EXISTS", "a", "b"}, ":0\r\n"));
  EXPECT_TRUE(allows({"EXISTS", "c", "c"}, ":0\r\n"));
  EXPECT_FALSE(allows({"EXISTS", "a", "a"}, ":1\r\n"));
}

TEST(SearchByHand, UnknownWritesThatNobodySeesAreAllOne) {
  KvModel each(KvModel::Keys::kEach);
  History history = {answered(1, set("k", "first"), 1, 2, "+OK\r\n")};
  for (uint64_t i = 0; i < 200; ++i) {
    history.push_back(unanswered(10 + i, {"APPEND", "k", "-" + std::to_string(i)}, 3 + i));
  }
  auto with = [&](std::vector<Operation> reads) {
    History all = history;
    for (Operation& read : reads) all.push_back(std::move(read));
    SearchResult result = search(all, each, {.steps = 20'000});
    EXPECT_NE(result.verdict, Verdict::kBudgetExhausted);
    return result.verdict == Verdict::kLinearizable;
  };
  EXPECT_TRUE(with({answered(1, get("k"), 300, 301, bulk("first-7-150-9"))}));
  EXPECT_FALSE(with({answered(1, get("k"), 300, 301, bulk("first-7-200-9"))}));
  EXPECT_FALSE(with({answered(1, get("k"), 300, 301, bulk("first-7-150-7"))}));
  EXPECT_FALSE(with({answered(1, get("k"), 300, 301, bulk("second"))}));
  EXPECT_TRUE(with({answered(1, {"STRLEN", "k", ""}, 300, 301, ":44\r\n")}));
  EXPECT_FALSE(with({answered(1, get("k"), 300, 301, kNull)}));
}

TEST(SearchByHand, HintsChangeNoVerdict) {
  Random random(8);
  DrawOptions options;
  options.operations = 40;
  options.unknown_percent = 20;
  options.request = kv_requests(1);
  for (uint64_t seed = 0; seed < 300; ++seed) {
    History history = draw_history(random, options).history;
    if (random.chance(50)) {
      size_t at = random.below(history.size());
      if (history[at].outcome == OutcomeKind::kOk) history[at].reply = ":1\r\n";
    }
    SearchResult with = search(history, KvModel());
    for (Operation& operation : history) operation.index = Index(random.below(60));
    SearchResult wrong = search(history, KvModel());
    for (Operation& operation : history) operation.index = Index();
    SearchResult without = search(history, KvModel());
    ASSERT_EQ(with.verdict, without.verdict) << seed;
    ASSERT_EQ(wrong.verdict, without.verdict) << seed;
  }
}

TEST(SearchByHand, KeyWithATimeToLiveGoesOnceAndStaysGone) {
  auto history = [](bool expires, const std::string& first, const std::string& second) {
    Operation write = answered(1, {"SET", "k", "v"}, 1, 2, "+OK\r\n");
    if (expires) write.request = resp({"SET", "k", "v", "PX", "400"});
    return History{write, answered(1, get("k"), 3, 4, first), answered(1, get("k"), 5, 6, second)};
  };
  EXPECT_TRUE(kv_allows(history(true, bulk("v"), bulk("v"))));
  EXPECT_TRUE(kv_allows(history(true, bulk("v"), kNull)));
  EXPECT_FALSE(kv_allows(history(true, kNull, bulk("v"))));
  EXPECT_FALSE(kv_allows(history(false, bulk("v"), kNull)));
  // Two reads at the same time: the one that finds it gone comes second, whichever is tried first.
  History beside = history(true, kNull, bulk("v"));
  beside[2].client = 2;
  beside[2].call_order = 3;
  beside[1].call_order = 2;
  beside[0].return_order = 1;
  beside[0].call_order = 0;
  EXPECT_TRUE(kv_allows(beside));
}

TEST(SearchByHand, ChainTellsTheOrderAndTheIndex) {
  auto plugin = load_plugin("tests/plugins/libchain.so");
  auto chain = make_instance(plugin);
  auto add = [&](uint64_t client, uint64_t index, uint64_t call, uint64_t returned) {
    Request request{"add " + std::to_string(index), "", ""};
    plugin::ApplyContext context;
    context.index = Index(index);
    std::string reply;
    CHECK(chain->apply(context, as_bytes(request.bytes()), reply).has_value());
    return answered(client, request, call, returned, reply, index);
  };
  auto read = [&](uint64_t call, uint64_t returned) {
    std::string reply;
    CHECK(chain->read({}, as_bytes("get"), reply).has_value());
    return answered(9, kGet, call, returned, reply);
  };
  History history = {add(1, 4, 1, 2), add(2, 5, 3, 6), add(3, 7, 4, 5), read(7, 8)};
  ChainModel model;
  EXPECT_TRUE(is_linearizable(history, model));
  auto refused = [&](auto change) {
    History changed = history;
    change(changed);
    return !is_linearizable(changed, model);
  };
  EXPECT_TRUE(refused([](History& h) { h[1].index = Index(6); }));
  EXPECT_TRUE(refused([](History& h) { h[2].request = "add other"; }));
  EXPECT_TRUE(refused([](History& h) { std::swap(h[1].reply, h[2].reply); }));
  EXPECT_TRUE(refused([](History& h) { h[3].reply[3] ^= 1; }));
  EXPECT_TRUE(refused([](History& h) { h.erase(h.begin()); }));
  // One more write, of unknown outcome and index: then the state is open, but its count is not.
  History open = {add(1, 8, 9, 10), read(13, 14)};
  history.push_back(unanswered(4, {"add 8", "", ""}, 9));
  history.push_back(open[1]);
  EXPECT_TRUE(is_linearizable(history, model));
  history.pop_back();
  add(1, 9, 11, 12);
  history.push_back(read(13, 14));
  EXPECT_FALSE(is_linearizable(history, model));
}

TEST(SearchByHand, MessageNamesTheKeyTheWindowAndTheOperations) {
  SearchResult result =
      search({answered(1, set("good", "1"), 1, 2, "+OK\r\n"),
              answered(1, set("bad", "1"), 3, 4, "+OK\r\n"), unanswered(3, {"DEL", "good", ""}, 5),
              answered(2, get("bad"), 6, 7, bulk("1")), answered(7, get("bad"), 8, 9, bulk("2")),
              answered(2, get("bad"), 10, 11, bulk("1"))},
             KvModel());
  EXPECT_EQ(result.verdict, Verdict::kNotLinearizable);
  EXPECT_THAT(result.text, HasSubstr("key bad, window 3 of 4:"));
  EXPECT_THAT(result.text, HasSubstr("client 7: "));
}

TEST(SearchByHand, RequestThatTheModelDoesNotKnowIsAnError) {
  auto result = check_linearizable({answered(1, {"SORT", "k", ""}, 1, 2, "*0\r\n")}, KvModel());
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().text, HasSubstr("SORT"));
  EXPECT_FALSE(
      check_linearizable({answered(1, {"decr", "", ""}, 1, 2, "1\n")}, CounterModel()).has_value());
  EXPECT_EQ(make_model("other"), nullptr);
}

TEST(SearchByHand, ExhaustedBudgetIsNoPass) {
  Random random(5);
  DrawOptions options;
  options.operations = 200;
  options.request = counter_request;
  Drawn drawn = draw_history(random, options);
  EXPECT_EQ(search(drawn.history, CounterModel()).verdict, Verdict::kLinearizable);
  SearchResult result = search(drawn.history, CounterModel(), {.steps = 50});
  EXPECT_EQ(result.verdict, Verdict::kBudgetExhausted);
  EXPECT_THAT(result.text, HasSubstr("the counter, window "));
  EXPECT_LE(result.steps, 50u);
}

// ---- against all orders

// Tries each order of each selection of the unknown writes, and only then asks whether it was
// allowed.
bool some_order_explains(const Drawn& drawn) {
  const History& history = drawn.history;
  std::vector<size_t> known, unknown;
  for (size_t i = 0; i < history.size(); ++i) {
    if (history[i].outcome == OutcomeKind::kOk) known.push_back(i);
    if (history[i].outcome == OutcomeKind::kUnknown && history[i].is_write) unknown.push_back(i);
  }
  auto must_precede = [&](const Operation& a, const Operation& b) {
    if (a.outcome != OutcomeKind::kOk) return false;
    return a.return_order < b.call_order || (a.client == b.client && a.call_order < b.call_order);
  };
  for (size_t selection = 0; selection < size_t{1} << unknown.size(); ++selection) {
    std::vector<size_t> order = known;
    for (size_t i = 0; i < unknown.size(); ++i) {
      if ((selection >> i & 1) != 0) order.push_back(unknown[i]);
    }
    std::ranges::sort(order);
    do {
      bool holds = true;
      for (size_t i = 0; i < order.size() && holds; ++i) {
        for (size_t j = i + 1; j < order.size() && holds; ++j) {
          holds = !must_precede(history[order[j]], history[order[i]]);
        }
      }
      SimpleMachine machine;
      for (size_t i = 0; i < order.size() && holds; ++i) {
        std::string reply = machine.execute(drawn.requests[order[i]]);
        holds = history[order[i]].outcome != OutcomeKind::kOk || reply == history[order[i]].reply;
      }
      if (holds) return true;
    } while (std::ranges::next_permutation(order).found);
  }
  return false;
}

// Makes a reply another one that some state could have given.
void spoil(Random& random, Drawn& drawn) {
  std::vector<size_t> answered;
  for (size_t i = 0; i < drawn.history.size(); ++i) {
    if (drawn.history[i].outcome == OutcomeKind::kOk) answered.push_back(i);
  }
  if (answered.empty()) return;
  size_t at = answered[random.below(answered.size())];
  Operation& operation = drawn.history[at];
  switch (random.below(3)) {
    case 0: {  // of another moment
      SimpleMachine machine;
      size_t moment = random.below(drawn.effects.size() + 1);
      for (size_t i = 0; i < moment; ++i) machine.execute(drawn.requests[drawn.effects[i]]);
      operation.reply = machine.execute(drawn.requests[at]);
      break;
    }
    case 1:  // it was over earlier
      operation.return_order =
          operation.call_order + random.below(operation.return_order - operation.call_order) + 1;
      operation.return_order = std::min(operation.return_order, UINT64_MAX - 1);
      break;
    default:  // it has no effect after all
      operation.outcome = OutcomeKind::kRefused;
  }
}

// Orders must stay unique; `spoil` may have doubled some.
void renumber(History& history) {
  std::vector<std::tuple<uint64_t, int, uint64_t*>> moments;
  for (Operation& operation : history) {
    moments.push_back({operation.call_order, 1, &operation.call_order});
    if (operation.return_order != UINT64_MAX) {
      moments.push_back({operation.return_order, 0, &operation.return_order});
    }
  }
  std::ranges::stable_sort(moments, {},
                           [](const auto& m) { return std::pair(std::get<0>(m), std::get<1>(m)); });
  uint64_t order = 0;
  for (auto& [was, kind, now] : moments) *now = ++order;
}

enum class Finds { kAll, kOnlyWrongOnes };

void compare_with_all_orders(const Model& model, DrawOptions options, uint64_t first_seed,
                             Finds finds = Finds::kAll) {
  size_t good = 0, bad = 0, found = 0, with_unknown = 0;
  const size_t pipelined_max = options.pipelined_max;
  for (uint64_t seed = first_seed; seed < first_seed + 10'000; ++seed) {
    Random random(seed);
    options.operations = 1 + random.below(6);
    options.clients = 1 + random.below(4);
    options.pipelined_max = 1 + random.below(pipelined_max);
    options.unknown_percent = static_cast<double>(random.below(60));
    Drawn drawn = draw_history(random, options);
    if (random.chance(80)) {
      spoil(random, drawn);
      renumber(drawn.history);
    }
    bool expected = some_order_explains(drawn);
    SearchResult result = search(drawn.history, model);
    std::string text;
    for (const Operation& operation : drawn.history) text += describe(operation) + "\n";
    ASSERT_NE(result.verdict, Verdict::kBudgetExhausted);
    bool is_good = result.verdict == Verdict::kLinearizable;
    if (is_good != expected && (finds == Finds::kAll || expected)) {
      FAIL() << "seed " << seed << ": the search says " << is_good << ", all orders say "
             << expected << "\n"
             << text;
    }
    ++(expected ? good : bad);
    found += is_good ? 0 : 1;
    auto unknown = std::ranges::count(drawn.history, OutcomeKind::kUnknown, &Operation::outcome);
    with_unknown += unknown > 0 ? 1 : 0;
  }
  EXPECT_GT(good, 2000u);
  EXPECT_GT(bad, 700u);
  EXPECT_GT(found, bad * 9 / 10);
  EXPECT_GT(with_unknown, 2000u);
}

TEST(SearchAgainstAllOrders, Counter) {
  DrawOptions options;
  options.request = counter_request;
  compare_with_all_orders(CounterModel(), options, 1);
}

TEST(SearchAgainstAllOrders, OneKey) {
  DrawOptions options;
  options.request = kv_requests(1);
  compare_with_all_orders(KvModel(), options, 100'000);
}

TEST(SearchAgainstAllOrders, TwoKeysTogether) {
  DrawOptions options;
  options.request = kv_requests(2);
  compare_with_all_orders(KvModel(KvModel::Keys::kTogether), options, 200'000);
}

TEST(SearchAgainstAllOrders, TwoKeysEach) {
  DrawOptions options;
  options.request = kv_requests(2);
  compare_with_all_orders(KvModel(KvModel::Keys::kEach), options, 500'000, Finds::kOnlyWrongOnes);
}

// Without pipelining the keys can be searched apart and nothing is missed; with it, nothing is
// refused that is right.
TEST(SearchAgainstAllOrders, TwoKeysApart) {
  DrawOptions options;
  options.request = kv_requests(2);
  compare_with_all_orders(KvModel(), options, 300'000, Finds::kOnlyWrongOnes);
  options.pipelined_max = 1;
  compare_with_all_orders(KvModel(), options, 400'000);
}

// ---- the models against the plugins

// From the state that the model has after the same commands, the plugin's reply leads to exactly
// one state, and another reply to none.
TEST(Models, KvIsThePlugin) {
  auto plugin = load_plugin("plugins/libkv.so");
  auto kv = make_instance(plugin);
  Random random(11);
  auto key = [&] { return "k" + std::to_string(random.below(3)); };
  auto value = [&] { return std::to_string(random.below(20)); };
  const std::vector<std::function<std::vector<std::string>()>> commands = {
      [&] {
        return std::vector<std::string>{"SET", key(), value()};
      },
      [&] {
        return std::vector<std::string>{"SET", key(), value(), "NX"};
      },
      [&] {
        return std::vector<std::string>{"SET", key(), value(), "XX", "GET"};
      },
      [&] {
        return std::vector<std::string>{"set", key(), "text"};
      },
      [&] {
        return std::vector<std::string>{"SET", key(), value(), "KEEPTTL"};
      },
      [&] {
        return std::vector<std::string>{"SETNX", key(), value()};
      },
      [&] {
        return std::vector<std::string>{"APPEND", key(), value()};
      },
      [&] {
        return std::vector<std::string>{"GETSET", key(), value()};
      },
      [&] {
        return std::vector<std::string>{"GETDEL", key()};
      },
      [&] {
        return std::vector<std::string>{"CAS", key(), value(), value()};
      },
      [&] {
        return std::vector<std::string>{"INCR", key()};
      },
      [&] {
        return std::vector<std::string>{"DECR", key()};
      },
      [&] {
        return std::vector<std::string>{"INCRBY", key(), "9000000000000000000"};
      },
      [&] {
        return std::vector<std::string>{"DECRBY", key(), value()};
      },
      [&] {
        return std::vector<std::string>{"PERSIST", key()};
      },
      [&] {
        return std::vector<std::string>{"MSET", key(), value(), key(), value()};
      },
      [&] {
        return std::vector<std::string>{"DEL", key(), key()};
      },
      [&] {
        return std::vector<std::string>{"UNLINK", key()};
      },
      [&] {
        return std::vector<std::string>{"GET", key()};
      },
      [&] {
        return std::vector<std::string>{"STRLEN", key()};
      },
      [&] {
        return std::vector<std::string>{"EXISTS", key(), key()};
      },
      [&] {
        return std::vector<std::string>{"MGET", "k0", "k1", "k2"};
      },
      [&] { return std::vector<std::string>{"DBSIZE"}; },
      [&] { return std::vector<std::string>{random.chance(10) ? "FLUSHALL" : "DBSIZE"}; },
      [&] { return std::vector<std::string>{"PING"}; },
  };
  History history;
  for (uint64_t i = 0; i < 20'000; ++i) {
    Operation operation;
    operation.request = resp(commands[random.below(commands.size())]());
    operation.outcome = OutcomeKind::kOk;
    operation.call_order = 2 * i + 1;
    operation.return_order = 2 * i + 2;
    std::string reply;
    auto kind = kv->classify(as_bytes(operation.request), reply);
    ASSERT_TRUE(kind.has_value());
    operation.is_write = *kind == plugin::RequestKind::kWrite;
    plugin::ApplyContext context;
    context.index = Index(i + 1);
    auto status = *kind == plugin::RequestKind::kReply ? Result<int32_t>(0)
                  : operation.is_write ? kv->apply(context, as_bytes(operation.request), reply)
                                       : kv->read({}, as_bytes(operation.request), reply);
    ASSERT_TRUE(status.has_value()) << status.error().text;
    operation.reply = reply;
    history.push_back(std::move(operation));
  }
  // What one client saw is right by any model.
  std::vector<History> stretches;  // each FLUSHALL resets all keys
  for (const Operation& operation : history) {
    if (stretches.empty() || operation.request == resp({"FLUSHALL"})) stretches.emplace_back();
    if (operation.request != resp({"FLUSHALL"})) stretches.back().push_back(operation);
  }
  EXPECT_GT(stretches.size(), 20u);
  for (const History& stretch : stretches) {
    SearchResult each = search(stretch, KvModel(KvModel::Keys::kEach));
    ASSERT_EQ(each.verdict, Verdict::kLinearizable) << each.text;
  }
  KvModel model;
  auto parts = model.split(history);
  ASSERT_TRUE(parts.has_value()) << parts.error().text;
  ASSERT_EQ(parts->size(), 1u);
  History spoiled = history;
  for (Operation& operation : spoiled) operation.reply = "+another\r\n";
  auto spoiled_parts = model.split(spoiled);
  ASSERT_TRUE(spoiled_parts.has_value());
  std::string state = parts->front().initial;
  for (size_t i = 0; i < parts->front().items.size(); ++i) {
    const Model::Item& item = parts->front().items[i];
    std::vector<Effect::Next> next;
    item.effect->step(state, next);
    ASSERT_EQ(next.size(), 1u) << describe(history[item.operation]);
    std::vector<Effect::Next> none;
    spoiled_parts->front().items[i].effect->step(state, none);
    ASSERT_TRUE(none.empty()) << describe(history[item.operation]);
    state = next.front().state;
  }
}

// ---- what it costs

void long_history(const Model& model, DrawOptions options, uint64_t seeds) {
  uint64_t steps = 0, operations = 0, unknown = 0;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    Random random(seed);
    Drawn drawn = draw_history(random, options);
    SearchResult result = search(drawn.history, model);
    ASSERT_EQ(result.verdict, Verdict::kLinearizable) << "seed " << seed << ": " << result.text;
    steps += result.steps;
    operations += drawn.history.size();
    unknown += std::ranges::count(drawn.history, OutcomeKind::kUnknown, &Operation::outcome);
  }
  std::printf("%lu operations, %lu unknown, %lu steps\n", operations, unknown, steps);
  EXPECT_LT(steps, 40 * operations);
}

TEST(SearchCost, LongHistoryOfTheCounter) {
  DrawOptions options;
  options.operations = 20'000;
  options.clients = 8;
  options.pipelined_max = 8;
  options.unknown_percent = 1;
  options.request = counter_request;
  long_history(CounterModel(), options, 5);
}

}  // namespace
}  // namespace connectd::sim

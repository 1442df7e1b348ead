#include "sim/models.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <numeric>
#include <optional>
#include <set>

#include "base/bytes.h"
#include "base/log.h"
#include "sim/describe.h"

namespace connectd::sim {
namespace {

// Reads without an answer and refused requests are irrelevant; they are in no part.
bool says_something(const Operation& operation) {
  return operation.outcome == OutcomeKind::kOk ||
         (operation.outcome == OutcomeKind::kUnknown && operation.is_write);
}
bool is_known(const Operation& operation) { return operation.outcome == OutcomeKind::kOk; }

tl::unexpected<Error> not_known(std::string_view model, const Operation& operation) {
  return failure(ErrorKind::kUsage, fmt::format("the model of the {} does not know the request {}",
                                                model, quoted(operation.request)));
}

// ---- counter

class CounterEffect final : public Effect {
 public:
  CounterEffect(bool is_write, std::optional<uint64_t> seen) : is_write_(is_write), seen_(seen) {}

  void step(std::string_view state, std::vector<Next>& next) const override {
    ByteReader in(as_bytes(state));
    uint64_t value = in.number<uint64_t>() + (is_write_ ? 1 : 0);
    if (seen_ && *seen_ != value) return;
    ByteWriter(next.emplace_back().state).number<uint64_t>(value);
  }

 private:
  const bool is_write_;
  const std::optional<uint64_t> seen_;
};

// ---- chain

struct ChainState {
  uint64_t hash = 0;
  uint64_t writes = 0;
  bool open = false;  // a write of unknown index made `hash`: any value is possible

  static ChainState decode(std::string_view bytes) {
    ByteReader in(as_bytes(bytes));
    ChainState state;
    state.hash = in.number<uint64_t>();
    state.writes = in.number<uint64_t>();
    state.open = in.number<uint8_t>() != 0;
    return state;
  }
  std::string encode() const {
    std::string bytes;
    ByteWriter out(bytes);
    out.number<uint64_t>(open ? 0 : hash);
    out.number<uint64_t>(writes);
    out.number<uint8_t>(open ? 1 : 0);
    return bytes;
  }
};

// As tests/plugins/chain.c documents it.
uint64_t chain_hash(uint64_t state, Index index, std::string_view request) {
  uint64_t h = 0xcbf29ce484222325;
  auto add = [&](uint8_t byte) { h = (h ^ byte) * 0x100000001b3; };
  for (uint64_t number : {state, index.value(), uint64_t{request.size()}}) {
    for (int i = 0; i < 64; i += 8) add(static_cast<uint8_t>(number >> i));
  }
  for (char c : request) add(static_cast<uint8_t>(c));
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9;
  h = (h ^ (h >> 27)) * 0x94d049bb133111eb;
  return h ^ (h >> 31);
}

class ChainWrite final : public Effect {
 public:
  explicit ChainWrite(const Operation& operation) : operation_(operation) {}

  void step(std::string_view bytes, std::vector<Next>& next) const override {
    ChainState state = ChainState::decode(bytes);
    ++state.writes;
    if (!is_known(operation_)) {
      state.open = true;
      next.push_back({state.encode()});
      return;
    }
    uint64_t seen = 0;
    const char* end = operation_.reply.data() + operation_.reply.size();
    auto [stop, error] = std::from_chars(operation_.reply.data(), end, seen, 16);
    if (error != std::errc() || operation_.reply != fmt::format("{:016x}\n", seen)) return;
    if (!state.open && seen != chain_hash(state.hash, operation_.index, operation_.request)) return;
    state.open = false;
    state.hash = seen;
    next.push_back({state.encode()});
  }

 private:
  const Operation& operation_;
};

class ChainRead final : public Effect {
 public:
  explicit ChainRead(const Operation& operation) : operation_(operation) {}

  void step(std::string_view bytes, std::vector<Next>& next) const override {
    ChainState state = ChainState::decode(bytes);
    if (state.open) {
      // It shows the state, and every other read of the same state must agree.
      std::from_chars(operation_.reply.data(), operation_.reply.data() + operation_.reply.size(),
                      state.hash, 16);
      state.open = false;
    }
    if (operation_.reply == fmt::format("{:016x} {}\n", state.hash, state.writes)) {
      next.push_back({state.encode()});
    }
  }

 private:
  const Operation& operation_;
};

// ---- kv

using Words = std::vector<std::string_view>;

// One command: an array of bulk strings, and nothing after it.
std::optional<Words> words_of(std::string_view request) {
  auto header = [&](char type) -> std::optional<size_t> {
    size_t end = request.find("\r\n");
    size_t number = 0;
    if (end == request.npos || request.front() != type) return std::nullopt;
    auto [stop, error] = std::from_chars(request.data() + 1, request.data() + end, number);
    if (error != std::errc() || stop != request.data() + end) return std::nullopt;
    request.remove_prefix(end + 2);
    return number;
  };
  auto count = header('*');
  if (!count || *count == 0) return std::nullopt;
  Words words;
  for (size_t i = 0; i < *count; ++i) {
    auto length = header('$');
    if (!length || request.size() < *length || request.size() - *length < 2) return std::nullopt;
    words.push_back(request.substr(0, *length));
    if (request.substr(*length, 2) != "\r\n") return std::nullopt;
    request.remove_prefix(*length + 2);
  }
  if (!request.empty()) return std::nullopt;
  return words;
}

std::string upper(std::string_view word) {
  std::string text(word);
  for (char& c : text) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return text;
}

// Redis' own form of an integer: no plus, no leading zero, no "-0".
std::optional<int64_t> integer_of(std::string_view text) {
  int64_t number = 0;
  auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  if (std::to_string(number) != text) return std::nullopt;
  return number;
}

// One command may read all keys of a part, each expired or not: this many bits of states.
constexpr size_t kConnectedKeysMax = 12;

struct KvValue {
  enum class Kind : uint8_t { kAbsent, kLasting, kExpires } kind = Kind::kAbsent;
  // A write of unknown outcome made it, and no reply shows it whole: its bytes do not matter.
  bool is_open = false;
  std::string bytes;

  bool is_there() const { return kind != Kind::kAbsent; }
};
constexpr uint8_t kOpenTag = 0x80;
using KvValues = std::vector<KvValue>;  // of the part's keys, in their order

KvValues decode_values(std::string_view state, size_t keys) {
  ByteReader in(as_bytes(state));
  KvValues values(keys);
  for (KvValue& value : values) {
    auto tag = in.number<uint8_t>();
    value.kind = static_cast<KvValue::Kind>(tag & ~kOpenTag);
    value.is_open = (tag & kOpenTag) != 0;
    if (value.is_there()) value.bytes = in.counted(UINT32_MAX);
  }
  return values;
}

std::string encode_values(const KvValues& values) {
  std::string state;
  ByteWriter out(state);
  for (const KvValue& value : values) {
    out.number<uint8_t>(
        static_cast<uint8_t>(static_cast<uint8_t>(value.kind) | (value.is_open ? kOpenTag : 0)));
    if (value.is_there()) out.counted(value.bytes);
  }
  return state;
}

constexpr std::string_view kOk = "+OK\r\n";
constexpr std::string_view kNull = "$-1\r\n";
constexpr std::string_view kNotAnInteger = "-ERR value is not an integer or out of range\r\n";
constexpr std::string_view kOverflow = "-ERR increment or decrement would overflow\r\n";

constexpr std::string_view kAnyInteger = ":?\r\n";
constexpr std::string_view kNoReply = "!";  // there is none that shows an open value

std::string bulk(const KvValue& value) {
  if (value.is_open) return std::string(kNoReply);
  if (!value.is_there()) return std::string(kNull);
  return fmt::format("${}\r\n{}\r\n", value.bytes.size(), value.bytes);
}
bool fits(std::string_view reply, std::string_view seen) {
  if (reply != kAnyInteger) return reply == seen;
  return seen.size() > 3 && seen.starts_with(':') && seen.ends_with("\r\n") &&
         integer_of(seen.substr(1, seen.size() - 3)).has_value();
}
std::string integer(int64_t number) { return fmt::format(":{}\r\n", number); }

// Executes a command; its reply.
class KvCommand {
 public:
  // How its words name keys.
  enum class Keys { kOne, kAllWords, kPairs, kWhole };

  static std::optional<KvCommand> make(Words words) {
    KvCommand command;
    command.name_ = upper(words[0]);
    static const std::map<std::string, Shape, std::less<>> kShapes = {
        {"APPEND", {Keys::kOne, 3, 3}},
        {"CAS", {Keys::kOne, 4, 4}},
        {"DBSIZE", {Keys::kWhole, 1, 1}},
        {"DECR", {Keys::kOne, 2, 2}},
        {"DECRBY", {Keys::kOne, 3, 3}},
        {"DEL", {Keys::kAllWords, 2, SIZE_MAX}},
        {"EXISTS", {Keys::kAllWords, 2, SIZE_MAX}},
        {"FLUSHALL", {Keys::kWhole, 1, 1}},
        {"GET", {Keys::kOne, 2, 2}},
        {"GETDEL", {Keys::kOne, 2, 2}},
        {"GETSET", {Keys::kOne, 3, 3}},
        {"INCR", {Keys::kOne, 2, 2}},
        {"INCRBY", {Keys::kOne, 3, 3}},
        {"MGET", {Keys::kAllWords, 2, SIZE_MAX}},
        {"MSET", {Keys::kPairs, 3, SIZE_MAX}},
        {"PERSIST", {Keys::kOne, 2, 2}},
        {"SET", {Keys::kOne, 3, SIZE_MAX}},
        {"SETNX", {Keys::kOne, 3, 3}},
        {"STRLEN", {Keys::kOne, 2, 2}},
        {"UNLINK", {Keys::kAllWords, 2, SIZE_MAX}},
    };
    auto shape = kShapes.find(command.name_);
    if (shape == kShapes.end()) return std::nullopt;
    if (words.size() < shape->second.least || words.size() > shape->second.most) {
      return std::nullopt;
    }
    command.keys_ = shape->second.keys;
    command.words_ = std::move(words);
    if (command.keys_ == Keys::kPairs && command.words_.size() % 2 == 0) return std::nullopt;
    if (command.name_ == "SET" && !command.parse_set()) return std::nullopt;
    if (command.name_.ends_with("RBY")) {
      auto by = integer_of(command.words_[2]);
      if (!by || *by == INT64_MIN) return std::nullopt;
      command.by_ = command.name_ == "INCRBY" ? *by : -*by;
    } else if (command.name_ == "INCR" || command.name_ == "DECR") {
      command.by_ = command.name_ == "INCR" ? 1 : -1;
    }
    return command;
  }

  Keys keys() const { return keys_; }
  const std::string& name() const { return name_; }
  const Words& words() const { return words_; }
  bool adds() const { return by_ != 0 || name_ == "INCRBY" || name_ == "DECRBY"; }
  Words named_keys() const {
    Words keys;
    if (keys_ == Keys::kWhole) return keys;
    size_t step = keys_ == Keys::kPairs ? 2 : 1;
    size_t end = keys_ == Keys::kOne ? 2 : words_.size();
    for (size_t i = 1; i < end; i += step) keys.push_back(words_[i]);
    return keys;
  }
  // Where the named keys are among the part's.
  void place(std::vector<size_t> at) { at_ = std::move(at); }
  const std::vector<size_t>& places() const { return at_; }

  std::string execute(KvValues& values) const {
    if (keys_ == Keys::kWhole) {
      auto count = std::ranges::count_if(values, &KvValue::is_there);
      if (name_ == "DBSIZE") return integer(count);
      std::ranges::fill(values, KvValue());
      return std::string(kOk);
    }
    if (name_ == "MGET") {
      std::string reply = fmt::format("*{}\r\n", at_.size());
      for (size_t at : at_) reply += bulk(values[at]);
      return reply;
    }
    if (name_ == "EXISTS") {
      return integer(std::ranges::count_if(at_, [&](size_t at) { return values[at].is_there(); }));
    }
    if (name_ == "DEL" || name_ == "UNLINK") {
      int64_t count = 0;
      for (size_t at : at_) {
        count += values[at].is_there() ? 1 : 0;
        values[at] = KvValue();
      }
      return integer(count);
    }
    if (name_ == "MSET") {
      for (size_t i = 0; i < at_.size(); ++i) {
        values[at_[i]] = {KvValue::Kind::kLasting, false, std::string(words_[2 + 2 * i])};
      }
      return std::string(kOk);
    }
    return execute_on(values[at_[0]]);
  }

 private:
  struct Shape {
    Keys keys;
    size_t least, most;  // words, the name among them
  };

  bool parse_set() {
    for (size_t i = 3; i < words_.size(); ++i) {
      std::string word = upper(words_[i]);
      if (word == "NX") {
        if_absent_ = true;
      } else if (word == "XX") {
        if_present_ = true;
      } else if (word == "GET") {
        get_ = true;
      } else if (word == "KEEPTTL") {
        keep_expiry_ = true;
      } else if ((word == "PX" || word == "EX") && i + 1 < words_.size()) {
        auto time = integer_of(words_[++i]);
        if (!time || *time <= 0 || *time > 1'000'000'000) return false;
        expires_ = true;
      } else {
        return false;
      }
    }
    return !(if_absent_ && if_present_) && !(keep_expiry_ && expires_);
  }

  std::string execute_on(KvValue& value) const {
    if (name_ == "GET") return bulk(value);
    if (value.is_open && (name_ == "STRLEN" || name_ == "APPEND")) return std::string(kAnyInteger);
    if (name_ == "STRLEN") return integer(static_cast<int64_t>(value.bytes.size()));
    if (name_ == "SET") {
      std::string old = get_ ? bulk(value) : std::string();
      if ((if_absent_ && value.is_there()) || (if_present_ && !value.is_there())) {
        return get_ ? old : std::string(kNull);
      }
      bool expires =
          expires_ || (keep_expiry_ && value.is_there() && value.kind == KvValue::Kind::kExpires);
      value = {expires ? KvValue::Kind::kExpires : KvValue::Kind::kLasting, false,
               std::string(words_[2])};
      return get_ ? old : std::string(kOk);
    }
    if (name_ == "SETNX") {
      if (value.is_there()) return integer(0);
      value = {KvValue::Kind::kLasting, false, std::string(words_[2])};
      return integer(1);
    }
    if (name_ == "GETSET") {
      std::string old = bulk(value);
      value = {KvValue::Kind::kLasting, false, std::string(words_[2])};
      return old;
    }
    if (name_ == "GETDEL") {
      std::string old = bulk(value);
      value = KvValue();
      return old;
    }
    if (name_ == "APPEND") {
      if (!value.is_there()) value.kind = KvValue::Kind::kLasting;
      value.bytes += words_[2];
      return integer(static_cast<int64_t>(value.bytes.size()));
    }
    if (name_ == "CAS") {
      if (!value.is_there() || value.is_open || value.bytes != words_[2]) return integer(0);
      value.bytes = words_[3];
      return integer(1);
    }
    if (name_ == "PERSIST") {
      if (value.kind != KvValue::Kind::kExpires) return integer(0);
      value.kind = KvValue::Kind::kLasting;
      return integer(1);
    }
    // INCR and its kind.
    int64_t number = 0;
    if (value.is_there()) {
      auto parsed = value.is_open ? std::nullopt : integer_of(value.bytes);
      if (!parsed) return std::string(kNotAnInteger);
      number = *parsed;
    }
    if (__builtin_add_overflow(number, by_, &number)) return std::string(kOverflow);
    if (!value.is_there()) value.kind = KvValue::Kind::kLasting;
    value.bytes = std::to_string(number);
    return integer(number);
  }

  std::string name_;
  Words words_;
  Keys keys_ = Keys::kOne;
  std::vector<size_t> at_;
  int64_t by_ = 0;
  bool if_absent_ = false, if_present_ = false, get_ = false, keep_expiry_ = false;
  bool expires_ = false;
};

// Which values of a key a reply can have shown, whole or as their beginning (what APPEND leaves).
//
// If a write of unknown outcome made another value, no reply shows it whole before it is
// overwritten or gone: only its existence, its length, and that it is no integer are visible. So
// one open value represents all of them.
class ShownValues {
 public:
  void add(std::string value) { values_.insert(std::move(value)); }
  // Values that INCR and its kind make are not all shown: integers are kept as they are.
  void keep_integers() { keep_integers_ = true; }
  void keep_all() { keep_all_ = true; }
  bool holds(std::string_view value) const {
    if (keep_all_) return true;
    auto at = values_.lower_bound(value);
    if (at != values_.end() && at->starts_with(value)) return true;
    return keep_integers_ && integer_of(value).has_value();
  }

 private:
  std::set<std::string, std::less<>> values_;
  bool keep_integers_ = false;
  bool keep_all_ = false;
};

// The bulk strings of a reply: one, or an array of them. A null is left empty.
std::vector<std::optional<std::string>> bulks_of(std::string_view reply) {
  std::vector<std::optional<std::string>> bulks;
  auto number = [&](char type) -> std::optional<int64_t> {
    size_t end = reply.find("\r\n");
    if (reply.empty() || reply.front() != type || end == reply.npos) return std::nullopt;
    auto parsed = integer_of(reply.substr(1, end - 1));
    reply.remove_prefix(end + 2);
    return parsed;
  };
  int64_t count = reply.starts_with('*') ? number('*').value_or(0) : 1;
  for (int64_t i = 0; i < count; ++i) {
    auto length = number('$');
    if (!length) return bulks;
    if (*length < 0) {
      bulks.emplace_back();
      continue;
    }
    if (*length > static_cast<int64_t>(reply.size()) - 2) return bulks;
    bulks.emplace_back(reply.substr(0, static_cast<size_t>(*length)));
    reply.remove_prefix(static_cast<size_t>(*length) + 2);
  }
  return bulks;
}

class KvEffect final : public Effect {
 public:
  // `seen`: the reply; none: any. `shown` is of the part's keys.
  KvEffect(KvCommand command, bool is_known, std::optional<std::string> seen,
           std::shared_ptr<const std::vector<const ShownValues*>> shown)
      : command_(std::move(command)),
        is_known_(is_known),
        seen_(std::move(seen)),
        shown_(std::move(shown)) {}

  void step(std::string_view state, std::vector<Next>& next) const override {
    const KvValues values = decode_values(state, shown_->size());
    // Each key that is read and may have expired: try both cases.
    std::vector<size_t> may_expire;
    auto look = [&](size_t at) {
      if (values[at].kind == KvValue::Kind::kExpires &&
          std::ranges::find(may_expire, at) == may_expire.end()) {
        may_expire.push_back(at);
      }
    };
    if (command_.keys() == KvCommand::Keys::kWhole) {
      for (size_t at = 0; at < values.size(); ++at) look(at);
    } else {
      for (size_t at : command_.places()) look(at);
    }
    const size_t first = next.size();
    for (uint64_t expired = 0; expired < uint64_t{1} << may_expire.size(); ++expired) {
      KvValues after = values;
      for (size_t i = 0; i < may_expire.size(); ++i) {
        if ((expired >> i & 1) != 0) after[may_expire[i]] = KvValue();
      }
      std::string reply = command_.execute(after);
      if (seen_ && !fits(reply, *seen_)) continue;
      bool uses_it_up = is_known_ || open_what_is_not_shown(values, after);
      std::string encoded = encode_values(after);
      auto is_same = [&](const Next& n) { return n.state == encoded; };
      if (std::find_if(next.begin() + static_cast<ptrdiff_t>(first), next.end(), is_same) ==
          next.end()) {
        next.push_back({std::move(encoded), uses_it_up});
      }
    }
  }

 private:
  // Whether anything but open values came of it.
  bool open_what_is_not_shown(const KvValues& before, KvValues& after) const {
    bool is_told_apart = false;
    bool is_opened = false;
    for (size_t at = 0; at < after.size(); ++at) {
      KvValue& value = after[at];
      if (value.kind == before[at].kind && value.bytes == before[at].bytes &&
          value.is_open == before[at].is_open) {
        continue;
      }
      if (!value.is_there() || (!value.is_open && (*shown_)[at]->holds(value.bytes))) {
        is_told_apart = true;
        continue;
      }
      value.is_open = true;
      value.bytes.clear();
      is_opened = true;
    }
    return is_told_apart || !is_opened;
  }

  const KvCommand command_;
  const bool is_known_;
  const std::optional<std::string> seen_;
  const std::shared_ptr<const std::vector<const ShownValues*>> shown_;
};

// Splits a command on several keys into commands on one key, with the part of the reply for each.
struct Piece {
  Words words;
  std::optional<std::string> seen;
};
std::vector<Piece> cut_up(const KvCommand& command, const std::optional<std::string>& reply) {
  const Words& words = command.words();
  std::vector<Piece> pieces;
  if (command.keys() == KvCommand::Keys::kOne) return {{words, reply}};
  if (command.name() == "MGET") {
    std::vector<std::optional<std::string>> values = bulks_of(reply.value_or(""));
    for (size_t i = 1; i < words.size(); ++i) {
      std::string seen = "not a reply of MGET";
      if (values.size() == words.size() - 1) {
        KvValue value;
        if (values[i - 1]) value = {KvValue::Kind::kLasting, false, *values[i - 1]};
        seen = bulk(value);
      }
      pieces.push_back({{"GET", words[i]}, seen});
    }
  } else if (command.name() == "MSET") {
    for (size_t i = 1; i < words.size(); i += 2) {
      bool is_last = true;
      for (size_t j = i + 2; j < words.size(); j += 2) is_last &= words[j] != words[i];
      if (is_last) pieces.push_back({{"SET", words[i], words[i + 1]}, reply});
    }
  } else if (command.keys() == KvCommand::Keys::kAllWords) {  // they reply a count
    std::set<std::string_view> keys(words.begin() + 1, words.end());
    bool all =
        keys.size() == words.size() - 1 && reply == integer(static_cast<int64_t>(keys.size()));
    bool none = reply == integer(0);
    if (keys.size() == 1) return {{words, reply}};
    for (std::string_view key : keys) {
      if (all || none) {
        pieces.push_back({{words[0], key}, integer(all ? 1 : 0)});
      } else if (command.name() != "EXISTS") {
        pieces.push_back({{words[0], key}, std::nullopt});
      }
    }
  }
  return pieces;
}

// Uses no state, whatever it answers.
bool is_about_the_connection(const Words& words) {
  static const std::set<std::string, std::less<>> kNames = {"PING", "ECHO", "HELLO", "COMMAND"};
  return kNames.contains(upper(words[0]));
}

}  // namespace

Result<std::vector<Model::Part>> CounterModel::split(const History& history) const {
  Part part;
  part.name = "the counter";
  ByteWriter(part.initial).number<uint64_t>(start_);
  for (size_t at = 0; at < history.size(); ++at) {
    const Operation& operation = history[at];
    if (!says_something(operation)) continue;
    if (operation.is_write != operation.request.starts_with("incr")) {
      return not_known("counter", operation);
    }
    std::optional<uint64_t> seen;
    if (is_known(operation)) {
      uint64_t value = 0;
      const std::string& reply = operation.reply;
      std::from_chars(reply.data(), reply.data() + reply.size(), value);
      // A value that is no number is one that no counter reaches.
      seen = reply == fmt::format("{}\n", value) ? value : UINT64_MAX;
    }
    part.items.push_back(
        {at, std::make_unique<CounterEffect>(operation.is_write, seen), std::string()});
  }
  std::vector<Part> parts;
  parts.push_back(std::move(part));
  return parts;
}

Result<std::vector<Model::Part>> ChainModel::split(const History& history) const {
  Part part;
  part.name = "the chain";
  part.initial = ChainState().encode();
  for (size_t at = 0; at < history.size(); ++at) {
    const Operation& operation = history[at];
    if (!says_something(operation)) continue;
    if (operation.is_write != operation.request.starts_with("add ")) {
      return not_known("chain", operation);
    }
    std::unique_ptr<Effect> effect;
    if (operation.is_write) {
      effect = std::make_unique<ChainWrite>(operation);
    } else {
      effect = std::make_unique<ChainRead>(operation);
    }
    part.items.push_back({at, std::move(effect), std::string()});
  }
  std::vector<Part> parts;
  parts.push_back(std::move(part));
  return parts;
}

Result<std::vector<Model::Part>> KvModel::split(const History& history) const {
  struct Compiled {
    size_t at;
    KvCommand command;
    std::optional<std::string> seen;
  };
  std::vector<Compiled> commands;
  std::map<std::string_view, size_t> ids;  // of keys
  std::vector<size_t> joined;              // a key's way to the first key of its part
  auto root = [&](size_t id) {
    while (joined[id] != id) id = joined[id] = joined[joined[id]];
    return id;
  };
  // The model's data of each key: lives as long as its effects.
  auto shown = std::make_shared<std::map<std::string, ShownValues, std::less<>>>();
  bool all_joined = keys_ == Keys::kTogether;
  auto compile = [&](size_t at, KvCommand command, std::optional<std::string> seen) {
    all_joined |= command.keys() == KvCommand::Keys::kWhole;
    std::optional<size_t> first;
    std::vector<std::optional<std::string>> values;
    if (seen) values = bulks_of(*seen);
    for (std::string_view key : command.named_keys()) {
      size_t id = ids.try_emplace(key, ids.size()).first->second;
      if (id == joined.size()) joined.push_back(id);
      if (first) {
        joined[root(id)] = root(*first);
      } else {
        first = id;
      }
      ShownValues& shown_here = (*shown)[std::string(key)];
      if (command.name() == "CAS") shown_here.add(std::string(command.words()[2]));
      if (command.adds()) shown_here.keep_integers();
      if (keys_ != Keys::kEach) shown_here.keep_all();
      for (auto& value : values) {
        if (value) shown_here.add(*value);
      }
    }
    commands.push_back({at, std::move(command), std::move(seen)});
  };
  for (size_t at = 0; at < history.size(); ++at) {
    const Operation& operation = history[at];
    if (!says_something(operation)) continue;
    auto words = words_of(operation.request);
    if (words && is_about_the_connection(*words)) continue;
    auto command = words ? KvCommand::make(std::move(*words)) : std::nullopt;
    if (!command || (keys_ == Keys::kEach && command->name() == "FLUSHALL")) {
      return not_known("kv", operation);
    }
    std::optional<std::string> seen;
    if (is_known(operation)) seen = operation.reply;
    if (keys_ != Keys::kEach) {
      compile(at, std::move(*command), std::move(seen));
      continue;
    }
    for (Piece& piece : cut_up(*command, seen)) {
      auto part = KvCommand::make(std::move(piece.words));
      CHECK(part.has_value());
      compile(at, std::move(*part), std::move(piece.seen));
    }
  }
  if (all_joined) {
    for (size_t id = 0; id < joined.size(); ++id) joined[id] = 0;
  }

  std::map<size_t, size_t> part_of_root;
  std::vector<Part> parts;
  std::vector<std::vector<std::string_view>> keys_of_part;
  std::map<std::string_view, size_t> place;  // of a key in its part
  for (auto [key, id] : ids) {
    size_t part = part_of_root.try_emplace(root(id), parts.size()).first->second;
    if (part == parts.size()) {
      parts.emplace_back();
      keys_of_part.emplace_back();
    }
    place[key] = keys_of_part[part].size();
    keys_of_part[part].push_back(key);
  }
  if (parts.empty() && !commands.empty()) {  // DBSIZE and FLUSHALL alone
    parts.emplace_back();
    keys_of_part.emplace_back();
  }
  std::vector<std::shared_ptr<const std::vector<const ShownValues*>>> shown_of_part;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (keys_of_part[i].size() > kConnectedKeysMax) {
      return failure(ErrorKind::kUsage,
                     fmt::format("the model of the kv takes commands that connect {} keys at most, "
                                 "these connect {}",
                                 kConnectedKeysMax, keys_of_part[i].size()));
    }
    parts[i].name = fmt::format("key{} {}", keys_of_part[i].size() == 1 ? "" : "s",
                                fmt::join(keys_of_part[i], " "));
    parts[i].initial = encode_values(KvValues(keys_of_part[i].size()));
    auto* values = new std::vector<const ShownValues*>;
    for (std::string_view key : keys_of_part[i]) values->push_back(&shown->find(key)->second);
    // Keeps all of them alive.
    shown_of_part.emplace_back(values, [shown](const auto* pointers) { delete pointers; });
  }
  for (Compiled& compiled : commands) {
    size_t part = 0;
    std::vector<size_t> places;
    for (std::string_view key : compiled.command.named_keys()) {
      part = part_of_root.at(root(ids.at(key)));
      places.push_back(place.at(key));
    }
    compiled.command.place(std::move(places));
    const Operation& operation = history[compiled.at];
    parts[part].items.push_back(
        {compiled.at,
         std::make_unique<KvEffect>(std::move(compiled.command), is_known(operation),
                                    std::move(compiled.seen), shown_of_part[part]),
         operation.request});
  }
  return parts;
}

std::unique_ptr<Model> make_model(std::string_view plugin_name) {
  if (plugin_name == "counter") return std::make_unique<CounterModel>();
  if (plugin_name == "chain") return std::make_unique<ChainModel>();
  if (plugin_name == "kv") return std::make_unique<KvModel>();
  return nullptr;
}

}  // namespace connectd::sim

// The commands on strings.
#include <algorithm>
#include <charconv>

#include "commands.h"
#include "expiry.h"
#include "number.h"

namespace connectd::kv::strings {
namespace {

constexpr TimeForm kSecondsFromNow{TimeUnit::kSeconds, TimeBase::kRelative};
constexpr TimeForm kMillisecondsFromNow{TimeUnit::kMilliseconds, TimeBase::kRelative};

void reply_value(const Entry* entry, Reply& reply) {
  if (entry != nullptr) {
    reply.bulk(entry->value);
  } else {
    reply.null();
  }
}

// Replies the error if a value of this length would be too long.
bool length_fits(const WriteCall& call, uint64_t offset, uint64_t size) {
  if (size <= call.limits.value_bytes && offset <= call.limits.value_bytes - size) return true;
  call.reply.error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
  return false;
}

// A key with an expiry in the past counts as removed.
void store(const WriteCall& call, std::string_view key, std::string_view value,
           int64_t expire_at_ms) {
  if (expire_at_ms < call.now_ms) {
    call.store.erase(key, call.now_ms);
  } else {
    call.store.set(key, value, expire_at_ms);
  }
}

void set_with_expiry(const WriteCall& call, TimeForm form, std::string_view command) {
  auto expire_at = parse_expiry(call.arguments[2], form, call.now_ms, command, call.reply);
  if (!expire_at || !length_fits(call, 0, call.arguments[3].size())) return;
  store(call, call.arguments[1], call.arguments[3], *expire_at);
  call.reply.simple("OK");
}

void add_to_integer(const WriteCall& call, int64_t increment) {
  Entry* entry = call.store.find(call.arguments[1], call.now_ms);
  int64_t value = 0;
  if (entry != nullptr) {
    auto parsed = parse_integer(entry->value);
    if (!parsed) return call.reply.error(kNotAnInteger);
    value = *parsed;
  }
  if (__builtin_add_overflow(value, increment, &value)) {
    return call.reply.error("ERR increment or decrement would overflow");
  }
  char text[24];
  char* end = std::to_chars(text, text + sizeof text, value).ptr;
  std::string_view digits(text, static_cast<size_t>(end - text));
  if (entry != nullptr) {
    call.store.set_value(*entry, digits);
  } else {
    call.store.set(call.arguments[1], digits, kNever);
  }
  call.reply.integer(value);
}

// The words after the value of SET, and after the key of GETEX.
struct SetOptions {
  bool if_absent = false, if_present = false, get = false, keep_expiry = false, persist = false;
  std::optional<TimeForm> expiry_form;
  std::string_view expiry;
};

enum class OptionsOf { kSet, kGetEx };

bool parse_options(std::span<const std::string_view> words, OptionsOf command,
                   SetOptions& options) {
  bool set = command == OptionsOf::kSet;
  struct Form {
    std::string_view word;
    TimeForm form;
  };
  static constexpr Form kForms[] = {
      {"ex", {TimeUnit::kSeconds, TimeBase::kRelative}},
      {"px", {TimeUnit::kMilliseconds, TimeBase::kRelative}},
      {"exat", {TimeUnit::kSeconds, TimeBase::kAbsolute}},
      {"pxat", {TimeUnit::kMilliseconds, TimeBase::kAbsolute}},
  };
  std::string_view expiry_word;
  for (size_t i = 0; i < words.size(); i++) {
    std::string_view word = words[i];
    if (set && same_word(word, "nx") && !options.if_present) {
      options.if_absent = true;
    } else if (set && same_word(word, "xx") && !options.if_absent) {
      options.if_present = true;
    } else if (set && same_word(word, "get")) {
      options.get = true;
    } else if (set && same_word(word, "keepttl") && !options.expiry_form) {
      options.keep_expiry = true;
    } else if (!set && same_word(word, "persist") && !options.expiry_form) {
      options.persist = true;
    } else {
      const Form* form = std::find_if(std::begin(kForms), std::end(kForms),
                                      [&](const Form& f) { return same_word(word, f.word); });
      if (form == std::end(kForms) || options.keep_expiry || options.persist) return false;
      if (options.expiry_form && expiry_word != form->word) return false;
      if (i + 1 == words.size()) return false;
      expiry_word = form->word;
      options.expiry_form = form->form;
      options.expiry = words[++i];
    }
  }
  return true;
}

}  // namespace

void get(const ReadCall& call) {
  reply_value(call.store.find(call.arguments[1], call.now_ms), call.reply);
}

void set(const WriteCall& call) {
  SetOptions options;
  if (!parse_options(call.arguments.from(3), OptionsOf::kSet, options)) {
    return call.reply.error(kSyntaxError);
  }
  int64_t expire_at = kNever;
  if (options.expiry_form) {
    auto parsed =
        parse_expiry(options.expiry, *options.expiry_form, call.now_ms, "set", call.reply);
    if (!parsed) return;
    expire_at = *parsed;
  }
  std::string_view key = call.arguments[1];
  std::string_view value = call.arguments[2];
  if (!length_fits(call, 0, value.size())) return;
  if (options.get || options.if_absent || options.if_present || options.keep_expiry) {
    const Entry* entry = call.store.find(key, call.now_ms);
    if (options.get) reply_value(entry, call.reply);
    if ((options.if_absent && entry != nullptr) || (options.if_present && entry == nullptr)) {
      if (!options.get) call.reply.null();
      return;
    }
    if (options.keep_expiry && entry != nullptr) expire_at = entry->expire_at_ms;
  }
  store(call, key, value, expire_at);
  if (!options.get) call.reply.simple("OK");
}

void setex(const WriteCall& call) { set_with_expiry(call, kSecondsFromNow, "setex"); }

void psetex(const WriteCall& call) { set_with_expiry(call, kMillisecondsFromNow, "psetex"); }

void setnx(const WriteCall& call) {
  if (!length_fits(call, 0, call.arguments[2].size())) return;
  bool absent = call.store.find(call.arguments[1], call.now_ms) == nullptr;
  if (absent) call.store.set(call.arguments[1], call.arguments[2], kNever);
  call.reply.integer(absent ? 1 : 0);
}

void getset(const WriteCall& call) {
  if (!length_fits(call, 0, call.arguments[2].size())) return;
  reply_value(call.store.find(call.arguments[1], call.now_ms), call.reply);
  call.store.set(call.arguments[1], call.arguments[2], kNever);
}

void getdel(const WriteCall& call) {
  const Entry* entry = call.store.find(call.arguments[1], call.now_ms);
  reply_value(entry, call.reply);
  if (entry != nullptr) call.store.erase(call.arguments[1], call.now_ms);
}

void getex(const WriteCall& call) {
  SetOptions options;
  if (!parse_options(call.arguments.from(2), OptionsOf::kGetEx, options)) {
    return call.reply.error(kSyntaxError);
  }
  Entry* entry = call.store.find(call.arguments[1], call.now_ms);
  if (entry == nullptr) return call.reply.null();
  std::optional<int64_t> expire_at;
  if (options.expiry_form) {
    expire_at =
        parse_expiry(options.expiry, *options.expiry_form, call.now_ms, "getex", call.reply);
    if (!expire_at) return;
  }
  call.reply.bulk(entry->value);
  if (options.persist) {
    call.store.set_expiry(*entry, kNever);
  } else if (expire_at && *expire_at <= call.now_ms) {
    call.store.erase(call.arguments[1], call.now_ms);
  } else if (expire_at) {
    call.store.set_expiry(*entry, *expire_at);
  }
}

void compare_and_set(const WriteCall& call) {
  if (!length_fits(call, 0, call.arguments[3].size())) return;
  Entry* entry = call.store.find(call.arguments[1], call.now_ms);
  bool equal = entry != nullptr && entry->value == call.arguments[2];
  if (equal) call.store.set_value(*entry, call.arguments[3]);
  call.reply.integer(equal ? 1 : 0);
}

void incr(const WriteCall& call) { add_to_integer(call, 1); }

void decr(const WriteCall& call) { add_to_integer(call, -1); }

void incrby(const WriteCall& call) {
  auto increment = parse_integer(call.arguments[2]);
  if (!increment) return call.reply.error(kNotAnInteger);
  add_to_integer(call, *increment);
}

void decrby(const WriteCall& call) {
  auto decrement = parse_integer(call.arguments[2]);
  if (!decrement) return call.reply.error(kNotAnInteger);
  if (*decrement == INT64_MIN) return call.reply.error("ERR decrement would overflow");
  add_to_integer(call, -*decrement);
}

void incrbyfloat(const WriteCall& call) {
  Entry* entry = call.store.find(call.arguments[1], call.now_ms);
  FloatSum sum =
      add_floats(entry != nullptr ? std::string_view(entry->value) : "0", call.arguments[2]);
  switch (sum.outcome) {
    case FloatSum::Outcome::kNotAFloat:
      return call.reply.error("ERR value is not a valid float");
    case FloatSum::Outcome::kNotFinite:
      return call.reply.error("ERR increment would produce NaN or Infinity");
    case FloatSum::Outcome::kSum:
      break;
  }
  if (entry != nullptr) {
    call.store.set_value(*entry, sum.text);
  } else {
    call.store.set(call.arguments[1], sum.text, kNever);
  }
  call.reply.bulk(sum.text);
}

void append(const WriteCall& call) {
  std::string_view tail = call.arguments[2];
  Entry* entry = call.store.find(call.arguments[1], call.now_ms);
  size_t size = entry != nullptr ? entry->value.size() : 0;
  if (!length_fits(call, size, tail.size())) return;
  if (entry != nullptr) {
    call.store.append(*entry, tail);
  } else {
    call.store.set(call.arguments[1], tail, kNever);
  }
  call.reply.integer(static_cast<int64_t>(size + tail.size()));
}

void setrange(const WriteCall& call) {
  auto offset = parse_integer(call.arguments[2]);
  if (!offset) return call.reply.error(kNotAnInteger);
  if (*offset < 0) return call.reply.error("ERR offset is out of range");
  std::string_view part = call.arguments[3];
  Entry* entry = call.store.find(call.arguments[1], call.now_ms);
  if (part.empty()) {
    return call.reply.integer(entry != nullptr ? static_cast<int64_t>(entry->value.size()) : 0);
  }
  if (!length_fits(call, static_cast<uint64_t>(*offset), part.size())) return;
  if (entry == nullptr) {
    call.store.set(call.arguments[1], {}, kNever);
    entry = call.store.find(call.arguments[1], call.now_ms);
  }
  call.store.set_range(*entry, static_cast<size_t>(*offset), part);
  call.reply.integer(static_cast<int64_t>(entry->value.size()));
}

void getrange(const ReadCall& call) {
  auto first = parse_integer(call.arguments[2]);
  auto last = parse_integer(call.arguments[3]);
  if (!first || !last) return call.reply.error(kNotAnInteger);
  const Entry* entry = call.store.find(call.arguments[1], call.now_ms);
  if (entry == nullptr || entry->value.empty()) return call.reply.bulk({});
  auto size = static_cast<int64_t>(entry->value.size());
  if (*first < 0 && *last < 0 && *first > *last) return call.reply.bulk({});
  int64_t begin = std::max<int64_t>(0, *first < 0 ? *first + size : *first);
  int64_t end = std::max<int64_t>(0, *last < 0 ? *last + size : *last);
  end = std::min(end, size - 1);
  if (begin > end) return call.reply.bulk({});
  call.reply.bulk(std::string_view(entry->value)
                      .substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin + 1)));
}

void strlen(const ReadCall& call) {
  const Entry* entry = call.store.find(call.arguments[1], call.now_ms);
  call.reply.integer(entry != nullptr ? static_cast<int64_t>(entry->value.size()) : 0);
}

void mget(const ReadCall& call) {
  call.reply.array(call.arguments.size() - 1);
  for (std::string_view key : call.arguments.from(1)) {
    reply_value(call.store.find(key, call.now_ms), call.reply);
  }
}

void mset(const WriteCall& call) {
  if (call.arguments.size() % 2 == 0) return reply_wrong_arity("mset", call.reply);
  for (size_t i = 2; i < call.arguments.size(); i += 2) {
    if (!length_fits(call, 0, call.arguments[i].size())) return;
  }
  for (size_t i = 1; i < call.arguments.size(); i += 2) {
    call.store.set(call.arguments[i], call.arguments[i + 1], kNever);
  }
  call.reply.simple("OK");
}

void msetnx(const WriteCall& call) {
  if (call.arguments.size() % 2 == 0) return reply_wrong_arity("msetnx", call.reply);
  for (size_t i = 1; i < call.arguments.size(); i += 2) {
    if (!length_fits(call, 0, call.arguments[i + 1].size())) return;
    if (call.store.find(call.arguments[i], call.now_ms) != nullptr) return call.reply.integer(0);
  }
  for (size_t i = 1; i < call.arguments.size(); i += 2) {
    call.store.set(call.arguments[i], call.arguments[i + 1], kNever);
  }
  call.reply.integer(1);
}

}  // namespace connectd::kv::strings

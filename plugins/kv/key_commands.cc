// The commands on keys of any type, and on the key space.
#include <string>

#include "commands.h"
#include "expiry.h"

namespace connectd::kv::keys {
namespace {

constexpr int64_t kNoSuchKey = -2;
constexpr int64_t kNoExpiry = -1;

struct ExpireConditions {
  bool if_none = false, if_any = false, if_later = false, if_earlier = false;
};

bool parse_conditions(const WriteCall& call, ExpireConditions& conditions) {
  for (std::string_view word : call.arguments.from(3)) {
    if (same_word(word, "nx")) {
      conditions.if_none = true;
    } else if (same_word(word, "xx")) {
      conditions.if_any = true;
    } else if (same_word(word, "gt")) {
      conditions.if_later = true;
    } else if (same_word(word, "lt")) {
      conditions.if_earlier = true;
    } else {
      std::string text = "ERR Unsupported option ";
      text += word.substr(0, word.find('\0'));
      call.reply.error(text);
      return false;
    }
  }
  if (conditions.if_none && (conditions.if_any || conditions.if_later || conditions.if_earlier)) {
    call.reply.error("ERR NX and XX, GT or LT options at the same time are not compatible");
    return false;
  }
  if (conditions.if_later && conditions.if_earlier) {
    call.reply.error("ERR GT and LT options at the same time are not compatible");
    return false;
  }
  return true;
}

// A key without an expiry counts as one that expires after all others.
bool conditions_hold(const ExpireConditions& conditions, const Entry& entry, int64_t deadline) {
  if (conditions.if_none && entry.expires()) return false;
  if (conditions.if_any && !entry.expires()) return false;
  if (conditions.if_later && (!entry.expires() || deadline <= entry.expire_at_ms)) return false;
  if (conditions.if_earlier && entry.expires() && deadline >= entry.expire_at_ms) return false;
  return true;
}

void set_deadline(const WriteCall& call, TimeForm form, std::string_view command) {
  ExpireConditions conditions;
  if (!parse_conditions(call, conditions)) return;
  auto deadline = parse_deadline(call.arguments[2], form, call.now_ms, command, call.reply);
  if (!deadline) return;
  Entry* entry = call.store.find(call.arguments[1], call.now_ms);
  if (entry == nullptr || !conditions_hold(conditions, *entry, *deadline)) {
    return call.reply.integer(0);
  }
  if (*deadline <= call.now_ms) {
    call.store.erase(call.arguments[1], call.now_ms);
  } else {
    call.store.set_expiry(*entry, *deadline);
  }
  call.reply.integer(1);
}

enum class Answer { kTimeLeft, kTime };

void reply_expiry(const ReadCall& call, Answer answer, TimeUnit unit) {
  const Entry* entry = call.store.find(call.arguments[1], call.now_ms);
  if (entry == nullptr) return call.reply.integer(kNoSuchKey);
  if (!entry->expires()) return call.reply.integer(kNoExpiry);
  int64_t value = entry->expire_at_ms;
  if (answer == Answer::kTimeLeft) {
    if (__builtin_sub_overflow(value, call.report_ms, &value)) value = kNever;
    if (value < 0) value = 0;
  }
  if (unit == TimeUnit::kSeconds) value = value / 1000 + (value % 1000 >= 500 ? 1 : 0);
  call.reply.integer(value);
}

}  // namespace

void del(const WriteCall& call) {
  int64_t count = 0;
  for (std::string_view key : call.arguments.from(1)) {
    if (call.store.erase(key, call.now_ms)) count++;
  }
  call.reply.integer(count);
}

void exists(const ReadCall& call) {
  int64_t count = 0;
  for (std::string_view key : call.arguments.from(1)) {
    if (call.store.find(key, call.now_ms) != nullptr) count++;
  }
  call.reply.integer(count);
}

void expire(const WriteCall& call) {
  set_deadline(call, {TimeUnit::kSeconds, TimeBase::kRelative}, "expire");
}

void expireat(const WriteCall& call) {
  set_deadline(call, {TimeUnit::kSeconds, TimeBase::kAbsolute}, "expireat");
}

void pexpire(const WriteCall& call) {
  set_deadline(call, {TimeUnit::kMilliseconds, TimeBase::kRelative}, "pexpire");
}

void pexpireat(const WriteCall& call) {
  set_deadline(call, {TimeUnit::kMilliseconds, TimeBase::kAbsolute}, "pexpireat");
}

void ttl(const ReadCall& call) { reply_expiry(call, Answer::kTimeLeft, TimeUnit::kSeconds); }

void pttl(const ReadCall& call) { reply_expiry(call, Answer::kTimeLeft, TimeUnit::kMilliseconds); }

void expiretime(const ReadCall& call) { reply_expiry(call, Answer::kTime, TimeUnit::kSeconds); }

void pexpiretime(const ReadCall& call) {
  reply_expiry(call, Answer::kTime, TimeUnit::kMilliseconds);
}

void persist(const WriteCall& call) {
  Entry* entry = call.store.find(call.arguments[1], call.now_ms);
  bool changes = entry != nullptr && entry->expires();
  if (changes) call.store.set_expiry(*entry, kNever);
  call.reply.integer(changes ? 1 : 0);
}

void type(const ReadCall& call) {
  bool present = call.store.find(call.arguments[1], call.now_ms) != nullptr;
  call.reply.simple(present ? "string" : "none");
}

void dbsize(const ReadCall& call) {
  call.reply.integer(static_cast<int64_t>(call.store.size(call.now_ms)));
}

// ASYNC and SYNC are the same here: the keys are removed before the reply.
void flush(const WriteCall& call) {
  if (call.arguments.size() > 2 ||
      (call.arguments.size() == 2 && !same_word(call.arguments[1], "async") &&
       !same_word(call.arguments[1], "sync"))) {
    return call.reply.error(kSyntaxError);
  }
  call.store.clear();
  call.reply.simple("OK");
}

}  // namespace connectd::kv::keys

// The key-value store as a connectd plugin: what the host calls, in terms of the engine.
//
// Options (plugin.options, all whole numbers of bytes):
//   limits.value   longest value (default 63 MiB: what can be stored can be read in one reply)
//   limits.memory  weight of the state beyond which commands that may add to it are refused, as
//                  Redis does at maxmemory; 0, the default, for no limit
//
// Snapshot, level 1, little-endian; equal states give equal bytes:
//   8 bytes  "KVSTATE1"
//   u64      number of keys
//   for each key, in ascending order of its bytes:
//     u8     type of the value: 1, a string
//     i64    when it expires, Unix time in milliseconds; the largest i64 for never
//     u64    length of the key, the key
//     u64    length of the value, the value
// Keys that have expired and are not removed yet are part of the state, and so of the snapshot.
#include <connect/plugin.hpp>

#include "engine.h"

namespace connectd::kv {
namespace {

constexpr std::string_view kMagic = "KVSTATE1";
constexpr uint8_t kTypeString = 1;
// Expired keys that one tick removes at most; the host calls again while more are due.
constexpr size_t kTickKeysMax = 1000;
constexpr int64_t kNanosecondsPerMillisecond = 1'000'000;

int64_t to_milliseconds(int64_t time_ns) {
  int64_t quotient = time_ns / kNanosecondsPerMillisecond;
  return time_ns % kNanosecondsPerMillisecond < 0 ? quotient - 1 : quotient;
}

Output output_of(sdk::Reply& reply) {
  return {&reply, [](void* context, const void* data, size_t size) {
            static_cast<sdk::Reply*>(context)->write({static_cast<const char*>(data), size});
          }};
}

Limits limits_from(const sdk::Host& host) {
  Limits limits;
  limits.value_bytes = host.option_number<uint64_t>("limits.value", limits.value_bytes);
  limits.memory_bytes = host.option_number<uint64_t>("limits.memory", limits.memory_bytes);
  return limits;
}

class Machine {
 public:
  explicit Machine(const sdk::Host& host)
      : engine_(limits_from(host)),
        keys_(host.gauge("keys", "Keys, with those that have expired and are not removed yet.")),
        memory_(host.gauge("memory_bytes", "Weight of the state: what limits.memory limits.")),
        expired_(host.counter("expired_total", "Keys that were removed because they expired.")) {}

  sdk::Kind classify(std::string_view request, sdk::Reply& reply) const {
    switch (Engine::classify(request, output_of(reply))) {
      case RequestKind::kWrite:
        return sdk::Kind::kWrite;
      case RequestKind::kRead:
        return sdk::Kind::kRead;
      case RequestKind::kReadLocal:
        return sdk::Kind::kReadLocal;
      case RequestKind::kReply:
        return sdk::Kind::kReply;
      case RequestKind::kReject:
        break;
    }
    return sdk::Kind::kReject;
  }

  int32_t read(const sdk::ReadContext& context, std::string_view request, sdk::Reply& reply) const {
    return engine_.read(request, to_milliseconds(context.applied_time_ns),
                        to_milliseconds(context.now_ns), output_of(reply));
  }

  int32_t apply(const sdk::ApplyContext& context, std::string_view command, sdk::Reply& reply) {
    const int32_t status =
        engine_.apply(command, to_milliseconds(context.time_ns), output_of(reply));
    show_size();
    return status;
  }

  void save(sdk::Writer& out) const {
    out.bytes(kMagic);
    out.number<uint64_t>(engine_.store().held());
    for (const Entry* entry : engine_.store().sorted()) {
      out.number<uint8_t>(kTypeString);
      out.number<int64_t>(entry->expire_at_ms);
      out.counted(entry->key);
      out.counted(entry->value);
    }
  }

  void load(sdk::Reader& in) {
    char magic[kMagic.size()];
    in.bytes(magic, sizeof magic);
    if (std::string_view(magic, sizeof magic) != kMagic) corrupt("it is not a snapshot of kv");
    auto count = in.number<uint64_t>();
    std::string last;
    for (uint64_t i = 0; i < count; i++) {
      if (in.number<uint8_t>() != kTypeString) corrupt("a value has an unknown type");
      auto expire_at_ms = in.number<int64_t>();
      std::string key = in.counted();
      if (i > 0 && key <= last) corrupt("its keys are not in ascending order");
      engine_.store().set(key, in.counted(), expire_at_ms);
      last = std::move(key);
    }
    show_size();
  }

  // The first nanosecond at which the earliest key has expired.
  int64_t next_deadline() const {
    int64_t at_ms = engine_.store().earliest_expiry();
    int64_t deadline = 0;
    if (at_ms == kNever ||
        __builtin_mul_overflow(at_ms + 1, kNanosecondsPerMillisecond, &deadline)) {
      return at_ms < 0 ? INT64_MIN : INT64_MAX;
    }
    return deadline;
  }

  void on_tick(const sdk::ApplyContext& context) {
    engine_.store().remove_expired(to_milliseconds(context.time_ns), kTickKeysMax);
    show_size();
  }

 private:
  void show_size() {
    const Store& store = engine_.store();
    keys_.set(static_cast<double>(store.held()));
    memory_.set(static_cast<double>(store.weight()));
    expired_.add(store.expired() - shown_expired_);
    shown_expired_ = store.expired();
  }

  [[noreturn]] static void corrupt(const char* what) {
    throw sdk::Failure(CONNECTD_E_CORRUPT, std::string("the snapshot is damaged: ") + what);
  }

  Engine engine_;
  const sdk::Gauge keys_;
  const sdk::Gauge memory_;
  const sdk::Counter expired_;
  uint64_t shown_expired_ = 0;
};

}  // namespace
}  // namespace connectd::kv

CONNECTD_PLUGIN(connectd::kv::Machine, .name = "kv", .version = "0.1.0",
                .flags = CONNECTD_F_READ_SHARED | CONNECTD_F_CANONICAL_SNAPSHOT |
                         CONNECTD_F_FORK_SNAPSHOT,
                .framing = CONNECTD_FRAMING_RESP);

// connect/plugin.hpp - write a connectd plugin as a C++20 class. Header-only. Read connect/plugin.h
// first: its rules hold here too.
//
//   class Machine {
//    public:
//     explicit Machine(const sdk::Host& host);  // the empty state; or a default constructor
//     void apply(const sdk::ApplyContext& context, std::string_view command, sdk::Reply& reply);
//     void save(sdk::Writer& out) const;        // writes the whole state
//     void load(sdk::Reader& in);               // reads it, into a fresh Machine
//
//     // Both or neither: requests that are no writes.
//     sdk::Kind classify(std::string_view request, sdk::Reply& reply) const;
//     void read(const sdk::ReadContext& context, std::string_view request,
//               sdk::Reply& reply) const;
//
//     // Both or neither: timers.
//     int64_t next_deadline() const;
//     void on_tick(const sdk::ApplyContext& context);
//
//     // Optional: a snapshot that is written while apply continues.
//     View view();
//   };
//   CONNECTD_PLUGIN(Machine, .name = "machine", .version = "1.0.0");
//
// apply, read and on_tick may return int32_t instead of void. apply and read then return 0 or the
// plugin's own status, on_tick returns 0, and a negative CONNECTD_E_* code is a failure.
//
// A class without classify and read says so: CONNECTD_PLUGIN(Machine, ..., .only_writes = true). So
// nobody leaves out read by accident.
//
// THE COMPILER CHECKS THE MEMBERS. A member with one of the eight names above must be public and
// fit, or the class does not compile and the error shows the expected signature. A member fits if
// it can be called as shown and has the result shown: its parameters may be `auto`, or types that
// the arguments convert to. Overloads, templates, static and inherited members count, and so do
// data members. Types with such a name do not count. The compiler cannot see
//   - a misspelt name, except by its pair: next_deadline without on_tick is an error. view has no
//     pair,
//   - in a final class, with clang: a private member that is not overloaded.
//
// view() returns an object with `void save(sdk::Writer& out)`. The object holds the state as it is
// at the call. view() must be quick. save() runs on another thread, concurrently with apply, read
// and on_tick, and writes what Machine::save would have written at the time of view(). The host
// destroys the object between two commands. There is at most one at a time.
//
// Exceptions never leave the plugin. sdk::Failure ends the call with its code and text,
// std::bad_alloc with CONNECTD_E_NOMEM, and any other exception with CONNECTD_E_EXCEPTION and its
// what(). The host logs the text. What it does next depends on the call:
//   constructor               The node does not start.
//   apply, on_tick, save,     The replica stops. So reply to an unknown or malformed command; never
//   next_deadline             throw for it.
//   load                      A node that starts ends. A snapshot that the leader sent is rejected,
//                             and tried again later.
//   view, save of the view,   The snapshot has failed. The host tries again later.
//   save in a fork
//   classify, read            The request fails; see plugin.h.
#ifndef CONNECT_PLUGIN_HPP
#define CONNECT_PLUGIN_HPP

#if !defined(__cplusplus) || __cplusplus < 201709L || !defined(__cpp_concepts)
#error "connect/plugin.hpp needs C++20: compile with -std=c++20. connect/plugin.h works with less."
#else

#include <connect/plugin.h>

#include <array>
#include <charconv>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace connectd::sdk {

using ApplyContext = connectd_apply_context;
using ReadContext = connectd_read_context;
using SnapshotInfo = connectd_snapshot;

// The result of classify.
enum class Kind : int32_t {
  kWrite = CONNECTD_WRITE,
  kRead = CONNECTD_READ,
  kReadLocal = CONNECTD_READ_LOCAL,
  kReject = CONNECTD_REJECT,
  kReply = CONNECTD_REPLY,
};

enum class LogLevel : int32_t {
  kDebug = CONNECTD_LOG_DEBUG,
  kInfo = CONNECTD_LOG_INFO,
  kWarning = CONNECTD_LOG_WARN,
  kError = CONNECTD_LOG_ERROR,
};

// Ends the call with `code` (CONNECTD_E_*, negative) and a text for the host's log.
class Failure : public std::runtime_error {
 public:
  explicit Failure(int32_t code, const std::string& text = {})
      : std::runtime_error(text), code_(code) {}
  int32_t code() const noexcept { return code_; }

 private:
  int32_t code_;
};

// What the helpers below take for a number. Not __int128, an integral type in GNU mode: its upper
// half would be lost.
template <class T>
concept Integer = std::integral<T> && sizeof(T) <= sizeof(uint64_t);

// Reads a decimal number: digits alone, or after a minus if T is signed. Any other text is nullopt,
// and so is a number that T cannot hold.
template <Integer T>
std::optional<T> parse_number(std::string_view text) noexcept {
  T value{};
  const char* end = text.data() + text.size();
  auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

// Metrics of GET /metrics: CONNECTD_EXT_METRICS has their names and limits. Cheap to copy; valid as
// long as the instance. Any thread. One that the host refused, or does not know, counts nothing.
class Metric {
 protected:
  Metric() noexcept = default;
  Metric(const connectd_ext_metrics* table, connectd_metric* metric) noexcept
      : table_(table), metric_(metric) {}

  const connectd_ext_metrics* table_ = nullptr;
  connectd_metric* metric_ = nullptr;
};

class Counter : public Metric {
 public:
  Counter() noexcept = default;
  void add(uint64_t more = 1) const noexcept {
    if (metric_ != nullptr) table_->add(metric_, more);
  }

 private:
  friend class Host;
  Counter(const connectd_ext_metrics* table, connectd_metric* metric) noexcept
      : Metric(table, metric) {}
};

class Gauge : public Metric {
 public:
  Gauge() noexcept = default;
  void set(double value) const noexcept {
    if (metric_ != nullptr) table_->set(metric_, value);
  }

 private:
  friend class Host;
  Gauge(const connectd_ext_metrics* table, connectd_metric* metric) noexcept
      : Metric(table, metric) {}
};

// Of durations.
class Histogram : public Metric {
 public:
  Histogram() noexcept = default;
  void observe(std::chrono::nanoseconds time) const noexcept {
    if (metric_ == nullptr) return;
    table_->observe(metric_, time.count() < 0 ? 0 : static_cast<uint64_t>(time.count()));
  }

 private:
  friend class Host;
  Histogram(const connectd_ext_metrics* table, connectd_metric* metric) noexcept
      : Metric(table, metric) {}
};

// The host. Cheap to copy; a copy is valid as long as the instance.
class Host {
 public:
  explicit Host(const connectd_host* host) noexcept : host_(host) {}

  void log(LogLevel level, std::string_view text) const noexcept {
    host_->log(host_, static_cast<int32_t>(level), text.data(), text.size());
  }
  // The value of a key under plugin.options. The text lives as long as the instance.
  std::optional<std::string_view> option(const char* key) const noexcept {
    const char* value = host_->option(host_, key);
    return value == nullptr ? std::nullopt : std::optional<std::string_view>(value);
  }
  // The same as a whole number, or `otherwise` if the key is not set. Any other text fails create,
  // with an error that names the key.
  template <Integer T>
  T option_number(const char* key, T otherwise) const {
    auto text = option(key);
    if (!text) return otherwise;
    if (auto value = parse_number<T>(*text)) return *value;
    throw Failure(CONNECTD_E_CONFIG, std::string("plugin.options.") + key + ": '" +
                                         std::string(*text) + "' is not a whole number from " +
                                         std::to_string(std::numeric_limits<T>::min()) + " to " +
                                         std::to_string(std::numeric_limits<T>::max()));
  }
  // A host extension by id, or nullptr.
  const void* extension(const char* id) const noexcept { return host_->get_extension(host_, id); }

  // Metrics of this plugin. In the constructor only. `label` is nullptr, or the name of one whose
  // value is `value`.
  Counter counter(const char* name, const char* help, const char* label = nullptr,
                  const char* value = nullptr) const noexcept {
    return make<Counter>(&connectd_ext_metrics::counter, name, help, label, value);
  }
  Gauge gauge(const char* name, const char* help, const char* label = nullptr,
              const char* value = nullptr) const noexcept {
    return make<Gauge>(&connectd_ext_metrics::gauge, name, help, label, value);
  }
  Histogram histogram(const char* name, const char* help, const char* label = nullptr,
                      const char* value = nullptr) const noexcept {
    return make<Histogram>(&connectd_ext_metrics::histogram, name, help, label, value);
  }

 private:
  template <class Made, class Maker>
  Made make(Maker maker, const char* name, const char* help, const char* label,
            const char* value) const noexcept {
    const auto* table = static_cast<const connectd_ext_metrics*>(extension(CONNECTD_EXT_METRICS));
    if (table == nullptr) return {};
    return Made(table, (table->*maker)(host_, name, help, label, value));
  }

  const connectd_host* host_;
};

// The reply to a request. There is no result to check: the host records a failure.
class Reply {
 public:
  explicit Reply(const connectd_sink* sink) noexcept : sink_(sink) {}

  void write(std::string_view bytes) noexcept {
    sink_->write(sink_->ctx, bytes.data(), bytes.size());
  }
  template <Integer T>
  requires(!std::same_as<T, bool> && !std::same_as<T, char>) Reply& operator<<(T number) noexcept {
    char text[24];
    auto [end, error] = std::to_chars(text, text + sizeof text, number);
    write(std::string_view(text, static_cast<size_t>(end - text)));
    return *this;
  }
  Reply& operator<<(std::string_view bytes) noexcept {
    write(bytes);
    return *this;
  }

 private:
  const connectd_sink* sink_;
};

// Snapshot output. Numbers are little-endian. Small pieces are gathered into larger writes. If the
// host fails, an exception ends save().
class Writer {
 public:
  Writer(const connectd_sink* sink, const SnapshotInfo* info) noexcept : sink_(sink), info_(info) {}
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  const SnapshotInfo& info() const noexcept { return *info_; }

  void bytes(std::string_view data) {
    if (data.size() > buffer_.size() - used_) flush();
    if (data.size() > buffer_.size()) {
      put(data.data(), data.size());
    } else if (!data.empty()) {
      std::memcpy(buffer_.data() + used_, data.data(), data.size());
      used_ += data.size();
    }
  }
  template <Integer T>
  void number(T value) {
    char encoded[sizeof(T)];
    auto rest = static_cast<uint64_t>(value);
    for (char& byte : encoded) {
      byte = static_cast<char>(rest & 0xff);
      rest >>= 8;
    }
    bytes(std::string_view(encoded, sizeof encoded));
  }
  // The length as a u64, then the bytes.
  void counted(std::string_view data) {
    number<uint64_t>(data.size());
    bytes(data);
  }
  // Called by the wrapper after save().
  void flush() {
    if (used_ > 0) put(buffer_.data(), std::exchange(used_, 0));
  }

 private:
  void put(const char* data, size_t size) {
    int32_t result = sink_->write(sink_->ctx, data, size);
    if (result != CONNECTD_OK) throw Failure(result);
  }

  const connectd_sink* sink_;
  const SnapshotInfo* info_;
  size_t used_ = 0;
  std::array<char, 16384> buffer_{};
};

// Snapshot input. An early end is CONNECTD_E_CORRUPT, and so are bytes left over after load().
class Reader {
 public:
  Reader(const connectd_source* source, const SnapshotInfo* info) noexcept
      : source_(source), info_(info) {}
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  const SnapshotInfo& info() const noexcept { return *info_; }

  void bytes(char* to, size_t size) {
    while (size > 0) {
      if (begin_ == end_ && !fill()) throw Failure(CONNECTD_E_CORRUPT, "the snapshot ends early");
      size_t part = size < end_ - begin_ ? size : end_ - begin_;
      std::memcpy(to, buffer_.data() + begin_, part);
      begin_ += part;
      to += part;
      size -= part;
    }
  }
  template <Integer T>
  T number() {
    unsigned char encoded[sizeof(T)];
    bytes(reinterpret_cast<char*>(encoded), sizeof encoded);
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<uint64_t>(encoded[i]) << (8 * i);
    return static_cast<T>(value);
  }
  // Reads what Writer::counted wrote. The length is not trusted: memory grows as the bytes come.
  std::string counted(uint64_t limit = std::numeric_limits<uint64_t>::max()) {
    auto left = number<uint64_t>();
    if (left > limit)
      throw Failure(CONNECTD_E_CORRUPT, "a length in the snapshot is over its limit");
    std::string data;
    while (left > 0) {
      size_t part = left < kPart ? static_cast<size_t>(left) : kPart;
      size_t before = data.size();
      data.resize(before + part);
      bytes(data.data() + before, part);
      left -= part;
    }
    return data;
  }
  bool at_end() { return begin_ == end_ && !fill(); }

 private:
  static constexpr size_t kPart = size_t{1} << 20;

  bool fill() {
    int64_t got = source_->read(source_->ctx, buffer_.data(), buffer_.size());
    if (got < 0) throw Failure(static_cast<int32_t>(got));
    begin_ = 0;
    end_ = static_cast<size_t>(got);
    return end_ > 0;
  }

  const connectd_source* source_;
  const SnapshotInfo* info_;
  size_t begin_ = 0;
  size_t end_ = 0;
  std::array<char, 16384> buffer_{};
};

// The fields of CONNECTD_PLUGIN, in this order. name and version are required.
struct Info {
  const char* name;
  const char* version;
  uint32_t level_min = 1;
  uint32_t level_max = 1;
  uint64_t flags = 0;                        // CONNECTD_F_*
  uint32_t framing = CONNECTD_FRAMING_LINE;  // CONNECTD_FRAMING_*
  bool only_writes = false;                  // true exactly if the class has no read
};

// ---- the check of the members

namespace members {

// Finds members by name alone. Probe derives from the Machine and from Names. If the Machine has a
// member called `name`, then `&Probe::name` is ambiguous, whatever that member is. No class derives
// from a final one: there we use the name in expressions that compile if it exists. The first one
// is standard C++ and accepts a public member that is not overloaded. The others rely on what gcc
// and clang do with the name of an overloaded function.
struct Names {
  int classify, read, apply, save, load, next_deadline, on_tick, view;
};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wnon-virtual-dtor"
#pragma GCC diagnostic ignored "-Weffc++"
template <class Machine>
struct Probe : Machine, Names {};
#pragma GCC diagnostic pop

// clang-format off
#define CONNECTD_HAS_MEMBER_(name)                                             \
  template <class Machine>                                                     \
  constexpr bool has_##name() {                                                \
    if constexpr (requires { typename Machine::name; }) {                      \
      return false;                                                            \
    } else if constexpr (std::is_final_v<Machine>) {                           \
      return requires { &Machine::name; } ||                                   \
             requires(Machine& machine) { noexcept(machine.name); } || /*gcc*/ \
             requires { __builtin_classify_type(&Machine::name); }; /*clang*/  \
    } else {                                                                   \
      return !requires { &Probe<Machine>::name; };                             \
    }                                                                          \
  }
// clang-format on
CONNECTD_HAS_MEMBER_(classify)
CONNECTD_HAS_MEMBER_(read)
CONNECTD_HAS_MEMBER_(apply)
CONNECTD_HAS_MEMBER_(save)
CONNECTD_HAS_MEMBER_(load)
CONNECTD_HAS_MEMBER_(next_deadline)
CONNECTD_HAS_MEMBER_(on_tick)
CONNECTD_HAS_MEMBER_(view)
#undef CONNECTD_HAS_MEMBER_

// Members that fit: they can be called as expected, and have the expected result.
template <class Result>
concept Outcome = std::is_void_v<Result> || std::same_as<Result, int32_t>;
template <class Result>
concept Nanoseconds = std::signed_integral<Result> && sizeof(Result) == sizeof(int64_t);

template <class Machine>
concept Classifies = requires(const Machine& machine, std::string_view request, Reply& reply) {
  { machine.classify(request, reply) } -> std::same_as<Kind>;
};
template <class Machine>
concept Reads = requires(const Machine& machine, const ReadContext& context,
                         std::string_view request, Reply& reply) {
  { machine.read(context, request, reply) } -> Outcome;
};
template <class Machine>
concept Applies = requires(Machine& machine, const ApplyContext& context, std::string_view command,
                           Reply& reply) {
  { machine.apply(context, command, reply) } -> Outcome;
};
template <class Machine>
concept Saves = requires(const Machine& machine, Writer& out) {
  { machine.save(out) } -> std::same_as<void>;
};
template <class Machine>
concept Loads = requires(Machine& machine, Reader& in) {
  { machine.load(in) } -> std::same_as<void>;
};
template <class Machine>
concept HasDeadline = requires(const Machine& machine) {
  { machine.next_deadline() } -> Nanoseconds;
};
template <class Machine>
concept Ticks = requires(Machine& machine, const ApplyContext& context) {
  { machine.on_tick(context) } -> Outcome;
};
template <class View>
concept SavesItself = std::is_class_v<View> && std::destructible<View> &&
    requires(View& view, Writer& out) {
  { view.save(out) } -> std::same_as<void>;
};
template <class Machine>
using ViewOf = std::remove_cv_t<decltype(std::declval<Machine&>().view())>;
template <class Machine>
concept Views = SavesItself<ViewOf<Machine> >;

template <class Machine, class From>
constexpr bool is_made_from = std::is_constructible_v<Machine, From>;
// There is a constructor for the host, but it cannot take a const Host&.
template <class Machine>
constexpr bool misses_host =
    !is_made_from<Machine, const Host&> &&
    (is_made_from<Machine, Host&> || is_made_from<Machine, Host> ||
     (!is_made_from<Machine, const void*> &&
      (is_made_from<Machine, Host*> || is_made_from<Machine, connectd_host*>)));

template <class Machine>
constexpr bool has_constructor =
    is_made_from<Machine, const Host&> || std::is_default_constructible_v<Machine>;

// True if Check has nothing to say.
template <class Machine, bool kOnlyWrites>
constexpr bool is_sound() {
  if constexpr (!std::is_class_v<Machine>) {
    return false;
  } else {
    return has_constructor<Machine> && !misses_host<Machine> &&
           has_classify<Machine>() == Classifies<Machine> &&
           has_read<Machine>() == Reads<Machine> && Classifies<Machine> == Reads<Machine> &&
           Reads<Machine> != kOnlyWrites && Applies<Machine> && Saves<Machine> && Loads<Machine> &&
           has_next_deadline<Machine>() == HasDeadline<Machine> &&
           has_on_tick<Machine>() == Ticks<Machine> && HasDeadline<Machine> == Ticks<Machine> &&
           has_view<Machine>() == Views<Machine>;
  }
}

// Fails to compile if something is wrong with the class. One error for each mistake.
template <class Machine, bool kOnlyWrites, bool kIsClass = std::is_class_v<Machine> >
struct Check {
  static_assert(kIsClass, "a plugin is a class");
};
template <class Machine, bool kOnlyWrites>
struct Check<Machine, kOnlyWrites, true> {
  static constexpr bool kClassify = has_classify<Machine>(), kRead = has_read<Machine>();
  static constexpr bool kDeadline = has_next_deadline<Machine>(), kTick = has_on_tick<Machine>();
  static constexpr bool kView = has_view<Machine>();

  static_assert(std::is_nothrow_destructible_v<Machine>,
                "the destructor must be public and must not throw");
  static_assert(misses_host<Machine> || has_constructor<Machine> ||
                    !std::is_nothrow_destructible_v<Machine>,
                "the class needs a public constructor. "
                "Expected: explicit Machine(const sdk::Host& host), or Machine()");
  static_assert(!misses_host<Machine>,
                "the constructor does not fit: the host is passed as const sdk::Host&. "
                "Expected: explicit Machine(const sdk::Host& host)");

  static_assert(kClassify || !kRead,
                "read is there and classify is not, so read would never be called. Expected: "
                "sdk::Kind classify(std::string_view request, sdk::Reply& reply) const");
  static_assert(kRead || !kClassify,
                "classify is there and read is not, so classify would never be called. Expected: "
                "void read(const sdk::ReadContext& context, std::string_view request, "
                "sdk::Reply& reply) const; the result may be int32_t");
  static_assert(kRead || kClassify || kOnlyWrites,
                "the class has no read, so every request is a write. If that is what you want, "
                "add .only_writes = true as the last field of CONNECTD_PLUGIN. If not, expected: "
                "sdk::Kind classify(std::string_view request, sdk::Reply& reply) const, and "
                "void read(const sdk::ReadContext& context, std::string_view request, "
                "sdk::Reply& reply) const");
  static_assert(!kRead || !kOnlyWrites,
                "the class has a read, and CONNECTD_PLUGIN says .only_writes = true. "
                "Expected: only one of the two");
  static_assert(!kClassify || Classifies<Machine>,
                "classify does not fit. Expected, public: "
                "sdk::Kind classify(std::string_view request, sdk::Reply& reply) const");
  static_assert(!kRead || Reads<Machine>,
                "read does not fit. Expected, public: "
                "void read(const sdk::ReadContext& context, std::string_view request, "
                "sdk::Reply& reply) const; the result may be int32_t");

  static_assert(Applies<Machine> || !has_apply<Machine>(),
                "apply does not fit. Expected, public: "
                "void apply(const sdk::ApplyContext& context, std::string_view command, "
                "sdk::Reply& reply); the result may be int32_t");
  static_assert(Applies<Machine> || has_apply<Machine>(),
                "apply is missing. Expected: "
                "void apply(const sdk::ApplyContext& context, std::string_view command, "
                "sdk::Reply& reply); the result may be int32_t");

  static_assert(Saves<Machine> || !has_save<Machine>(),
                "save does not fit. Expected, public: void save(sdk::Writer& out) const");
  static_assert(Saves<Machine> || has_save<Machine>(),
                "save is missing. Expected: void save(sdk::Writer& out) const");
  static_assert(Loads<Machine> || !has_load<Machine>(),
                "load does not fit. Expected, public: void load(sdk::Reader& in)");
  static_assert(Loads<Machine> || has_load<Machine>(),
                "load is missing. Expected: void load(sdk::Reader& in)");

  static_assert(kTick || !kDeadline,
                "next_deadline is there and on_tick is not, so there would be no timers. "
                "Expected: void on_tick(const sdk::ApplyContext& context); "
                "the result may be int32_t");
  static_assert(kDeadline || !kTick,
                "on_tick is there and next_deadline is not, so there would be no timers. "
                "Expected: int64_t next_deadline() const");
  static_assert(!kDeadline || HasDeadline<Machine>,
                "next_deadline does not fit. Expected, public: int64_t next_deadline() const; "
                "INT64_MAX means none");
  static_assert(!kTick || Ticks<Machine>,
                "on_tick does not fit. Expected, public: "
                "void on_tick(const sdk::ApplyContext& context); the result may be int32_t");
  static_assert(
      !kView || Views<Machine>,
      "view does not fit. Expected, public: View view(), without arguments, which returns "
      "an object with a public member void save(sdk::Writer& out)");
};

}  // namespace members

// The C functions around one class. Do not use it directly: see make_plugin.
template <class Machine>
class Boundary {
  struct Instance {
    static Machine make(const Host& host) {
      if constexpr (members::is_made_from<Machine, const Host&>) {
        return Machine(host);
      } else {
        return Machine();
      }
    }
    explicit Instance(const connectd_host* h) : host(h), machine(make(Host(h))) {}
    const connectd_host* host;
    Machine machine;
  };

  static int32_t fail(const connectd_host* host, int32_t code, const char* text) noexcept {
    if (text[0] != '\0') host->fail(host, code, text, std::strlen(text));
    return code;
  }
  // Runs the call. Returns its result, or the code of what it threw.
  template <class Call>
  static int32_t guarded(const connectd_host* host, Call&& call) noexcept {
    try {
      if constexpr (std::is_void_v<decltype(call())>) {
        call();
        return CONNECTD_OK;
      } else {
        return call();
      }
    } catch (const Failure& failure) {
      // A code that is not negative would turn the failure into a result.
      int32_t code = failure.code() < 0 ? failure.code() : CONNECTD_E_FAULT;
      return fail(host, code, failure.what());
    } catch (const std::bad_alloc&) {
      return fail(host, CONNECTD_E_NOMEM, "out of memory");
    } catch (const std::exception& exception) {
      return fail(host, CONNECTD_E_EXCEPTION, exception.what());
    } catch (...) {
      return fail(host, CONNECTD_E_EXCEPTION, "an exception that is not a std::exception");
    }
  }
  static Instance& instance(void* self) { return *static_cast<Instance*>(self); }
  static const Instance& instance(const void* self) { return *static_cast<const Instance*>(self); }
  static std::string_view text(connectd_bytes bytes) {
    return {reinterpret_cast<const char*>(bytes.ptr), bytes.len};
  }

 public:
  static constexpr bool kReads = members::Reads<Machine>;
  static constexpr bool kTimers = members::Ticks<Machine>;
  static constexpr bool kViews = members::Views<Machine>;

  static int32_t create(const connectd_host* host, void** self) {
    return guarded(host, [&] { *self = new Instance(host); });
  }
  static void destroy(void* self) { delete &instance(self); }
  static int32_t classify(const void* self, connectd_bytes request, const connectd_sink* sink) {
    const Instance& it = instance(self);
    return guarded(it.host, [&] {
      Reply reply(sink);
      return static_cast<int32_t>(it.machine.classify(text(request), reply));
    });
  }
  static int32_t read(const void* self, const connectd_read_context* context,
                      connectd_bytes request, const connectd_sink* sink) {
    const Instance& it = instance(self);
    return guarded(it.host, [&] {
      Reply reply(sink);
      return it.machine.read(*context, text(request), reply);
    });
  }
  static int32_t apply(void* self, const connectd_apply_context* context, connectd_bytes command,
                       const connectd_sink* sink) {
    Instance& it = instance(self);
    return guarded(it.host, [&] {
      Reply reply(sink);
      return it.machine.apply(*context, text(command), reply);
    });
  }
  static int32_t snapshot(void* self, const connectd_snapshot* info, const connectd_sink* sink) {
    const Instance& it = instance(self);
    return guarded(it.host, [&] {
      Writer out(sink, info);
      it.machine.save(out);
      out.flush();
    });
  }
  static int32_t restore(void* self, const connectd_snapshot* info, const connectd_source* source) {
    Instance& it = instance(self);
    return guarded(it.host, [&] {
      Reader in(source, info);
      it.machine.load(in);
      if (!in.at_end()) {
        throw Failure(CONNECTD_E_CORRUPT, "the snapshot is longer than what load() read");
      }
    });
  }
  static int64_t next_deadline(const void* self) {
    int64_t deadline = INT64_MAX;
    const Instance& it = instance(self);
    int32_t result = guarded(it.host, [&] { deadline = it.machine.next_deadline(); });
    return result == CONNECTD_OK ? deadline : result;
  }
  static int32_t on_tick(void* self, const connectd_apply_context* context) {
    Instance& it = instance(self);
    return guarded(it.host, [&] { return it.machine.on_tick(*context); });
  }
  static int32_t begin_view(void* self, const connectd_snapshot*, void** view) {
    using View = members::ViewOf<Machine>;
    Instance& it = instance(self);
    return guarded(it.host, [&] { *view = new View(it.machine.view()); });
  }
  static int32_t save_view(const void* self, void* view, const connectd_snapshot* info,
                           const connectd_sink* sink) {
    using View = members::ViewOf<Machine>;
    return guarded(instance(self).host, [&] {
      Writer out(sink, info);
      static_cast<View*>(view)->save(out);
      out.flush();
    });
  }
  static void end_view(void*, void* view) {
    using View = members::ViewOf<Machine>;
    delete static_cast<View*>(view);
  }
  static const void* get_extension(const char* id) {
    if constexpr (kTimers) {
      static constexpr connectd_ext_timers kTable = {sizeof(connectd_ext_timers), 0, next_deadline,
                                                     on_tick};
      if (std::strcmp(id, CONNECTD_EXT_TIMERS) == 0) return &kTable;
    }
    if constexpr (kViews) {
      static constexpr connectd_ext_snapshot_view kTable = {sizeof(connectd_ext_snapshot_view), 0,
                                                            begin_view, save_view, end_view};
      if (std::strcmp(id, CONNECTD_EXT_SNAPSHOT_VIEW) == 0) return &kTable;
    }
    return nullptr;
  }
};

// The table of a class. The macro exports it; a test may use it in-process. kOnlyWrites repeats
// Info::only_writes as a constant.
template <class Machine, bool kOnlyWrites = false>
constexpr connectd_plugin make_plugin(const Info& info) {
  static_assert(sizeof(members::Check<Machine, kOnlyWrites>) > 0);
  if constexpr (!members::is_sound<Machine, kOnlyWrites>()) {
    return {};  // Check has an error already
  } else {
    using B = Boundary<Machine>;
    connectd_plugin plugin = {CONNECTD_PLUGIN_HEAD(info.name, info.version, info.level_min,
                                                   info.level_max, info.flags, info.framing),
                              B::create,
                              B::destroy,
                              nullptr,
                              nullptr,
                              B::apply,
                              B::snapshot,
                              B::restore,
                              B::get_extension};
    if constexpr (B::kReads) {
      plugin.classify = B::classify;
      plugin.read = B::read;
    }
    return plugin;
  }
}

}  // namespace connectd::sdk

// Exports the plugin. Use it once, outside any namespace: the class, then the fields of sdk::Info.
#define CONNECTD_PLUGIN(Machine, ...)                                                           \
  extern "C" CONNECTD_EXPORT const connectd_plugin* connectd_plugin_v1(void) {                  \
    static constexpr ::connectd::sdk::Info connectd_info{__VA_ARGS__};                          \
    /* Here too: after an error inside make_plugin, clang reports a second one. */              \
    static_assert(sizeof(::connectd::sdk::members::Check<Machine, connectd_info.only_writes>) > \
                  0);                                                                           \
    static constexpr connectd_plugin connectd_table =                                           \
        ::connectd::sdk::make_plugin<Machine, connectd_info.only_writes>(connectd_info);        \
    return &connectd_table;                                                                     \
  }                                                                                             \
  static_assert(true, "swallows a semicolon")

#endif  // C++20
#endif

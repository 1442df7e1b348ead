// connect/plugin.hpp - write a connectd plugin as a small C++20 class. Header-only; the contract is
// the one of connect/plugin.h, read that first.
//
//   class Machine {
//    public:
//     explicit Machine(const sdk::Host& host);               // the empty state; or no argument
//     sdk::Kind classify(std::string_view request, sdk::Reply& reply) const;
//     void read(const sdk::ReadContext&, std::string_view request, sdk::Reply& reply) const;
//     void apply(const sdk::ApplyContext&, std::string_view command, sdk::Reply& reply);
//     void save(sdk::Writer& out) const;                     // the whole state
//     void load(sdk::Reader& in);                            // into a fresh Machine
//     int64_t next_deadline() const;                         // optional, with on_tick
//     void on_tick(const sdk::ApplyContext&);                // optional, with next_deadline
//     View view();                                           // optional, see below
//   };
//   CONNECTD_PLUGIN(Machine, .name = "machine", .version = "1.0.0")
//
// classify and read may be left out together: then every request is a write. read and apply may
// return an int32_t instead of void: the plugin's own status, 0 or more.
//
// view() gives any object with `void save(sdk::Writer& out)`: the state as it is now, for a
// snapshot that is written while apply goes on. It must be quick. save() runs on another thread,
// beside apply, read and on_tick, and writes what Machine::save would have written at the time of
// view(); the object is destroyed between two commands. There is at most one at a time.
//
// Exceptions: none leaves a function of the plugin. sdk::Failure ends the call with its code and
// text, std::bad_alloc with CONNECTD_E_NOMEM, any other with CONNECTD_E_EXCEPTION and its what().
// The host logs the text. In apply, on_tick, save and load that is a fault of this replica, which
// stops: an unknown or malformed command is answered, never thrown at. In view(), the view's
// save(), and save() in a forked child it is a failed snapshot, which is tried again later.
#ifndef CONNECT_PLUGIN_HPP
#define CONNECT_PLUGIN_HPP

#include <connect/plugin.h>

#include <array>
#include <charconv>
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
#include <type_traits>
#include <utility>

namespace connectd::sdk {

using ApplyContext = connectd_apply_context;
using ReadContext = connectd_read_context;
using SnapshotInfo = connectd_snapshot;

// classify's answer.
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

// What the host offers. A cheap handle, valid as long as the instance; keep a copy if needed.
class Host {
 public:
  explicit Host(const connectd_host* host) noexcept : host_(host) {}

  void log(LogLevel level, std::string_view text) const noexcept {
    host_->log(host_, static_cast<int32_t>(level), text.data(), text.size());
  }
  // Value under plugin.options, as text; the view lives as long as the instance.
  std::optional<std::string_view> option(const char* key) const noexcept {
    const char* value = host_->option(host_, key);
    return value == nullptr ? std::nullopt : std::optional<std::string_view>(value);
  }
  // The same as a whole number; a value that is none fails create with a clear text.
  template <std::integral T>
  T option_number(const char* key, T otherwise) const {
    auto text = option(key);
    if (!text) return otherwise;
    T value{};
    const char* end = text->data() + text->size();
    auto [stop, error] = std::from_chars(text->data(), end, value);
    if (error == std::errc() && stop == end && !text->empty()) return value;
    throw Failure(CONNECTD_E_CONFIG, std::string("plugin.options.") + key + ": '" +
                                         std::string(*text) + "' is not a whole number from " +
                                         std::to_string(std::numeric_limits<T>::min()) + " to " +
                                         std::to_string(std::numeric_limits<T>::max()));
  }
  // A host extension by id, or nullptr.
  const void* extension(const char* id) const noexcept { return host_->get_extension(host_, id); }

 private:
  const connectd_host* host_;
};

// Where a reply is written to. Nothing to check: the host notes what goes wrong.
class Reply {
 public:
  explicit Reply(const connectd_sink* sink) noexcept : sink_(sink) {}

  void write(std::string_view bytes) noexcept {
    sink_->write(sink_->ctx, bytes.data(), bytes.size());
  }
  template <std::integral T>
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

// Snapshot output: little-endian, gathered into larger writes. A failing host ends save().
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
  template <std::integral T>
  void number(T value) {
    char encoded[sizeof(T)];
    auto rest = static_cast<uint64_t>(value);
    for (char& byte : encoded) {
      byte = static_cast<char>(rest & 0xff);
      rest >>= 8;
    }
    bytes(std::string_view(encoded, sizeof encoded));
  }
  // u64 length, then the bytes.
  void counted(std::string_view data) {
    number<uint64_t>(data.size());
    bytes(data);
  }
  // The wrapper calls it after save().
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

// Snapshot input. An early end is CONNECTD_E_CORRUPT; so is, after load(), a byte left over.
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
  template <std::integral T>
  T number() {
    unsigned char encoded[sizeof(T)];
    bytes(reinterpret_cast<char*>(encoded), sizeof encoded);
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<uint64_t>(encoded[i]) << (8 * i);
    return static_cast<T>(value);
  }
  // What Writer::counted wrote. A length is never trusted: memory grows as the bytes come in.
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

// What CONNECTD_PLUGIN takes: name and version at least.
struct Info {
  const char* name;
  const char* version;
  uint32_t level_min = 1;
  uint32_t level_max = 1;
  uint64_t flags = 0;
  uint32_t framing = CONNECTD_FRAMING_LINE;
};

// The C functions around one class. Not for use by itself: see make_plugin.
template <class Machine>
class Boundary {
  struct Instance {
    static Machine make(const Host& host) {
      if constexpr (std::constructible_from<Machine, const Host&>) {
        return Machine(host);
      } else {
        static_assert(std::default_initializable<Machine>,
                      "the class needs a constructor from const sdk::Host&, or a default one");
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
  // Runs the call; its result, or the code of what it threw.
  template <class Call>
  static int32_t guarded(const connectd_host* host, Call&& call) noexcept {
    try {
      if constexpr (std::is_void_v<decltype(call())>) {
        call();
        return CONNECTD_OK;
      } else {
        return static_cast<int32_t>(call());
      }
    } catch (const Failure& failure) {
      // A code that is none would turn the failure into a result.
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
  static constexpr bool kReads = requires(const Machine& machine, const ReadContext& context,
                                          std::string_view request, Reply& reply) {
    machine.classify(request, reply);
    machine.read(context, request, reply);
  };
  static constexpr bool kTimers = requires(Machine & machine, const ApplyContext& context) {
    { std::as_const(machine).next_deadline() } -> std::convertible_to<int64_t>;
    machine.on_tick(context);
  };

  static constexpr bool kViews = requires(Machine & machine, Writer& out) {
    machine.view().save(out);
  };

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
    using View = decltype(std::declval<Machine&>().view());
    Instance& it = instance(self);
    return guarded(it.host, [&] { *view = new View(it.machine.view()); });
  }
  static int32_t save_view(const void* self, void* view, const connectd_snapshot* info,
                           const connectd_sink* sink) {
    using View = decltype(std::declval<Machine&>().view());
    return guarded(instance(self).host, [&] {
      Writer out(sink, info);
      static_cast<View*>(view)->save(out);
      out.flush();
    });
  }
  static void end_view(void*, void* view) {
    using View = decltype(std::declval<Machine&>().view());
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

// The table of a class; the macro exports it, a test may use it in-process.
template <class Machine>
constexpr connectd_plugin make_plugin(const Info& info) {
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

}  // namespace connectd::sdk

// Once in a plugin, outside any namespace: the class, then the fields of sdk::Info.
#define CONNECTD_PLUGIN(Machine, ...)                                              \
  extern "C" CONNECTD_EXPORT const connectd_plugin* connectd_plugin_v1(void) {     \
    static constexpr connectd_plugin kPlugin =                                     \
        ::connectd::sdk::make_plugin<Machine>(::connectd::sdk::Info{__VA_ARGS__}); \
    return &kPlugin;                                                               \
  }                                                                                \
  static_assert(true, "swallows a semicolon")

#endif

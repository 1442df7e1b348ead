#include "plugin/instance.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "base/log_event.h"
#include "base/loop_scope.h"
#include "plugin/call.h"

namespace connectd::plugin {
namespace {

const char* code_name(int32_t code) {
  switch (code) {
    case CONNECTD_E_FAULT:
      return "CONNECTD_E_FAULT";
    case CONNECTD_E_NOMEM:
      return "CONNECTD_E_NOMEM";
    case CONNECTD_E_IO:
      return "CONNECTD_E_IO";
    case CONNECTD_E_CORRUPT:
      return "CONNECTD_E_CORRUPT";
    case CONNECTD_E_VERSION:
      return "CONNECTD_E_VERSION";
    case CONNECTD_E_UNSUPPORTED:
      return "CONNECTD_E_UNSUPPORTED";
    case CONNECTD_E_CANCELLED:
      return "CONNECTD_E_CANCELLED";
    case CONNECTD_E_TOO_BIG:
      return "CONNECTD_E_TOO_BIG";
    case CONNECTD_E_EXCEPTION:
      return "CONNECTD_E_EXCEPTION";
    case CONNECTD_E_CONFIG:
      return "CONNECTD_E_CONFIG";
    default:
      return "an unknown code";
  }
}

// What is left to say when the plugin gave no text of its own.
std::string_view code_meaning(int32_t code) {
  switch (code) {
    case CONNECTD_E_NOMEM:
      return "out of memory";
    case CONNECTD_E_CORRUPT:
      return "its state or the snapshot is invalid";
    case CONNECTD_E_VERSION:
      return "the behaviour level is outside what this build supports";
    case CONNECTD_E_CONFIG:
      return "invalid plugin.options";
    default:
      return "it gave no reason";
  }
}

connectd_bytes to_c(ByteView bytes) { return {bytes.data(), bytes.size()}; }

connectd_apply_context to_c(const ApplyContext& context) {
  return {sizeof(connectd_apply_context),
          context.level,
          context.index.value(),
          context.term.value(),
          context.time_ns,
          context.session.value(),
          context.sequence.value(),
          {context.seed[0], context.seed[1]}};
}

// A reply on its way into the caller's string. Lives on the stack of the call.
class ReplySink {
 public:
  // What happens to a reply over kMaxReply: the plugin is told, or it is dropped unseen.
  enum class Excess { kRefuse, kDrop };

  ReplySink(std::string& out, Excess excess)
      : out_(out), begin_(out.size()), excess_(excess), sink_{sizeof sink_, 0, this, write} {}
  ReplySink(const ReplySink&) = delete;
  ReplySink& operator=(const ReplySink&) = delete;

  const connectd_sink* sink() const { return &sink_; }
  bool too_big() const { return too_big_; }
  bool no_memory() const { return no_memory_; }
  void discard() { out_.resize(begin_); }

 private:
  static int32_t write(void* context, const void* data, size_t length) noexcept {
    auto& self = *static_cast<ReplySink*>(context);
    if (self.no_memory_) return CONNECTD_E_NOMEM;
    if (self.too_big_ || length > kMaxReply - (self.out_.size() - self.begin_)) {
      self.too_big_ = true;
      return self.excess_ == Excess::kDrop ? CONNECTD_OK : CONNECTD_E_TOO_BIG;
    }
    try {
      self.out_.append(static_cast<const char*>(data), length);
    } catch (const std::exception&) {
      self.no_memory_ = true;
      return CONNECTD_E_NOMEM;
    }
    return CONNECTD_OK;
  }

  std::string& out_;
  size_t begin_;
  Excess excess_;
  bool too_big_ = false;
  bool no_memory_ = false;
  connectd_sink sink_;
};

// The same bytes on every replica and in every version: they enter the digest of the log.
std::string_view too_big_reply(uint32_t framing) {
  switch (framing) {
    case CONNECTD_FRAMING_LINE:
      return "ERR UNKNOWN the command was executed, but its reply is over 64 MiB and was dropped\n";
    case CONNECTD_FRAMING_RESP:
      return "-UNKNOWN the command was executed, but its reply is over 64 MiB and was dropped\r\n";
    default:
      return "ERR UNKNOWN the command was executed, but its reply is over 64 MiB and was dropped";
  }
}

std::optional<Error> caught(std::string_view what) {
  try {
    throw;
  } catch (const std::exception& exception) {
    return Error{ErrorKind::kInternal, fmt::format("{}: {}", what, exception.what())};
  } catch (...) {
    return Error{ErrorKind::kInternal, fmt::format("{}: unknown exception", what)};
  }
}

// Snapshot output; remembers why the host's side failed.
class OutputAdapter {
 public:
  explicit OutputAdapter(const SnapshotSink& sink)
      : out_(sink), sink_{sizeof sink_, 0, this, write} {}
  OutputAdapter(const OutputAdapter&) = delete;
  OutputAdapter& operator=(const OutputAdapter&) = delete;

  const connectd_sink* sink() const { return &sink_; }
  const std::optional<Error>& error() const { return error_; }

 private:
  static int32_t write(void* context, const void* data, size_t length) noexcept {
    auto& self = *static_cast<OutputAdapter*>(context);
    if (self.error_) return CONNECTD_E_IO;
    if (length == 0) return CONNECTD_OK;
    try {
      auto result = self.out_(ByteView(static_cast<const uint8_t*>(data), length));
      if (!result) self.error_ = result.error();
    } catch (...) {
      self.error_ = caught("writing the snapshot");
    }
    return self.error_ ? CONNECTD_E_IO : CONNECTD_OK;
  }

  const SnapshotSink& out_;
  std::optional<Error> error_;
  connectd_sink sink_;
};

// Snapshot input, cut at its stated length; remembers why the host's side failed.
class InputAdapter {
 public:
  InputAdapter(const SnapshotSource& source, uint64_t length)
      : in_(source), left_(length), source_{sizeof source_, 0, this, read} {}
  InputAdapter(const InputAdapter&) = delete;
  InputAdapter& operator=(const InputAdapter&) = delete;

  const connectd_source* source() const { return &source_; }
  const std::optional<Error>& error() const { return error_; }
  uint64_t left() const { return left_; }

 private:
  static int64_t read(void* context, void* to, size_t capacity) noexcept {
    auto& self = *static_cast<InputAdapter*>(context);
    if (self.error_) return CONNECTD_E_IO;
    size_t wanted = static_cast<size_t>(std::min<uint64_t>(capacity, self.left_));
    if (wanted == 0) return 0;
    try {
      auto got = self.in_(std::span(static_cast<uint8_t*>(to), wanted));
      if (!got) {
        self.error_ = got.error();
      } else if (*got != wanted) {
        self.error_ = Error{
            ErrorKind::kCorrupt,
            fmt::format("the snapshot ends {} bytes before its stated length", self.left_ - *got)};
      }
    } catch (...) {
      self.error_ = caught("reading the snapshot");
    }
    if (self.error_) return CONNECTD_E_IO;
    self.left_ -= wanted;
    return static_cast<int64_t>(wanted);
  }

  const SnapshotSource& in_;
  uint64_t left_;
  std::optional<Error> error_;
  connectd_source source_;
};

Instance* of(const connectd_host* host) { return static_cast<Instance*>(host->ctx); }

// The plugin has a name for the type alone.
Metric* of(connectd_metric* metric) { return reinterpret_cast<Metric*>(metric); }

}  // namespace

connectd_snapshot to_c(const SnapshotContext& context) {
  return {sizeof(connectd_snapshot),     context.level,   context.index.value(),
          context.term.value(),          context.time_ns, context.length,
          context.writer_version.c_str()};
}

Result<std::unique_ptr<Instance>> Instance::create(std::shared_ptr<const Plugin> plugin,
                                                   Options options, std::string component) {
  CHECK(plugin != nullptr);
  std::unique_ptr<Instance> instance(
      new Instance(std::move(plugin), std::move(options), std::move(component)));
  const connectd_plugin& table = instance->plugin_->table();
  CallScope call(table.name, table.version, "create");
  int32_t result = table.create(&instance->host_, &instance->self_);
  if (result != CONNECTD_OK) {
    return failure(instance->fault(
        result == CONNECTD_E_CONFIG ? ErrorKind::kBadConfig : ErrorKind::kPluginFailed, result));
  }
  instance->created_ = true;
  instance->metrics_->seal();
  return instance;
}

Instance::Instance(std::shared_ptr<const Plugin> plugin, Options options, std::string component)
    : plugin_(std::move(plugin)),
      options_(std::move(options)),
      component_(std::move(component)),
      host_{sizeof host_, CONNECTD_ABI, this,        "connectd",    CONNECTD_VERSION,
            host_log,     host_fail,    host_option, host_extension} {}

Instance::~Instance() {
  if (!created_) return;
  check_off_loop("a plugin's destroy");
  CallScope call(plugin_->name(), plugin_->version(), "destroy");
  plugin_->table().destroy(self_);
}

Result<RequestKind> Instance::classify(ByteView request, std::string& reply) const {
  const connectd_plugin& table = plugin_->table();
  if (table.classify == nullptr) return RequestKind::kWrite;
  CallScope call(table.name, table.version, "classify", 0, request);
  ReplySink sink(reply, ReplySink::Excess::kRefuse);
  int32_t result = table.classify(self_, to_c(request), sink.sink());
  if (sink.too_big() || sink.no_memory()) {
    sink.discard();
    return failure(
        fault(ErrorKind::kRequestFailed, sink.too_big() ? CONNECTD_E_TOO_BIG : CONNECTD_E_NOMEM));
  }
  switch (result) {
    case CONNECTD_REJECT:
      return RequestKind::kReject;
    case CONNECTD_REPLY:
      return RequestKind::kReply;
    default:
      break;
  }
  sink.discard();  // the reply is read's or apply's to write
  switch (result) {
    case CONNECTD_WRITE:
      return RequestKind::kWrite;
    case CONNECTD_READ:
      return RequestKind::kRead;
    case CONNECTD_READ_LOCAL:
      return RequestKind::kReadLocal;
    default:
      return failure(fault(ErrorKind::kRequestFailed, result));
  }
}

Result<int32_t> Instance::read(const ReadContext& context, ByteView request,
                               std::string& reply) const {
  CHECK(!failed_) << "a call into a failed plugin instance";
  const connectd_plugin& table = plugin_->table();
  CHECK(table.read != nullptr) << "every request of this plugin is a write";
  connectd_read_context c = {sizeof c,
                             context.level,
                             context.applied_index.value(),
                             context.applied_time_ns,
                             context.now_ns,
                             context.session.value()};
  CallScope call(table.name, table.version, "read", c.applied_index, request);
  ReplySink sink(reply, ReplySink::Excess::kRefuse);
  int32_t result = table.read(self_, &c, to_c(request), sink.sink());
  if (result >= 0 && sink.too_big()) result = CONNECTD_E_TOO_BIG;
  if (result >= 0 && sink.no_memory()) result = CONNECTD_E_NOMEM;
  if (result >= 0) return result;
  sink.discard();
  return failure(fault(
      result == CONNECTD_E_CORRUPT ? ErrorKind::kPluginFailed : ErrorKind::kRequestFailed, result));
}

Result<int32_t> Instance::apply(const ApplyContext& context, ByteView command, std::string& reply) {
  CHECK(!failed_) << "a call into a failed plugin instance";
  const connectd_plugin& table = plugin_->table();
  connectd_apply_context c = to_c(context);
  CallScope call(table.name, table.version, "apply", c.index, command);
  ReplySink sink(reply, ReplySink::Excess::kDrop);
  int32_t result = table.apply(self_, &c, to_c(command), sink.sink());
  // Too little memory for a reply is this machine's fault alone: no result may come of it.
  if (result >= 0 && sink.no_memory()) result = CONNECTD_E_NOMEM;
  if (result < 0) {
    failed_ = true;
    sink.discard();
    return failure(fault(ErrorKind::kPluginFailed, result));
  }
  if (sink.too_big()) {
    sink.discard();
    reply.append(too_big_reply(table.framing));
    return CONNECTD_STATUS_REPLY_TOO_BIG;
  }
  return result;
}

Result<void> Instance::snapshot(const SnapshotContext& context, const SnapshotSink& sink) {
  CHECK(!failed_) << "a call into a failed plugin instance";
  const connectd_plugin& table = plugin_->table();
  connectd_snapshot c = to_c(context);
  CallScope call(table.name, table.version, "snapshot", c.index);
  OutputAdapter out(sink);
  int32_t result = table.snapshot(self_, &c, out.sink());
  if (out.error()) return failure(*out.error());
  if (result == CONNECTD_OK) return {};
  failed_ = true;
  return failure(fault(ErrorKind::kPluginFailed, result));
}

Result<void*> Instance::begin_view(const SnapshotContext& context) {
  CHECK(!failed_) << "a call into a failed plugin instance";
  const connectd_plugin& table = plugin_->table();
  connectd_snapshot c = to_c(context);
  CallScope call(table.name, table.version, "begin of a view", c.index);
  void* view = nullptr;
  int32_t result = plugin_->views()->begin(self_, &c, &view);
  if (result == CONNECTD_OK) return view;
  return failure(fault(ErrorKind::kPluginFailed, result));
}

// Beside the apply thread: nothing of the instance may be changed here.
Result<void> Instance::save_view(void* view, const SnapshotContext& context,
                                 const SnapshotSink& sink) const {
  const connectd_plugin& table = plugin_->table();
  connectd_snapshot c = to_c(context);
  CallScope call(table.name, table.version, "save of a view", c.index);
  OutputAdapter out(sink);
  int32_t result = plugin_->views()->save(self_, view, &c, out.sink());
  if (out.error()) return failure(*out.error());
  if (result == CONNECTD_OK) return {};
  return failure(fault(ErrorKind::kPluginFailed, result));
}

void Instance::end_view(void* view) {
  CallScope call(plugin_->name(), plugin_->version(), "end of a view");
  plugin_->views()->end(self_, view);
}

int32_t Instance::snapshot_in_child(const connectd_snapshot& context, const connectd_sink& sink,
                                    ChildHost& child) {
  child_ = &child;
  return plugin_->table().snapshot(self_, &context, &sink);
}

Result<void> Instance::restore(const SnapshotContext& context, const SnapshotSource& source) {
  CHECK(!failed_) << "a call into a failed plugin instance";
  const connectd_plugin& table = plugin_->table();
  connectd_snapshot c = to_c(context);
  CallScope call(table.name, table.version, "restore", c.index);
  InputAdapter in(source, context.length);
  int32_t result = table.restore(self_, &c, in.source());
  failed_ = result != CONNECTD_OK || in.error() || in.left() != 0;
  if (in.error()) return failure(*in.error());
  if (result != CONNECTD_OK) return failure(fault(ErrorKind::kPluginFailed, result));
  if (in.left() != 0) {
    call.fail_text() =
        fmt::format("it left {} of {} bytes of the snapshot unread", in.left(), context.length);
    return failure(fault(ErrorKind::kPluginFailed, CONNECTD_E_CORRUPT));
  }
  return {};
}

Result<std::optional<int64_t>> Instance::next_deadline() {
  const connectd_ext_timers* timers = plugin_->timers();
  if (timers == nullptr) return std::nullopt;
  CHECK(!failed_) << "a call into a failed plugin instance";
  CallScope call(plugin_->name(), plugin_->version(), "next_deadline");
  int64_t deadline = timers->next_deadline(self_);
  if (deadline < 0) {
    failed_ = true;
    constexpr int64_t kLowest = std::numeric_limits<int32_t>::min();
    return failure(
        fault(ErrorKind::kPluginFailed, static_cast<int32_t>(std::max(deadline, kLowest))));
  }
  if (deadline == std::numeric_limits<int64_t>::max()) return std::nullopt;
  return deadline;
}

Result<void> Instance::on_tick(const ApplyContext& context) {
  CHECK(!failed_) << "a call into a failed plugin instance";
  CHECK(has_timers()) << "a tick for a plugin without timers";
  connectd_apply_context c = to_c(context);
  CallScope call(plugin_->name(), plugin_->version(), "on_tick", c.index);
  int32_t result = plugin_->timers()->on_tick(self_, &c);
  if (result >= 0) return {};
  failed_ = true;
  return failure(fault(ErrorKind::kPluginFailed, result));
}

Error Instance::fault(ErrorKind kind, int32_t result) const {
  CallScope* call = CallScope::current();
  std::string where = call->index() == 0 ? "" : fmt::format(" at index {}", call->index());
  std::string_view why = call->fail_text();
  return Error{kind,
               fmt::format("plugin {} {} failed in {}{}: {} ({}, {})", plugin_->name(),
                           plugin_->version(), call->function(), where,
                           why.empty() ? code_meaning(result) : why, code_name(result), result)};
}

void Instance::host_log(const connectd_host* host, int32_t level, const char* text, size_t length) {
  if (text == nullptr) return;
  constexpr int32_t kLowest = static_cast<int32_t>(LogLevel::kDebug);
  constexpr int32_t kHighest = static_cast<int32_t>(LogLevel::kError);
  level = std::clamp(level, kLowest, kHighest);
  if (ChildHost* child = of(host)->child_) {
    return child->log(level, std::string_view(text, std::min(length, kMaxLogText)));
  }
  auto log_level = static_cast<LogLevel>(level);
  if (!log_enabled(log_level)) return;
  log_line(log_level, of(host)->component_, std::string_view(text, std::min(length, kMaxLogText)));
}

int32_t Instance::host_fail(const connectd_host* host, int32_t code, const char* text,
                            size_t length) {
  if (ChildHost* child = of(host)->child_; child != nullptr && text != nullptr) {
    child->fail(std::string_view(text, std::min(length, kMaxFailText)));
    return code;
  }
  // Outside any call (a thread of the plugin's own) there is nothing to fail.
  CallScope* call = CallScope::current();
  if (call == nullptr || text == nullptr) return code;
  try {
    call->fail_text().assign(text, std::min(length, kMaxFailText));
  } catch (const std::exception&) {
    // Without memory for the text the code alone has to do.
  }
  return code;
}

const char* Instance::host_option(const connectd_host* host, const char* key) {
  const Options& options = of(host)->options_;
  if (key == nullptr) return nullptr;
  auto found = options.find(std::string_view(key));
  return found == options.end() ? nullptr : found->second.c_str();
}

const void* Instance::host_extension(const connectd_host*, const char* id) {
  if (id != nullptr && std::string_view(id) == CONNECTD_EXT_METRICS) return &kMetricsExtension;
  return nullptr;
}

template <MetricType kType>
connectd_metric* Instance::host_metric(const connectd_host* host, const char* name,
                                       const char* help, const char* label, const char* value) {
  // In a forked child nothing may allocate, and nobody would see it.
  if (of(host)->child_ != nullptr) return nullptr;
  auto metric = of(host)->metrics_->add(kType, name, help, label, value);
  if (metric) return reinterpret_cast<connectd_metric*>(*metric);
  log_event(LogEvent::kPluginMetricRefused, "{}: {}", of(host)->component_, metric.error().text);
  return nullptr;
}

const connectd_ext_metrics Instance::kMetricsExtension = {
    sizeof(connectd_ext_metrics),
    0,
    host_metric<MetricType::kCounter>,
    host_metric<MetricType::kGauge>,
    host_metric<MetricType::kHistogram>,
    [](connectd_metric* metric, uint64_t more) {
      if (metric != nullptr) of(metric)->add(more);
    },
    [](connectd_metric* metric, double value) {
      if (metric != nullptr) of(metric)->set(value);
    },
    [](connectd_metric* metric, uint64_t nanoseconds) {
      if (metric != nullptr) of(metric)->observe(nanoseconds);
    }};

}  // namespace connectd::plugin

// One state machine: an instance of a plugin, and the host's side of every call into it.
//
// Each call is wrapped: the crash handler knows it (plugin/call.h), replies go straight into the
// caller's string, and a negative result becomes an Error that names plugin, version, function,
// index, the plugin's own fail() text and the code.
//
// Threads: one instance, several threads, never two calls at once, but for classify():
//   create, restore, the destructor   no other call is in progress, and none follows a destructor
//   apply, on_tick, next_deadline, snapshot, read, begin_view, end_view
//                                     one at a time; the thread may change between
//   save_view                         one thread, beside all but the destructor
//   classify                          any thread, beside all but the destructor
#pragma once

#include <connect/plugin.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "base/types.h"
#include "plugin/metric_table.h"
#include "plugin/plugin.h"

namespace connectd::plugin {

inline constexpr size_t kMaxReply = CONNECTD_REPLY_MAX;  // bytes of one reply
inline constexpr size_t kMaxFailText = 1024;             // of a fail() text; the rest is cut
inline constexpr size_t kMaxLogText = 4096;              // of a line logged by a plugin; likewise

// Keys as under plugin.options, flattened: "limits.keys".
using Options = std::map<std::string, std::string, std::less<>>;

// What apply and on_tick may depend on: all of it comes from the log.
struct ApplyContext {
  Index index;
  Term term;
  int64_t time_ns = 0;
  SessionId session;  // none: not the client's own session
  Sequence sequence;
  uint64_t seed[2] = {0, 0};
  uint32_t level = 1;
};

struct ReadContext {
  Index applied_index;
  int64_t applied_time_ns = 0;
  int64_t now_ns = 0;
  SessionId session;
  uint32_t level = 1;
};

// Of the last entry that a snapshot covers.
struct SnapshotContext {
  Index index;
  Term term;
  int64_t time_ns = 0;
  uint32_t level = 1;
  uint64_t length = 0;         // restore: bytes that follow
  std::string writer_version;  // restore: version text of the plugin that wrote it
};

enum class RequestKind : uint8_t {
  kWrite,
  kRead,
  kReadLocal,
  kReject,  // refused; `reply` holds the plugin's text, or nothing: answer REJECTED
  kReply,   // answered by `reply`
};

// Takes the bytes, or ends the snapshot with an error. The bytes are valid during the call only.
using SnapshotSink = std::function<Result<void>(ByteView)>;
// Fills `to` wholly; less only at the end.
using SnapshotSource = std::function<Result<size_t>(std::span<uint8_t> to)>;

// As the plugin is given it; valid as long as `context`.
connectd_snapshot to_c(const SnapshotContext& context);

// What a plugin reaches of its host in a forked child, where the host must not lock or allocate.
class ChildHost {
 public:
  virtual void log(int32_t level, std::string_view text) = 0;
  virtual void fail(std::string_view text) = 0;

 protected:
  ~ChildHost() = default;
};

class Instance final {
 public:
  // The empty state. `component` names it in log lines. Errors: kBadConfig (the plugin refuses its
  // options), kPluginFailed.
  static Result<std::unique_ptr<Instance>> create(std::shared_ptr<const Plugin> plugin,
                                                  Options options,
                                                  std::string component = "plugin");
  ~Instance();
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  const Plugin& plugin() const { return *plugin_; }
  // What the plugin counts; any thread may read it, also after the instance has gone.
  std::shared_ptr<const MetricTable> metrics() const { return metrics_; }

  // `reply` is appended to, here and below. An error (kRequestFailed) concerns this request only:
  // it is answered PLUGIN, with the text.
  Result<RequestKind> classify(ByteView request, std::string& reply) const;

  // The plugin's status, 0 or more. On error `reply` is as it was. kRequestFailed: this request is
  // answered PLUGIN, the node continues. kPluginFailed: the state is corrupt, the node stops.
  Result<int32_t> read(const ReadContext& context, ByteView request, std::string& reply) const;

  // The plugin's status, 0 or more. An error (kPlugin) stops the replica with the applied index
  // unmoved; the instance is good for nothing but its destructor.
  // A reply over kMaxReply is deterministic: the command has its effect, the status is
  // CONNECTD_STATUS_REPLY_TOO_BIG, and the reply is an error text in the plugin's framing. The
  // plugin cannot tell, so the limit never changes the state.
  Result<int32_t> apply(const ApplyContext& context, ByteView command, std::string& reply);

  // Writes the whole state. An error of the sink is returned as it is, and the instance stays
  // usable; one of the plugin is kPlugin, and stops the replica as for apply.
  Result<void> snapshot(const SnapshotContext& context, const SnapshotSink& sink);

  // The same by a view (CONNECTD_EXT_SNAPSHOT_VIEW): the state as it is at begin_view(). Only with
  // Plugin::views(). Errors of the plugin are kPlugin, and the instance stays usable.
  Result<void*> begin_view(const SnapshotContext& context);
  Result<void> save_view(void* view, const SnapshotContext& context,
                         const SnapshotSink& sink) const;
  void end_view(void* view);

  // The same in a forked child (plugin/capture.h), which ends after it: neither locks nor
  // allocates.
  int32_t snapshot_in_child(const connectd_snapshot& context, const connectd_sink& sink,
                            ChildHost& child);

  // Only on a fresh instance, whose destructor is all that may follow an error. Reads exactly
  // context.length bytes: less is an error, and so are bytes left over. An error of the source is
  // returned as it is; one of the plugin is kPlugin.
  Result<void> restore(const SnapshotContext& context, const SnapshotSource& source);

  bool has_timers() const { return plugin_->timers() != nullptr; }
  // The earliest log time on_tick is wanted at; none without one, or without timers.
  Result<std::optional<int64_t>> next_deadline();
  // Errors as apply. Only with timers.
  Result<void> on_tick(const ApplyContext& context);

 private:
  Instance(std::shared_ptr<const Plugin> plugin, Options options, std::string component);

  // What a negative result of the call in progress means, as text.
  Error fault(ErrorKind kind, int32_t result) const;
  static void host_log(const connectd_host* host, int32_t level, const char* text, size_t length);
  static int32_t host_fail(const connectd_host* host, int32_t code, const char* text,
                           size_t length);
  static const char* host_option(const connectd_host* host, const char* key);
  static const void* host_extension(const connectd_host* host, const char* id);
  template <MetricType kType>
  static connectd_metric* host_metric(const connectd_host* host, const char* name, const char* help,
                                      const char* label, const char* value);
  static const connectd_ext_metrics kMetricsExtension;

  const std::shared_ptr<const Plugin> plugin_;
  const Options options_;
  const std::string component_;
  const std::shared_ptr<MetricTable> metrics_ = std::make_shared<MetricTable>();
  connectd_host host_;
  void* self_ = nullptr;
  bool created_ = false;
  // A call left the state in doubt; every further one is a bug of ours.
  bool failed_ = false;
  ChildHost* child_ = nullptr;  // in a forked child
};

}  // namespace connectd::plugin

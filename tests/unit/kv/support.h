// The plugin as the host sees it, with a host just large enough, and commands in and replies out as
// text.
#pragma once

#include <connect/plugin.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace connectd::kv::test {

inline std::string command(std::span<const std::string> words) {
  std::string request = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words) {
    request += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
  }
  return request;
}
inline std::string command(std::initializer_list<std::string> words) {
  return command(std::span<const std::string>(words.begin(), words.size()));
}
// Words separated by spaces; '' is the empty word.
inline std::string command(std::string_view line) {
  std::vector<std::string> words;
  while (!line.empty()) {
    size_t end = std::min(line.find(' '), line.size());
    std::string word(line.substr(0, end));
    words.push_back(word == "''" ? "" : word);
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return command(std::span<const std::string>(words));
}

struct Answer {
  int32_t result;
  std::string reply;
};

class Plugin {
 public:
  static constexpr int64_t kStart = 1'700'000'000'000'000'000;  // a time of the log, in ns

  using Options = std::map<std::string, std::string>;

  explicit Plugin(Options options = {}) : options_(std::move(options)) {
    host_ = {sizeof host_,
             CONNECTD_ABI,
             this,
             "test",
             "1",
             [](const connectd_host*, int32_t, const char*, size_t) {},
             [](const connectd_host* host, int32_t code, const char* text, size_t size) {
               static_cast<Plugin*>(host->ctx)->failure.assign(text, size);
               return code;
             },
             [](const connectd_host* host, const char* key) -> const char* {
               auto& given = static_cast<Plugin*>(host->ctx)->options_;
               auto found = given.find(key);
               return found == given.end() ? nullptr : found->second.c_str();
             },
             [](const connectd_host*, const char*) -> const void* { return nullptr; }};
    created = table().create(&host_, &self_);
  }
  ~Plugin() {
    if (created == CONNECTD_OK) table().destroy(self_);
  }
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;

  static const connectd_plugin& table() { return *connectd_plugin_v1(); }
  static const connectd_ext_timers& timers() {
    return *static_cast<const connectd_ext_timers*>(table().get_extension(CONNECTD_EXT_TIMERS));
  }

  Answer classify(std::string_view request) const {
    std::string reply;
    connectd_sink sink = sink_to(reply);
    int32_t result = table().classify(self_, bytes(request), &sink);
    return {result, reply};
  }
  Answer read(std::string_view request) const { return read(request, now, now); }
  Answer read(std::string_view request, int64_t applied_time_ns, int64_t now_ns) const {
    std::string reply;
    connectd_sink sink = sink_to(reply);
    connectd_read_context context{};
    context.size = sizeof context;
    context.level = 1;
    context.applied_time_ns = applied_time_ns;
    context.now_ns = now_ns;
    int32_t result = table().read(self_, &context, bytes(request), &sink);
    return {result, reply};
  }
  Answer apply(std::string_view request) {
    std::string reply;
    connectd_sink sink = sink_to(reply);
    connectd_apply_context context = apply_context();
    int32_t result = table().apply(self_, &context, bytes(request), &sink);
    return {result, reply};
  }
  // As the daemon does: classify decides the way.
  std::string call(std::string_view request) {
    Answer answer = classify(request);
    if (answer.result == CONNECTD_WRITE) return apply(request).reply;
    if (answer.result == CONNECTD_READ || answer.result == CONNECTD_READ_LOCAL) {
      return read(request).reply;
    }
    return answer.reply;
  }
  int64_t next_deadline() const { return timers().next_deadline(self_); }
  int32_t tick() {
    connectd_apply_context context = apply_context();
    return timers().on_tick(self_, &context);
  }

  std::string snapshot() const {
    std::string data;
    connectd_sink sink = sink_to(data);
    connectd_snapshot info = snapshot_info(0);
    return table().snapshot(self_, &info, &sink) == CONNECTD_OK ? data : "failed";
  }
  int32_t restore(std::string_view data) {
    connectd_source source = {sizeof source, 0, &data,
                              [](void* context, void* buffer, size_t capacity) -> int64_t {
                                auto& rest = *static_cast<std::string_view*>(context);
                                size_t part = std::min(capacity, rest.size());
                                if (part > 0) std::memcpy(buffer, rest.data(), part);
                                rest.remove_prefix(part);
                                return static_cast<int64_t>(part);
                              }};
    connectd_snapshot info = snapshot_info(data.size());
    return table().restore(self_, &info, &source);
  }

  int64_t now = kStart;
  int32_t created = 0;
  std::string failure;

 private:
  static connectd_bytes bytes(std::string_view text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
  }
  static connectd_sink sink_to(std::string& text) {
    return {sizeof(connectd_sink), 0, &text, [](void* context, const void* data, size_t size) {
              static_cast<std::string*>(context)->append(static_cast<const char*>(data), size);
              return CONNECTD_OK;
            }};
  }
  connectd_apply_context apply_context() const {
    connectd_apply_context context{};
    context.size = sizeof context;
    context.level = 1;
    context.time_ns = now;
    return context;
  }
  static connectd_snapshot snapshot_info(size_t length) {
    connectd_snapshot info{};
    info.size = sizeof info;
    info.level = 1;
    info.length = length;
    info.writer_version = "0";
    return info;
  }

  Options options_;
  connectd_host host_;
  void* self_ = nullptr;
};

}  // namespace connectd::kv::test

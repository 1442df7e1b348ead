#include "sim/workload.h"

#include <fmt/format.h>

#include <map>

namespace connectd::sim {
namespace {
constexpr uint64_t kKeys = 5;
constexpr std::string_view kResp = "RESP ";  // what follows are the words of a RESP command

const std::map<std::string, std::vector<std::string>, std::less<>>& known() {
  static const std::map<std::string, std::vector<std::string>, std::less<>> kKnown = {
      {"counter", {"incr {n}", "get"}},
      {"chain", {"add {n}", "get"}},
      {"echo", {"write {n}", "read {n}"}},
      {"random", {"incr {n}", "get"}},
      {"kv",
       {"RESP SET k{k} v{n}", "RESP APPEND k{k} a{n}", "RESP GETSET k{k} g{n}",
        "RESP SET k{k} p{n} PX 400", "RESP CAS k{k} v{n} c{n}", "RESP MSET k{k} m{n} k{k} o{n}",
        "RESP SET k{k} x{n} NX", "RESP GET k{k}", "RESP STRLEN k{k}", "RESP EXISTS k{k} k{k}",
        "RESP MGET k0 k1 k2 k3 k4", "RESP DBSIZE", "RESP INFO"}},
  };
  return kKnown;
}

std::string resp_of(std::string_view words) {
  std::vector<std::string_view> parts;
  while (!words.empty()) {
    size_t space = std::min(words.find(' '), words.size());
    if (space > 0) parts.push_back(words.substr(0, space));
    words.remove_prefix(std::min(space + 1, words.size()));
  }
  std::string bytes = fmt::format("*{}\r\n", parts.size());
  for (std::string_view part : parts) bytes += fmt::format("${}\r\n{}\r\n", part.size(), part);
  return bytes;
}

void replace_all(std::string& text, std::string_view what, const std::string& by) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size())) {
    text.replace(at, what.size(), by);
  }
}

}  // namespace

Result<std::vector<std::string>> Workload::parse_templates(std::string_view text) {
  std::vector<std::string> templates;
  size_t number = 0;
  while (!text.empty()) {
    ++number;
    size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with('#')) continue;
    std::string out;
    for (size_t i = 0; i < line.size(); ++i) {
      if (line[i] != '\\') {
        out += line[i];
        continue;
      }
      char kind = i + 1 < line.size() ? line[++i] : '\0';
      auto hex = [&](size_t at) -> int {
        if (at >= line.size()) return -1;
        char c = line[at];
        if (c >= '0' && c <= '9') return c - '0';
        if (c >= 'a' && c <= 'f') return c - 'a' + 10;
        if (c >= 'A' && c <= 'F') return c - 'A' + 10;
        return -1;
      };
      if (kind == 'r') {
        out += '\r';
      } else if (kind == 'n') {
        out += '\n';
      } else if (kind == 't') {
        out += '\t';
      } else if (kind == '\\') {
        out += '\\';
      } else if (kind == 'x' && hex(i + 1) >= 0 && hex(i + 2) >= 0) {
        out += static_cast<char>(hex(i + 1) * 16 + hex(i + 2));
        i += 2;
      } else {
        return failure(ErrorKind::kMalformed,
                       fmt::format("line {}: after a backslash comes r, n, t, xHH or another "
                                   "backslash",
                                   number));
      }
    }
    templates.push_back(std::move(out));
  }
  if (templates.empty()) return failure(ErrorKind::kMalformed, "there is no request in it");
  return templates;
}

Result<std::unique_ptr<Workload>> Workload::make(
    const std::shared_ptr<const plugin::Plugin>& plugin, std::vector<std::string> templates) {
  if (templates.empty()) {
    auto found = known().find(plugin->name());
    if (found == known().end()) {
      return failure(ErrorKind::kUsage,
                     fmt::format("what to ask the plugin '{}' is not known here: give --requests "
                                 "FILE, with a request a line, {{n}} for a fresh number",
                                 plugin->name()));
    }
    templates = found->second;
  }
  auto instance = plugin::Instance::create(plugin, {});
  if (!instance) return failure(instance.error());
  std::unique_ptr<Workload> workload(new Workload);
  for (std::string& text : templates) {
    Template t;
    t.resp = text.starts_with(kResp);
    t.text = t.resp ? text.substr(kResp.size()) : text;
    Random random(0);
    std::string sample = workload->expand(t, random);
    std::string reply;
    auto kind = (*instance)->classify(as_bytes(sample), reply);
    if (!kind) return failure(kind.error());
    switch (*kind) {
      case plugin::RequestKind::kWrite:
        t.is_write = true;
        workload->unique_ &= t.text.find("{n}") != std::string::npos;
        workload->writes_.push_back(std::move(t));
        break;
      case plugin::RequestKind::kRead:
      case plugin::RequestKind::kReply:
        workload->reads_.push_back(std::move(t));
        break;
      case plugin::RequestKind::kReadLocal:
        workload->local_reads_.push_back(std::move(t));
        break;
      case plugin::RequestKind::kReject:
        return failure(ErrorKind::kUsage,
                       fmt::format("the plugin '{}' rejects the request '{}': {}", plugin->name(),
                                   text, reply));
    }
  }
  if (workload->writes_.empty()) {
    return failure(ErrorKind::kUsage, "none of the requests is a write: there is nothing to test");
  }
  return workload;
}

std::string Workload::expand(const Template& t, Random& random) {
  std::string text = t.text;
  replace_all(text, "{n}", std::to_string(next_number_++));
  for (size_t at = text.find("{k}"); at != std::string::npos; at = text.find("{k}", at)) {
    text.replace(at, 3, std::to_string(random.below(kKeys)));
  }
  return t.resp ? resp_of(text) : text;
}

// The last word of the first template is any text.
Workload::Request Workload::large(Random& random, size_t bytes) {
  Template padded = writes_.front();
  const size_t short_bytes = expand(padded, random).size();
  const std::string text = padded.text;
  // A RESP command has its length in digits, too.
  for (size_t pad = bytes - std::min(bytes, short_bytes + 1);; pad -= std::min<size_t>(pad, 1)) {
    padded.text = text + (padded.resp ? "" : " ") + std::string(pad, 'x');
    std::string request = expand(padded, random);
    if (request.size() <= bytes || pad == 0) return {std::move(request), true};
  }
}

std::vector<std::string> Workload::local_reads(Random& random) {
  std::vector<std::string> requests;
  for (const Template& t : local_reads_) requests.push_back(expand(t, random));
  return requests;
}

Workload::Request Workload::next(Random& random, double write_percent) {
  bool write = reads_.empty() || random.chance(write_percent);
  const std::vector<Template>& from = write ? writes_ : reads_;
  return {expand(from[random.below(from.size())], random), write};
}

}  // namespace connectd::sim

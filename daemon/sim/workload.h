// The requests of a run's clients. It knows those of the plugins in this repository; for other
// plugins it reads templates from a file.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "plugin/instance.h"
#include "plugin/plugin.h"

namespace connectd::sim {

class Workload {
 public:
  struct Request {
    std::string bytes;
    bool is_write = false;
  };

  // `templates`: requests in which {n} becomes a number that no other request of the run has, and
  // {k} one of a few small numbers. Empty: those for this plugin, by its name. kUsage when there
  // are none for it, kPlugin when the plugin fails to classify one.
  static Result<std::unique_ptr<Workload>> make(const std::shared_ptr<const plugin::Plugin>& plugin,
                                                std::vector<std::string> templates);
  // Lines of a file, with \r, \n, \t, \xHH and \\ understood; empty lines and those that begin
  // with '#' are skipped. kMalformed with the line's number.
  static Result<std::vector<std::string>> parse_templates(std::string_view text);

  Request next(Random& random, double write_percent);
  // One of each read of the present state of a replica. Their replies promise nothing, so next()
  // has none of them, but they must change nothing.
  std::vector<std::string> local_reads(Random& random);
  // A write of this many bytes, or a little less; at least those that it needs.
  Request large(Random& random, size_t bytes);
  // A number for {n} that no request has.
  uint64_t fresh_number() { return next_number_++; }
  // All writes of the run differ, so the log shows whether each is applied exactly once.
  bool writes_are_unique() const { return unique_; }

 private:
  Workload() = default;
  struct Template {
    std::string text;
    bool is_write = false;
    bool resp = false;  // words of a RESP command, not the bytes
  };
  std::string expand(const Template& t, Random& random);

  std::vector<Template> writes_;
  std::vector<Template> reads_;
  std::vector<Template> local_reads_;
  uint64_t next_number_ = 0;
  bool unique_ = true;
};

}  // namespace connectd::sim

// A configuration file. It is loaded, and what --print-config says of it loads to the same; or
// everything that is wrong with it is told.
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "config/load.h"
#include "config/options.h"
#include "config/reference.h"
#include "tests/fuzz/input.h"

namespace connectd {
namespace {

Result<config::Loaded> load(std::string_view text) {
  int file = memfd_create("configuration", 0);
  CHECK(file >= 0);
  CHECK(write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  config::LoadRequest request;
  request.file = fmt::format("/proc/self/fd/{}", file);
  auto loaded = config::load(request);
  close(file);
  return loaded;
}

}  // namespace
}  // namespace connectd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace connectd;
  if (size > (16 << 10)) return 0;
  auto loaded = load(fuzz::Input(data, size).rest_as_text());
  if (!loaded) {
    CHECK(!loaded.error().text.empty());
    return 0;
  }
  std::string printed = config::print_config(*loaded);
  auto again = load(printed);
  CHECK(again) << printed << again.error().text;
  for (const config::Option& option : config::options()) {
    CHECK(config::format_value(option, loaded->config) ==
          config::format_value(option, again->config))
        << option.path << "\n"
        << printed;
  }
  return 0;
}

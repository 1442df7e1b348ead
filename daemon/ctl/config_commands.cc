// config check, config reference, version.
#include "config/load.h"
#include "config/reference.h"
#include "ctl/commands.h"

namespace connectd::ctl {

ExitCode config_check_command(Context& context) {
  config::LoadRequest request;
  request.file = context.arguments[0];
  if (context.has("set")) request.sets = context.options["set"];
  if (context.has("node")) request.node = context.option("node");
  Result<config::Loaded> loaded = config::load(request);
  if (!loaded) {
    context.streams.err << loaded.error().text;
    return exit_code(loaded.error().kind);
  }
  context.streams.err << loaded->warnings;
  context.streams.out << context.arguments[0] << ": good\n";
  return ExitCode::kOk;
}

ExitCode config_reference_command(Context& context) {
  context.streams.out << config::reference_page();
  return ExitCode::kOk;
}

ExitCode version_command(Context& context) {
  if (context.json) {
    context.streams.out << fmt::format("{{\"version\":\"{}\"}}\n", CONNECTD_VERSION);
  } else {
    context.streams.out << "connectctl " << CONNECTD_VERSION << "\n";
  }
  return ExitCode::kOk;
}

}  // namespace connectd::ctl

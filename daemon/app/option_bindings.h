// Where each option of the configuration arrives: the option table (config/options.cc) says what a
// key may be, this one which field of which part it sets. A test goes through both: an option that
// has no row here, or whose row sets nothing, fails it, and so does a default that differs.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "admin/http_server.h"
#include "client/client_port.h"
#include "config/config.h"
#include "node/membership/bootstrap.h"
#include "node/node.h"
#include "plugin/capture.h"

namespace connectd::app {

// What the parts of the process are opened with, as far as the configuration decides it.
struct ProcessOptions {
  node::NodeOptions node;
  node::Bootstrap::Options bootstrap;
  client::ClientPortOptions clients;
  admin::ServerOptions http;
  plugin::CaptureMode capture = plugin::CaptureMode::kAuto;
  plugin::ForkOptions fork;
};

struct Binding {
  std::string_view path;
  void (*copy)(const config::Config& from, ProcessOptions& to);
  // The field's value, for people and tests.
  std::string (*shown)(const ProcessOptions& setup);
};
// An option may have several rows.
std::span<const Binding> bindings();
ProcessOptions set_up(const config::Config& config);

// How a running process takes a new value of an option that is `live`. null: it reads the value
// when it needs it.
struct LiveOption {
  std::string_view path;
  void (*apply)(const config::Config& config, node::Node* node);
};
std::span<const LiveOption> live_options();
// `node` may be null.
void apply_live_options(const config::Config& config, node::Node* node);

}  // namespace connectd::app

#include "app/service_state.h"

#include <fmt/format.h>

#include <utility>

namespace connectd::app {
namespace {
constexpr Duration kExtensionInterval = std::chrono::seconds(10);
}  // namespace

void ServiceState::start_moves(Time now) {
  if (now < next_extension_) return;
  next_extension_ = now + kExtensionInterval;
  systemd_.notify(
      fmt::format("EXTEND_TIMEOUT_USEC={}", kStartHangs / std::chrono::microseconds(1)));
}

void ServiceState::ready() {
  ready_ = true;
  status_ = "ready";
  systemd_.notify("READY=1\nSTATUS=" + status_);
}

void ServiceState::stopping() {
  ready_ = false;
  status_ = "stopping";
  systemd_.notify("STOPPING=1\nSTATUS=" + status_);
}

void ServiceState::reload_begins() {
  if (!ready_) return;
  systemd_.notify(fmt::format(
      "RELOADING=1\nMONOTONIC_USEC={}",
      std::chrono::steady_clock::now().time_since_epoch() / std::chrono::microseconds(1)));
}

void ServiceState::reload_ends() {
  if (ready_) systemd_.notify("READY=1");
}

void ServiceState::set_status(std::string text) {
  if (overwritten_.exchange(false)) status_.clear();
  if (text == status_) return;
  status_ = std::move(text);
  systemd_.notify("STATUS=" + status_);
}

void ServiceState::advance(Time now) {
  systemd_.retry();
  if (systemd_.watchdog_timeout() == Duration::zero() || now < next_watchdog_) return;
  next_watchdog_ = now + systemd_.watchdog_timeout() / 3;
  systemd_.notify("WATCHDOG=1");
}

void ServiceState::stuck(const std::string& call) {
  overwritten_ = true;
  systemd_.notify_last("STATUS=STUCK in " + call);
}

void ServiceState::failed(const Error& error) const {
  systemd_.notify_last("STATUS=failed: " + error.text.substr(0, error.text.find('\n')));
}

}  // namespace connectd::app

#include "app/service_state.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "base/log.h"

namespace connectd::app {
namespace {
constexpr Duration kExtensionInterval = std::chrono::seconds(10);
constexpr std::string_view kFailed = "STATUS=failed: ";

// Whom last lines are for, and in which process: a forked child is not the service.
std::atomic<const ServiceState*> g_state{nullptr};
std::atomic<pid_t> g_process{0};

std::string_view first_line(std::string_view text) { return text.substr(0, text.find('\n')); }
}  // namespace

ServiceState::ServiceState() {
  g_process = ::getpid();
  g_state = this;
  follow_last_lines(&on_last_line);
}

ServiceState::~ServiceState() {
  follow_last_lines(nullptr);
  g_state = nullptr;
}

// Async-signal-safe. Later lines say what to do about the first one.
void ServiceState::on_last_line(std::string_view line) {
  if (g_process != ::getpid()) return;
  const ServiceState* state = g_state.exchange(nullptr);
  if (state == nullptr) return;
  char message[600];
  size_t used = kFailed.copy(message, sizeof message);
  used += first_line(line).copy(message + used, sizeof message - used);
  state->systemd_.notify_last({message, used});
}

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
  systemd_.notify_last(std::string(kFailed).append(first_line(error.text)));
}

}  // namespace connectd::app

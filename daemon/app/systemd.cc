#include "app/systemd.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "base/log_event.h"

namespace connectd::app {
namespace {
// While systemd reads nothing, READY=1 and the like wait here.
constexpr size_t kMaxUnsent = 32;
}  // namespace

bool is_run_by_systemd() {
  const auto is_set = [](const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0';
  };
  return is_set("NOTIFY_SOCKET") && is_set("INVOCATION_ID");
}

std::string credentials_directory() {
  const char* path = std::getenv("CREDENTIALS_DIRECTORY");
  return path != nullptr ? path : "";
}

Systemd::Systemd() {
  if (const char* path = std::getenv("NOTIFY_SOCKET"); path != nullptr && path[0] != '\0') {
    address_ = path;
    if (address_.size() < sizeof(sockaddr_un::sun_path)) {
      socket_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    }
    if (socket_ < 0)
      log_event(LogEvent::kSystemdInvalidSocket, "invalid NOTIFY_SOCKET '{}'", address_);
  }
  const char* micros = std::getenv("WATCHDOG_USEC");
  const char* pid = std::getenv("WATCHDOG_PID");
  if (micros != nullptr && (pid == nullptr || std::atoll(pid) == getpid())) {
    watchdog_ = std::chrono::microseconds(std::atoll(micros));
  }
}

Systemd::~Systemd() {
  if (socket_ >= 0) close(socket_);
}

void Systemd::notify(std::string message) {
  if (socket_ < 0) return;
  // Of messages of one kind, such as STATUS=, the newest that waits replaces the one before it.
  auto kind = [](const std::string& text) { return text.substr(0, text.find('=')); };
  if (!unsent_.empty() && kind(unsent_.back()) == kind(message)) unsent_.pop_back();
  if (unsent_.size() < kMaxUnsent) unsent_.push_back(std::move(message));
  retry();
}

bool Systemd::send(std::string_view message) const {
  if (socket_ < 0) return true;
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  std::memcpy(to.sun_path, address_.data(), address_.size());
  if (to.sun_path[0] == '@') to.sun_path[0] = '\0';  // abstract
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  return ::sendto(socket_, message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                  reinterpret_cast<const sockaddr*>(&to), length) >= 0;
}

void Systemd::retry() {
  for (; !unsent_.empty(); unsent_.pop_front()) {
    if (send(unsent_.front())) continue;
    if (errno == EAGAIN || errno == ENOBUFS || errno == EINTR) return;
    log_event(LogEvent::kSystemdNotNotified, "cannot notify: {}", errno_text(errno));
  }
}

}  // namespace connectd::app

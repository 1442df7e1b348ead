#include "auth/failure_limiter.h"

#include <fmt/format.h>

namespace connectd::auth {
namespace {

// No address and no ID has a blank.
std::string key_of(std::string_view source, std::string_view id) {
  return fmt::format("{} {}", source, id);
}

}  // namespace

bool FailureLimiter::may_try(std::string_view source, std::string_view id, Time now) {
  if (windows_.empty()) return true;
  forget_old(now);
  return count(key_of(source, id)) < limits_.of_token &&
         count(std::string(source)) < limits_.of_source;
}

void FailureLimiter::failed(std::string_view source, std::string_view id, Time now) {
  forget_old(now);
  add(key_of(source, id), now);
  add(std::string(source), now);
}

void FailureLimiter::forget_old(Time now) {
  while (!by_age_.empty()) {
    const auto oldest = windows_.find(by_age_.front());
    if (now - oldest->second.begin < limits_.window) return;
    windows_.erase(oldest);
    by_age_.pop_front();
  }
}

uint32_t FailureLimiter::count(const std::string& key) const {
  const auto found = windows_.find(key);
  return found == windows_.end() ? 0 : found->second.failures;
}

void FailureLimiter::add(const std::string& key, Time now) {
  auto [window, fresh] = windows_.try_emplace(key, Window{now});
  ++window->second.failures;
  if (!fresh) return;
  by_age_.push_back(key);
  if (by_age_.size() <= limits_.entries_max) return;
  windows_.erase(by_age_.front());
  by_age_.pop_front();
}

}  // namespace connectd::auth

// What one node knows callers by, and what each kind of caller may do: made from the configuration
// and its files, at the start and by each reload.
#pragma once

#include <memory>
#include <utility>

#include "auth/anonymous.h"
#include "auth/certificate.h"
#include "auth/token_table.h"
#include "base/mutex.h"

namespace connectd::auth {

// Never changes; any thread. As it is constructed: what a node without any configuration permits.
struct Policy {
  std::shared_ptr<const TokenTable> tokens{};  // null: auth.tokens is not set
  CertificateMap certificates{};
  bool http_certificates = false;  // the HTTP port takes those of clients: tls.http.ca is set
  Roles anonymous = anonymous_roles(std::nullopt, {});
  Roles local = local_roles(LocalAdmin::kAuto, {});  // beside `anonymous`
};

// The policy in force: replaced by a reload, read by every port for each request. Any thread.
class SharedPolicy final {
 public:
  std::shared_ptr<const Policy> get() const {
    MutexLock lock(mutex_);
    return policy_;
  }
  void replace_with(std::shared_ptr<const Policy> policy) {
    MutexLock lock(mutex_);
    policy_ = std::move(policy);
  }

 private:
  mutable Mutex mutex_;
  std::shared_ptr<const Policy> policy_ GUARDED_BY(mutex_) = std::make_shared<Policy>();
};

}  // namespace connectd::auth

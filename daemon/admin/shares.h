// How many requests of one kind may be in progress at a time, so that those of one kind leave
// connections for the others: a probe is answered however many calls wait. On the server's thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "admin/limits.h"

namespace connectd::admin {

enum class Share : uint8_t {
  kNone,  // answered at once, so never in progress: health and status
  kCalls,
  kQueries,  // ask other members
  kAdmin,
};

class Shares final {
 public:
  // The place of one request. Ends with it; the Shares outlive it.
  class Place final {
   public:
    Place() = default;
    Place(Place&& other) noexcept : taken_(std::exchange(other.taken_, nullptr)) {}
    Place& operator=(Place&& other) noexcept {
      std::swap(taken_, other.taken_);
      return *this;
    }
    ~Place() {
      if (taken_ != nullptr) --*taken_;
    }
    explicit operator bool() const { return taken_ != nullptr; }

   private:
    friend class Shares;
    explicit Place(size_t& taken) : taken_(&taken) { ++taken; }
    size_t* taken_ = nullptr;
  };

  static constexpr size_t limit_of(Share share) {
    switch (share) {
      case Share::kNone:
        break;
      case Share::kCalls:
        return kMaxCalls;
      case Share::kQueries:
        return kMaxClusterQueries;
      case Share::kAdmin:
        return kMaxAdminRequests;
    }
    return SIZE_MAX;
  }

  // None: the share is used up.
  std::optional<Place> take(Share share) {
    if (share == Share::kNone) return Place();
    size_t& taken = taken_[static_cast<size_t>(share)];
    if (taken >= limit_of(share)) return std::nullopt;
    return Place(taken);
  }

 private:
  std::array<size_t, 4> taken_{};
};

static_assert(kMaxClusterQueries + kMaxAdminRequests + kMinWaiting <= kReservedConnections,
              "with all shares used up, some connections can still be closed for others");

}  // namespace connectd::admin

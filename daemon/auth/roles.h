// Roles: what a caller may do. They are a set without an order: admin opens no data, write does not
// include read. Values; any thread.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "base/error.h"

namespace connectd::auth {

enum class Role : uint8_t {
  kRead,     // requests that the plugin classifies as reads
  kWrite,    // ... and as writes
  kAdmin,    // members, leadership, settings
  kMonitor,  // status of nodes and cluster, metrics
  kBackup,   // snapshots, and so all data
};
inline constexpr Role kAllRoles[] = {Role::kRead, Role::kWrite, Role::kAdmin, Role::kMonitor,
                                     Role::kBackup};
// "read", "write", "admin", "monitor" or "backup".
std::string_view role_name(Role role);

class Roles final {
 public:
  constexpr Roles() = default;
  constexpr Roles(std::initializer_list<Role> roles) {
    for (Role role : roles) bits_ |= bit(role);
  }
  constexpr bool has(Role role) const { return (bits_ & bit(role)) != 0; }
  constexpr bool has_any(Roles roles) const { return (bits_ & roles.bits_) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr Roles& operator|=(Roles more) {
    bits_ |= more.bits_;
    return *this;
  }
  friend constexpr Roles operator|(Roles one, Roles more) { return one |= more; }
  constexpr bool operator==(const Roles&) const = default;

 private:
  static constexpr uint8_t bit(Role role) {
    return static_cast<uint8_t>(1U << static_cast<unsigned>(role));
  }
  uint8_t bits_ = 0;
};

// Of "read,write". kUsage, with the known words: a word is unknown or occurs twice, or there is
// none.
Result<Roles> parse_roles(std::string_view text);
// In the order of the enumeration: "read,write"; "none" for the empty set.
std::string format_roles(Roles roles);

}  // namespace connectd::auth

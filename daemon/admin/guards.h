// Who may ask for a route. Every route names a guard (admin/routes.h): there is no default, and a
// property that is added here must be named by each. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "admin/hooks.h"
#include "admin/host_names.h"
#include "admin/http_message.h"
#include "base/address.h"

namespace connectd::admin {

// Pages of web sites, in the browser of somebody who can reach the port.
enum class Pages : uint8_t {
  kMayAsk,  // reads what is no secret, and changes nothing
  // A form cannot set the header X-Connect-Request, a script needs a permission (CORS) that nobody
  // gives, and a name that was bent to this machine does not match the Host.
  kRefused,
};
enum class Callers : uint8_t {
  kAnyMachine,
  kThisMachine,  // as http.admin says, and not through a proxy that names itself
};

class Guard final {
 public:
  constexpr Guard(Pages pages, Callers callers) : pages_(pages), callers_(callers) {}
  constexpr Pages pages() const { return pages_; }
  constexpr Callers callers() const { return callers_; }
  constexpr bool operator==(const Guard&) const = default;

 private:
  Pages pages_;
  Callers callers_;
};

inline constexpr Guard kForAll{Pages::kMayAsk, Callers::kAnyMachine};
inline constexpr Guard kForPrograms{Pages::kRefused, Callers::kAnyMachine};
inline constexpr Guard kForThisMachine{Pages::kRefused, Callers::kThisMachine};

// How the guards are kept here.
struct Access {
  AdminFrom admin = AdminFrom::kThisMachine;
  HostNames hosts;
};

// The answer to a request that pages of web sites could send, where the guard refuses those; none:
// it may pass. `asked`: the host that the request names; none: an HTTP/1.0 request that names none.
std::optional<Response> refusal_of_page(const Guard& guard, const Request& request,
                                        const std::optional<Address>& asked, const Access& access);
// The answer to a request from another machine, where the guard refuses those; none: it may pass.
// Over TLS, who has shown a token or a certificate may be anywhere. By `request.principal`.
std::optional<Response> refusal_of_machine(const Guard& guard, const Request& request,
                                           AdminFrom from);
// Whether the request is one of this machine, as http.admin says, and of no proxy.
bool is_local(const Request& request, AdminFrom from);

// The code of the problem that a caller on another machine gets: another node may be asked.
inline constexpr std::string_view kNotLocalCode = "NOTLOCAL";

// For docs: "anybody", ...
std::string_view guard_text(const Guard& guard);

}  // namespace connectd::admin

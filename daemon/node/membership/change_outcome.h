// What becomes of a change that an operator asks for: of the members, of a setting, of leadership.
// One table says how each outcome is named between nodes and in HTTP, and which HTTP status it has.
// Values; pure functions; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "base/types.h"

namespace connectd::node {

enum class ChangeCode : uint8_t {
  kDone,      // the leader appended the change, or it was made before
  kNoLeader,  // nothing happened; another node may become the leader
  kBusy,      // nothing happened; the leader does something else first
  kConflict,  // nothing happened; the members are not those that the caller saw
  kQuorum,    // nothing happened; the voters that can be reached would be no majority
  kRefused,   // nothing happened, and will not
  kTimeout,   // unknown: the leader did not answer
};

struct ChangeCodeRow {
  ChangeCode code;
  std::string_view name;  // travels between nodes, and is `code` in HTTP; never changed
  int http_status;
};
inline constexpr std::array<ChangeCodeRow, 7> kChangeCodes = {{
    {ChangeCode::kDone, "", 200},
    {ChangeCode::kNoLeader, "NOLEADER", 503},
    {ChangeCode::kBusy, "BUSY", 409},
    {ChangeCode::kConflict, "CONFLICT", 409},
    {ChangeCode::kQuorum, "QUORUM", 409},
    {ChangeCode::kRefused, "REFUSED", 400},
    {ChangeCode::kTimeout, "TIMEOUT", 504},
}};

constexpr const ChangeCodeRow& change_code_row(ChangeCode code) {
  return kChangeCodes[static_cast<size_t>(code)];
}
constexpr std::string_view change_code_name(ChangeCode code) { return change_code_row(code).name; }
// A name that this build does not know, or none, is kRefused: the text says why.
ChangeCode change_code_of(std::string_view name);

struct ChangeOutcome {
  ChangeCode code = ChangeCode::kRefused;
  std::string text;  // one line for people
  Index index;       // of the entry that holds the change

  bool done() const { return code == ChangeCode::kDone; }

  // docs/protocol.md, "Membership changes".
  std::string encode() const;
  static Result<ChangeOutcome> decode(ByteView bytes);
};

}  // namespace connectd::node

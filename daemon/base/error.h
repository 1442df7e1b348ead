// Errors that are values: expected outcomes, bad input, and an environment that cannot be trusted.
// Broken invariants are not errors; they are CHECKs (base/log.h).
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace connectd {

// What went wrong. Callers decide by it. How a process ends because of it is for connectd and
// connectctl to say: base/exit_code.h has a row for each kind.
enum class ErrorKind : uint8_t {
  // What was asked for.
  kUsage,          // an argument or a value is wrong
  kRefused,        // it makes sense, and the answer is no
  kNotNow,         // the same may succeed later
  kCancelled,      // it is not wanted any more
  kRequestFailed,  // the plugin failed with one request; its state is whole
  kUnreachable,    // nobody answers
  kNotFound,       // no such file, directory or process
  kPermission,     // this user may not
  kCannotCreate,   // a file, a directory or a process
  kExists,         // something is there already, and is not written over
  kLocked,         // another process has the directory
  // The network.
  kAddressInUse,
  kNoSuchAddress,  // this machine does not have it, or not yet
  kCannotListen,   // for another reason
  // Data.
  kMalformed,     // a text or a message cannot be read
  kCorrupt,       // data on the disk is damaged, incomplete or invalid
  kWrongData,     // intact, but not what belongs here
  kNewerVersion,  // of a format that this build does not know
  // The disk.
  kDisk,            // a read or a write failed
  kSyncFailed,      // what was written may or may not be durable
  kNoSpace,         // full, or the quota is: the same may succeed when there is space
  kNoSpaceToBegin,  // full, and the log cannot begin behind its snapshot
  kNoDescriptors,   // the process or the machine has no file descriptor left: as kNoSpace
  // This node in its cluster.
  kBadConfig,
  kMismatch,     // with the plugin's ABI, the other nodes' plugins, or what the directory holds
  kNotAdmitted,  // the other nodes refuse this one, or it was removed
  kDiverged,     // its state differs from the majority's
  // The plugin and this program.
  kBadPlugin,     // the file is no plugin that can be loaded
  kPluginFailed,  // a call failed, and its state cannot be trusted
  kInternal,      // our bug, or a library's
};
inline constexpr ErrorKind kLastErrorKind = ErrorKind::kInternal;

// A read, write or sync failed, or there is no space for one.
constexpr bool is_of_disk(ErrorKind kind) {
  return kind == ErrorKind::kDisk || kind == ErrorKind::kSyncFailed ||
         kind == ErrorKind::kNoSpace || kind == ErrorKind::kNoSpaceToBegin;
}

// Nothing was changed for lack of a resource, and the same may succeed later. The disk is well.
constexpr bool is_out_of_resources(ErrorKind kind) {
  return kind == ErrorKind::kNoSpace || kind == ErrorKind::kNoDescriptors;
}

// What went wrong; and what happened, why, and what to do next, in one text for people.
struct Error {
  ErrorKind kind = ErrorKind::kInternal;
  std::string text;
};

template <class T = void>
using Result = tl::expected<T, Error>;

// `return failure(ErrorKind::kCorrupt, "...")`
[[nodiscard]] inline tl::unexpected<Error> failure(ErrorKind kind, std::string text) {
  return tl::unexpected<Error>(Error{kind, std::move(text)});
}
[[nodiscard]] inline tl::unexpected<Error> failure(Error error) {
  return tl::unexpected<Error>(std::move(error));
}

// "No such file or directory (2)" for an errno value. Any thread.
std::string errno_text(int error_number);

}  // namespace connectd

// How connectd and connectctl end: sysexits(3), 1 or 2 for "no", 81 for the plugin. Only those two
// include this; everything below them says what went wrong (base/error.h). Pure functions.
#pragma once

#include "base/error.h"

namespace connectd {

enum class ExitCode : int {
  kOk = 0,
  kNegative = 1,      // connectctl: the answer is "no"
  kPluginStatus = 2,  // connectctl call --fail: the plugin answered with a status above 0
  kUsage = 64,        // command line
  kData = 65,         // data refused or corrupt
  kNoInput = 66,      // a file is missing
  kUnavailable = 69,  // connectctl: nobody reachable
  kInternal = 70,     // our bug
  kCannotCreate = 73,
  kStorage = 74,   // write or sync failed
  kTryAgain = 75,  // connectctl: try again later
  kMismatch = 76,  // version or cluster mismatch
  kPermission = 77,
  kConfig = 78,
  kPlugin = 81,  // the plugin failed
};

// A kind without a row does not compile, in no build.
#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wswitch"
constexpr ExitCode exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kRefused:
    case ErrorKind::kCancelled:
    case ErrorKind::kRequestFailed:
      return ExitCode::kNegative;
    case ErrorKind::kUsage:
      return ExitCode::kUsage;
    case ErrorKind::kMalformed:
    case ErrorKind::kCorrupt:
    case ErrorKind::kWrongData:
      return ExitCode::kData;
    case ErrorKind::kNotFound:
      return ExitCode::kNoInput;
    case ErrorKind::kUnreachable:
      return ExitCode::kUnavailable;
    case ErrorKind::kCannotCreate:
    case ErrorKind::kExists:
    case ErrorKind::kAddressInUse:
    case ErrorKind::kNoSuchAddress:
    case ErrorKind::kCannotListen:
    case ErrorKind::kNoDescriptors:
      return ExitCode::kCannotCreate;
    case ErrorKind::kDisk:
    case ErrorKind::kSyncFailed:
    case ErrorKind::kNoSpace:
    case ErrorKind::kNoSpaceToBegin:
      return ExitCode::kStorage;
    case ErrorKind::kNotNow:
    case ErrorKind::kLocked:
      return ExitCode::kTryAgain;
    case ErrorKind::kMismatch:
    case ErrorKind::kNewerVersion:
    case ErrorKind::kNotAdmitted:
      return ExitCode::kMismatch;
    case ErrorKind::kPermission:
      return ExitCode::kPermission;
    case ErrorKind::kBadConfig:
      return ExitCode::kConfig;
    case ErrorKind::kBadPlugin:
    case ErrorKind::kPluginFailed:
    case ErrorKind::kDiverged:
      return ExitCode::kPlugin;
    case ErrorKind::kInternal:
      break;
  }
  return ExitCode::kInternal;
}
#pragma GCC diagnostic pop

// For exit() and the like.
constexpr int exit_status(ErrorKind kind) { return static_cast<int>(exit_code(kind)); }

}  // namespace connectd

#include "base/exit_code.h"

#include <gtest/gtest.h>

#include <array>

namespace connectd {
namespace {

// The numbers are a promise to scripts (docs/operations.md): each is spelled out here once more.
TEST(ExitCode, EveryKindHasItsNumber) {
  struct Row {
    ErrorKind kind;
    int status;
  };
  constexpr auto kRows = std::to_array<Row>({
      {ErrorKind::kUsage, 64},         {ErrorKind::kRefused, 1},
      {ErrorKind::kNotNow, 75},        {ErrorKind::kCancelled, 1},
      {ErrorKind::kRequestFailed, 1},  {ErrorKind::kUnreachable, 69},
      {ErrorKind::kNotFound, 66},      {ErrorKind::kPermission, 77},
      {ErrorKind::kCannotCreate, 73},  {ErrorKind::kExists, 73},
      {ErrorKind::kLocked, 75},        {ErrorKind::kAddressInUse, 73},
      {ErrorKind::kNoSuchAddress, 73}, {ErrorKind::kCannotListen, 73},
      {ErrorKind::kMalformed, 65},     {ErrorKind::kCorrupt, 65},
      {ErrorKind::kWrongData, 65},     {ErrorKind::kNewerVersion, 76},
      {ErrorKind::kDisk, 74},          {ErrorKind::kSyncFailed, 74},
      {ErrorKind::kNoSpace, 74},       {ErrorKind::kNoSpaceToBegin, 74},
      {ErrorKind::kNoDescriptors, 73}, {ErrorKind::kBadConfig, 78},
      {ErrorKind::kMismatch, 76},      {ErrorKind::kNotAdmitted, 76},
      {ErrorKind::kDiverged, 81},      {ErrorKind::kBadPlugin, 81},
      {ErrorKind::kPluginFailed, 81},  {ErrorKind::kInternal, 70},
  });
  static_assert(kRows.size() == static_cast<size_t>(kLastErrorKind) + 1);
  for (size_t i = 0; i < kRows.size(); ++i) {
    EXPECT_EQ(static_cast<size_t>(kRows[i].kind), i) << "a kind is missing, or stands twice";
    EXPECT_EQ(exit_status(kRows[i].kind), kRows[i].status) << i;
  }
}

}  // namespace
}  // namespace connectd

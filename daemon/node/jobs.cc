#include "node/jobs.h"

#include "base/log.h"

namespace connectd::node {

SnapshotFailed failed_snapshot(raft::SnapshotMark mark, const plugin::CaptureFailure& failure) {
  using Cause = plugin::CaptureFailure::Cause;
  switch (failure.cause) {
    case Cause::kCancelled:
      return {mark, SnapshotFailed::Why::kOvertaken, failure.error.text};
    case Cause::kMeans:
      return {mark, SnapshotFailed::Why::kMeans, failure.error.text};
    case Cause::kOutput:
      CHECK(is_out_of_resources(failure.error.kind)) << "a failing disk is no failed snapshot";
      return {mark, SnapshotFailed::Why::kNoSpace, failure.error.text};
    case Cause::kPlugin:
      break;
  }
  return {mark, SnapshotFailed::Why::kPlugin, failure.error.text};
}

}  // namespace connectd::node

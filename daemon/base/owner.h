// What root makes in a directory of another user: a service that runs as that user could not open
// it, and ends. For the commands that are run once; any thread.
#pragma once

#include <sys/types.h>

#include <string>

namespace connectd {

// "connectd", or its number.
std::string user_name(uid_t uid);

class KeepOwner final {
 public:
  // Before anything is made at `path`, which may not exist yet.
  explicit KeepOwner(const std::string& path);

  // Gives what root has made at `path` to the owner of the directory that was there: of `path`
  // itself, or else of the nearest one above. Does nothing unless this process is root and the
  // owner is somebody else. Empty, or what could not be done.
  std::string give_back() const;

  // The owner's name; empty: there is nothing to give back.
  std::string owner() const { return applies() ? user_name(uid_) : ""; }

 private:
  bool applies() const { return uid_ != 0; }
  std::string top_;  // `path`, or the uppermost of its directories that was missing
  uid_t uid_ = 0;    // 0: nothing to do
  gid_t gid_ = 0;
};

}  // namespace connectd

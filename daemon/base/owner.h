// What root makes in a directory of another user: a service that runs as that user could not open
// it, and ends. For the commands that are run once; any thread.
#pragma once

#include <sys/types.h>

#include <set>
#include <string>

namespace connectd {

// "connectd", or its number.
std::string user_name(uid_t uid);

// The owner may rename and replace what is there at any time, while this process can give away any
// file of the machine: so nothing is found by its path twice, no symbolic link is followed, and no
// other file system entered.
class KeepOwner final {
 public:
  // Before anything is made at `path`, which may not exist yet.
  explicit KeepOwner(const std::string& path);
  ~KeepOwner();
  KeepOwner(const KeepOwner&) = delete;
  KeepOwner& operator=(const KeepOwner&) = delete;

  // Gives the files and directories of root that were not at `path` before to the owner of the
  // directory that was there: of `path` itself, or else of the nearest one above. Does nothing
  // unless this process is root and the owner is somebody else. Empty, or the first thing that
  // could not be done; the others are done all the same.
  std::string give_back() const;

  // The owner's name; empty: there is nothing to give back.
  std::string owner() const { return applies() ? user_name(uid_) : ""; }

 private:
  bool applies() const { return uid_ != 0; }

  int directory_ = -1;    // the directory that was there
  dev_t device_ = 0;      // its file system
  std::string path_;      // its name, for messages
  std::string missing_;   // in it: the uppermost directory of `path` that was missing; empty: none
  std::set<ino_t> kept_;  // what root had there
  std::string problem_;   // why that is not known
  uid_t uid_ = 0;         // 0: nothing to do
  gid_t gid_ = 0;
};

}  // namespace connectd

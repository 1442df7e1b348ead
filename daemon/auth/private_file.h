// Files that hold secrets. Any thread; they read the disk.
#pragma once

#include <cstddef>
#include <string>

#include "base/error.h"

namespace connectd::auth {

// The whole file. Refused, because its content may be known to others or be theirs: kPermission
// when users other than root and this process's may read or change it, by its owner, its mode or
// its access control list. kNotFound; kPermission when this process may not read it; kBadConfig
// when it is no regular file, or has more than `max_bytes`; kDisk when it cannot be read.
Result<std::string> read_private_file(const std::string& path, size_t max_bytes);

// Replaces the file, or makes it: readable by its owner only, durable, and never half written. The
// owner stays who it was. kCannotCreate, kPermission, kDisk: nothing has changed.
Result<void> replace_private_file(const std::string& path, const std::string& content);

}  // namespace connectd::auth

// The files of `connectctl cert`: certificates in NAME.pem, their keys in NAME.key, which only
// their owner may read. Nothing is written over by chance. Errors name the file: kExists,
// kPermission, kNotFound, kNoSpace or kCannotCreate.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "base/error.h"
#include "tls/make.h"

namespace connectd::ctl {

constexpr mode_t kPublicFileMode = 0644;

// Of errno.
Error cannot_write(const std::string& path);

// A file that does not exist yet, whole and durable, or none.
Result<void> write_new(const std::string& path, std::string_view text, mode_t mode);

// BASE.pem and BASE.key, both or none.
Result<void> write_pair(const std::string& base, const tls::Made& made);

// The same in place of those that are there, with their owners; the old certificate becomes
// BASE.pem.old. kLocked: another process does it now. After an error, or a crash, the key may be
// the new one and the certificate the old one: the same once more repairs it.
Result<void> replace_pair(const std::string& base, const tls::Made& made);

}  // namespace connectd::ctl

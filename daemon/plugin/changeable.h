// Whether this process's user could exchange the plugin's file: whoever can writes the code that
// connectd runs at its next start, so a fault that lets a client write files would become a way in
// that stays. Reads the file system; any thread.
#pragma once

#include <string>

namespace connectd::plugin {

// The first path that this process's user may change: the file, a folder above it, or one above a
// symbolic link on the way to it. Empty: none. What belongs to root, and others may not write, is
// safe; what belongs to another user is as safe as its mode is. As root, who may do everything:
// what does not belong to root, or others may write. What cannot be looked at is left out.
std::string changeable_part(const std::string& path);

}  // namespace connectd::plugin

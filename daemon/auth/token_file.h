// The token file on the disk: read by connectd at the start and at a reload, changed by connectctl.
#pragma once

#include <string>
#include <string_view>

#include "auth/token_table.h"
#include "base/error.h"

namespace connectd::auth {

// Errors as read_private_file() and TokenTable::parse() have them.
Result<TokenTable> load_tokens(const std::string& path);

// Adds one line; makes the file if there is none. kExists: a token has this id. Else errors as
// load_tokens() and replace_private_file() have them: nothing has changed. Two of these functions
// at a time wait for each other.
Result<void> add_token(const std::string& path, std::string_view id, const TokenEntry& entry);
// Removes its line; the rest of the file stays as it is. kRefused: no token has this id.
Result<void> remove_token(const std::string& path, std::string_view id);

}  // namespace connectd::auth

#include "auth/token_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>

#include "auth/private_file.h"

namespace connectd::auth {
namespace {

// Keeps others that change a file of this directory waiting. Without it, the later of two at a time
// would undo the earlier. It waits for nobody but them.
class DirectoryLock final {
 public:
  explicit DirectoryLock(const std::string& path) {
    const size_t slash = path.rfind('/');
    const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    fd_ = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd_ >= 0) (void)::flock(fd_, LOCK_EX);  // without it: as if alone
  }
  ~DirectoryLock() {
    if (fd_ >= 0) ::close(fd_);
  }
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  int fd_ = -1;
};

struct Content {
  std::string text;
  TokenTable table;
};

Result<Content> read_content(const std::string& path) {
  auto text = read_private_file(path, kMaxTokenFileBytes);
  if (!text) return failure(text.error());
  auto table = TokenTable::parse(*text, path);
  if (!table) return failure(table.error());
  return Content{std::move(*text), std::move(*table)};
}

constexpr std::string_view kHead =
    "# Tokens of connectd, hashed: ID SHA256 ROLES [expires=TIME]. Made by connectctl token new.\n";

}  // namespace

Result<TokenTable> load_tokens(const std::string& path) {
  auto content = read_content(path);
  if (!content) return failure(content.error());
  return std::move(content->table);
}

Result<void> add_token(const std::string& path, std::string_view id, const TokenEntry& entry) {
  const DirectoryLock lock(path);
  auto content = read_content(path);
  if (!content && content.error().kind != ErrorKind::kNotFound) return failure(content.error());
  if (!content) content = Content{std::string(kHead), TokenTable()};
  if (const auto& known = content->table.entries(); known.find(id) != known.end()) {
    return failure(ErrorKind::kExists,
                   fmt::format("{}:{}: a token {} exists; remove it, or choose another id", path,
                               known.find(id)->second.line, id));
  }
  std::string& text = content->text;
  if (!text.empty() && text.back() != '\n') text += '\n';
  text += token_line(id, entry) + "\n";
  // What would be too much for connectd does not get into the file.
  if (auto fits = TokenTable::parse(text, path); !fits) return failure(fits.error());
  return replace_private_file(path, text);
}

Result<void> remove_token(const std::string& path, std::string_view id) {
  const DirectoryLock lock(path);
  auto content = read_content(path);
  if (!content) return failure(content.error());
  const auto found = content->table.entries().find(id);
  if (found == content->table.entries().end()) {
    return failure(ErrorKind::kRefused, fmt::format("{}: no token has this id", path));
  }
  std::string& text = content->text;
  size_t begin = 0;
  for (size_t line = 1; line < found->second.line; ++line) begin = text.find('\n', begin) + 1;
  const size_t end = std::min(text.find('\n', begin), text.size() - 1);
  text.erase(begin, end + 1 - begin);
  return replace_private_file(path, text);
}

}  // namespace connectd::auth

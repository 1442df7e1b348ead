#include "storage/preview_file_system.h"

#include <algorithm>

namespace connectd::storage {
namespace {

class PreviewFile final : public File {
 public:
  explicit PreviewFile(std::unique_ptr<File> under)
      : under_(std::move(under)) {}  // null: a new file

  Result<size_t> read_at(uint64_t offset, std::span<uint8_t> to) const override {
    return under_ ? under_->read_at(offset, to) : Result<size_t>(0);
  }
  Result<void> write_at(uint64_t, ByteView) override { return {}; }
  Result<void> fill_zeros(uint64_t, uint64_t) override { return {}; }
  Result<void> sync() override { return {}; }
  Result<uint64_t> size() const override { return under_ ? under_->size() : Result<uint64_t>(0); }

 private:
  const std::unique_ptr<File> under_;
};

}  // namespace

Result<std::unique_ptr<File>> PreviewFileSystem::open(const std::string& path, OpenMode mode) {
  if (mode == OpenMode::kCreate) return std::make_unique<PreviewFile>(nullptr);
  auto file = under_.open(path, OpenMode::kRead);
  if (!file) return failure(file.error());
  return std::make_unique<PreviewFile>(std::move(*file));
}

Result<std::vector<std::string>> PreviewFileSystem::list(const std::string& path) {
  auto names = under_.list(path);
  if (!names && names.error().kind == ErrorKind::kNotFound) return std::vector<std::string>();
  return names;
}

}  // namespace connectd::storage

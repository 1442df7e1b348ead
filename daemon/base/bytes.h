// Byte ranges, and little-endian coding. Everything connectd writes to a disk or a socket is
// little-endian.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace connectd {

static_assert(std::endian::native == std::endian::little, "the formats are memcpy'd little-endian");

using ByteView = std::span<const uint8_t>;

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Bytes that never change, and a share in the block they lie in. Copying a Slice copies no bytes.
// A small Slice keeps its whole block alive: give entries that live together a common block.
class Slice {
 public:
  Slice() = default;
  Slice(std::shared_ptr<const void> block, ByteView view) : block_(std::move(block)), view_(view) {}

  static Slice copy_of(ByteView bytes) {
    auto block = std::make_shared_for_overwrite<uint8_t[]>(bytes.size());
    if (!bytes.empty()) std::memcpy(block.get(), bytes.data(), bytes.size());
    ByteView view(block.get(), bytes.size());
    return Slice(std::move(block), view);
  }
  static Slice copy_of(std::string_view text) { return copy_of(as_bytes(text)); }

  const uint8_t* data() const { return view_.data(); }
  size_t size() const { return view_.size(); }
  bool empty() const { return view_.empty(); }
  ByteView view() const { return view_; }
  std::string_view text() const { return as_text(view_); }
  // Same block, part of the bytes.
  Slice part(size_t offset, size_t length) const {
    return Slice(block_, view_.subspan(offset, length));
  }

 private:
  std::shared_ptr<const void> block_;
  ByteView view_;
};

template <class T>
inline void store_le(uint8_t* to, T value) {
  static_assert(std::is_integral_v<T>);
  std::memcpy(to, &value, sizeof value);
}
template <class T>
inline T load_le(const uint8_t* from) {
  static_assert(std::is_integral_v<T>);
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Appends little-endian values to a string of bytes.
class ByteWriter {
 public:
  explicit ByteWriter(std::string& out) : out_(out) {}

  template <class T>
  void number(T value) {
    static_assert(std::is_integral_v<T>);
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void bytes(ByteView view) { out_.append(as_text(view)); }
  // u32 length, then the bytes.
  void counted(std::string_view text) {
    number<uint32_t>(static_cast<uint32_t>(text.size()));
    out_.append(text);
  }

 private:
  std::string& out_;
};

// Reads what ByteWriter wrote, from bytes that nobody vouches for: a read past the end yields zeros
// and makes ok() false from then on, so a decoder checks once, at its end.
class ByteReader {
 public:
  explicit ByteReader(ByteView in) : in_(in) {}

  template <class T>
  T number() {
    static_assert(std::is_integral_v<T>);
    if (in_.size() < sizeof(T)) {
      fail();
      return T{};
    }
    T value = load_le<T>(in_.data());
    in_ = in_.subspan(sizeof(T));
    return value;
  }
  ByteView bytes(size_t length) {
    if (in_.size() < length) {
      fail();
      return {};
    }
    ByteView view = in_.first(length);
    in_ = in_.subspan(length);
    return view;
  }
  // A length of more than `limit` is a failure.
  std::string_view counted(size_t limit) {
    auto length = number<uint32_t>();
    if (length > limit) {
      is_over_limit_ = true;
      fail();
      return {};
    }
    return as_text(bytes(length));
  }
  // Why it failed: a counted() text was longer than its limit.
  bool is_over_limit() const { return is_over_limit_; }
  void fail() {
    ok_ = false;
    in_ = {};
  }
  bool ok() const { return ok_; }
  // Everything was read, and nothing past the end.
  bool done() const { return ok_ && in_.empty(); }
  size_t left() const { return in_.size(); }

 private:
  ByteView in_;
  bool ok_ = true;
  bool is_over_limit_ = false;
};

}  // namespace connectd

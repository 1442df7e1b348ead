// The Redis serialization protocol, version 2: commands in, replies out.
//
// A request is one command or several, each an array of bulk strings:
//   *<count>\r\n then count times $<length>\r\n<bytes>\r\n
// Arguments are views into the request: they live as long as its bytes. No number in a request is
// believed: a count or a length that the bytes at hand cannot hold makes the request malformed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "stream.h"

namespace connectd::kv {

// The words of one command, the first its name. Short commands need no allocation.
class Arguments {
 public:
  size_t size() const { return size_; }
  std::string_view operator[](size_t i) const { return words_[i]; }
  std::span<const std::string_view> from(size_t first) const {
    return {words_ + first, size_ - first};
  }

 private:
  friend class RequestReader;
  static constexpr size_t kInline = 12;

  void reset(size_t size);

  std::array<std::string_view, kInline> inline_;
  std::unique_ptr<std::string_view[]> more_;
  std::string_view* words_ = inline_.data();
  size_t size_ = 0;
};

// Cuts a request into its commands.
class RequestReader {
 public:
  enum class Step { kCommand, kEnd, kMalformed };

  explicit RequestReader(std::string_view request) : rest_(request) {}

  // After kMalformed: what() is the error.
  Step next(Arguments& arguments);
  bool at_end() const { return rest_.empty(); }
  const char* what() const { return what_; }

 private:
  bool header(char type, size_t& number);
  Step malformed(const char* what) {
    what_ = what;
    return Step::kMalformed;
  }

  std::string_view rest_;
  const char* what_ = "";
};

// Builds one reply. Small parts are collected, large ones go to the output uncopied. flush(), or
// the destructor, writes the rest.
class Reply {
 public:
  explicit Reply(const Output& output) : output_(output) {}
  ~Reply() { flush(); }
  Reply(const Reply&) = delete;
  Reply& operator=(const Reply&) = delete;

  void simple(std::string_view text);
  // The text begins with its code, as in "ERR syntax error". Line ends in it become spaces.
  void error(std::string_view text);
  void integer(int64_t value);
  void bulk(std::string_view bytes);
  void null();
  void array(size_t count);
  void map(size_t pairs);  // of version 3
  void flush();

  // Whether an error was part of the reply.
  bool has_error() const { return has_error_; }

 private:
  void put(std::string_view bytes);
  void header(char type, int64_t number);

  Output output_;
  std::array<char, 512> buffer_;
  size_t used_ = 0;
  bool has_error_ = false;
};

}  // namespace connectd::kv

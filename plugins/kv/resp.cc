#include "resp.h"

#include <charconv>
#include <cstring>

namespace connectd::kv {
namespace {

// "$0\r\n\r\n": the shortest argument.
constexpr size_t kArgumentBytesMin = 6;

}  // namespace

void Arguments::reset(size_t size) {
  if (size > kInline) {
    more_ = std::make_unique<std::string_view[]>(size);
    words_ = more_.get();
  } else {
    words_ = inline_.data();
  }
  size_ = size;
}

// Parses "<type><number>\r\n". A number has only digits: no sign, and no more than fit.
bool RequestReader::header(char type, size_t& number) {
  if (rest_.empty() || rest_.front() != type) return false;
  const char* first = rest_.data() + 1;
  const char* last = rest_.data() + rest_.size();
  if (first == last || *first < '0' || *first > '9') return false;
  auto [end, error] = std::from_chars(first, last, number);
  if (error != std::errc() || last - end < 2 || end[0] != '\r' || end[1] != '\n') return false;
  rest_.remove_prefix(static_cast<size_t>(end + 2 - rest_.data()));
  return true;
}

RequestReader::Step RequestReader::next(Arguments& arguments) {
  if (rest_.empty()) return Step::kEnd;
  size_t count = 0;
  if (!header('*', count)) return malformed("ERR Protocol error: invalid multibulk length");
  if (count == 0) return malformed("ERR Protocol error: empty command");
  if (count > rest_.size() / kArgumentBytesMin) {
    return malformed("ERR Protocol error: invalid multibulk length");
  }
  arguments.reset(count);
  for (size_t i = 0; i < count; i++) {
    size_t length = 0;
    if (!header('$', length)) return malformed("ERR Protocol error: invalid bulk length");
    if (rest_.size() < 2 || length > rest_.size() - 2 || rest_[length] != '\r' ||
        rest_[length + 1] != '\n') {
      return malformed("ERR Protocol error: invalid bulk length");
    }
    arguments.words_[i] = rest_.substr(0, length);
    rest_.remove_prefix(length + 2);
  }
  return Step::kCommand;
}

void Reply::put(std::string_view bytes) {
  if (bytes.size() > buffer_.size() - used_) {
    flush();
    if (bytes.size() > buffer_.size()) {
      output_.write(output_.context, bytes.data(), bytes.size());
      return;
    }
  }
  if (!bytes.empty()) std::memcpy(buffer_.data() + used_, bytes.data(), bytes.size());
  used_ += bytes.size();
}

void Reply::flush() {
  if (used_ > 0) output_.write(output_.context, buffer_.data(), used_);
  used_ = 0;
}

void Reply::header(char type, int64_t number) {
  char text[32];
  text[0] = type;
  char* end = std::to_chars(text + 1, text + sizeof text - 2, number).ptr;
  *end++ = '\r';
  *end++ = '\n';
  put({text, static_cast<size_t>(end - text)});
}

void Reply::simple(std::string_view text) {
  put("+");
  put(text);
  put("\r\n");
}

void Reply::error(std::string_view text) {
  has_error_ = true;
  put("-");
  while (!text.empty()) {
    size_t line = text.find_first_of("\r\n");
    put(text.substr(0, line));
    if (line == std::string_view::npos) break;
    put(" ");
    text.remove_prefix(line + 1);
  }
  put("\r\n");
}

void Reply::integer(int64_t value) { header(':', value); }

void Reply::bulk(std::string_view bytes) {
  header('$', static_cast<int64_t>(bytes.size()));
  put(bytes);
  put("\r\n");
}

void Reply::null() { put("$-1\r\n"); }

void Reply::array(size_t count) { header('*', static_cast<int64_t>(count)); }

void Reply::map(size_t pairs) { header('%', static_cast<int64_t>(pairs)); }

}  // namespace connectd::kv

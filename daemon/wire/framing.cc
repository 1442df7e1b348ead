#include "wire/framing.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

namespace connectd::wire {
namespace {

constexpr size_t kNotFound = static_cast<size_t>(-1);

// Where `byte` is in buffer[from..], or kNotFound.
size_t find_byte(ByteView buffer, size_t from, char byte) {
  if (from >= buffer.size()) return kNotFound;
  const void* found = std::memchr(buffer.data() + from, byte, buffer.size() - from);
  if (found == nullptr) return kNotFound;
  return static_cast<size_t>(static_cast<const uint8_t*>(found) - buffer.data());
}

// One line, for a protocol whose errors end at the line's end.
void append_line_text(std::string& out, std::string_view text) {
  for (char c : text) out.push_back(c == '\r' || c == '\n' ? ' ' : c);
}

Parsed bad_frame(std::string_view text) {
  return {.outcome = ParseOutcome::kBadFrame, .bytes = as_bytes(text)};
}

Parsed need_more(size_t wanted, size_t consumed = 0) {
  return {.outcome = ParseOutcome::kNeedMore, .consumed = consumed, .wanted = wanted};
}

// ---- line

class LineParser final : public FrameParser {
 public:
  explicit LineParser(size_t max_request) : max_request_(max_request) {}

  Parsed next(ByteView buffer) override {
    size_t end = find_byte(buffer, searched_, '\n');
    if (end == kNotFound) {
      // max_request bytes and a "\r" may still turn out to be a request.
      if (!skipping_ && buffer.size() <= max_request_ + 1) {
        searched_ = buffer.size();
        return need_more(buffer.size() + 1);
      }
      skipping_ = true;
      searched_ = 0;
      return need_more(1, buffer.size());
    }
    searched_ = 0;
    size_t length = end;
    if (length > 0 && buffer[length - 1] == '\r') length--;
    if (skipping_ || length > max_request_) {
      skipping_ = false;
      return {.outcome = ParseOutcome::kTooLarge, .consumed = end + 1};
    }
    return {.outcome = ParseOutcome::kRequest, .consumed = end + 1, .bytes = buffer.first(length)};
  }

  void append_error(std::string& out, std::string_view code, std::string_view text) const override {
    out.append("ERR ").append(code).push_back(' ');
    append_line_text(out, text);
    out.push_back('\n');
  }

 private:
  const size_t max_request_;
  size_t searched_ = 0;  // no "\n" before this place
  bool skipping_ = false;
};

// ---- length

class LengthParser final : public FrameParser {
 public:
  explicit LengthParser(size_t max_request) : max_request_(max_request) {}

  Parsed next(ByteView buffer) override {
    if (skip_left_ > 0) return skip(buffer, 0);
    if (buffer.size() < kHeaderBytes) return need_more(kHeaderBytes);
    size_t length = load_le<uint32_t>(buffer.data());
    if (length > kMaxAnnouncedBytes) {
      text_ = fmt::format(
          "the frame announces a request of {} bytes, the limit of all servers is {}; does the "
          "client use the framing \"length\" (u32 little-endian length, then the bytes)?",
          length, kMaxAnnouncedBytes);
      return bad_frame(text_);
    }
    if (length > max_request_) {
      skip_left_ = length;
      return skip(buffer, kHeaderBytes);
    }
    if (buffer.size() < kHeaderBytes + length) return need_more(kHeaderBytes + length);
    return {.outcome = ParseOutcome::kRequest,
            .consumed = kHeaderBytes + length,
            .bytes = buffer.subspan(kHeaderBytes, length)};
  }

  void append_reply(std::string& out, ByteView reply) const override {
    ByteWriter(out).counted(as_text(reply));
  }
  void append_error(std::string& out, std::string_view code, std::string_view text) const override {
    ByteWriter(out).number(static_cast<uint32_t>(5 + code.size() + text.size()));
    out.append("ERR ").append(code).push_back(' ');
    append_line_text(out, text);
  }

 private:
  static constexpr size_t kHeaderBytes = 4;

  Parsed skip(ByteView buffer, size_t from) {
    size_t now = std::min(skip_left_, buffer.size() - from);
    skip_left_ -= now;
    if (skip_left_ > 0) return need_more(1, from + now);
    return {.outcome = ParseOutcome::kTooLarge, .consumed = from + now};
  }

  const size_t max_request_;
  size_t skip_left_ = 0;
  std::string text_;
};

// ---- RESP

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

char unescape(char c) {
  switch (c) {
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case 'b':
      return '\b';
    case 'a':
      return '\a';
    default:
      return c;
  }
}

// One word of an inline command, from line[at]; `at` moves after it. Redis' rules (sdssplitargs):
// "..." knows \xHH and \n \r \t \b \a; '...' knows \' only; a closing quote ends the word and must
// be followed by a space or the end. False: quotes do not balance.
bool read_word(std::string_view line, size_t& at, std::string& word) {
  word.clear();
  while (at < line.size() && !is_space(line[at])) {
    char quote = line[at];
    if (quote != '"' && quote != '\'') {
      word.push_back(line[at++]);
      continue;
    }
    at++;
    for (;; at++) {
      if (at >= line.size()) return false;
      if (line[at] == quote) break;
      if (line[at] != '\\' || at + 1 >= line.size()) {
        word.push_back(line[at]);
      } else if (quote == '\'') {
        if (line[at + 1] == '\'') at++;
        word.push_back(line[at]);
      } else if (line[at + 1] == 'x' && at + 3 < line.size() && hex_digit(line[at + 2]) >= 0 &&
                 hex_digit(line[at + 3]) >= 0) {
        word.push_back(static_cast<char>(hex_digit(line[at + 2]) * 16 + hex_digit(line[at + 3])));
        at += 3;
      } else {
        word.push_back(unescape(line[++at]));
      }
    }
    at++;
    return at >= line.size() || is_space(line[at]);
  }
  return true;
}

bool split_inline(std::string_view line, std::vector<std::string>& words) {
  words.clear();
  size_t at = 0;
  while (true) {
    while (at < line.size() && is_space(line[at])) at++;
    if (at >= line.size()) return true;
    if (!read_word(line, at, words.emplace_back())) return false;
  }
}

bool equals_ignoring_case(ByteView bytes, std::string_view upper) {
  if (bytes.size() != upper.size()) return false;
  for (size_t i = 0; i < upper.size(); i++) {
    uint8_t c = bytes[i];
    if (c >= 'a' && c <= 'z') c = static_cast<uint8_t>(c - 'a' + 'A');
    if (c != static_cast<uint8_t>(upper[i])) return false;
  }
  return true;
}

// What the framing answers itself.
struct OwnCommand {
  std::string_view name;
  std::string_view reply;
  ParseOutcome outcome;
};
constexpr OwnCommand kOwnCommands[] = {
    {"QUIT", "+OK\r\n", ParseOutcome::kQuit},
    {"RESET", "+RESET\r\n", ParseOutcome::kReply},
    {"MULTI",
     "-ERR MULTI is not supported by this version of connectd: send the commands one by one\r\n",
     ParseOutcome::kReply},
    {"EXEC", "-ERR EXEC without MULTI\r\n", ParseOutcome::kReply},
    {"DISCARD", "-ERR DISCARD without MULTI\r\n", ParseOutcome::kReply},
};

// An array is read element by element: at_ is where the parse stands in the buffer, so that bytes
// that trickle in are looked at once. Over max_request the rest of the array is skipped as it
// comes.
class RespParser final : public FrameParser {
 public:
  explicit RespParser(size_t max_request) : max_request_(max_request) {}

  Parsed next(ByteView buffer) override {
    size_t dropped = 0;  // empty lines and empty arrays: no request and no reply, as in Redis
    while (true) {
      if (!in_array_) {
        if (buffer.empty()) return need_more(1, dropped);
        if (buffer[0] != '*') {
          Parsed parsed = next_inline(buffer);
          parsed.consumed += dropped;
          if (parsed.outcome != ParseOutcome::kNeedMore || !empty_) return parsed;
          size_t length = parsed.consumed - dropped;
          buffer = buffer.subspan(length);
          dropped += length;
          continue;
        }
        std::optional<int64_t> count = read_count(buffer, kMaxArrayElements);
        if (!text_.empty()) return bad_frame(text_);
        if (!count) return need_more(buffer.size() + 1, dropped);
        if (*count <= 0) {
          dropped += at_;
          buffer = buffer.subspan(at_);
          at_ = searched_ = 0;
          continue;
        }
        in_array_ = true;
        elements_left_ = static_cast<size_t>(*count);
        is_first_ = true;
      }
      Parsed parsed = next_elements(buffer);
      parsed.consumed += dropped;
      return parsed;
    }
  }

  void append_error(std::string& out, std::string_view code, std::string_view text) const override {
    out.push_back('-');
    out.append(code).push_back(' ');
    append_line_text(out, text);
    out.append("\r\n");
  }

 private:
  // Reads "<c><number>\r\n" at at_. Nothing: more bytes are needed, or (text_ is set) it is broken.
  // What may be: -1 (a nil) up to `limit`.
  std::optional<int64_t> read_count(ByteView buffer, size_t limit) {
    size_t end = find_byte(buffer, std::max(searched_, at_), '\n');
    if (end == kNotFound ? buffer.size() - at_ > kMaxCountBytes : end - at_ > kMaxCountBytes) {
      text_ = "a count of more than 64 bytes in an array or bulk string header";
      return {};
    }
    if (end == kNotFound) {
      searched_ = buffer.size();
      return {};
    }
    std::string_view digits = as_text(buffer.subspan(at_ + 1, end - at_ - 1));
    int64_t count = 0;
    bool is_number = false;
    if (digits.ends_with('\r')) {
      digits.remove_suffix(1);
      auto [rest, error] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
      is_number = error == std::errc() && rest == digits.data() + digits.size();
    }
    if (!is_number || count < -1 || count > static_cast<int64_t>(limit)) {
      text_ = fmt::format("invalid {} length", buffer[at_] == '*' ? "multibulk" : "bulk");
      return {};
    }
    at_ = end + 1;
    searched_ = at_;
    return count;
  }

  Parsed next_elements(ByteView buffer) {
    while (elements_left_ > 0) {
      if (!in_bulk_) {
        if (at_ >= buffer.size()) return need_more_of(buffer, at_ + 1);
        if (buffer[at_] != '$') {
          char c = static_cast<char>(buffer[at_]);
          text_ = c >= ' ' && c <= '~' ? fmt::format("expected '$', got '{}'", c)
                                       : fmt::format("expected '$', got byte {}", buffer[at_]);
          return bad_frame(text_);
        }
        std::optional<int64_t> length = read_count(buffer, kMaxAnnouncedBytes);
        if (length && *length < 0) text_ = "invalid bulk length";
        if (!text_.empty()) return bad_frame(text_);
        if (!length) return need_more_of(buffer, buffer.size() + 1);
        in_bulk_ = true;
        bulk_left_ = static_cast<size_t>(*length);
        if (at_ + bulk_left_ + 2 > max_request_) skipping_ = true;
        if (is_first_ && !skipping_) {
          first_at_ = at_;
          first_size_ = bulk_left_;
        }
        is_first_ = false;
      }
      size_t now = std::min(bulk_left_, buffer.size() - at_);
      if (skipping_) {
        at_ += now;
        bulk_left_ -= now;
        if (bulk_left_ > 0) return need_more_of(buffer, at_ + 1);
      }
      if (buffer.size() - at_ < bulk_left_ + 2) return need_more_of(buffer, at_ + bulk_left_ + 2);
      at_ += bulk_left_;
      bulk_left_ = 0;
      if (buffer[at_] != '\r' || buffer[at_ + 1] != '\n') {
        text_ = "a bulk string does not end with CR LF";
        return bad_frame(text_);
      }
      at_ += 2;
      searched_ = at_;
      in_bulk_ = false;
      elements_left_--;
    }
    size_t length = at_;
    bool is_too_large = skipping_;
    at_ = searched_ = 0;
    in_array_ = skipping_ = false;
    if (is_too_large) return {.outcome = ParseOutcome::kTooLarge, .consumed = length};
    return whole(buffer.first(length), buffer.subspan(first_at_, first_size_), length);
  }

  // While skipping, what has been looked at is dropped, and the buffer stays small.
  Parsed need_more_of(ByteView buffer, size_t wanted) {
    if (!skipping_ && wanted <= max_request_ + kFrameSlackBytes) return need_more(wanted);
    skipping_ = true;
    size_t dropped = std::min(at_, buffer.size());
    at_ -= dropped;
    searched_ = searched_ > dropped ? searched_ - dropped : 0;
    return need_more(wanted - dropped, dropped);
  }

  Parsed next_inline(ByteView buffer) {
    empty_ = false;
    size_t end = find_byte(buffer, searched_, '\n');
    if (end == kNotFound ? buffer.size() > kMaxInlineBytes : end > kMaxInlineBytes) {
      return bad_frame("too big inline request");
    }
    if (end == kNotFound) {
      searched_ = buffer.size();
      return need_more(buffer.size() + 1);
    }
    searched_ = 0;
    if (!split_inline(as_text(buffer.first(end)), words_)) {
      return bad_frame("unbalanced quotes in request");
    }
    if (words_.empty()) {
      empty_ = true;
      return need_more(1, end + 1);
    }
    array_.clear();
    fmt::format_to(std::back_inserter(array_), "*{}\r\n", words_.size());
    for (const std::string& word : words_) {
      fmt::format_to(std::back_inserter(array_), "${}\r\n", word.size());
      array_.append(word).append("\r\n");
    }
    if (array_.size() > max_request_) {
      return {.outcome = ParseOutcome::kTooLarge, .consumed = end + 1};
    }
    return whole(as_bytes(array_), as_bytes(words_[0]), end + 1);
  }

  static Parsed whole(ByteView request, ByteView name, size_t consumed) {
    if (name.size() >= 4 && name.size() <= 7) {
      for (const OwnCommand& own : kOwnCommands) {
        if (equals_ignoring_case(name, own.name)) {
          return {.outcome = own.outcome, .consumed = consumed, .bytes = as_bytes(own.reply)};
        }
      }
    }
    return {.outcome = ParseOutcome::kRequest, .consumed = consumed, .bytes = request};
  }

  const size_t max_request_;
  size_t at_ = 0;        // everything before it in the buffer is understood
  size_t searched_ = 0;  // no "\n" between at_ and here
  bool in_array_ = false;
  bool in_bulk_ = false;
  bool is_first_ = false;
  bool skipping_ = false;
  bool empty_ = false;  // the inline command just read was an empty line
  size_t elements_left_ = 0;
  size_t bulk_left_ = 0;
  size_t first_at_ = 0;  // the command's name
  size_t first_size_ = 0;
  std::vector<std::string> words_;
  std::string array_;  // an inline command as an array
  std::string text_;   // of the error
};

}  // namespace

void FrameParser::append_reply(std::string& out, ByteView reply) const {
  out.append(as_text(reply));
}

std::unique_ptr<FrameParser> make_line_parser(size_t max_request) {
  return std::make_unique<LineParser>(max_request);
}
std::unique_ptr<FrameParser> make_resp_parser(size_t max_request) {
  return std::make_unique<RespParser>(max_request);
}
std::unique_ptr<FrameParser> make_length_parser(size_t max_request) {
  return std::make_unique<LengthParser>(max_request);
}

}  // namespace connectd::wire

#include "wire/framing.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

namespace connectd::wire {
namespace {

constexpr size_t kNotFound = static_cast<size_t>(-1);

// The position of `byte` in buffer[from..], or kNotFound.
size_t find_byte(ByteView buffer, size_t from, char byte) {
  if (from >= buffer.size()) return kNotFound;
  const void* found = std::memchr(buffer.data() + from, byte, buffer.size() - from);
  if (found == nullptr) return kNotFound;
  return static_cast<size_t>(static_cast<const uint8_t*>(found) - buffer.data());
}

// Makes the text one line, for a protocol in which the end of a line ends an error.
void append_line_text(std::string& out, std::string_view text) {
  for (char c : text) out.push_back(c == '\r' || c == '\n' ? ' ' : c);
}

Parsed bad_frame(std::string_view text) {
  return {.outcome = ParseOutcome::kBadFrame, .bytes = as_bytes(text)};
}

Parsed need_more(size_t wanted, size_t consumed = 0) {
  return {.outcome = ParseOutcome::kNeedMore, .consumed = consumed, .wanted = wanted};
}

// ---- bytes that are meant for another port

// A web page can make a browser send HTTP to any port, with a body of its choice: what follows such
// a line must never be taken for requests.
constexpr std::string_view kIsHttp =
    "this port does not speak HTTP; HTTP has a port of its own, see listen.http";
constexpr std::string_view kIsProxyHeader =
    "the PROXY protocol is not supported: turn it off in the proxy that connects";
constexpr std::string_view kHttpVersion = " HTTP/1.1";  // this form and length

// What version 2 of that protocol begins with: valid requests of every framing.
constexpr std::string_view kProxyBytes("\r\n\r\n\0\r\nQUIT\n", 12);

// "POST / HTTP/1.1", or the end of such a line.
bool ends_as_http(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.size() < kHttpVersion.size()) return false;
  line.remove_prefix(line.size() - kHttpVersion.size());
  auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return line.starts_with(" HTTP/") && is_digit(line[6]) && line[7] == '.' && is_digit(line[8]);
}

bool is_host_header(std::string_view line) {
  constexpr std::string_view kHost = "host:";
  if (line.size() < kHost.size()) return false;
  for (size_t i = 0; i < kHost.size(); i++) {
    const char c = line[i] >= 'A' && line[i] <= 'Z' ? static_cast<char>(line[i] + 32) : line[i];
    if (c != kHost[i]) return false;
  }
  return true;
}

// Why the first line of a connection cannot be a request; empty: it can be one.
std::string_view why_foreign(std::string_view first_line) {
  if (ends_as_http(first_line) || is_host_header(first_line)) return kIsHttp;
  const bool is_proxy = first_line.starts_with("PROXY TCP4 ") ||
                        first_line.starts_with("PROXY TCP6 ") ||
                        first_line.starts_with("PROXY UNKNOWN");
  return is_proxy ? kIsProxyHeader : std::string_view();
}

// ---- line

class LineParser final : public FrameParser {
 public:
  explicit LineParser(size_t max_request) : FrameParser(max_request) {}

  Parsed parse(ByteView buffer) override {
    size_t end = find_byte(buffer, searched_, '\n');
    if (end == kNotFound) {
      // max_request bytes and a "\r" may still turn out to be a request.
      if (!skipping_ && buffer.size() <= max_request() + 1) {
        searched_ = buffer.size();
        return need_more(buffer.size() + 1);
      }
      skipping_ = true;
      searched_ = 0;
      keep_tail(as_text(buffer));
      return need_more(1, buffer.size());
    }
    searched_ = 0;
    if (is_first_line_) {
      keep_tail(as_text(buffer.first(end)));
      is_first_line_ = false;
      const std::string_view why =
          why_foreign(skipping_ ? std::string_view(tail_) : as_text(buffer.first(end)));
      if (!why.empty()) return bad_frame(why);
    }
    size_t length = end;
    if (length > 0 && buffer[length - 1] == '\r') length--;
    if (skipping_ || length > max_request()) {
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
  // The end of the first line, even if that is skipped.
  void keep_tail(std::string_view piece) {
    if (!is_first_line_) return;
    tail_ += piece.substr(piece.size() - std::min(piece.size(), kTailBytes));
    tail_.erase(0, tail_.size() - std::min(tail_.size(), kTailBytes));
  }

  static constexpr size_t kTailBytes = kHttpVersion.size() + 1;  // and a "\r"

  size_t searched_ = 0;  // no "\n" before this position
  bool skipping_ = false;
  bool is_first_line_ = true;
  std::string tail_;
};

// ---- length

class LengthParser final : public FrameParser {
 public:
  explicit LengthParser(size_t max_request) : FrameParser(max_request) {}

  Parsed parse(ByteView buffer) override {
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
    if (length > max_request()) {
      skip_left_ = length;
      return skip(buffer, kHeaderBytes);
    }
    if (buffer.size() < kHeaderBytes + length) return need_more(kHeaderBytes + length);
    return {.outcome = ParseOutcome::kRequest,
            .consumed = kHeaderBytes + length,
            .bytes = buffer.subspan(kHeaderBytes, length)};
  }

  void append_reply(std::string& out, ByteView reply, uint64_t) override {
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

// What a HELLO asks for, from its array of words; none: no version of this protocol.
std::optional<int> version_of_hello(ByteView request) {
  std::string_view rest = as_text(request);
  for (int line = 0; line < 3; ++line) {  // "*<n>", "$5", "HELLO"
    rest.remove_prefix(std::min(rest.find('\n'), rest.size() - 1) + 1);
  }
  if (rest.starts_with("$1\r\n2\r\n")) return 2;
  if (rest.starts_with("$1\r\n3\r\n")) return 3;
  return std::nullopt;
}

constexpr std::string_view kNoAuth = "-NOAUTH Authentication required.\r\n";
constexpr std::string_view kNoAuthHello =
    "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
    "<proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP "
    "protocol version at the same time\r\n";

// The strings of an array that was parsed: views of it.
void split_array(ByteView array, std::vector<std::string_view>& strings) {
  strings.clear();
  std::string_view rest = as_text(array);
  rest.remove_prefix(rest.find('\n') + 1);
  while (!rest.empty()) {
    size_t length = 0;
    const size_t header = rest.find('\n') + 1;
    std::from_chars(rest.data() + 1, rest.data() + header, length);
    strings.push_back(rest.substr(header, length));
    rest.remove_prefix(header + length + 2);
  }
}

template <typename Strings>
void append_array(std::string& out, const Strings& strings) {
  fmt::format_to(std::back_inserter(out), "*{}\r\n", strings.size());
  for (const auto& string : strings) {
    fmt::format_to(std::back_inserter(out), "${}\r\n", string.size());
    out.append(string).append("\r\n");
  }
}

// A reply of version 2 as version 3 has it: nulls, of which version 2 has two, have a type of
// their own. Clients of version 3 need not know the old ones.
void append_as_version_3(std::string& out, std::string_view reply) {
  size_t copied = 0;
  for (size_t at = 0; at < reply.size();) {
    const size_t end = reply.find("\r\n", at);
    if (end == std::string_view::npos) break;
    const std::string_view header = reply.substr(at, end - at);
    if (header == "$-1" || header == "*-1") {
      out.append(reply.substr(copied, at - copied)).append("_\r\n");
      copied = end + 2;
    }
    size_t length = 0;
    if (header.starts_with('$') && header != "$-1") {
      const char* last = header.data() + header.size();
      if (std::from_chars(header.data() + 1, last, length).ptr != last) break;
      if (length > reply.size() - end - 2) break;  // the plugin's mistake goes on as it is
      length += 2;
    }
    at = end + 2 + length;
  }
  out.append(reply.substr(copied));
}

// Commands that the framing answers itself.
enum class OwnCommand : uint8_t { kQuit, kReset, kMulti, kExec, kDiscard };
struct OwnCommandRow {
  std::string_view name;
  std::string_view wrong_arity;  // the answer if there are arguments; empty: any are accepted
  OwnCommand command;
};
constexpr OwnCommandRow kOwnCommands[] = {
    {"QUIT", "", OwnCommand::kQuit},
    {"RESET", "-ERR wrong number of arguments for 'reset' command\r\n", OwnCommand::kReset},
    {"MULTI", "-ERR wrong number of arguments for 'multi' command\r\n", OwnCommand::kMulti},
    {"EXEC", "-ERR wrong number of arguments for 'exec' command\r\n", OwnCommand::kExec},
    {"DISCARD", "-ERR wrong number of arguments for 'discard' command\r\n", OwnCommand::kDiscard},
};

// An array is parsed element by element: at_ is the position in the buffer, so that bytes that
// trickle in are parsed only once. Beyond max_request the rest of the array is skipped as it
// arrives.
class RespParser final : public FrameParser {
 public:
  explicit RespParser(size_t max_request) : FrameParser(max_request) {}

  Parsed parse(ByteView buffer) override {
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
        if (count && !is_known() && *count > static_cast<int64_t>(kUnknownArrayElements)) {
          text_ = "unauthenticated multibulk length";
        }
        if (!text_.empty()) return bad_frame(text_);
        if (!count) return need_more(buffer.size() + 1, dropped);
        is_first_line_ = false;
        if (*count <= 0) {
          dropped += at_;
          buffer = buffer.subspan(at_);
          at_ = searched_ = 0;
          continue;
        }
        in_array_ = true;
        elements_left_ = elements_ = static_cast<size_t>(*count);
        is_first_ = true;
      }
      Parsed parsed = next_elements(buffer);
      parsed.consumed += dropped;
      return parsed;
    }
  }

  Parsed authenticated() override {
    if (hello_.empty()) return reply("+OK\r\n", 0);
    return hand_on(as_bytes(hello_), true, 0);
  }

  void append_reply(std::string& out, ByteView reply, uint64_t request) override {
    for (; !changes_.empty() && changes_.front().request <= request; changes_.pop_front()) {
      const VersionChange& change = changes_.front();
      if (change.is_reset) {
        version_ = 2;
      } else if (change.request == request && !reply.empty() &&
                 reply[0] == static_cast<uint8_t>(change.version == 3 ? '%' : '*')) {
        version_ = change.version;  // the plugin has agreed
      }
    }
    if (version_ == 2) {
      out.append(as_text(reply));
    } else {
      append_as_version_3(out, as_text(reply));
    }
  }
  void append_error(std::string& out, std::string_view code, std::string_view text) const override {
    out.push_back('-');
    out.append(code).push_back(' ');
    append_line_text(out, text);
    out.append("\r\n");
  }
  // Clients know the texts of Redis.
  void append_broken(std::string& out, std::string_view, std::string_view text) const override {
    append_error(out, "ERR Protocol error:", text);
  }

 private:
  // Reads "<c><number>\r\n" at at_. Nothing: more bytes are needed, or (text_ is set) it is
  // invalid. At most `limit`. As in Redis: no leading zeros, no "+".
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
      const std::string_view unsigned_digits = digits.substr(digits.starts_with('-') ? 1 : 0);
      is_number = error == std::errc() && rest == digits.data() + digits.size() &&
                  (digits == "0" || !unsigned_digits.starts_with('0'));
    }
    if (!is_number || count > static_cast<int64_t>(limit)) {
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
        if (length && !is_known() && *length > static_cast<int64_t>(kUnknownRequestBytes)) {
          text_ = "unauthenticated bulk length";
        }
        if (!text_.empty()) return bad_frame(text_);
        if (!length) return need_more_of(buffer, buffer.size() + 1);
        in_bulk_ = true;
        bulk_left_ = static_cast<size_t>(*length);
        if (at_ + bulk_left_ + 2 > max_request()) skipping_ = true;
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
    return whole(buffer.first(length), buffer.subspan(first_at_, first_size_), elements_, length);
  }

  // While skipping, parsed bytes are dropped, so that the buffer stays small.
  Parsed need_more_of(ByteView buffer, size_t wanted) {
    if (!skipping_ && wanted <= max_request() + kFrameSlackBytes) return need_more(wanted);
    skipping_ = true;
    size_t dropped = std::min(at_, buffer.size());
    at_ -= dropped;
    searched_ = searched_ > dropped ? searched_ - dropped : 0;
    return need_more(wanted - dropped, dropped);
  }

  Parsed next_inline(ByteView buffer) {
    empty_ = false;
    size_t end = find_byte(buffer, searched_, '\n');
    const size_t most = is_known() ? kMaxInlineBytes : kUnknownRequestBytes;
    if (end == kNotFound ? buffer.size() > most : end > most) {
      return bad_frame("too big inline request");
    }
    if (end == kNotFound) {
      searched_ = buffer.size();
      return need_more(buffer.size() + 1);
    }
    searched_ = 0;
    const std::string_view line = as_text(buffer.first(end));
    // HTTP headers may follow a first line that did not look like a browser's.
    const std::string_view why = is_first_line_         ? why_foreign(line)
                                 : is_host_header(line) ? kIsHttp
                                                        : std::string_view();
    if (!why.empty()) return bad_frame(why);
    if (!split_inline(line, words_)) return bad_frame("unbalanced quotes in request");
    if (!is_known() && words_.size() > kUnknownArrayElements) {
      return bad_frame("unauthenticated multibulk length");
    }
    if (words_.empty()) {
      empty_ = true;
      return need_more(1, end + 1);
    }
    is_first_line_ = false;
    array_.clear();
    append_array(array_, words_);
    if (array_.size() > max_request()) {
      return {.outcome = ParseOutcome::kTooLarge, .consumed = end + 1};
    }
    return whole(as_bytes(array_), as_bytes(words_[0]), words_.size(), end + 1);
  }

  Parsed whole(ByteView request, ByteView name, size_t words, size_t consumed) {
    if (name.size() >= 4 && name.size() <= 7) {
      for (const OwnCommandRow& own : kOwnCommands) {
        if (!equals_ignoring_case(name, own.name)) continue;
        if (words > 1 && !own.wrong_arity.empty()) return reply(own.wrong_arity, consumed);
        return answer(own.command, consumed);
      }
    }
    if (in_refused_multi_) {
      return reply(
          "-ERR not executed: MULTI is not supported by this version of connectd; EXEC, "
          "DISCARD or RESET ends it\r\n",
          consumed);
    }
    if (equals_ignoring_case(name, "AUTH")) return take_auth(request, consumed);
    const bool is_hello = equals_ignoring_case(name, "HELLO");
    if (is_hello) {
      if (auto parsed = take_hello_auth(request, consumed)) return *parsed;
    }
    if (!is_known()) return reply(is_hello ? kNoAuthHello : kNoAuth, consumed);
    return hand_on(request, is_hello, consumed);
  }

  Parsed hand_on(ByteView request, bool is_hello, size_t consumed) {
    if (is_hello) {
      if (auto version = version_of_hello(request))
        changes_.push_back({requests_, *version, false});
    }
    ++requests_;
    return {.outcome = ParseOutcome::kRequest, .consumed = consumed, .bytes = request};
  }

  Parsed take_auth(ByteView request, size_t consumed) {
    split_array(request, strings_);
    if (strings_.size() == 1) {
      return reply("-ERR wrong number of arguments for 'auth' command\r\n", consumed);
    }
    if (strings_.size() > 3) return reply("-ERR syntax error\r\n", consumed);
    hello_.clear();
    Parsed parsed{.outcome = ParseOutcome::kCredentials, .consumed = consumed};
    parsed.user = strings_.size() == 3 ? strings_[1] : kDefaultUser;
    parsed.secret = strings_.back();
    return parsed;
  }

  // HELLO [version [AUTH user secret] [SETNAME name]]: the plugin gets it without the credentials.
  // None: there are none.
  std::optional<Parsed> take_hello_auth(ByteView request, size_t consumed) {
    split_array(request, strings_);
    Parsed parsed{.outcome = ParseOutcome::kCredentials, .consumed = consumed};
    bool has_credentials = false;
    std::string_view wrong_option;
    std::vector<std::string_view> others;
    for (size_t i = 0; i < strings_.size(); ++i) {
      const std::string_view word = strings_[i];
      if (i < 2 || !equals_ignoring_case(as_bytes(word), "AUTH")) {
        others.push_back(word);
        // The first that is wrong, when all are known.
        const bool is_option = i < 2 || equals_ignoring_case(as_bytes(word), "SETNAME");
        if (!is_option && wrong_option.empty()) wrong_option = word;
        // Its name may be anything.
        const bool is_name = i >= 2 && equals_ignoring_case(as_bytes(word), "SETNAME");
        if (is_name && i + 1 < strings_.size()) others.push_back(strings_[++i]);
        continue;
      }
      if (i + 2 >= strings_.size()) {
        return reply("-ERR Syntax error in HELLO option 'AUTH'\r\n", consumed);
      }
      has_credentials = true;
      parsed.user = strings_[++i];
      parsed.secret = strings_[++i];
    }
    if (!has_credentials) return std::nullopt;
    // As in Redis, nobody is let in by a request that fails.
    if (strings_[1] != "2" && strings_[1] != "3") {
      return reply("-NOPROTO unsupported protocol version\r\n", consumed);
    }
    if (!wrong_option.empty()) {
      return reply("-ERR Syntax error in HELLO option\r\n", consumed);
    }
    hello_.clear();
    append_array(hello_, others);
    return parsed;
  }

  // Begins with the replies to what comes after it.
  void reset_version() {
    const bool is_noted =
        !changes_.empty() && changes_.back().is_reset && changes_.back().request == requests_;
    if (!is_noted) changes_.push_back({requests_, 2, true});
  }

  // The commands after a MULTI must be executed together or not at all: MULTI is refused, so they
  // are, too.
  Parsed answer(OwnCommand command, size_t consumed) {
    const bool was_in_multi = in_refused_multi_;
    in_refused_multi_ = command == OwnCommand::kMulti;
    switch (command) {
      case OwnCommand::kQuit:
        return {.outcome = ParseOutcome::kQuit, .consumed = consumed, .bytes = as_bytes("+OK\r\n")};
      case OwnCommand::kReset: {
        reset_version();
        Parsed parsed = reply("+RESET\r\n", consumed);
        parsed.outcome = ParseOutcome::kReset;
        return parsed;
      }
      case OwnCommand::kMulti:
        if (was_in_multi) return reply("-ERR MULTI calls can not be nested\r\n", consumed);
        return reply(
            "-ERR MULTI is not supported by this version of connectd: send the commands one by "
            "one\r\n",
            consumed);
      case OwnCommand::kExec:
        if (!was_in_multi) return reply("-ERR EXEC without MULTI\r\n", consumed);
        return reply("-EXECABORT Transaction discarded because of previous errors.\r\n", consumed);
      case OwnCommand::kDiscard:
        if (!was_in_multi) return reply("-ERR DISCARD without MULTI\r\n", consumed);
        return reply("+OK\r\n", consumed);
    }
    return bad_frame("unknown command");
  }

  static Parsed reply(std::string_view text, size_t consumed) {
    return {.outcome = ParseOutcome::kReply, .consumed = consumed, .bytes = as_bytes(text)};
  }

  // Of the protocol, for replies: a request may ask for it while earlier ones wait for theirs.
  struct VersionChange {
    uint64_t request;  // HELLO, or the next one after RESET
    int version;
    bool is_reset;
  };

  uint64_t requests_ = 0;
  int version_ = 2;
  std::deque<VersionChange> changes_;
  size_t at_ = 0;        // everything before it is parsed
  size_t searched_ = 0;  // no "\n" between at_ and here
  bool in_array_ = false;
  bool in_bulk_ = false;
  bool is_first_ = false;
  bool skipping_ = false;
  bool empty_ = false;  // the inline command just read was an empty line
  bool is_first_line_ = true;
  bool in_refused_multi_ = false;
  size_t elements_ = 0;  // of the array
  size_t elements_left_ = 0;
  size_t bulk_left_ = 0;
  size_t first_at_ = 0;  // the command's name
  size_t first_size_ = 0;
  std::vector<std::string> words_;
  std::string array_;                      // an inline command as an array
  std::vector<std::string_view> strings_;  // AUTH or HELLO
  std::string hello_;  // the HELLO that the last credentials came with, without them
  std::string text_;   // of the error
};

}  // namespace

Parsed FrameParser::next(ByteView buffer) {
  if (!may_be_proxy_) return parse(buffer);
  const std::string_view rest = kProxyBytes.substr(proxy_consumed_);
  const std::string_view begin = as_text(buffer.first(std::min(buffer.size(), rest.size())));
  may_be_proxy_ = rest.starts_with(begin);
  if (may_be_proxy_ && begin == rest) return bad_frame(kIsProxyHeader);
  const Parsed parsed = parse(buffer);
  proxy_consumed_ += parsed.consumed;
  if (proxy_consumed_ >= kProxyBytes.size()) may_be_proxy_ = false;
  return parsed;
}

void FrameParser::append_reply(std::string& out, ByteView reply, uint64_t) {
  out.append(as_text(reply));
}

void FrameParser::append_broken(std::string& out, std::string_view code,
                                std::string_view text) const {
  append_error(out, code, text);
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

std::optional<ByteView> one_line(ByteView body) {
  if (!body.empty() && body.back() == '\n') {
    body = body.first(body.size() - 1);
    if (!body.empty() && body.back() == '\r') body = body.first(body.size() - 1);
  }
  if (std::ranges::find(body, '\n') != body.end()) return std::nullopt;
  return body;
}

}  // namespace connectd::wire

// Bytes of a client's connection, by one of the three framings. Given whole, or by pieces, they are
// the same requests; and no parser asks for more room than it may.
#include <algorithm>
#include <string>
#include <vector>

#include "base/log.h"
#include "tests/fuzz/input.h"
#include "wire/framing.h"

namespace connectd {
namespace {

struct Taken {
  wire::ParseOutcome outcome;
  std::string bytes;
  bool operator==(const Taken&) const = default;
};

std::unique_ptr<wire::FrameParser> parser_of(uint8_t framing, size_t max_request) {
  switch (framing % 3) {
    case 0:
      return wire::make_line_parser(max_request);
    case 1:
      return wire::make_resp_parser(max_request);
    default:
      return wire::make_length_parser(max_request);
  }
}

// `pieces`: how many bytes come at a time, in turn; empty: all at once.
std::vector<Taken> parse(wire::FrameParser& parser, ByteView stream, ByteView pieces, size_t room) {
  std::vector<Taken> taken;
  std::vector<uint8_t> buffer;
  size_t piece = 0;
  while (true) {
    size_t left = stream.size();
    size_t next =
        pieces.empty() ? left : std::min<size_t>(left, 1 + pieces[piece++ % pieces.size()]);
    buffer.insert(buffer.end(), stream.begin(), stream.begin() + static_cast<ptrdiff_t>(next));
    stream = stream.subspan(next);
    while (true) {
      wire::Parsed parsed = parser.next(buffer);
      CHECK(parsed.consumed <= buffer.size());
      CHECK(parsed.outcome == wire::ParseOutcome::kNeedMore || parsed.consumed > 0 ||
            parsed.outcome == wire::ParseOutcome::kBadFrame)
          << "a request of no bytes: the same would come again for ever";
      if (parsed.outcome != wire::ParseOutcome::kNeedMore) {
        taken.push_back({parsed.outcome, std::string(as_text(parsed.bytes))});
      } else {
        CHECK(parsed.wanted <= room) << "a parser wants " << parsed.wanted << " bytes";
      }
      buffer.erase(buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(parsed.consumed));
      if (parsed.outcome == wire::ParseOutcome::kQuit ||
          parsed.outcome == wire::ParseOutcome::kBadFrame) {
        return taken;
      }
      if (parsed.outcome == wire::ParseOutcome::kNeedMore) break;
    }
    if (stream.empty()) return taken;
  }
}

}  // namespace
}  // namespace connectd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace connectd;
  fuzz::Input input(data, size);
  const uint8_t framing = input.byte();
  const size_t max_request = 1 + input.byte() * size_t{4};
  ByteView pieces = input.part(input.byte() % 16);
  ByteView stream = input.rest();
  const size_t room = std::max(max_request, wire::kMaxInlineBytes) + wire::kFrameSlackBytes;
  auto whole = parse(*parser_of(framing, max_request), stream, {}, room);
  auto cut = parse(*parser_of(framing, max_request), stream,
                   pieces.empty() ? ByteView(data, 1) : pieces, room);
  CHECK(whole == cut) << "by pieces the stream is another one";
  auto one_by_one =
      parse(*parser_of(framing, max_request), stream, as_bytes(std::string_view("\0", 1)), room);
  CHECK(whole == one_by_one) << "byte by byte the stream is another one";
  for (const Taken& taken : whole) {
    if (taken.outcome != wire::ParseOutcome::kRequest) continue;
    CHECK(taken.bytes.size() <= max_request);
  }
  std::string out;
  parser_of(framing, max_request)->append_error(out, "TOOLARGE", as_text(stream));
  CHECK(!out.empty());
  return 0;
}

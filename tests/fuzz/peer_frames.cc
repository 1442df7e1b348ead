// Bytes of a peer connection. First byte even: a stream as it comes. Odd: the type of a frame and
// its body, to which the header that fits is made, so that checksums are no wall.
//
// Whatever is accepted must be what is written again, to the byte.
#include "base/checksum.h"
#include "base/log.h"
#include "tests/fuzz/input.h"
#include "wire/peer_codec.h"

namespace connectd {
namespace {

void take_handshake(const wire::FrameHeader& header, ByteView body) {
  auto handshake = wire::decode_handshake(header, body);
  if (!handshake) {
    CHECK(!handshake.error().text.empty());
    return;
  }
  // A body may be longer than this version knows; so not to the byte, but to the meaning.
  std::string again;
  if (const auto* hello = std::get_if<wire::Hello>(&*handshake)) {
    wire::append_hello(again, *hello);
    wire::Hello mine = *hello;
    mine.to = NodeId();
    auto refusal = wire::check_hello(mine, *hello);
    if (refusal) CHECK(!refusal->text.empty());
  } else {
    wire::append_refusal(again, std::get<wire::Refusal>(*handshake));
  }
  auto header_again = wire::decode_frame_header(as_bytes(again));
  CHECK(header_again) << "a handshake that was read cannot be written";
  auto second =
      wire::decode_handshake(*header_again, as_bytes(again).subspan(wire::kFrameHeaderBytes));
  CHECK(second && second->index() == handshake->index());
}

// Returns how many bytes the frame has; 0: none was taken.
size_t take_frame(ByteView stream) {
  if (stream.size() < wire::kFrameHeaderBytes) return 0;
  auto header = wire::decode_frame_header(stream);
  if (!header) {
    CHECK(!header.error().text.empty());
    return 0;
  }
  CHECK(header->length <= wire::kMaxFrameBytes);
  if (stream.size() < wire::kFrameHeaderBytes + header->length) return 0;
  ByteView frame = stream.first(wire::kFrameHeaderBytes + header->length);
  ByteView body = frame.subspan(wire::kFrameHeaderBytes);
  if (header->type == wire::FrameType::kHello || header->type == wire::FrameType::kRefusal) {
    take_handshake(*header, body);
    return frame.size();
  }
  auto message = wire::decode_frame(*header, Slice::copy_of(body));
  if (!message) {
    CHECK(!message.error().text.empty());
    return 0;
  }
  std::string again;
  CHECK(wire::append_frame(again, *message, header->version));
  CHECK(as_bytes(again).size() == frame.size() &&
        std::memcmp(again.data(), frame.data(), frame.size()) == 0)
      << "a frame of type " << int{static_cast<uint8_t>(header->type)} << " is written otherwise";
  return frame.size();
}

}  // namespace
}  // namespace connectd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace connectd;
  fuzz::Input input(data, size);
  if ((input.byte() & 1) == 0) {
    ByteView stream = input.rest();
    while (size_t taken = take_frame(stream)) stream = stream.subspan(taken);
    return 0;
  }
  uint8_t type = input.byte();
  ByteView body = input.rest();
  std::string frame;
  ByteWriter out(frame);
  out.number<uint32_t>(static_cast<uint32_t>(body.size()));
  out.number<uint32_t>(0);
  out.number<uint8_t>(type);
  out.number<uint8_t>(1);
  out.number<uint16_t>(0);
  out.number<uint32_t>(0);
  out.number<uint64_t>(checksum64(body, checksum64(as_bytes(frame))));
  out.bytes(body);
  take_frame(as_bytes(frame));
  return 0;
}

#include "base/sha256.h"

#include <openssl/evp.h>

#include <array>

#include "base/log.h"

namespace connectd {

std::string sha256_hex(ByteView bytes) {
  std::array<uint8_t, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  CHECK_EQ(EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, EVP_sha256(), nullptr),
           1);
  std::string text;
  for (unsigned i = 0; i < length; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

}  // namespace connectd

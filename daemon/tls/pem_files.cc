#include "tls/pem_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/bytes.h"

namespace connectd::tls {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;
constexpr size_t kMaxRevocationBytes = 16 << 20;
constexpr size_t kMaxCertificates = 256;
constexpr int kMinRsaBits = 2048;
constexpr int kMinCurveBits = 256;

// The bytes of a file, which may be a key: wiped at the end.
class Secret final {
 public:
  explicit Secret(size_t size) : bytes_(size, '\0') {}
  ~Secret() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }
  Secret(Secret&& other) noexcept : bytes_(std::move(other.bytes_)), size_(other.size_) {}
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;

  char* data() { return bytes_.data(); }
  size_t capacity() const { return bytes_.size(); }
  void set_size(size_t size) { size_ = size; }
  std::string_view text() const { return {bytes_.data(), size_}; }

 private:
  std::vector<char> bytes_;
  size_t size_ = 0;
};

class Descriptor final {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

Error cannot_read(const std::string& path, int error) {
  const ErrorKind kind = error == ENOENT || error == ENOTDIR  ? ErrorKind::kNotFound
                         : error == EACCES || error == EPERM  ? ErrorKind::kPermission
                         : error == EMFILE || error == ENFILE ? ErrorKind::kNoDescriptors
                                                              : ErrorKind::kDisk;
  return {kind, fmt::format("{}: cannot read: {}", path, errno_text(error))};
}

tl::unexpected<Error> bad_file(const std::string& path, std::string_view text) {
  return failure(ErrorKind::kBadConfig, fmt::format("{}: {}", path, text));
}

// Whether an access list, as the kernel keeps it in an attribute, lets only this process's user
// read besides the owner. The group bits of a mode are the list's mask then, not its group.
bool lists_own_user_only(int fd) {
  constexpr size_t kHeaderBytes = 4;
  constexpr size_t kEntryBytes = 8;
  constexpr uint16_t kReadOrWrite = 6;
  enum Tag : uint16_t {
    kOwner = 1,
    kUser = 2,
    kOwningGroup = 4,
    kGroup = 8,
    kMask = 16,
    kOther = 32
  };
  std::array<uint8_t, 4096> list{};
  const ssize_t size = ::fgetxattr(fd, "system.posix_acl_access", list.data(), list.size());
  if (size < static_cast<ssize_t>(kHeaderBytes) || load_le<uint32_t>(list.data()) != 2)
    return false;
  for (size_t at = kHeaderBytes; at + kEntryBytes <= static_cast<size_t>(size); at += kEntryBytes) {
    const auto tag = load_le<uint16_t>(&list[at]);
    if ((load_le<uint16_t>(&list[at + 2]) & kReadOrWrite) == 0) continue;
    if (tag == kOwner || tag == kMask) continue;
    if (tag != kUser || load_le<uint32_t>(&list[at + 4]) != ::geteuid()) return false;
  }
  return true;
}

Result<void> check_key_file(const std::string& path, int fd, const struct stat& facts) {
  constexpr mode_t kOthers = S_IRWXG | S_IRWXO;
  const auto no = [&](std::string_view text) {
    return failure(ErrorKind::kPermission, fmt::format("{}: {}", path, text));
  };
  const uid_t self = ::geteuid();
  if (self != 0 && facts.st_uid != self && facts.st_uid != 0) {
    return no(
        fmt::format("this key belongs to the user {}, who could replace it: it must belong to "
                    "root or to the user that connectd runs as",
                    facts.st_uid));
  }
  if ((facts.st_mode & kOthers) == 0 || lists_own_user_only(fd)) return {};
  return no(
      fmt::format("this key can be used by other users (mode {:04o}): chmod 600 it, and make "
                  "a new key if others were on this machine",
                  facts.st_mode & 07777));
}

// `is_key`: the file's mode counts.
Result<Secret> read_file(const std::string& path, size_t limit, bool is_key = false) {
  // A named pipe would hold up the open.
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (file.get() < 0) return failure(cannot_read(path, errno));
  struct stat facts {};
  if (::fstat(file.get(), &facts) != 0) return failure(cannot_read(path, errno));
  if (!S_ISREG(facts.st_mode)) {
    return failure(is_key ? ErrorKind::kPermission : ErrorKind::kBadConfig,
                   fmt::format("{}: must be a regular file", path));
  }
  if (is_key) {
    if (Result<void> good = check_key_file(path, file.get(), facts); !good) {
      return failure(good.error());
    }
  }
  if (static_cast<uint64_t>(facts.st_size) > limit) {
    return bad_file(path, fmt::format("has {} bytes; at most {} are read", facts.st_size, limit));
  }
  // One more: it may have grown.
  Secret bytes(static_cast<size_t>(facts.st_size) + 1);
  size_t size = 0;
  while (size < bytes.capacity()) {
    const ssize_t got = ::read(file.get(), bytes.data() + size, bytes.capacity() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(cannot_read(path, errno));
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size == bytes.capacity()) return bad_file(path, "changed while it was read: try again");
  bytes.set_size(size);
  return bytes;
}

Handle<bio_st> reader_of(const Secret& bytes) {
  return Handle<bio_st>(
      BIO_new_mem_buf(bytes.text().data(), static_cast<int>(bytes.text().size())));
}

// Notes that a password was asked for, and has none.
int no_password(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

// The reason of the last failed PEM read: the file is at its end.
bool was_at_end() {
  const unsigned long code = ERR_peek_last_error();
  return ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
}

std::string missing(const Secret& bytes, std::string_view what, std::string_view label) {
  if (bytes.text().empty()) return fmt::format("is empty; it must have {} in PEM", what);
  if (bytes.text()[0] == 0x30) {
    return fmt::format(
        "is not PEM, but may be DER: convert it with `openssl x509`, `openssl pkey` "
        "or `openssl crl` and -inform der; it must have {} in PEM",
        what);
  }
  return fmt::format("has no {} (no line '-----BEGIN {}-----')", what, label);
}

// All objects of a kind. `Read` makes one, or null.
template <class T, class Read>
Result<std::vector<Handle<T>>> read_all(const std::string& path, const Secret& bytes,
                                        std::string_view what, std::string_view label, Read read) {
  Handle<bio_st> reader = reader_of(bytes);
  std::vector<Handle<T>> found;
  ERR_clear_error();
  while (Handle<T> one = read(reader.get())) {
    if (found.size() == kMaxCertificates) {
      return bad_file(path, fmt::format("has more than {} of them", kMaxCertificates));
    }
    found.push_back(std::move(one));
  }
  if (!was_at_end()) {
    return bad_file(
        path, fmt::format("cannot read {} number {}: {}", what, found.size() + 1, take_reasons()));
  }
  ERR_clear_error();
  if (found.empty()) return bad_file(path, missing(bytes, what, label));
  return found;
}

}  // namespace

std::string weakness_of(const evp_pkey_st* key) {
  if (key == nullptr) return "its key cannot be read";
  const int bits = EVP_PKEY_get_bits(key);
  if (EVP_PKEY_is_a(key, "RSA") == 1 || EVP_PKEY_is_a(key, "RSA-PSS") == 1) {
    if (bits >= kMinRsaBits) return "";
    return fmt::format("its RSA key has {} bits; {} at least", bits, kMinRsaBits);
  }
  if (EVP_PKEY_is_a(key, "EC") == 1) {
    if (bits >= kMinCurveBits) return "";
    return fmt::format("its elliptic curve has {} bits; {} at least", bits, kMinCurveBits);
  }
  if (EVP_PKEY_is_a(key, "ED25519") == 1 || EVP_PKEY_is_a(key, "ED448") == 1) return "";
  return "its key must be RSA, or of an elliptic curve such as P-256";
}

Result<std::vector<Handle<x509_st>>> read_certificates(const std::string& path) {
  Result<Secret> bytes = read_file(path, kMaxFileBytes);
  if (!bytes) return failure(bytes.error());
  return read_all<x509_st>(path, *bytes, "certificate", "CERTIFICATE", [](bio_st* reader) {
    X509* one = X509_new_ex(library(), nullptr);
    bool asked = false;
    // At a failure it has released `one` and made it null, or has not touched it.
    const bool good = one != nullptr && PEM_read_bio_X509(reader, &one, no_password, &asked);
    Handle<x509_st> certificate(one);
    return good ? std::move(certificate) : Handle<x509_st>();
  });
}

Result<Handle<evp_pkey_st>> read_key(const std::string& path) {
  Result<Secret> bytes = read_file(path, kMaxFileBytes, true);
  if (!bytes) return failure(bytes.error());
  Handle<bio_st> reader = reader_of(*bytes);
  bool asked = false;
  ERR_clear_error();
  Handle<evp_pkey_st> key(
      PEM_read_bio_PrivateKey_ex(reader.get(), nullptr, no_password, &asked, library(), nullptr));
  if (!key) {
    const bool none = bytes->text().find("PRIVATE KEY-----") == std::string_view::npos;
    const std::string why = take_reasons();
    if (asked) {
      return bad_file(path,
                      "this key is encrypted, and nobody types a password when a node starts: "
                      "decrypt it with `openssl pkey -in FILE -out KEY`, and chmod 600 KEY");
    }
    if (none) return bad_file(path, missing(*bytes, "private key", "PRIVATE KEY"));
    return bad_file(path, fmt::format("cannot read the private key: {}", why));
  }
  ERR_clear_error();
  const std::string weakness = weakness_of(key.get());
  if (!weakness.empty()) return bad_file(path, weakness);
  return key;
}

Result<std::vector<Handle<X509_crl_st>>> read_revocations(const std::string& path) {
  Result<Secret> bytes = read_file(path, kMaxRevocationBytes);
  if (!bytes) return failure(bytes.error());
  return read_all<X509_crl_st>(path, *bytes, "revocation list", "X509 CRL", [](bio_st* reader) {
    X509_CRL* one = X509_CRL_new_ex(library(), nullptr);
    bool asked = false;
    const bool good = one != nullptr && PEM_read_bio_X509_CRL(reader, &one, no_password, &asked);
    Handle<X509_crl_st> list(one);
    return good ? std::move(list) : Handle<X509_crl_st>();
  });
}

}  // namespace connectd::tls

// The strong types that every module shares. All are plain values, compare by value, and are zero
// when default-constructed; zero means "none" in each of them.
#pragma once

#include <fmt/format.h>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace connectd {

// A 64-bit number of one kind. Kinds do not mix: a Term is never passed where an Index is meant.
// Adding a plain number gives the same kind; the difference of two is a plain number.
template <class Kind>
class Number {
 public:
  constexpr Number() = default;
  constexpr explicit Number(uint64_t value) : value_(value) {}

  constexpr uint64_t value() const { return value_; }
  constexpr explicit operator bool() const { return value_ != 0; }
  constexpr auto operator<=>(const Number&) const = default;

  constexpr Number& operator++() {
    ++value_;
    return *this;
  }
  friend constexpr Number operator+(Number a, uint64_t n) { return Number(a.value_ + n); }
  friend constexpr Number operator-(Number a, uint64_t n) { return Number(a.value_ - n); }
  friend constexpr uint64_t operator-(Number a, Number b) { return a.value_ - b.value_; }

 private:
  uint64_t value_ = 0;
};

using NodeId = Number<struct NodeIdKind>;  // a connectd node, never reused in a cluster's life
using Term = Number<struct TermKind>;      // Raft term
using Index = Number<struct IndexKind>;    // position in the log; the first entry has 1
using SessionId = Number<struct SessionIdKind>;  // index of the entry that opened the session
using Sequence = Number<struct SequenceKind>;    // number of a proposal in its session, from 1

// 128 random bits: names a cluster or a disk.
template <class Kind>
struct Uuid {
  std::array<uint8_t, 16> bytes{};

  constexpr auto operator<=>(const Uuid&) const = default;
  constexpr explicit operator bool() const { return *this != Uuid{}; }
  // 32 lower-case hexadecimal digits.
  std::string to_string() const {
    std::string text;
    for (uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
    return text;
  }
};
using ClusterId = Uuid<struct ClusterIdKind>;
using DiskId = Uuid<struct DiskIdKind>;

// Which Raft group a frame or a record belongs to. There is one today; others are refused.
inline constexpr uint32_t kGroup = 0;

}  // namespace connectd

template <class Kind>
struct std::hash<connectd::Number<Kind>> {
  size_t operator()(connectd::Number<Kind> n) const noexcept {
    return std::hash<uint64_t>{}(n.value());
  }
};

template <class Kind>
struct fmt::formatter<connectd::Number<Kind>> : fmt::formatter<uint64_t> {
  template <class Context>
  auto format(connectd::Number<Kind> n, Context& context) const {
    return fmt::formatter<uint64_t>::format(n.value(), context);
  }
};

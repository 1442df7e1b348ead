#include "number.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <vector>

namespace connectd::kv {
namespace {

__extension__ using Uint128 = unsigned __int128;

// ---- A natural number of any size, with just the operations needed here

class Natural {
 public:
  explicit Natural(uint64_t value = 0) {
    while (value != 0) {
      limbs_.push_back(static_cast<uint32_t>(value));
      value >>= 32;
    }
  }

  bool is_zero() const { return limbs_.empty(); }
  int bits() const {
    return limbs_.empty() ? 0
                          : static_cast<int>(limbs_.size() * 32) - std::countl_zero(limbs_.back());
  }

  // this * factor + addend
  void multiply_add(uint32_t factor, uint32_t addend) {
    uint64_t carry = addend;
    for (uint32_t& limb : limbs_) {
      carry += static_cast<uint64_t>(limb) * factor;
      limb = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    if (carry != 0) limbs_.push_back(static_cast<uint32_t>(carry));
  }

  void shift_left(int count) {
    if (is_zero() || count == 0) return;
    limbs_.insert(limbs_.begin(), static_cast<size_t>(count / 32), 0);
    if (count % 32 != 0) multiply_add(uint32_t{1} << (count % 32), 0);
  }

  void halve() {
    uint32_t carry = 0;
    for (size_t i = limbs_.size(); i-- > 0;) {
      uint32_t next = limbs_[i] << 31;
      limbs_[i] = (limbs_[i] >> 1) | carry;
      carry = next;
    }
    trim();
  }

  void add(const Natural& other) {
    limbs_.resize(std::max(limbs_.size(), other.limbs_.size()) + 1);
    uint64_t carry = 0;
    for (size_t i = 0; i < limbs_.size(); i++) {
      carry += uint64_t{limbs_[i]} + (i < other.limbs_.size() ? other.limbs_[i] : 0);
      limbs_[i] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    trim();
  }

  // other must not be larger.
  void subtract(const Natural& other) {
    int64_t borrow = 0;
    for (size_t i = 0; i < limbs_.size(); i++) {
      int64_t difference =
          int64_t{limbs_[i]} + borrow - (i < other.limbs_.size() ? int64_t{other.limbs_[i]} : 0);
      limbs_[i] = static_cast<uint32_t>(difference);
      borrow = difference < 0 ? -1 : 0;
    }
    trim();
  }

  bool less_than(const Natural& other) const {
    if (limbs_.size() != other.limbs_.size()) return limbs_.size() < other.limbs_.size();
    return std::lexicographical_compare(limbs_.rbegin(), limbs_.rend(), other.limbs_.rbegin(),
                                        other.limbs_.rend());
  }

  std::string decimal() const {
    constexpr uint32_t kChunk = 1'000'000'000;
    Natural rest = *this;
    std::string reversed;
    while (!rest.is_zero()) {
      uint64_t remainder = 0;
      for (size_t i = rest.limbs_.size(); i-- > 0;) {
        remainder = (remainder << 32) | rest.limbs_[i];
        rest.limbs_[i] = static_cast<uint32_t>(remainder / kChunk);
        remainder %= kChunk;
      }
      rest.trim();
      for (int digit = 0; digit < 9; digit++, remainder /= 10) {
        reversed += static_cast<char>('0' + remainder % 10);
      }
    }
    while (!reversed.empty() && reversed.back() == '0') reversed.pop_back();
    std::reverse(reversed.begin(), reversed.end());
    return reversed.empty() ? "0" : reversed;
  }

 private:
  void trim() {
    while (!limbs_.empty() && limbs_.back() == 0) limbs_.pop_back();
  }

  std::vector<uint32_t> limbs_;  // least significant first, no leading zeros
};

// ---- The 80-bit extended float

constexpr int kSignificandBits = 64;
constexpr int kExponentMin = -16445;  // of the significand's lowest bit, in subnormals
constexpr int kExponentMax = 16320;   // of the significand's lowest bit, in the largest numbers
// Decimal magnitudes (the exponent of the first digit) beyond which every number is too large, or
// rounds to zero.
constexpr int64_t kMagnitudeMax = 4940;
constexpr int64_t kMagnitudeMin = -4980;
constexpr int kFractionDigits = 17;
// What Redis reserves for the text of a number.
constexpr size_t kTextBytesMax = 5 * 1024;

// significand * 2^exponent
struct Float {
  bool negative = false;
  bool infinite = false;
  uint64_t significand = 0;
  int exponent = 0;
};

// numerator / denominator * 2^exponent, rounded to nearest, ties to even.
Float round_ratio(bool negative, Natural numerator, Natural denominator, int exponent) {
  Float result;
  result.negative = negative;
  if (numerator.is_zero()) return result;
  // Scaled so that the quotient has 66 or 67 bits: more than the significand. Further bits are
  // combined into one sticky bit.
  constexpr int kQuotientBits = kSignificandBits + 3;
  int shift = kQuotientBits - 1 - (numerator.bits() - denominator.bits());
  if (shift >= 0) {
    numerator.shift_left(shift);
  } else {
    denominator.shift_left(-shift);
  }
  denominator.shift_left(kQuotientBits);
  Uint128 quotient = 0;
  for (int bit = kQuotientBits; bit >= 0; bit--) {
    if (!numerator.less_than(denominator)) {
      numerator.subtract(denominator);
      quotient |= Uint128{1} << bit;
    }
    denominator.halve();
  }
  bool sticky = !numerator.is_zero();
  exponent -= shift;

  int bits = 0;
  while (quotient >> bits != 0) bits++;
  int drop = std::max(bits - kSignificandBits, kExponentMin - exponent);
  if (drop > 0) {
    if (drop > bits + 1) return result;  // less than half of the smallest number
    Uint128 half = Uint128{1} << (drop - 1);
    Uint128 lost = quotient & ((half << 1) - 1);
    quotient >>= drop;
    exponent += drop;
    if (lost > half || (lost == half && (sticky || (quotient & 1) != 0))) quotient++;
    if (quotient >> kSignificandBits != 0) {
      quotient >>= 1;
      exponent++;
    }
  }
  result.significand = static_cast<uint64_t>(quotient);
  result.exponent = exponent;
  result.infinite = exponent > kExponentMax;  // the significand is full: its 64th bit is set
  return result;
}

bool equal_ignoring_case(std::string_view text, std::string_view lower) {
  return text.size() == lower.size() &&
         std::equal(text.begin(), text.end(), lower.begin(), [](char a, char b) {
           return (a >= 'A' && a <= 'Z' ? static_cast<char>(a + 32) : a) == b;
         });
}

int digit_value(char c, int base) {
  int value = c >= '0' && c <= '9'   ? c - '0'
              : c >= 'a' && c <= 'f' ? c - 'a' + 10
              : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                     : base;
  return value < base ? value : -1;
}

// A sign and digits to the end of the text, held within bounds that no valid exponent reaches.
std::optional<int64_t> parse_exponent(std::string_view text) {
  constexpr int64_t kBound = 1'000'000;
  bool negative = !text.empty() && text.front() == '-';
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) text.remove_prefix(1);
  if (text.empty()) return std::nullopt;
  int64_t value = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = std::min(kBound, value * 10 + (c - '0'));
  }
  return negative ? -value : value;
}

std::optional<Float> parse_float(std::string_view text) {
  if (text.empty() || text.size() >= kTextBytesMax) return std::nullopt;
  bool negative = text.front() == '-';
  if (text.front() == '-' || text.front() == '+') text.remove_prefix(1);
  if (equal_ignoring_case(text, "inf") || equal_ignoring_case(text, "infinity")) {
    Float infinity;
    infinity.negative = negative;
    infinity.infinite = true;
    return infinity;
  }
  int base = 10;
  if (text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
    base = 16;
    text.remove_prefix(2);
  }

  Natural digits;
  int64_t significant = 0;  // digits from the first that is not zero
  int64_t scale = 0;        // digits after the point
  bool any = false, point = false;
  while (!text.empty()) {
    char c = text.front();
    if (c == '.' && !point) {
      point = true;
    } else if (int digit = digit_value(c, base); digit >= 0) {
      any = true;
      if (point) scale++;
      if (significant > 0 || digit != 0) {
        if (significant == 0) {
          digits = Natural(static_cast<uint64_t>(digit));
        } else {
          digits.multiply_add(static_cast<uint32_t>(base), static_cast<uint32_t>(digit));
        }
        significant++;
      }
    } else {
      break;
    }
    text.remove_prefix(1);
  }
  if (!any) return std::nullopt;
  int64_t exponent = 0;
  if (!text.empty()) {
    char mark = base == 16 ? 'p' : 'e';
    if (text.front() != mark && text.front() != mark - 32) return std::nullopt;
    auto parsed = parse_exponent(text.substr(1));
    if (!parsed) return std::nullopt;
    exponent = *parsed;
  }
  Float zero;
  zero.negative = negative;
  if (digits.is_zero()) return zero;

  Natural denominator(1);
  int64_t binary_exponent = 0;
  if (base == 16) {
    binary_exponent = exponent - 4 * scale;
    int64_t magnitude = binary_exponent + digits.bits();
    if (magnitude > kExponentMax + 2 * kSignificandBits || magnitude < kExponentMin - 2) {
      return std::nullopt;
    }
  } else {
    int64_t power = exponent - scale;
    int64_t magnitude = power + significant;
    if (magnitude > kMagnitudeMax || magnitude < kMagnitudeMin) return std::nullopt;
    Natural& target = power >= 0 ? digits : denominator;
    for (int64_t i = 0; i < std::abs(power); i++) target.multiply_add(10, 0);
  }
  Float result = round_ratio(negative, std::move(digits), std::move(denominator),
                             static_cast<int>(binary_exponent));
  if (result.infinite || result.significand == 0) return std::nullopt;
  return result;
}

// Two finite numbers.
Float add(const Float& a, const Float& b) {
  int exponent = std::min(a.exponent, b.exponent);
  Natural x(a.significand), y(b.significand);
  x.shift_left(a.exponent - exponent);
  y.shift_left(b.exponent - exponent);
  bool negative = a.negative;
  if (a.negative == b.negative) {
    x.add(y);
  } else if (x.less_than(y)) {
    y.subtract(x);
    x = std::move(y);
    negative = b.negative;
  } else {
    x.subtract(y);
  }
  return round_ratio(negative, std::move(x), Natural(1), exponent);
}

std::string format(const Float& value) {
  std::string digits;
  if (value.exponent >= 0) {
    Natural integer(value.significand);
    integer.shift_left(value.exponent);
    digits = integer.decimal() + std::string(kFractionDigits, '0');
  } else {
    // In units of the last digit written; 64 bits times 10^17 fit in 121.
    Uint128 scaled = Uint128{value.significand} * 100'000'000'000'000'000ull;
    int shift = -value.exponent;
    Uint128 units = shift < 128 ? scaled >> shift : 0;
    if (shift <= 122) {
      Uint128 half = Uint128{1} << (shift - 1);
      Uint128 lost = scaled & ((half << 1) - 1);
      if (lost > half || (lost == half && (units & 1) != 0)) units++;
    }
    for (; units != 0; units /= 10) digits += static_cast<char>('0' + static_cast<int>(units % 10));
    std::reverse(digits.begin(), digits.end());
    if (digits.size() <= kFractionDigits)
      digits.insert(0, kFractionDigits + 1 - digits.size(), '0');
  }
  std::string fraction = digits.substr(digits.size() - kFractionDigits);
  std::string text = digits.substr(0, digits.size() - kFractionDigits);
  while (!fraction.empty() && fraction.back() == '0') fraction.pop_back();
  if (!fraction.empty()) text += "." + fraction;
  if (value.negative && text != "0") text.insert(0, 1, '-');
  return text;
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text) {
  size_t first = !text.empty() && text[0] == '-' ? 1 : 0;
  if (text.size() == first) return std::nullopt;
  if (text[first] < '0' || text[first] > '9') return std::nullopt;
  if (text[first] == '0' && text.size() > 1) return std::nullopt;
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

FloatSum add_floats(std::string_view a, std::string_view b) {
  auto x = parse_float(a);
  auto y = parse_float(b);
  if (!x || !y) return {FloatSum::Outcome::kNotAFloat, {}};
  if (x->infinite || y->infinite) return {FloatSum::Outcome::kNotFinite, {}};
  Float sum = add(*x, *y);
  if (sum.infinite) return {FloatSum::Outcome::kNotFinite, {}};
  return {FloatSum::Outcome::kSum, format(sum)};
}

}  // namespace connectd::kv

#include "plugins/kv/number.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>

namespace connectd::kv {
namespace {

TEST(ParseInteger, TakesOnlyTheCanonicalForm) {
  EXPECT_EQ(parse_integer("0"), 0);
  EXPECT_EQ(parse_integer("-1"), -1);
  EXPECT_EQ(parse_integer("9223372036854775807"), INT64_MAX);
  EXPECT_EQ(parse_integer("-9223372036854775808"), INT64_MIN);
  for (const char* text : {"", "-", "+1", "01", "-0", "-01", " 1", "1 ", "1.0", "0x1",
                           "9223372036854775808", "-9223372036854775809", "1e3"}) {
    EXPECT_FALSE(parse_integer(text)) << text;
  }
  EXPECT_FALSE(parse_integer(std::string_view("1\0", 2)));
}

// The sums as a Redis 7.0 on x86-64 gives them.
TEST(AddFloats, GivesWhatRedisGives) {
  struct Case {
    const char *a, *b, *sum;
  };
  const Case cases[] = {
      {"10.50", "0.1", "10.6"},
      {"5.0e3", "2.0e2", "5200"},
      {"0.1", "0.2", "0.3"},
      {"3", "-3", "0"},
      {"0", "-0", "0"},
      {"-0", "-0", "0"},
      {"1e10", "0.1", "10000000000.09999999962747097"},
      {"9007199254740993", "0", "9007199254740993"},
      {"18446744073709551615", "0", "18446744073709551615"},
      {"36893488147419103233", "0", "36893488147419103232"},
      {"0x10", "0x1.8p3", "28"},
      {".5", "5.", "5.5"},
      {"+.5", "0", "0.5"},
      {"1e-17", "0", "0.00000000000000001"},
      {"4.9e-18", "0", "0"},
      {"1e-400", "0", "0"},
      {"-000.5", "0", "-0.5"},
      {"0e99999999999", "1", "1"},
  };
  for (const Case& c : cases) {
    FloatSum sum = add_floats(c.a, c.b);
    EXPECT_EQ(sum.outcome, FloatSum::Outcome::kSum) << c.a << " + " << c.b;
    EXPECT_EQ(sum.text, c.sum) << c.a << " + " << c.b;
  }
}

TEST(AddFloats, RefusesWhatRedisRefuses) {
  for (const char* text :
       {"",          " 1",        "1 ",        "abc",    ".",       "-",
        "1e",        "1e+",       "1..2",      "--1",    "0x",      "nan",
        "1f",        "1_0",       "infinit",   "1e5000", "1e-5000", "1e99999999999999999999",
        "1.19e4932", "0x1p16384", "0x1p-16446"}) {
    EXPECT_EQ(add_floats(text, "1").outcome, FloatSum::Outcome::kNotAFloat) << text;
    EXPECT_EQ(add_floats("1", text).outcome, FloatSum::Outcome::kNotAFloat) << text;
  }
  EXPECT_EQ(add_floats(std::string(5120, '1'), "1").outcome, FloatSum::Outcome::kNotAFloat);
  EXPECT_EQ(add_floats(std::string_view("1\0", 2), "1").outcome, FloatSum::Outcome::kNotAFloat);
  for (const char* text : {"inf", "-INF", "Infinity"}) {
    EXPECT_EQ(add_floats(text, "1").outcome, FloatSum::Outcome::kNotFinite) << text;
  }
  EXPECT_EQ(add_floats("1.1e4932", "1.1e4932").outcome, FloatSum::Outcome::kNotFinite);
}

std::string random_number(std::mt19937_64& random) {
  std::string text;
  if (random() % 2 == 0) text += '-';
  size_t digits = 1 + random() % (random() % 4 == 0 ? 60 : 12);
  size_t point = random() % 3 == 0 ? digits : random() % digits;
  for (size_t i = 0; i < digits; i++) {
    if (i == point) text += '.';
    text += static_cast<char>('0' + random() % 10);
  }
  if (random() % 3 == 0) text += "e" + std::to_string(static_cast<int>(random() % 200) - 100);
  if (random() % 50 == 0) text += "e" + std::to_string(static_cast<int>(random() % 12000) - 6000);
  return text;
}

// Where the CPU has that very format, it must agree in every bit of the text.
TEST(AddFloats, AgreesWithTheExtendedFloatOfTheCpu) {
  if constexpr (std::numeric_limits<long double>::digits != 64) {
    GTEST_SKIP() << "this CPU's long double is another format";
  }
  std::mt19937_64 random(7);
  int sums = 0;
  for (int i = 0; i < 50'000; i++) {
    std::string a = random_number(random), b = random_number(random);
    FloatSum sum = add_floats(a, b);
    if (sum.outcome != FloatSum::Outcome::kSum) continue;
    sums++;
    char text[6000];
    int size = std::snprintf(text, sizeof text, "%.17Lf",
                             std::strtold(a.c_str(), nullptr) + std::strtold(b.c_str(), nullptr));
    std::string expected(text, static_cast<size_t>(size));
    while (expected.back() == '0') expected.pop_back();
    if (expected.back() == '.') expected.pop_back();
    if (expected == "-0") expected = "0";
    ASSERT_EQ(sum.text, expected) << a << " + " << b;
  }
  EXPECT_GT(sums, 40'000);
}

}  // namespace
}  // namespace connectd::kv

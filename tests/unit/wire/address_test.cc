#include "wire/address.h"

#include <gtest/gtest.h>

namespace connectd::wire {
namespace {

TEST(Address, NamesAndBothKindsOfNumbers) {
  EXPECT_EQ(*parse_address("localhost:7101"), (Address{"localhost", 7101}));
  EXPECT_EQ(*parse_address("10.0.0.1:0"), (Address{"10.0.0.1", 0}));
  EXPECT_EQ(*parse_address("[::1]:65535"), (Address{"::1", 65535}));
  EXPECT_EQ((Address{"::1", 7}).to_string(), "[::1]:7");
  EXPECT_EQ((Address{"a.example", 7}).to_string(), "a.example:7");
}

TEST(Address, WhatIsNoneIsSaidSo) {
  for (const char* text : {"", "host", ":7101", "host:", "host:x", "host:70000", "host:-1", "::1:7",
                           "[]:7", "host:7 "}) {
    auto address = parse_address(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().code, ExitCode::kConfig);
    EXPECT_EQ(address.error().text.find(std::string("\"") + text + "\" is not an address: "), 0u);
  }
}

}  // namespace
}  // namespace connectd::wire

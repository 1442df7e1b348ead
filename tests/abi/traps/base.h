// What the traps derive from, so that each shows its one mistake and no more.
#pragma once
#include <connect/plugin.hpp>

namespace sdk = connectd::sdk;

struct Writes {
  void apply(const sdk::ApplyContext&, std::string_view, sdk::Reply&) {}
  void save(sdk::Writer&) const {}
  void load(sdk::Reader&) {}
};

struct Reads : Writes {
  sdk::Kind classify(std::string_view, sdk::Reply&) const { return sdk::Kind::kRead; }
  void read(const sdk::ReadContext&, std::string_view, sdk::Reply&) const {}
};

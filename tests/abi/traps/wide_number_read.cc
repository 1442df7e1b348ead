// Expected: no matching
// Standard: gnu++20
#include "base.h"

__extension__ typedef __int128 Wide;
struct Machine {
  void apply(const sdk::ApplyContext&, std::string_view, sdk::Reply&) {}
  void save(sdk::Writer&) const {}
  void load(sdk::Reader& reader) { sum = reader.number<Wide>(); }
  Wide sum = 0;
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1", .only_writes = true);

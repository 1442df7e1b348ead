// Expected: view does not fit. Expected, public: View view(), without arguments, which returns
// an object with a public member void save(sdk::Writer& out)
#include "base.h"

class Machine : public Reads {
 public:
  struct View {
    void save(sdk::Writer&) const {}
  };

 private:
  View view() { return {}; }
};
CONNECTD_PLUGIN(Machine, .name = "trap", .version = "1");

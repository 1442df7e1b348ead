// Expected: nothing
//
// Every form of a class that is right. Whatever the traps refuse, these must compile without a
// warning.
#include <functional>

#include "base.h"

namespace {

// All members, as the header shows them.
class Whole {
 public:
  class View {
   public:
    void save(sdk::Writer&) {}
  };
  explicit Whole(const sdk::Host&) {}
  sdk::Kind classify(std::string_view, sdk::Reply&) const { return sdk::Kind::kRead; }
  void read(const sdk::ReadContext&, std::string_view, sdk::Reply&) const {}
  void apply(const sdk::ApplyContext&, std::string_view, sdk::Reply&) {}
  void save(sdk::Writer&) const {}
  void load(sdk::Reader&) {}
  int64_t next_deadline() const { return INT64_MAX; }
  void on_tick(const sdk::ApplyContext&) {}
  View view() { return {}; }
};

// The same, final, with a status as result, and everything that a call does not notice.
class Final final {
 public:
  struct View {
    View() = default;
    View(const View&) = delete;
    View& operator=(const View&) = delete;
    void save(sdk::Writer&) const noexcept {}
    std::unique_ptr<int> owned{};
  };
  Final(sdk::Host host, int = 0) : host_(host) {}
  Final(const Final&) = delete;
  Final& operator=(const Final&) = delete;
  static sdk::Kind classify(std::string_view, sdk::Reply&) noexcept { return sdk::Kind::kRead; }
  int32_t read(const sdk::ReadContext&, std::string_view, sdk::Reply&) const { return 0; }
  int32_t apply(sdk::ApplyContext, const std::string_view&, sdk::Reply) { return 0; }
  void save(auto& out) const { out.template number<int>(1); }
  void load(auto&& in) { in.template number<int>(); }
  long long next_deadline() const noexcept { return INT64_MAX; }
  int32_t on_tick(sdk::ApplyContext) { return 0; }
  View view() const { return {}; }

 private:
  sdk::Host host_;
};

// Inherited, with overloads that have another purpose, and a virtual function.
struct Overloaded : Reads {
  using Reads::apply;
  using Reads::read;
  virtual ~Overloaded() = default;
  void read() {}
  void read(const sdk::ReadContext&, std::string_view) {}
  int apply(std::string_view) { return 0; }
  virtual int64_t next_deadline() const { return INT64_MAX; }
  void on_tick(const sdk::ApplyContext&) {}
  void on_tick(int) {}
};
struct FinalOverloaded final : Overloaded {
  int64_t next_deadline() const override { return 0; }
};

// A function object, and names that only resemble ours.
struct Lookalike : Writes {
  std::function<sdk::Kind(std::string_view, sdk::Reply&)> classify;
  std::function<int32_t(const sdk::ReadContext&, std::string_view, sdk::Reply&)> read;
  struct view {};
  int Read = 0, on_Tick = 0, view_ = 0, deadline = 0;
  explicit Lookalike(bool = false) {}
};

constexpr connectd_plugin kPlugins[] = {
    sdk::make_plugin<Whole>({.name = "whole", .version = "1"}),
    sdk::make_plugin<Final>({.name = "final", .version = "1"}),
    sdk::make_plugin<Overloaded>({.name = "overloaded", .version = "1"}),
    sdk::make_plugin<FinalOverloaded>({.name = "final-overloaded", .version = "1"}),
    sdk::make_plugin<Lookalike>({.name = "lookalike", .version = "1"}),
    sdk::make_plugin<Writes, true>({.name = "writes", .version = "1"}),
};
// What is there is called.
static_assert(kPlugins[0].read == sdk::Boundary<Whole>::read);
static_assert(kPlugins[3].classify == sdk::Boundary<FinalOverloaded>::classify);
static_assert(sdk::Boundary<Whole>::kTimers && sdk::Boundary<Final>::kTimers);
static_assert(sdk::Boundary<Overloaded>::kTimers && sdk::Boundary<FinalOverloaded>::kTimers);
static_assert(sdk::Boundary<Whole>::kViews && sdk::Boundary<Final>::kViews);
static_assert(!sdk::Boundary<Lookalike>::kTimers && !sdk::Boundary<Lookalike>::kViews);
static_assert(kPlugins[5].read == nullptr && !sdk::Boundary<Writes>::kTimers);

struct OnlyWrites : Writes {};

}  // namespace

CONNECTD_PLUGIN(OnlyWrites, .name = "sound", .version = "1", .flags = CONNECTD_F_CANONICAL_SNAPSHOT,
                .only_writes = true);

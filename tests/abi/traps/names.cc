// Expected: nothing
//
// Finding a member by its name, for each name and each kind of class and member.
#include "base.h"

// How a class can have a member called NAME. The last column of each table says if it counts.
#define TRAPS_OF(NAME)                                                                            \
  namespace traps_##NAME {                                                                        \
    struct Nothing {};                                                                            \
    struct FinalNothing final {};                                                                 \
    struct Longer {                                                                               \
      void NAME##_() {}                                                                           \
      int my_##NAME = 0;                                                                          \
    };                                                                                            \
    struct FinalLonger final : Longer {};                                                         \
    struct Type {                                                                                 \
      struct NAME {};                                                                             \
    };                                                                                            \
    struct FinalType final : Type {};                                                             \
                                                                                                  \
    struct Function {                                                                             \
      void NAME(int) {}                                                                           \
    };                                                                                            \
    struct Const {                                                                                \
      void NAME() const {}                                                                        \
    };                                                                                            \
    struct Static {                                                                               \
      static void NAME() {}                                                                       \
    };                                                                                            \
    struct Virtual {                                                                              \
      virtual ~Virtual() = default;                                                               \
      virtual int NAME() = 0;                                                                     \
    };                                                                                            \
    struct Deleted {                                                                              \
      void NAME() = delete;                                                                       \
    };                                                                                            \
    struct Data {                                                                                 \
      int NAME = 0;                                                                               \
    };                                                                                            \
    struct Overloaded {                                                                           \
      void NAME(int) {}                                                                           \
      void NAME(long) {}                                                                          \
      void NAME(int*) const {}                                                                    \
    };                                                                                            \
    struct Template {                                                                             \
      template <class T>                                                                          \
      void NAME(T*) {}                                                                            \
    };                                                                                            \
    class Private {                                                                               \
      [[maybe_unused]] void NAME(int) {}                                                          \
    };                                                                                            \
    class PrivateOverloaded {                                                                     \
      [[maybe_unused]] void NAME(int) {}                                                          \
      [[maybe_unused]] void NAME(long) {}                                                         \
    };                                                                                            \
    struct Protected {                                                                            \
     protected:                                                                                   \
      void NAME(int) {}                                                                           \
    };                                                                                            \
    struct Inherited : Overloaded {};                                                             \
    class InheritedPrivately : Function {};                                                       \
    struct InheritedTwice : Function, Const {};                                                   \
    struct InheritedVirtually : virtual Function {};                                              \
                                                                                                  \
    struct FinalFunction final : Function {};                                                     \
    struct FinalStatic final : Static {};                                                         \
    struct FinalData final : Data {};                                                             \
    struct FinalOverloaded final : Overloaded {};                                                 \
    struct FinalTemplate final : Template {};                                                     \
    struct FinalPrivateOverloaded final : PrivateOverloaded {};                                   \
    struct FinalOwn final {                                                                       \
      void NAME(int) {}                                                                           \
      void NAME(long) {}                                                                          \
    };                                                                                            \
    class FinalPrivate final {                                                                    \
      [[maybe_unused]] void NAME(int) {}                                                          \
    };                                                                                            \
                                                                                                  \
    template <class... Machines>                                                                  \
    constexpr int found = (0 + ... + int{connectd::sdk::members::has_##NAME<Machines>()});        \
    static_assert(found<Nothing, FinalNothing, Longer, FinalLonger, Type, FinalType> == 0);       \
    static_assert(found<Function, Const, Static, Virtual, Deleted, Data, Overloaded> == 7);       \
    static_assert(found<Template, Private, PrivateOverloaded, Protected> == 4);                   \
    static_assert(found<Inherited, InheritedPrivately, InheritedTwice, InheritedVirtually> == 4); \
    static_assert(found<FinalFunction, FinalStatic, FinalData, FinalOverloaded, FinalTemplate> == \
                  5);                                                                             \
    static_assert(found<FinalPrivateOverloaded, FinalOwn> == 2);                                  \
    static_assert(found<FinalPrivate> == kFinalPrivate);                                          \
  }

// What plugin.hpp says that it cannot see.
#ifdef __clang__
constexpr int kFinalPrivate = 0;
#else
constexpr int kFinalPrivate = 1;
#endif

TRAPS_OF(classify)
TRAPS_OF(read)
TRAPS_OF(apply)
TRAPS_OF(save)
TRAPS_OF(load)
TRAPS_OF(next_deadline)
TRAPS_OF(on_tick)
TRAPS_OF(view)

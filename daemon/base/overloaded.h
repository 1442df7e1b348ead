// One visitor of several lambdas: std::visit(Overloaded{[](A&) {...}, [](B&) {...}}, variant).
#pragma once

namespace connectd {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

}  // namespace connectd

// The switch of the mutants: one of them is on in a process, or none.
#pragma once

#include <cstdlib>

namespace connectd::mutants {

// Its place in the catalogue, from 1 on. A test program is told by its environment.
inline int selected = [] {
  const char* text = std::getenv("CONNECTD_MUTANT");
  return text == nullptr ? 0 : std::atoi(text);
}();

inline bool is_on(int number) { return selected == number; }

}  // namespace connectd::mutants

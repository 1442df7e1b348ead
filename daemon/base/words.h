// Lists of known words in error texts, and the known word that a misspelt one stands for. Pure
// functions; any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace connectd {

// The edit distance: insertions, deletions, replacements and swaps of neighbours.
size_t edit_distance(std::string_view from, std::string_view to);
// The nearest of `known` if it is near enough to be a typing error; else empty.
std::string_view nearest(std::string_view word, const std::vector<std::string_view>& known);
// "a, b or c"
std::string joined(const std::vector<std::string_view>& words);

}  // namespace connectd

#include "config/diagnostics.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace connectd::config {
namespace {

constexpr size_t kMaxShownLine = 200;  // of a source line; the rest is cut

size_t columns_of(std::string_view utf8) {
  return static_cast<size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

}  // namespace

Diagnostics::Diagnostics(std::string file, std::string_view source) : file_(std::move(file)) {
  while (!source.empty()) {
    size_t end = std::min(source.find('\n'), source.size());
    std::string_view line = source.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines_.emplace_back(line);
    source.remove_prefix(std::min(end + 1, source.size()));
  }
}

void Diagnostics::error(const Place& place, std::string text) {
  all_.push_back({true, place, std::move(text), {}, {}});
  ++errors_;
}

void Diagnostics::error(const Place& place, std::string text, const Place& note_place,
                        std::string note) {
  all_.push_back({true, place, std::move(text), note_place, std::move(note)});
  ++errors_;
}

void Diagnostics::warning(const Place& place, std::string text) {
  all_.push_back({false, place, std::move(text), {}, {}});
}

std::string Diagnostics::locate(const Place& place) const {
  switch (place.kind) {
    case Place::Kind::kFile:
      if (place.at.line == 0) return file_;
      return fmt::format("{}:{}:{}", file_, place.at.line, place.at.column);
    case Place::Kind::kSet:
    case Place::Kind::kOption:
      return place.label;
    case Place::Kind::kDefault:
      break;
  }
  return file_.empty() ? "connectd" : file_;
}

std::string Diagnostics::render_one(const Place& place, std::string_view what,
                                    std::string_view text) const {
  std::string out = fmt::format("{}: {}: {}\n", locate(place), what, text);
  bool has_line = place.kind == Place::Kind::kFile && place.at.line > 0 &&
                  static_cast<size_t>(place.at.line) <= lines_.size();
  if (!has_line) return out;
  std::string_view line = lines_[static_cast<size_t>(place.at.line) - 1];
  std::string_view shown = line.substr(0, kMaxShownLine);
  size_t column = static_cast<size_t>(std::max(place.at.column, 1)) - 1;  // in bytes
  out += fmt::format("{:>5} | {}\n", place.at.line, shown);
  if (column > shown.size()) return out;
  // Tabs stay tabs, so that the caret is below its token for any tab width.
  std::string pad;
  for (char c : shown.substr(0, column)) {
    if (c == '\t') {
      pad += '\t';
    } else if ((static_cast<unsigned char>(c) & 0xc0) != 0x80) {
      pad += ' ';
    }
  }
  size_t length = std::min(place.length, shown.size() - column);
  size_t wide = std::max<size_t>(columns_of(shown.substr(column, length)), 1);
  out += fmt::format("      | {}^{}\n", pad, std::string(wide - 1, '~'));
  return out;
}

std::string Diagnostics::render() const {
  std::vector<const Item*> order;
  for (const Item& item : all_) order.push_back(&item);
  auto rank = [](const Item* item) {
    bool in_file = item->place.kind == Place::Kind::kFile && item->place.at.line > 0;
    return in_file ? std::tuple(0, item->place.at.line, item->place.at.column)
                   : std::tuple(1, 0, 0);
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](const Item* a, const Item* b) { return rank(a) < rank(b); });
  std::string out;
  for (const Item* item : order) {
    out += render_one(item->place, item->is_error ? "error" : "warning", item->text);
    if (!item->note.empty()) out += render_one(item->note_place, "note", item->note);
  }
  if (errors_ > 0) {
    out += fmt::format("{}: {} error{}.\n", file_.empty() ? "connectd" : file_, errors_,
                       errors_ == 1 ? "" : "s");
  }
  return out;
}

}  // namespace connectd::config

#include "node/membership/change_outcome.h"

#include <algorithm>

namespace connectd::node {
namespace {

constexpr size_t kMaxName = 64;
constexpr size_t kMaxText = 4096;

constexpr bool rows_are_in_order() {
  for (size_t i = 0; i < kChangeCodes.size(); ++i) {
    if (static_cast<size_t>(kChangeCodes[i].code) != i) return false;
  }
  return static_cast<size_t>(ChangeCode::kTimeout) + 1 == kChangeCodes.size();
}
static_assert(rows_are_in_order(), "change_code_row() finds a row by its place");

}  // namespace

ChangeCode change_code_of(std::string_view name) {
  auto row = std::ranges::find(kChangeCodes, name, &ChangeCodeRow::name);
  return row == kChangeCodes.end() || name.empty() ? ChangeCode::kRefused : row->code;
}

std::string ChangeOutcome::encode() const {
  std::string bytes;
  ByteWriter out(bytes);
  out.number<uint8_t>(done() ? 1 : 0);
  out.number<uint64_t>(index.value());
  out.counted(change_code_name(code));
  // A text may list all members.
  out.counted(std::string_view(text).substr(0, kMaxText));
  return bytes;
}

Result<ChangeOutcome> ChangeOutcome::decode(ByteView bytes) {
  ByteReader in(bytes);
  ChangeOutcome outcome;
  const bool done = in.number<uint8_t>() != 0;
  outcome.index = Index(in.number<uint64_t>());
  const std::string_view name = in.counted(kMaxName);
  outcome.code = done ? ChangeCode::kDone : change_code_of(name);
  outcome.text = in.counted(kMaxText);
  if (!in.done()) return failure(ErrorKind::kMalformed, "invalid outcome");
  return outcome;
}

}  // namespace connectd::node

// Shared by the tests of the log: entries made from a number, and a model to compare with.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "sim/faulty_file_system.h"
#include "storage/log.h"

namespace connectd::storage {

inline raft::Entry make_entry(uint64_t index, uint64_t term, size_t bytes = 16,
                              raft::EntryKind kind = raft::EntryKind::kCommand) {
  raft::Entry entry;
  entry.index = Index(index);
  entry.term = Term(term);
  entry.kind = kind;
  entry.session = SessionId(7);
  entry.sequence = Sequence(index);
  entry.stamp_ns = static_cast<int64_t>(index * 1000 + term);
  std::string payload = fmt::format("{}/{}:", index, term);
  payload.resize(bytes, static_cast<char>('a' + (index + term) % 26));
  entry.payload = Slice::copy_of(payload);
  entry.checksum = raft::entry_checksum(entry);
  return entry;
}

inline std::vector<raft::Entry> make_entries(uint64_t first, uint64_t count, uint64_t term,
                                             size_t bytes = 16) {
  std::vector<raft::Entry> entries;
  for (uint64_t i = 0; i < count; ++i) entries.push_back(make_entry(first + i, term, bytes));
  return entries;
}

inline bool same(const raft::Entry& a, const raft::Entry& b) {
  return a.index == b.index && a.term == b.term && a.kind == b.kind && a.session == b.session &&
         a.sequence == b.sequence && a.stamp_ns == b.stamp_ns && a.checksum == b.checksum &&
         a.payload.text() == b.payload.text();
}

// What a log must hold: entries from `first`, and the hard state.
struct Model {
  raft::HardState hard_state;
  Index first{1};
  std::vector<raft::Entry> entries;

  Index last() const { return first + entries.size() - 1; }
  void apply(const LogBatch& batch) {
    hard_state = batch.hard_state;
    if (batch.replaces_from && *batch.replaces_from <= last()) {
      if (*batch.replaces_from < first) {
        first = *batch.replaces_from;
        entries.clear();
      }
      entries.resize(*batch.replaces_from - first);
    }
    entries.insert(entries.end(), batch.entries.begin(), batch.entries.end());
  }
  Term term_of(Index index) const { return entries[index - first].term; }
};

// Everything in `log` is what the model says, read in pieces of `max_bytes`. The log's front may be
// shorter than the model's.
inline ::testing::AssertionResult holds(const Log& log, const Model& model,
                                        size_t max_bytes = 1 << 20) {
  if (log.last_index() != model.last()) {
    return ::testing::AssertionFailure()
           << "last index " << log.last_index().value() << ", not " << model.last().value();
  }
  Index next = log.first_index();
  while (next <= model.last()) {
    auto entries = log.read(next, model.last() + 1, max_bytes);
    if (!entries) return ::testing::AssertionFailure() << entries.error().text;
    if (entries->empty()) return ::testing::AssertionFailure() << "nothing at " << next.value();
    for (const raft::Entry& entry : *entries) {
      if (next < model.first || next > model.last() ||
          !same(entry, model.entries[next - model.first])) {
        return ::testing::AssertionFailure()
               << "entry " << next.value() << " is another: " << entry.index.value() << "/"
               << entry.term.value();
      }
      ++next;
    }
  }
  return ::testing::AssertionSuccess();
}

inline ::testing::AssertionResult agrees(const Recovered& recovered, const Model& model) {
  if (!(recovered.hard_state == model.hard_state)) {
    return ::testing::AssertionFailure()
           << "hard state " << recovered.hard_state.term.value() << "/"
           << recovered.hard_state.vote.value() << "/" << recovered.hard_state.commit.value()
           << ", not " << model.hard_state.term.value() << "/" << model.hard_state.vote.value()
           << "/" << model.hard_state.commit.value();
  }
  if (recovered.last_index != model.last()) {
    return ::testing::AssertionFailure()
           << "last index " << recovered.last_index.value() << ", not " << model.last().value();
  }
  std::vector<raft::TermRun> runs;
  for (Index i = recovered.first_index; i <= model.last(); ++i) {
    if (runs.empty() || runs.back().term != model.term_of(i)) runs.push_back({i, model.term_of(i)});
  }
  if (runs != recovered.terms) return ::testing::AssertionFailure() << "other terms";
  if (recovered.first_index > model.first &&
      recovered.before_first_term != model.term_of(recovered.first_index - 1)) {
    return ::testing::AssertionFailure() << "another term before the first entry";
  }
  if (recovered.first_index <= model.last() &&
      recovered.last_stamp_ns != model.entries.back().stamp_ns) {
    return ::testing::AssertionFailure() << "another last stamp";
  }
  return ::testing::AssertionSuccess();
}

inline const std::string kDirectory = "/data/log";

}  // namespace connectd::storage

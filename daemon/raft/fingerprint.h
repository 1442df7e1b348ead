// The state of a core, a message or a batch as bytes: states with equal bytes behave equally from
// then on. Searches use it to recognize a state that they reach by another path (tests/search).
//
// Left out, because it has no effect where the host's clock only moves to timeouts: times and
// random draws; stamps, wall clocks and checksums; the numbers of batches (only their order counts)
// and of rounds (they confirm reads and the check of the quorum). A core with a read, a transfer or
// a load in progress therefore has no fingerprint: CHECK.
//
// `name` renames nodes: two states that differ only by a renaming have equal bytes under it.
// Whatever is ordered by node is written in the order of the new names. Owner: tests, any thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "raft/core.h"

namespace connectd::raft {

class Fingerprint final {
 public:
  using Name = std::function<NodeId(NodeId)>;
  Fingerprint(std::string& out, const Name& name) : out_(out), name_(name) {}

  // Right after take_ready().
  void add(const Core& core);
  void add(const Envelope& envelope);
  void add(const AppendBatch& batch);
  void add(const HardState& hard_state);
  void add(const Entry& entry);
  void add(uint64_t number);
  void add(NodeId id);

 private:
  void add_followers(const Leader* leader);
  void add_unordered(std::vector<std::string> parts);
  template <class Kind>
  void add(Number<Kind> number) {
    add(number.value());
  }

  std::string& out_;
  const Name& name_;
};

}  // namespace connectd::raft

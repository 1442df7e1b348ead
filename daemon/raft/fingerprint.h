// What a core, a message or a batch is, as bytes: equal bytes mean that the same happens from here
// on. For searches that must know a state again when they come to it by another way (tests/search).
//
// Left out, because it decides nothing where the host's clock stands still but for the moment of a
// timeout: times and what is drawn from the seed; stamps, wall clocks and checksums; the numbers of
// batches (only their order counts) and of rounds (they confirm reads and the check of the quorum).
// So a core in which a read, a transfer or a load is under way has no fingerprint: CHECK.
//
// `name` renames nodes: two states that differ by a renaming only have equal bytes under it.
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
  void add_unordered(std::vector<std::string> parts);
  template <class Kind>
  void add(Number<Kind> number) {
    add(number.value());
  }

  std::string& out_;
  const Name& name_;
};

}  // namespace connectd::raft

// Models of state machines for the linearizability search: a state is a byte string, equal bytes
// are equal states, and a step returns the possible next states.
//
// A model follows the documentation of its plugin, not its code. It may allow more than the plugin
// does where only the log has the answer (when a key expires), but never less: it accepts every
// history of a correct cluster.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "sim/history.h"

namespace connectd::sim {

// What one operation of a history does.
class Effect {
 public:
  virtual ~Effect() = default;
  struct Next {
    std::string state;
    // False: a write of unknown outcome may take effect again, which is cheaper for the search than
    // recording which one did. It allows more histories, never fewer.
    bool uses_it_up = true;
  };
  // Appends each state that may follow `state` when the operation takes effect on it, with the
  // reply that its client saw (any reply, when its outcome is unknown). No state: it cannot take
  // effect here. For a read: `state` itself, or a state that it may become without a write.
  virtual void step(std::string_view state, std::vector<Next>& next) const = 0;
};

class Model {
 public:
  struct Item {
    size_t operation = 0;  // in the history
    std::unique_ptr<Effect> effect;
    // Writes of unknown outcome with equal names here do the same to every state.
    std::string same_as;
  };
  // Operations on keys that no operation of the history connects can be searched apart: a history
  // is linearizable exactly when each part of it is (Herlihy and Wing, theorem 1). The theorem is
  // about real time. The order of one connection is checked within each part; across parts only
  // real time is, so a violation between pipelined operations of two parts goes unnoticed.
  struct Part {
    std::string name;
    std::string initial;
    std::vector<Item> items;  // in the order of the history; irrelevant ones are left out
  };

  virtual ~Model() = default;
  // kUsage when the history has a request that the model does not know.
  virtual Result<std::vector<Part>> split(const History& history) const = 0;
};

// The model of a plugin in this repository, with its default options; null: there is none.
std::unique_ptr<Model> make_model(std::string_view plugin_name);

// plugins/counter. One part.
class CounterModel final : public Model {
 public:
  explicit CounterModel(uint64_t start = 0) : start_(start) {}
  Result<std::vector<Part>> split(const History& history) const override;

 private:
  uint64_t start_;
};

// tests/plugins/chain.c. One part. The state depends on the index of each write, so this model uses
// the index in the reply. After a write of unknown outcome, whose index is unknown, the state is
// open until the next reply shows it.
class ChainModel final : public Model {
 public:
  Result<std::vector<Part>> split(const History& history) const override;
};

// plugins/kv: the commands of one key and of several that workloads use (see models.cc), one
// command a request.
//
// A key with a time to live may expire at any later moment, and then stays gone: only the log has
// the time.
class KvModel final : public Model {
 public:
  enum class Keys {
    // A part is a set of keys that commands on several keys connect; DBSIZE and FLUSHALL connect
    // all.
    kApart,
    // One part: finds every violation, at the highest cost.
    kTogether,
    // Every key is a part: commands on several keys are split, and their effect on each key is
    // checked alone; DBSIZE is ignored, FLUSHALL is unknown. All values that a write of unknown
    // outcome made and no reply shows count as equal, whatever their length: with hundreds of
    // unknown writes, the other two modes would never finish.
    kEach,
  };
  explicit KvModel(Keys keys = Keys::kApart) : keys_(keys) {}
  Result<std::vector<Part>> split(const History& history) const override;

 private:
  Keys keys_;
};

}  // namespace connectd::sim

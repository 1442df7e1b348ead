// What a state machine does, in a form that the search for a linearization can run: states are
// bytes, equal bytes are equal states, and a step tells the states that may follow.
//
// A model is written from the documentation of its plugin, not from its code, and may allow more
// than the plugin does where the log is needed to know better (when a key expires). It never allows
// less: a history that a correct cluster can show is never refused.
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
    // False: a write of unknown outcome may do this again, which costs the search less than to note
    // which one it was. It allows more, never less.
    bool uses_it_up = true;
  };
  // Appends each state that may follow `state` when the operation takes effect on it, with the
  // reply that its client saw (any reply, when its outcome is unknown). Nothing: it cannot take
  // effect here. For a read: `state` itself, or what `state` may become by itself at any time.
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
  // is linearizable exactly when each part of it is (Herlihy and Wing, theorem 1). That is about
  // real time. The order of one connection is kept within each part, and across parts only as far
  // as it is real time: among operations that were pipelined, a violation across parts is not seen.
  struct Part {
    std::string name;
    std::string initial;
    std::vector<Item> items;  // in the order of the history; those that say nothing are left out
  };

  virtual ~Model() = default;
  // kUsage when the history has a request that the model does not know.
  virtual Result<std::vector<Part>> split(const History& history) const = 0;
};

// The model of a plugin of this repository, with its default options; nullptr: there is none.
std::unique_ptr<Model> make_model(std::string_view plugin_name);

// plugins/counter. One part.
class CounterModel final : public Model {
 public:
  explicit CounterModel(uint64_t start = 0) : start_(start) {}
  Result<std::vector<Part>> split(const History& history) const override;

 private:
  uint64_t start_;
};

// tests/plugins/chain.c. One part. The state depends on the index of each write, so this model
// looks at the index that came with the reply. After a write of unknown outcome, whose index nobody
// was told, the state is open until the next reply tells it.
class ChainModel final : public Model {
 public:
  Result<std::vector<Part>> split(const History& history) const override;
};

// plugins/kv: the commands of one key and of several that workloads use (see models.cc), one
// command a request.
//
// A key that was set with a time to live may be gone at any later moment, and then stays gone: only
// the log knows when.
class KvModel final : public Model {
 public:
  enum class Keys {
    // A part is a set of keys that commands on several keys connect; DBSIZE and FLUSHALL connect
    // all.
    kApart,
    // One part: misses nothing, and costs the most.
    kTogether,
    // Every key is a part: commands on several keys are cut up, and only what they say of each key
    // is checked; DBSIZE says nothing, FLUSHALL is not known. And a value that a write of unknown
    // outcome made and that no reply shows is like any other such, whatever its length: with
    // hundreds of unknown writes the other two are not finished in any time.
    kEach,
  };
  explicit KvModel(Keys keys = Keys::kApart) : keys_(keys) {}
  Result<std::vector<Part>> split(const History& history) const override;

 private:
  Keys keys_;
};

}  // namespace connectd::sim

#include "sim/index_witness.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "base/checksum.h"
#include "base/log.h"
#include "node/apply/applier.h"
#include "sim/describe.h"
#include "sim/linearizability.h"

namespace connectd::sim {
namespace {

class Witness {
 public:
  Witness(const History& history, const WitnessLog& log) : history_(history), log_(log) {
    for (size_t i = 0; i < log.size(); ++i) {
      CHECK_EQ(log[i].entry.index.value(), i + 1) << "the log of a run begins at 1, without gaps";
    }
  }

  std::vector<BrokenRule> check(Replayer& replayer) {
    look_at_labels();
    look_at_numbers();
    look_at_order();
    replay(replayer);
    std::ranges::sort(broken_, {}, &BrokenRule::rule);
    return std::move(broken_);
  }

 private:
  // How often a request was called, and how often it is in the log.
  struct Count {
    size_t acknowledged = 0, unknown = 0, refused = 0, applied = 0;
    const Operation* called = nullptr;  // the last call
    Index index;                        // the last in the log
    size_t possible() const { return acknowledged + unknown; }
  };

  void broken(WitnessRule rule, std::string text) {
    if (std::ranges::find(broken_, rule, &BrokenRule::rule) != broken_.end()) return;
    broken_.push_back({rule, fmt::format("{}: {}", rule_name(rule), text)});
  }
  static bool is_ok(const Operation& operation) { return operation.outcome == OutcomeKind::kOk; }
  // Answers of classify look at no state, and carry no index.
  static bool has_place(const Operation& operation) {
    return is_ok(operation) && (operation.is_write || operation.index);
  }
  bool is_in_log(Index index) const { return index && index.value() <= log_.size(); }
  const WitnessEntry& at(Index index) const { return log_[index.value() - 1]; }

  void look_at_labels() {
    std::vector<const Operation*> owner(log_.size() + 1, nullptr);
    for (const Operation& operation : history_) {
      if (!has_place(operation)) continue;
      if (!is_in_log(operation.index)) {
        broken(WitnessRule::kLabel,
               fmt::format("{}; the log ends at {}", describe(operation), log_.size()));
        continue;
      }
      if (!operation.is_write) continue;
      if (const Operation* other = std::exchange(owner[operation.index.value()], &operation)) {
        broken(WitnessRule::kDistinct,
               fmt::format("{} and {}", describe(*other), describe(operation)));
      }
      const WitnessEntry& entry = at(operation.index);
      if (!entry.is_applied || entry.entry.payload.text() != operation.request) {
        broken(WitnessRule::kOwnEntry, fmt::format("{}; the log has {}{}", describe(operation),
                                                   quoted(entry.entry.payload.text()),
                                                   entry.is_applied ? "" : ", not applied"));
      }
    }
  }

  void look_at_numbers() {
    for (const Operation& operation : history_) {
      if (!operation.is_write) continue;
      Count& count = counts_[operation.request];
      count.called = &operation;
      switch (operation.outcome) {
        case OutcomeKind::kOk:
          ++count.acknowledged;
          break;
        case OutcomeKind::kUnknown:
          ++count.unknown;
          break;
        case OutcomeKind::kRefused:
          ++count.refused;
          break;
      }
    }
    for (const WitnessEntry& entry : log_) {
      if (!entry.is_applied) continue;
      Index index = entry.entry.index;
      Count& count = counts_[entry.entry.payload.text()];
      Index before = std::exchange(count.index, index);
      if (++count.applied <= count.possible()) continue;
      if (count.called == nullptr) {
        broken(WitnessRule::kAskedFor, fmt::format("{} is applied at index {}, no client called it",
                                                   quoted(entry.entry.payload.text()), index));
      } else if (count.possible() == 0) {
        broken(WitnessRule::kRefused,
               fmt::format("{}, and is applied at index {}", describe(*count.called), index));
      } else {
        broken(WitnessRule::kOnce, fmt::format("{}; it is applied at index {} and again at {}",
                                               describe(*count.called), before, index));
      }
    }
  }

  // Calls and returns in their order; at each call, what was answered before it.
  void look_at_order() {
    struct Moment {
      uint64_t order;
      bool is_call;
      const Operation* operation;
    };
    std::vector<Moment> moments;
    moments.reserve(2 * history_.size());
    for (const Operation& operation : history_) {
      if (operation.is_stale) continue;  // its bounds were looked at when it was answered
      if (has_place(operation)) {
        moments.push_back({operation.call_order, true, &operation});
        moments.push_back({operation.return_order, false, &operation});
      } else if (operation.is_write && operation.outcome == OutcomeKind::kUnknown) {
        moments.push_back({operation.call_order, true, &operation});
      }
    }
    std::ranges::sort(moments, {}, &Moment::order);
    struct Connection {
      const Operation* write = nullptr;  // those called so far with the highest index
      const Operation* read = nullptr;
    };
    std::unordered_map<uint64_t, Connection> connections;
    const Operation* latest = nullptr;  // returned so far, with the highest index
    auto later = [](const Operation* a, const Operation* b) {
      return a == nullptr || b->index > a->index ? b : a;
    };
    for (const Moment& moment : moments) {
      const Operation& operation = *moment.operation;
      if (!moment.is_call) {
        latest = later(latest, &operation);
        continue;
      }
      Connection& own = connections[operation.client];
      if (!is_ok(operation)) {
        look_at_unknown(operation, {latest, own.write, own.read});
        continue;
      }
      look_at_pair(WitnessRule::kRealTime, latest, operation);
      if (operation.is_write) {
        look_at_pair(WitnessRule::kPipeline, own.write, operation);
        look_at_pair(WitnessRule::kWriteAfterRead, own.read, operation);
        own.write = later(own.write, &operation);
      } else {
        look_at_pair(WitnessRule::kPipeline, own.read, operation);
        look_at_pair(WitnessRule::kReadAfterWrite, own.write, operation);
        own.read = later(own.read, &operation);
      }
    }
  }

  // A write has an index of its own, a read may see the same as the one before.
  void look_at_pair(WitnessRule rule, const Operation* before, const Operation& after) {
    if (before == nullptr) return;
    bool holds = after.is_write ? after.index > before->index : after.index >= before->index;
    if (!holds) broken(rule, fmt::format("{}, then {}", describe(*before), describe(after)));
  }

  void look_at_unknown(const Operation& operation,
                       std::initializer_list<const Operation*> answered_before) {
    const Count& count = counts_[operation.request];
    if (count.possible() != 1 || count.refused != 0 || count.applied == 0) return;
    for (const Operation* before : answered_before) {
      if (before == nullptr || count.index > before->index) continue;
      broken(WitnessRule::kUnknownInTime,
             fmt::format("{}, then {}, applied at index {}", describe(*before), describe(operation),
                         count.index));
    }
  }

  void replay(Replayer& replayer) {
    std::vector<const Operation*> by_index;
    for (const Operation& operation : history_) {
      if (has_place(operation) && is_in_log(operation.index)) by_index.push_back(&operation);
    }
    std::ranges::stable_sort(by_index, {},
                             [](const Operation* o) { return std::pair(o->index, !o->is_write); });
    auto next = by_index.begin();
    for (const WitnessEntry& entry : log_) {
      auto applied = replayer.apply(entry);
      if (!applied) {
        return broken(WitnessRule::kReplay,
                      fmt::format("index {}: {}", entry.entry.index, applied.error().text));
      }
      for (; next != by_index.end() && (*next)->index == entry.entry.index; ++next) {
        const Operation& operation = **next;
        // Of another request, or not applied: kOwnEntry has said it.
        bool is_own = entry.is_applied && entry.entry.payload.text() == operation.request;
        if (operation.is_write && !is_own) continue;
        auto answer = operation.is_write ? applied : replayer.read(entry, operation.request);
        if (!answer) {
          return broken(WitnessRule::kReplay,
                        fmt::format("{}: {}", describe(operation), answer.error().text));
        }
        if (answer->changed_state) {
          broken(WitnessRule::kReadOnly,
                 fmt::format("{} changes the state of the plugin", describe(operation)));
        }
        if (answer->status == operation.status && answer->reply == operation.reply) continue;
        broken(operation.is_write ? WitnessRule::kReplayedWrite : WitnessRule::kReplayedRead,
               fmt::format("{} (status {}); the log says {} (status {})", describe(operation),
                           operation.status, quoted(answer->reply), answer->status));
      }
    }
  }

  const History& history_;
  const WitnessLog& log_;
  std::unordered_map<std::string_view, Count> counts_;
  std::vector<BrokenRule> broken_;
};

}  // namespace

const char* rule_name(WitnessRule rule) {
  switch (rule) {
    case WitnessRule::kLabel:
      return "labelled reply";
    case WitnessRule::kDistinct:
      return "distinct indexes";
    case WitnessRule::kOwnEntry:
      return "acknowledged write in the log";
    case WitnessRule::kOnce:
      return "exactly once";
    case WitnessRule::kRefused:
      return "refused means no effect";
    case WitnessRule::kAskedFor:
      return "asked for";
    case WitnessRule::kUnknownInTime:
      return "unknown write after its call";
    case WitnessRule::kRealTime:
      return "real time";
    case WitnessRule::kReadAfterWrite:
      return "read after write";
    case WitnessRule::kWriteAfterRead:
      return "write after read";
    case WitnessRule::kPipeline:
      return "program order";
    case WitnessRule::kReadOnly:
      return "a read changes nothing";
    case WitnessRule::kReplayedWrite:
      return "reply of the write";
    case WitnessRule::kReplayedRead:
      return "reply of the read";
    case WitnessRule::kReplay:
      return "replay";
  }
  return "";
}

PluginReplayer::PluginReplayer(std::unique_ptr<plugin::Instance> instance,
                               const node::Genesis& genesis)
    : instance_(std::move(instance)),
      genesis_(genesis),
      compares_states_(instance_->plugin().has_flag(CONNECTD_F_CANONICAL_SNAPSHOT)) {}

Result<std::unique_ptr<PluginReplayer>> PluginReplayer::make(
    std::shared_ptr<const plugin::Plugin> plugin, const node::Genesis& genesis) {
  auto instance = plugin::Instance::create(
      std::move(plugin), {genesis.plugin_options.begin(), genesis.plugin_options.end()}, "replay");
  if (!instance) return failure(instance.error());
  return std::unique_ptr<PluginReplayer>(new PluginReplayer(std::move(*instance), genesis));
}

Result<Replayer::Answer> PluginReplayer::apply(const WitnessEntry& entry) {
  Answer answer;
  state_.reset();
  const raft::Entry& e = entry.entry;
  const auto context = node::apply_context(e, genesis_.cluster_id, genesis_.plugin_level);
  if (entry.is_applied) {
    auto status = instance_->apply(context, e.payload.view(), answer.reply);
    if (!status) return failure(status.error());
    answer.status = *status;
  } else if (e.kind == raft::EntryKind::kTick && instance_->has_timers()) {
    auto done = instance_->on_tick(context);
    if (!done) return failure(done.error());
  }
  return answer;
}

Result<Replayer::Answer> PluginReplayer::read(const WitnessEntry& last,
                                              const std::string& request) {
  plugin::ReadContext context;
  context.applied_index = last.entry.index;
  context.applied_time_ns = context.now_ns = last.entry.stamp_ns;
  context.level = genesis_.plugin_level;
  if (!state_) {
    auto before = state_after(last);
    if (!before) return failure(before.error());
    state_ = *before;
  }
  std::string reply_of_classify;
  if (auto kind = instance_->classify(as_bytes(request), reply_of_classify); !kind) {
    return failure(kind.error());
  }
  Answer answer;
  auto status = instance_->read(context, as_bytes(request), answer.reply);
  if (!status) return failure(status.error());
  answer.status = *status;
  if (!state_) return answer;
  auto after = state_after(last);
  if (!after) return failure(after.error());
  answer.changed_state = *after && *after != state_;
  state_ = *after;
  return answer;
}

Result<std::optional<uint64_t>> PluginReplayer::state_after(const WitnessEntry& last) {
  if (!compares_states_) return std::nullopt;
  plugin::SnapshotContext context;
  context.index = last.entry.index;
  context.term = last.entry.term;
  context.time_ns = last.entry.stamp_ns;
  context.level = genesis_.plugin_level;
  Checksum64 sum;
  auto written = instance_->snapshot(context, [&](ByteView part) -> Result<void> {
    compared_bytes_ += part.size();
    compares_states_ = compared_bytes_ <= kComparedBytesMax;
    if (!compares_states_) return failure(ErrorKind::kCancelled, "enough was compared");
    sum.add(part);
    return {};
  });
  if (!compares_states_) return std::nullopt;
  if (!written) return failure(written.error());
  return sum.value();
}

std::vector<BrokenRule> check_index_witness(const History& history, const WitnessLog& log,
                                            Replayer& replayer) {
  return Witness(history, log).check(replayer);
}

}  // namespace connectd::sim

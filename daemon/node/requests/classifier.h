// Whether a request is a read or a write: what the holder asks of the state machine.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "plugin/instance.h"

namespace connectd::node {

using RequestKind = plugin::RequestKind;
struct Classified {
  RequestKind kind = RequestKind::kReject;
  bool plugin_failed = false;  // answered outside the contract: PLUGIN
  std::string reply;           // for kReject and kReply
};

// Loop thread.
class Classifier {
 public:
  virtual Classified classify(ByteView request) = 0;

 protected:
  ~Classifier() = default;
};

// Asks the plugin, beside the apply thread.
class PluginClassifier final : public Classifier {
 public:
  explicit PluginClassifier(std::shared_ptr<plugin::Instance> instance)
      : instance_(std::move(instance)) {}

  // A snapshot took the state's place: between two turns, so that no call is in progress.
  // Returns the old one: its end may take long.
  std::shared_ptr<plugin::Instance> replace(std::shared_ptr<plugin::Instance> instance) {
    return std::exchange(instance_, std::move(instance));
  }

  const plugin::Instance& instance() const { return *instance_; }

  Classified classify(ByteView request) override {
    Classified classified;
    auto kind = instance_->classify(request, classified.reply);
    if (kind) {
      classified.kind = *kind;
    } else {
      classified.plugin_failed = true;
      classified.reply = kind.error().text;
    }
    return classified;
  }

 private:
  std::shared_ptr<plugin::Instance> instance_;
};

}  // namespace connectd::node

// A fake node that answers at once, or when the test tells it to.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "node/service.h"

namespace connectd::client {

class FakeService final : public node::Service {
 public:
  class Stream final : public node::RequestStream {
   public:
    int resumed = 0;
    Stream(FakeService& service, node::ReplyHandler& handler)
        : service_(service), handler_(handler) {
      service_.streams.push_back(this);
    }
    ~Stream() override { std::erase(service_.streams, this); }

    void submit(ByteView request, const node::ReadOptions&) override {
      EXPECT_FALSE(is_replying_) << "submitted from inside on_reply()";
      EXPECT_LE(request.size(), service_.limit);
      waiting_.emplace_back(as_text(request));
      bytes_ += request.size();
      service_.submitted++;
      service_.pending_max = std::max(service_.pending_max, waiting_.size());
      service_.pending_bytes_max = std::max(service_.pending_bytes_max, bytes_);
      if (service_.is_immediate) deliver(1);
    }
    void set_rights(node::Rights) override {}
    void resume() override {
      EXPECT_FALSE(is_replying_) << "resumed from inside on_reply()";
      resumed++;
    }
    size_t pending() const override { return waiting_.size(); }
    size_t pending_bytes() const override { return bytes_; }

    void deliver(size_t count) {
      count = std::min(count, waiting_.size());
      if (count == 0) return;
      is_replying_ = true;
      for (size_t i = 0; i < count; i++) {
        std::string request = std::move(waiting_.front());
        waiting_.pop_front();
        bytes_ -= request.size();
        std::string bytes;
        node::Reply reply = service_.answer(request, bytes);
        reply.bytes = as_bytes(bytes);
        handler_.on_reply(reply);
        handler_.is_congested();  // as the holder asks before it starts the next one
      }
      is_replying_ = false;
      handler_.on_replies_end();  // may destroy this
    }

   private:
    FakeService& service_;
    node::ReplyHandler& handler_;
    std::deque<std::string> waiting_;
    size_t bytes_ = 0;
    bool is_replying_ = false;
  };

  std::unique_ptr<node::RequestStream> open_stream(node::ReplyHandler& handler) override {
    return std::make_unique<Stream>(*this, handler);
  }
  node::Framing framing() const override { return declared; }
  size_t max_request() const override { return limit; }

  void deliver_all(size_t count = SIZE_MAX) {
    for (Stream* stream : std::vector<Stream*>(streams)) {
      if (std::ranges::find(streams, stream) != streams.end()) stream->deliver(count);
    }
  }

  node::Framing declared = node::Framing::kLine;
  size_t limit = size_t{1} << 20;
  bool is_immediate = true;
  // By default: the request, and a line end.
  std::function<node::Reply(const std::string& request, std::string& bytes)> answer =
      [](const std::string& request, std::string& bytes) {
        bytes = request + "\n";
        return node::Reply{};
      };
  std::vector<Stream*> streams;  // in the order in which they were opened
  size_t submitted = 0;
  size_t pending_max = 0;
  size_t pending_bytes_max = 0;
};

}  // namespace connectd::client

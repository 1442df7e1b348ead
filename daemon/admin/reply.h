// The way back for the answer to one request: at once, or when another thread has it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "admin/http_message.h"
#include "admin/shares.h"
#include "base/clock.h"

namespace connectd::admin {

// Sees the answer to a request, whether or not its client still waits for it. Destroyed without:
// the request had none. The answer on the server's thread, the end on any.
class AnswerObserver {
 public:
  virtual ~AnswerObserver() = default;
  // Again when an answer is late: the first was that it is.
  virtual void on_answer(const Response& response) = 0;
};

// Copies are for the same request; its first answer counts, later ones go nowhere. A request whose
// replies are all gone without an answer has its connection closed. On the server's thread, but for
// what later() gives.
class Reply final {
 public:
  // What a connection does for its replies. On the server's thread, but for poster().
  class Connection {
   public:
    // Sends it, unless `request` was answered.
    virtual void answer(uint64_t request, Response response) = 0;
    // Keeps the connection open for so long; then answers `late()`, unless `request` was answered.
    virtual void set_deadline(uint64_t request, Duration limit, std::function<Response()> late) = 0;
    // A function for any thread: what it is given runs on the server's thread. It may be called
    // when the server is gone; what it was given does not run then.
    virtual std::function<void(std::function<void()>)> poster() = 0;
    // Keeps the place until the answer to `request` is sent, or the connection ends.
    virtual void hold(uint64_t request, Shares::Place place) = 0;

   protected:
    ~Connection() = default;
  };

  Reply(std::shared_ptr<Connection> connection, uint64_t request)
      : connection_(std::move(connection)), request_(request) {}

  void hold(Shares::Place place) const { connection_->hold(request_, std::move(place)); }
  void send(Response response) const {
    if (observer_ != nullptr) observer_->on_answer(response);
    connection_->answer(request_, std::move(response));
  }
  // The same, seen by `observer`; null: by nobody.
  Reply observed_by(std::shared_ptr<AnswerObserver> observer) const {
    Reply reply = *this;
    reply.observer_ = std::move(observer);
    return reply;
  }

  // For answers that another thread makes: the function may be called there, once, or dropped, also
  // when the connection or the server is gone. After `limit` the request is answered `late`.
  // `respond` runs on the server's thread.
  template <class Result>
  std::function<void(Result)> later(Duration limit, Result late,
                                    std::function<Response(Result)> respond) const {
    connection_->set_deadline(request_, limit,
                              [late = std::move(late), respond, observer = observer_]() mutable {
                                Response response = respond(std::move(late));
                                if (observer != nullptr) observer->on_answer(response);
                                return response;
                              });
    // Whoever has the function may hold it for long: it keeps no connection open.
    return [post = connection_->poster(), weak = std::weak_ptr(connection_), request = request_,
            respond = std::move(respond), observer = observer_](Result result) {
      post([weak, request, respond, observer, result = std::move(result)]() mutable {
        auto open = weak.lock();
        if (open == nullptr && observer == nullptr) return;
        Response response = respond(std::move(result));
        if (observer != nullptr) observer->on_answer(response);
        if (open != nullptr) open->answer(request, std::move(response));
      });
    };
  }

 private:
  std::shared_ptr<Connection> connection_;
  uint64_t request_;
  std::shared_ptr<AnswerObserver> observer_;
};

}  // namespace connectd::admin

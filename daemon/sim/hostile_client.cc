#include "sim/hostile_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace connectd::sim {
namespace {

std::string bulk(std::string_view text) { return fmt::format("${}\r\n{}\r\n", text.size(), text); }

std::string set_of(uint64_t number) {
  return "*3\r\n" + bulk("SET") + bulk("k0") + bulk(fmt::format("evil{}", number));
}

std::string random_bytes(Random& random) {
  std::string bytes;
  // Without the end of a line, so that it is no request by chance.
  for (size_t left = random.between(1, 300); left > 0; --left) {
    const auto byte = static_cast<char>(random.below(256));
    if (byte != '\n') bytes += byte;
  }
  return bytes;
}

const char* http_line(Random& random) {
  constexpr const char* kLines[] = {"POST / HTTP/1.1\r\n", "GET /a?b HTTP/1.0\r\n",
                                    "OPTIONS * HTTP/1.1\r\n", "Host: db1:7201\r\n"};
  return kLines[random.below(std::size(kLines))];
}

HostileBytes hostile_resp(uint64_t number, Random& random) {
  const std::string set = set_of(number);
  switch (random.below(7)) {
    case 0:
      return {std::string(http_line(random)) + "\r\n" + set, true};
    case 1:
      return {"MULTI\r\n" + set + set + "EXEC\r\n"};
    case 2:
      return {"*1\r\n" + bulk("MULTI") + set};
    case 3:
      return {set.substr(0, random.between(1, set.size() - 1))};
    case 4:
      return {"*0" + set.substr(1), true};
    case 5:
      return {"*3\r\n$0" + set.substr(set.find('$') + 1), true};
    default:
      return {"*3\r\n" + bulk("SET") + random_bytes(random)};
  }
}

HostileBytes hostile_lines(uint64_t number, Random& random) {
  const std::string incr = fmt::format("incr {}\nadd {}\n", number, number);
  switch (random.below(3)) {
    case 0:
      return {std::string(http_line(random)) + "\r\n" + incr, true};
    case 1:
      return {incr.substr(0, random.between(1, incr.find('\n')))};
    default:
      return {random_bytes(random)};
  }
}

// "GET " is a length of 542,393,671.
HostileBytes hostile_lengths(Random& random) {
  return {std::string(http_line(random)) + random_bytes(random), true};
}

}  // namespace

HostileBytes hostile_bytes(node::Framing framing, uint64_t number, Random& random) {
  switch (framing) {
    case node::Framing::kResp:
      return hostile_resp(number, random);
    case node::Framing::kLine:
      return hostile_lines(number, random);
    case node::Framing::kLength:
      return hostile_lengths(random);
  }
  return {};
}

HostileClient::HostileClient(node::Service& node, const client::ClientPortOptions& options,
                             HostileBytes bytes, Random& random, const Timeline& timeline)
    : hostile_(std::move(bytes)),
      left_(hostile_.bytes),
      random_(random),
      timeline_(timeline),
      shared_{.options = options, .service = node} {
  conversation_.emplace(shared_, static_cast<client::ConversationDriver&>(*this), steady_now());
  turn();
}

HostileClient::~HostileClient() {
  if (!is_closed_) close();
}

std::string HostileClient::complaint() const {
  if (!hostile_.must_close || shared_.counters.bad_frames > 0) return {};
  return fmt::format("hostile bytes: the client port does not end the connection of {}",
                     hostile_.bytes.substr(0, hostile_.bytes.find('\r')));
}

void HostileClient::turn() {
  if (is_in_turn_ || is_closed_) return;
  is_in_turn_ = true;
  while (step()) {
  }
  is_in_turn_ = false;
}

bool HostileClient::step() {
  conversation_->begin_turn();
  const client::Conversation::Wants wants = conversation_->next();
  if (wants.close) {
    close();
    return false;
  }
  if (wants.shut_down) {
    conversation_->was_shut_down(steady_now());
    return true;
  }
  if (wants.send) {
    send();
    return true;
  }
  if (wants.again) return true;
  if (wants.read) space_ = conversation_->begin_read();
  if (space_.empty()) return false;
  if (left_.empty()) {
    space_ = {};
    conversation_->end_of_input();
    return true;
  }
  const size_t bytes = std::min(space_.size(), random_.between(1, left_.size()));
  std::memcpy(std::exchange(space_, {}).data(), left_.data(), bytes);
  left_.erase(0, bytes);
  conversation_->received(bytes, steady_now());
  return true;
}

void HostileClient::send() {
  has_error_ |= !conversation_->output().empty();
  conversation_->sent(conversation_->output().size());
}

void HostileClient::close() {
  is_closed_ = true;
  conversation_->close();
}

}  // namespace connectd::sim

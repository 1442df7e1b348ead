#include "engine.h"

namespace connectd::kv {
namespace {

using Kind = Command::Kind;
using Step = RequestReader::Step;

// The command of these words, or nullptr after an error reply.
const Command* find_or_reply(const Arguments& arguments, Reply& reply) {
  const Command* command = find_command(arguments[0]);
  if (command == nullptr) {
    reply_unknown_command(arguments, reply);
    return nullptr;
  }
  if (!command->fits(arguments.size())) {
    reply_wrong_arity(command->name, reply);
    return nullptr;
  }
  return command;
}

constexpr const char* kEmptyRequest = "ERR Protocol error: empty request";

}  // namespace

RequestKind Engine::classify(std::string_view request, const Output& output) {
  Reply reply(output);
  Arguments arguments;
  RequestReader reader(request);
  Step step = reader.next(arguments);
  if (step == Step::kCommand && !reader.at_end()) {
    // As Redis queues them: with one that cannot be queued, none is executed. apply() still answers
    // each such command with an error, for the entries of older logs.
    while (step == Step::kCommand) {
      if (find_or_reply(arguments, reply) == nullptr) return RequestKind::kReject;
      step = reader.next(arguments);
    }
    if (step == Step::kEnd) return RequestKind::kWrite;
  }
  if (step != Step::kCommand) {
    reply.error(step == Step::kEnd ? kEmptyRequest : reader.what());
    return RequestKind::kReject;
  }
  const Command* command = find_or_reply(arguments, reply);
  if (command == nullptr) return RequestKind::kReject;
  switch (command->kind) {
    case Kind::kWrite:
      return RequestKind::kWrite;
    case Kind::kRead:
      return RequestKind::kRead;
    case Kind::kLocal:
      return RequestKind::kReadLocal;
    case Kind::kConnection:
      break;
  }
  command->connection({arguments, reply, true});
  return RequestKind::kReply;
}

int32_t Engine::read(std::string_view request, int64_t now_ms, int64_t report_ms,
                     const Output& output) const {
  Reply reply(output);
  Arguments arguments;
  RequestReader reader(request);
  Step step = reader.next(arguments);
  if (step != Step::kCommand || !reader.at_end()) {
    reply.error(step == Step::kMalformed ? reader.what()
                                         : "ERR a read is exactly one command; this is not one");
    return kStatusError;
  }
  const Command* command = find_or_reply(arguments, reply);
  if (command == nullptr) return kStatusError;
  switch (command->kind) {
    case Kind::kRead:
    case Kind::kLocal:
      command->read({store_, now_ms, report_ms, arguments, reply});
      break;
    case Kind::kConnection:
      command->connection({arguments, reply});
      break;
    case Kind::kWrite:
      reply.error("ERR this command is a write, and was sent as a read");
      break;
  }
  return reply.has_error() ? kStatusError : kStatusOk;
}

int32_t Engine::apply(std::string_view request, int64_t now_ms, const Output& output) {
  Reply reply(output);
  Arguments arguments;
  RequestReader reader(request);
  Step step = reader.next(arguments);
  if (step == Step::kCommand && reader.at_end()) {
    execute(arguments, now_ms, reply);
    return reply.has_error() ? kStatusError : kStatusOk;
  }
  size_t count = 0;
  for (; step == Step::kCommand; count++) step = reader.next(arguments);
  if (step == Step::kMalformed || count == 0) {
    reply.error(step == Step::kMalformed ? reader.what() : kEmptyRequest);
    return kStatusError;
  }
  reply.array(count);
  RequestReader again(request);
  while (again.next(arguments) == Step::kCommand) execute(arguments, now_ms, reply);
  return reply.has_error() ? kStatusError : kStatusOk;
}

void Engine::execute(const Arguments& arguments, int64_t now_ms, Reply& reply) {
  const Command* command = find_or_reply(arguments, reply);
  if (command == nullptr) return;
  switch (command->kind) {
    case Kind::kWrite:
      if (command->grows && limits_.memory_bytes != 0 && store_.weight() > limits_.memory_bytes) {
        return reply.error("OOM command not allowed when used memory > 'maxmemory'.");
      }
      command->write({store_, limits_, now_ms, arguments, reply});
      break;
    case Kind::kRead:
    case Kind::kLocal:
      command->read({store_, now_ms, now_ms, arguments, reply});
      break;
    case Kind::kConnection:
      command->connection({arguments, reply});
      break;
  }
}

}  // namespace connectd::kv

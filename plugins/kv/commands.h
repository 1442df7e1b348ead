// The commands: one table has name, arity, kind, function, and the data that COMMAND reports.
//
// A command is of one of four kinds, by which function it has:
//   write       changes the store
//   read        looks at the store
//   local       looks at the store; the present state of any replica is good enough
//   connection  depends only on its arguments, and is answered without the store
// Every function writes exactly one reply, errors included, with the texts of Redis 7.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "resp.h"
#include "store.h"

namespace connectd::kv {

// Limits of the state; the same on all replicas.
struct Limits {
  // Under the longest reply a plugin may give (64 MiB): what can be stored can be read.
  uint64_t value_bytes = uint64_t{63} << 20;
  uint64_t memory_bytes = 0;  // of Store::weight(); 0 for no limit
};

struct WriteCall {
  Store& store;
  const Limits& limits;
  int64_t now_ms;
  const Arguments& arguments;
  Reply& reply;
};

struct ReadCall {
  const Store& store;
  int64_t now_ms;     // keys with an earlier expiry are expired
  int64_t report_ms;  // only to report the remaining time
  const Arguments& arguments;
  Reply& reply;
};

struct ConnectionCall {
  const Arguments& arguments;
  Reply& reply;
  // HELLO may agree on version 3. Not in an entry: older builds have answered NOPROTO there.
  bool may_agree = false;
};

struct Command {
  enum class Kind { kWrite, kRead, kLocal, kConnection };

  std::string_view name;  // lower case
  int arity;              // with the name; negative: at least this many
  Kind kind;
  union {
    void (*write)(const WriteCall&);
    void (*read)(const ReadCall&);
    void (*connection)(const ConnectionCall&);
  };
  // It may enlarge the state, so it is refused at the memory limit.
  bool grows;
  // Which arguments are keys: first, last (negative: from the end), step.
  int first_key, last_key, key_step;
  std::string_view group, since, summary;

  bool fits(size_t argument_count) const {
    return arity >= 0 ? argument_count == static_cast<size_t>(arity)
                      : argument_count >= static_cast<size_t>(-arity);
  }
};

// All commands, by name.
std::span<const Command> all_commands();
// Upper and lower case are the same. nullptr for an unknown one.
const Command* find_command(std::string_view name);

void reply_unknown_command(const Arguments& arguments, Reply& reply);
void reply_wrong_arity(std::string_view full_name, Reply& reply);

constexpr std::string_view kSyntaxError = "ERR syntax error";
constexpr std::string_view kNotAnInteger = "ERR value is not an integer or out of range";

bool same_word(std::string_view text, std::string_view lower_case);

// string_commands.cc
namespace strings {
void append(const WriteCall&);
void compare_and_set(const WriteCall&);
void decr(const WriteCall&);
void decrby(const WriteCall&);
void get(const ReadCall&);
void getdel(const WriteCall&);
void getex(const WriteCall&);
void getrange(const ReadCall&);
void getset(const WriteCall&);
void incr(const WriteCall&);
void incrby(const WriteCall&);
void incrbyfloat(const WriteCall&);
void mget(const ReadCall&);
void mset(const WriteCall&);
void msetnx(const WriteCall&);
void psetex(const WriteCall&);
void set(const WriteCall&);
void setex(const WriteCall&);
void setnx(const WriteCall&);
void setrange(const WriteCall&);
void strlen(const ReadCall&);
}  // namespace strings

// key_commands.cc
namespace keys {
void dbsize(const ReadCall&);
void del(const WriteCall&);
void exists(const ReadCall&);
void expire(const WriteCall&);
void expireat(const WriteCall&);
void expiretime(const ReadCall&);
void flush(const WriteCall&);
void persist(const WriteCall&);
void pexpire(const WriteCall&);
void pexpireat(const WriteCall&);
void pexpiretime(const ReadCall&);
void pttl(const ReadCall&);
void ttl(const ReadCall&);
void type(const ReadCall&);
}  // namespace keys

// connection_commands.cc
namespace connection {
void auth(const ConnectionCall&);
void client(const ConnectionCall&);
void command(const ConnectionCall&);
void config(const ConnectionCall&);
void echo(const ConnectionCall&);
void hello(const ConnectionCall&);
void info(const ReadCall&);
void ping(const ConnectionCall&);
void select(const ConnectionCall&);
}  // namespace connection

}  // namespace connectd::kv

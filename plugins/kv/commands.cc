#include "commands.h"

#include <algorithm>
#include <string>

namespace connectd::kv {
namespace {

using Kind = Command::Kind;

struct Keys {
  int first = 0, last = 0, step = 0;
};
constexpr Keys kNoKeys{};
constexpr Keys kOneKey{1, 1, 1};
constexpr Keys kAllKeys{1, -1, 1};
constexpr Keys kPairs{1, -1, 2};

constexpr Command base(std::string_view name, int arity, Kind kind, Keys keys,
                       std::string_view group, std::string_view since, std::string_view summary) {
  return {.name = name,
          .arity = arity,
          .kind = kind,
          .write = nullptr,
          .grows = false,
          .first_key = keys.first,
          .last_key = keys.last,
          .key_step = keys.step,
          .group = group,
          .since = since,
          .summary = summary};
}

constexpr bool kGrows = true;
constexpr bool kDoesNotGrow = false;

constexpr Command write(std::string_view name, int arity, void (*function)(const WriteCall&),
                        bool grows, Keys keys, std::string_view group, std::string_view since,
                        std::string_view summary) {
  Command command = base(name, arity, Kind::kWrite, keys, group, since, summary);
  command.write = function;
  command.grows = grows;
  return command;
}

constexpr Command read(std::string_view name, int arity, void (*function)(const ReadCall&),
                       Keys keys, std::string_view group, std::string_view since,
                       std::string_view summary) {
  Command command = base(name, arity, Kind::kRead, keys, group, since, summary);
  command.read = function;
  return command;
}

constexpr Command local(std::string_view name, int arity, void (*function)(const ReadCall&),
                        std::string_view group, std::string_view since, std::string_view summary) {
  Command command = base(name, arity, Kind::kLocal, kNoKeys, group, since, summary);
  command.read = function;
  return command;
}

constexpr Command reply(std::string_view name, int arity, void (*function)(const ConnectionCall&),
                        std::string_view group, std::string_view since, std::string_view summary) {
  Command command = base(name, arity, Kind::kConnection, kNoKeys, group, since, summary);
  command.connection = function;
  return command;
}

// clang-format off
constexpr Command kCommands[] = {
    write("append", 3, strings::append, kGrows, kOneKey, "string", "2.0.0", "Appends a string to the value of a key"),
    reply("auth", -2, connection::auth, "connection", "1.0.0", "Authenticates the connection"),
    write("cas", 4, strings::compare_and_set, kGrows, kOneKey, "string", "7.0.0", "Sets a key to a new value if it has the old one (only in connectd)"),
    reply("client", -2, connection::client, "connection", "2.4.0", "Names the connection"),
    reply("command", -1, connection::command, "server", "2.8.13", "Tells about the commands"),
    reply("config", -2, connection::config, "server", "2.0.0", "Tells the settings that clients ask for"),
    read("dbsize", 1, keys::dbsize, kNoKeys, "server", "1.0.0", "Returns the number of keys"),
    write("decr", 2, strings::decr, kGrows, kOneKey, "string", "1.0.0", "Decrements the integer value of a key by one"),
    write("decrby", 3, strings::decrby, kGrows, kOneKey, "string", "1.0.0", "Decrements the integer value of a key by a number"),
    write("del", -2, keys::del, kDoesNotGrow, kAllKeys, "generic", "1.0.0", "Deletes keys"),
    reply("echo", 2, connection::echo, "connection", "1.0.0", "Returns the given string"),
    read("exists", -2, keys::exists, kAllKeys, "generic", "1.0.0", "Counts those of the given keys that exist"),
    write("expire", -3, keys::expire, kDoesNotGrow, kOneKey, "generic", "1.0.0", "Sets a key's time to live in seconds"),
    write("expireat", -3, keys::expireat, kDoesNotGrow, kOneKey, "generic", "1.2.0", "Sets a key's expiry as a Unix time in seconds"),
    read("expiretime", 2, keys::expiretime, kOneKey, "generic", "7.0.0", "Returns a key's expiry as a Unix time in seconds"),
    write("flushall", -1, keys::flush, kDoesNotGrow, kNoKeys, "server", "1.0.0", "Removes all keys"),
    write("flushdb", -1, keys::flush, kDoesNotGrow, kNoKeys, "server", "1.0.0", "Removes all keys"),
    read("get", 2, strings::get, kOneKey, "string", "1.0.0", "Returns the value of a key"),
    write("getdel", 2, strings::getdel, kDoesNotGrow, kOneKey, "string", "6.2.0", "Returns the value of a key and deletes it"),
    write("getex", -2, strings::getex, kDoesNotGrow, kOneKey, "string", "6.2.0", "Returns the value of a key and sets its expiry"),
    read("getrange", 4, strings::getrange, kOneKey, "string", "2.4.0", "Returns a part of the value of a key"),
    write("getset", 3, strings::getset, kGrows, kOneKey, "string", "1.0.0", "Sets a key and returns its old value"),
    reply("hello", -1, connection::hello, "connection", "6.0.0", "Agrees on the protocol's version"),
    write("incr", 2, strings::incr, kGrows, kOneKey, "string", "1.0.0", "Increments the integer value of a key by one"),
    write("incrby", 3, strings::incrby, kGrows, kOneKey, "string", "1.0.0", "Increments the integer value of a key by a number"),
    write("incrbyfloat", 3, strings::incrbyfloat, kGrows, kOneKey, "string", "2.6.0", "Increments the floating point value of a key by a number"),
    local("info", -1, connection::info, "server", "1.0.0", "Returns figures about the store"),
    read("mget", -2, strings::mget, kAllKeys, "string", "1.0.0", "Returns the values of keys"),
    write("mset", -3, strings::mset, kGrows, kPairs, "string", "1.0.1", "Sets keys"),
    write("msetnx", -3, strings::msetnx, kGrows, kPairs, "string", "1.0.1", "Sets keys if none of them exists"),
    write("persist", 2, keys::persist, kDoesNotGrow, kOneKey, "generic", "2.2.0", "Removes a key's expiry"),
    write("pexpire", -3, keys::pexpire, kDoesNotGrow, kOneKey, "generic", "2.6.0", "Sets a key's time to live in milliseconds"),
    write("pexpireat", -3, keys::pexpireat, kDoesNotGrow, kOneKey, "generic", "2.6.0", "Sets a key's expiry as a Unix time in milliseconds"),
    read("pexpiretime", 2, keys::pexpiretime, kOneKey, "generic", "7.0.0", "Returns a key's expiry as a Unix time in milliseconds"),
    reply("ping", -1, connection::ping, "connection", "1.0.0", "Asks for a sign of life"),
    write("psetex", 4, strings::psetex, kGrows, kOneKey, "string", "2.6.0", "Sets a key and its time to live in milliseconds"),
    read("pttl", 2, keys::pttl, kOneKey, "generic", "2.6.0", "Returns a key's time to live in milliseconds"),
    reply("select", 2, connection::select, "connection", "1.0.0", "Selects the database, of which there is one"),
    write("set", -3, strings::set, kGrows, kOneKey, "string", "1.0.0", "Sets a key"),
    write("setex", 4, strings::setex, kGrows, kOneKey, "string", "2.0.0", "Sets a key and its time to live in seconds"),
    write("setnx", 3, strings::setnx, kGrows, kOneKey, "string", "1.0.0", "Sets a key if it does not exist"),
    write("setrange", 4, strings::setrange, kGrows, kOneKey, "string", "2.2.0", "Overwrites a part of the value of a key"),
    read("strlen", 2, strings::strlen, kOneKey, "string", "2.2.0", "Returns the length of the value of a key"),
    read("ttl", 2, keys::ttl, kOneKey, "generic", "1.0.0", "Returns a key's time to live in seconds"),
    read("type", 2, keys::type, kOneKey, "generic", "1.0.0", "Returns the type of the value of a key"),
    write("unlink", -2, keys::del, kDoesNotGrow, kAllKeys, "generic", "4.0.0", "Deletes keys"),
};
// clang-format on

constexpr size_t kNameBytesMax = 16;

constexpr bool table_is_sound() {
  for (size_t i = 0; i < std::size(kCommands); i++) {
    if (kCommands[i].name.size() > kNameBytesMax) return false;
    if (i > 0 && !(kCommands[i - 1].name < kCommands[i].name)) return false;
  }
  return true;
}
static_assert(table_is_sound(), "the table is searched by bisection, with a small buffer");

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// As a C string would show it, and no longer than `max`.
std::string_view shown(std::string_view text, size_t max) {
  return text.substr(0, std::min(max, text.find('\0')));
}

}  // namespace

std::span<const Command> all_commands() { return kCommands; }

const Command* find_command(std::string_view name) {
  char buffer[kNameBytesMax];
  if (name.size() > kNameBytesMax) return nullptr;
  std::transform(name.begin(), name.end(), buffer, lower);
  std::string_view wanted(buffer, name.size());
  const Command* found = std::lower_bound(
      std::begin(kCommands), std::end(kCommands), wanted,
      [](const Command& command, std::string_view text) { return command.name < text; });
  return found != std::end(kCommands) && found->name == wanted ? found : nullptr;
}

bool same_word(std::string_view text, std::string_view lower_case) {
  return text.size() == lower_case.size() &&
         std::equal(text.begin(), text.end(), lower_case.begin(),
                    [](char a, char b) { return lower(a) == b; });
}

void reply_unknown_command(const Arguments& arguments, Reply& reply) {
  constexpr size_t kShownBytesMax = 128;
  std::string shown_arguments;
  for (size_t i = 1; i < arguments.size() && shown_arguments.size() < kShownBytesMax; i++) {
    shown_arguments += "'";
    shown_arguments += shown(arguments[i], kShownBytesMax - (shown_arguments.size() - 1));
    shown_arguments += "' ";
  }
  std::string text = "ERR unknown command '";
  text += shown(arguments[0], kShownBytesMax);
  text += "', with args beginning with: ";
  text += shown_arguments;
  reply.error(text);
}

void reply_wrong_arity(std::string_view full_name, Reply& reply) {
  std::string text = "ERR wrong number of arguments for '";
  text += full_name;
  text += "' command";
  reply.error(text);
}

}  // namespace connectd::kv

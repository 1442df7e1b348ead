// What clients send on connecting, and other commands that do not touch keys.
//
// The replies are the same for every connection: a name given to a connection is accepted and not
// kept, and every client has the same id.
#include <algorithm>
#include <string>

#include "commands.h"
#include "number.h"

namespace connectd::kv::connection {
namespace {

// The version of Redis whose commands and replies are offered: clients choose what to send by it.
constexpr std::string_view kRedisVersion = "7.0.0";
constexpr int64_t kClientId = 1;

void reply_unknown_subcommand(std::string_view container, const Arguments& arguments,
                              Reply& reply) {
  std::string_view word = arguments[1];
  std::string text = "ERR unknown subcommand '";
  text += word.substr(0, std::min<size_t>(128, word.find('\0')));
  text += "'. Try ";
  text += container;
  text += " HELP.";
  reply.error(text);
}

bool reply_name_error(std::string_view name, Reply& reply) {
  for (char c : name) {
    if (c < '!' || c > '~') {
      reply.error("ERR Client names cannot contain spaces, newlines or special characters.");
      return true;
    }
  }
  return false;
}

bool reply_user_error(std::string_view user, Reply& reply) {
  if (user == "default") return false;
  reply.error("WRONGPASS invalid username-password pair or user is disabled.");
  return true;
}

// `*` matches any bytes and `?` one; all others match themselves, ignoring case.
bool matches(std::string_view text, std::string_view pattern) {
  size_t t = 0, p = 0;
  size_t star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() &&
               (pattern[p] == '?' || same_word(pattern.substr(p, 1), text.substr(t, 1)))) {
      t++;
      p++;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') p++;
  return p == pattern.size();
}

struct Setting {
  std::string_view name, value;
};
constexpr Setting kSettings[] = {
    {"appendfsync", "always"},          {"appendonly", "yes"}, {"databases", "1"},
    {"maxmemory-policy", "noeviction"}, {"save", ""},
};

std::string_view group_category(std::string_view group) {
  if (group == "string") return "@string";
  if (group == "generic") return "@keyspace";
  if (group == "connection") return "@connection";
  return "@admin";
}

// The ten fields of Redis 7; tips, key specifications and subcommands are left empty.
void reply_command_info(const Command& command, Reply& reply) {
  reply.array(10);
  reply.bulk(command.name);
  reply.integer(command.arity);
  switch (command.kind) {
    case Command::Kind::kWrite:
      reply.array(command.grows ? 2 : 1);
      reply.simple("write");
      if (command.grows) reply.simple("denyoom");
      break;
    case Command::Kind::kRead:
      reply.array(1);
      reply.simple("readonly");
      break;
    case Command::Kind::kLocal:
    case Command::Kind::kConnection:
      reply.array(2);
      reply.simple("loading");
      reply.simple("stale");
      break;
  }
  reply.integer(command.first_key);
  reply.integer(command.last_key);
  reply.integer(command.key_step);
  bool keyed = command.kind == Command::Kind::kWrite || command.kind == Command::Kind::kRead;
  reply.array(keyed ? 2 : 1);
  if (keyed) reply.simple(command.kind == Command::Kind::kWrite ? "@write" : "@read");
  reply.simple(group_category(command.group));
  reply.array(0);
  reply.array(0);
  reply.array(0);
}

void reply_command_docs(const Command& command, Reply& reply) {
  reply.bulk(command.name);
  reply.array(6);
  reply.bulk("summary");
  reply.bulk(command.summary);
  reply.bulk("since");
  reply.bulk(command.since);
  reply.bulk("group");
  reply.bulk(command.group);
}

void command_info(const ConnectionCall& call) {
  if (call.arguments.size() == 2) {
    call.reply.array(all_commands().size());
    for (const Command& known : all_commands()) reply_command_info(known, call.reply);
    return;
  }
  call.reply.array(call.arguments.size() - 2);
  for (std::string_view name : call.arguments.from(2)) {
    if (const Command* known = find_command(name)) {
      reply_command_info(*known, call.reply);
    } else {
      call.reply.null();
    }
  }
}

void command_docs(const ConnectionCall& call) {
  if (call.arguments.size() == 2) {
    call.reply.array(2 * all_commands().size());
    for (const Command& known : all_commands()) reply_command_docs(known, call.reply);
    return;
  }
  size_t count = 0;
  for (std::string_view name : call.arguments.from(2)) count += find_command(name) ? 1 : 0;
  call.reply.array(2 * count);
  for (std::string_view name : call.arguments.from(2)) {
    if (const Command* known = find_command(name)) reply_command_docs(*known, call.reply);
  }
}

void command_list(const ConnectionCall& call) {
  if (call.arguments.size() > 2) return call.reply.error(kSyntaxError);
  call.reply.array(all_commands().size());
  for (const Command& known : all_commands()) call.reply.bulk(known.name);
}

}  // namespace

void ping(const ConnectionCall& call) {
  if (call.arguments.size() > 2) return reply_wrong_arity("ping", call.reply);
  if (call.arguments.size() == 2) return call.reply.bulk(call.arguments[1]);
  call.reply.simple("PONG");
}

void echo(const ConnectionCall& call) { call.reply.bulk(call.arguments[1]); }

void select(const ConnectionCall& call) {
  auto database = parse_integer(call.arguments[1]);
  if (!database) return call.reply.error(kNotAnInteger);
  if (*database < INT32_MIN || *database > INT32_MAX) {
    return call.reply.error(
        "ERR value is out of range, value must between -2147483648 and 2147483647");
  }
  if (*database != 0) return call.reply.error("ERR DB index is out of range");
  call.reply.simple("OK");
}

void hello(const ConnectionCall& call) {
  int64_t agreed = 2;
  if (call.arguments.size() >= 2) {
    auto version = parse_integer(call.arguments[1]);
    if (!version) {
      return call.reply.error("ERR Protocol version is not an integer or out of range");
    }
    if (*version != 2 && !(*version == 3 && call.may_agree)) {
      return call.reply.error("NOPROTO unsupported protocol version");
    }
    agreed = *version;
  }
  for (size_t i = 2; i < call.arguments.size(); i++) {
    std::string_view word = call.arguments[i];
    size_t left = call.arguments.size() - 1 - i;
    if (same_word(word, "auth") && left >= 2) {
      if (reply_user_error(call.arguments[i + 1], call.reply)) return;
      i += 2;
    } else if (same_word(word, "setname") && left >= 1) {
      if (reply_name_error(call.arguments[i + 1], call.reply)) return;
      i += 1;
    } else {
      std::string text = "ERR Syntax error in HELLO option '";
      text += word.substr(0, word.find('\0'));
      text += "'";
      return call.reply.error(text);
    }
  }
  // The daemon takes a map for consent, and writes the nulls of version 3 from then on.
  if (agreed == 3) {
    call.reply.map(7);
  } else {
    call.reply.array(14);
  }
  call.reply.bulk("server");
  call.reply.bulk("redis");
  call.reply.bulk("version");
  call.reply.bulk(kRedisVersion);
  call.reply.bulk("proto");
  call.reply.integer(agreed);
  call.reply.bulk("id");
  call.reply.integer(kClientId);
  call.reply.bulk("mode");
  call.reply.bulk("standalone");
  call.reply.bulk("role");
  call.reply.bulk("master");
  call.reply.bulk("modules");
  call.reply.array(0);
}

void auth(const ConnectionCall& call) {
  if (call.arguments.size() > 3) return call.reply.error(kSyntaxError);
  if (call.arguments.size() == 2) {
    return call.reply.error(
        "ERR AUTH <password> called without any password configured for the default user. Are you "
        "sure your configuration is correct?");
  }
  if (reply_user_error(call.arguments[1], call.reply)) return;
  call.reply.simple("OK");
}

void client(const ConnectionCall& call) {
  std::string_view word = call.arguments[1];
  size_t count = call.arguments.size();
  if (same_word(word, "setname")) {
    if (count != 3) return reply_wrong_arity("client|setname", call.reply);
    if (!reply_name_error(call.arguments[2], call.reply)) call.reply.simple("OK");
  } else if (same_word(word, "setinfo")) {
    if (count != 4) return reply_wrong_arity("client|setinfo", call.reply);
    call.reply.simple("OK");
  } else if (same_word(word, "getname")) {
    if (count != 2) return reply_wrong_arity("client|getname", call.reply);
    call.reply.null();
  } else if (same_word(word, "id")) {
    if (count != 2) return reply_wrong_arity("client|id", call.reply);
    call.reply.integer(kClientId);
  } else {
    reply_unknown_subcommand("CLIENT", call.arguments, call.reply);
  }
}

void config(const ConnectionCall& call) {
  if (!same_word(call.arguments[1], "get")) {
    return reply_unknown_subcommand("CONFIG", call.arguments, call.reply);
  }
  if (call.arguments.size() < 3) return reply_wrong_arity("config|get", call.reply);
  auto wanted = [&](const Setting& setting) {
    for (std::string_view pattern : call.arguments.from(2)) {
      if (matches(setting.name, pattern)) return true;
    }
    return false;
  };
  size_t count = 0;
  for (const Setting& setting : kSettings) count += wanted(setting) ? 1 : 0;
  call.reply.array(2 * count);
  for (const Setting& setting : kSettings) {
    if (!wanted(setting)) continue;
    call.reply.bulk(setting.name);
    call.reply.bulk(setting.value);
  }
}

void command(const ConnectionCall& call) {
  if (call.arguments.size() == 1) {
    call.reply.array(all_commands().size());
    for (const Command& known : all_commands()) reply_command_info(known, call.reply);
    return;
  }
  std::string_view word = call.arguments[1];
  if (same_word(word, "count")) {
    if (call.arguments.size() != 2) return reply_wrong_arity("command|count", call.reply);
    call.reply.integer(static_cast<int64_t>(all_commands().size()));
  } else if (same_word(word, "info")) {
    command_info(call);
  } else if (same_word(word, "docs")) {
    command_docs(call);
  } else if (same_word(word, "list")) {
    command_list(call);
  } else {
    reply_unknown_subcommand("COMMAND", call.arguments, call.reply);
  }
}

void info(const ReadCall& call) {
  auto wanted = [&](std::string_view section) {
    if (call.arguments.size() == 1) return true;
    for (std::string_view word : call.arguments.from(1)) {
      if (same_word(word, section) || same_word(word, "all") || same_word(word, "default") ||
          same_word(word, "everything")) {
        return true;
      }
    }
    return false;
  };
  std::string text;
  auto begin_section = [&](std::string_view title) {
    if (!text.empty()) text += "\r\n";
    text += "# ";
    text += title;
    text += "\r\n";
  };
  auto line = [&](std::string_view name, std::string_view value) {
    text += name;
    text += ':';
    text += value;
    text += "\r\n";
  };
  if (wanted("server")) {
    begin_section("Server");
    line("redis_version", kRedisVersion);
    line("redis_mode", "standalone");
    line("server_name", "connectd");
  }
  if (wanted("memory")) {
    begin_section("Memory");
    line("used_memory_dataset", std::to_string(call.store.weight()));
    line("maxmemory_policy", "noeviction");
  }
  if (wanted("persistence")) {
    begin_section("Persistence");
    line("loading", "0");
    line("aof_enabled", "1");
  }
  if (wanted("replication")) {
    begin_section("Replication");
    line("role", "master");
  }
  if (wanted("keyspace")) {
    begin_section("Keyspace");
    if (size_t keys = call.store.size(call.now_ms); keys > 0) {
      line("db0", "keys=" + std::to_string(keys) + ",expires=" +
                      std::to_string(call.store.expiring(call.now_ms)) + ",avg_ttl=0");
    }
  }
  call.reply.bulk(text);
}

}  // namespace connectd::kv::connection

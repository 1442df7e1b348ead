// Arguments -> a command with its options. The only user of Boost.Program_options.
#include <algorithm>
#include <boost/program_options.hpp>
#include <cstdlib>

#include "auth/private_file.h"
#include "auth/token.h"
#include "base/words.h"
#include "config/values.h"
#include "ctl/commands.h"
#include "ctl/contexts.h"
#include "ctl/endpoints.h"

namespace connectd::ctl {
namespace {

namespace po = boost::program_options;

// The command whose words begin `words`; the longest.
const Command* find_command(const std::vector<std::string>& words, size_t* length) {
  const Command* found = nullptr;
  *length = 0;
  for (const Command& command : commands()) {
    std::vector<std::string> own = split_words(command.words);
    bool fits = own.size() <= words.size() && std::equal(own.begin(), own.end(), words.begin());
    if (fits && own.size() > *length) {
      found = &command;
      *length = own.size();
    }
  }
  return found;
}

// For commands that ask nodes: of --cacert, --cert and --key, else as the configurations say.
Result<std::shared_ptr<const tls::Credentials>> find_tls(const Context& context,
                                                         const std::string& authorities) {
  const bool has_pair = context.has("cert") && context.has("key");
  if (context.has("cert") != context.has("key")) {
    return failure(ErrorKind::kUsage, with_help("--cert and --key need each other"));
  }
  const std::string ca = context.has("cacert") ? context.option("cacert") : authorities;
  if (ca.empty()) {
    if (!has_pair) return nullptr;
    return failure(ErrorKind::kUsage, with_help("--cert needs --cacert: whom it may be shown to"));
  }
  tls::CredentialsOptions options;
  options.use = tls::Use::kClient;
  return tls::load_credentials({.certificate = context.option("cert"),
                                .key = context.option("key"),
                                .authorities = ca,
                                .revocations = {}},
                               options);
}

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

// What the command line leaves open, and the context has. A command that asks nobody needs none.
Result<void> take_context(Context& context, const Command& command) {
  std::optional<std::string> name;
  if (context.has("context")) {
    name = context.option("context");
  } else if (is_set(kContextVariable)) {
    name = std::getenv(kContextVariable);
  }
  if (command.timeout == Duration::zero()) {
    if (!context.has("context")) return {};
    return failure(ErrorKind::kUsage,
                   with_help(fmt::format("`{}` asks no node: it takes no --context", command.words),
                             command.words));
  }
  // Whom the default context is for: others get nothing of it, so it is not even read.
  if (!name && (context.has("endpoint") || is_set(kEndpointsVariable))) return {};
  auto options = read_context(contexts_path(), name);
  if (!options) return tl::unexpected(options.error());
  // A context that is asked for by its name is stronger than a variable that stands around.
  const bool has_token = context.has("token-file") || (is_set(kTokenVariable) && !name);
  for (auto& [key, value] : *options) {
    if (key == "token" || key == "token-file") {
      if (has_token) continue;
      if (key == "token") {
        context.token = std::move(value);
        continue;
      }
    }
    if (!context.has(key)) context.options[key] = {std::move(value)};
  }
  return {};
}

// Copies the global options into `context`; returns an error text if one is invalid.
std::optional<std::string> take_globals(Context& context, const Command& command,
                                        std::string& authorities) {
  for (const std::string& list : context.options["endpoint"]) {
    auto taken = take_endpoints(list, "--endpoint", context.endpoints);
    if (!taken) return taken.error().text;
  }
  context.endpoints_origin = "set others with -e HOST:PORT";
  const bool asks_nodes = command.timeout > Duration::zero() && command.asks_endpoints;
  if (context.endpoints.empty() && asks_nodes) {
    auto found = find_endpoints(std::getenv(kEndpointsVariable), kConfigDirectory);
    if (!found) return found.error().text;
    context.endpoints = std::move(found->addresses);
    context.endpoints_origin = std::move(found->origin);
    context.members = std::move(found->members);
    authorities = std::move(found->authorities);
  }
  if (context.has("output")) {
    std::string output = context.option("output");
    if (output != "table" && output != "json") {
      return fmt::format("--output: '{}' must be table or json", output);
    }
    context.json = output == "json";
  }
  context.timeout = command.timeout;
  if (context.has("timeout")) {
    config::Parsed<Duration> timeout = config::parse_duration(context.option("timeout"));
    if (!timeout) return "--timeout: " + timeout.error();
    if (timeout->count() == 0) return "--timeout: must be longer than 0";
    context.timeout = *timeout;
    context.deadline = read_clocks().time + *timeout;
  }
  return std::nullopt;
}

constexpr size_t kMaxTokenFile = 4096;

// Of --token-file, else of CONNECTCTL_TOKEN, for commands that ask nodes.
Result<std::string> find_token(const Context& context, const Command& command) {
  std::string text;
  if (context.has("token-file")) {
    auto content = auth::read_private_file(context.option("token-file"), kMaxTokenFile);
    if (!content) return content;
    text = content->substr(0, content->find('\n'));
  } else if (!context.token.empty()) {
    text = context.token;
  } else if (is_set(kTokenVariable) && command.timeout > Duration::zero()) {
    text = std::getenv(kTokenVariable);
  } else {
    return text;
  }
  while (text.ends_with('\r') || text.ends_with(' ')) text.pop_back();
  // Neither text is repeated: it may be another secret.
  if (!auth::token_id(text)) {
    return failure(ErrorKind::kUsage,
                   fmt::format("{}: must hold a token as `connectctl token new` prints it",
                               context.has("token-file") ? "--token-file"
                               : !context.token.empty()  ? "token of the context"
                                                         : kTokenVariable));
  }
  return text;
}

struct Parsed {
  std::vector<std::string> words;
  std::map<std::string, std::vector<std::string>> options;
  std::string unknown;  // the first option that is not one of `known`
};

// Options and words, mixed in any order.
Result<Parsed> parse(const std::vector<std::string>& arguments,
                     const std::vector<OptionSpec>& own_options) {
  po::options_description known;
  for (const auto* options : {&global_options(), &own_options}) {
    for (const OptionSpec& spec : *options) {
      std::string name(spec.name);
      if (!spec.letter.empty()) name += fmt::format(",{}", spec.letter);
      if (spec.value.empty()) {
        known.add_options()(name.c_str(), "");
      } else {
        known.add_options()(name.c_str(), po::value<std::string>(), "");
      }
    }
  }
  Parsed result;
  try {
    // No abbreviations: a future option must not change the meaning of an existing script.
    int style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
    po::parsed_options parsed =
        po::command_line_parser(arguments).options(known).style(style).allow_unregistered().run();
    for (const auto& option : parsed.options) {
      if (option.position_key >= 0) {
        result.words.insert(result.words.end(), option.value.begin(), option.value.end());
      } else if (option.unregistered) {
        if (!result.unknown.empty()) continue;
        result.unknown =
            option.original_tokens.empty() ? option.string_key : option.original_tokens[0];
      } else {
        result.options[option.string_key].push_back(option.value.empty() ? "" : option.value[0]);
      }
    }
  } catch (const po::error& e) {
    return failure(ErrorKind::kUsage, e.what());
  }
  return result;
}

}  // namespace

ExitCode unknown_command(const Context& context, const std::vector<std::string>& words) {
  if (words.empty()) {
    context.streams.err << overview();
    return ExitCode::kUsage;
  }
  std::string near;
  size_t best = 3;
  std::string group;
  for (const Command& command : commands()) {
    std::vector<std::string> own = split_words(command.words);
    if (own.size() > 1 && own[0] == words[0]) {
      group += fmt::format("{}{}", group.empty() ? "" : ", ", own[1]);
    }
    size_t distance = edit_distance(words[0], own[0]);
    if (distance < best && distance < own[0].size()) {
      best = distance;
      near = own[0];
    }
  }
  if (!group.empty()) {
    return context.fail(ExitCode::kUsage,
                        fmt::format("`{}` requires one of: {}. Try: connectctl help {}", words[0],
                                    group, words[0]));
  }
  return context.fail(
      ExitCode::kUsage,
      with_help(fmt::format("unknown command '{}'{}", words[0],
                            near.empty() ? "" : fmt::format("; did you mean '{}'?", near))));
}

ExitCode run(const std::vector<std::string>& arguments, const Streams& streams) {
  Context context{streams};
  // The command first, because options belong to commands.
  Result<Parsed> first = parse(arguments, {});
  if (!first) return context.fail(ExitCode::kUsage, with_help(first.error().text));
  size_t length = 0;
  const Command* command = find_command(first->words, &length);
  if (first->options.count("help") > 0) {
    context.arguments = command == nullptr ? first->words : split_words(command->words);
    return help_command(context);
  }
  if (command == nullptr) {
    if (first->words.empty() && !first->unknown.empty()) {
      return context.fail(ExitCode::kUsage,
                          with_help(fmt::format("unknown option '{}'", first->unknown)));
    }
    return unknown_command(context, first->words);
  }
  Result<Parsed> parsed = parse(arguments, command->options);
  if (!parsed) return context.fail(ExitCode::kUsage, with_help(parsed.error().text));
  // An option of the command in front of its words could take one of them as its value.
  const Command* again = find_command(parsed->words, &length);
  if (again != command) {
    return context.fail(
        ExitCode::kUsage,
        with_help(fmt::format("put the options of `{}` after it", command->words), command->words));
  }
  if (!parsed->unknown.empty()) {
    return context.fail(ExitCode::kUsage,
                        fmt::format("`{}` has no option {}. Try: connectctl help {}",
                                    command->words, parsed->unknown, command->words));
  }
  context.options = std::move(parsed->options);
  context.arguments.assign(parsed->words.begin() + static_cast<std::ptrdiff_t>(length),
                           parsed->words.end());
  size_t count = context.arguments.size();
  if (count < command->min_arguments || count > command->max_arguments) {
    return context.fail(ExitCode::kUsage, fmt::format("usage: {}. Try: connectctl help {}",
                                                      usage_line(*command), command->words));
  }
  if (auto taken = take_context(context, *command); !taken) return context.fail(taken.error());
  std::string authorities;
  if (auto problem = take_globals(context, *command, authorities)) {
    return context.fail(ExitCode::kUsage, with_help(*problem));
  }
  if (command->timeout > Duration::zero() && command->asks_endpoints) {
    auto tls = find_tls(context, authorities);
    if (!tls) return context.fail(tls.error());
    context.tls = std::move(*tls);
  }
  auto token = find_token(context, *command);
  if (!token) return context.fail(token.error());
  context.token = std::move(*token);
  ExitCode code = command->run(context);
  streams.out.flush();
  if (!streams.out) return context.fail(ExitCode::kStorage, "writing to standard output failed");
  return code;
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += i + 1 == row.size() ? row[i] : fmt::format("{:<{}}  ", row[i], widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace connectd::ctl

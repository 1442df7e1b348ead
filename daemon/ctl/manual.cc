// Texts made from the command table: help, the manual page and the shells' completions.
#include <set>

#include "ctl/commands.h"

namespace connectd::ctl {
namespace {

constexpr size_t kTextWidth = 78;

std::string wrapped(std::string_view text) {
  std::string out;
  size_t column = 0;
  for (const std::string& word : split_words(text)) {
    if (column > 0 && column + 1 + word.size() > kTextWidth) {
      out += '\n';
      column = 0;
    }
    if (column > 0) out += ' ';
    out += word;
    column += word.size() + (column > 0 ? 1 : 0);
  }
  return out + "\n";
}

std::string spelled(const OptionSpec& option) {
  std::string text;
  if (!option.letter.empty()) text += fmt::format("-{}, ", option.letter);
  text += fmt::format("--{}", option.name);
  if (!option.value.empty()) text += fmt::format(" {}", option.value);
  return text;
}

std::string option_lines(const std::vector<OptionSpec>& options) {
  std::string text;
  for (const OptionSpec& option : options) {
    text += fmt::format("{:<32}{}\n", "  " + spelled(option), option.help);
  }
  return text;
}

std::string duration_words(Duration duration) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration).count();
  return seconds % 60 == 0 ? fmt::format("{} minutes", seconds / 60)
                           : fmt::format("{} seconds", seconds);
}

std::string timeout_line(const Command& command) {
  if (command.timeout == Duration::zero()) return {};
  return fmt::format("Waits up to {} unless --timeout says otherwise.",
                     duration_words(command.timeout));
}

// ---- the manual page

// Escapes text for roff: no line is taken for a request, and dashes can be copied.
std::string roff(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  if (out.starts_with('.') || out.starts_with('\'')) out.insert(0, "\\&");
  return out;
}

std::string roff_options(const std::vector<OptionSpec>& options) {
  std::string out;
  for (const OptionSpec& option : options) {
    out += fmt::format(".TP\n\\fB{}\\fR\n{}\n", roff(spelled(option)), roff(option.help));
  }
  return out;
}

// ---- completions

// The words that may follow `path` ("" or "member"), each with its help.
std::vector<std::pair<std::string, std::string>> next_words(std::string_view path) {
  std::vector<std::pair<std::string, std::string>> next;
  std::set<std::string> seen;
  const std::vector<std::string> own = split_words(path);
  for (const Command& command : commands()) {
    const std::vector<std::string> words = split_words(command.words);
    if (words.size() <= own.size() || !std::equal(own.begin(), own.end(), words.begin())) continue;
    if (!seen.insert(words[own.size()]).second) continue;
    const bool is_group = words.size() > own.size() + 1;
    next.emplace_back(words[own.size()], is_group ? "..." : std::string(command.help));
  }
  return next;
}

// "" and the first words of commands of two.
std::vector<std::string> groups() {
  std::vector<std::string> list = {""};
  for (const Command& command : commands()) {
    const std::vector<std::string> words = split_words(command.words);
    if (words.size() > 1 && list.back() != words[0]) list.push_back(words[0]);
  }
  return list;
}

// Patterns for "PATH|WORD" where WORD is an option that takes a value, in the order of the table.
std::vector<std::string> value_patterns() {
  std::vector<std::string> patterns;
  auto add = [&](std::string_view path, const OptionSpec& option) {
    if (option.value.empty()) return;
    patterns.push_back(fmt::format("{}*|--{}", path, option.name));
    if (!option.letter.empty()) patterns.push_back(fmt::format("{}*|-{}", path, option.letter));
  };
  for (const OptionSpec& option : global_options()) add("", option);
  for (const Command& command : commands()) {
    for (const OptionSpec& option : command.options) add(command.words, option);
  }
  return patterns;
}

// 'a pattern*|b' quoted for a shell: the star is outside the quotes, so it keeps its meaning.
std::string shell_pattern(const std::string& pattern) {
  const size_t star = pattern.find('*');
  const std::string before = pattern.substr(0, star);
  return fmt::format("{}*'{}'", before.empty() ? "" : "'" + before + "'", pattern.substr(star + 1));
}

std::string option_words(const std::vector<OptionSpec>& options) {
  std::string text;
  for (const OptionSpec& option : options) text += fmt::format(" --{}", option.name);
  return text;
}

// The loop that determines which command is being typed, and the words that fit there; the same in
// bash and zsh. `words`: an array with the words before the cursor.
std::string shell_body() {
  std::string out =
      "  local at= skip= word candidates=\n"
      "  for word in \"${before[@]}\"; do\n"
      "    case $word in\n"
      "      ':'|'=') skip=1; continue ;;\n"
      "    esac\n"
      "    if [[ -n $skip ]]; then skip=; continue; fi\n"
      "    case \"$at|$word\" in\n";
  std::string patterns;
  for (const std::string& pattern : value_patterns()) {
    patterns += (patterns.empty() ? "      " : "|\\\n      ") + shell_pattern(pattern);
  }
  out += patterns + ") skip=1 ;;\n" +
         "      *'|-'*) ;;\n"
         "      *) at=\"$at${at:+ }$word\" ;;\n"
         "    esac\n"
         "  done\n"
         "  if [[ -z $skip ]]; then\n"
         "    case $at in\n";
  for (const std::string& group : groups()) {
    out += fmt::format("      '{}') candidates='", group);
    std::string words;
    for (const auto& [word, help] : next_words(group)) words += (words.empty() ? "" : " ") + word;
    out += words + "' ;;\n";
  }
  for (const Command& command : commands()) {
    if (command.options.empty()) continue;
    out += fmt::format("      '{}'*) candidates='{}' ;;\n", command.words,
                       option_words(command.options).substr(1));
  }
  out += fmt::format("    esac\n    candidates=\"$candidates{}\"\n  fi\n",
                     option_words(global_options()));
  return out;
}

std::string bash_completion() {
  return "# bash completion of connectctl, printed by `connectctl completion bash`.\n"
         "_connectctl() {\n"
         "  local before=(\"${COMP_WORDS[@]:1:COMP_CWORD-1}\")\n" +
         shell_body() +
         "  COMPREPLY=($(compgen -W \"$candidates\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
         "}\n"
         "complete -o default -F _connectctl connectctl\n";
}

std::string zsh_completion() {
  return "#compdef connectctl\n"
         "# zsh completion of connectctl, printed by `connectctl completion zsh`.\n"
         "_connectctl() {\n"
         "  local -a before\n"
         "  before=(\"${(@)words[2,CURRENT-1]}\")\n" +
         shell_body() +
         "  compadd -- ${=candidates} || _files\n"
         "}\n"
         "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n"
         "  _connectctl \"$@\"\n"
         "else\n"
         "  compdef _connectctl connectctl\n"
         "fi\n";
}

std::string fish_quoted(std::string_view text) {
  std::string out = "'";
  for (char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

std::string fish_completion() {
  std::string out =
      "# fish completion of connectctl, printed by `connectctl completion fish`.\n"
      "function __connectctl_at\n"
      "    set -l at\n"
      "    set -l skip\n"
      "    for word in (commandline -opc)[2..-1]\n"
      "        if test -n \"$skip\"\n"
      "            set skip\n"
      "            continue\n"
      "        end\n"
      "        switch \"$at|$word\"\n"
      "            case";
  for (const std::string& pattern : value_patterns()) out += " " + fish_quoted(pattern);
  out +=
      "\n"
      "                set skip 1\n"
      "            case '*|-*'\n"
      "            case '*'\n"
      "                set -a at $word\n"
      "        end\n"
      "    end\n"
      "    string join ' ' $at\n"
      "end\n"
      "function __connectctl_is\n"
      "    set -l at (__connectctl_at)\n"
      "    test \"$at\" = \"$argv\"\n"
      "end\n"
      "function __connectctl_in\n"
      "    set -l at (__connectctl_at)\n"
      "    string match -q -- \"$argv*\" \"$at\"\n"
      "end\n";
  for (const std::string& group : groups()) {
    for (const auto& [word, help] : next_words(group)) {
      out += fmt::format("complete -c connectctl -f -n \"__connectctl_is '{}'\" -a {} -d {}\n",
                         group, word, fish_quoted(help));
    }
  }
  auto options = [&](std::string_view path, const std::vector<OptionSpec>& list) {
    for (const OptionSpec& option : list) {
      out += "complete -c connectctl";
      if (!path.empty()) out += fmt::format(" -n \"__connectctl_in '{}'\"", path);
      if (!option.letter.empty()) out += fmt::format(" -s {}", option.letter);
      out += fmt::format(" -l {}{} -d {}\n", option.name, option.value.empty() ? "" : " -r",
                         fish_quoted(option.help));
    }
  };
  options("", global_options());
  for (const Command& command : commands()) options(command.words, command.options);
  return out;
}

}  // namespace

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    size_t space = std::min(text.find(' '), text.size());
    if (space > 0) words.emplace_back(text.substr(0, space));
    text.remove_prefix(std::min(space + 1, text.size()));
  }
  return words;
}

std::string with_help(std::string text, std::string_view words) {
  if (text.ends_with('.')) text.pop_back();
  return fmt::format("{}{} Try: connectctl help{}{}", text, text.ends_with('?') ? "" : ".",
                     words.empty() ? "" : " ", words);
}

std::string usage_line(const Command& command) {
  std::string line = fmt::format("connectctl {}", command.words);
  if (!command.arguments.empty()) line += fmt::format(" {}", command.arguments);
  if (!command.options.empty()) line += " [options]";
  return line;
}

std::string command_list() {
  std::string text;
  for (const Command& command : commands()) {
    std::string left = fmt::format("  {} {}", command.words, command.arguments);
    text += left.size() < 34 ? fmt::format("{:<35}{}\n", left, command.help)
                             : fmt::format("{}\n{:<35}{}\n", left, "", command.help);
  }
  return text;
}

std::string overview() {
  return "usage: connectctl [options] COMMAND\n\n" + command_list() +
         "\nOptions of all commands:\n" + option_lines(global_options()) +
         "\n`connectctl help COMMAND` describes one command.\n";
}

std::string command_help(const Command& command) {
  std::string text = fmt::format("usage: {}\n\n{}\n", usage_line(command), command.help);
  if (!command.details.empty()) text += "\n" + wrapped(command.details);
  if (std::string line = timeout_line(command); !line.empty()) text += "\n" + line + "\n";
  if (!command.options.empty()) text += "\n" + option_lines(command.options);
  return text;
}

std::string manual_page() {
  std::string out =
      ".TH CONNECTCTL 1 \"\" \"connectd " CONNECTD_VERSION
      "\" \"User Commands\"\n"
      ".SH NAME\nconnectctl \\- operate a connectd cluster\n"
      ".SH SYNOPSIS\n.B connectctl\n[\\fIoptions\\fR] \\fICOMMAND\\fR\n"
      ".SH DESCRIPTION\n"
      "Asks the nodes of a cluster over HTTP, and works on data directories offline. Data goes to\n"
      "standard output, diagnostics to standard error.\n"
      ".SH OPTIONS\nThese are valid before and after each command.\n" +
      roff_options(global_options()) + ".SH COMMANDS\n";
  for (const Command& command : commands()) {
    out += fmt::format(".SS {} {}\n{}.\n", roff(command.words), roff(command.arguments),
                       roff(command.help));
    if (!command.details.empty()) out += roff(command.details) + "\n";
    if (command.timeout != Duration::zero()) out += roff(timeout_line(command)) + "\n";
    out += roff_options(command.options);
  }
  out +=
      ".SH EXIT STATUS\n"
      ".TP\n0\nsuccess\n"
      ".TP\n1\na negative answer: no quorum, refused, damaged\n"
      ".TP\n2\n\\fBcall \\-\\-fail\\fR: the plugin answered with a status above 0\n"
      ".TP\n64\nusage error\n"
      ".TP\n69\nno node can be reached\n"
      ".TP\n75\ntry again later; after \\fBcall\\fR, the text says whether the request may have "
      "been executed\n"
      ".PP\nOthers are those of connectd.\n";
  return out;
}

std::string completion(std::string_view shell) {
  if (shell == "bash") return bash_completion();
  if (shell == "zsh") return zsh_completion();
  if (shell == "fish") return fish_completion();
  return {};
}

ExitCode completion_command(Context& context) {
  const std::string script = completion(context.arguments[0]);
  if (script.empty()) {
    return context.fail(ExitCode::kUsage,
                        with_help(fmt::format("unknown shell '{}': must be bash, zsh or fish",
                                              context.arguments[0]),
                                  "completion"));
  }
  context.streams.out << script;
  return ExitCode::kOk;
}

ExitCode help_command(Context& context) {
  if (context.has("man")) {
    context.streams.out << manual_page();
    return ExitCode::kOk;
  }
  if (context.arguments.empty()) {
    context.streams.out << overview();
    return ExitCode::kOk;
  }
  bool any = false;
  for (const Command& command : commands()) {
    std::vector<std::string> own = split_words(command.words);
    bool fits = context.arguments.size() <= own.size() &&
                std::equal(context.arguments.begin(), context.arguments.end(), own.begin());
    if (!fits) continue;
    context.streams.out << (any ? "\n" : "") << command_help(command);
    any = true;
  }
  return any ? ExitCode::kOk : unknown_command(context, context.arguments);
}

}  // namespace connectd::ctl

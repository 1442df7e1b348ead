#include "config/reference.h"

#include <fmt/format.h>

#include <algorithm>

#include "config/options.h"

namespace connectd::config {
namespace {

constexpr size_t kTextWidth = 96;

std::string joined(const std::vector<std::string_view>& words, std::string_view separator,
                   std::string_view quote) {
  std::string text;
  for (std::string_view word : words) {
    text += fmt::format("{}{}{}{}", text.empty() ? "" : separator, quote, word, quote);
  }
  return text;
}

// Breaks `text` at spaces into lines of at most `width`, each after `prefix`.
std::string wrapped(std::string_view text, std::string_view prefix, size_t width) {
  std::string out;
  std::string line;
  while (!text.empty()) {
    size_t space = std::min(text.find(' '), text.size());
    std::string_view word = text.substr(0, space);
    if (!line.empty() && line.size() + 1 + word.size() > width) {
      out += fmt::format("{}{}\n", prefix, line);
      line.clear();
    }
    line += fmt::format("{}{}", line.empty() ? "" : " ", word);
    text.remove_prefix(std::min(space + 1, text.size()));
  }
  return out + fmt::format("{}{}\n", prefix, line);
}

std::string values_text(const Option& option, std::string_view quote) {
  if (option.type == Type::kChoice) return joined(option.choices, ", ", quote);
  if (!option.min.empty()) {
    std::string text = fmt::format("{}, {} to {}", type_name(option.type), option.min, option.max);
    if (!option.zero_word.empty()) text += fmt::format(", or {0}{1}{0}", quote, option.zero_word);
    return text;
  }
  return std::string(type_name(option.type));
}

std::string notes_text(const Option& option) {
  std::vector<std::string_view> notes;
  if (option.required) notes.push_back("required in a file");
  if (option.live) notes.push_back("live");
  if (option.cluster_setting) notes.push_back("cluster setting");
  if (option.at_formation) notes.push_back("at formation");
  return joined(notes, ", ", "");
}

std::string_view indent_of(const Option& option) { return option.group().empty() ? "  " : "    "; }

// The lines that begin the maps inside a section.
class Groups final {
 public:
  std::string enter(const Option& option) {
    if (option.group() == group_) return "";
    group_ = option.group();
    return group_.empty() ? "" : fmt::format("  {}:\n", group_);
  }

 private:
  std::string_view group_;
};

// Escapes pipes, which would end the cell.
std::string cell(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::string annotated_example() {
  std::string out =
      "# Every key of connectd's configuration. Lines that are commented out show the default;\n"
      "# `connectctl config check FILE` checks a file.\n";
  for (const Section& section : sections()) {
    out += fmt::format("\n# {}\n{}:\n", section.help, section.name);
    Groups groups;
    for (const Option& option : options()) {
      if (option.section() != section.name) continue;
      out += groups.enter(option);
      const std::string comment = fmt::format("{}# ", indent_of(option));
      out += wrapped(option.help, comment, kTextWidth - comment.size());
      std::string notes = notes_text(option);
      out += wrapped(
          fmt::format("({}{}{})", values_text(option, ""), notes.empty() ? "" : "; ", notes),
          comment, kTextWidth - comment.size());
      if (option.path == "cluster.members") {
        out +=
            "  members:\n"
            "    - {id: 1, peer: \"127.0.0.1:7101\", client: \"127.0.0.1:7201\", http: "
            "\"127.0.0.1:7301\"}\n";
      } else if (option.required) {
        out += fmt::format("  {}: {}\n", option.key(), option.default_text);
      } else if (option.default_text.empty()) {
        out += fmt::format("{}{}:  # default: {}\n", comment, option.name(), option.default_note);
      } else {
        out += fmt::format("{}{}: {}\n", comment, option.name(), option.default_text);
      }
    }
  }
  return out;
}

std::string reference_page() {
  std::string out =
      "# Configuration reference\n\n"
      "`connectctl config reference` prints this page; a test compares it with the option table "
      "in\n"
      "daemon/config/options.cc, which also drives loading and checking.\n\n"
      "A configuration is one YAML document. Unknown and duplicate keys, numbers with leading "
      "zeros,\n"
      "anchors, aliases and tags are errors; all errors of a file are reported at once, with "
      "their\n"
      "lines. Every key can be overridden with `--set section.key=value`. `connectd "
      "--print-config`\n"
      "shows every effective value and its source.\n\n"
      "- **duration**: a whole number and `ns`, `us`, `ms`, `s`, `m` or `h`: `50ms`.\n"
      "- **size**: a whole number and `B`, `KiB`, `MiB`, `GiB` or `TiB`: `64MiB`.\n"
      "- **address**: `host:port`; write an IPv6 host in brackets: `[::1]:7101`.\n"
      "- **live**: SIGHUP (`systemctl reload`) applies a change; other keys need a restart.\n"
      "- **cluster setting**: read when the cluster forms. Later, the log's value applies, and a "
      "differing\n"
      "  file causes a warning; `connectctl settings set` changes it.\n"
      "- **at formation**: read when the cluster forms, and never changed for the cluster.\n\n";
  for (const Section& section : sections()) {
    out += fmt::format("## {}\n\n{}\n\n", section.name, section.help);
    out += "| key | values | default | |\n|---|---|---|---|\n";
    for (const Option& option : options()) {
      if (option.section() != section.name) continue;
      std::string standard = option.default_text.empty() ? std::string(option.default_note)
                                                         : fmt::format("`{}`", option.default_text);
      std::string notes = notes_text(option);
      out +=
          fmt::format("| `{}` | {} | {} | {}{}{} |\n", option.path, cell(values_text(option, "`")),
                      cell(standard), notes.empty() ? "" : fmt::format("*{}*", notes),
                      notes.empty() ? "" : "<br>", cell(option.help));
    }
    out += "\n";
  }
  out += "## A file with every key\n\n```yaml\n" + annotated_example() + "```\n";
  return out;
}

std::string print_config(const Loaded& loaded) {
  constexpr size_t kSourceColumn = 44;
  std::string out;
  auto add = [&](std::string line, const std::string& source) {
    size_t pad = line.size() < kSourceColumn ? kSourceColumn - line.size() : 1;
    out += fmt::format("{}{}  # {}\n", line, std::string(pad, ' '), source);
  };
  for (const Section& section : sections()) {
    out += fmt::format("{}:\n", section.name);
    Groups groups;
    for (const Option& option : options()) {
      if (option.section() != section.name) continue;
      std::string source = loaded.source(option.path);
      out += groups.enter(option);
      if (option.type == Type::kMembers) {
        add("  members:", source);
        for (const Member& member : loaded.config.cluster.members) {
          out += fmt::format("    - {{id: {}, peer: \"{}\", client: \"{}\", http: \"{}\"}}\n",
                             member.id, member.peer.to_string(), member.client.to_string(),
                             member.http.to_string());
        }
        continue;
      }
      if (is_unset(option, loaded.config)) {
        add(fmt::format("{}# {}:", indent_of(option), option.name()),
            fmt::format("{}: {}", source, option.default_note));
        continue;
      }
      add(fmt::format("{}{}: {}", indent_of(option), option.name(),
                      format_value(option, loaded.config)),
          source);
    }
  }
  return out;
}

}  // namespace connectd::config

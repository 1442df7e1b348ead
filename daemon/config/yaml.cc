#include "config/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <sstream>
#include <string_view>

namespace connectd::config {
namespace {

constexpr size_t kMaxDepth = 16;
constexpr size_t kMaxNodes = 100'000;
constexpr size_t kMaxProblems = 50;

Position position_of(const YAML::Mark& mark) {
  if (mark.is_null()) return {};
  return {mark.line + 1, mark.column + 1};
}

struct TooMuch {
  Position at;
  std::string text;
};

// Builds the tree from the parser's events. Children are finished before they are moved into
// their parent, so no pointer into a vector is ever kept.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(const std::string& text, YamlDocument& document) : text_(text), document_(document) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    YamlNode node = start(YamlNode::Kind::kNull, mark);
    node.written_out = is_null_word(mark);
    finish(std::move(node));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    problem(mark, "aliases ('*name') are not supported; write the value out");
    finish(start(YamlNode::Kind::kNull, mark));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    YamlNode node = start(YamlNode::Kind::kScalar, mark);
    node.quoted = tag == "!";
    node.text = value;
    bool null = !node.quoted && (value == "null" || value == "~" || value.empty() ||
                                 value == "Null" || value == "NULL");
    if (null) {
      node.kind = YamlNode::Kind::kNull;
      node.written_out = !value.empty();
    }
    finish(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    open_.push_back({start(YamlNode::Kind::kSequence, mark), {}, false});
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    open_.push_back({start(YamlNode::Kind::kMap, mark), {}, false});
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    YamlNode node;
    YamlNode key;  // of the next value
    bool has_key;
  };

  YamlNode start(YamlNode::Kind kind, const YAML::Mark& mark) {
    if (open_.size() >= kMaxDepth) {
      throw TooMuch{position_of(mark), fmt::format("nested deeper than {} levels", kMaxDepth)};
    }
    if (++nodes_ > kMaxNodes) {
      throw TooMuch{position_of(mark), fmt::format("more than {} values", kMaxNodes)};
    }
    YamlNode node;
    node.kind = kind;
    node.at = position_of(mark);
    return node;
  }
  // Of a value that is not there, the parser gives a place near it.
  bool is_null_word(const YAML::Mark& mark) const {
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    if (mark.is_null()) return false;
    const size_t skipped = text_.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
    const size_t at = static_cast<size_t>(mark.pos) + skipped;
    if (at >= text_.size()) return false;
    const std::string_view rest = std::string_view(text_).substr(at);
    return rest.starts_with('~') || rest.starts_with("null") || rest.starts_with("Null") ||
           rest.starts_with("NULL");
  }
  void close() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    finish(std::move(node));
  }
  void finish(YamlNode node) {
    if (open_.empty()) {
      document_.root = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::kSequence) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      parent.key = std::move(node);
      parent.has_key = true;
    } else {
      parent.node.entries.push_back({std::move(parent.key), std::move(node)});
      parent.has_key = false;
    }
  }
  void problem(const YAML::Mark& mark, std::string text) {
    if (document_.problems.size() < kMaxProblems) {
      document_.problems.push_back({position_of(mark), std::move(text)});
    }
  }
  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) problem(mark, "anchors ('&name') are not supported; write the value out");
  }
  void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?" && tag != "!") {
      problem(mark, fmt::format("tags ('{}') are not supported; delete it", tag));
    }
  }

  const std::string& text_;
  YamlDocument& document_;
  std::vector<Open> open_;
  size_t nodes_ = 0;
};

// Input that yaml-cpp would misinterpret, or report with unclear texts.
void check_characters(const std::string& text, std::vector<YamlProblem>& problems) {
  Position at{1, 1};
  bool indent = true;
  for (char c : text) {
    if (problems.size() >= kMaxProblems) return;
    auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      ++at.line;
      at.column = 1;
      indent = true;
      continue;
    }
    if (c == '\t' && indent) {
      problems.push_back({at, "tab at the start of a line; indent with spaces"});
      indent = false;
    } else if ((byte < 0x20 && c != '\t' && c != '\r') || byte == 0x7f) {
      problems.push_back(
          {at, fmt::format("control character 0x{:02x}; must be a UTF-8 text file", byte)});
      return;
    }
    if (c != ' ') indent = false;
    ++at.column;
  }
}

}  // namespace

YamlDocument parse_yaml(const std::string& text) {
  YamlDocument document;
  check_characters(text, document.problems);
  if (!document.problems.empty()) return document;
  try {
    std::istringstream in(text);
    YAML::Parser parser(in);
    TreeBuilder builder(text, document);
    if (!parser.HandleNextDocument(builder)) {
      document.root = {};
      return document;
    }
    YamlDocument second;
    TreeBuilder second_builder(text, second);
    if (parser.HandleNextDocument(second_builder)) {
      document.problems.push_back(
          {second.root.at, "second document; must be one document, delete everything from '---'"});
    }
  } catch (const YAML::Exception& e) {
    document.problems.push_back({position_of(e.mark), "not YAML: " + e.msg});
  } catch (const TooMuch& e) {
    document.problems.push_back({e.at, e.text});
  }
  return document;
}

}  // namespace connectd::config

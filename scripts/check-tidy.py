#!/usr/bin/env python3
"""Checks what no compiler looks at.

    scripts/check-tidy.py [ROOT]          check the tree; exit 1 with one line for each violation
    scripts/check-tidy.py --self-test     show that each rule catches a deliberate violation
    scripts/check-tidy.py --update        write scripts/long-functions.txt anew; review the difference
    scripts/check-tidy.py --message FILE  check a commit message, as the hook commit-msg does

The rules, each a function below:
    long        A function of daemon/, plugins/ or sdk/ has at most 70 lines. Those that are longer today are
                listed in scripts/long-functions.txt with their length: they may shrink, and then their row does too;
                no other may appear.
    unused      A function that a header of daemon/ declares is used in daemon/, not in tests only. A member function
                is used where it is called, whatever else has its name.
    columns     A comment of a C or C++ file has at most 100 columns (clang-format does not reflow it).
    path        A file that a comment or a page names exists.
    adr         A decision record that a comment or a page names by its number exists.
    member      `Class::member` on a page, and Class::member or kConstant in a comment, exists in the sources.
    test        `Suite.Test` and `cluster.file.test` on a page exist in tests/.
    name        A test name in tests/ has fewer than 50 characters: condition and result.
    local       What one file of a module has in its unnamed namespace, no other file of it has: files are compiled
                together (docs/adr/0046-files-compiled-together.md). Aliases of the same, and overloads, may be there
                twice.
"""
import collections
import io
import pathlib
import re
import sys
import tempfile
import tokenize

MAX_LINES = 70
MAX_COLUMNS = 100
MAX_SUBJECT = 60
MAX_TEST_NAME = 49
LONG_FUNCTIONS = "scripts/long-functions.txt"

CODE = {".h", ".hpp", ".cc", ".cpp", ".c", ".inc"}
CODE_FOLDERS = ["daemon", "plugins", "sdk", "tests"]
SCRIPTS = {".py", ".sh"}
SCRIPT_FOLDERS = ["scripts", "tests"]
# A file of one of these folders that is named is looked for; of another, it is somebody else's.
FOLDERS = "daemon|tests|scripts|docs|plugins|sdk|conf"
ENDINGS = "h|hpp|cc|cpp|c|md|py|sh|txt|yaml|service|supp|cmake"

# Functions that only tests, a library or the compiler calls, and why they stay.
MAY_BE_UNUSED = {
    "clone": "the search copies cores, tests of the log copy disks",
    "calls": "tests count what a disk was asked",
    "changes": "tests count what a disk was asked",
    "fail_nth_change": "tests make a disk fail",
    "failure_hit": "tests make a disk fail",
    "open_files": "tests count what a process has open",
    "restarted": "what tests with cores alone say to the invariant checker",
    "wrap": "tests give a plugin that is no file",
    "until": "a connection with TLS ends with what was shown on it",
    "owner_of": "the names of certificates, for the ports with TLS",
    "routes_markdown": "a test compares the table of docs/operations.md with it",
    # daemon/tls, until connectd uses it.
    "cipher": "the ports will",
    "is_other_plain": "the ports will",
}


class Tree:
    """The files of a tree, each read once."""

    def __init__(self, root):
        self.root = root
        self.texts = {}
        for folder in CODE_FOLDERS:
            self.read(folder, CODE)
        for folder in SCRIPT_FOLDERS:
            self.read(folder, SCRIPTS)
        self.read("docs", {".md"})
        self.read("tests", {".md"})
        for path in sorted(root.glob("*.md")):
            self.texts[path.name] = path.read_text(encoding="utf-8", errors="replace")
        self.comments, self.code = {}, {}
        for name, text in self.texts.items():
            if pathlib.PurePath(name).suffix in CODE:
                self.code[name], self.comments[name] = split(text)
            elif pathlib.PurePath(name).suffix in SCRIPTS:
                self.comments[name] = (python_comments(text) if name.endswith(".py") else
                                       [line if line.lstrip().startswith("#") else ""
                                        for line in text.splitlines()])

    def read(self, folder, suffixes):
        for path in sorted((self.root / folder).rglob("*")):
            if path.suffix in suffixes and path.is_file() and "__pycache__" not in path.parts:
                self.texts[path.relative_to(self.root).as_posix()] = path.read_text(
                    encoding="utf-8", errors="replace")

    def pages(self):
        return [name for name in self.texts if name.endswith(".md")]

    def sources(self, *folders):
        return [name for name in self.code if name.split("/")[0] in folders]


TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'',
                   re.DOTALL)


def split(text):
    """C or C++ as code without comments and texts, and its comments; both with the same lines."""
    comments = [""] * (text.count("\n") + 1)

    def replace(match):
        token = match.group(0)
        if token.startswith("'") and match.start() and text[match.start() - 1].isalnum():
            return token  # 1'000'000
        if token.startswith("/"):
            line = text.count("\n", 0, match.start())
            for part in token.split("\n"):
                comments[line] += part
                line += 1
            return "\n" * token.count("\n")
        return '""' + "\n" * token.count("\n")

    return TOKEN.sub(replace, text), comments


def python_comments(text):
    comments = [""] * (text.count("\n") + 1)
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                comments[token.start[0] - 1] = token.string
    except (tokenize.TokenError, SyntaxError):
        pass
    return comments


# ---- functions

NO_FUNCTION = re.compile(r"^(if|for|while|switch|do|else|return|catch|namespace|enum|union|extern)\b")
SCOPE = re.compile(r"\b(?:namespace|class|struct|union)\s+(?:\[\[\w+\]\]\s*)?(\w+(?:::\w+)*)?")
HEAD = re.compile(r"([~\w]+(?:::[~\w]+)*|operator\s*\S+?)\s*$")


def without_parentheses(text):
    """What is outside of all parentheses; and where the first of them opens."""
    kept, depth, first = [], 0, None
    for at, letter in enumerate(text):
        if letter == "(":
            depth += 1
            first = at if first is None else first
        elif letter == ")":
            depth -= 1
        elif depth == 0:
            kept.append(letter)
    return "".join(kept), first


def functions(code):
    """The functions that are defined outside of functions: (name with its classes, first line, last)."""
    code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: "\n" * m.group(0).count("\n"), code,
                  flags=re.MULTILINE)
    found, scopes, begin, parentheses = [], [], 0, 0
    for match in re.finditer(r"[{}();]", code):
        at, letter = match.start(), match.group(0)
        if letter in "()":
            parentheses += 1 if letter == "(" else -1
            continue
        if letter == "}":
            if scopes:
                kind, name, first, parentheses = scopes.pop()
                if kind == "function":
                    found.append((name, first, code.count("\n", 0, at) + 1))
                if kind == "other" and name:  # a value in braces, in the middle of a declaration
                    continue
            begin = at + 1
            continue
        if letter == ";":
            if parentheses == 0:
                begin = at + 1
            continue
        before = code[begin:at]
        text = re.sub(r"^\s*(?:(?:public|private|protected):\s*)*", "", before)
        outside, first = without_parentheses(re.sub(r"operator\s*\(\)", "operator_call", text))
        text = re.sub(r"operator\s*\(\)", "operator_call", text)
        within = [scope for scope in scopes if scope[0] in ("function", "other")]
        kind, name = "other", ""
        scope = SCOPE.search(text)
        if within or parentheses:
            name = "value" if within else ""
            name = "value" if parentheses else ""
        elif first is None and scope:
            kind, name = "scope", (scope.group(1) or "") if "namespace" not in text else ""
        elif (first is not None and not NO_FUNCTION.match(text) and code[at - 1].isspace()
              and "=" not in re.sub(r"operator\s*[=<>!+*/&|^-]+", "", outside)):
            head = HEAD.search(text[:first])
            if head:
                classes = [s[1] for s in scopes if s[0] == "scope" and s[1]]
                kind, name = "function", "::".join(classes + [head.group(1)])
        elif not code[at - 1].isspace():
            name = "value"
        line = code.count("\n", 0, begin + len(before) - len(before.lstrip())) + 1
        scopes.append((kind, name, line, parentheses))
        parentheses = 0
        if not (kind == "other" and name):
            begin = at + 1
    return found


def long_functions(tree):
    found = []
    for name in tree.sources("daemon", "plugins", "sdk"):
        for function, first, last in functions(tree.code[name]):
            if last - first + 1 > MAX_LINES:
                found.append((function, last - first + 1, name, first))
    return found


def rule_long(tree):
    listed = collections.defaultdict(list)
    path = tree.root / LONG_FUNCTIONS
    if path.exists():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if line and not line.startswith("#"):
                length, function = line.split()[:2]
                listed[function].append((int(length), number))
    for rows in listed.values():
        rows.sort(reverse=True)
    for function, length, name, line in sorted(long_functions(tree), key=lambda f: -f[1]):
        allowed, row = listed[function].pop(0) if listed[function] else (0, 0)
        if length > max(allowed, MAX_LINES):
            had = f"it may have {allowed}" if allowed else f"a function has at most {MAX_LINES}"
            yield name, line, f"{function} has {length} lines; {had}"
        elif length < allowed:
            yield LONG_FUNCTIONS, row, f"{function} has {length} lines now, not {allowed}: --update"
    for function, rows in listed.items():
        for length, row in rows:
            yield LONG_FUNCTIONS, row, f"no function {function} has more than {MAX_LINES} lines now: --update"


# ---- unused

KEYWORDS = {"if", "for", "while", "switch", "return", "sizeof", "operator", "decltype", "alignas",
            "noexcept", "static_assert", "defined", "catch", "explicit"}


def declared_functions(code):
    """The lines at which a header, outside of functions, declares a function: (name, line)."""
    for number, line in enumerate(code.splitlines(), start=1):
        match = re.match(r"^\s{0,4}(?:\[\[nodiscard\]\]\s+)?(?:(?:virtual|static|inline|constexpr|friend)\s+)*"
                         r"(?!return\b|using\b|else\b|throw\b|new\b|delete\b|case\b|CHECK)"
                         r"[\w:]+(?:<[^;=]*>)?[\s&*]+([a-z]\w+)\(", line)
        if match and match.group(1) not in KEYWORDS and "=" not in line[:match.end()]:
            yield match.group(1), number


def rule_unused(tree):
    words, calls, values = collections.Counter(), collections.Counter(), collections.Counter()
    for name in tree.sources("daemon", "plugins"):
        code = tree.code[name]
        words.update(re.findall(r"\b[A-Za-z_]\w*\b", code))
        calls.update(re.findall(r"\b([A-Za-z_]\w*)\s*\(", code))
        values.update(re.findall(r"&(?:\w+::)+(\w+)\b(?!\s*\()", code))
    definitions = collections.Counter()
    for name in tree.sources("daemon"):
        if name.endswith(".cc"):
            definitions.update(function.split("::")[-1] for function, _, _ in
                               functions(tree.code[name]))
    declared, members = collections.defaultdict(list), collections.Counter()
    for name in tree.sources("daemon"):
        if name.endswith(".h"):
            lines = tree.code[name].splitlines()
            for function, line in declared_functions(tree.code[name]):
                declared[function].append((name, line))
                # In a class; a static one may be used without a call, as a free function may.
                members[function] += bool(re.match(r"\s+(?!\s|static\b|friend\b)", lines[line - 1]))
    for function, places in sorted(declared.items()):
        if function in MAY_BE_UNUSED:
            continue
        only_members = members[function] == len(places)
        uses = calls[function] + values[function] if only_members else words[function]
        if uses <= len(places) + definitions[function]:
            for name, line in places:
                yield name, line, f"{function} is declared and never used in daemon/"


# ---- comments and pages

def rule_columns(tree):
    for name in tree.sources(*CODE_FOLDERS):
        lines = tree.texts[name].splitlines()
        for number, comment in enumerate(tree.comments[name], start=1):
            if comment and len(lines[number - 1]) > MAX_COLUMNS and "http" not in comment:
                yield name, number, f"a comment of {len(lines[number - 1])} columns; {MAX_COLUMNS} at most"


def cited_lines(tree):
    """What people read: the lines of pages, and the comments of sources and scripts."""
    for name in tree.pages():
        yield name, tree.texts[name].splitlines()
    yield from tree.comments.items()


CITED_PATH = re.compile(rf"(?<![\w./<>{{}}$-])((?:{FOLDERS})/[\w./-]*\w\.(?:{ENDINGS}))(?![\w/*<])")


def modules(tree):
    daemon = tree.root / "daemon"
    return sorted(p.name for p in daemon.iterdir() if p.is_dir()) if daemon.is_dir() else []


def rule_path(tree):
    in_daemon = re.compile(rf"(?<![\w./<>{{}}$-])((?:{'|'.join(modules(tree)) or 'daemon'})/[\w./-]*\w\.(?:h|cc))\b")
    for name, lines in cited_lines(tree):
        if name.endswith("links_test.py"):  # it shows links that lead nowhere
            continue
        for number, line in enumerate(lines, start=1):
            for match in CITED_PATH.finditer(line):
                path = match.group(1)
                if not (tree.root / path).exists():
                    yield name, number, f"{path} does not exist"
            for match in in_daemon.finditer(line):
                path = match.group(1)
                if not any((tree.root / top / path).exists() for top in ("daemon", ".", "tests/unit")):
                    yield name, number, f"daemon/{path} does not exist"


def rule_adr(tree):
    numbers = {path.name[:4] for path in (tree.root / "docs/adr").glob("[0-9]*.md")}
    names = {path.name for path in (tree.root / "docs/adr").glob("*.md")}
    for name, lines in cited_lines(tree):
        for number, line in enumerate(lines, start=1):
            for match in re.finditer(r"\bADRs? (\d{1,4})\b", line):
                if match.group(1).zfill(4) not in numbers:
                    yield name, number, f"there is no ADR {match.group(1)}"
            for match in re.finditer(r"\badr/(\d{4}[\w-]*)(\.md)?", line):
                file = match.group(1) + ".md"
                if file not in names and not (len(match.group(1)) == 4 and match.group(1) in numbers):
                    yield name, number, f"docs/adr/{file} does not exist"


def rule_member(tree):
    words, types = set(), set()
    for name in tree.sources(*CODE_FOLDERS):
        words.update(re.findall(r"\b\w+\b", tree.code[name]))
        for path in re.findall(r"\b(?:class|struct|enum|namespace|using)\s+(?:class\s+)?"
                               r"(?:\[\[\w+\]\]\s*)?(\w+(?:::\w+)*)", tree.code[name]):
            types.update(path.split("::"))
    for name, lines in cited_lines(tree):
        if name.endswith(".py") or name.endswith(".sh"):
            continue
        quote = "`" if name.endswith(".md") else ""
        cited = re.compile(rf"{quote}(?<![\w:.])([A-Za-z]\w*(?:::~?[A-Za-z_]\w*)+)(?:\(\))?{quote}")
        for number, line in enumerate(lines, start=1):
            for match in cited.finditer(line):
                parts = match.group(1).split("::")
                if parts[0] in ("std", "boost", "tl", "fmt", "asio", "testing"):
                    continue
                if parts[-2] not in types or parts[-1].lstrip("~") not in words:
                    yield name, number, f"{match.group(1)} does not exist"
            for match in re.finditer(r"\bk[A-Z]\w+", line):
                if match.group(0) not in words and match.group(0) != "kPascalCase":
                    yield name, number, f"{match.group(0)} does not exist"


def rule_test(tree):
    tests = collections.defaultdict(set)
    for name in tree.sources("tests"):
        for suite, test in re.findall(r"^(?:TYPED_)?TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", tree.code[name],
                                      re.MULTILINE):
            tests[suite].add(test)
    for name in tree.pages():
        for number, line in enumerate(tree.texts[name].splitlines(), start=1):
            for suite, test in re.findall(r"`([A-Z]\w+)\.([A-Z]\w+)`", line):
                if suite in tests and test not in tests[suite]:
                    yield name, number, f"there is no test {suite}.{test}"
            for file, test in re.findall(r"`cluster\.([a-z0-9_]+)\.([a-z0-9_]+)`", line):
                text = tree.texts.get(f"tests/cluster/{file}.py", "")
                if f"def test_{test}(" not in text:
                    yield name, number, f"there is no test cluster.{file}.{test}"


def rule_name(tree):
    gtest = re.compile(r"^(?:TYPED_)?TEST(?:_F|_P)?\(\s*\w+,\s*(\w+)\)", re.MULTILINE)
    script = re.compile(r"^\s*def (test_\w+)\(", re.MULTILINE)
    for name, text in tree.texts.items():
        if not name.startswith("tests/") or not name.endswith((".cc", ".py")):
            continue
        for match in (gtest if name.endswith(".cc") else script).finditer(text):
            if len(match.group(1)) > MAX_TEST_NAME:
                yield (name, text.count("\n", 0, match.start(1)) + 1,
                       f"{match.group(1)} has {len(match.group(1))} characters; must be at most {MAX_TEST_NAME}")


LOCAL = re.compile(
    r"^(?:template <.*> )?(?:(?:constexpr|const|static|inline|thread_local|\[\[\w+\]\]) )*(?:"
    r"(?:class|struct|enum class|enum|union) (?P<type>\w+)(?: final)?(?: :| \{|$)|"
    r"(?:using|namespace) (?P<alias>\w+) = (?P<what>.*)|"
    r"[\w:<>,*& ]+?[ *&](?P<function>\w+)\((?P<parameters>.*)|"
    r"[\w:<>,*& ()]+?[ *&](?P<value>\w+)(?:\[.*\])?(?: =|\{|;))")


def local_names(code):
    """What stands in the unnamed namespaces: (what makes it the same as another, name, line)."""
    depth, inside = 0, None
    lines = code.splitlines()
    for number, line in enumerate(lines, start=1):
        if inside is not None and depth == inside + 1 and line and line[0] not in " }#\t":
            match = LOCAL.match(line)
            if match and match["function"]:
                rest = match["parameters"]
                for more in lines[number:number + 6]:
                    if ")" in rest:
                        break
                    rest += " " + more.strip()
                types = re.sub(r"\s*\b\w+(?=,|$)", "", rest.split(")")[0])
                yield (match["function"], types), match["function"], number
            elif match and match["alias"]:
                yield (match["alias"],), match["alias"], number
            elif match:
                yield (match["type"] or match["value"],), match["type"] or match["value"], number
        if line.startswith("namespace {") and inside is None:
            inside = depth
        depth += line.count("{") - line.count("}")
        if inside is not None and depth <= inside:
            inside = None


def rule_local(tree):
    found = {}
    for name in tree.sources(*CODE_FOLDERS):
        if not name.endswith(".cc"):
            continue
        # plugins/kv, daemon/node with its folders, tests/unit/node
        module = "/".join(name.split("/")[:3 if name.startswith("tests/") else 2])
        for key, local, line in local_names(tree.code[name]):
            text = tree.code[name].splitlines()[line - 1]
            other, first = found.setdefault((module, *key), (name, text))
            is_same_alias = first == text and text.startswith(("using ", "namespace "))
            if other != name and not is_same_alias:
                yield name, line, f"{local} is a name in {other}, too, and both may be compiled together"


RULES = {"long": rule_long, "local": rule_local, "unused": rule_unused, "columns": rule_columns, "path": rule_path,
         "adr": rule_adr, "member": rule_member, "test": rule_test, "name": rule_name}


def message_violations(text):
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    subject = lines[0] if lines else ""
    if subject.startswith(("Merge ", "Revert ", "fixup! ", "squash! ")):
        return
    if len(subject) > MAX_SUBJECT:
        yield f"the subject has {len(subject)} letters; {MAX_SUBJECT} at most"
    if not re.match(r"^[a-z0-9_]+(?:, [a-z0-9_]+)*: \S", subject):
        yield "the subject must have the form `area: verb and object`"
    if subject.endswith("."):
        yield "the subject must not end with a full stop"
    if len(lines) > 1 and lines[1].strip():
        yield "the second line must be empty"


# rule -> rows of (files, is it a violation)
LONG = "int f() {\n" + "  g();\n" * MAX_LINES + "}\n"
SELF_TEST = {
    "long": [
        ({"daemon/base/a.cc": LONG}, True),
        ({"daemon/base/a.cc": LONG, LONG_FUNCTIONS: "72 f daemon/base/a.cc\n"}, False),
        ({"daemon/base/a.cc": LONG, LONG_FUNCTIONS: "71 f daemon/base/a.cc\n"}, True),
        ({"daemon/base/a.cc": LONG, LONG_FUNCTIONS: "72 f daemon/base/b.cc\n"}, False),
        ({"daemon/base/a.cc": LONG, LONG_FUNCTIONS: "73 f daemon/base/a.cc\n"}, True),
        ({"daemon/base/a.cc": "int x;\n", LONG_FUNCTIONS: "72 f daemon/base/a.cc\n"}, True),
        ({"daemon/base/a.cc": LONG, LONG_FUNCTIONS: "72 f daemon/base/a.cc\n72 f daemon/base/b.cc\n"}, True),
        ({"daemon/base/a.cc": LONG, LONG_FUNCTIONS: "90 g daemon/base/a.cc\n"}, True),
        ({"daemon/base/a.cc": LONG.replace("f()", "A::A(B b) : b_{b}, c_(1)")}, True),
        ({"daemon/base/a.h": "class A {\n " + LONG + "};\n"}, True),
        ({"daemon/base/a.h": "class A {\n" + "  int x = f(1);\n" * 80 + "};\n"}, False),
        ({"daemon/base/a.cc": "const T kTable[] = {\n" + '  {f(1), "}"},\n' * 80 + "};\n"}, False),
        ({"daemon/base/a.cc": "namespace a {\n" + "int f() { return 1; }\n" * 80 + "}  // a\n"}, False),
    ],
    "unused": [
        ({"daemon/base/a.h": "int forgotten(int x);\n"}, True),
        ({"daemon/base/a.h": "class A {\n  int forgotten() const { return 1; }\n};\n"}, True),
        ({"daemon/base/a.h": "int forgotten(int x);\n",
          "daemon/base/a.cc": "int forgotten(int x) {\n  return x;\n}\n"}, True),
        ({"daemon/base/a.h": "int forgotten(int x);\n",
          "tests/a.cc": "int main() { return forgotten(1); }\n"}, True),
        ({"daemon/base/a.h": "int forgotten(int x);\n",
          "daemon/base/b.cc": "// forgotten\nint y = 1;\n"}, True),
        ({"daemon/base/a.h": "int used(int x);\n",
          "daemon/base/a.cc": "int used(int x) {\n  return x;\n}\n",
          "daemon/base/b.cc": "int y() {\n  return used(1);\n}\n"}, False),
        ({"daemon/base/a.h": "class A {\n  int idle() const { return 1; }\n};\n",
          "daemon/base/b.cc": "int y(int idle) {\n  return idle + b.idle;\n}\n"}, True),
        ({"daemon/base/a.h": "class A {\n  int idle() const { return 1; }\n};\n",
          "daemon/base/b.cc": "int y(const A& a) {\n  return a.idle();\n}\n"}, False),
        ({"daemon/base/a.h": "class A {\n  int idle() const { return 1; }\n};\n",
          "daemon/base/b.cc": "auto y = std::ranges::find(x, 1, &A::idle);\n"}, False),
        ({"daemon/base/a.h": "class A {\n  static int made();\n};\n",
          "daemon/base/b.cc": "Row row{.make = A::made};\n"}, False),
        ({"daemon/base/a.h": "int made();\n", "daemon/base/b.cc": "Row row{.make = made};\n"}, False),
    ],
    "columns": [
        ({"daemon/base/a.h": "// " + "a" * 98 + "\n"}, True),
        ({"tests/a.cc": "int x;  // " + "a" * 98 + "\n"}, True),
        ({"daemon/base/a.h": "// " + "a" * 97 + "\n"}, False),
    ],
    "path": [
        ({"daemon/base/a.h": "// As in daemon/base/b.h.\n"}, True),
        ({"daemon/base/a.h": "// As in base/b.h.\n"}, True),
        ({"daemon/base/a.h": "// As in daemon/base/a.h and base/a.h.\n"}, False),
        ({"docs/a.md": "see `tests/unit/a.cc`\n"}, True),
        ({"README.md": "see [this](docs/a.md)\n"}, True),
        ({"scripts/a.py": "x = 1  # as scripts/b.py has it\n"}, True),
        ({"docs/a.md": "others have src/server.c, build/tests/a.cc\n"}, False),
    ],
    "adr": [
        ({"docs/adr/0001-a.md": "# A\n", "daemon/base/a.h": "// ADR 1 says why.\n"}, False),
        ({"docs/adr/0001-a.md": "# A\n", "daemon/base/a.h": "// ADR 2 says why.\n"}, True),
        ({"docs/adr/0001-a.md": "# A\n", "daemon/base/a.h": "// docs/adr/0001-b.md\n"}, True),
        ({"docs/adr/0001-a.md": "# A\n", "docs/a.md": "[why](adr/0001-a.md)\n"}, False),
    ],
    "member": [
        ({"daemon/base/a.h": "class A {\n  int f();\n};\n", "docs/a.md": "`A::f` does it\n"}, False),
        ({"daemon/base/a.h": "class A {\n  int f();\n};\n", "docs/a.md": "`A::g` does it\n"}, True),
        ({"daemon/base/a.h": "class A {\n  int f();\n};\n", "README.md": "`B::f` does it\n"}, True),
        ({"docs/a.md": "a `std::function`\n"}, False),
        ({"daemon/base/a.h": "// As A::f does.\nclass A {\n  int f();\n};\n"}, False),
        ({"daemon/base/a.h": "// As A::g does.\nclass A {\n  int f();\n};\n"}, True),
        ({"daemon/base/a.h": "// Up to kMost, a std::vector.\nconstexpr int kMost = 1;\n"}, False),
        ({"daemon/base/a.h": "// Up to kLeast.\nconstexpr int kMost = 1;\n"}, True),
        ({"docs/a.md": "Constants are `kPascalCase`; up to `kLeast`.\n"}, True),
        ({"daemon/base/a.h": "namespace a::b {\nint f();\n}\n", "docs/a.md": "`b::f` does\n"}, False),
    ],
    "test": [
        ({"tests/a.cc": "TEST(Suite, Works) {}\n", "docs/a.md": "`Suite.Works`\n"}, False),
        ({"tests/a.cc": "TEST(Suite, Works) {}\n", "docs/a.md": "`Suite.Fails`\n"}, True),
        ({"tests/cluster/a.py": "def test_b():\n", "docs/a.md": "`cluster.a.b`\n"}, False),
        ({"tests/cluster/a.py": "def test_b():\n", "docs/a.md": "`cluster.a.c`\n"}, True),
    ],
    "name": [
        ({"tests/a.cc": f"TEST(Suite, {'A' * 49}) {{}}\n"}, False),
        ({"tests/a.cc": f"TEST(Suite, {'A' * 50}) {{}}\n"}, True),
        ({"tests/a.cc": f"TEST_F(Suite,\n       {'A' * 50}) {{}}\n"}, True),
        ({"tests/cluster/a.py": f"def test_{'a' * 44}():\n"}, False),
        ({"tests/cluster/a.py": f"class A:\n    def test_{'a' * 45}(self):\n"}, True),
        ({"tests/cluster/a.py": f"def {'a' * 60}():\n"}, False),
    ],
}
SELF_TEST["local"] = [
    ({"daemon/a/a.cc": "namespace {\nint f(int x) {\n  return x;\n}\n}\n",
      "daemon/a/b/b.cc": "namespace {\nint f(int y) {\n  return y;\n}\n}\n"}, True),
    ({"daemon/a/a.cc": "namespace {\nint f(int x) {\n  return x;\n}\n}\n",
      "daemon/b/b.cc": "namespace {\nint f(int y) {\n  return y;\n}\n}\n"}, False),
    ({"daemon/a/a.cc": "namespace {\nint f(int x) {\n  return x;\n}\n}\n",
      "daemon/a/b.cc": "namespace {\nint f(A& y) {\n  return y.z;\n}\n}\n"}, False),
    ({"daemon/a/a.cc": "namespace {\nint f();\n}\nint g() { return 1; }\n",
      "daemon/a/b.cc": "namespace {\nint h();\nint g() { return 1; }\n}\n"}, False),
    ({"tests/unit/a/a.cc": "namespace {\nconstexpr size_t kMost = 1;\n}\n",
      "tests/unit/a/b.cc": "namespace {\nconst int kMost = 1;\n}\n"}, True),
    ({"tests/unit/a/a.cc": "namespace {\nclass A final {\n};\n}\n",
      "tests/unit/a/b.cc": "namespace {\nstruct A : B {\n};\n}\n"}, True),
    ({"daemon/a/a.cc": "namespace {\nusing A = b::A;\n}\n", "daemon/a/b.cc": "namespace {\nusing A = b::A;\n}\n"}, False),
    ({"daemon/a/a.cc": "namespace {\nusing A = b::A;\n}\n", "daemon/a/b.cc": "namespace {\nusing A = c::A;\n}\n"}, True),
    ({"daemon/a/a.cc": "namespace {\nusing A = b::A;\n}\n", "daemon/a/b.cc": "namespace {\nclass A {\n};\n}\n"}, True),
]
MESSAGES = {
    "raft: count only entries of the own term": False,
    "raft, node: count entries": False,
    "count only entries of the own term": True,
    "raft: count only entries of the own term.": True,
    "raft: " + "a" * 60: True,
    "raft: count entries\nat once": True,
    "raft: count entries\n\nbecause": False,
}


def check(root, rules=None):
    tree = Tree(root)
    found = []
    for rule in rules or RULES:
        for name, line, text in RULES[rule](tree):
            found.append(f"{name}:{line}: {text} [{rule}]")
    return found, len(tree.texts)


def self_test():
    wrong, cases = [], 0
    for rule, rows in SELF_TEST.items():
        for files, expected in rows:
            cases += 1
            with tempfile.TemporaryDirectory() as folder:
                for name, text in files.items():
                    path = pathlib.Path(folder) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text, encoding="utf-8")
                found, _ = check(pathlib.Path(folder), [rule])
            if bool(found) != expected:
                wrong.append(f"{rule}: {files}: {'not caught' if expected else 'refused: ' + found[0]}")
    for message, expected in MESSAGES.items():
        cases += 1
        if bool(list(message_violations(message))) != expected:
            wrong.append(f"message: {message!r}: {'not caught' if expected else 'refused'}")
    for line in wrong:
        print(line)
    print(f"self-test: {cases} cases, {len(wrong)} wrong")
    return 1 if wrong or set(SELF_TEST) != set(RULES) else 0


def update(root):
    rows = sorted(long_functions(Tree(root)), key=lambda f: (-f[1], f[0]))
    with open(root / LONG_FUNCTIONS, "w", encoding="utf-8") as file:
        file.write("# Functions of more than 70 lines: scripts/check-tidy.py. They may shrink; none is added.\n"
                   "# lines, function, where it was when this was written\n")
        for function, length, name, _ in rows:
            file.write(f"{length} {function} {name}\n")
    print(f"{LONG_FUNCTIONS}: {len(rows)} functions")
    return 0


def main(arguments):
    here = pathlib.Path(__file__).resolve().parent.parent
    if arguments == ["--self-test"]:
        return self_test()
    if arguments == ["--update"]:
        return update(here)
    if len(arguments) == 2 and arguments[0] == "--message":
        found = list(message_violations(pathlib.Path(arguments[1]).read_text(encoding="utf-8")))
        for text in found:
            print(f"commit message: {text}", file=sys.stderr)
        return 1 if found else 0
    if len(arguments) > 1 or any(a.startswith("-") for a in arguments):
        print(__doc__.strip(), file=sys.stderr)
        return 64
    root = pathlib.Path(arguments[0]) if arguments else here
    found, files = check(root)
    for line in found:
        print(line)
    if files == 0:
        print(f"no files found under {root}: is it the root of the source tree?")
        return 1
    print(f"tidy: {files} files, {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

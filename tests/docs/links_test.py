#!/usr/bin/env python3
"""Checks what the Markdown pages point at.

    links_test.py                check README.md, docs/ and the README files of plugins/ and tests/
    links_test.py --self-test    show that a wrong page is caught

A link to a file of the repository has to lead to one, with its #anchor if it has one. A path in
`backticks` that ends like a source file has to exist, from the root or from daemon/, and a test in
backticks, `Suite.Name`, `Suite.*` or `cluster.file.name`, in tests/. No network.
"""
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")
SOURCE = re.compile(r"^[\w.-]+(/[\w.-]+)+\.(h|hpp|c|cc|py|sh|md|yaml|map)$")
TEST = re.compile(r"^([A-Z]\w+)\.([A-Z]\w+|\*)$")
CLUSTER_TEST = re.compile(r"^cluster\.([a-z_]+)\.([a-z0-9_]+)$")
DEFINITION = re.compile(r"^TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", re.MULTILINE)
# Paths in backticks that are examples and not files of the repository.
EXAMPLES = re.compile(r"^(build|connectd-data|kv-demo)/|INDEX")


def pages(root):
    found = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    for folder in ("plugins", "tests"):
        found += sorted((root / folder).rglob("*.md"))
    return [page for page in found if page.is_file()]


def prose(page):
    """(number, line) outside of code blocks."""
    inside = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            yield number, line


def anchors(page):
    """As GitHub makes them of the headings."""
    names = set()
    for _, line in prose(page):
        if line.startswith("#"):
            title = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", line.lstrip("#").strip()).lower()
            names.add(re.sub(r"[^\w\- ]", "", title).replace(" ", "-"))
    return names


def tests_of(root):
    names = set()
    for source in (root / "tests").rglob("*.cc"):
        for suite, name in DEFINITION.findall(source.read_text(encoding="utf-8")):
            names |= {(suite, name), (suite, "*")}
    for source in (root / "tests/cluster").glob("*.py"):
        for name in re.findall(r"^def test_([a-z0-9_]+)", source.read_text(encoding="utf-8"), re.MULTILINE):
            names.add((source.stem, name))
    return names


def check(root):
    """All that is wrong, as "page:line: text"; and the number of things looked at."""
    wrong, seen, tests = [], 0, tests_of(root)
    for page in pages(root):
        where = page.relative_to(root).as_posix()
        for number, line in prose(page):
            for target in LINK.findall(CODE.sub("", line)) + LINK.findall(line):
                if re.match(r"[a-z]+:", target):
                    continue
                seen += 1
                path, _, anchor = target.partition("#")
                file = (page.parent / path).resolve() if path else page
                if not file.exists():
                    wrong.append(f"{where}:{number}: a link to {target}, which is not there")
                elif anchor and anchor not in anchors(file):
                    wrong.append(f"{where}:{number}: a link to {target}; the page has no such heading")
            for path in CODE.findall(line):
                test = TEST.match(path) or CLUSTER_TEST.match(path)
                if test:
                    seen += 1
                    if test.groups() not in tests:
                        wrong.append(f"{where}:{number}: names the test {path}, which is not there")
                if not SOURCE.match(path) or EXAMPLES.search(path):
                    continue
                seen += 1
                if not any((base / path).exists() for base in (root, root / "daemon", page.parent)):
                    wrong.append(f"{where}:{number}: names {path}, which is not there")
    return list(dict.fromkeys(wrong)), seen


# A page in docs/ -> is something wrong with it? Beside it: docs/other.md with the heading "One `two`",
# daemon/raft/core.h, and the tests Disk.Fails and cluster.stop.gently.
SELF_TEST = [
    ("[a](other.md)", False),
    ("[a](missing.md)", True),
    ("[a](other.md#one-two)", False),
    ("[a](other.md#three)", True),
    ("[a](https://example.org/x.md)", False),
    ("see `raft/core.h` and `daemon/raft/core.h`", False),
    ("see `raft/gone.h`", True),
    ("see `daemon/gone.cc`", True),
    ("```\n[a](missing.md)\n```", False),
    ("[`a`](missing.md)", True),
    ("`Disk.Fails` and `Disk.*`", False),
    ("`Disk.Works`", True),
    ("`Moon.*`", True),
    ("`cluster.stop.gently`", False),
    ("`cluster.stop.badly`", True),
]


def self_test():
    failed = 0
    for text, expected in SELF_TEST:
        with tempfile.TemporaryDirectory() as name:
            root = pathlib.Path(name)
            (root / "docs").mkdir()
            (root / "daemon/raft").mkdir(parents=True)
            (root / "daemon/raft/core.h").write_text("")
            (root / "tests/cluster").mkdir(parents=True)
            (root / "tests/cluster/stop.py").write_text("def test_gently(context):\n")
            (root / "tests/disk_test.cc").write_text("TEST_F(Disk, Fails) {\n}\n")
            (root / "docs/other.md").write_text("# One `two`\n")
            (root / "docs/page.md").write_text(text + "\n")
            wrong, _ = check(root)
            if bool(wrong) != expected:
                failed += 1
                print(f"{text!r}: {wrong or 'not caught'}")
    print(f"self-test: {len(SELF_TEST)} cases, {failed} wrong")
    return 1 if failed else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    wrong, seen = check(ROOT)
    for line in wrong:
        print(line)
    print(f"links: {seen} looked at, {len(wrong)} wrong")
    return 1 if wrong or seen == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

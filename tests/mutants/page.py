#!/usr/bin/env python3
"""The table of docs/mutants.md: one row for each mutant of the catalogue, in its order.

    page.py --check MUTANTS                does the page have the mutants that `MUTANTS --list` prints?
    page.py --write MUTANTS TABLE          put the rows of TABLE, which `MUTANTS --markdown` printed, into the page
    page.py --self-test
"""
import pathlib
import re
import subprocess
import sys

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/mutants.md"
BEGIN, END = "<!-- mutants: begin -->\n", "<!-- mutants: end -->"
HEAD = "| mutant | what it does | killed by | seed | seconds |\n|---|---|---|---|---|\n"


def parse_list(text):
    """name -> what it does, as `mutants --list` prints it: the first word, and what follows the runner."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.split(None, 2)
        found[name] = rest.removeprefix("(quick) ")
    return found


def rows_of(table):
    """name -> its row."""
    return {match.group(1): match.group(0) for match in re.finditer(r"^\| `(\w+)` \|.*$", table, re.MULTILINE)}


def table_of(page):
    return page[page.index(BEGIN) + len(BEGIN):page.index(END)]


def differences(page, catalogue):
    rows = rows_of(table_of(page))
    for name in catalogue:
        if name not in rows:
            yield f"{name} is missing; add it: scripts/mutants.sh --docs {name}"
        elif rows[name].split(" | ")[1] != catalogue[name]:
            yield f"{name} does something else now: scripts/mutants.sh --docs {name}"
        elif "**it lives**" in rows[name]:
            yield f"{name} is not killed"
    for name in rows:
        if name not in catalogue:
            yield f"{name} is not in the catalogue"
    if not list(set(catalogue) ^ set(rows)) and list(rows) != list(catalogue):
        yield "the rows are not in the order of the catalogue: scripts/mutants.sh --docs"


def merged(page, catalogue, table):
    rows = rows_of(table_of(page)) | rows_of(table)
    text = HEAD + "".join(rows[name] + "\n" for name in catalogue if name in rows)
    return page[:page.index(BEGIN) + len(BEGIN)] + text + page[page.index(END):]


def self_test():
    catalogue = parse_list("a         simulator  (quick) Does a.\nb  cores      Does b.\n")
    assert catalogue == {"a": "Does a.", "b": "Does b."}, catalogue
    row = "| `{0}` | Does {0}. | cores, x | 1 | 0.0 |\n".format
    page = f"# Mutants\n{BEGIN}{HEAD}{{}}{END}\nafter\n"
    assert not list(differences(page.format(row("a") + row("b")), catalogue))
    for wrong in [row("a"), row("b") + row("a"), row("a") + row("b") + row("c"),
                  row("a") + row("b").replace("Does", "Did"), row("a") + row("b").replace("x", "**it lives**")]:
        assert list(differences(page.format(wrong), catalogue)), wrong
    new = row("a").replace("x", "y")
    assert merged(page.format(row("c") + row("b")), catalogue, HEAD + new) == page.format(new + row("b"))
    return 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) != {"--check": 2, "--write": 3}.get(arguments[0] if arguments else ""):
        print(__doc__.strip(), file=sys.stderr)
        return 64
    catalogue = parse_list(subprocess.run([arguments[1], "--list"], check=True, capture_output=True, text=True).stdout)
    page = PAGE.read_text(encoding="utf-8")
    if arguments[0] == "--write":
        table = pathlib.Path(arguments[2]).read_text(encoding="utf-8")
        PAGE.write_text(merged(page, catalogue, table), encoding="utf-8")
        return 0
    found = list(differences(page, catalogue))
    for text in found:
        print(f"docs/mutants.md: {text}")
    print(f"docs/mutants.md: {len(catalogue)} mutants, {len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

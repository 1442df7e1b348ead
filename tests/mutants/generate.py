#!/usr/bin/env python3
"""Makes the mutated copies of daemon/'s files, and the table of mutants for the program.

    generate.py --sources CATALOGUE             the files of daemon/ that have mutants, one a line
    generate.py --check CATALOGUE DAEMON_DIR    whether each change still fits; writes nothing
    generate.py CATALOGUE DAEMON_DIR OUT_DIR    the copies, and OUT_DIR/mutants.inc

Each change must find its lines in the file exactly once, and name no member that the file and its
header lack: a mutant that daemon/ has outgrown stops the build and must be written anew.
"""
import pathlib
import re
import sys

KILLERS = {"simulator": "Killer::kSimulator", "cores": "Killer::kCores",
           "scenarios": "Killer::kScenarios", "storage": "Killer::kStorageUnits",
           "node": "Killer::kNodeUnits",
           "transport": "Killer::kTransportUnits",
           "conversation": "Killer::kConversationUnits",
           "offline": "Killer::kOfflineUnits"}


class Mutant:
    def __init__(self, name, is_quick, line):
        self.name = name
        self.is_quick = is_quick
        self.line = line
        self.killer = ""
        self.rows = ""
        self.about = ""
        self.changes = []  # [file, lines that go, lines that come]


def wrong(number, text):
    catalogue = next(argument for argument in sys.argv[1:] if not argument.startswith("--"))
    sys.exit(f"{catalogue}:{number}: {text}")


def parse(path):
    mutants = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "mutant":
            name, _, quick = rest.partition(" ")
            if not re.fullmatch("[a-z_]+", name) or quick not in ("", "quick"):
                wrong(number, f"'{rest}' is no name of a mutant")
            if any(other.name == name for other in mutants):
                wrong(number, f"there are two mutants '{name}'")
            mutants.append(Mutant(name, bool(quick), number))
            continue
        if not mutants:
            wrong(number, "this belongs to no mutant")
        mutant = mutants[-1]
        if word in ("killer", "rows", "about"):
            setattr(mutant, word, rest)
        elif word == "file":
            mutant.changes.append([rest, [], []])
        elif word in ("<", ">") and mutant.changes:
            if word == "<" and mutant.changes[-1][2]:
                mutant.changes.append([mutant.changes[-1][0], [], []])
            mutant.changes[-1][1 if word == "<" else 2].append(rest)
        else:
            wrong(number, f"'{line}' means nothing here")
    for mutant in mutants:
        if mutant.killer not in KILLERS or not mutant.about or not mutant.changes:
            wrong(mutant.line, f"{mutant.name} lacks a killer, an 'about' or a change")
        if not any("MUTATED" in line for change in mutant.changes for line in change[2]):
            wrong(mutant.line, f"{mutant.name} changes nothing when it is switched on")
    return mutants


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_if_new(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


MEMBER = re.compile(r"\b[a-z]\w*_\b")


def check_members(mutant, path, comes):
    """A member that was renamed is found here, not by the compiler twenty minutes later."""
    header = path.with_suffix(".h")
    known = "".join(other.read_text(encoding="utf-8") for other in {path, header} if other.exists())
    known = set(MEMBER.findall(known))
    for name in MEMBER.findall("\n".join(comes)):
        if name not in known:
            wrong(mutant.line, f"{mutant.name}: {path} has no {name}")


def mutated(mutants, daemon):
    """The text of each file that has a mutant."""
    texts = {}
    for number, mutant in enumerate(mutants, 1):
        for file, goes, comes in mutant.changes:
            check_members(mutant, daemon / file, comes)
            if file not in texts:
                texts[file] = (daemon / file).read_text(encoding="utf-8")
            before = "\n".join(goes)
            after = "\n".join(comes).replace("MUTATED", f"::connectd::mutants::is_on({number})")
            found = texts[file].count(before)
            if found != 1:
                wrong(mutant.line, f"{mutant.name}: these lines stand {found} times in {file}:\n"
                                   f"{before}")
            texts[file] = texts[file].replace(before, after)
    return texts


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--sources":
        mutants = parse(pathlib.Path(sys.argv[2]))
        print("\n".join(sorted({change[0] for mutant in mutants for change in mutant.changes})))
        return
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    if sys.argv[1] == "--check":
        mutated(parse(pathlib.Path(sys.argv[2])), pathlib.Path(sys.argv[3]))
        return
    catalogue, daemon, out = (pathlib.Path(argument) for argument in sys.argv[1:])
    mutants = parse(catalogue)
    texts = mutated(mutants, daemon)
    for file, text in texts.items():
        write_if_new(out / file, '#include "mutants/switch.h"\n' + text)
    rows = "".join(f"{{{quoted(m.name)}, {quoted(m.about)}, {KILLERS[m.killer]}, "
                   f"{'true' if m.is_quick else 'false'}}},\n" for m in mutants)
    write_if_new(out / "mutants.inc", rows)


main()

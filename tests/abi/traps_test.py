#!/usr/bin/env python3
"""Compiles what must not compile: classes for connect/plugin.hpp with one mistake each.

    traps_test.py COMPILER...    with each compiler that is installed; the first one has to be

Each file of traps/ begins with a comment that says what has to happen:

    // Expected: TEXT        one error and no more, whose text contains TEXT
    // Expected: nothing     no error, and no warning either
    // Standard: c++17       optional; else c++20

Only the syntax is checked. To be quick, the files that share a standard and expect an error are
compiled as one, each in a namespace of its own.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TRAPS = HERE / "traps"
INCLUDE = HERE.parent.parent / "sdk/include"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wundef", "-Wconversion",
            "-Wnon-virtual-dtor", "-Woverloaded-virtual", "-Werror"]
ERROR = re.compile(r"\b(?:error|warning): (.*)")
MENTION = re.compile(r"\btrap_(\w+)::|traps/(\w+)\.cc:\d+:\d+")


def expectation(source):
    """(text, standard) from the comment at the top: the lines up to an empty one are one text."""
    top = []
    for line in source.read_text(encoding="utf-8").splitlines():
        if not line.startswith("// "):
            break
        top.append(line[3:])
    text, _, standard = " ".join(top).partition(" Standard: ")
    if not text.startswith("Expected: "):
        raise SystemExit(f"{source}: the first line must be '// Expected: TEXT'")
    return text.removeprefix("Expected: "), standard or "c++20"


def compile_file(compiler, is_clang, standard, source):
    command = [compiler, f"-std={standard}", "-fsyntax-only", *WARNINGS, f"-I{INCLUDE}",
               f"-I{TRAPS}", "-ferror-limit=0" if is_clang else "-fmax-errors=0", str(source)]
    return subprocess.run(command, capture_output=True, text=True)


def errors_by_trap(output, is_clang):
    """{trap: [error]}. gcc says before an error what it belongs to, and clang says it after."""
    errors = {}
    current, pending = "", []
    for line in output.splitlines():
        error = ERROR.search(line)
        mention = MENTION.search(line)
        if mention:
            current = mention.group(1) or mention.group(2)
            errors.setdefault(current, []).extend(pending)
            pending = []
        if error and is_clang and not mention:
            pending.append(error.group(1))
        elif error:
            errors.setdefault(current, []).append(error.group(1))
    errors.setdefault(current, []).extend(pending)
    return errors


def judge(expected, errors):
    """What is wrong with the errors of one trap, or None."""
    if len(errors) != 1:
        return "\n  ".join([f"{len(errors)} errors instead of one", *errors])
    return None if expected in errors[0] else f"expected: {expected}\n  got:      {errors[0]}"


def check(compiler, folder):
    """{file: what is wrong}, for all files."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    is_clang = "clang" in version.stdout
    found, groups = {}, {}
    for source in sorted(TRAPS.glob("*.cc")):
        expected, standard = expectation(source)
        if expected == "nothing":
            found[source.name] = compile_file(compiler, is_clang, standard, source).stderr or None
        else:
            groups.setdefault(standard, {})[source.stem] = expected
    for standard, traps in groups.items():
        together = folder / f"together-{standard}.cc"
        lines = ['#include "base.h"'] if len(traps) > 1 else []
        for stem in traps:
            lines += [f"#define connectd_plugin_v1 connectd_plugin_{stem}",
                      f"namespace trap_{stem} {{", f'#include "{TRAPS}/{stem}.cc"', "}",
                      "#undef connectd_plugin_v1"]
        together.write_text("\n".join(lines) + "\n", encoding="utf-8")
        result = compile_file(compiler, is_clang, standard, together)
        errors = errors_by_trap(result.stderr, is_clang)
        if len(traps) == 1:  # an error in the header itself, which names no trap
            errors = {next(iter(traps)): [error for all_ in errors.values() for error in all_]}
        for stem, expected in traps.items():
            found[f"{stem}.cc"] = judge(expected, errors.pop(stem, []))
        surplus = [error for all_ in errors.values() for error in all_
                   if "treated as errors" not in error]
        if surplus:
            found[together.name] = "errors of no trap:\n  " + "\n  ".join(surplus)
    return found


def main(compilers):
    if not compilers:
        raise SystemExit(__doc__)
    failures = 0
    seen = set()
    for number, compiler in enumerate(compilers):
        path = shutil.which(compiler)
        if path is None:
            if number == 0:
                raise SystemExit(f"{compiler} is not there")
            print(f"{compiler}: not installed, skipped")
            continue
        if pathlib.Path(path).resolve() in seen:
            continue
        seen.add(pathlib.Path(path).resolve())
        with tempfile.TemporaryDirectory(prefix="connectd-traps-") as folder:
            found = check(compiler, pathlib.Path(folder))
        wrong = {name: text for name, text in found.items() if text is not None}
        for name, text in wrong.items():
            print(f"traps/{name}: {text}", file=sys.stderr)
        print(f"{compiler}: {len(found) - len(wrong)} of {len(found)} files as expected")
        if len(found) < 60:
            raise SystemExit(f"only {len(found)} files in {TRAPS}")
        failures += len(wrong)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

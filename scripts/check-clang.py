#!/usr/bin/env python3
"""Checks the sources with the tools of clang 14.

    scripts/check-clang.py format [FILE...]   clang-format changes nothing (all files, or these)
    scripts/check-clang.py threads [FILE...]  who may touch what on which thread, and under which lock:
                                              -Wthread-safety on daemon/{base,node,raft,storage,...},
                                              each file alone. FILE: of daemon/ or these folders; of a
                                              header, itself and its own .cc
    scripts/check-clang.py threads --all      the same for all sources and headers: each compiles alone
    scripts/check-clang.py tidy               clang-tidy on what has changed since the merge base with
                                              origin/main (where that is HEAD itself, as in a clean clone: of the
                                              last fifty commits, those that change a hundred files at most)
    scripts/check-clang.py tidy --all         clang-tidy on all files but the tests
    scripts/check-clang.py self-test          format and threads catch a deliberate violation

  --build DIRECTORY   whose compile_commands.json says how files are compiled [build/release]
  --seconds N         tidy: begin no more files after so long, name those that are left, and fail [1500]
  --base COMMIT       tidy: changed since this commit
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FORMATTED = {".cc", ".h", ".hpp", ".c"}
FOLDERS = ["daemon", "plugins", "sdk", "tests"]
# Modules whose mutexes and thread roles are annotated (base/thread_annotations.h).
ANNOTATED = ["daemon/base/", "daemon/raft/", "daemon/storage/", "daemon/node/", "daemon/transport/",
             "daemon/client/", "daemon/tls/", "tests/unit/base/"]
# What g++ is told and clang is not: precompiled headers, and warnings that are not the subject.
THREAD_SAFETY = ["-Wno-everything", "-Wthread-safety", "-Werror=thread-safety", "-fsyntax-only"]
# Of a clean clone, so that --full takes about the same time whatever was committed last.
MAX_CHANGED = 100
DROPPED = {"-fpch-preprocess", "-Winvalid-pch", "-Werror", "-Wno-maybe-uninitialized", "-Wno-tsan",
           "-Wno-subobject-linkage"}


def tool(name):
    for candidate in (f"{name}-14", name):
        found = shutil.which(candidate)
        if found:
            return found
    sys.exit(f"check-clang.py: there is no {name}: scripts/install-deps.sh installs it")


def format_failures(files):
    done = subprocess.run([tool("clang-format"), "--dry-run", "-Werror", *map(str, files)],
                          capture_output=True, text=True, check=False, cwd=ROOT)
    return [line for line in done.stderr.splitlines() if "error:" in line]


def check_format(files):
    if not files:
        files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*"))
                 if path.suffix in FORMATTED]
    found = format_failures(files)
    for line in found:
        print(line)
    names = sorted({line.split(":")[0] for line in found})
    if names:
        print("to mend it: clang-format -i " + " ".join(os.path.relpath(name, ROOT) for name in names))
    print(f"clang-format: {len(files)} files, {len(names)} to mend")
    return 1 if found else 0


def compiled_files(row):
    """The files that a row compiles. Those that are built as one (CONNECTD_UNITY) are checked one by one."""
    path = os.path.normpath(os.path.join(row["directory"], row["file"]))
    if "/Unity/unity_" not in path:
        return [path]
    try:
        return re.findall(r'^#include "(.+)"$', pathlib.Path(path).read_text(encoding="utf-8"), re.MULTILINE)
    except OSError as error:
        sys.exit(f"check-clang.py: {path}: {error.strerror}: cmake --preset release writes it anew")


def compile_commands(build):
    """File, relative to the root -> the options that say what it includes and defines."""
    path = ROOT / build / "compile_commands.json"
    if not path.exists():
        sys.exit(f"check-clang.py: {path} is missing: cmake --preset release")
    commands = {}
    for row in json.loads(path.read_text(encoding="utf-8")):
        files = [os.path.relpath(file, ROOT) for file in compiled_files(row)]
        files = [file for file in files if file not in commands and not file.startswith("build/")]
        if not files:
            continue
        words, options, skip = shlex.split(row["command"]), [], False
        for at, word in enumerate(words[1:], start=1):
            if skip:
                skip = False
            elif word in ("-o", "-c") or (word == "-include" and "cmake_pch" in words[at + 1]):
                skip = True
            elif word not in DROPPED and not word.startswith("-fsanitize"):
                options.append(word)
        commands.update((file, (row["directory"], options)) for file in files)
    return commands


def options_of_header(commands, header):
    """As for its own .cc, or for another file of the folder, or of the nearest folder above that has one."""
    own = pathlib.PurePath(header).with_suffix(".cc").as_posix()
    if own in commands:
        return commands[own]
    for folder in pathlib.PurePath(header).parents:
        inside = "" if folder == pathlib.PurePath(".") else f"{folder.as_posix()}/"
        for file in sorted(commands):
            if file.startswith(inside) and file.endswith(".cc"):
                return commands[file]
    return sys.exit(f"check-clang.py: no file tells how {header} is compiled")


def in_parallel(work, files):
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return [result for result in pool.map(work, files) if result]


def check_threads(build, chosen, everything):
    commands = compile_commands(build)
    clang = tool("clang++")
    sources, headers = [file for file in sorted(commands) if file.endswith(".cc")], []
    if everything:
        headers = [path.relative_to(ROOT).as_posix() for folder in FOLDERS
                   for path in sorted((ROOT / folder).rglob("*.h"))]
    elif chosen:
        names = [path.relative_to(ROOT) for path in chosen]
        names = [name for name in names if name.as_posix().startswith(("daemon/", *ANNOTATED))]
        wanted = {name.with_suffix(".cc").as_posix() for name in names}
        sources = [file for file in sources if file in wanted]
        headers = [name.as_posix() for name in names if name.suffix == ".h"]
    else:
        sources = [file for file in sources if file.startswith(tuple(ANNOTATED))]

    def work(file):
        header = file.endswith(".h")
        directory, options = options_of_header(commands, file) if header else commands[file]
        language = ["-x", "c++"] if header else []
        done = subprocess.run([clang, *options, *THREAD_SAFETY, *language, str(ROOT / file)],
                              capture_output=True, text=True, check=False, cwd=directory)
        return done.stderr if done.returncode != 0 else None

    files = sources + headers
    failed = in_parallel(work, files)
    for text in failed:
        print(text)
    print(f"threads: {len(files)} files, {len(failed)} with violations, or that do not compile alone")
    return 1 if failed or not (files or chosen) else 0


def git(*arguments):
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout.strip() if done.returncode == 0 else ""


def checked_by_tidy(files):
    return {file for file in files if file.endswith(".cc") and not file.startswith("tests/")}


def base_of_last_commits():
    """The commit before the last fifty, or before the newest of them that change not too many files."""
    commits, changed = git("rev-list", "--max-count=51", "HEAD").splitlines(), set()
    for commit, before in zip(commits, commits[1:]):
        changed |= checked_by_tidy(git("diff", "--name-only", "--diff-filter=d", before, commit).splitlines())
        if len(changed) > MAX_CHANGED and commit != commits[0]:
            return commit
    return commits[-1] if commits else ""


def changed_since(base):
    if not base:
        head, base = git("rev-parse", "HEAD"), git("merge-base", "origin/main", "HEAD")
        if not base or base == head:
            base = base_of_last_commits()
    if not base:
        sys.exit("check-clang.py: no commit to compare with: --base COMMIT, or --all")
    changed = git("diff", "--name-only", "--diff-filter=d", base).splitlines()
    # What changed last comes first: a run that ends early has seen the newest files.
    newest = git("log", "--format=", "--name-only", f"{base}..HEAD").splitlines()
    uncommitted = git("diff", "--name-only", "--diff-filter=d", "HEAD").splitlines()
    return base, sorted(changed, key=(uncommitted + newest + changed).index)


def check_tidy(arguments):
    commands = compile_commands(arguments.build)
    if arguments.all:
        chosen = sorted(checked_by_tidy(commands))
        print(f"clang-tidy: all {len(chosen)} files")
    else:
        base, changed = changed_since(arguments.base)
        chosen = [file for file in changed if file in commands and file in checked_by_tidy(changed)]
        print(f"clang-tidy: {len(chosen)} files have changed since {base[:12]}")
    clang_tidy, begun, left = tool("clang-tidy"), time.monotonic(), []

    def work(file):
        if not arguments.all and time.monotonic() - begun > arguments.seconds:
            left.append(file)
            return None
        directory, options = commands[file]
        done = subprocess.run([clang_tidy, "--quiet", str(ROOT / file), "--", *options, "-w"],
                              capture_output=True, text=True, check=False, cwd=directory)
        bad = done.returncode != 0 or "warning:" in done.stdout
        return (done.stdout + (done.stderr if done.returncode else "")) if bad else None

    failed = in_parallel(work, chosen)
    for text in failed:
        print(text)
    print(f"clang-tidy: {len(chosen) - len(left)} files, {len(failed)} with findings")
    if left:
        print(f"clang-tidy: FAILED: no time for {len(left)} of {len(chosen)} files after {arguments.seconds:g} s: "
              f"{' '.join(sorted(left))}. To check them too: --seconds N")
    return 1 if failed or left else 0


UNGUARDED = """#include "base/mutex.h"
class A {
 public:
  void f() { x_ = 1; }
  void g() {
    connectd::MutexLock lock(mutex_);
    x_ = 2;
  }
 private:
  connectd::Mutex mutex_;
  int x_ GUARDED_BY(mutex_) = 0;
};
"""
ROLE = """#include "base/thread_role.h"
class A {
 public:
  void f() { x_ = 1; }
 private:
  connectd::ThreadRole loop_{"loop"};
  int x_ GUARDED_BY(loop_) = 0;
};
"""


def self_test():
    wrong = []
    clang = tool("clang++")
    rows = [("no lock", UNGUARDED, True),
            ("a lock", UNGUARDED.replace("void f() { x_ = 1; }", "void f() { g(); }"), False),
            ("no role", ROLE, True),
            ("a role", ROLE.replace("{ x_ = 1; }", "{\n    loop_.check();\n    x_ = 1;\n  }"), False)]
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "base").mkdir()
        (pathlib.Path(folder) / "base" / "build_options.h").write_text("#pragma once\n", encoding="utf-8")
        for name, text, expected in rows:
            path = pathlib.Path(folder) / "a.cc"
            path.write_text(text, encoding="utf-8")
            done = subprocess.run(
                [clang, "-std=c++20", "-Wall", f"-I{ROOT}/daemon", f"-I{folder}", *THREAD_SAFETY, str(path)], capture_output=True, text=True, check=False)
            caught = done.returncode != 0 and "thread-safety" in done.stderr
            if caught != expected or (not expected and done.returncode != 0):
                wrong.append(f"threads: {name}: {'not caught' if expected else done.stderr}")
        shutil.copy(ROOT / ".clang-format", folder)
        for text, expected in (("int  x = 1;\n", True), ("int x = 1;\n", False)):
            path = pathlib.Path(folder) / "a.cc"
            path.write_text(text, encoding="utf-8")
            if bool(format_failures([path])) != expected:
                wrong.append(f"format: {text!r}: {'not caught' if expected else 'refused'}")
    for line in wrong:
        print(line)
    print(f"self-test: {len(rows) + 2} cases, {len(wrong)} wrong")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["format", "threads", "tidy", "self-test"])
    parser.add_argument("files", nargs="*")
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--seconds", type=float, default=1500)
    parser.add_argument("--base")
    arguments = parser.parse_args()
    files = [pathlib.Path(file).resolve() for file in arguments.files]
    if arguments.what == "format":
        return check_format(files)
    if arguments.what == "threads":
        return check_threads(arguments.build, files, arguments.all)
    if arguments.what == "tidy":
        return check_tidy(arguments)
    return self_test()


if __name__ == "__main__":
    sys.exit(main())

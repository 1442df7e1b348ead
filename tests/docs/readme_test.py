#!/usr/bin/env python3
"""Runs the commands of README.md, in order, and compares what they print.

    readme_test.py --build BUILD_DIR     run them
    readme_test.py --self-test           show that a wrong README is caught

Every ```sh block runs, all in one bash with `set -eu`, in a fresh directory that has the parts of the
repository that the README names; build/release in it is BUILD_DIR. A ```text block behind it is what
the block prints on standard output. A comment in front of a block changes that:

    <!-- test: not run (REASON) -->   the sh block is left out
    <!-- test: values differ -->      in the text block, words that hold a digit, single dashes, and
                                      the words leader and follower stand for each other
    <!-- test: on MACHINE... -->      not in README.md: tests/cluster/three_machines.py

The commands use fixed ports. Where the kernel allows it they run in network and process namespaces
of their own; else the ports have to be free.
"""
import argparse
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LINKED = ["conf", "docs", "plugins", "sdk"]
TOOLS = ["bash", "c++", "curl", "nc", "python3", "redis-benchmark", "redis-cli"]
PORTS = [base + node for base in (7100, 7200, 7300) for node in (1, 2, 3)]
TIMEOUT_S = 400
MARK = "--- block"

COMMENT = re.compile(r"^<!-- test: (not run \(.+\)|values differ|on .+) -->$")
FENCE = re.compile(r"^```(\w*)$")


class Block:
    def __init__(self, line, text):
        self.line = line          # of the fence, in the README
        self.text = text
        self.expected = None      # lines
        self.values_differ = False
        self.where = []           # names of machines


def parse(readme):
    """The blocks to run. ValueError when the README's markup is not understood."""
    blocks, comment, language, content, start = [], None, None, [], 0
    last = None  # the sh block that a text block belongs to
    for number, line in enumerate(readme.splitlines(), start=1):
        fence = FENCE.match(line)
        if language is not None:
            if line != "```":
                content.append(line)
                continue
            text = "\n".join(content)
            if language == "sh":
                last = None
                if not (comment and comment.startswith("not run")):
                    last = Block(start, text)
                    last.where = comment.split()[1:] if comment else []
                    blocks.append(last)
            elif language == "text":
                if last is None or last.expected is not None:
                    raise ValueError(f"README.md:{start}: output without a command")
                last.expected = content
                last.values_differ = comment == "values differ"
            language, comment, content = None, None, []
        elif fence:
            language, start = fence.group(1), number
        elif "<!-- test:" in line:
            match = COMMENT.match(line)
            if not match:
                raise ValueError(f"README.md:{number}: not a comment of this test: {line}")
            comment = match.group(1)
        elif line.strip() and comment:
            raise ValueError(f"README.md:{number}: a comment for the test, and no block behind it")
        elif line.startswith("#"):
            last = None
    if language is not None:
        raise ValueError(f"README.md:{start}: a block that does not end")
    if not blocks:
        raise ValueError("README.md has no commands: the test is looking at the wrong thing")
    return blocks


def blurred(line):
    words = []
    for word in line.split():
        bare = word.strip('",:()')
        if bare in ("leader", "follower") and not word.endswith('":'):
            word = "ROLE"
        elif bare == "-" or re.search(r"\d", bare):
            word = "VALUE"
        words.append(word)
    return " ".join(words)


def difference(block, printed):
    """None, or what differs from the expected output."""
    if block.expected is None:
        return None
    wanted, got = block.expected, printed
    if block.values_differ:
        wanted, got = [blurred(x) for x in wanted], [blurred(x) for x in got]
    if wanted == got:
        return None
    return "\n".join(["expected:"] + [f"  {x}" for x in block.expected] +
                     ["printed:"] + [f"  {x}" for x in printed])


def script_of(blocks):
    lines = ["set -eu", "ip link set lo up 2>/dev/null || true", "pid=()", f'echo "{MARK} 0"']
    for number, block in enumerate(blocks, start=1):
        lines += [block.text, f'echo "{MARK} {number}"']
    return "\n".join(lines) + "\n"


def isolation():
    """The command in front of bash, or None when this kernel or user may not."""
    for extra in ([], ["--user", "--map-root-user"]):
        command = ["unshare", *extra, "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        try:
            probe = subprocess.run([*command, "ip", "link", "set", "lo", "up"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        except FileNotFoundError:
            return None
        if probe.returncode == 0:
            return command
    return None


def busy_ports():
    busy = []
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                busy.append(port)
    return busy


def run(blocks, build):
    """None when all went as the README says, else a text."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"the README's commands need {', '.join(missing)}: run scripts/install-deps.sh"
    prefix = isolation()
    if prefix is None:
        busy = busy_ports()
        if busy:
            return (f"ports in use on this machine: {busy}. The README's commands need them, and without "
                    "the right to make a network namespace they cannot have their own: stop what "
                    "listens there, or run as root")
    with tempfile.TemporaryDirectory(prefix="connectd-readme.") as name:
        home = pathlib.Path(name)
        (home / "build").mkdir()
        if build:
            (home / "build" / "release").symlink_to(build)
        for folder in LINKED:
            (home / folder).symlink_to(ROOT / folder)
        with open(home / "test-output.txt", "wb") as output, open(home / "test-errors.txt", "wb") as errors:
            process = subprocess.Popen([*(prefix or []), "bash", "-c", script_of(blocks)], cwd=home,
                                       stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
                                       start_new_session=True)
            try:
                status = process.wait(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                status = None
            clean_up(process, home, prefix is not None)
        return judge(blocks, status, home)


def clean_up(process, home, isolated):
    """Nothing that the commands started outlives the test."""
    try:
        os.killpg(process.pid, signal.SIGKILL)  # in namespaces: with all that is in them
    except ProcessLookupError:
        pass
    process.wait()
    demo = home / "kv-demo"
    if not isolated and demo.exists():
        subprocess.run([home / "build/release/bin/connectctl", "cluster", "stop", demo],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def judge(blocks, status, home):
    outputs, current = {}, None
    for line in (home / "test-output.txt").read_text(errors="replace").splitlines():
        if line.startswith(MARK):
            current = int(line[len(MARK):]) + 1
            outputs[current] = []
        elif current is not None:
            outputs[current].append(line)
    for number, block in enumerate(blocks, start=1):
        where = f"README.md:{block.line}: "
        if number + 1 not in outputs:  # its end was not reached
            how = f"did not end within {TIMEOUT_S} s" if status is None else f"failed, status {status}"
            return "\n".join([where + how, block.text, "printed:", *outputs.get(number, []),
                              *ends_of_files(home)])
        wrong = difference(block, outputs[number])
        if wrong:
            return "\n".join([where + "another output", block.text, wrong, *ends_of_files(home)])
    return None if status == 0 else f"the README's commands ended with status {status}"


def ends_of_files(home):
    lines = []
    for path in [home / "test-errors.txt", *sorted(home.glob("*.log")), *sorted(home.glob("kv-demo/*.log"))]:
        if path.exists():
            tail = path.read_text(errors="replace").splitlines()[-15:]
            lines += [f"-- the end of {path.name}:", *tail]
    return lines


# README -> what the test has to say about it; "" for: nothing.
SELF_TEST = [
    ("```sh\nprintf 'a\\nb\\n'\n```\n\n```text\na\nb\n```\n", ""),
    ("```sh\necho a\n```\n\n```text\nb\n```\n", "another output"),
    ("```sh\necho a\n```\n\n```text\na\nb\n```\n", "another output"),
    ("```sh\nfalse\n```\n", "failed, status 1"),
    ("```sh\nx=1\n```\n\n```sh\necho $x\n```\n\n```text\n1\n```\n", ""),
    ("```sh\nx=1\n```\n\n```sh\necho $y\n```\n", "README.md:5: failed"),
    ("```sh\nexit 0\n```\n", "failed, status 0"),
    ("```sh\ntrue\n```\n\n```sh\nsleep 1000 &\nwait -n 1\n```\n", "README.md:5: failed"),
    ("<!-- test: values differ -->\n```sh\necho n1 leader 7 -\n```\n", ""),
    ("```sh\necho n1 leader 7 -\n```\n\n<!-- test: values differ -->\n```text\nn2 follower - 9\n```\n", ""),
    ("```sh\necho n1 leader ok\n```\n\n<!-- test: values differ -->\n```text\nn2 leader DOWN\n```\n",
     "another output"),
    ("<!-- test: not run (it fails) -->\n```sh\nfalse\n```\n\n```sh\ntrue\n```\n", ""),
    ("<!-- test: not run -->\n```sh\nfalse\n```\n", "not a comment"),
    ("<!-- test: values differ -->\nwords\n", "no block behind it"),
    ("```text\na\n```\n", "output without a command"),
    ("```sh\ntrue\n", "does not end"),
    ("words\n", "no commands"),
]


def self_test():
    wrong = 0
    for readme, expected in SELF_TEST:
        try:
            said = run(parse(readme), None) or ""
        except ValueError as error:
            said = str(error)
        if (expected == "" and said != "") or expected not in said:
            wrong += 1
            print(f"of this README:\n{readme}\nexpected: {expected or 'nothing'}\nsaid: {said or 'nothing'}\n")
    print(f"self-test: {len(SELF_TEST)} cases, {wrong} wrong")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--build", type=pathlib.Path)
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    if arguments.self_test:
        return self_test()
    if arguments.build is None or not (arguments.build / "bin" / "connectd").exists():
        print("readme_test.py: --build has to name a directory with bin/connectd", file=sys.stderr)
        return 64
    try:
        blocks = parse((ROOT / "README.md").read_text(encoding="utf-8"))
        said = run(blocks, arguments.build.resolve())
    except ValueError as error:
        said = str(error)
    print(said or f"README.md: {len(blocks)} blocks ran as written")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Runs the simulator on several cores for some minutes, and sums what it did.

Each process takes a stretch of seeds and one plugin after the other. With --state the next seed and
the totals are kept in a file, and the next run goes on from there; with --docs the table between the
two marks in that page is written anew from the totals.
"""
import argparse
import json
import os
import subprocess
import sys
import time

PLUGINS = ["plugins/libkv.so", "plugins/libcounter.so", "tests/plugins/libchain.so"]
STRETCH = 1_000_000  # seeds between the first of one chunk and the first of the next
CHUNK_MINUTES = 2
SUMMED = ["seeds", "events", "simulated_seconds", "core_seconds", "elections", "crashes",
          "partitions", "connections_broken", "snapshots_taken", "snapshots_installed", "log_cuts",
          "acknowledged", "unknown", "refused", "reads", "searched", "search_exhausted",
          "violations"]
BEGIN = "<!-- soak: begin -->"
END = "<!-- soak: end -->"


def empty_totals():
    totals = {name: 0 for name in SUMMED}
    totals["slowest_recovery_ms"] = 0
    totals["faults"] = {}
    return totals


def add(totals, report):
    for name in SUMMED:
        totals[name] += report[name]
    totals["slowest_recovery_ms"] = max(totals["slowest_recovery_ms"],
                                        report["slowest_recovery_ms"])
    for fault, count in report["faults"].items():
        sums = totals["faults"].setdefault(fault, {"injected": 0, "bitten": 0})
        sums["injected"] += count["injected"]
        sums["bitten"] += count["bitten"]


def number(value):
    return f"{round(value):,}"


def rows(totals):
    return [("seeds", number(totals["seeds"])),
            ("events", number(totals["events"])),
            ("simulated time", f"{totals['simulated_seconds'] / 3600:.1f} hours"),
            ("core time", f"{totals['core_seconds'] / 3600:.2f} hours"),
            ("elections", number(totals["elections"])),
            ("crashes", number(totals["crashes"])),
            ("partitions", number(totals["partitions"])),
            ("snapshots taken / installed",
             f"{number(totals['snapshots_taken'])} / {number(totals['snapshots_installed'])}"),
            ("log cuts", number(totals["log_cuts"])),
            ("writes acknowledged / unknown / refused",
             f"{number(totals['acknowledged'])} / {number(totals['unknown'])} / "
             f"{number(totals['refused'])}"),
            ("reads", number(totals["reads"])),
            ("histories searched / too large",
             f"{number(totals['searched'])} / {number(totals['search_exhausted'])}"),
            ("slowest recovery", f"{totals['slowest_recovery_ms'] / 1000:.1f} s"),
            ("violations", number(totals["violations"]))]


def write_docs(path, totals):
    with open(path, encoding="utf-8") as page:
        text = page.read()
    if BEGIN not in text or END not in text:
        sys.exit(f"simulate.py: {path} has no '{BEGIN}' and '{END}'")
    table = "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows(totals))
    head, rest = text.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    with open(path, "w", encoding="utf-8") as page:
        page.write(f"{head}{BEGIN}\n{table}{END}{tail}")


def save_state(path, state):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        json.dump(state, file, indent=1)
    os.replace(path + ".tmp", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", default="build/release", help="the build directory")
    parser.add_argument("--minutes", type=int, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, help="the first seed [from the clock, or the state]")
    parser.add_argument("--faults", default="all", help="as of connectctl sim [all]")
    parser.add_argument("--state", help="keep the next seed and the totals in this file")
    parser.add_argument("--docs", help="write the totals into this page")
    arguments = parser.parse_args()
    if arguments.minutes < 1 or arguments.processes < 1:
        parser.error("--minutes and --processes are at least 1")

    state = {"next_seed": int(time.time()) // 60 * 100 * STRETCH, "totals": empty_totals()}
    if arguments.state and os.path.exists(arguments.state):
        with open(arguments.state, encoding="utf-8") as file:
            state = json.load(file)
    if arguments.seed is not None:
        state["next_seed"] = arguments.seed
    run = empty_totals()
    first_seed = state["next_seed"]
    deadline = time.monotonic() + arguments.minutes * 60
    chunk = 0
    running = []
    failed = False
    while running or (time.monotonic() < deadline - 30 and not failed) or chunk == 0:
        while len(running) < arguments.processes and not failed and (
                chunk == 0 or time.monotonic() < deadline - 30):
            minutes = min(CHUNK_MINUTES, max(1, round((deadline - time.monotonic()) / 60)))
            seed = state["next_seed"]
            state["next_seed"] += STRETCH
            command = [f"{arguments.build}/bin/connectctl", "sim", "-o", "json", "--plugin",
                       f"{arguments.build}/{PLUGINS[chunk % len(PLUGINS)]}", "--seed", str(seed),
                       "--minutes", str(minutes), "--faults", arguments.faults]
            chunk += 1
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE,
                                            stderr=subprocess.PIPE, text=True))
        process = running.pop(0)
        out, err = process.communicate()
        try:
            report = json.loads(out)
        except ValueError:
            print(" ".join(process.args), err, out, sep="\n")
            failed = True
            continue
        add(run, report)
        add(state["totals"], report)
        if process.returncode != 0:
            print(err)
            failed = True
        if arguments.state:
            save_state(arguments.state, state)
        if arguments.docs:
            write_docs(arguments.docs, state["totals"])

    print(f"simulator: {arguments.processes} processes, seeds from {first_seed} on in stretches")
    for name, value in rows(run):
        print(f"  {name:<42}{value}")
    bitten = [f"{name} {count['bitten']}/{count['injected']}"
              for name, count in run["faults"].items()]
    print("  faults, bitten/injected: " + ", ".join(bitten))
    left_out = {fault[1:] for fault in arguments.faults.split(",") if fault.startswith("-")}
    silent = [name for name, count in run["faults"].items()
              if count["bitten"] == 0 and name not in left_out]
    if run["seeds"] >= 300 and silent:
        print("  these faults never bit, and so tested nothing: " + ", ".join(silent))
        failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Runs the simulator on several cores for some minutes and prints the totals.

Each process runs a range of seeds, with the plugins in turn. --state keeps the next seed and the totals
in a file, from which the next run resumes. --totals appends one row per plugin of this run to the table at
the end of that page: date, version, seeds, events, virtual time, violations, plugin.
"""
import argparse
import datetime
import json
import os
import subprocess
import sys
import time

PLUGINS = ["plugins/libkv.so", "plugins/libcounter.so", "tests/plugins/libchain.so"]
STRETCH = 1_000_000  # distance between the first seeds of two chunks
CHUNK_MINUTES = 2
SEEDS_OF_A_SOAK = 1000  # in which each fault should be effective
SUMMED = ["seeds", "events", "simulated_seconds", "core_seconds", "elections", "crashes",
          "partitions", "connections_broken", "snapshots_taken", "snapshots_installed", "log_cuts",
          "acknowledged", "unknown", "refused", "reads", "searched", "search_exhausted",
          "violations"]
TOTALS_HEADER = "| date | version | seeds | events | virtual time | violations | plugin |"


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
        sums = totals["faults"].setdefault(fault, {})
        for what in ("injected", "bitten", "seeds"):
            sums[what] = sums.get(what, 0) + count[what]


def number(value):
    return f"{round(value):,}"


def rows(totals):
    return [("seeds", number(totals["seeds"])),
            ("events", number(totals["events"])),
            ("virtual time", f"{totals['simulated_seconds'] / 3600:.1f} hours"),
            ("processor time", f"{totals['core_seconds'] / 3600:.2f} hours"),
            ("elections", number(totals["elections"])),
            ("crashes", number(totals["crashes"])),
            ("partitions", number(totals["partitions"])),
            ("snapshots taken / installed",
             f"{number(totals['snapshots_taken'])} / {number(totals['snapshots_installed'])}"),
            ("log compactions", number(totals["log_cuts"])),
            ("writes acknowledged / unknown / refused",
             f"{number(totals['acknowledged'])} / {number(totals['unknown'])} / "
             f"{number(totals['refused'])}"),
            ("reads", number(totals["reads"])),
            ("histories searched / too large",
             f"{number(totals['searched'])} / {number(totals['search_exhausted'])}"),
            ("slowest recovery", f"{totals['slowest_recovery_ms'] / 1000:.1f} s"),
            ("violations", number(totals["violations"]))]


def check_totals_page(path):
    """The page must end with the table, so that a row can be appended."""
    try:
        with open(path, encoding="utf-8") as page:
            lines = page.read().splitlines()
    except OSError as error:
        sys.exit(f"simulate.py: --totals: cannot read {path}: {error.strerror}")
    if TOTALS_HEADER not in lines:
        sys.exit(f"simulate.py: --totals: {path} must have the line '{TOTALS_HEADER}'")
    if not lines[-1].startswith("|"):
        sys.exit(f"simulate.py: --totals: {path} must end with a table row, not '{lines[-1]}'")


def append_totals(path, version, by_plugin):
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    with open(path, "a", encoding="utf-8") as page:
        for plugin, totals in sorted(by_plugin.items()):
            hours = f"{totals['simulated_seconds'] / 3600:.1f} h"
            page.write(f"| {today} | {version} | {number(totals['seeds'])} | {number(totals['events'])} | {hours} "
                       f"| {number(totals['violations'])} | {plugin} |\n")


def version_of(build):
    """The word after the name in `connectctl version`."""
    printed = subprocess.run([f"{build}/bin/connectctl", "version"], check=True, capture_output=True, text=True)
    return printed.stdout.split()[1]


def plugin_name(path):
    return os.path.basename(path).removeprefix("lib").removesuffix(".so")


def save_state(path, state):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        json.dump(state, file, indent=1)
    os.replace(path + ".tmp", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", default="build/release", help="build directory [build/release]")
    parser.add_argument("--minutes", type=int, required=True, help="time limit")
    parser.add_argument("--processes", type=int, default=2, help="concurrent simulators [2]")
    parser.add_argument("--seed", type=int, help="first seed [from the clock, or the state]")
    parser.add_argument("--faults", default="all", help="faults, as for connectctl sim [all]")
    parser.add_argument("--state", help="file for the next seed and the totals")
    parser.add_argument("--totals", metavar="PAGE", help="page to append the totals of this run to")
    arguments = parser.parse_args()
    if arguments.minutes < 1 or arguments.processes < 1:
        parser.error("--minutes and --processes must be at least 1")
    if arguments.totals:
        check_totals_page(arguments.totals)
        version = version_of(arguments.build)

    state = {"next_seed": int(time.time()) // 60 * 100 * STRETCH, "totals": empty_totals()}
    if arguments.state and os.path.exists(arguments.state):
        with open(arguments.state, encoding="utf-8") as file:
            state = json.load(file)
    if arguments.seed is not None:
        state["next_seed"] = arguments.seed
    run = empty_totals()
    by_plugin = {}
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
        add(by_plugin.setdefault(plugin_name(process.args[process.args.index("--plugin") + 1]), empty_totals()),
            report)
        add(state["totals"], report)
        if process.returncode != 0:
            print(err)
            failed = True
        if arguments.state:
            save_state(arguments.state, state)

    if arguments.totals:
        append_totals(arguments.totals, version, by_plugin)
    print(f"simulator: processes={arguments.processes} first_seed={first_seed}")
    for name, value in rows(run):
        print(f"  {name:<42}{value}")
    print("  faults: in how many seeds effective, how often effective/injected")
    for name, count in run["faults"].items():
        print(f"    {name:<24}{number(count['seeds']):>8}  {number(count['bitten'])}/{number(count['injected'])}")
    rare = [name for name, count in run["faults"].items() if count["seeds"] < SEEDS_OF_A_SOAK]
    if run["seeds"] >= 10 * SEEDS_OF_A_SOAK and rare:
        print(f"  effective in fewer than {number(SEEDS_OF_A_SOAK)} seeds: " + ", ".join(rare))
    left_out = {fault[1:] for fault in arguments.faults.split(",") if fault.startswith("-")}
    silent = [name for name, count in run["faults"].items()
              if count["bitten"] == 0 and name not in left_out]
    if run["seeds"] >= 300 and silent:
        print("  these faults never had an effect, and so tested nothing: " + ", ".join(silent))
        failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Compares two builds of connectd, alternating in one run; scripts/bench.sh --against BUILD calls it.

    scripts/compare-builds.py NEW OLD [--pairs N] [--scrape SECONDS] [--short]    build directories, with bin/ and plugins/

Each pair starts a cluster of three nodes with kv from either build, in an order that alternates, and drives the
leader with redis-benchmark: one write in flight, then 64 (8 x 8), then 20 connections with 1,000 each. Measured:
the p50 of the first; of the second the processor time of all three nodes for a write, its p50 and its writes a
second; of the third its writes a second, and the p50 of another client with one write in flight meanwhile. --short
leaves the third out; with --scrape /metrics of NEW's nodes is fetched at that interval meanwhile.

"worse" is said of a figure whose medians differ by more than 3 % to the bad side, with the same sign in eight
of nine pairs. Figures only: the exit code is 0 whatever they are. Needs redis-benchmark and free ports 7101-7303.
"""
import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

LIMIT = 0.03  # of a difference of medians
FIGURES = [  # name, unit, whether more is better
    ("p50, 1 in flight", "ms", False),
    ("CPU a write, 64 in flight", "us", False),
    ("p50, 64 in flight", "ms", False),
    ("writes a second, 64 in flight", "1/s", True),
    ("writes a second, 20 pipelines", "1/s", True),
    ("p50 beside 20 pipelines", "ms", False),
]
TICKS = os.sysconf("SC_CLK_TCK")


def run(command, **options):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, **options)


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])  # utime, stime
    return total / TICKS


def benchmark(port, clients, pipeline, count):
    """p50 in ms and writes a second."""
    out = run(["redis-benchmark", "-p", port, "-t", "set", "-d", 128, "-r", 100000, "--csv",
               "-c", clients, "-P", pipeline, "-n", count]).stdout
    row = out.strip().splitlines()[-1].replace('"', "").split(",")
    return float(row[4]), float(row[1])


def beside_pipelines(port):
    """Writes a second of 20 pipelines, and p50 in ms of another client meanwhile."""
    flood = subprocess.Popen(["redis-benchmark", "-p", str(port), "-t", "set", "-d", "32", "-r", "100000", "--csv",
                              "-c", "20", "-P", "1000", "-n", "1000000"], stdout=subprocess.PIPE, text=True)
    times = []
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        while flood.poll() is None:
            begin = time.monotonic()
            client.sendall(b"SET beside v\r\n")
            client.recv(100)
            times.append((time.monotonic() - begin) * 1000)
            time.sleep(0.005)
    row = flood.communicate()[0].strip().splitlines()[-1].replace('"', "").split(",")
    return float(row[1]), statistics.median(times)


def scrape(seconds, stop):
    while not stop.wait(seconds):
        for node in (1, 2, 3):
            with urllib.request.urlopen(f"http://127.0.0.1:730{node}/metrics", timeout=5) as answer:
                answer.read()


def measure(build, directory, scrape_seconds, is_short):
    ctl = build / "bin" / "connectctl"
    run([ctl, "cluster", "start", directory, "--nodes", 3, "--plugin", build / "plugins" / "libkv.so"])
    stop = threading.Event()
    scraper = threading.Thread(target=scrape, args=(scrape_seconds, stop))
    if scrape_seconds:
        scraper.start()
    try:
        pids = [int(path.read_text().split()[0]) for path in sorted(directory.glob("**/*.pid"))]
        if len(pids) != 3:
            sys.exit(f"compare-builds.py: {directory} has {len(pids)} pid files, not 3")
        with urllib.request.urlopen("http://127.0.0.1:7301/v1/status", timeout=5) as answer:
            port = 7200 + json.load(answer)["leader"]
        benchmark(port, 8, 8, 20000)  # warm
        alone, _ = benchmark(port, 1, 1, 3000)
        writes = 150000
        before = cpu_seconds(pids)
        p50, rate = benchmark(port, 8, 8, writes)
        cpu = (cpu_seconds(pids) - before) / writes * 1e6
        return [alone, cpu, p50, rate, *([] if is_short else beside_pipelines(port))]
    finally:
        stop.set()
        if scrape_seconds:
            scraper.join()
        run([ctl, "cluster", "stop", directory])


def report(new, old):
    for i, (name, unit, more_is_better) in enumerate(FIGURES[:len(new[0])]):
        ours, theirs = [one[i] for one in new], [one[i] for one in old]
        change = statistics.median(ours) / statistics.median(theirs) - 1
        bad = [(a < b) if more_is_better else (a > b) for a, b in zip(ours, theirs)]
        loss = -change if more_is_better else change
        needed = len(bad) - max(1, len(bad) // 9)
        verdict = "worse" if loss > LIMIT and sum(bad) >= needed else "not worse"
        print(f"{name:<30} {statistics.median(ours):10.3f} {unit:<4} was {statistics.median(theirs):10.3f}   "
              f"{change:+7.1%}   worse in {sum(bad)} of {len(bad)} pairs: {verdict}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("new", type=pathlib.Path)
    parser.add_argument("old", type=pathlib.Path)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--scrape", type=float, metavar="SECONDS", default=0)
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_args()
    builds = {"new": arguments.new.resolve(), "old": arguments.old.resolve()}
    for build in builds.values():
        if not (build / "bin" / "connectd").exists() or not (build / "plugins" / "libkv.so").exists():
            parser.error(f"{build} has no bin/connectd or plugins/libkv.so: it is no build directory")
    if arguments.pairs < 1:
        parser.error("--pairs needs at least 1")
    results = {"new": [], "old": []}
    for pair in range(arguments.pairs):
        order = ["new", "old"] if pair % 2 == 0 else ["old", "new"]
        for which in order:
            with tempfile.TemporaryDirectory(prefix="connectd-compare.") as directory:
                results[which].append(measure(builds[which], pathlib.Path(directory) / "cluster",
                                              arguments.scrape if which == "new" else 0, arguments.short))
        print(f"pair {pair + 1} of {arguments.pairs}: " + ", ".join(
            f"{name} {results['new'][-1][i]:.3f}/{results['old'][-1][i]:.3f}"
            for i, (name, _, _) in enumerate(FIGURES[:len(results["new"][-1])])), file=sys.stderr)
    report(results["new"], results["old"])


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Measures the cost of a snapshot for concurrent writes: kv with a large state, over RESP.

    scripts/snapshot-bench.py [--mib 1024] [--rate 500] [--rounds 2] [--mode auto] [--nodes 1]

Starts a cluster of its own on loopback (build/release, or CONNECTD_BUILD_DIR), fills it, then sets
random keys at a fixed rate and measures the time from when a write was due until its reply: quiet
first, then while a snapshot is being captured and written. A burst of writes that is not measured
makes the snapshot due. Figures, not a test; compare the two columns of one run.
"""

import argparse
import glob
import os
import random
import re
import selectors
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "cluster"))
import harness  # noqa: E402

VALUE_BYTES = 1000
CONNECTIONS = 16
MIB = 1 << 20


def command(key, value):
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(value), value)


class Values:
    """Hexadecimal text of random bytes: it compresses to about half."""

    def __init__(self):
        self.pool = os.urandom(2 * MIB).hex().encode()

    def next(self, size=VALUE_BYTES):
        at = random.randrange(len(self.pool) - size)
        return self.pool[at:at + size]


def key_of(number):
    return b"key:%012d" % number


class Pipeline:
    """Writes as fast as they are taken."""

    def __init__(self, port, window):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.window = window
        self.open = 0

    def wait(self, at_most):
        while self.open > at_most:
            replies = self.socket.recv(1 << 16)
            if not replies:
                raise SystemExit("the connection broke")
            if b"-" in replies:
                raise SystemExit(f"an error: {replies[:200]}")
            self.open -= replies.count(b"\n")

    def send(self, commands):
        self.socket.sendall(b"".join(commands))
        self.open += len(commands)
        self.wait(self.window)


class Load:
    """An open loop: each write is due at its time, whether the one before was answered or not."""

    def __init__(self, port, rate, keys, values):
        self.rate, self.keys, self.values = rate, keys, values
        self.selector = selectors.DefaultSelector()
        self.idle = []
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.idle.append(connection)
        self.samples = []  # (when it was due, seconds until its reply)

    def run(self, until):
        """Until `until(now)` says so."""
        due = time.monotonic()
        asked_until = 0.0
        while True:
            now = time.monotonic()
            if now >= asked_until:
                if until(now):
                    break
                asked_until = now + 0.005
            while self.idle and due <= now:
                connection = self.idle.pop()
                connection.sendall(command(key_of(random.randrange(self.keys)), self.values.next()))
                self.selector.register(connection, selectors.EVENT_READ, due)
                due += 1.0 / self.rate
            wait = max(0.0, min(due - time.monotonic(), 0.005)) if self.idle else 0.005
            self.take(wait)
        while self.selector.get_map():
            self.take(1.0)

    def take(self, wait):
        for ready, _ in self.selector.select(wait):
            if not ready.fileobj.recv(100).startswith(b"+OK"):
                raise SystemExit("a write was not answered with OK")
            self.samples.append((ready.data, time.monotonic() - ready.data))
            self.selector.unregister(ready.fileobj)
            self.idle.append(ready.fileobj)

    def take_samples(self):
        samples, self.samples = self.samples, []
        return samples


def percentiles(samples):
    times = sorted(seconds for _, seconds in samples)
    if not times:
        return "no samples", float("nan")
    def at(share):
        return times[min(len(times) - 1, int(len(times) * share))] * 1000
    return (f"n={len(times)} p50={at(0.5):.2f} ms p99={at(0.99):.2f} ms p99.9={at(0.999):.2f} ms "
            f"max={times[-1] * 1000:.1f} ms", at(0.99))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help="size of the values in MiB")
    parser.add_argument("--rate", type=float, default=500, help="writes per second")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--mode", default="auto", help="snapshot.mode")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--quiet", type=float, default=60, help="approximate seconds before each snapshot")
    parser.add_argument("--directory", help="data directory [a temporary one]")
    arguments = parser.parse_args()
    keys = arguments.mib * MIB // VALUE_BYTES
    # Due after 1.05 to 1.4 times the fill: not while it is filled, and soon in a burst behind that.
    log_min = int(keys * (VALUE_BYTES + 100) * 1.05)
    cluster = harness.Cluster("kv", nodes=arguments.nodes, directory=arguments.directory, settings={
        "storage": {"segment_size": "64MiB"},
        "snapshot": {"mode": arguments.mode, "log_min": f"{log_min // 1024}KiB", "log_ratio": 1}})
    try:
        measure(cluster, arguments, keys)
    finally:
        cluster.close()


def measure(cluster, arguments, keys):
    cluster.start()
    leader = cluster.leader()
    node = cluster.nodes[leader]
    values = Values()

    def is_writing(_=None):
        return bool(glob.glob(os.path.join(node.data_dir, "snapshots", "*.tmp")))

    begun = time.monotonic()
    filler = Pipeline(node.client_port, 4000)
    for first in range(0, keys, 500):
        filler.send([command(key_of(k), values.next()) for k in range(first, min(first + 500, keys))])
    filler.wait(0)
    print(f"filled: {keys} keys of {VALUE_BYTES} bytes in {time.monotonic() - begun:.0f} s; resident "
          f"{harness.memory_bytes(node.process.pid) // MIB} MiB", flush=True)
    load = Load(node.client_port, arguments.rate, keys, values)
    written = keys

    def burst(until):
        """Writes, not measured, as fast as they are taken."""
        nonlocal written
        while not until():
            filler.send([command(key_of(random.randrange(keys)), values.next()) for _ in range(100)])
            written += 100
        filler.wait(0)

    # The first snapshot tells how many writes make the next one due.
    burst(is_writing)
    due_after, written = written, 0
    load.run(lambda now: not is_writing())
    written += len(load.take_samples())
    for number in range(1, arguments.rounds + 1):
        # What is left until then is measured, quiet at first.
        left = int(arguments.rate * arguments.quiet)
        burst(lambda: written >= due_after - left)
        harness.check(not is_writing(), "the snapshot began in the burst: give more --quiet seconds")
        begun = ended = None

        def is_over(now):
            nonlocal begun, ended
            if is_writing():
                begun = begun or now
            elif begun:
                ended = ended or now
            return ended and now > ended + 1
        load.run(is_over)
        samples = load.take_samples()
        written = sum(1 for due, _ in samples if due >= begun)
        cost = [line for line in node.log().splitlines() if "snapshot: took" in line][-1].split("snapshot: ")[1]
        pause = re.search(r"fork took ([0-9.]+) ms", cost)
        # The file is begun right behind the fork, or the view; what that holds up counts.
        begun -= 0.06 + (float(pause.group(1)) / 1000 if pause else 0)
        quiet, quiet_p99 = percentiles([sample for sample in samples if sample[0] < begun])
        during, during_p99 = percentiles([sample for sample in samples if begun <= sample[0] <= ended])
        print(f"round {number}, quiet:   {quiet}")
        print(f"round {number}, capture: {during} in {ended - begun:.1f} s; p99 is {during_p99 / quiet_p99:.2f} x quiet")
        print(f"         {cost}; resident {harness.memory_bytes(node.process.pid) // MIB} MiB", flush=True)


if __name__ == "__main__":
    main()

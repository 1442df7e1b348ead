"""A small client beside floods, in nodes with little memory. Not one of ctest's: it measures times, for minutes.

    CONNECTD_BUILD_DIR=build/release OVERLOAD_SECONDS=300 python3 tests/cluster/overload.py test_floods

First the floods go to another cluster on the same machine, as the control; then to the one that is measured. With a
memory cgroup (version 1, as root) each node may use 1 GiB.
"""

import multiprocessing
import os
import signal
import socket
import threading
import time

import harness
from harness import Failure, check, memory_bytes

MIB = 1 << 20
SECONDS = int(os.environ.get("OVERLOAD_SECONDS", "20"))
MEMORY = 1024 * MIB
CGROUPS = "/sys/fs/cgroup/memory"
WRITERS, FLOODS, READERS = 200, 20, 40
VALUE = b"x" * MIB
KEYS = 20  # of large values: the state stays small


def in_cgroup(node):
    place = f"{CGROUPS}/connectd-overload-{os.getpid()}-{node.client_port}"
    try:
        os.mkdir(place)
        with open(f"{place}/memory.limit_in_bytes", "w", encoding="ascii") as file:
            file.write(str(MEMORY))
    except OSError:
        return None
    node.wrap = ["sh", "-c", f'echo $$ > {place}/cgroup.procs && exec "$@"', "sh"]
    return place


def command(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def until_it_ends(work, port):
    """Each connection that ends is replaced."""
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as client:
                client.settimeout(60)
                work(client)
        except OSError:
            time.sleep(0.05)


def write_large(client):
    number = 0
    while True:
        client.sendall(command(b"SET", b"large%d" % (number % KEYS), VALUE))
        number += 1
        if not client.recv(4096):
            return


def flood(client):
    threading.Thread(target=drain, args=(client,), daemon=True).start()
    pings = command(b"PING") * 1000
    while True:
        client.sendall(pings)


def drain(client):
    try:
        while client.recv(1 << 16):
            pass
    except OSError:
        pass


def read_slowly(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sendall(command(b"GET", b"large1") * 100)
    while client.recv(256):
        time.sleep(0.1)


def run(work, count, ports):
    os.nice(19)
    for number in range(count):
        threading.Thread(target=until_it_ends, args=(work, ports[number % len(ports)]), daemon=True).start()
    signal.pause()


def floods(ports):
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=run, args=(work, count, ports), daemon=True)
                 for work, count in ((write_large, WRITERS), (flood, FLOODS), (read_slowly, READERS))]
    for process in processes:
        process.start()
    return processes


def measure(cluster, target):
    """Times of a client's writes and reads in turn, while the floods go to `target`: sorted milliseconds."""
    times, errors = [], []
    peaks = dict.fromkeys(cluster.nodes, 0)
    processes = floods([node.client_port for node in target.nodes.values()])
    end = time.monotonic() + SECONDS
    follower = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
    try:
        with cluster.resp_client(follower, 60) as client:
            number = 0
            while time.monotonic() < end:
                words = ("SET", "small", str(number)) if number % 2 == 0 else ("GET", "small")
                begin = time.monotonic()
                reply = client.pipeline([words])[0]
                times.append((time.monotonic() - begin) * 1000)
                if isinstance(reply, Exception):
                    errors.append(str(reply))
                if number % 50 == 0:
                    for node_id, node in cluster.nodes.items():
                        peaks[node_id] = max(peaks[node_id], memory_bytes(node.process.pid))
                number += 1
                time.sleep(0.01)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return sorted(times), errors, max(peaks.values())


def test_floods(context):
    places = []
    clusters = [context.cluster("kv", settings={"storage": {"segment_size": "64MiB"}}) for _ in range(2)]
    try:
        for cluster in clusters:
            for node in cluster.nodes.values():
                places.append(in_cgroup(node))
            cluster.start()
            cluster.leader()
        measured, other = clusters
        print("each node has 1 GiB" if all(places) else "no memory cgroups here: nodes are not limited", flush=True)
        p99 = {}
        for name, target in (("control", other), ("flooded", measured)):
            term = measured.status(measured.leader())["term"]
            before = target.status(target.leader())["last_index"]
            times, errors, peak = measure(measured, target)
            p99[name] = times[len(times) * 99 // 100]
            print(f"{name}: {len(times)} requests, p50 {times[len(times) // 2]:.1f} ms, p99 {p99[name]:.1f} ms, "
                  f"max {times[-1]:.0f} ms, {len(errors)} errors {sorted(set(errors))[:2]}, "
                  f"largest node {peak / MIB:.0f} MiB; the others wrote "
                  f"{(target.status(target.leader())['last_index'] - before) / SECONDS:.0f} large values a second", flush=True)
            check(measured.status(measured.leader())["term"] == term, "the leader changed")
            with target.resp_client(1, 60) as client:
                check(client.pipeline([("GET", "large1")])[0] == VALUE, "no large value was written")
        if p99["flooded"] > max(100, 2 * p99["control"]):
            raise Failure("the small client waits too long beside the floods")
    finally:
        for cluster in clusters:
            for node_id, node in cluster.nodes.items():
                if node.running:
                    cluster.kill(node_id)
        for place in filter(None, places):
            os.rmdir(place)


if __name__ == "__main__":
    harness.main(globals())

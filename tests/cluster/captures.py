"""Snapshots that are captured while commands are applied, and their failures."""

import glob
import os
import re
import subprocess

import harness
from harness import CONNECTD, EXIT_CONFIG, EXIT_OK, EXIT_PLUGIN, FAST_RAFT, check, wait_until

VALUE = "x" * 200
OFTEN = {"raft": dict(FAST_RAFT),
         "snapshot": {"log_min": "16KiB", "log_ratio": 1}}


def stubborn(name="stubborn"):
    return os.path.join(harness.BUILD_DIR, "tests", "plugins", f"lib{name}.so")


def children_of(pid):
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.split("/")[2]))
    return found


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


def failures(node):
    return [line for line in node.log().splitlines() if "snapshot: failed index=" in line]


def test_kv_is_killed_while_children_write(context):
    cluster = context.cluster("kv", settings=OFTEN)
    cluster.start()
    written = 0
    for _ in range(6):
        leader = cluster.leader()
        process = cluster.nodes[leader].process.pid
        children = []
        with cluster.resp_client(leader) as client:
            def write_until_a_child_is_seen():
                nonlocal written, children
                commands = [("SET", f"key{number}", f"{number}:{VALUE}") for number in range(written, written + 200)]
                replies = client.pipeline(commands)
                check(all(reply == b"OK" for reply in replies), f"a SET was answered {set(replies)}")
                written += 200
                children = children_of(process)
                return children
            wait_until(write_until_a_child_is_seen, "a snapshot's child is seen", 60)
        cluster.kill(leader)
        wait_until(lambda: not any(is_alive(child) for child in children), "the children end with their parent")
        cluster.start(leader)
    status = cluster.wait_equal(60)
    check(status["snapshot_index"] > 0, "no snapshot was taken")
    with cluster.resp_client(cluster.leader()) as client:
        for first in range(0, written, 1000):
            numbers = range(first, min(first + 1000, written))
            replies = client.pipeline([("GET", f"key{number}") for number in numbers])
            for number, reply in zip(numbers, replies):
                check(reply == f"{number}:{VALUE}".encode(), f"key{number} is {reply}")
    for node in cluster.nodes.values():
        check("crashed" not in node.log(), f"node {node.id} speaks of a crash")


def counter_with(context, plugin, how, settings=None):
    """One node; returns it, and a function that writes 200 times, each counted once."""
    snapshot = {"log_min": "4KiB", "log_ratio": 1, **(settings or {})}
    cluster = context.cluster(plugin, nodes=1, settings={
        "raft": dict(FAST_RAFT), "snapshot": snapshot, "plugin": {"options": {"snapshot": how}}})
    cluster.start()
    cluster.leader()
    client = cluster.line_client(1)
    count = 0

    def write():
        nonlocal count
        replies = client.pipeline([b"one"] * 200)
        expected = [b"%d" % number for number in range(count + 1, count + 201)]
        check(replies == expected, f"{replies[0]}.. instead of {expected[0]}..")
        count += 200
        return count
    return cluster, cluster.nodes[1], write


def fails_and_goes_on(context, how, text, settings=None):
    cluster, node, write = counter_with(context, stubborn(), how, settings)

    def two_failures():
        write()
        return len(failures(node)) >= 2
    wait_until(two_failures, lambda: f"two failed snapshots: {failures(node)}", 60)
    check(all(re.search(text, line) for line in failures(node)), failures(node)[0])
    write()
    return cluster, node, write


def test_a_child_that_crashes_is_a_failed_snapshot(context):
    cluster, node, _ = fails_and_goes_on(context, "crash", r"crashed in snapshot in a forked child \(signal 6, SIGABRT\)")
    check("connectd crashed" not in node.log(), "the child wrote a crash report of the daemon")
    check(cluster.status(1)["snapshot_index"] == 0, "a snapshot, all the same")
    check(cluster.terminate(1) == EXIT_OK, "it did not end well")


def test_a_child_that_refuses_is_a_failed_snapshot(context):
    cluster, _, _ = fails_and_goes_on(context, "refuse", "too stubborn")
    check(cluster.terminate(1) == EXIT_OK, "it did not end well")


def test_hanging_child_falls_back_to_apply_thread(context):
    cluster, node, write = fails_and_goes_on(context, "hang", "wrote nothing for", {"fork_timeout": "200ms"})

    def taken():
        write()
        return cluster.status(1)["snapshot_index"] > 0
    wait_until(taken, "a snapshot on the apply thread", 60)
    check("is written on the apply thread" in node.log(), "it did not say so")
    cluster.kill(1)
    cluster.start(1)
    cluster.leader()


def test_hanging_view_stops_no_write(context):
    cluster, node, write = counter_with(context, stubborn("stubborn_view"), "hang")
    writing = os.path.join(node.data_dir, "snapshots", "*.tmp")

    def begun():
        write()
        return glob.glob(writing)
    wait_until(begun, "a snapshot is being written", 60)
    for _ in range(20):
        count = write()
    check(cluster.terminate(1) == EXIT_PLUGIN, "the exit code of a plugin that hangs")
    check("hangs in its view's save" in node.log(), "it does not say why")
    # Nothing is lost by that.
    cluster.start(1)
    cluster.leader()
    with cluster.line_client(1) as client:
        check(client.call(b"one") == b"%d" % (count + 1), "the count is another one")


def test_unsupported_mode_is_refused_at_start(context):
    cluster = context.cluster("kv", nodes=1, settings={"snapshot": {"mode": "view"}})
    cluster.start()
    check(cluster.wait_exit(1) == EXIT_CONFIG, "the exit code")
    text = "snapshot.mode is 'view', but plugin 'kv"
    check(text in cluster.nodes[1].log(), cluster.nodes[1].log())
    checked = subprocess.run([CONNECTD, "--config", cluster.nodes[1].config_path, "--check"], capture_output=True, text=True, check=False)
    check(checked.returncode == EXIT_CONFIG and text in checked.stderr, f"--check: {checked}")


if __name__ == "__main__":
    harness.main(globals())

"""Plugins that do not return, and plugins that do to the process what they must not."""

import contextlib
import os
import signal
import socket
import subprocess
import time

import harness
from harness import BUILD_DIR, CONNECTD, EXIT_PLUGIN, FAST_RAFT, Disconnected, check, wait_until
from recover import recover
from refusals import last_run

UNRULY = os.path.join(BUILD_DIR, "tests", "plugins", "libunruly.so")
CROWDED = os.path.join(BUILD_DIR, "tests", "plugins", "libcrowded.so")
CONNECTCTL = os.path.join(BUILD_DIR, "bin", "connectctl")
HINT = "connectctl recover --data-dir DIR --skip-entry"


def ask(cluster, node_id, request, seconds=2.0):
    """The reply, or None when there is none."""
    try:
        with cluster.line_client(node_id, seconds) as client:
            return client.call(request).decode()
    except (Disconnected, harness.Failure):
        return None


def send(cluster, node_id, request):
    """Without waiting for the reply. The connection must be kept: a request of a closed one is dropped."""
    client = cluster.line_client(node_id)
    client.send(request + b"\n")
    return client


def exports():
    listed = subprocess.run(["nm", "-D", "--defined-only", CONNECTD], capture_output=True, text=True, check=True).stdout
    # Versioned ones are the C and C++ library's own data, which the linker puts into the program.
    return {line.split()[-1] for line in listed.splitlines() if "@" not in line}


def test_each_misuse_is_named(context):
    cluster = context.cluster(UNRULY, nodes=1, settings={"raft": FAST_RAFT})
    kinds = {"exit": "called exit(0)", "_exit": "called _exit(0)", "_Exit": "called _Exit(3)",
             "quick_exit": "called quick_exit(0)", "errx": "ended the process",
             "pthread_exit": "called pthread_exit()", "thrd_exit": "called thrd_exit()",
             "close": "called close(", "close_range": "called close_range(", "closefrom": "called closefrom(",
             "stderr": "called close(2)", "dup2": "called dup2(", "chdir": "called chdir()", "fchdir": "called fchdir("}
    for kind, text in kinds.items():
        cluster.start()
        cluster.leader()
        index = cluster.status(1)["last_index"]
        client = send(cluster, 1, f"do {kind}".encode())
        code = cluster.wait_exit(1)
        client.close()
        log = last_run(cluster, 1)
        check(code == EXIT_PLUGIN, f"after {kind} the node ended with {code}")
        check(f"plugin unruly 1.0.0 {text}" in log, f"{kind} is not named: {log.splitlines()[-3:]}")
        skipped = max(index, 1) + 1
        check(f"in apply at index {skipped}" in log and f"{HINT} {skipped}" in log, f"{kind}: {log.splitlines()[-3:]}")
        recover(cluster.nodes[1], "--skip-entry", skipped, "--yes")
    cluster.start()
    cluster.leader()
    check(ask(cluster, 1, b"honest") == "1", "a plugin that keeps to its own was stopped")
    check(ask(cluster, 1, b"get") == "1", "the node does not go on")


def test_closed_stderr_is_noticed(context):
    """fclose(stderr) closes descriptor 2 within the C library: the next connection, or segment of the log, would get
    it, and the log lines with it."""
    cluster = context.cluster(UNRULY, nodes=1, settings={"raft": FAST_RAFT})
    cluster.start()
    cluster.leader()
    clients = [send(cluster, 1, b"classify fclose")]
    wait_until(lambda: not os.path.exists(f"/proc/{cluster.nodes[1].process.pid}/fd/2"), "it is closed")
    said = ""
    try:
        for _ in range(3):
            clients.append(send(cluster, 1, b"get"))
            said += str(clients[-1].read_reply())
    except (Disconnected, OSError):
        pass
    code = cluster.wait_exit(1)
    for client in clients:
        client.close()
    check(code == EXIT_PLUGIN, f"the node ended with {code}")
    check("<" not in said, f"a client got a line of the log: {said!r}")
    check("closed a standard descriptor" in last_run(cluster, 1), last_run(cluster, 1)[-300:])
    cluster.start()
    cluster.leader()


def test_misuse_outside_apply_is_named(context):
    cluster = context.cluster(UNRULY, nodes=1, settings={"raft": FAST_RAFT})
    for request, text in ((b"classify exit", "plugin unruly 1.0.0 called exit(0) in classify: "),
                          (b"classify thread", "libunruly.so")):
        cluster.start()
        cluster.leader()
        client = send(cluster, 1, request)
        code = cluster.wait_exit(1)
        client.close()
        log = last_run(cluster, 1)
        check(code == EXIT_PLUGIN, f"after {request} the node ended with {code}")
        check(text in log and "must not end the process" in log, f"{request} is not named: {log.splitlines()[-3:]}")
        check(HINT not in log, "an entry is blamed")


def test_misuse_in_create_is_named(context):
    cluster = context.cluster(UNRULY, nodes=1, settings={"plugin": {"options": {"on": "_exit"}}})
    cluster.start()
    check(cluster.wait_exit(1) == EXIT_PLUGIN, "another exit code")
    check("plugin unruly 1.0.0 called _exit(0) in create: " in last_run(cluster, 1), "the call is not named")


def test_nothing_of_the_daemon_is_exported(context):
    expected = {"exit", "_exit", "_Exit", "quick_exit", "pthread_exit", "thrd_exit", "close", "close_range", "closefrom",
                "dup2", "dup3", "chdir", "fchdir", "OPENSSL_cleanup"}
    check(exports() == expected, f"connectd exports {exports() ^ expected}")
    cluster = context.cluster(CROWDED, nodes=1)
    cluster.start()
    cluster.leader()
    reply = ask(cluster, 1, b"x", 10)
    check(reply == "7 ok", f"the plugin does not find its own functions: {reply}")
    check(cluster.terminate(1) == 0, "the node did not end as told")


def stuck(cluster, node_id):
    """What the status says is stuck, once it says so."""
    return wait_until(lambda: (cluster.status(node_id) or {}).get("stuck"), f"node {node_id} shows nothing stuck")


def check_stuck(cluster, node_id, index):
    check(stuck(cluster, node_id) == f"apply at {index}", f"{stuck(cluster, node_id)}, not at {index}")
    check(cluster.status(node_id)["reason"] == f"STUCK in apply at {index}", "the reason is another")
    check(cluster.get(node_id, "/readyz")[0] == 503, f"node {node_id} is ready")
    check(cluster.get(node_id, "/livez")[0] == 200, f"node {node_id} is not live: a restart would hang again")
    # Written by a thread of its own, beside calls that take all processors.
    wait_until(lambda: f"plugin unruly 1.0.0 is STUCK in apply at index {index} seconds=" in last_run(cluster, node_id),
               "the log does not name the call")
    wait_until(lambda: f"{HINT} {index}" in last_run(cluster, node_id), "the log does not say how to go on")


def test_apply_that_does_not_return(context):
    """It holds the loop first, and the apply thread after a start; recover gets past it."""
    cluster = context.cluster(UNRULY, nodes=3, settings={"raft": FAST_RAFT, "shutdown": {"drain_timeout": "2s"}})
    cluster.start()
    leader = cluster.leader()
    check(ask(cluster, leader, b"incr", 20) == "1", "no write succeeded")
    cluster.wait_equal()
    client = send(cluster, leader, b"do loop")
    index = int(stuck(cluster, leader).split()[-1])
    check_stuck(cluster, leader, index)
    check('request="do loop"' in last_run(cluster, leader), "the request is not shown")
    for node_id in (1, 2, 3):
        cluster.signal(node_id, signal.SIGTERM)
    for node_id in (1, 2, 3):
        code = cluster.wait_exit(node_id)
        check(code == EXIT_PLUGIN, f"node {node_id} ended with {code}")
        check(f"hangs in apply at index {index}" in last_run(cluster, node_id), "the end does not name the call")
    client.close()
    # The replay hangs on the apply thread: the loop elects a leader, and answers.
    cluster.start()
    for node_id in (1, 2, 3):
        check_stuck(cluster, node_id, index)
        cluster.signal(node_id, signal.SIGTERM)
        time.sleep(0.2)
        cluster.signal(node_id, signal.SIGINT)
    for node_id in (1, 2, 3):
        check(cluster.wait_exit(node_id) == EXIT_PLUGIN, f"node {node_id} did not end by the second signal")
        recover(cluster.nodes[node_id], "--skip-entry", index, "--yes")
    cluster.start()
    value = wait_until(lambda: ask(cluster, cluster.leader(), b"incr"), "no write succeeds after the entry is skipped")
    check(int(value) >= 2, f"the counter lost a write: {value}")
    cluster.wait_equal()


def test_classify_that_does_not_return(context):
    cluster = context.cluster(UNRULY, nodes=1, settings={"raft": FAST_RAFT, "shutdown": {"drain_timeout": "2s"}})
    cluster.start()
    cluster.leader()
    client = send(cluster, 1, b"classify loop")
    check(stuck(cluster, 1) == "classify", f"stuck is {stuck(cluster, 1)}")
    check(cluster.get(1, "/readyz")[0] == 503, "the node is ready")
    wait_until(lambda: cluster.get(1, "/livez")[0] == 503, "a node whose loop hangs is live")
    cluster.signal(1, signal.SIGTERM)
    check(cluster.wait_exit(1) == EXIT_PLUGIN, "another exit code")
    check("hangs in classify" in last_run(cluster, 1), "the end does not name the call")
    client.close()


def test_call_that_comes_back_is_forgotten(context):
    cluster = context.cluster(UNRULY, nodes=1, settings={"raft": FAST_RAFT})
    cluster.start()
    cluster.leader()
    client = send(cluster, 1, b"do wait")
    check(stuck(cluster, 1).startswith("apply at "), "the call is not seen")
    check(client.read_reply() == b"1", "the write failed")
    wait_until(lambda: cluster.get(1, "/readyz")[0] == 200, "the node is not ready again")
    check("came back from apply at index" in last_run(cluster, 1), "its end is not logged")
    client.close()
    check(cluster.terminate(1) == 0, "the node did not end as told")


def test_stuck_call_is_shown(context):
    """To systemd by another thread than the loop, which is in the call itself; and by connectctl."""
    cluster = context.cluster(UNRULY, nodes=1, settings={"raft": FAST_RAFT, "shutdown": {"drain_timeout": "1s"}})
    path = os.path.join(cluster.directory, "notify")
    messages = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.setblocking(False)
        cluster.nodes[1].environment = {"NOTIFY_SOCKET": path}
        cluster.start()
        cluster.leader()

        def last_status():
            with contextlib.suppress(BlockingIOError):
                while True:
                    messages.extend(notify.recv(4096).decode().split("\n"))
            told = [line for line in messages if line.startswith("STATUS=")]
            return told[-1] if told else ""

        wait_until(lambda: "role=leader" in last_status(), "a status of the leader")
        clients = [send(cluster, 1, b"do wait")]
        place = stuck(cluster, 1)
        wait_until(lambda: last_status() == f"STATUS=STUCK in {place}", "systemd hears of it")
        shown = subprocess.run([CONNECTCTL, "-e", f"127.0.0.1:{cluster.nodes[1].http_port}", "status"],
                               capture_output=True, text=True, check=False)
        check("STUCK" in shown.stdout and f"node 1 is not ready: STUCK in {place}" in shown.stdout + shown.stderr,
              f"connectctl status: {shown}")
        wait_until(lambda: "role=leader" in last_status(), "systemd hears that it came back")
        # After a start it is the apply thread that hangs, and the loop that tells.
        clients.append(send(cluster, 1, b"do loop"))
        place = wait_until(lambda: stuck(cluster, 1) != place and stuck(cluster, 1), "another call")
        cluster.kill(1)
        last_status()
        messages.clear()
        cluster.start()
        wait_until(lambda: last_status() == f"STATUS=STUCK in {place}", "systemd hears of it after a start")
        check(cluster.terminate(1) == EXIT_PLUGIN, "another exit code")
        for client in clients:
            client.close()


def ctl(node, *words):
    done = subprocess.run([CONNECTCTL, "-e", f"127.0.0.1:{node.http_port}", *words], capture_output=True, text=True,
                          check=False, timeout=60)
    check(done.returncode == 0, f"connectctl {' '.join(words)}: {done}")


def test_removed_node_that_hangs_ends(context):
    """No signal comes. It leads, so that it is the first that knows, and nobody has refused it before."""
    cluster = context.cluster(UNRULY, settings={"raft": FAST_RAFT, "shutdown": {"drain_timeout": "2s"}})
    cluster.start()
    removed = cluster.leader()
    check(ask(cluster, removed, b"loop where told") == "1", "no write succeeded")
    cluster.kill(removed)
    # The replay hangs on the apply thread.
    cluster.nodes[removed].environment = {"UNRULY_LOOPS": "1"}
    cluster.start(removed)
    place = stuck(cluster, removed)
    other = cluster.nodes[cluster.leader()]
    check(other.id != removed, "the node that hangs leads by itself")
    ctl(other, "leader", "transfer", "--to", str(removed))
    ctl(other, "member", "remove", str(removed))
    code = cluster.wait_exit(removed)
    check(code == harness.EXIT_MISMATCH, f"the removed node ended with {code}")
    log = last_run(cluster, removed)
    check("stops for good" in log and f"hangs in {place.replace(' at ', ' at index ')}" in log, log[-500:])


def test_function_for_atexit_does_not_hold_the_end(context):
    cluster = context.cluster(UNRULY, nodes=1, settings={"raft": FAST_RAFT, "shutdown": {"drain_timeout": "2s"},
                                                         "plugin": {"options": {"on": "atexit"}}})
    ends = []
    for more in ([], [signal.SIGTERM]):
        cluster.start()
        cluster.leader()
        began = time.monotonic()
        cluster.signal(1, signal.SIGTERM)
        wait_until(lambda: "connectd: stopped" in last_run(cluster, 1), "it stops")
        for number in more:
            time.sleep(0.2)
            cluster.signal(1, number)
        check(cluster.wait_exit(1) == EXIT_PLUGIN, "another exit code")
        ends.append(time.monotonic() - began)
        check("plugin unruly 1.0.0 hangs in a function for atexit()" in last_run(cluster, 1), "it is not named")
    check(ends[1] < ends[0], f"the end took {ends[1]:.1f} s, and {ends[0]:.1f} s without a second signal")


if __name__ == "__main__":
    harness.main(globals())

"""File descriptors: clients cannot take those that the log, snapshots, peers and HTTP need."""

import collections
import concurrent.futures
import contextlib
import http.client
import os
import resource
import socket
import threading
import time

import harness
from harness import EXIT_CANNOT_CREATE, check, wait_until

SMALL = {"storage": {"segment_size": "64KiB"}, "client": {"max_request": "4KiB"}, "snapshot": {"log_min": "256KiB"}}


def limited(cluster, limit):
    for node in cluster.nodes.values():
        node.wrap = ["prlimit", f"--nofile={limit}"]
    return cluster


@contextlib.contextmanager
def idle_clients(cluster, count):
    """So many more than a node takes, at each node."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack:
        for node in cluster.nodes.values():
            for _ in range(count):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex((node.host, node.client_port))
        time.sleep(1)
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def write(client, requests):
    for _ in range(requests // 500):
        client.pipeline([b"incr"] * 500)


def test_idle_clients_leave_some_for_the_log(context):
    """Both limits are low, so that raising the soft one does not help: segments and snapshots are made all the same."""
    for limit in (72, 256):
        cluster = limited(context.cluster(nodes=3, settings=SMALL), f"{limit}:{limit}")
        cluster.start()
        leader = cluster.leader()
        for node in cluster.nodes.values():
            wait_until(lambda node=node: "client connections limited to" in node.log(), "the line about the limit")
        with cluster.line_client(leader) as client, idle_clients(cluster, limit):
            before = cluster.status(leader)["snapshot_index"]
            write(client, 30000)
            cluster.check_alive()
            wait_until(lambda: cluster.status(leader)["snapshot_index"] > before, "a snapshot")
            for node in cluster.nodes.values():
                check(harness.descriptor_count(node.process.pid) < limit, "all descriptors are in use")
                check(cluster.get(node.id, "/livez")[0] == 200, f"/livez of node {node.id}")
                warnings = node.log().count("client rejected: too many connections")
                check(warnings == 1, f"{warnings} lines about rejected clients")
        cluster.kill(*cluster.nodes)


def test_soft_limit_is_raised(context):
    cluster = limited(context.cluster(nodes=1), "256:")
    cluster.start()
    cluster.leader()
    with open(f"/proc/{cluster.nodes[1].process.pid}/limits", encoding="utf-8") as file:
        limits = next(line for line in file if line.startswith("Max open files")).split()
    check(limits[3] == limits[4] != "256", f"the limits are {limits}")


def test_too_low_a_limit_is_refused(context):
    cluster = limited(context.cluster(nodes=1), "32:32")
    cluster.start()
    check(cluster.wait_exit(1) == EXIT_CANNOT_CREATE, "the exit code")
    check("the limit of open files is 32" in cluster.nodes[1].log(), "the text")


def test_none_left_stops_only_what_needs_one(context):
    """The limit of a running node falls below what it has open: no file can be made until it is raised again."""
    cluster = context.cluster(nodes=1, settings=SMALL)
    cluster.start()
    cluster.leader()
    pid = cluster.nodes[1].process.pid
    with cluster.line_client(1) as client:
        write(client, 1000)
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))

        def refused():
            return any("file descriptor" in str(reply) for reply in client.pipeline([b"incr"] * 100))

        wait_until(refused, "DISKFULL that names the descriptors")
        cluster.check_alive()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        wait_until(lambda: "entries accepted again" in cluster.nodes[1].log(), "entries are accepted again")
        time.sleep(0.2)
        write(client, 500)
    check(os.path.exists(cluster.nodes[1].data_dir), "the data directory")


def answered_calls(node, seconds):
    """One connection at a time: INCRs a key of its own; what came back, and the requests without an answer."""
    key = f"key{threading.get_ident()}"
    body = f"*2\r\n$4\r\nINCR\r\n${len(key)}\r\n{key}\r\n"
    headers = {"X-Connect-Request": "1", "Content-Type": "application/octet-stream"}
    statuses, lost, counted = collections.Counter(), [], 0
    connection, until = None, time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            connection = connection or http.client.HTTPConnection(node.host, node.http_port, timeout=20)
            connection.request("POST", "/v1/call", body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            lost.append(repr(error))
            connection = None
            continue
        statuses[answer.status] += 1
        if answer.status == 200:
            counted += 1
            check(text == b":%d\r\n" % counted, f"{text} after {counted - 1} that were answered")
        else:
            check(answer.status == 503 and answer.getheader("Retry-After"), f"status {answer.status}: {text}")
            time.sleep(0.01)
        if answer.will_close:
            connection = None
    return statuses, lost


def test_every_http_request_is_answered(context):
    """More clients of the HTTP port than connections, all of them active: 200 or 503, and none runs without an answer."""
    cluster = limited(context.cluster(plugin="kv", nodes=1), "400:400")  # about 90 connections of HTTP
    cluster.start()
    node = cluster.nodes[cluster.leader()]
    with concurrent.futures.ThreadPoolExecutor(150) as pool:
        results = list(pool.map(lambda _: answered_calls(node, 4), range(150)))
    statuses = sum((statuses for statuses, _ in results), collections.Counter())
    lost = [error for _, errors in results for error in errors]
    check(not lost, f"{len(lost)} requests without an answer: {lost[:3]}")
    check(statuses[200] > 0 and statuses[503] > 0, f"answers: {dict(statuses)}")
    check(cluster.get(node.id, "/livez")[0] == 200, "/livez after that")


if __name__ == "__main__":
    harness.main(globals())

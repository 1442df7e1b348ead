"""Plugins whose calls take long, and replies that nobody reads."""

import http.client
import signal
import time

import harness
from harness import EXIT_OK, FAST_RAFT, check, memory_bytes, wait_until
from plugin_calls import UNRULY, ask, ctl, last_run, send

MIB = 1 << 20


def busy_cluster(context, request, count):
    """A leader that has just been sent so many requests on one connection, and the connection."""
    cluster = context.cluster(UNRULY, settings={"raft": FAST_RAFT, "client": {"request_timeout": "60s"}})
    cluster.start()
    leader = cluster.leader()
    check(ask(cluster, leader, b"incr", 20) == "1", "no write succeeded")
    cluster.wait_equal()
    client = cluster.line_client(leader, 60)
    client.send((request + b"\n") * count)
    return cluster, leader, client


def check_serves_meanwhile(cluster, leader, term, seconds):
    """The loop of no node is held by a call, whatever waits behind it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for node_id in cluster.nodes:
            answer = cluster.get(node_id, "/livez?verbose")
            check(answer and answer[0] == 200, f"node {node_id} is not live: {answer}")
        time.sleep(0.2)
    status = cluster.status(leader)
    check(status["role"] == "leader" and status["term"] == term, f"leadership was lost: {cluster.brief()}")


def test_slow_writes_hold_no_loop(context):
    cluster, leader, client = busy_cluster(context, b"do nap", 80)
    term = cluster.status(leader)["term"]
    check_serves_meanwhile(cluster, leader, term, 7)
    values = [int(client.read_reply()) for _ in range(80)]
    check(values == list(range(2, 82)), f"other replies: {values}")
    client.close()
    cluster.wait_equal()
    sessions = cluster.status(leader)["last_index"]
    check(sessions < 100, f"{sessions} entries for 81 writes: sessions are opened again and again")


def test_slow_reads_cost_no_leadership(context):
    cluster, leader, client = busy_cluster(context, b"get nap", 80)
    term = cluster.status(leader)["term"]
    check_serves_meanwhile(cluster, leader, term, 7)
    values = [int(client.read_reply()) for _ in range(80)]
    check(values == [1] * 80, f"other replies: {values}")
    client.close()


def test_quick_writes_are_answered_before_slow_ones(context):
    """All are in one batch: quick ones before a slow call and behind it."""
    cluster = context.cluster(UNRULY, nodes=1, settings={"raft": FAST_RAFT, "client": {"request_timeout": "3s"}})
    cluster.start()
    cluster.leader()
    check(ask(cluster, 1, b"do pause") == "1", "no write succeeded")
    client = cluster.line_client(1, 20)
    client.send(b"incr\n" * 10 + b"do pause\n" * 5 + b"incr\n")
    values = [client.read_reply() for _ in range(10)]
    check(values == [str(n).encode() for n in range(2, 12)], f"other replies: {values}")
    # The slow ones take longer than the timeout: who waits for them gets UNKNOWN.
    rest = [str(client.read_reply()) for _ in range(6)]
    check("UNKNOWN" in rest[-1], f"the last write had no time: {rest}")
    client.close()


def test_expired_reads_are_not_executed(context):
    cluster = context.cluster(UNRULY, nodes=1, settings={"raft": FAST_RAFT, "client": {"request_timeout": "2s"}})
    cluster.start()
    cluster.leader()
    client = cluster.line_client(1, 20)
    client.send(b"get pause\n" * 20)
    replies = [str(client.read_reply()) for _ in range(20)]
    check("PLUGIN the plugin did not execute the read" in replies[-1], f"other replies: {replies}")
    gone = [send(cluster, 1, b"get pause") for _ in range(20)]
    time.sleep(0.5)  # they are in progress: a request that comes with the end of its connection is dropped
    for other in gone:
        other.close()
    began = time.monotonic()

    def reads():
        with cluster.line_client(1, 10) as another:
            another.send(b"get\n")
            return another.read_reply() == b"0"
    wait_until(reads, "a read succeeds")
    check(time.monotonic() - began < 8, "reads that nobody waits for were executed")
    client.close()


def test_busy_plugin_is_not_ready(context):
    """No call is stuck, and nothing waits to be applied; all the same a read would wait for long."""
    cluster = context.cluster(UNRULY, nodes=1, settings={"raft": FAST_RAFT, "client": {"request_timeout": "30s"}})
    cluster.start()
    cluster.leader()
    wait_until(lambda: cluster.get(1, "/readyz")[0] == 200, "it is ready")
    client = cluster.line_client(1, 60)
    client.send(b"get pause\n" * 14)
    answer = wait_until(lambda: (found := cluster.get(1, "/readyz?verbose"))[0] == 503 and found, "it is not ready", 12)
    check(b"the plugin is busy" in answer[1], f"another reason: {answer}")
    check(cluster.get(1, "/livez")[0] == 200, "it is not live")
    check(not cluster.status(1)["stuck"], "a call is stuck")
    for _ in range(14):
        client.read_reply()
    wait_until(lambda: cluster.get(1, "/readyz")[0] == 200, "it is ready again")
    client.close()


def test_end_during_a_short_call_is_no_hang(context):
    cluster = context.cluster(UNRULY, nodes=1, settings={"raft": FAST_RAFT, "shutdown": {"drain_timeout": "1s"}})
    cluster.start()
    cluster.leader()
    check(ask(cluster, 1, b"do nap") == "1", "no write succeeded")
    client = cluster.line_client(1)
    before = cluster.status(1)["commit_index"]
    client.send(b"do pause\n" * 2 + b"do wait\n")
    wait_until(lambda: cluster.status(1)["commit_index"] == before + 3, "they are committed")
    wait_until(lambda: cluster.status(1)["applied_index"] == before + 2, "the long call has begun")
    cluster.signal(1, signal.SIGTERM)
    check(cluster.wait_exit(1) == EXIT_OK, "the end is a failure")
    client.close()
    log = last_run(cluster, 1)
    check("stopped while plugin unruly 1.0.0 is in apply at index" in log, log[-500:])
    check("hangs" not in log and "--skip-entry" not in log, f"a short call is taken for a hang: {log[-500:]}")


def test_short_calls_do_not_hold_the_end(context):
    cluster = context.cluster(UNRULY, nodes=1, settings={"raft": FAST_RAFT, "shutdown": {"drain_timeout": "1s"}})
    cluster.start()
    cluster.leader()
    check(ask(cluster, 1, b"do nap") == "1", "no write succeeded")
    client = cluster.line_client(1)
    before = cluster.status(1)["commit_index"]
    client.send(b"do nap\n" * 100)
    wait_until(lambda: cluster.status(1)["commit_index"] == before + 100, "they are committed")
    began = time.monotonic()
    check(cluster.terminate(1) == EXIT_OK, "the end is a failure")
    check(time.monotonic() - began < 6, "it waited for all calls")
    client.close()
    cluster.start()
    cluster.leader()

    def value():
        try:
            return ask(cluster, 1, b"get", 10)
        except harness.ErrorReply:  # it executes its log still
            return None
    wait_until(lambda: value() == "101", "a write is lost", 60)


def test_long_snapshot_is_named(context):
    cluster = context.cluster(UNRULY, nodes=1, settings={
        "raft": FAST_RAFT, "snapshot": {"mode": "inline"}, "plugin": {"options": {"snapshot": "wait"}}})
    cluster.start()
    cluster.leader()
    check(ask(cluster, 1, b"incr", 20) == "1", "no write succeeded")
    ctl(cluster.nodes[1], "snapshot", "take")
    wait_until(lambda: "plugin unruly 1.0.0 came back from snapshot at index" in last_run(cluster, 1), "its end", 30)
    check("plugin unruly 1.0.0 is still in snapshot at index" in last_run(cluster, 1), "it is not named")
    check("STUCK" not in last_run(cluster, 1), "a long snapshot is taken for a hang")


def unread_calls(cluster, body, count):
    connections = []
    for _ in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", cluster.nodes[1].http_port, timeout=60)
        connection.request("POST", "/v1/call", body=body,
                           headers={"X-Connect-Request": "1", "Content-Type": "application/octet-stream"})
        connections.append(connection)
    return connections


def test_unread_http_replies_are_bounded(context):
    """32 MiB each, and the first of them is in the sockets' buffers."""
    cluster = context.cluster(UNRULY, nodes=1, settings={"raft": FAST_RAFT})
    cluster.start()
    cluster.leader()
    check(ask(cluster, 1, b"incr", 20) == "1", "no write succeeded")
    for body, dropped in ((b"get big", 0), (b"big", 1)):
        connections = unread_calls(cluster, body, 40)
        most = 0
        end = time.monotonic() + 3
        while time.monotonic() < end:
            most = max(most, memory_bytes(cluster.nodes[1].process.pid))
            time.sleep(0.05)
        print(f"{body.decode()}: {most / MIB:.0f} MiB", flush=True)
        check(most < 450 * MIB, f"40 unread replies to {body} take {most / MIB:.0f} MiB")
        found = {}
        for connection in connections:
            try:
                answer = connection.getresponse()
                size = len(answer.read())
                check(answer.status != 200 or size == 32 * MIB, f"a reply of {size} bytes")
                found[answer.status] = found.get(answer.status, 0) + 1
            except (OSError, http.client.HTTPException):
                found["closed"] = found.get("closed", 0) + 1
            connection.close()
        print(f"{body.decode()}: {found}", flush=True)
        check(found.get(200, 0) > 0, f"no reply was read: {found}")
        check(set(found) <= {200, 429, 504, "closed"}, f"other answers: {found}")
        check((504 in found) >= bool(dropped), f"a dropped reply is not told: {found}")
    cluster.wait_equal()

    def value():
        with cluster.line_client(1, 10) as client:
            client.send(b"get\n")
            return client.read_reply()
    # Those that were answered were executed, and none twice; the others may have waited for room until their time was up.
    wait_until(lambda: not isinstance(value(), harness.ErrorReply), lambda: f"a read is answered: {value()}", 120)
    executed = int(value())
    check(1 + found.get(200, 0) <= executed <= 41, f"{executed - 1} writes were executed: {found}")


if __name__ == "__main__":
    harness.main(globals())

"""/livez, /readyz and /leaderz in the states that a node can be in: what they say is true."""

import http.client
import json
import signal
import threading

import disk
import harness
from harness import FAST_RAFT, check, wait_until
from plugin_calls import UNRULY


def checks(cluster, node_id, path="/readyz"):
    """(HTTP status, {name: (status, text)}), from the JSON; the lines for people must say the same."""
    node = cluster.nodes[node_id]
    connection = http.client.HTTPConnection(node.host, node.http_port, timeout=5)
    try:
        connection.request("GET", path + "?verbose", headers={"Accept": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException):
        return 0, {}
    finally:
        connection.close()
    check(answer["status"] == ("ok" if response.status == 200 else "failed"), f"{response.status}: {answer}")
    return response.status, {item["name"]: (item["status"], item["text"]) for item in answer["checks"]}


def wait_for(cluster, node_id, state, name, text, verdict="failed"):
    """Until /v1/status has this state, and exactly this check of /readyz is not ok."""
    def holds():
        status = cluster.status(node_id)
        code, found = checks(cluster, node_id)
        bad = {key: value for key, value in found.items() if value[0] == "failed" or key == name}
        if not status or status["state"] != state or list(bad) != [name] or bad[name][0] != verdict:
            return False
        return text in bad[name][1] and code == (503 if verdict == "failed" else 200)
    wait_until(holds, lambda: f"node {node_id} is '{state}' because of {name}: {checks(cluster, node_id)}, "
                              f"{cluster.status(node_id)}", 60)
    check(cluster.get(node_id, "/livez")[0] == 200, "a restart would not help")


def test_forming_ready_and_no_quorum(context):
    cluster = context.cluster("counter")
    cluster.start(1)
    wait_for(cluster, 1, "forming", "cluster", "waiting for")
    cluster.start(2, 3)
    leader = cluster.leader()
    for node_id in cluster.nodes:
        wait_until(lambda: cluster.get(node_id, "/readyz") == (200, b"ok\n"), f"node {node_id} is ready")
        code, found = checks(cluster, node_id)
        check(code == 200 and all(status == "ok" for status, _ in found.values()), f"node {node_id}: {found}")
        check(found["leader"][1] == f"leader {leader} in term {cluster.status(leader)['term']}", f"the leader: {found}")
        check(cluster.status(node_id)["state"] == "ready", "the state")
        check((checks(cluster, node_id, "/leaderz")[0] == 200) == (node_id == leader), f"/leaderz of node {node_id}")
        lines = cluster.get(node_id, "/readyz?verbose")[1].decode().splitlines()
        check(lines[-1] == "ok" and len(lines) == len(found) + 1, f"the lines for people: {lines}")
    alone, *others = cluster.nodes
    cluster.kill(*others)
    wait_for(cluster, alone, "no quorum", "leader", "reaches 1 of 3")
    detail = json.loads(cluster.get(alone, "/readyz")[1])["detail"]
    check("recover" in detail, f"without a quorum the remedy is named: {detail}")


def test_catching_up_and_stopping(context):
    """A node that starts again executes its log; one that stops says so until it is gone."""
    cluster = context.cluster(UNRULY, nodes=1, settings={"raft": FAST_RAFT, "snapshot": {"log_min": "1GiB"},
                                                         "client": {"request_timeout": "60s"}})
    cluster.start()
    cluster.leader()
    client = cluster.line_client(1, 60)
    client.send(b"do nap\n" * 60)
    for _ in range(60):
        client.read_reply()
    client.close()
    cluster.kill(1)
    cluster.start(1)
    wait_for(cluster, 1, "catching up", "up_to_date", "committed entries applied")
    wait_until(lambda: cluster.get(1, "/readyz")[0] == 200, "it is ready", 60)
    client = cluster.line_client(1, 60)
    client.send(b"do nap\n" * 30)
    client.read_reply()
    cluster.signal(1, signal.SIGTERM)
    wait_for(cluster, 1, "stopping", "shutdown", "stopping")
    cluster.wait_exit(1, 60)
    client.close()


def test_lagging_and_stuck(context):
    cluster = context.cluster(UNRULY, nodes=1, settings={"raft": FAST_RAFT, "client": {"request_timeout": "60s"}})
    cluster.start()
    cluster.leader()
    wait_until(lambda: cluster.get(1, "/readyz")[0] == 200, "it is ready")
    client = cluster.line_client(1, 60)
    client.send(b"get pause\n" * 14)
    wait_for(cluster, 1, "lagging", "up_to_date", "the plugin is busy")
    for _ in range(14):
        client.read_reply()
    wait_until(lambda: cluster.get(1, "/readyz")[0] == 200, "it is ready again", 30)
    threading.Thread(target=client.send, args=(b"do loop\n",)).start()
    wait_for(cluster, 1, "stuck", "plugin", "STUCK in apply at")
    cluster.kill(1)
    client.close()


def test_full_and_stalled_disk(context):
    """The node answers reads, and goes on being ready; the check warns."""
    cluster = context.cluster("counter", settings={"storage": disk.STORAGE, "snapshot": disk.NO_SNAPSHOTS})
    with disk.disks_of(cluster) as disks:
        disks.ext4()
        cluster.start()
        leader = cluster.leader()
        follower = next(node_id for node_id in cluster.nodes if node_id != leader)
        wait_until(lambda: cluster.get(follower, "/readyz")[0] == 200, "it is ready")
        disks.fill(follower, leave=4 << 20)
        wait_for(cluster, follower, "ready", "disk", "full", verdict="warning")
        disks.free(follower)
        wait_for(cluster, follower, "ready", "disk", "ok", verdict="ok")
        disks.freeze(follower)
        with cluster.line_client(leader) as client:
            client.call(b"incr")
        wait_for(cluster, follower, "ready", "disk", "stalled", verdict="warning")
        disks.thaw(follower)
        wait_for(cluster, follower, "ready", "disk", "ok", verdict="ok")
        for node_id in cluster.nodes:
            disks.fill(node_id, leave=4 << 20)
        wait_for(cluster, leader, "ready", "writes", "no quorum of the nodes has space", verdict="warning")


if __name__ == "__main__":
    harness.main(globals())

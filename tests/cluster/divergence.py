"""Diverged replicas: the minority stops and names the first index, the majority continues, and
without a majority writes are rejected. The plugin is a counter that is wrong once (tests/plugins)."""

import http.client
import json
import os
import subprocess

import harness
from harness import BUILD_DIR, EXIT_PLUGIN, ErrorReply, check, wait_until

PLUGIN = os.path.join(BUILD_DIR, "tests", "plugins", "libwrong_once.so")
WRONG_AT = 50


def start(context, wrong, settings=None, nodes=3):
    """`wrong`: node id -> the environment of its process."""
    cluster = context.cluster(PLUGIN, nodes=nodes, settings={"raft": dict(harness.FAST_RAFT), **(settings or {})})
    for node_id, environment in wrong.items():
        cluster.nodes[node_id].environment = environment
    cluster.start()
    return cluster


def incr(cluster, node_id):
    """(reply, index) of one incr, or None where it was not served."""
    connection = http.client.HTTPConnection("127.0.0.1", cluster.nodes[node_id].http_port, timeout=30)
    try:
        connection.request("POST", "/v1/call", body=b"incr",
                           headers={"X-Connect-Request": "1", "Content-Type": "application/octet-stream"})
        answer = connection.getresponse()
        body = answer.read()
        return (body, int(answer.getheader("X-Connect-Index"))) if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def count_up(cluster, node_id, below):
    """Until the counter is just below; the index of the next incr is then the one returned, if nothing
    else is proposed."""
    while True:
        done = wait_until(lambda: incr(cluster, node_id), "an incr is served")
        if int(done[0]) + 1 >= below:
            return


def elect(cluster, wanted):
    """Makes `wanted` the leader of three."""
    first = cluster.leader()
    if first == wanted:
        return
    cluster.terminate(first)
    second = cluster.leader()
    if second != wanted:
        # The first one has missed an entry that `wanted` has: of these two only `wanted` can win.
        cluster.wait_caught_up(wanted)
        cluster.kill(second)
        cluster.start(first)
        check(cluster.leader() == wanted, f"node {wanted} does not lead")
        cluster.start(second)
    else:
        cluster.start(first)


def last_line(cluster, node_id):
    return cluster.nodes[node_id].log().rstrip().rsplit("\n", 1)[-1]


def digest_of(line, word):
    """'digest 0123456789abcdef here, 0123456789abcdef there' -> the digest before `word`."""
    return line.split(f" {word}")[0].rsplit(" ", 1)[-1].strip("(,")


def check_stopped(cluster, victim, index):
    code = cluster.wait_exit(victim)
    check(code == EXIT_PLUGIN, f"node {victim} ended with {code}")
    line = last_line(cluster, victim)
    check(f"the first different answer is at index {index} (" in line, f"node {victim} says: {line}")
    mine, other = digest_of(line, "here"), digest_of(line, "there")
    check(len(mine) == 16 and len(other) == 16 and mine != other, f"node {victim} names no two digests: {line}")
    check("wrong-once 1.0.0" in line, f"node {victim} does not name the plugin: {line}")
    return mine, other


def goes_on(cluster, victim, at_least):
    survivor = cluster.leader()
    check(survivor != victim, "the stopped node leads")
    for node_id in cluster.running():
        reply = wait_until(lambda: incr(cluster, node_id), f"node {node_id} serves writes again")
        check(int(reply[0]) > at_least, f"node {node_id} replied {reply}")
        at_least = int(reply[0])
        wait_until(lambda: cluster.get(node_id, "/readyz")[0] == 200, f"node {node_id} is ready")
        check(cluster.status(node_id)["divergence"] is None, f"node {node_id} speaks of a divergence")


def follower_or_leader_is_wrong(context, leads):
    victim = context.random.choice([1, 2, 3])
    cluster = start(context, {victim: {"WRONG_REPLY": f"{WRONG_AT}:oops"}})
    if leads:
        elect(cluster, victim)
    else:
        cluster.leader()
    if not leads and cluster.leader() == victim:
        elect(cluster, victim % 3 + 1)
    survivors = [node_id for node_id in cluster.nodes if node_id != victim]
    leader = cluster.leader()
    # Asked by a node that is right, so that its reply names the index.
    count_up(cluster, survivors[0], WRONG_AT)
    reply, index = wait_until(lambda: incr(cluster, survivors[0]), "the incr that goes wrong is served")
    check(int(reply) == WRONG_AT, f"node {survivors[0]} replied {reply}")
    mine, other = check_stopped(cluster, victim, index)
    goes_on(cluster, victim, WRONG_AT)
    if not leads:
        log = cluster.nodes[leader].log()
        check(f"node {victim} has diverged from the majority: the first different answer is at index {index} "
              f"(digest {mine} there, {other} here)" in log, f"node {leader}, which leads, does not say it")
    # Without its mistake it applies the log anew, and takes part again.
    cluster.nodes[victim].environment = {}
    cluster.start(victim)
    with cluster.line_client(cluster.leader()) as client:
        client.call(b"incr")
    cluster.wait_equal()


def test_wrong_follower(context):
    follower_or_leader_is_wrong(context, leads=False)


def test_wrong_leader(context):
    follower_or_leader_is_wrong(context, leads=True)


def test_wrong_state(context):
    victim = context.random.choice([1, 2, 3])
    cluster = start(context, {victim: {"WRONG_STATE": str(WRONG_AT)}}, {"plugin": {"compare_interval": "200ms"}})
    cluster.leader()
    # No reply ever differs: a compare entry must come by.
    def stopped():
        if cluster.nodes[victim].process.poll() is None:
            for node_id in cluster.running():
                incr(cluster, node_id)
            return False
        return True
    wait_until(stopped, f"node {victim} stops", 60)
    code = cluster.wait_exit(victim)
    check(code == EXIT_PLUGIN, f"node {victim} ended with {code}")
    line = last_line(cluster, victim)
    check("the states differ at index " in line and "a compare entry" in line, f"node {victim} says: {line}")
    check(digest_of(line, "here") != digest_of(line, "there"), f"node {victim} names no two hashes: {line}")
    goes_on(cluster, victim, WRONG_AT)


def refuses_writes(cluster, index=None):
    """All nodes reject writes with a text, are not ready, report why, and serve reads; none ends."""
    where = f"the first different answer is at index {index} (" if index else "the first different answer is at index "
    for node_id in cluster.running():
        def says():
            status = cluster.status(node_id)
            return status and status["divergence"] and where in status["divergence"] and not status["ready"]
        wait_until(says, lambda: f"node {node_id} says that no writes are taken: {cluster.status(node_id)}")
        with cluster.line_client(node_id) as client:
            check(client.call(b"get").isdigit(), f"node {node_id} does not serve reads")
            try:
                reply = client.call(b"incr")
                raise harness.Failure(f"node {node_id} took a write: {reply}")
            except ErrorReply as error:
                check(error.code == "PLUGIN" and "no majority" in str(error) and where in str(error),
                      f"node {node_id} refused with: {error}")
        code, body = cluster.get(node_id, "/readyz")
        check(code == 503 and where in json.loads(body)["detail"], f"node {node_id}: /readyz says {code} {body}")
        check(cluster.get(node_id, "/livez")[0] == 200, f"node {node_id} is not alive")
        check(cluster.status(node_id)["state"] == "diverged", f"the state of node {node_id}")
        check(b"[-] replicas: " in cluster.get(node_id, "/readyz?verbose")[1], f"the checks of node {node_id}")
    leader = cluster.leader()
    check("writes are rejected until there is a majority" in cluster.nodes[leader].log(), "the leader does not say it")
    table = subprocess.run([os.path.join(BUILD_DIR, "bin", "connectctl"), "-e",
                            f"127.0.0.1:{cluster.nodes[leader].http_port}", "status"],
                           capture_output=True, text=True, timeout=30)
    check(table.returncode == 1 and "DIVERGED, NO WRITES" in table.stdout and where in table.stderr,
          f"connectctl status: {table}")
    cluster.check_alive()


def test_three_values_of_three(context):
    cluster = start(context, {2: {"WRONG_REPLY": f"{WRONG_AT}:two"}, 3: {"WRONG_REPLY": f"{WRONG_AT}:three"}})
    cluster.leader()
    count_up(cluster, 1, WRONG_AT)
    _, index = wait_until(lambda: incr(cluster, 1), "the incr that goes wrong is served")
    refuses_writes(cluster, index)
    # A new leader finds it again, and refuses as well.
    leader = cluster.leader()
    cluster.kill(leader)
    cluster.start(leader)
    cluster.leader()
    refuses_writes(cluster, index)


def test_two_of_two(context):
    cluster = start(context, {2: {"WRONG_REPLY": f"{WRONG_AT}:two"}}, nodes=2)
    cluster.leader()
    count_up(cluster, 1, WRONG_AT)
    _, index = wait_until(lambda: incr(cluster, 1), "the incr that goes wrong is served")
    refuses_writes(cluster, index)


def test_third_node_decides(context):
    """Two of three differ while the third is down: no writes until it returns and makes a majority."""
    cluster = start(context, {2: {"WRONG_REPLY": f"{WRONG_AT}:two"}})
    cluster.leader()
    count_up(cluster, 1, WRONG_AT - 10)
    cluster.kill(3)
    cluster.leader()
    count_up(cluster, 1, WRONG_AT)
    _, index = wait_until(lambda: incr(cluster, 1), "the incr that goes wrong is served")
    refuses_writes(cluster, index)
    cluster.start(3)
    check_stopped(cluster, 2, index)
    goes_on(cluster, 2, WRONG_AT)


if __name__ == "__main__":
    harness.main(globals())

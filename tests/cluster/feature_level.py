"""Two builds in one cluster: connectd, and connectd_next, which represents the next version. It supports one more
feature level, and one kind of entry of that level."""

import http.client
import json
import os
import subprocess

import harness
from harness import BUILD_DIR, EXIT_MISMATCH, check, wait_until
from disk import progress, value
from load import CounterSpeech, Load
from membership import CONNECTCTL, add, ctl, new_node, patiently
from refusals import refused, waits

NEXT = os.path.join(BUILD_DIR, "bin", "connectd_next")
KEY = "cluster.feature_level"
PROBE = "test.level_probe"


def start(context):
    check(os.path.exists(NEXT), f"{NEXT} is not there: build the target connectd_next")
    cluster = context.cluster("counter")
    cluster.start()
    with cluster.line_client(cluster.leader()) as client:
        check(client.call(b"incr") == b"1", "the counter does not begin with 1")
    cluster.wait_equal()
    return cluster


def restart(cluster, node_id, binary):
    """With another build; the others serve meanwhile."""
    check(cluster.terminate(node_id) == 0, f"node {node_id} does not stop")
    cluster.nodes[node_id].binary = binary
    cluster.start(node_id)
    cluster.leader()
    cluster.wait_caught_up(node_id)


def increments(cluster, value):
    with cluster.line_client(cluster.leader()) as client:
        check(client.call(b"incr") == b"%d" % value, f"the counter does not go on with {value}")


def level(cluster, node_id):
    status = cluster.status(node_id)
    return status and status["settings"][KEY]


def raise_level(cluster, code, *words, value=2):
    done = ctl(cluster, "settings", "set", KEY, value, codes=(code,))
    for word in words:
        check(word in done.stderr, f"'{word}' is not in: {done.stderr}")


def probe(cluster, seconds=harness.CLIENT_SECONDS):
    """Asks the leader to propose an entry of the new kind; HTTP status and the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", cluster.nodes[cluster.leader()].http_port, timeout=seconds)
    try:
        connection.request("POST", "/v1/admin/settings", json.dumps({"key": PROBE, "value": ""}),
                           {"Content-Type": "application/json", "X-Connect-Request": "1"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def offline_ctl(*words):
    return subprocess.run([CONNECTCTL, *words], capture_output=True, text=True, timeout=60, check=False)


def wait_for(cluster, node_id, words):
    wait_until(lambda: words in cluster.nodes[node_id].log(), f"node {node_id} says '{words}'")


def to_next_level(cluster):
    for node_id in cluster.nodes:
        restart(cluster, node_id, NEXT)
    patiently(cluster, "settings", "set", KEY, 2)
    for node_id in cluster.nodes:
        wait_until(lambda: level(cluster, node_id) == "2", f"node {node_id} is at level 2")


def test_upgrade_one_at_a_time_under_load(context):
    """No client of a living node sees an error, and one node goes back on the way. With CONNECTD_OLD, the path of an
    older connectd, the cluster begins with that one and goes to this build; else from this one to the next."""
    old = os.environ.get("CONNECTD_OLD")
    new = None if old else NEXT
    cluster = context.cluster("counter", settings={"snapshot": {"log_min": "64KiB"}})
    for node in cluster.nodes.values():
        node.binary = old
    cluster.start()
    cluster.leader()
    load = Load(cluster, CounterSpeech, clients=6, seed=context.options.seed).start()
    try:
        progress(load, 2000)
        for node_id, binary in ((1, new), (2, new), (1, old), (1, new), (3, new)):
            restart(cluster, node_id, binary)
            progress(load, 500)
    finally:
        load.stop()
    errors = [error for error in load.errors if not error.startswith("SHUTDOWN")]  # it says: use another node
    check(not errors, f"clients saw errors: {errors[:3]}")
    cluster.wait_equal()
    load.check_final(lambda _: value(cluster, 2))
    print(f"{load.acknowledged} increments, {load.unknown()} unknown, longest time without one "
          f"{load.longest_gap * 1000:.0f} ms")


def test_rolling_upgrade(context):
    """One node after the other; until the level is raised each can return to the old build, and then none can."""
    cluster = start(context)
    raise_level(cluster, 1, "node 1 supports levels up to 1", "node 2 supports levels up to 1")
    restart(cluster, 1, NEXT)
    restart(cluster, 2, NEXT)
    increments(cluster, 2)
    wait_until(lambda: cluster.status(3) is not None, "node 3 answers")
    raise_level(cluster, 1, "node 3 supports levels up to 1")
    restart(cluster, 2, None)  # back to the old version
    increments(cluster, 3)
    restart(cluster, 2, NEXT)
    restart(cluster, 3, NEXT)
    increments(cluster, 4)

    # All run the new version, and nothing new is written yet.
    status, answer = probe(cluster)
    check(status == 400, f"the probe was taken: {status} {answer}")
    check("requires feature level 2; the cluster is at 1" in json.dumps(answer), f"another answer: {answer}")
    raise_level(cluster, 1, "feature level 3 requires every member", "supports levels up to 2", value=3)
    patiently(cluster, "settings", "set", KEY, 2)
    listed = ctl(cluster, "settings", "list").stdout
    check(any(line.split() == [KEY, "2"] for line in listed.splitlines()), f"settings list: {listed}")
    raise_level(cluster, 1, "never lowered", value=1)

    status, answer = probe(cluster)
    check(status == 200, f"the probe was refused: {status} {answer}")
    increments(cluster, 5)
    cluster.wait_equal()


def test_member_that_is_down_holds_the_level_back(context):
    """It counts once it has announced its level to the process that leads, also when it is down again."""
    cluster = start(context)
    for node_id in cluster.nodes:
        restart(cluster, node_id, NEXT)
    leader = cluster.leader()
    down = next(node_id for node_id in cluster.nodes if node_id != leader)
    cluster.terminate(down)
    # The leader's process starts anew: it has heard nothing of the one that is down.
    restart(cluster, leader, NEXT)
    third = next(node_id for node_id in cluster.nodes if node_id not in (down, leader))
    restart(cluster, third, NEXT)
    raise_level(cluster, 1, f"node {down} has not announced its level")
    cluster.start(down)
    cluster.leader()
    cluster.wait_caught_up(down)
    raise_level_later = patiently(cluster, "settings", "set", KEY, 2)
    check("is 2" in raise_level_later.stdout, raise_level_later.stdout)
    increments(cluster, 2)


def test_old_build_is_refused_by_its_disk(context):
    cluster = start(context)
    to_next_level(cluster)
    status, answer = probe(cluster)
    check(status == 200, f"the probe was refused: {status} {answer}")
    cluster.wait_equal()
    victim = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
    cluster.kill(victim)  # no seal behind the last batch: an older build must not cut it
    node = cluster.nodes[victim]
    log = os.path.join(node.data_dir, "log")
    before = {name: open(os.path.join(log, name), "rb").read() for name in sorted(os.listdir(log))}
    node.binary = None
    cluster.start(victim)
    refused(cluster, victim, (EXIT_MISMATCH,), "an entry with kind 11", "a newer version wrote it")
    after = {name: open(os.path.join(log, name), "rb").read() for name in sorted(os.listdir(log))}
    check(before == after, "the old build changed the log")
    shown = offline_ctl("inspect", "wal", node.data_dir)
    check(shown.returncode == EXIT_MISMATCH, f"inspect wal: exit {shown.returncode}: {shown.stderr}")
    check("newer" in shown.stdout and "kind 11" in shown.stdout, f"inspect wal: {shown.stdout}")
    recover = offline_ctl("recover", "--data-dir", node.data_dir)
    check(recover.returncode == EXIT_MISMATCH, f"recover: exit {recover.returncode}: {recover.stderr}")

    node.binary = NEXT
    cluster.start(victim)
    increments(cluster, 2)
    cluster.wait_equal()


def test_level_alone_refuses_an_old_build_by_its_disk(context):
    """No new kind was written yet, but the level in the log permits it."""
    cluster = start(context)
    to_next_level(cluster)
    cluster.wait_equal()
    victim = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
    check(cluster.terminate(victim) == 0, "the node does not stop")
    cluster.nodes[victim].binary = None
    cluster.start(victim)
    refused(cluster, victim, (EXIT_MISMATCH,), "set the cluster's feature level to 2", "supports levels up to 1")


def test_old_build_is_refused_at_the_handshake(context):
    """A member that was down, with old data, and a joining one."""
    cluster = start(context)
    for node_id in cluster.nodes:
        restart(cluster, node_id, NEXT)
    leader = cluster.leader()
    away = next(node_id for node_id in cluster.nodes if node_id != leader)
    cluster.terminate(away)
    patiently(cluster, "settings", "set", KEY, 2)
    cluster.nodes[away].binary = None
    cluster.start(away)
    waits(cluster, away, "is at feature level 2", f"node {away} supports levels up to 1")
    cluster.terminate(away)
    wait_for(cluster, leader, "is at feature level 2")
    increments(cluster, 2)
    cluster.nodes[away].binary = NEXT
    cluster.start(away)
    cluster.wait_equal()

    new_node(cluster, 4)
    cluster.start(4)
    refused(cluster, 4, (EXIT_MISMATCH,), "is at feature level 2", "node 4 supports levels up to 1")
    cluster.nodes[4].binary = NEXT
    cluster.start(4)
    add(cluster, 4)
    wait_until(lambda: (cluster.status(4) or {}).get("role") == "follower", "node 4 follows")
    cluster.wait_caught_up(4)


def test_new_cluster_begins_at_the_common_level(context):
    check(os.path.exists(NEXT), f"{NEXT} is not there: build the target connectd_next")
    for old, expected in ((0, "2"), (1, "1")):
        cluster = context.cluster("counter")
        for node_id, node in cluster.nodes.items():
            node.binary = NEXT if node_id > old else None
        cluster.start()
        leader = cluster.leader()
        check(level(cluster, leader) == expected, f"a new cluster begins at {level(cluster, leader)}")


if __name__ == "__main__":
    harness.main(globals())

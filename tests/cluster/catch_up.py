"""A follower that fell behind the compacted log gets the state as a snapshot."""

import glob
import os
import re

import harness
from harness import FAST_RAFT, check, wait_until
from load import CounterSpeech, Load

VALUE = "x" * 400
BATCH = 500


def write_keys(client, first, count):
    for start in range(first, first + count, BATCH):
        commands = [("SET", f"key{number}", f"{number}:{VALUE}") for number in range(start, min(start + BATCH, first + count))]
        replies = client.pipeline(commands)
        check(all(reply == b"OK" for reply in replies), f"a SET was answered {[r for r in replies if r != b'OK'][:1]}")


SMALL_LOG = {
    "raft": dict(FAST_RAFT, cache_bytes="64KiB"),
    "storage": {"segment_size": "1MiB"},
    "snapshot": {"log_min": "16KiB", "log_ratio": 1},
    "client": {"max_request": "256KiB"},
}


def test_kv_follower_catches_up_by_snapshot(context):
    cluster = context.cluster("kv", settings=SMALL_LOG)
    cluster.start()
    leader = cluster.leader()
    follower = next(node_id for node_id in cluster.nodes if node_id != leader)
    written = 0
    with cluster.resp_client(leader) as client:
        write_keys(client, 0, 200)
        written = 200
        cluster.wait_equal()
        behind = cluster.status(follower)["applied_index"]
        cluster.kill(follower)

        def write_more():
            nonlocal written
            write_keys(client, written, 1000)
            written += 1000
        cluster.wait_for_compaction_past(leader, behind, write_more)
    log_before = len(cluster.nodes[follower].log())
    cluster.start(follower)
    cluster.wait_caught_up(follower, seconds=60)
    cluster.wait_equal()
    log = cluster.nodes[follower].log()[log_before:]
    check(re.search(r"snapshot.*(install|restor|from node)", log, re.I),
          f"node {follower} does not say that it got a snapshot; it caught up some other way")
    with cluster.resp_client(follower) as client:
        check(client.call("DBSIZE") == written, f"node {follower} has {client.call('DBSIZE')} keys, {written} were written")
        for number in (0, 199, 200, written // 2, written - 1):
            check(client.call("GET", f"key{number}") == f"{number}:{VALUE}".encode(), f"key{number} is not as written")
    # It starts again from that snapshot and the log behind it.
    cluster.kill(follower)
    cluster.start(follower)
    cluster.wait_caught_up(follower)
    cluster.wait_equal()
    snapshots = glob.glob(os.path.join(cluster.nodes[leader].data_dir, "**", "*snap*"), recursive=True)
    files = [path for path in snapshots if os.path.isfile(path)]
    check(len(files) <= 3, f"more snapshots are kept than the two that were asked for: {files}")


def test_counter_follower_is_away_again_and_again(context):
    """Under load, the follower is killed, left behind and restarted, many times."""
    rng = context.random
    cluster = context.cluster("counter", settings=SMALL_LOG)
    cluster.start()
    leader = cluster.leader()
    others = [node_id for node_id in cluster.nodes if node_id != leader]
    load = Load(cluster, CounterSpeech, clients=8, seed=context.options.seed).start()
    try:
        for _ in range(10):
            follower = rng.choice(others)
            cluster.kill(follower)
            goal = load.done() + 4000
            wait_until(lambda: load.done() >= goal, "4000 more increments", 60)
            cluster.start(follower)
            cluster.wait_caught_up(follower, seconds=60)
    finally:
        load.stop()
    check(not load.errors, f"error replies: {load.errors[:3]}")
    cluster.wait_equal()
    for node_id in cluster.nodes:
        with cluster.line_client(node_id) as client:
            load.check_final(lambda _: int(client.call(b"get")))


if __name__ == "__main__":
    harness.main(globals())

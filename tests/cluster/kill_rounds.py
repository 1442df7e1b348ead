"""Rounds of kill -9 under load: of the leader, of a follower, of all three.

Every acknowledged increment is in the final value, none is acknowledged twice, reads never go back
(load.py), and the clients of nodes that live see no error.
"""

import harness
from harness import FAST_RAFT, check, wait_until
from load import CounterSpeech, KvSpeech, Load

CLIENTS = 10


def run_rounds(context, plugin, speech):
    rng = context.random
    cluster = context.cluster(plugin, settings={
        "raft": FAST_RAFT,
        "snapshot": {"log_min": "256KiB"},
        "client": {"request_timeout": "15s"},
    })
    cluster.start()
    cluster.leader()
    load = Load(cluster, speech, clients=CLIENTS, seed=context.options.seed).start()

    def progress(count):
        goal = load.done() + count
        wait_until(lambda: load.done() >= goal,
                   lambda: f"{count} more increments acknowledged; {cluster.brief()}", 30)

    kills = {"leader": 0, "follower": 0, "all": 0}
    try:
        progress(100)
        for number in range(context.options.rounds):
            kind = rng.choices(("leader", "follower", "all"), (45, 30, 25))[0]
            if kind == "all":
                victims = list(cluster.nodes)
                rng.shuffle(victims)
            else:
                leader = cluster.leader()
                followers = [node_id for node_id in cluster.nodes if node_id != leader]
                victims = [leader] if kind == "leader" else [rng.choice(followers)]
            kills[kind] += 1
            cluster.kill(*victims)
            if kind != "all":
                progress(rng.randint(1, 60))
            cluster.start(*victims)
            # Now and then the next kill comes before the node has caught up.
            if rng.random() < 0.7:
                for node_id in victims:
                    cluster.wait_caught_up(node_id)
            progress(rng.randint(20, 200))
            if (number + 1) % 10 == 0:
                print(f"round {number + 1}: {kills}, {load.acknowledged} increments, {load.reads} reads, "
                      f"{load.unknown()} unknown, {load.disconnects} broken connections", flush=True)
    finally:
        load.stop()
    status = cluster.wait_equal()
    check(not load.errors, f"{len(load.errors)} error replies, the first: {load.errors[0] if load.errors else ''}")
    check(load.disconnects > 0 or not context.options.rounds, "no kill was ever felt by a client")
    for node_id in cluster.nodes:
        with speech.connect(cluster.nodes[node_id].client_port, harness.CLIENT_SECONDS) as client:
            def value(key, client=client):
                client.send(load.encoded(key, False))
                return speech.value(client.read_reply())
            load.check_final(value)
    print(f"{context.options.rounds} rounds {kills}: {load.acknowledged} increments, {load.unknown()} unknown, "
          f"{load.reads} reads, applied index {status['applied_index']}, digest {status['digest']}", flush=True)


def test_clients_of_living_nodes_count_exactly(context):
    """The leader is killed, all clients are connected to other nodes: no error, no unknown outcome, no duplicate."""
    cluster = context.cluster("counter", settings={"raft": FAST_RAFT, "client": {"request_timeout": "15s"}})
    cluster.start()
    total = 0
    rounds = min(20, context.options.rounds)
    for number in range(rounds):
        leader = cluster.leader()
        others = [node_id for node_id in cluster.nodes if node_id != leader]
        load = Load(cluster, CounterSpeech, clients=CLIENTS, seed=context.options.seed + number, nodes=others, stay=True)
        load.keys["counter"].seen = load.keys["counter"].sent = total
        load.start()
        try:
            for kill in (True, False):
                goal = load.done() + context.random.randint(50, 300)
                wait_until(lambda: load.done() >= goal, lambda: f"{goal} increments acknowledged; {cluster.brief()}", 30)
                if kill:
                    cluster.kill(leader)
        finally:
            load.stop()
        check(not load.errors, f"clients of living nodes saw errors: {load.errors[:3]}")
        check(load.disconnects == 0, f"{load.disconnects} connections to living nodes broke")
        total += load.acknowledged
        with cluster.line_client(others[0]) as client:
            value = int(client.call(b"get"))
        check(value == total, f"the counter is {value}, {total} increments were acknowledged, none is unknown")
        cluster.start(leader)
        cluster.wait_caught_up(leader)
    cluster.wait_equal()
    print(f"{rounds} leaders killed, {total} increments, each counted once", flush=True)


def test_counter(context):
    run_rounds(context, "counter", CounterSpeech)


def test_kv(context):
    run_rounds(context, "kv", KvSpeech)


if __name__ == "__main__":
    harness.main(globals())

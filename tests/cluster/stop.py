"""Stopping and freezing nodes: no request to the other nodes is lost."""

import signal

import harness
from harness import FAST_RAFT, check, wait_until
from load import CounterSpeech, Load

ROUNDS = 5


def progress(load, count):
    goal = load.done() + count
    wait_until(lambda: load.done() >= goal, f"{count} more increments", 30)


def test_sigterm_of_the_leader_loses_no_request(context):
    cluster = context.cluster("counter", settings={"client": {"request_timeout": "10s"}})
    cluster.start()
    total = 0
    gaps = []
    for number in range(ROUNDS):
        leader = cluster.leader()
        others = [node_id for node_id in cluster.nodes if node_id != leader]
        load = Load(cluster, CounterSpeech, clients=8, seed=context.options.seed + number, nodes=others, stay=True)
        with cluster.line_client(others[0]) as client:
            load.keys["counter"].seen = load.keys["counter"].sent = base = int(client.call(b"get"))
        load.start()
        try:
            progress(load, 200)
            code = cluster.terminate(leader)
            check(code == 0, f"SIGTERM ended node {leader} with exit code {code}, not 0")
            progress(load, 200)
            check(cluster.leader() != leader, "the stopped node is named as the leader")
        finally:
            load.stop()
        check(not load.errors, f"clients of the other nodes saw errors: {load.errors[:3]}")
        check(load.disconnects == 0, f"{load.disconnects} connections to the other nodes broke")
        check(load.unknown() == 0, f"{load.unknown()} increments were left unknown")
        with cluster.line_client(others[1]) as client:
            value = int(client.call(b"get"))
        check(value == base + load.acknowledged,
              f"the counter is {value}, after {base} and {load.acknowledged} acknowledged increments")
        total += load.acknowledged
        gaps.append(load.longest_gap)
        cluster.start(leader)
        cluster.wait_caught_up(leader)
    status = cluster.wait_equal()
    print(f"{ROUNDS} leaders stopped, {total} increments, applied index {status['applied_index']}; longest times "
          f"without an acknowledgement: {', '.join(f'{gap * 1000:.0f} ms' for gap in gaps)}")


def test_sigterm_of_leader_answers_its_clients(context):
    """Each request is answered, or its connection closes; none is applied twice."""
    cluster = context.cluster("counter")
    cluster.start()
    leader = cluster.leader()
    load = Load(cluster, CounterSpeech, clients=8, seed=context.options.seed).start()
    try:
        progress(load, 200)
        check(cluster.terminate(leader) == 0, "SIGTERM did not end the leader with 0")
        progress(load, 200)
        cluster.start(leader)
        cluster.wait_caught_up(leader)
    finally:
        load.stop()
    allowed = ("SHUTDOWN", "UNKNOWN", "NOLEADER")
    check(all(error.startswith(allowed) for error in load.errors), f"other errors than {allowed}: {load.errors[:3]}")
    cluster.wait_equal()
    with cluster.line_client(leader) as client:
        load.check_final(lambda _: int(client.call(b"get")))


def test_all_stopped_at_once_and_started_again(context):
    cluster = context.cluster("counter")
    cluster.start()
    with cluster.line_client(cluster.leader()) as client:
        check(client.pipeline([b"incr"] * 100)[-1] == b"100", "100 increments do not make 100")
    for node_id in cluster.nodes:
        cluster.signal(node_id, signal.SIGTERM)
    for node_id in cluster.nodes:
        code = cluster.wait_exit(node_id, 30)
        check(code == 0, f"node {node_id} ended with {code}")
    cluster.start()
    with cluster.line_client(cluster.leader()) as client:
        check(client.call(b"get") == b"100", "the value did not survive")
        check(client.call(b"incr") == b"101", "the counter does not go on")


def test_frozen_leader_serves_no_old_values(context):
    """SIGSTOP for longer than the election timeout, with requests waiting at the frozen node."""
    cluster = context.cluster("counter", settings={"raft": FAST_RAFT, "client": {"request_timeout": "10s"}})
    cluster.start()
    for _ in range(ROUNDS):
        leader = cluster.leader()
        others = [node_id for node_id in cluster.nodes if node_id != leader]
        with cluster.line_client(leader) as frozen, cluster.line_client(others[0]) as living:
            before = int(living.call(b"incr"))
            cluster.signal(leader, signal.SIGSTOP)
            try:
                frozen.send(b"get\nincr\nget\n")
                after = before
                for _ in range(20):
                    after = int(living.call(b"incr"))
            finally:
                cluster.signal(leader, signal.SIGCONT)
            check(after == before + 20, f"20 increments made {after} of {before}")
            replies = [frozen.read_reply() for _ in range(3)]
            check(not any(isinstance(reply, Exception) for reply in replies), f"the frozen node answered {replies}")
            values = [int(reply) for reply in replies]
            # The reads were sent before the 20 increments but are answered after: any value from
            # `before` on is linearizable for the first; the rest follow the connection's order.
            check(before <= values[0] < values[1] <= values[2], f"answers out of order: {values}, after {before}")
            check(values[2] <= int(living.call(b"get")), "the frozen node told a value from the future")
    cluster.wait_equal()


if __name__ == "__main__":
    harness.main(globals())

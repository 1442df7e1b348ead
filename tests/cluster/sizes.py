"""Clusters of other sizes than three and five, even ones too: which failures they tolerate, and that they recover."""

import harness
from harness import FAST_RAFT, ErrorReply, check, wait_until


def write(cluster, node_id):
    with cluster.line_client(node_id) as client:
        return client.pipeline([b"incr"])[0]


def cluster_of(context, nodes):
    cluster = context.cluster("counter", nodes=nodes,
                              settings={"raft": {**FAST_RAFT, "election_timeout": "300ms"},
                                        "client": {"request_timeout": "3s"}})
    cluster.start()
    bears = (nodes - 1) // 2
    value = 0
    for _ in range(2):
        cluster.leader(30)
        dead = []
        # The leader among them.
        while len(dead) < bears:
            victim = cluster.leader(30) if not dead else cluster.running()[0]
            cluster.kill(victim)
            dead.append(victim)
            cluster.leader(30)
            for node_id in cluster.running():
                reply = write(cluster, node_id)
                value += 1
                check(reply == b"%d" % value, f"{nodes} nodes, {len(dead)} dead: node {node_id} answered {reply}")
        # One more is one too many: nothing is acknowledged.
        victim = cluster.running()[-1]
        cluster.kill(victim)
        dead.append(victim)
        for node_id in cluster.running()[:2]:
            reply = write(cluster, node_id)
            check(isinstance(reply, ErrorReply) and reply.code in ("NOLEADER", "UNKNOWN"),
                  f"{nodes} nodes, {len(dead)} dead: node {node_id} answered {reply}")
        cluster.start(*dead)
        cluster.leader(30)
        # What was left unknown may have happened.
        first = wait_until(lambda: not isinstance(reply := write(cluster, cluster.running()[0]), ErrorReply) and reply,
                           "writes are taken again", 30)
        check(value < int(first) <= value + 3, f"the counter is {first}, after {value}")
        value = int(first)
        cluster.wait_equal(30)
    print(f"{nodes} nodes bear the loss of {bears}; {value} increments")


def test_one_node(context):
    cluster_of(context, 1)


def test_two_nodes(context):
    cluster_of(context, 2)


def test_four_nodes(context):
    cluster_of(context, 4)


def test_six_nodes(context):
    cluster_of(context, 6)


def test_seven_nodes(context):
    cluster_of(context, 7)


if __name__ == "__main__":
    harness.main(globals())

"""Members are added and removed while clients write, with kill -9 in between; disks are replaced, addresses change."""

import itertools
import json
import os
import shutil
import subprocess
import time

import harness
from harness import BUILD_DIR, EXIT_MISMATCH, FAST_RAFT, Node, check, free_ports, wait_until
from load import CounterSpeech, Load

CONNECTCTL = os.path.join(BUILD_DIR, "bin", "connectctl")


def ctl(cluster, *words, seconds=60, codes=(0,)):
    endpoints = ",".join(f"127.0.0.1:{cluster.nodes[node_id].http_port}" for node_id in cluster.running())
    command = [CONNECTCTL, "-e", endpoints, "--timeout", f"{seconds}s", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    check(done.returncode in codes, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def patiently(cluster, *words):
    """Repeats a change that is rejected because of an election or another change."""
    last = None

    def attempt():
        nonlocal last
        last = ctl(cluster, *words, codes=(0, 1, 75))
        return last.returncode == 0 and last

    return wait_until(attempt, lambda: f"connectctl {' '.join(map(str, words))}: {last.stderr}", 60)


def members(cluster):
    listed = json.loads(ctl(cluster, "-o", "json", "member", "list").stdout)
    return {member["id"]: member for member in listed["members"]}


def new_node(cluster, node_id):
    """Its file lists itself and some nodes that may have been removed."""
    node = Node(node_id, cluster.directory)
    cluster.nodes[node_id] = node
    cluster.write_config(node)
    return node


def add(cluster, node_id):
    node = cluster.nodes[node_id]
    return patiently(cluster, "member", "add", node_id, "--peer", node.member()["peer"], "--client",
                     node.member()["client"], "--http", node.member()["http"])


def serves(cluster, value):
    for node_id in cluster.running():
        with cluster.line_client(node_id) as client:
            check(client.call(b"get") == value, f"node {node_id} has another value")


def test_three_five_three_under_load(context):
    """Each cycle adds a member and removes the oldest one; nodes are killed meanwhile, leaders too."""
    cluster = context.cluster("counter", settings={"raft": FAST_RAFT, "client": {"request_timeout": "15s"}})
    cluster.start()
    cluster.leader()
    load = Load(cluster, CounterSpeech, clients=6, seed=context.options.seed)
    load.start()
    changes = kills = leaders_removed = 0
    next_id = 4
    try:
        wanted = max(4, min(context.options.rounds, 100))
        for number in itertools.count():
            if changes >= wanted and len(members(cluster)) == 3:
                break
            done = load.done()
            wait_until(lambda: load.done() > done + 20, lambda: f"the load goes on; {cluster.brief()}", 60)
            new_node(cluster, next_id)
            cluster.start(next_id)
            add(cluster, next_id)
            load.nodes.append(next_id)
            next_id += 1
            changes += 1
            if number % 4 == 1:  # up to five, and down again
                continue
            if number % 3 == 0:
                victim = context.random.choice([i for i in cluster.running() if i != next_id - 1])
                cluster.kill(victim)
                kills += 1
                cluster.start(victim)
                cluster.wait_caught_up(victim)
            while len(members(cluster)) > 3:
                leader = cluster.leader()
                gone = leader if context.random.random() < 0.4 else min(members(cluster))
                leaders_removed += gone == leader
                if gone in load.nodes:
                    load.nodes.remove(gone)
                patiently(cluster, "member", "remove", gone)
                changes += 1
                check(cluster.nodes[gone].process.wait(timeout=30) == EXIT_MISMATCH, f"the end of removed node {gone}")
                cluster.nodes[gone].end_seen = True
                check("was removed from cluster" in cluster.nodes[gone].log(), f"node {gone} says why it ends")
                del cluster.nodes[gone]
    finally:
        load.stop()
    cluster.wait_equal()
    for node_id in cluster.nodes:
        with cluster.line_client(node_id) as client:
            load.check_final(lambda _key, client=client: int(client.call(b"get")))
    print(f"{changes} changes, {leaders_removed} of leaders, {kills} killed on the way: {load.acknowledged} increments, "
          f"{load.unknown()} unknown, members {sorted(cluster.nodes)}", flush=True)


def test_a_single_node_grows_to_three_without_a_stop(context):
    cluster = context.cluster("counter", nodes=1, settings={"raft": FAST_RAFT})
    cluster.start()
    cluster.leader()
    load = Load(cluster, CounterSpeech, clients=4, seed=context.options.seed, stay=True)
    load.start()
    try:
        for node_id in (2, 3):
            new_node(cluster, node_id)
            cluster.start(node_id)
            add(cluster, node_id)
    finally:
        load.stop()
    check(not load.errors and load.disconnects == 0, f"clients saw {load.errors[:3]}, {load.disconnects} connections broke")
    cluster.wait_equal()
    cluster.kill(1)  # the two that were added are a majority
    with cluster.line_client(2) as client:
        check(int(client.call(b"incr")) > load.acknowledged, "a write after the founder's death")


def test_a_wiped_node_is_replaced_with_one_command(context):
    cluster = context.cluster("counter", settings={"raft": FAST_RAFT})
    cluster.start()
    with cluster.line_client(cluster.leader()) as client:
        for _ in range(10):
            client.call(b"incr")
    victim = context.random.choice(list(cluster.nodes))  # the leader, too
    before = members(cluster)[victim]["disk"]
    cluster.kill(victim)
    old_disk = cluster.nodes[victim].data_dir + ".old"
    os.rename(cluster.nodes[victim].data_dir, old_disk)
    cluster.start(victim)
    # It waits, without a vote and not ready, and names the command.
    wait_until(lambda: "run on another member, such as node" in (cluster.status(victim) or {}).get("reason", ""),
               "the wiped node names the command")
    check(not cluster.status(victim)["ready"], "a wiped node is ready")
    # Its HTTP port answers; that is no vote.
    asked = cluster.nodes[cluster.leader()].http_port
    shown = subprocess.run([CONNECTCTL, "-e", f"127.0.0.1:{asked}", "status"], capture_output=True, text=True, check=False)
    check(shown.returncode == 0 and "degraded   can lose 0 more" in shown.stdout and
          f"node {victim} does not count: it waits without a vote" in shown.stderr, f"{shown}")
    command = subprocess.Popen(
        [CONNECTCTL, "-e", ",".join(f"127.0.0.1:{cluster.nodes[i].http_port}" for i in cluster.running()),
         "--timeout", "60s", "member", "replace", str(victim)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: members(cluster)[victim]["disk"] != before, "the old disk is given up")
    out = command.communicate(timeout=90)[0]
    check(command.returncode == 0 and f"node {victim} is a voter" in out, f"replace said: {out}")
    again = ctl(cluster, "member", "replace", victim)
    check("already" in again.stderr and f"node {victim} is a voter" in again.stdout, f"replaced once more: {again}")
    cluster.wait_equal()
    serves(cluster, b"10")
    returns_with_its_old_disk(cluster, victim, old_disk)


def returns_with_its_old_disk(cluster, victim, disk):
    """Its successor runs and is healthy: nothing is to be recovered or replaced."""
    old = Node(victim, cluster.directory)
    listen = [f"--set=listen.{key}={value}" for key, value in old.member().items() if key != "id"]
    with open(old.log_path + ".old", "ab") as log:
        process = subprocess.Popen([harness.CONNECTD, "--config", cluster.nodes[victim].config_path, "--data-dir", disk,
                                    *listen], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    successor, cluster.nodes[-1] = cluster.nodes[victim], old
    try:
        wait_until(lambda: "runs elsewhere" in (cluster.status(-1) or {}).get("reason", ""),
                   lambda: f"the old disk is told of its successor: {cluster.status(-1)}")
        status = cluster.status(-1)
        check(status["remedy"] is None and "connectctl" not in status["reason"], f"{status}")
    finally:
        process.kill()
        process.wait()
        del cluster.nodes[-1]
    check(successor.running, "the successor runs on")


def test_all_members_come_back_at_other_addresses(context):
    cluster = context.cluster("counter", settings={"raft": FAST_RAFT})
    cluster.start()
    with cluster.line_client(cluster.leader()) as client:
        check(client.call(b"incr") == b"1", "the first increment")
    cluster.wait_equal()
    for node_id in cluster.nodes:
        cluster.terminate(node_id)
    for node in cluster.nodes.values():
        node.peer_port, node.client_port, node.http_port = free_ports(3)
    for node in cluster.nodes.values():
        cluster.write_config(node)
    cluster.start()
    with cluster.line_client(cluster.leader()) as client:
        check(client.call(b"incr") == b"2", "the second increment")
    wait_until(lambda: all(members(cluster)[i]["http"] == cluster.nodes[i].member()["http"] for i in cluster.nodes),
               "the leader logs where its members are found")
    cluster.wait_equal()
    # A newcomer needs one of them only.
    new_node(cluster, 4)
    cluster.start(4)
    add(cluster, 4)
    serves(cluster, b"2")


def test_remove_asked_at_the_node_that_leaves(context):
    """The command is answered, whatever role the node has, and though only its own HTTP port can be reached from there."""
    for leads in (False, True):
        cluster = context.cluster("counter", settings={"raft": FAST_RAFT})
        cluster.start()
        leader = cluster.leader()
        leaving = leader if leads else min(i for i in cluster.nodes if i != leader)
        done = subprocess.run([CONNECTCTL, "-e", f"127.0.0.1:{cluster.nodes[leaving].http_port}", "--timeout", "20s", "member",
                               "remove", str(leaving)], capture_output=True, text=True, check=False)
        check(done.returncode == 0 and done.stdout == f"node {leaving} is removed\n", f"leads {leads}: {done}")
        check(cluster.wait_exit(leaving) == EXIT_MISMATCH, "the end of the node that was removed")
        check(leaving not in members(cluster), "it is a member")


def test_snapshot_shows_no_removed_member(context):
    """The list keeps it until the next change."""
    cluster = context.cluster("counter", settings={"raft": FAST_RAFT})
    cluster.start()
    cluster.leader()
    patiently(cluster, "member", "remove", 3)
    cluster.wait_exit(3)
    file = os.path.join(cluster.directory, "backup")
    ctl(cluster, "snapshot", "save", file, "--fresh")
    shown = ctl(cluster, "snapshot", "inspect", file).stdout
    check("n1 " in shown and "n3 " not in shown, shown)
    listed = json.loads(ctl(cluster, "-o", "json", "snapshot", "inspect", file).stdout)["members"]
    check([member["id"] for member in listed] == [1, 2], f"{listed}")


def test_removed_node_shows_that_it_is_none(context):
    """To whoever asked it, and can reach no other member."""
    cluster = context.cluster("counter", settings={"raft": FAST_RAFT})
    cluster.start()
    leaving = context.random.choice(list(cluster.nodes))
    cluster.leader()
    curl = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "X-Connect-Request: 1", "-H",
                           "Content-Type: application/json", "-d", json.dumps({"action": "remove", "id": leaving}),
                           f"http://127.0.0.1:{cluster.nodes[leaving].http_port}/v1/admin/members"],
                          check=True, capture_output=True, text=True).stdout
    check(curl == "200", f"the answer is {curl}")

    def shown():
        status = cluster.status(leaving)
        return status and status["members_settled"] and leaving not in [member["id"] for member in status["members"]]
    wait_until(shown, "it ends before it shows that")
    check(cluster.wait_exit(leaving) == EXIT_MISMATCH, "the end of the node that was removed")


def test_invalid_changes_are_refused(context):
    cluster = context.cluster("counter", settings={"raft": FAST_RAFT})
    cluster.start()
    leader = cluster.leader()
    others = [i for i in cluster.nodes if i != leader]
    refusals = [(("member", "remove", 9), 1, "not a member"), (("member", "add", 2, "--peer", "127.0.0.1:1"), 1, "already a member"),
                (("member", "add", 9), 64, "--peer"), (("member", "add", "x", "--peer", "127.0.0.1:1"), 64, "node id"),
                (("member", "remove", 2, "--if-index", 77), 1, "CONFLICT"), (("member", "promote", 9), 1, "not a member"),
                (("leader", "transfer", "--to", 9), 1, "not a voter")]
    for words, code, text in refusals:
        done = ctl(cluster, *words, codes=(code,))
        check(text in done.stderr, f"{words}: {done.stderr}")
    # A change that would leave no majority that can be reached.
    cluster.kill(others[0])
    wait_until(lambda: not next(p["active"] for p in cluster.status(leader)["peers"] if p["id"] == others[0]),
               "the leader notices the silence")
    began = time.monotonic()
    done = ctl(cluster, "leader", "transfer", "--to", others[0], codes=(1,))
    check(f"node {others[0]} does not answer this leader" in done.stderr, f"{done}")
    check(time.monotonic() - began < 8, "refused at once, not when the transfer is over")
    wait_until(lambda: "QUORUM" in ctl(cluster, "member", "remove", others[1], codes=(1, 75)).stderr,
               "the last reachable majority is not given away")
    cluster.start(others[0])
    cluster.wait_caught_up(others[0])
    done = ctl(cluster, "leader", "transfer", "--to", others[1])
    check(cluster.leader() == others[1], f"leadership went to node {others[1]}: {done.stdout}")
    # A learner stays one until it is promoted.
    new_node(cluster, 4)
    cluster.start(4)
    ctl(cluster, "member", "add", 4, "--peer", cluster.nodes[4].member()["peer"], "--learner")
    check(not members(cluster)[4]["voter"], "node 4 is a learner")
    patiently(cluster, "member", "promote", 4)
    check(members(cluster)[4]["voter"], "node 4 is a voter")
    check("already" in ctl(cluster, "member", "promote", 4).stderr, "promoted once more")
    # An answer may be lost: what is so already is no error.
    done = ctl(cluster, "member", "add", 4, "--peer", cluster.nodes[4].member()["peer"])
    check("node 4 is a voter" in done.stdout, f"added once more: {done.stdout}{done.stderr}")
    for _ in range(2):
        done = patiently(cluster, "member", "remove", 4)
        check("node 4 is removed" in done.stdout, f"removed once more: {done.stdout}{done.stderr}")
    done = ctl(cluster, "member", "add", 4, "--peer", cluster.nodes[4].member()["peer"], codes=(1,))
    check("use another id" in done.stderr, f"added again: {done.stderr}")
    cluster.nodes[4].process.wait(timeout=30)
    cluster.nodes[4].end_seen = True


if __name__ == "__main__":
    harness.main(globals())

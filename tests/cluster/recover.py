"""When Raft alone cannot continue: a majority is permanently lost, or an entry makes the plugin fail."""

import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess

import harness
from harness import (BUILD_DIR, EXIT_DATA, EXIT_MISMATCH, EXIT_NO_INPUT, EXIT_PERMISSION, EXIT_PLUGIN, EXIT_USAGE, FAST_RAFT,
                     Disconnected, check, wait_until)
from load import CounterSpeech, Load
from membership import CONNECTCTL, add, members, new_node
from refusals import last_run, strangers, waits

POISONED = os.path.join(BUILD_DIR, "tests", "plugins", "libpoisoned.so")
EXIT_NO, EXIT_TRY_AGAIN = 1, 75


def recover(node, *words, code=0):
    """connectctl recover on a node's directory; standard output and error together."""
    command = [CONNECTCTL, "recover", "--data-dir", node.data_dir, *map(str, words)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    check(done.returncode == code, f"{' '.join(command)}: exit {done.returncode}, not {code}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def content(directory):
    """One hash over every file in it."""
    total = hashlib.sha256()
    for path, _, names in sorted(os.walk(directory)):
        for name in sorted(names):
            with open(os.path.join(path, name), "rb") as file:
                total.update(f"{path}/{name}".encode() + file.read())
    return total.hexdigest()


def survivor(node):
    """The end of its log, in the format of --members: node:last term:last index:term:cluster."""
    return re.search(r"^survivor +(\S+)$", recover(node), re.M)[1]


def rank(text):
    return [int(part) for part in text.split(":")[1:3]]


def give_up(cluster, *ids):
    """The lost nodes stay outside the cluster; returns them."""
    return [cluster.nodes.pop(node_id) for node_id in ids]


def comes_back(cluster, node, *words):
    """A lost node starts with its old disk: it ends with 76, and logs why."""
    cluster.nodes[node.id] = node
    cluster.start(node.id)
    code = cluster.wait_exit(node.id)
    log = last_run(cluster, node.id)
    check(code == EXIT_MISMATCH, f"node {node.id} ended with {code}")
    for word in words:
        check(word in log, f"node {node.id} does not say '{word}'")
    del cluster.nodes[node.id]


def value_of(cluster, node_id):
    with cluster.line_client(node_id) as client:
        return int(client.call(b"get"))


def only_these_vote(cluster, ids):
    def settled():
        listed = members(cluster)
        return set(listed) == set(ids) and all(member["voter"] for member in listed.values())
    wait_until(settled, lambda: f"the voters are {ids}: {members(cluster)}")


def test_three_of_five_are_lost_under_load(context):
    cluster = context.cluster("counter", nodes=5,
                              settings={"raft": FAST_RAFT, "client": {"request_timeout": "2s"}})
    cluster.start()
    cluster.leader()
    load = Load(cluster, CounterSpeech, clients=6, seed=context.options.seed)
    load.start()
    wait_until(lambda: load.done() > 300, "the load goes on", 60)
    ids = list(cluster.nodes)
    context.random.shuffle(ids)
    lost, alive = ids[:3], sorted(ids[3:])
    # What was acknowledged by now, and is on the survivors, is not lost.
    known = len(load.keys["counter"].acknowledged)
    commit = max(status["commit_index"] for status in cluster.statuses().values())
    for node_id in alive:
        cluster.wait_caught_up(node_id, commit)
    # One of the survivors is behind the other when it happens.
    behind = context.random.choice(alive)
    cluster.kill(behind)
    if behind in load.nodes:
        load.nodes.remove(behind)
    done = load.done()
    wait_until(lambda: load.done() > done + 100, "the load goes on with four", 60)
    cluster.kill(*lost)
    check(not load.failure, f"a client saw {load.failure}")
    load.stopping = True

    ahead = alive[1 - alive.index(behind)]
    text = recover(cluster.nodes[ahead], code=EXIT_TRY_AGAIN)
    check("its node runs" in text, f"of a running node it said: {text}")
    load.stop()
    cluster.kill(ahead)
    gone = give_up(cluster, *lost)

    ends = {node_id: survivor(cluster.nodes[node_id]) for node_id in alive}
    best = max(alive, key=lambda node_id: (rank(ends[node_id]), -node_id))
    check(best == ahead and rank(ends[best]) > rank(ends[behind]), f"the logs end with {ends}")
    other = alive[1 - alive.index(best)]
    listed = ",".join(ends[node_id] for node_id in alive)
    before = content(cluster.nodes[best].data_dir)
    recover(cluster.nodes[best], "--members", listed, code=EXIT_USAGE)  # asks, and there is nobody to ask
    check(content(cluster.nodes[best].data_dir) == before, "a question changed the directory")
    text = recover(cluster.nodes[best], "--members", listed, "--yes")
    check(f"The log of node {best}, in this directory, becomes the cluster's log" in text and "ARE GONE" in text and
          f"Permanently removed: {', '.join(map(str, sorted(lost)))}" in text, f"it does not say what is lost: {text}")

    # The one that was recovered runs, the other was forgotten: it is told so, and stops.
    cluster.start(*alive)
    check(cluster.wait_exit(other) == EXIT_MISMATCH, "the end of the one that was forgotten")
    check("run on it the same `connectctl recover`" in last_run(cluster, other), "it is told what to do")
    text = recover(cluster.nodes[other], "--members", listed, "--yes")
    check(f"The log of node {best} becomes the cluster's log" in text, f"on the other survivor: {text}")
    cluster.start(other)
    only_these_vote(cluster, alive)
    state = cluster.wait_equal()
    value = value_of(cluster, alive[0])
    check(known <= value <= load.keys["counter"].sent, f"the value is {value}; {known} were everywhere")
    with cluster.line_client(other) as client:
        check(int(client.call(b"incr")) == value + 1, "a write after the recovery")
    check("recovery" in subprocess.run([CONNECTCTL, "inspect", "wal", cluster.nodes[other].data_dir], text=True,
                                       capture_output=True, check=False).stdout, "the record is in the other's log, too")

    # The former majority comes back all at once, each with its disk, and with an empty one.
    for node in gone:
        cluster.nodes[node.id] = node
    cluster.start(*lost)
    for node_id in lost:
        check(cluster.wait_exit(node_id) == EXIT_MISMATCH, f"the end of node {node_id}")
        check("lost its majority and was recovered" in last_run(cluster, node_id), f"node {node_id} says why")
    give_up(cluster, *lost)
    shutil.rmtree(gone[0].data_dir)
    comes_back(cluster, gone[0], "ids are not reused", "member add")

    new_node(cluster, 6)
    cluster.start(6)
    add(cluster, 6)
    cluster.kill(best)  # two of three are left
    with cluster.line_client(6) as client:
        check(int(client.call(b"incr")) == value + 2, "a write with the new member")
    cluster.start(best)
    cluster.wait_equal()
    for node_id in cluster.running():
        cluster.terminate(node_id)
    cluster.start()
    cluster.wait_equal()
    check(value_of(cluster, 6) == value + 2, "the value after a restart of all")
    print(f"{known} writes known to be everywhere, {load.acknowledged} acknowledged, {value} there; "
          f"best {ends[best]}, other {ends[other]}, at {state['applied_index']}", flush=True)


def test_one_of_three_is_left(context):
    cluster = context.cluster("counter", settings={"raft": FAST_RAFT, "snapshot": {"log_min": "16KiB", "log_ratio": 1}})
    cluster.start()
    with cluster.line_client(cluster.leader()) as client:
        for _ in range(10):
            client.pipeline([b"incr"] * 50)
    state = cluster.wait_equal()
    old_id = state["cluster_id"]
    last = context.random.choice(list(cluster.nodes))
    lost = [node_id for node_id in cluster.nodes if node_id != last]
    cluster.kill(*cluster.nodes)
    # Without a majority every text names the way out.
    cluster.start(last)
    waits(cluster, last, "no known leader", "reaches 1 of 3 voters", "connectctl recover")
    asked = subprocess.run([CONNECTCTL, "-e", f"127.0.0.1:{cluster.nodes[last].http_port}", "member", "remove", str(lost[0])],
                           capture_output=True, text=True, check=False)
    check(asked.returncode == EXIT_TRY_AGAIN and "connectctl recover" in asked.stderr, f"{asked}")
    for words in (["leader", "transfer"], ["settings", "set", "raft.election_timeout", "700ms"], ["call", "incr"],
                  ["call", "--read", "linearizable", "get"]):
        asked = subprocess.run([CONNECTCTL, "-e", f"127.0.0.1:{cluster.nodes[last].http_port}", *words],
                               capture_output=True, text=True, check=False)
        check(asked.returncode == EXIT_TRY_AGAIN and "connectctl recover" in asked.stderr, f"{asked}")
    shown = subprocess.run([CONNECTCTL, "-e", f"127.0.0.1:{cluster.nodes[last].http_port}", "status"],
                           capture_output=True, text=True, check=False)
    check("connectctl recover" in shown.stderr, f"{shown}")
    for node_id in lost:
        peer = cluster.nodes[node_id].member()["peer"]
        check(re.search(rf"^n{node_id} +{peer} .*DOWN", shown.stdout, re.M), f"the address of one that is down: {shown.stdout}")
    wait_until(lambda: re.search(r"no leader seconds=1\d: .*connectctl recover", last_run(cluster, last)), "the log says so", 20)
    cluster.kill(last)
    gone = give_up(cluster, *lost)
    recover(cluster.nodes[last], "--members", last, "--yes")
    again = recover(cluster.nodes[last], "--members", last, "--yes")
    check("was recovered already" in again, "again")
    cluster.start()
    wait_until(lambda: (cluster.status(last) or {}).get("role") == "leader", lambda: f"{cluster.brief()}")
    check(cluster.status(last)["cluster_id"] != old_id, "the cluster's id is another one")
    check(f"cluster.id: {cluster.status(last)['cluster_id']}\n" in again, f"the line for the configuration: {again}")
    # Files with the former id, or with the new one, are both right.
    for found in (old_id, cluster.status(last)["cluster_id"]):
        cluster.terminate(last)
        cluster.write_config(cluster.nodes[last], cluster={"id": found})
        cluster.start(last)
        wait_until(lambda: (cluster.status(last) or {}).get("role") == "leader", lambda: f"{cluster.brief()}")
    with cluster.line_client(last) as client:
        check(client.call(b"incr") == b"501", "the state is that of before")
    for node in gone:
        comes_back(cluster, node, "lost its majority and was recovered", "member add")
    for node_id in (11, 12):
        new_node(cluster, node_id)
        cluster.start(node_id)
        add(cluster, node_id)
        # It knows the founders only, of whom one is left, until it has the log.
        said = last_run(cluster, node_id)
        check("is formed" not in said, f"node {node_id} says that the cluster is formed")
        check(f"joining cluster 'test' id={cluster.status(last)['cluster_id']}" in said, f"node {node_id} says what it joins")
    cluster.wait_equal()
    # Enough for snapshots; then the members come back from them.
    with cluster.line_client(11) as client:
        for _ in range(10):
            client.pipeline([b"incr"] * 50)
    for node_id in cluster.running():
        cluster.terminate(node_id)
    cluster.start()
    cluster.wait_equal()
    check(value_of(cluster, 12) == 1001, "the value in the end")
    check(len({status["cluster_id"] for status in cluster.statuses().values()}) == 1, "one id")


def test_strangers_at_founders_addresses(context):
    """Of three founders one is left after a recovery. Nodes of other clusters have the addresses of the others since."""
    cluster = context.cluster("counter", settings={"raft": FAST_RAFT})
    cluster.start()
    with cluster.line_client(cluster.leader()) as client:
        check(client.call(b"incr") == b"1", "a write")
    cluster.wait_equal()
    last = context.random.choice(list(cluster.nodes))
    lost = [node_id for node_id in cluster.nodes if node_id != last]
    cluster.kill(last)
    strangers(cluster, *lost)
    recover(cluster.nodes[last], "--members", last, "--yes")
    cluster.start(last)
    # A founder is in the file of neither, nor among today's members.
    node = new_node(cluster, 11)
    cluster.write_config(node, cluster={"members": [cluster.nodes[last].member(), node.member()]})
    cluster.start(11)
    member = node.member()
    wait_until(lambda: subprocess.run([CONNECTCTL, "-e", f"127.0.0.1:{cluster.nodes[last].http_port}", "member", "add", "11",
                                       "--peer", member["peer"], "--client", member["client"], "--http", member["http"]],
                                      check=False).returncode == 0, "node 11 is added", 60)
    for _ in range(4):
        cluster.terminate(11)
        cluster.start(11)
        wait_until(lambda: (cluster.status(11) or {}).get("ready"), lambda: f"node 11 is let in: {cluster.status(11)}")
    with cluster.line_client(11) as client:
        check(client.call(b"incr") == b"2", "a write with the new member")


def test_recovery_of_a_copy_ends_nobody(context):
    """Somebody rehearses a recovery on a member's disk, and starts it while the others serve."""
    cluster = context.cluster("counter", settings={"raft": FAST_RAFT})
    cluster.start()
    with cluster.line_client(cluster.leader()) as client:
        check(client.call(b"incr") == b"1", "the count begins")
    cluster.wait_equal()
    away = context.random.choice(list(cluster.nodes))
    rest = [node_id for node_id in cluster.nodes if node_id != away]
    cluster.kill(away)
    cluster.leader()
    copy = cluster.nodes[away].data_dir + "-copy"
    shutil.copytree(cluster.nodes[away].data_dir, copy)
    recover(cluster.nodes[away], "--members", survivor(cluster.nodes[away]), "--yes")
    cluster.start(away)
    wait_until(lambda: all("lost its majority and was recovered" in last_run(cluster, node_id) for node_id in rest),
               "both members are told of the recovery")
    with cluster.line_client(rest[0]) as client:
        check(client.call(b"incr") == b"2", "the members go on")
    check(all(cluster.nodes[node_id].running for node_id in rest), "a member ended")
    cluster.terminate(away)
    shutil.rmtree(cluster.nodes[away].data_dir)
    os.rename(copy, cluster.nodes[away].data_dir)
    cluster.start(away)
    cluster.wait_equal()
    check(value_of(cluster, away) == 2, "the node with its disk of before")


def test_wrong_use_is_refused_and_changes_nothing(context):
    cluster = context.cluster("counter", settings={"raft": FAST_RAFT})
    cluster.start()
    with cluster.line_client(cluster.leader()) as client:
        client.pipeline([b"incr"] * 20)
    cluster.wait_equal()
    cluster.kill(*cluster.nodes)
    one, two = cluster.nodes[1], cluster.nodes[2]
    before = content(one.data_dir)
    own, other = survivor(one), survivor(two)
    node, term, index, high, digits, voters = own.split(":")
    check(voters == "1+2+3", f"the survivor's line does not end with the voters: {own}")
    wrong_end = ":".join((node, term, str(int(index) + 1), high, digits))
    stranger = ":".join(("9", term, index, high, digits))
    foreign = ":".join(("2", *other.split(":")[1:4], "0" * 8 if digits != "0" * 8 else "1" * 8))
    for words, code, text in (
            (("--members", other), EXIT_NO, "--members does not list it"),
            (("--members", wrong_end), EXIT_NO, "but its log is " + own),
            (("--members", f"{own},{stranger}"), EXIT_NO, "node 9 is not a member"),
            (("--members", f"{own},{foreign}"), EXIT_NO, "different clusters"),
            (("--members", f"{own},{other}"), EXIT_NO, "a majority of the voters"),
            (("--members", f"{own},2"), EXIT_USAGE, "missing the end of node 2's log"),
            (("--members", "one"), EXIT_USAGE, "must be a node id or a survivor"),
            (("--members", own), EXIT_USAGE, "needs --yes"),
            (("--members", own, "--skip-entry", 3), EXIT_USAGE, "exclude each other"),
            (("--skip-entry", 1), EXIT_NO, "only commands and ticks"),
            (("--skip-entry", 10_000), EXIT_NO, "log ends at index"),
            (("--skip-entry", index), EXIT_USAGE, "needs --yes")):
        said = recover(one, *words, *(() if "needs --yes" in text else ("--yes",)), code=code)
        check(text in said, f"recover {' '.join(map(str, words))} said: {said}")
        check(content(one.data_dir) == before, f"recover {' '.join(map(str, words))} changed the directory")
    # The same on every survivor: one that is recovered alone is lost to the cluster that works.
    everybody = ",".join(survivor(member) for member in cluster.nodes.values())
    for member in cluster.nodes.values():
        unchanged = content(member.data_dir)
        said = recover(member, "--members", everybody, "--yes", code=EXIT_NO)
        check("a majority of the voters" in said and content(member.data_dir) == unchanged,
              f"of a majority, node {member.id} said: {said}")
    if os.geteuid() == 0:
        os.chown(one.data_dir, 65534, -1)
        said = recover(one, "--members", own, "--yes", code=EXIT_PERMISSION)
        user = pwd.getpwuid(65534).pw_name
        check(f"as root: runuser -u {user} -- connectctl recover" in said and content(one.data_dir) == before,
              f"of another's directory: {said}")
        os.chown(one.data_dir, 0, -1)
    nothing = harness.Node(8, cluster.directory)
    os.mkdir(nothing.data_dir)
    recover(nothing, code=EXIT_NO_INPUT)
    check(os.listdir(nothing.data_dir) == [], "it left something in a directory that is none")
    # A flipped bit in what was durable.
    segment = os.path.join(one.data_dir, "log", sorted(os.listdir(os.path.join(one.data_dir, "log")))[0])
    with open(segment, "r+b") as file:
        file.seek(300)
        byte = file.read(1)[0]
        file.seek(300)
        file.write(bytes([byte ^ 1]))
    before = content(one.data_dir)
    said = recover(one, "--members", 1, "--yes", code=EXIT_DATA)
    check("the log is damaged" in said, f"of a damaged log it said: {said}")
    check(content(one.data_dir) == before, "a damaged directory was changed")


def poison(cluster, word):
    """A command that makes every replica's plugin fail; returns its index."""
    running = cluster.running()
    with cluster.line_client(cluster.leader()) as client:
        try:
            client.call(word)
            raise harness.Failure("the poisoned command was answered")
        except Disconnected:
            pass
    ended = majority_ends(cluster, running, EXIT_PLUGIN if word == b"fail" else -signal.SIGABRT)
    indexes = set()
    for node_id in ended:
        found = re.search(r"--skip-entry (\d+)", last_run(cluster, node_id))
        check(found is not None, f"node {node_id} does not name the way out")
        indexes.add(int(found[1]))
    check(len(indexes) == 1, f"they name {indexes}")
    return indexes.pop()


def majority_ends(cluster, ids, expected):
    """At the poisoned entry. When a majority has ended, the last node may not know that it is committed."""
    ended = set()
    for _ in range(len(cluster.nodes) // 2 + 1):
        node_id = wait_until(lambda: next((i for i in ids if i not in ended and not cluster.nodes[i].running), None),
                             "a majority ends")
        code = cluster.wait_exit(node_id)
        check(code == expected, f"node {node_id} ended with {code}, not with {expected}")
        ended.add(node_id)
    for node_id in ids:
        if cluster.nodes[node_id].running:
            cluster.nodes[node_id].process.kill()
        cluster.nodes[node_id].process.wait()
        cluster.nodes[node_id].end_seen = True
    return ended


def poisoned_cluster(context, **settings):
    cluster = context.cluster(POISONED, settings={"raft": FAST_RAFT, **settings})
    cluster.start()
    with cluster.line_client(cluster.leader()) as client:
        for number in range(1, 6):
            check(int(client.call(b"incr")) == number, "the count")
    cluster.wait_equal()
    return cluster


def skip_on_all(cluster, index):
    """A follower may have applied the entry before it was on its disk: there the full name of the entry is passed."""
    given, late = None, []
    for node in cluster.nodes.values():
        if rank(survivor(node))[1] < index:
            late.append(node)
            continue
        text = recover(node, "--skip-entry", index, "--yes")
        check("66 61 69 6c  |fail|" in text, f"it says {text}")
        given = re.search(rf"now skips entry ({index}:\d+:\w+)", text)[1]
    check(given is not None, "a majority has what is committed")
    for node in late:
        check("does not have the entry" in recover(node, "--skip-entry", index, "--yes", code=EXIT_NO), "it is told")
        check("is not in this log yet" in recover(node, "--skip-entry", given, "--yes"), "and skipped when it comes")


def test_skip_entry_that_fails_the_plugin(context):
    cluster = poisoned_cluster(context, snapshot={"log_min": "16KiB", "log_ratio": 1})
    index = poison(cluster, b"fail")
    cluster.start()  # and so at each start
    majority_ends(cluster, list(cluster.nodes), EXIT_PLUGIN)
    skip_on_all(cluster, index)
    cluster.start()
    with cluster.line_client(cluster.leader()) as client:
        check(client.call(b"incr") == b"6", "the count goes on")
    cluster.wait_equal()
    check("already skips" in recover_of_a_stopped(cluster, 1, index), "again")
    # From the log again, and a new member that gets the whole log.
    for node_id in cluster.running():
        cluster.terminate(node_id)
    cluster.start()
    cluster.wait_equal()
    new_node(cluster, 4)
    cluster.start(4)
    add(cluster, 4)
    cluster.wait_equal()
    check(f"entry skipped by operator index={index}" in cluster.nodes[4].log(), "the new member skips it")
    # From snapshots that cover it, and a new member that gets one.
    with cluster.line_client(4) as client:
        def covered():
            client.pipeline([b"incr"] * 200)
            firsts = [int(name.split("-")[0], 16) for node in cluster.nodes.values()
                      for name in os.listdir(os.path.join(node.data_dir, "snapshots")) if name.endswith(".snapshot")]
            return len(firsts) == 2 * len(cluster.nodes) and min(firsts) > index
        wait_until(covered, "snapshots that cover the entry", 60)
    for node_id in cluster.running():
        cluster.terminate(node_id)
    cluster.start()
    cluster.leader()
    new_node(cluster, 5)
    cluster.start(5)
    add(cluster, 5)
    cluster.wait_equal()
    cluster.terminate(5)
    # What a snapshot covers is part of the state.
    text = recover(cluster.nodes[5], "--skip-entry", index, "--yes")
    check("already skips" in text, f"of an entry that its snapshot is without: {text}")
    text = recover(cluster.nodes[5], "--skip-entry", index - 1, "--yes", code=EXIT_NO)
    check("cannot be undone" in text and "member replace 5" in text, f"of one that its snapshot has: {text}")
    cluster.start(5)
    cluster.wait_equal()


def recover_of_a_stopped(cluster, node_id, index):
    cluster.terminate(node_id)
    text = recover(cluster.nodes[node_id], "--skip-entry", index, "--yes")
    cluster.start(node_id)
    cluster.wait_caught_up(node_id)
    return text


def test_skip_entry_that_crashes_the_plugin(context):
    cluster = poisoned_cluster(context)
    away = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
    cluster.kill(away)
    index = poison(cluster, b"crash")
    others = [node_id for node_id in cluster.nodes if node_id != away]
    for node_id in others:
        recover(cluster.nodes[node_id], "--skip-entry", index, "--yes")
    cluster.start(*others)
    with cluster.line_client(cluster.leader()) as client:
        check(client.call(b"incr") == b"6", "the count goes on")
    # The one that was down does not know the entry: it is refused, and told what to run.
    cluster.start(away)
    waits(cluster, away, "the entry at index", "--skip-entry")
    found = re.search(rf"Run on node {away}, while it is stopped: .*--skip-entry ({index}:\d+:[0-9a-f]{{16}})",
                      last_run(cluster, away))
    check(found is not None, "it is told the whole name of the entry")
    cluster.terminate(away)
    text = recover(cluster.nodes[away], "--skip-entry", index, "--yes", code=EXIT_NO)
    check("INDEX:TERM:CHECKSUM" in text, f"of an entry that is to come: {text}")
    recover(cluster.nodes[away], "--skip-entry", found[1], "--yes")
    cluster.start(away)
    cluster.wait_equal()
    check(value_of(cluster, away) == 6, "the value on the one that was down")


def test_a_mix_of_skips_is_refused_by_both_sides(context):
    """One member alone skips a harmless entry."""
    cluster = poisoned_cluster(context)
    victim = context.random.choice(list(cluster.nodes))
    rest = [node_id for node_id in cluster.nodes if node_id != victim]
    cluster.terminate(victim)
    records = subprocess.run([CONNECTCTL, "-o", "json", "inspect", "wal", cluster.nodes[victim].data_dir], text=True,
                             capture_output=True, check=True).stdout
    index = max(record["index"] for record in map(json.loads, records.splitlines())
                if record["kind"] == "entry" and record["text"].startswith("command"))
    recover(cluster.nodes[victim], "--skip-entry", index, "--yes")
    cluster.start(victim)
    waits(cluster, victim, f"node {victim} skips the entry")
    cluster.terminate(victim)
    log = last_run(cluster, victim)
    check(f"node {victim} skips the entry at index {index}" in log and "--skip-entry" in log, "it is told why")
    wait_until(lambda: any(f"node {victim} skips the entry" in cluster.nodes[node_id].log() for node_id in rest),
               "the others say whom they refused")
    with cluster.line_client(cluster.leader()) as client:
        check(client.call(b"incr") == b"6", "the others go on")
    # Its state is exchanged: then it has the others'.
    shutil.rmtree(cluster.nodes[victim].data_dir)
    command = subprocess.Popen(
        [CONNECTCTL, "-e", ",".join(f"127.0.0.1:{cluster.nodes[i].http_port}" for i in rest), "--timeout", "60s",
         "member", "replace", str(victim)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: not members(cluster)[victim]["disk"], "the old disk is given up")
    cluster.start(victim)
    out = command.communicate(timeout=90)[0]
    check(command.returncode == 0, f"replace said: {out}")
    cluster.wait_equal()


if __name__ == "__main__":
    harness.main(globals())

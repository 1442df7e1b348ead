"""Snapshots: transfers that are killed again and again, copies, and clusters that begin with one.

The transfer test takes --megabytes, the size of the state; the default suits a test, 1024 is the soak.
"""

import glob
import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time

from harness import (BUILD_DIR, EXIT_CANNOT_CREATE, EXIT_DATA, EXIT_MISMATCH, EXIT_NO_INPUT, EXIT_USAGE, FAST_RAFT, Node,
                     check, main, wait_until)

CONNECTCTL = os.path.join(BUILD_DIR, "bin", "connectctl")
MEGABYTE = 1 << 20
VALUE_BYTES = 64 << 10
EXIT_NEGATIVE, EXIT_UNAVAILABLE = 1, 69


def ctl(*words, node=None, codes=(0,), seconds=300):
    """connectctl, with the HTTP address of `node`; returns its standard output, or with other codes its errors."""
    command = [CONNECTCTL]
    if node is not None:
        command += ["-e", f"127.0.0.1:{node.http_port}"]
    done = subprocess.run(command + [str(word) for word in words], capture_output=True, text=True, timeout=seconds,
                          check=False)
    check(done.returncode in codes,
          f"connectctl {' '.join(map(str, words))} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout if done.returncode == 0 else done.stderr


def snapshots_of(node):
    return [json.loads(line) for line in ctl("-o", "json", "snapshot", "list", node=node).splitlines()]


class Proxy:
    """Passes connections on to a port, and breaks all of them on request."""

    def __init__(self, to_port):
        self.to_port = to_port
        self.server = socket.socket()
        self.server.bind(("127.0.0.1", 0))
        self.server.listen(16)
        self.port = self.server.getsockname()[1]
        self.lock = threading.Lock()
        self.sockets = set()
        self.closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while not self.closed:
            try:
                near, _ = self.server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.to_port), timeout=5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            with self.lock:
                self.sockets |= {near, far}
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source, sink):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with self.lock:
                self.sockets.discard(end)
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def break_all(self):
        with self.lock:
            ends = list(self.sockets)
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.closed = True
        self.server.close()
        self.break_all()


def fill(cluster, node_id, megabytes, rng, first=0):
    """Values that cannot be compressed; returns how many."""
    count = megabytes * MEGABYTE // VALUE_BYTES
    with cluster.resp_client(node_id, 120) as client:
        for start in range(first, first + count, 32):
            numbers = range(start, min(start + 32, first + count))
            replies = client.pipeline([("SET", f"key{n}", rng.randbytes(VALUE_BYTES)) for n in numbers])
            check(all(reply == b"OK" for reply in replies), f"a SET was answered {[r for r in replies if r != b'OK'][:1]}")
    return first + count


def partial_bytes(node):
    """Progress of the incoming snapshot. The name of the file has its full size."""
    for path in glob.glob(os.path.join(node.data_dir, "snapshots", "*.partial")):
        try:
            return os.path.getsize(path), int(os.path.basename(path).split("-")[2], 16)
        except OSError:
            pass
    return 0, 1


SENDING = re.compile(r"sending index=(\d+) bytes=(\d+) to=(\d+) offset=(\d+)")


def streams(cluster):
    """Each stream that any node began to the receiver: (index, offset), in no order across nodes."""
    return [(int(m.group(1)), int(m.group(4))) for node in cluster.nodes.values()
            for m in SENDING.finditer(node.log())]


def test_killed_transfer_resumes_at_ten_points(context):
    rng = random.Random(context.options.seed)
    megabytes = context.options.megabytes
    # Slow enough that ten points lie in it, whatever the size.
    rate = max(megabytes * MEGABYTE // 20, 1 * MEGABYTE)
    cluster = context.cluster("kv", settings={
        "raft": {"cache_bytes": "1MiB", "heartbeat_interval": "50ms", "election_timeout": "500ms"},
        "storage": {"segment_size": "16MiB"},
        # Few entries are kept in front of a snapshot, and none is taken by itself once there is much state.
        "snapshot": {"log_min": "64KiB", "log_ratio": 1000, "rate_limit": f"{rate}B"},
        "plugin": {"compare_interval": "0ms"},
    })
    receiver = cluster.nodes[3]
    proxy = Proxy(receiver.peer_port)
    real_port, receiver.peer_port = receiver.peer_port, proxy.port
    for node in cluster.nodes.values():
        cluster.write_config(node)
    listen = {"peer": f"127.0.0.1:{real_port}", "client": f"127.0.0.1:{receiver.client_port}",
              "http": f"127.0.0.1:{receiver.http_port}"}
    cluster.write_config(receiver, listen=listen)
    cluster.start()
    leader = cluster.leader()
    if leader == 3:
        ctl("leader", "transfer", "--to", 1, node=cluster.nodes[3])
        leader = cluster.leader()
    cluster.wait_equal()
    cluster.kill(3)
    # The same index on both, and nothing written in between: the kv plugin's snapshots are canonical, so
    # both hold the same file, and either can go on where the other was ended.
    written = fill(cluster, leader, 1, rng)
    both = [cluster.nodes[1], cluster.nodes[2]]
    for more in (megabytes, 0):
        written = fill(cluster, leader, more, rng, written)
        if more == 0:
            with cluster.resp_client(leader) as client:
                client.call("SET", "last", "one")
        def settled():
            applied = {node.id: (cluster.status(node.id) or {}).get("applied_index") for node in both}
            return applied[1] is not None and applied[1] == applied[2]
        wait_until(settled, lambda: f"nodes 1 and 2 to agree: {cluster.brief()}", 120)
        for node in both:
            ctl("snapshot", "take", node=node)
    files = [snapshots_of(node)[0] for node in both]
    check(files[0]["index"] == files[1]["index"] and files[0]["bytes"] == files[1]["bytes"], f"not alike: {files}")

    size = files[0]["bytes"]
    cluster.start(3)
    kinds = [rng.choice(("receiver", "sender", "connection")) for _ in range(7)] + ["receiver", "sender", "connection"]
    rng.shuffle(kinds)
    points = [(place + rng.uniform(0.2, 0.8)) / 11 for place in range(len(kinds))]
    slack = 2 * MEGABYTE + size // 50
    for kind, point in zip(kinds, points):
        def far_enough():
            cluster.check_alive()
            have, whole = partial_bytes(receiver)
            return have >= point * whole or (receiver.running and
                                             (cluster.status(3) or {}).get("snapshot_index") == files[0]["index"])
        wait_until(far_enough, lambda: f"{point:.0%} of {size} bytes; there are {partial_bytes(receiver)}", 120)
        def sender():
            # A node that restores its own snapshot does not answer yet.
            return next((n.id for n in both if (cluster.get(n.id, "/leaderz", 0.2) or [0])[0] == 200), None)
        leader = wait_until(sender, "a leader", 60) if kind == "sender" else None
        have, _ = partial_bytes(receiver)
        check(have > 0, "the transfer was over before all of it was tried; it is too fast for this test")
        before = len(streams(cluster))
        if kind == "receiver":
            cluster.kill(3)
            cluster.start(3)
        elif kind == "sender":
            cluster.kill(leader)
            cluster.start(leader)
        else:
            proxy.break_all()
        wait_until(lambda: len(streams(cluster)) > before, lambda: f"a stream after the {kind} was ended", 60)
        newest = max(streams(cluster), key=lambda s: s[1])
        check(newest[0] == files[0]["index"], f"another snapshot is sent: {newest}")
        check(newest[1] + slack >= have, f"{have} bytes were there, and it goes on at {newest[1]}")
        print(f"    {kind:<10} ended at {have / size:6.1%} of {size} bytes; went on at {newest[1] / size:6.1%}", flush=True)
    wait_until(lambda: (cluster.status(3) or {}).get("snapshot_index") == files[0]["index"],
               lambda: f"the snapshot on node 3; {cluster.brief()}", 240)
    offsets = sorted(offset for _, offset in streams(cluster))
    check(sum(offset == 0 for offset in offsets) == 1, f"it began anew: {offsets}")
    check(len(re.findall(r"installed index=", receiver.log())) == 1, "it was installed more than once")
    cluster.wait_equal(120)
    with cluster.resp_client(3) as client:
        check(client.call("DBSIZE") == written + 1, f"{client.call('DBSIZE')} keys of {written + 1}")
    check(not glob.glob(os.path.join(receiver.data_dir, "snapshots", "*.partial")), "a part is left over")
    proxy.close()


def test_log_is_kept_for_a_receiver_on_a_slow_link(context):
    """Row 50: writes go on, and every 8 MiB of them make a snapshot due, while one of 8 MiB takes long."""
    rng = random.Random(context.options.seed)
    cluster = context.cluster("kv", settings={
        "raft": dict(FAST_RAFT, cache_bytes="64KiB"),
        "storage": {"segment_size": "1MiB"},
        "client": {"max_request": "256KiB"},
        "snapshot": {"log_min": "64KiB", "log_ratio": 1, "rate_limit": "512KiB"},
    })
    cluster.start()
    leader = cluster.leader()
    follower = next(node_id for node_id in cluster.nodes if node_id != leader)
    fill(cluster, leader, 8, rng)
    cluster.wait_equal()
    behind = cluster.status(follower)["applied_index"]
    cluster.kill(follower)
    cluster.wait_for_compaction_past(leader, behind, lambda: fill(cluster, leader, 8, rng))
    cluster.start(follower)
    wait_until(lambda: partial_bytes(cluster.nodes[follower])[0] > 0, "the beginning of a transfer", 60)
    # Eight snapshots' worth, on any machine: of 256 MiB the leader would rightly let go.
    taken_before = len(re.findall(r"took index=", cluster.nodes[leader].log()))
    for _ in range(32):
        fill(cluster, leader, 2, rng)
        if partial_bytes(cluster.nodes[follower])[0] == 0:
            break
    taken = len(re.findall(r"took index=", cluster.nodes[leader].log())) - taken_before
    check(taken >= 2, f"only {taken} snapshots were taken during the transfer: it was not slow enough")
    cluster.wait_caught_up(follower, seconds=60)
    cluster.wait_equal()
    installed = len(re.findall(r"installed index=", cluster.nodes[follower].log()))
    check(installed == 1, f"{installed} snapshots were needed")


def test_rate_limit_is_live(context):
    rng = random.Random(context.options.seed)
    cluster = context.cluster("kv", settings={
        "raft": dict(FAST_RAFT, cache_bytes="64KiB"),
        "storage": {"segment_size": "1MiB"},
        "client": {"max_request": "256KiB"},
        "snapshot": {"log_min": "64KiB", "log_ratio": 1, "rate_limit": "256KiB"},
    })
    cluster.start()
    leader = cluster.leader()
    follower = next(node_id for node_id in cluster.nodes if node_id != leader)
    cluster.wait_equal()
    behind = cluster.status(follower)["applied_index"]
    cluster.kill(follower)
    cluster.wait_for_compaction_past(leader, behind, lambda: fill(cluster, leader, 16, rng))
    cluster.start(follower)
    wait_until(lambda: partial_bytes(cluster.nodes[follower])[0] > 256 << 10, "the beginning of a transfer", 60)
    began = time.monotonic()
    have = partial_bytes(cluster.nodes[follower])[0]
    wait_until(lambda: time.monotonic() - began > 2, "two seconds", 5)
    passed = partial_bytes(cluster.nodes[follower])[0] - have
    check(200 << 10 < passed < 1 << 20, f"{passed} bytes in two seconds where 512 KiB were allowed")
    cluster.write_config(cluster.nodes[leader], snapshot={"rate_limit": "none"})
    cluster.signal(leader, signal.SIGHUP)
    cluster.wait_caught_up(follower, seconds=20)  # at the old rate: a minute
    check("changed snapshot.rate_limit" in cluster.nodes[leader].log(), "the log does not say that the key changed")
    cluster.wait_equal()


def test_damaged_newest_snapshot_costs_nothing(context):
    cluster = context.cluster("kv", settings={"raft": FAST_RAFT, "snapshot": {"log_min": "1TiB"}})
    cluster.start()
    leader = cluster.leader()
    follower = cluster.nodes[next(node_id for node_id in cluster.nodes if node_id != leader)]
    for round_number in range(2):
        with cluster.resp_client(leader) as client:
            for number in range(200):
                client.call("SET", f"key{number}", f"{round_number}:{number}")
        cluster.wait_equal()
        ctl("snapshot", "take", node=follower)
    newest = snapshots_of(follower)[0]
    cluster.kill(follower.id)
    path = os.path.join(follower.data_dir, "snapshots", newest["name"])
    with open(path, "r+b") as file:
        file.seek(newest["bytes"] // 2)
        byte = file.read(1)
        file.seek(newest["bytes"] // 2)
        file.write(bytes([byte[0] ^ 1]))
    ctl("inspect", "snapshot", follower.data_dir, codes=(EXIT_NEGATIVE,))
    cluster.start(follower.id)
    cluster.wait_caught_up(follower.id)
    cluster.wait_equal()
    check(re.search(r"damaged.*an older one is tried", follower.log()), "it does not say that it passed one over")
    with cluster.resp_client(follower.id) as client:
        check(client.call("GET", "key199") == b"1:199", "the state is not the newest")


def restored_node(cluster, old, file, name="restored", **ports):
    """A new cluster of the same name, with one node, from `file`, on the ports of `ports` or on new ones."""
    node = Node(old.id, cluster.directory)
    for port, value in ports.items():
        setattr(node, port, value)
    node.config_path = os.path.join(cluster.directory, f"{name}.yaml")
    node.data_dir = os.path.join(cluster.directory, name)
    node.log_path = os.path.join(cluster.directory, f"{name}.log")
    cluster.write_config(node, cluster={"members": [node.member()]})
    ctl("snapshot", "restore", file, "--config", node.config_path)
    return node


def start_alone(cluster, node):
    cluster.nodes = {node.id: node}
    cluster.start(node.id)
    cluster.leader()


def test_kv_is_saved_and_restored_into_a_new_cluster(context):
    rng = random.Random(context.options.seed)
    cluster = context.cluster("kv", settings={"raft": FAST_RAFT})
    cluster.start()
    leader = cluster.leader()
    written = fill(cluster, leader, 8, rng)
    with cluster.resp_client(leader) as client:
        client.call("SET", "colour", "blue")
        client.call("SET", "fleeting", "x", "EX", 100_000)
    node = cluster.nodes[leader]
    file = os.path.join(cluster.directory, "backup")
    ctl("snapshot", "save", file, "--fresh", node=node)
    check(snapshots_of(node)[0]["bytes"] == os.path.getsize(file), "the file has another size than the snapshot")
    told = json.loads(ctl("-o", "json", "snapshot", "inspect", file))
    check(told["plugin"] == "kv" and len(told["members"]) == 3, f"inspect: {told}")
    with cluster.resp_client(leader) as client:
        client.call("SET", "colour", "red")

    # The restored node has the address that an old member had, so that the old ones dial it.
    gone = cluster.nodes[next(node_id for node_id in cluster.nodes if node_id != leader)]
    cluster.kill(gone.id)
    old_nodes = {node_id: n for node_id, n in cluster.nodes.items() if node_id != gone.id}
    restored = restored_node(cluster, gone, file, peer_port=gone.peer_port)
    everybody = dict(cluster.nodes)
    start_alone(cluster, restored)
    with cluster.resp_client(restored.id) as client:
        check(client.call("GET", "colour") == b"blue", "the state is not the saved one")
        check(client.call("DBSIZE") == written + 2, "keys are missing")
        check(client.call("TTL", "fleeting") > 90_000, "the time of the log did not go on")
        check(client.call("SET", "colour", "green") == b"OK", "it takes no writes")
    status = cluster.status(restored.id)
    check(status["term"] >= told["term"] and status["applied_index"] > told["index"], f"it went back: {status}")
    wait_until(lambda: all(re.search("cluster id", n.log()) for n in old_nodes.values()),
               "the old members to refuse it by its cluster's id", 30)

    # It grows, and the new member gets the state as a snapshot of the new cluster.
    grown = Node(9, cluster.directory)
    everybody[9] = cluster.nodes[9] = grown
    cluster.write_config(grown, cluster={"bootstrap": "join", "members": [restored.member(), grown.member()]})
    ctl("snapshot", "take", node=restored)
    cluster.start(9)
    member = grown.member()
    ctl("member", "add", 9, "--peer", member["peer"], "--client", member["client"], "--http", member["http"], node=restored)
    cluster.wait_equal()
    with cluster.resp_client(9) as client:
        check(client.call("GET", "colour") == b"green", "the new member lacks the state")
    cluster.kill(restored.id)
    cluster.start(restored.id)
    cluster.leader()
    cluster.wait_equal()
    cluster.nodes = {**everybody, "restored": restored}  # all of them end with the test


def test_unfinished_restore_is_repeated(context):
    cluster = context.cluster("counter", nodes=1, settings={"raft": FAST_RAFT})
    cluster.start()
    cluster.leader()
    node = cluster.nodes[1]
    with cluster.line_client(1) as client:
        client.pipeline([b"incr"] * 7)
    file = os.path.join(cluster.directory, "backup")
    ctl("snapshot", "save", file, "--fresh", node=node)
    cluster.kill(1)
    restored = restored_node(cluster, node, file)
    # As if it had been killed before its end: no identity yet, or all of it.
    with open(os.path.join(restored.data_dir, "restore.incomplete"), "w", encoding="ascii"):
        pass
    cluster.nodes = {1: restored}
    for remove in (False, True):
        if remove:
            os.remove(os.path.join(restored.data_dir, "identity"))
        before = sorted(os.listdir(restored.data_dir))
        cluster.start(1)
        check(cluster.wait_exit(1) == EXIT_DATA, "the end of a node on an unfinished restore")
        check("connectctl snapshot restore" in restored.log(), "the log does not name the command")
        check(sorted(os.listdir(restored.data_dir)) == before, "the start changed the directory")
    ctl("snapshot", "restore", file, "--config", restored.config_path)
    ctl("snapshot", "restore", file, "--config", restored.config_path, codes=(EXIT_CANNOT_CREATE,))
    start_alone(cluster, restored)
    with cluster.line_client(1) as client:
        check(client.call(b"get") == b"7", "the value is not the saved one")


def test_counter_is_saved_and_restored(context):
    cluster = context.cluster("counter", nodes=1, settings={"raft": FAST_RAFT})
    cluster.start()
    cluster.leader()
    node = cluster.nodes[1]
    with cluster.line_client(1) as client:
        for _ in range(41):
            client.call(b"incr")
    file = os.path.join(cluster.directory, "backup")
    ctl("snapshot", "save", file, node=node, codes=(EXIT_NEGATIVE,))
    ctl("snapshot", "take", node=node)
    ctl("snapshot", "save", file, node=node)
    everybody = dict(cluster.nodes)
    restored = restored_node(cluster, node, file)
    # It is another cluster: a file with the id of the old one does not fit, and the text has the line that does.
    cluster.nodes = {1: restored}
    cluster.write_config(restored, cluster={"members": [restored.member()], "id": "ab" * 16})
    cluster.start(1)
    check(cluster.wait_exit(1) == EXIT_MISMATCH, "the end with another cluster's id")
    found = re.search(r"set cluster\.id: ([0-9a-f]{32})", restored.log()).group(1)
    cluster.write_config(restored, cluster={"members": [restored.member()], "id": found})
    start_alone(cluster, restored)
    with cluster.line_client(1) as client:
        check(client.call(b"get") == b"41", "the value is not the saved one")
        check(client.call(b"incr") == b"42", "it does not go on")
    cluster.kill(1)
    cluster.start(1)
    cluster.leader()
    with cluster.line_client(1) as client:
        check(client.call(b"get") == b"42", "what it acknowledged is gone")
    cluster.nodes = {**everybody, "restored": restored}


def test_wrong_input_is_told(context):
    cluster = context.cluster("counter", nodes=1, settings={"raft": FAST_RAFT})
    cluster.start()
    cluster.leader()
    node = cluster.nodes[1]
    file = os.path.join(cluster.directory, "backup")
    ctl("snapshot", "save", file, "--fresh", node=node)

    def wrong(code, text, *words, at=None):
        told = ctl(*words, node=at, codes=(code,))
        check(re.search(text, told), f"connectctl {' '.join(map(str, words))} says: {told}")
    wrong(EXIT_CANNOT_CREATE, "exists already", "snapshot", "save", file, at=node)
    wrong(EXIT_CANNOT_CREATE, "is not empty", "snapshot", "restore", file, "--config", node.config_path)
    wrong(EXIT_USAGE, "--config FILE", "snapshot", "restore", file, "--data-dir", os.path.join(cluster.directory, "x"))
    wrong(EXIT_NO_INPUT, "No such file", "snapshot", "inspect", file + "2")
    wrong(EXIT_DATA, "invalid snapshot magic", "snapshot", "inspect", node.log_path)
    new = ("--peer", "127.0.0.1:1", "--data-dir", os.path.join(cluster.directory, "new"))
    with open(file, "rb") as source:
        good = source.read()
    for name, bad in (("cut", good[:-1]), ("flipped", good[:200] + bytes([good[200] ^ 1]) + good[201:]),
                      ("longer", good + b"x")):
        path = os.path.join(cluster.directory, name)
        with open(path, "wb") as out:
            out.write(bad)
        wrong(EXIT_DATA, "damaged", "snapshot", "inspect", path)
        wrong(EXIT_DATA, "damaged", "snapshot", "restore", path, *new)
        check(not os.path.exists(new[3]), "a refused file left a directory")
    wrong(EXIT_NO_INPUT, "No such file", "snapshot", "restore", file + "2", *new)
    node.process.send_signal(signal.SIGKILL)
    node.process.wait()
    node.end_seen = True
    for words in (("take",), ("list",), ("save", file + "3")):
        wrong(EXIT_UNAVAILABLE, "connection refused", "snapshot", *words, at=node)
    check(not os.path.exists(file + "3") and not os.path.exists(file + "3.tmp"), "a copy that failed left a file")


if __name__ == "__main__":
    main(globals())

"""Disks that are full, frozen or read-only: real file systems, on tmpfs and in loop-mounted images.

Needs root, for mount; without it every test says so and counts as skipped. The mounts are in a mount
namespace of the test's own, so that none is left whatever happens to it.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import time

import harness
from harness import EXIT_STORAGE, FAST_RAFT, ErrorReply, Failure, Skip, check, wait_until
from load import CounterSpeech, Load

CLONE_NEWNS = 0x00020000
DISK_MIB = 40
STORAGE = {"segment_size": "1MiB", "min_free_disk": "16MiB"}
ELECTION_TIMEOUT = 0.5  # raft.election_timeout, as it is by default
NO_SNAPSHOTS = {"log_min": "1GiB"}
SMALL_REQUESTS = {"max_request": "128KiB"}  # a segment holds several


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")


class Disks:
    """A separate file system under the data directory of each node."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.mounted = []
        self.frozen = set()

    def tmpfs(self, *ids, mib=DISK_MIB):
        for node_id in ids or self.cluster.nodes:
            self._mount(node_id, "-t", "tmpfs", "-o", f"size={mib}m,mode=0750", "tmpfs")

    def ext4(self, *ids, mib=96):
        for node_id in ids or self.cluster.nodes:
            image = os.path.join(self.cluster.directory, f"disk{node_id}.img")
            with open(image, "wb") as file:
                file.truncate(mib << 20)
            run("mkfs.ext4", "-q", "-F", "-m", "0", image)
            self._mount(node_id, "-o", "loop", image)

    def _mount(self, node_id, *how):
        place = self.cluster.nodes[node_id].data_dir
        os.makedirs(place, exist_ok=True)
        run("mount", *how, place)
        self.mounted.append(place)

    def fill(self, node_id, leave=0):
        """A ballast file uses all free space but `leave` bytes."""
        place = self.cluster.nodes[node_id].data_dir
        free = os.statvfs(place)
        left = free.f_bavail * free.f_frsize - leave
        with open(os.path.join(place, "ballast"), "ab", buffering=0) as file:
            while left > 0:
                try:
                    left -= file.write(bytes(min(left, 1 << 20)))
                except OSError:  # the node was faster
                    break

    def free(self, node_id):
        os.remove(os.path.join(self.cluster.nodes[node_id].data_dir, "ballast"))

    def freeze(self, node_id):
        place = self.cluster.nodes[node_id].data_dir
        run("fsfreeze", "-f", place)
        self.frozen.add(place)

    def thaw(self, node_id):
        place = self.cluster.nodes[node_id].data_dir
        run("fsfreeze", "-u", place)
        self.frozen.discard(place)

    def close(self):
        for place in self.frozen:
            subprocess.run(["fsfreeze", "-u", place], check=False)
        for node in self.cluster.nodes.values():
            if node.running:
                node.process.kill()
                node.process.wait()
                node.end_seen = True
        for place in reversed(self.mounted):
            subprocess.run(["umount", place], check=False)


@contextlib.contextmanager
def disks_of(cluster):
    if os.geteuid() != 0:
        raise Skip("mounting file systems needs root")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise Skip(f"no mount namespace is to be had: {os.strerror(ctypes.get_errno())}")
    private = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, text=True, check=False)
    if private.returncode != 0:
        raise Skip(f"mounting is not permitted here: {private.stderr.strip()}")
    disks = Disks(cluster)
    try:
        yield disks
        cluster.check_alive()
    finally:
        disks.close()


def write(cluster, node_id, load):
    """One more increment, counted with those of the load: its value, or the error's text."""
    key = load.keys["counter"]
    with load.lock:
        key.sent += 1
    with cluster.line_client(node_id) as client:
        reply = client.pipeline([b"incr"])[0]
    if isinstance(reply, ErrorReply):
        check(reply.code == "DISKFULL", f"node {node_id} answered {reply}")
        return str(reply)
    with load.lock:
        key.acknowledged.add(int(reply))
        key.seen = max(key.seen, int(reply))
        load.acknowledged += 1
    return int(reply)


def refuses(cluster, node_id, load, text="DISKFULL"):
    return str(write(cluster, node_id, load)).startswith(text)


def value(cluster, node_id):
    with cluster.line_client(node_id) as client:
        return int(client.call(b"get"))


def progress(load, count=200):
    goal = load.done() + count
    wait_until(lambda: load.done() >= goal, f"{count} more increments", 30)


def one_full_disk(context, is_leader):
    """Clients of the others notice nothing; the node keeps up while its log has space, and catches up later."""
    cluster = context.cluster("counter", settings={"storage": STORAGE, "snapshot": NO_SNAPSHOTS, "client": SMALL_REQUESTS})
    with disks_of(cluster) as disks:
        disks.tmpfs()
        cluster.start()
        leader = cluster.leader()
        full = leader if is_leader else next(node_id for node_id in cluster.nodes if node_id != leader)
        others = [node_id for node_id in cluster.nodes if node_id != full]
        load = Load(cluster, CounterSpeech, clients=6, seed=context.options.seed, nodes=others, stay=True).start()
        try:
            progress(load)
            disks.fill(full)
            if is_leader:
                wait_until(lambda: cluster.leader() != full, "another leader than the one on a full disk", 10)
            check(not refuses(cluster, full, load), "a write through the node with the full disk is refused")
            progress(load)
            node = cluster.nodes[full]
            wait_until(lambda: load.done() and "the log has no reserve" in node.log(),
                       "the full node's log has no room", 120)
            wait_until(lambda: refuses(cluster, full, load, "DISKFULL this node's disk is full"),
                       "the full node refuses its clients' writes")
            progress(load)
            check(cluster.leader() != full, "a node without room leads")
            disks.free(full)
            wait_until(lambda: not refuses(cluster, full, load), "the node takes writes again", 10)
            progress(load)
        finally:
            load.stop()
        check(not load.errors, f"clients of the other nodes saw errors: {load.errors[:3]}")
        check(load.disconnects == 0, f"{load.disconnects} connections to the other nodes broke")
        cluster.wait_equal()
        load.check_final(lambda _: value(cluster, full))
        print(f"{load.acknowledged} increments, longest time without one {load.longest_gap * 1000:.0f} ms")


def test_full_disk_of_the_leader(context):
    one_full_disk(context, True)


def test_full_disk_of_a_follower(context):
    one_full_disk(context, False)


def test_no_quorum_has_space(context):
    """DISKFULL everywhere; reads and elections continue, also after kill -9 and a restart; then everything recovers."""
    cluster = context.cluster("counter", settings={"storage": STORAGE, "client": SMALL_REQUESTS})
    with disks_of(cluster) as disks:
        disks.tmpfs()
        cluster.start()
        cluster.leader()
        load = Load(cluster, CounterSpeech, clients=6, seed=context.options.seed).start()
        try:
            progress(load)
            # Until the reports arrive, the logs need space for what was accepted: without it the outcome of such
            # requests stays unknown (ADR 18).
            for node_id in (1, 2):
                disks.fill(node_id, leave=6 << 20)
            wait_until(lambda: all(refuses(cluster, node_id, load) for node_id in cluster.nodes), "DISKFULL on all nodes", 10)
        finally:
            load.stop()
        others = [error for error in load.errors if not error.startswith("DISKFULL")]
        check(not others, f"other errors: {others[:3]}")
        check(load.unknown() == 0, f"{load.unknown()} increments were left unknown")
        now = value(cluster, 1)
        check(now == load.acknowledged, f"the counter is {now}, {load.acknowledged} increments were acknowledged")
        for node_id in cluster.nodes:
            check(value(cluster, node_id) == now, f"a read at node {node_id}")

        # The one with space leads, for it was handed over to; then another one.
        wait_until(lambda: cluster.leader() == 3, "node 3 leads, the only one with space", 10)
        term = cluster.status(3)["term"]
        cluster.kill(3)
        leader = cluster.leader()
        check(cluster.status(leader)["term"] > term, "no new term")
        for node_id in (1, 2):
            check(value(cluster, node_id) == now, f"a read at node {node_id} under the new leader")
            check(refuses(cluster, node_id, load), "a write was taken")
        cluster.kill(1)
        cluster.start(3)
        cluster.leader()
        cluster.start(1)  # while it is full
        cluster.leader()
        cluster.wait_caught_up(1)
        wait_until(lambda: all(refuses(cluster, node_id, load) for node_id in cluster.nodes), "DISKFULL on all nodes", 10)
        for node_id in cluster.nodes:
            check(value(cluster, node_id) == now, f"a read at node {node_id} after kill -9")

        disks.free(1)
        started = time.monotonic()
        wait_until(lambda: not refuses(cluster, 2, load), "writes are taken again when one more has space", 10)
        took = time.monotonic() - started
        disks.free(2)
        for node_id in cluster.nodes:
            wait_until(lambda: not refuses(cluster, node_id, load), f"node {node_id} takes writes again", 10)
        cluster.wait_equal()
        load.check_final(lambda _: value(cluster, 1))
        print(f"{now} increments before; writes were taken {took:.1f} s after there was space")


def test_disks_fill_up_to_the_last_byte(context):
    """Without a limit the log itself fills all disks. No node ends, and all can start on a full disk."""
    cluster = context.cluster("kv", settings={"storage": {"segment_size": "1MiB", "min_free_disk": "0B"},
                                              "snapshot": NO_SNAPSHOTS, "client": {**SMALL_REQUESTS, "request_timeout": "2s"}})
    with disks_of(cluster) as disks:
        disks.tmpfs(mib=24)
        for node_id in cluster.nodes:
            disks.fill(node_id, leave=12 << 20)
        cluster.start()
        leader = cluster.leader()
        written = []
        errors = []
        with cluster.resp_client(leader) as client:
            while len(errors) < 3:
                key = f"key{len(written) + len(errors)}"
                reply = client.pipeline([("SET", key, "x" * 50_000)])[0]
                if reply == b"OK":
                    written.append(key)
                else:
                    errors.append(str(reply))
                check(len(written) < 1000, "the disks do not fill up")
        cluster.check_alive()
        check(len(written) > 100, f"only {len(written)} writes")
        for node_id in cluster.nodes:
            cluster.kill(node_id)
        cluster.start()
        leader = cluster.leader()

        def readable():
            with cluster.resp_client(leader) as client:
                replies = client.pipeline([("EXISTS", key) for key in written])
            return all(reply == 1 for reply in replies)
        # A command that the old leader had taken and no quorum has room for is in the way of the new
        # leader's first entry, and so of its reads: docs/adr/0018-full-and-sick-disks.md.
        def blocked():
            status = cluster.status(leader)
            return status["last_index"] - status["commit_index"] > 1
        try:
            wait_until(readable, "what was acknowledged is there, on disks that are full", 20)
        except Failure:
            if not blocked():
                raise
            print("a command that fits nowhere is in the way of reads")
        for node_id in cluster.nodes:
            disks.free(node_id)

        def writable():
            with cluster.resp_client(cluster.leader()) as client:
                return client.pipeline([("SET", "after", "1")])[0] == b"OK"
        wait_until(writable, "writes are taken when there is space", 20)
        cluster.wait_equal()
        check(readable(), "what was acknowledged is not there in the end")
        print(f"{len(written)} writes of 50 kB, then: {errors}")


def test_frozen_disk_of_the_leader(context):
    cluster = context.cluster("counter", settings={"storage": STORAGE, "client": SMALL_REQUESTS})
    with disks_of(cluster) as disks:
        disks.ext4()
        cluster.start()
        taken = []
        for number in range(3):
            leader = cluster.leader()
            others = [node_id for node_id in cluster.nodes if node_id != leader]
            load = Load(cluster, CounterSpeech, clients=6, seed=context.options.seed + number, nodes=others, stay=True)
            load.keys["counter"].seen = load.keys["counter"].sent = base = value(cluster, leader)
            load.start()
            try:
                progress(load)
                started = time.monotonic()
                disks.freeze(leader)

                def replaced():
                    statuses = {node_id: cluster.status(node_id) for node_id in others}
                    return [node_id for node_id, status in statuses.items() if status and status["role"] == "leader"]
                second = wait_until(replaced, "another leader", 20)[0]
                taken.append(time.monotonic() - started)
                check(taken[-1] <= 10 * ELECTION_TIMEOUT, f"another leader only after {taken[-1]:.1f} s")
                progress(load)
                # It stays there for as long as the disk is frozen, and after.
                term = cluster.status(second)["term"]
                until = time.monotonic() + 8 * ELECTION_TIMEOUT
                wait_until(lambda: load.done() and time.monotonic() > until, "time passes", 30)
                check(cluster.status(second)["term"] == term, "the frozen node disturbs the others")
                disks.thaw(leader)
                cluster.wait_caught_up(leader)
                progress(load)
                check(cluster.status(second)["term"] == term, "the node that thawed disturbs the others")
                check(cluster.leader() == second, "leadership went back")
            finally:
                for place in list(disks.frozen):
                    subprocess.run(["fsfreeze", "-u", place], check=False)
                    disks.frozen.discard(place)
                load.stop()
            check(not load.errors, f"clients of the other nodes saw errors: {load.errors[:3]}")
            check(load.unknown() == 0, f"{load.unknown()} increments were left unknown")
            now = value(cluster, others[0])
            check(now == base + load.acknowledged, f"the counter is {now}, not {base} + {load.acknowledged}")
        cluster.wait_equal()
        print(f"another leader after {', '.join(f'{seconds:.2f} s' for seconds in taken)}; "
              f"10 election timeouts are {10 * ELECTION_TIMEOUT:g} s")


def test_frozen_disk_of_a_follower_is_not_noticed(context):
    cluster = context.cluster("counter", settings={"storage": STORAGE, "raft": FAST_RAFT, "client": SMALL_REQUESTS})
    with disks_of(cluster) as disks:
        disks.ext4()
        cluster.start()
        leader = cluster.leader()
        frozen = next(node_id for node_id in cluster.nodes if node_id != leader)
        others = [node_id for node_id in cluster.nodes if node_id != frozen]
        load = Load(cluster, CounterSpeech, clients=6, seed=context.options.seed, nodes=others, stay=True).start()
        try:
            progress(load)
            term = cluster.status(leader)["term"]
            disks.freeze(frozen)
            until = time.monotonic() + 3
            wait_until(lambda: load.done() and time.monotonic() > until, "time passes", 30)
            # Leadership goes past it.
            check(cluster.terminate(leader) == 0, "the leader did not end with 0")
            cluster.start(leader)
            # The other one, unless it is slower than the one that starts.
            wait_until(lambda: any((cluster.status(node_id) or {}).get("role") == "leader" for node_id in others),
                       "one of the others leads")
            progress(load)
            disks.thaw(frozen)
            cluster.wait_caught_up(frozen)
            check(cluster.status(cluster.leader())["term"] > term, "no new term")
        finally:
            load.stop()
        cluster.wait_equal()
        load.check_final(lambda _: value(cluster, frozen))


def test_removed_lock_or_directory_ends_the_node(context):
    """Another process could use the data, or nothing that is acknowledged is kept: the node notices within seconds."""
    cluster = context.cluster("counter", nodes=1)
    node = cluster.nodes[1]
    cluster.start()
    for value, removes in ((b"1", lambda: os.remove(os.path.join(node.data_dir, "lock"))),
                           (b"2", lambda: shutil.rmtree(node.data_dir))):
        with cluster.line_client(cluster.leader()) as client:
            check(client.call(b"incr") == value, "the value")
        removes()
        check(cluster.wait_exit(1, 10) == EXIT_STORAGE, "the end of the node")
        check("is not the file that this process has locked any more" in node.log(), "the log does not say why")
        if os.path.exists(node.data_dir):
            cluster.start(1)


def test_read_only_disk(context):
    """The kernel makes the file system read-only: the node ends with 74, and starts when it is repaired."""
    cluster = context.cluster("counter", settings={"storage": STORAGE, "client": SMALL_REQUESTS})
    with disks_of(cluster) as disks:
        disks.ext4()
        cluster.start()
        leader = cluster.leader()
        others = [node_id for node_id in cluster.nodes if node_id != leader]
        load = Load(cluster, CounterSpeech, clients=6, seed=context.options.seed, nodes=others, stay=True).start()
        node = cluster.nodes[leader]
        try:
            progress(load)
            run("mount", "-o", "remount,abort", node.data_dir)
            code = cluster.wait_exit(leader, 30)
            check(code == EXIT_STORAGE, f"the node on a read-only disk ended with {code}, not {EXIT_STORAGE}")
            check("Read-only file system (30): it is mounted read-only, or lies outside ReadWritePaths=" in node.log(),
                  "the log does not say why")
            progress(load)
            run("umount", node.data_dir)
            image = os.path.join(cluster.directory, f"disk{leader}.img")
            subprocess.run(["e2fsck", "-p", "-f", image], check=False, capture_output=True)
            run("mount", "-o", "loop", image, node.data_dir)
            cluster.start(leader)
            cluster.wait_caught_up(leader)
            progress(load)
        finally:
            load.stop()
        check(not load.errors, f"clients of the other nodes saw errors: {load.errors[:3]}")
        cluster.wait_equal()
        load.check_final(lambda _: value(cluster, leader))


if __name__ == "__main__":
    harness.main(globals())

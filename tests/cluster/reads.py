"""Read levels, leases and the settings that they depend on, with real processes."""

import http.client
import json
import os
import random
import signal
import subprocess
import threading
import time

import harness
from harness import BUILD_DIR, FAST_RAFT, Failure, check, wait_until

CONNECTCTL = os.path.join(BUILD_DIR, "bin", "connectctl")
ELECTION_SECONDS = 0.15  # of FAST_RAFT
# What the hunt does when nobody says how often, so that it does not take the tests' whole time.
HUNT_ROUNDS = 50
HUNT_READS = 10
ANSWER_SECONDS = 20


def ctl(cluster, *words, node=1, expect=0):
    done = subprocess.run([CONNECTCTL, "-e", f"127.0.0.1:{cluster.nodes[node].http_port}", *words],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    check(done.returncode == expect, f"connectctl {' '.join(words)}: {done.returncode}, {expect} was expected: "
                                     f"{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class HttpClient:
    """One connection to the HTTP port; a call may be sent now and answered later."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
        self.connection.connect()

    def send(self, request, read=None):
        headers = {"X-Connect-Request": "1", "Content-Type": "application/octet-stream"}
        if read is not None:
            headers["X-Connect-Read"] = read
        self.connection.request("POST", "/v1/call", body=request, headers=headers)

    def answer(self):
        """(HTTP status, code of the daemon or "", body)."""
        answer = self.connection.getresponse()
        body = answer.read()
        code = ""
        if answer.headers.get("Content-Type", "").startswith("application/problem"):
            code = json.loads(body).get("code", "")
        self.index = int(answer.headers.get("X-Connect-Index") or 0)
        return answer.status, code, body

    def call(self, request, read=None):
        self.send(request, read)
        return self.answer()

    def close(self):
        self.connection.close()


class Counted:
    """The history of one counter. Its value only grows, so each answer is checked at once: it is not below
    any value seen before the request, and not above the number of increments that were sent."""

    def __init__(self):
        self.lock = threading.Lock()
        self.seen = 0
        self.sent = 0

    def asked(self, is_increment=False):
        with self.lock:
            self.sent += is_increment
            return self.seen

    def answered(self, floor, value, what):
        with self.lock:
            check(floor <= value <= self.sent,
                  f"{what}: {value}, but {floor} had been seen before it was asked; {self.sent} increments were sent")
            self.seen = max(self.seen, value)


class Writer(threading.Thread):
    """Increments through one node, one after the other, until it is stopped."""

    def __init__(self, history, port):
        super().__init__(daemon=True)
        self.history, self.port = history, port
        self.stopping = False
        self.acknowledged = 0
        self.failure = None

    def run(self):
        try:
            client = HttpClient(self.port)
            while not self.stopping:
                floor = self.history.asked(is_increment=True)
                status, _, body = client.call(b"incr")
                if status == 200:
                    self.history.answered(floor + 1, int(body), "an increment")
                    self.acknowledged += 1
            client.close()
        except Failure as failure:
            self.failure = failure
        except Exception as error:
            self.failure = Failure(f"the writer: {error!r}")

    def stop(self):
        self.stopping = True
        self.join(ANSWER_SECONDS * 2)
        if self.failure:
            raise self.failure


def hunt(context, level, lease):
    """The leader is stopped for 0.5 to 5 election timeouts with reads queued on it, while writes go on
    elsewhere. Its answers after it resumes are not older than the writes acknowledged by then."""
    rounds = HUNT_ROUNDS if context.options.rounds == 100 else context.options.rounds
    cluster = context.cluster(settings={"raft": {**FAST_RAFT, "lease_reads": lease}})
    cluster.start()
    cluster.leader()
    history = Counted()
    answered = refused = deposed = overtaken = 0
    for _ in range(rounds):
        leader = cluster.leader()
        term = cluster.status(leader)["term"]
        if lease:
            wait_until(lambda: (cluster.status(leader) or {}).get("lease") or
                       (cluster.status(leader) or {}).get("role") != "leader", "the leader holds a lease")
        other = context.random.choice([n for n in cluster.nodes if n != leader])
        writer = Writer(history, cluster.nodes[other].http_port)
        writer.start()
        wait_until(lambda: writer.acknowledged > 0 or writer.failure, "the first increment")
        readers = [HttpClient(cluster.nodes[leader].http_port) for _ in range(HUNT_READS)]
        length = context.random.uniform(0.5, 5) * ELECTION_SECONDS
        moments = sorted(context.random.uniform(0, length) for _ in readers[3:])
        floors = []
        for reader in readers[:3]:  # on their way when it stops
            floors.append(history.asked())
            reader.send(b"get", level)
        cluster.signal(leader, signal.SIGSTOP)
        begin = time.monotonic()
        for reader, moment in zip(readers[3:], moments):
            time.sleep(max(0.0, begin + moment - time.monotonic()))  # the pause itself is the test
            floors.append(history.asked())
            reader.send(b"get", level)
        time.sleep(max(0.0, begin + length - time.monotonic()))
        before = history.asked()
        cluster.signal(leader, signal.SIGCONT)
        for reader, floor in zip(readers, floors):
            status, code, body = reader.answer()
            if status == 200:
                history.answered(floor, int(body), f"a {level} read queued on the stopped leader")
                answered += 1
            else:
                check(code == "NOLEADER", f"a {level} read was answered {status} {code} {body!r}")
                refused += 1
            reader.close()
        overtaken += before > floors[0]
        writer.stop()
        cluster.leader()
        deposed += max(s["term"] for s in cluster.statuses().values()) > term
    print(f"{level}: {rounds} rounds, {answered} reads answered, {refused} not; in {deposed} rounds another led, "
          f"in {overtaken} writes went on meanwhile", flush=True)
    check(answered > 0 and deposed > 0 and overtaken > 0, "the pauses did not bite")


def test_stopped_leader_serves_no_stale_read(context):
    hunt(context, "linearizable", lease=False)


def test_a_stopped_leader_serves_no_stale_lease_read(context):
    hunt(context, "lease", lease=True)


def test_header_and_options(context):
    cluster = context.cluster(settings={"raft": FAST_RAFT, "client": {"request_timeout": "1s"}})
    cluster.start()
    cluster.leader()
    client = HttpClient(cluster.nodes[2].http_port)
    check(client.call(b"incr")[0] == 200, "an increment")
    index = client.index
    for read in ("linearizable", "lease", "stale", "stale; max-age=10s", f"stale; min-index={index}",
                 f"stale; max-age=1s; min-index={index}"):
        status, _, body = client.call(b"get", read)
        check(status == 200, f"{read}: {status} {body!r}")
        if read != "stale":
            check(body == b"1\n", f"{read}: {body!r}")
    for read in ("eventual", "stale; max-age=5", "stale; min-index=-1", "lease; max-age=1s", "stale; age=1s"):
        status, _, body = client.call(b"get", read)
        check(status == 400 and b"X-Connect-Read: " in body, f"{read}: {status} {body!r}")
    # On a write the level says nothing.
    check(client.call(b"incr", "stale; min-index=1000000")[0] == 200, "an increment with a read level")
    status, code, body = client.call(b"get", "stale; min-index=1000000")
    check((status, code) == (503, "STALE") and b"min-index 1000000" in body, f"{status} {code} {body!r}")
    client.close()

    check(ctl(cluster, "call", "get", "--read", "lease") == "2\n", "call --read lease")
    check(ctl(cluster, "call", "get", "--read", "stale", "--max-age", "5s", "--min-index", str(index + 1)) == "2\n",
          "call --read stale")
    for words, text in ((("--read", "eventual"), "unknown read level 'eventual'"),
                        (("--read", "stale", "--max-age", "soon"), "max-age: "),
                        (("--read", "stale", "--min-index", "-1"), "min-index: "),
                        (("--max-age", "1s"), "max-age is for stale reads only")):
        check(text in ctl(cluster, "call", "get", *words, expect=64), f"{words} is told what is wrong")
    check("STALE: " in ctl(cluster, "call", "get", "--read", "stale", "--min-index", "1000000", expect=75),
          "a bound that is not met is told")


def test_stale_reads_need_no_quorum(context):
    cluster = context.cluster(settings={"raft": FAST_RAFT, "client": {"request_timeout": "1s"}})
    cluster.start()
    leader = cluster.leader()
    client = HttpClient(cluster.nodes[leader].http_port)
    check(client.call(b"incr")[0] == 200, "an increment")
    index = client.index
    client.close()
    for node_id in cluster.nodes:
        cluster.wait_caught_up(node_id, index)
    last = next(n for n in cluster.nodes if n != leader)
    client = HttpClient(cluster.nodes[last].http_port)
    check(client.call(b"get", "stale; max-age=0ms")[2] == b"1\n", "as fresh as can be, while there is a leader")
    cluster.kill(*[n for n in cluster.nodes if n != last])
    begin = time.monotonic()
    check(client.call(b"get", "stale")[2] == b"1\n", "a stale read without a quorum")
    check(client.call(b"get", f"stale; min-index={index}; max-age=1h")[2] == b"1\n", "with bounds that are met")
    stale_took = time.monotonic() - begin
    status, code, body = client.call(b"get", "stale; max-age=0ms")
    check((status, code) == (503, "STALE") and b"max-age is 0 ms" in body, f"{status} {code} {body!r}")
    begin = time.monotonic()
    for level in ("linearizable", "lease"):
        check(client.call(b"get", level)[1] == "NOLEADER", f"a {level} read without a quorum")
    waited = time.monotonic() - begin
    check(stale_took < waited, f"two stale reads took {stale_took:.1f} s, two that wait {waited:.1f} s")
    client.close()


def test_settings_belong_to_the_cluster(context):
    cluster = context.cluster(settings={"raft": FAST_RAFT})
    cluster.start()
    leader = cluster.leader()
    follower = next(n for n in cluster.nodes if n != leader)
    check("raft.lease_reads              false" in ctl(cluster, "settings", "list"), "what the files said")
    for words, text in ((("raft.tick", "1ms"), "is not a cluster setting"),
                        (("raft.election_timeout", "1ms"), "out of range"),
                        (("raft.election_timeout", "50ms"), "less than 3 x raft.heartbeat_interval"),
                        (("raft.lease_reads", "maybe"), "raft.lease_reads: ")):
        check(text in ctl(cluster, "settings", "set", *words, expect=1), f"{words} is told what is wrong")
    # Through a follower; with a voter missing it is in force and not served.
    third = next(n for n in cluster.nodes if n not in (leader, follower))
    cluster.kill(third)
    check("raft.lease_reads is true" in ctl(cluster, "settings", "set", "raft.lease_reads", "true", node=follower),
          "the change is committed")
    time.sleep(3 * ELECTION_SECONDS)  # nothing is to happen
    check(not cluster.status(cluster.leader())["lease"], "a lease that a voter does not know of")
    cluster.start(third)
    wait_until(lambda: cluster.status(cluster.leader())["lease"], "a lease, when every voter has the setting")
    check(ctl(cluster, "call", "get", "--read", "lease", node=cluster.leader()) == "0\n", "a lease read")

    # All start anew; the files still say false, and the log counts.
    cluster.kill(*cluster.nodes)
    cluster.start()
    wait_until(lambda: cluster.status(cluster.leader())["lease"], "a lease after a restart of all")
    check("connectctl settings set raft.lease_reads false" in cluster.nodes[1].log(), "the warning names the command")
    ctl(cluster, "settings", "set", "raft.election_timeout", "400ms")
    check('"raft.election_timeout":"400ms"' in ctl(cluster, "-o", "json", "settings", "list"), "the new timeout")
    ctl(cluster, "settings", "set", "raft.lease_reads", "false")
    check(not cluster.status(cluster.leader())["lease"], "no lease any more")


def test_priorities(context):
    cluster = context.cluster(settings={"raft": FAST_RAFT})
    for node_id, priority in ((1, 0), (2, 50), (3, 200)):
        cluster.write_config(cluster.nodes[node_id], raft={"priority": priority})
    cluster.start()
    wait_until(lambda: cluster.leader() == 3, "the node of the highest priority leads")
    check("never leads: its raft.priority is 0" in ctl(cluster, "leader", "transfer", "--to", "1", expect=1),
          "a transfer to a node of priority 0 is refused")
    check("node 2 leads" in ctl(cluster, "leader", "transfer"), "a transfer goes to the next one")
    wait_until(lambda: cluster.leader() == 3, "and comes back by itself")
    listed = json.loads(ctl(cluster, "-o", "json", "member", "list"))["members"]
    check({m["id"]: m["priority"] for m in listed} == {1: 0, 2: 50, 3: 200}, f"priorities are shown: {listed}")
    cluster.kill(3)
    check(wait_until(cluster.leader, "another leader") == 2, "node 1 never leads")


if __name__ == "__main__":
    harness.main(globals())

"""classify is a boundary: callers with only the role read change nothing, whatever bytes they send.

Each test sends 100,000 requests drawn from a seed, and damaged ones. Then it compares what a change would
show in: the log (no entry was written), the digest over all replies, and the state as reads show it.
"""

import collections
import contextlib
import json
import os
import random
import socket
import threading

import harness
from harness import ErrorReply, check, resp_command
from tokens import Tokens

REQUESTS = 100_000
CONNECTIONS = 4
BATCH = 500  # requests in flight on a connection; their replies fit into the socket's buffers
WAIT_SECONDS = 50  # for all connections of a test

# What of kv's commands only looks. Not taken from kv: its own table is what is tested.
KV_READS = {"client", "command", "config", "dbsize", "echo", "exists", "expiretime", "get", "getrange", "info", "mget",
            "pexpiretime", "ping", "pttl", "select", "strlen", "ttl", "type"}
# They change what the connection may do, or how replies to it look: cluster.tokens.redis_clients.
OF_THE_CONNECTION = {"auth", "hello", "reset"}
KEYS = [f"k{number}" for number in range(20)]
WORDS = ["EX", "PX", "EXAT", "PXAT", "NX", "XX", "GT", "LT", "GET", "KEEPTTL", "PERSIST", "ASYNC", "INFO", "COUNT",
         "SETNAME", "0", "1", "-1", "10", "100000", "9223372036854775807", "-9223372036854775808", "1.5", "nan", "",
         "value"]


def any_bytes(source, most):
    return source.randbytes(source.randrange(most + 1))


def damaged(source, data):
    """Some bytes are changed, removed, added or repeated."""
    data = bytearray(data)
    for _ in range(source.randrange(1, 4)):
        at = source.randrange(len(data) + 1)
        kind = source.randrange(4)
        if kind == 0 and at < len(data):
            data[at] = source.randrange(256)
        elif kind == 1:
            del data[at:at + source.randrange(1, 4)]
        elif kind == 2:
            data[at:at] = any_bytes(source, 4)
        else:
            data[at:at] = data[max(0, at - 6):at]
    return bytes(data)


def on_connections(seed, work):
    """Runs work(number of the connection, its random source) for all of them, and fails as they do."""
    failures = []

    def run(number):
        try:
            work(number, random.Random(f"{seed} {number}"))
        except Exception as error:  # noqa: what it is, the test says
            failures.append(f"connection {number}: {error!r}")
    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    check(not any(thread.is_alive() for thread in threads), f"the requests took more than {WAIT_SECONDS} s")
    check(not failures, f"{failures[:3]}")


class Node:
    """One node whose plugin is tested."""

    def __init__(self, context, plugin, a_read, anonymous=()):
        self.a_read = a_read
        self.seed = context.options.seed
        self.tokens = Tokens(context, plugin)
        self.tokens.start(anonymous=anonymous)
        self.node = self.tokens.cluster.nodes[1]

    def call(self, role, body):
        """(HTTP status, reply)"""
        status, _, reply = self.tokens.answer(1, "POST", "/v1/call", body, self.tokens.texts[role])
        return status, reply

    def write(self, body):
        status, reply = self.call("write", body)
        check(status == 200, f"a write is answered {status} {reply!r}")
        return reply

    def position(self):
        """The status may be a second old; a read names the entry whose effects it sees."""
        _, headers, _ = self.tokens.answer(1, "POST", "/v1/call", self.a_read, self.tokens.texts["read"])
        index = int(headers["X-Connect-Index"])

        def fresh():
            status = json.loads(self.tokens.answer(1, "GET", "/v1/status", token=self.tokens.texts["monitor"])[2])
            return status if status["applied_index"] >= index else None
        status = harness.wait_until(fresh, f"the status has index {index}")
        return {key: status[key] for key in ("applied_index", "digest")}

    def unchanged(self, state, requests):
        """Compares the state before and after the requests. `state()`: what reads show of it."""
        before = (self.position(), state())
        requests()
        after = (self.position(), state())
        for was, now in zip(before, after):
            check(was == now, f"requests with the role read changed the state: {was}, now {now}")

    def wrote(self, body, reply):
        """A write of one who may is applied."""
        before = self.position()
        check(self.write(body) == reply, f"another reply than {reply!r}")
        after = self.position()
        check(after["applied_index"] == before["applied_index"] + 1, f"{before}, after a write {after}")
        check(after["digest"] != before["digest"], "the digest is as it was")


def send_lines(node, reads, words):
    """`reads(line)`: such lines, and no others, have another answer than NOPERM."""
    counts = [[0, 0] for _ in range(CONNECTIONS)]

    def line(source):
        kind = source.randrange(4)
        data = source.choice(words) + (b" " + any_bytes(source, 12) if source.randrange(2) else b"")
        if kind == 1:
            data = damaged(source, data)
        elif kind == 2:
            data = any_bytes(source, 24)
        return data.replace(b"\n", b"").replace(b"\r", b"") or b"x"

    def work(number, source):
        with node.tokens.cluster.line_client(1) as client:
            for _ in range(REQUESTS // CONNECTIONS // BATCH):
                lines = [line(source) for _ in range(BATCH)]
                for sent, reply in zip(lines, client.pipeline(lines)):
                    refused = isinstance(reply, ErrorReply)
                    check(refused != reads(sent), f"{sent!r} is answered {reply!r}")
                    check(not refused or reply.code == "NOPERM", f"{sent!r} is answered {reply!r}")
                    counts[number][refused] += 1

    on_connections(node.seed, work)
    answered, refused = (sum(count[i] for count in counts) for i in (0, 1))
    print(f"{answered} answered, {refused} refused", flush=True)
    check(min(answered, refused) > REQUESTS // 20, "the mixture is one-sided")


def test_counter(context):
    node = Node(context, "counter", b"get", anonymous=["read"])
    check(node.write(b"incr") == b"1\n", "the first increment")
    words = [b"incr", b"get", b"INCR", b"inc"]
    node.unchanged(lambda: node.call("read", b"get"),
                   lambda: send_lines(node, lambda line: not line.startswith(b"incr"), words))
    node.wrote(b"incr", b"2\n")


def test_echo(context):
    node = Node(context, "echo", b"read", anonymous=["read"])
    node.write(b"first")
    words = [b"read", b"write", b"rea", b"READ"]
    node.unchanged(lambda: node.call("read", b"read"),
                   lambda: send_lines(node, lambda line: line.startswith(b"read"), words))
    node.wrote(b"last", b"last\n")


def send_and_drain(port, data):
    """Sends it all, says that there is no more, and returns when the node has closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass


class KvRequests:
    def __init__(self, node):
        self.node = node
        self.credentials = ["AUTH", node.tokens.texts["read"]]
        with self.client() as client:
            table = client.call("COMMAND")
        self.arities = {row[0].decode(): row[1] for row in table}
        for name in OF_THE_CONNECTION:
            self.arities.pop(name, None)
        check(KV_READS < set(self.arities), f"kv does not know {KV_READS - set(self.arities)}")
        self.names = sorted(self.arities)

    def client(self):
        client = self.node.tokens.cluster.resp_client(1)
        check(client.call(*self.credentials) == b"OK", "AUTH")
        return client

    def word(self, source):
        kind = source.randrange(8)
        if kind < 4:
            return source.choice(KEYS)
        return source.choice(WORDS) if kind < 7 else any_bytes(source, 16)

    def command(self, source, name=None):
        name = name or source.choice(self.names)
        arity = self.arities[name]
        count = abs(arity) - 1 + (source.randrange(4) if arity < 0 else 0)
        if source.randrange(16) == 0:
            count = source.randrange(6)
        shown = name.upper() if source.randrange(2) else name
        return [shown] + [self.word(source) for _ in range(count)]

    def state(self):
        with self.client() as client:
            return client.pipeline([["DBSIZE"], ["MGET", *KEYS], *(["PEXPIRETIME", key] for key in KEYS)])

    def fill(self):
        for number, key in enumerate(KEYS[:15]):
            end = ["PX", "3600000"] if number % 3 == 0 else []
            self.node.write(resp_command(["SET", key, str(number), *end]))

    def well_formed(self):
        refused = [set() for _ in range(CONNECTIONS)]

        def work(number, source):
            with self.client() as client:
                for _ in range(REQUESTS // CONNECTIONS // BATCH):
                    commands = [self.command(source) for _ in range(BATCH)]
                    for sent, reply in zip(commands, client.pipeline(commands)):
                        name = sent[0].lower()
                        is_error = isinstance(reply, ErrorReply)
                        check(name in KV_READS or is_error, f"{sent} is answered {reply!r}")
                        if is_error and reply.code == "NOPERM":
                            check(name not in KV_READS, f"the read {sent} is answered {reply}")
                            refused[number].add(name)

        on_connections(self.node.seed, work)
        allowed = set(self.names) - KV_READS - set.union(*refused)
        check(not allowed, f"never answered NOPERM: {allowed}")
        print(f"refused: {' '.join(sorted(set.union(*refused)))}", flush=True)

    def damaged_streams(self):
        """A stream is read up to its first error; what comes after it must not count."""
        def work(_, source):
            for _ in range(250):
                names = [source.choice((None, "set", "incr")) for _ in range(20)]
                stream = b"".join(resp_command(self.command(source, name)) for name in names)
                send_and_drain(self.node.node.client_port, resp_command(self.credentials) + damaged(source, stream))
        on_connections(self.node.seed + 1, work)

    def bodies(self):
        """Over HTTP with a token: several commands in a body, or damaged ones."""
        head = (f"POST /v1/call HTTP/1.1\r\nHost: 127.0.0.1:{self.node.node.http_port}\r\nX-Connect-Request: 1\r\n"
                "Content-Type: application/octet-stream\r\n"
                f"Authorization: Bearer {self.node.tokens.texts['read']}\r\nContent-Length: ").encode()

        def body(source):
            data = b"".join(resp_command(self.command(source)) for _ in range(source.randrange(1, 4)))
            return damaged(source, data) if source.randrange(2) else data

        def answer(file):
            status = int(file.readline().split()[1])
            size = 0
            for line in iter(file.readline, b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            return status, file.read(size)

        counts = [collections.Counter() for _ in range(CONNECTIONS)]

        def work(number, source):
            with socket.create_connection(("127.0.0.1", self.node.node.http_port), timeout=30) as connection:
                file = connection.makefile("rb")
                for _ in range(300):
                    bodies = [body(source) for _ in range(20)]
                    connection.sendall(b"".join(head + b"%d\r\n\r\n%s" % (len(data), data) for data in bodies))
                    for data in bodies:
                        status, reply = answer(file)
                        good = status in (200, 400) or (status == 403 and b"NOPERM" in reply)
                        check(good, f"{data!r} is answered {status} {reply!r}")
                        counts[number][status] += 1
        on_connections(self.node.seed + 2, work)
        total = sum(counts, collections.Counter())
        print(f"answers by HTTP status: {dict(total)}", flush=True)
        check(min(total[status] for status in (200, 400, 403)) > 100, "the mixture is one-sided")


def test_kv(context):
    node = Node(context, "kv", resp_command(["DBSIZE"]))
    requests = KvRequests(node)
    requests.fill()
    for part in (requests.well_formed, requests.damaged_streams, requests.bodies):
        node.unchanged(requests.state, part)
    node.wrote(resp_command(["INCR", "k4"]), b":5\r\n")


def test_no_plugin_is_left_out(_):
    plugins = os.path.join(harness.SOURCE_DIR, "plugins")
    names = {name for name in os.listdir(plugins) if os.path.isdir(os.path.join(plugins, name))}
    check(all(f"test_{name}" in globals() for name in names), f"the plugins are {names}")


if __name__ == "__main__":
    harness.main(globals())

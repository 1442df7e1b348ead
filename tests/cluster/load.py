"""Concurrent clients that increment and read, and judge every answer at once.

Each key's value only grows, by one for each increment applied. So, for every request:
  - an increment's value is larger than every value anybody had seen when it was sent,
  - a read's value is at least that,
  - no value is above the number of increments sent so far,
  - no value is given to two increments,
which together is linearizability for a counter. At the end: acknowledged <= value <= acknowledged +
unknown. An increment is unknown when its connection broke, or when it was answered UNKNOWN.
"""

import random
import threading
import time

from harness import Disconnected, ErrorReply, Failure, LineClient, RespClient, check, resp_command

BACK_OFF_SECONDS = 0.005  # of a client that is refused a connection, so that it leaves the CPU to others
PIPELINE_MAX = 8


def number(reply):
    try:
        return int(reply)
    except (TypeError, ValueError):
        raise Failure(f"a reply is no number: {reply!r}") from None


class Key:
    """The knowledge about one key, under the load's lock."""

    def __init__(self):
        self.sent = 0
        self.seen = 0
        self.acknowledged = set()
        self.unknown = 0


class CounterSpeech:
    """The counter plugin: one key, the line framing."""
    keys = ("counter",)

    @staticmethod
    def connect(port, seconds):
        return LineClient(port, seconds)

    @staticmethod
    def request(_key, is_increment):
        return b"incr" if is_increment else b"get"

    @staticmethod
    def value(reply):
        return number(reply)


class KvSpeech:
    """The kv plugin: some keys, the Redis protocol."""
    keys = tuple(f"key{i}" for i in range(5))

    @staticmethod
    def connect(port, seconds):
        return RespClient(port, seconds)

    @staticmethod
    def request(key, is_increment):
        return ("INCR", key) if is_increment else ("GET", key)

    @staticmethod
    def value(reply):
        return 0 if reply is None else number(reply)


class Load:
    """`clients` threads, each with a connection to one node, moved to another when it breaks.

    With `stay` a client keeps to its node. `errors` holds every error reply: a client of a living
    node must see none while a quorum lives.
    """

    def __init__(self, cluster, speech, clients=8, seed=0, nodes=None, stay=False, seconds=30.0):
        self.cluster = cluster
        self.speech = speech
        self.nodes = list(nodes or cluster.nodes)
        self.stay = stay
        self.seconds = seconds
        self.lock = threading.Lock()
        self.keys = {key: Key() for key in speech.keys}
        self.acknowledged = 0
        self.reads = 0
        self.disconnects = 0
        self.errors = []
        self.longest_gap = 0.0  # seconds between two acknowledged increments, of all clients together
        self.last_acknowledged = None
        self.failure = None
        self.stopping = False
        self.threads = [threading.Thread(target=self._run, args=(i, random.Random(seed * 1000 + i)), daemon=True)
                        for i in range(clients)]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join(timeout=self.seconds + 10)
            check(not thread.is_alive(), "a client did not come to its end")
        self.check()

    def check(self):
        if self.failure is not None:
            raise self.failure

    def done(self):
        """Increments acknowledged so far; raises what a client has found."""
        self.check()
        return self.acknowledged

    def _run(self, number, rng):
        client = None
        node_id = self.nodes[number % len(self.nodes)]
        try:
            while not self.stopping:
                if client is None:
                    try:
                        client = self.speech.connect(self.cluster.nodes[node_id].client_port, self.seconds)
                    except Disconnected:
                        if not self.stay:
                            node_id = rng.choice(self.nodes)
                        time.sleep(BACK_OFF_SECONDS)
                        continue
                try:
                    self._turn(client, rng)
                except Disconnected:
                    self.disconnects += 1
                    client.close()
                    client = None
                    if not self.stay:
                        node_id = rng.choice(self.nodes)
        except Failure as failure:
            self.failure = self.failure or Failure(f"client {number} of node {node_id}: {failure}")
            self.stopping = True
        except Exception as error:
            self.failure = self.failure or error
            self.stopping = True
        finally:
            if client is not None:
                client.close()

    def _turn(self, client, rng):
        size = 1 if rng.random() < 0.5 else rng.randint(2, PIPELINE_MAX)
        batch = [(rng.choice(self.speech.keys), rng.random() < 0.7) for _ in range(size)]
        with self.lock:
            floors = []
            for name, is_increment in batch:
                key = self.keys[name]
                floors.append(key.seen)
                if is_increment:
                    key.sent += 1
        answered = 0
        own = dict.fromkeys(self.speech.keys, 0)  # what this connection has seen within the batch
        try:
            client.send(b"".join(self.encoded(name, is_increment) for name, is_increment in batch))
            for (name, is_increment), floor in zip(batch, floors):
                reply = client.read_reply()
                answered += 1
                self._judge(name, is_increment, max(floor, own[name]), reply)
                if not isinstance(reply, ErrorReply):
                    own[name] = self.speech.value(reply)
        finally:
            with self.lock:
                for name, is_increment in batch[answered:]:
                    if is_increment:
                        self.keys[name].unknown += 1

    def encoded(self, name, is_increment):
        request = self.speech.request(name, is_increment)
        return request + b"\n" if isinstance(request, bytes) else resp_command(request)

    def _judge(self, name, is_increment, floor, reply):
        key = self.keys[name]
        if isinstance(reply, ErrorReply):
            with self.lock:
                self.errors.append(str(reply))
                if is_increment and reply.code == "UNKNOWN":
                    key.unknown += 1
            return
        value = self.speech.value(reply)
        with self.lock:
            what = f"{'increment' if is_increment else 'read'} of {name} answered {value}"
            check(value <= key.sent, f"{what}, though only {key.sent} increments were ever sent")
            if is_increment:
                check(value not in key.acknowledged, f"{what}, as another increment before")
                check(value > floor, f"{what}, though {floor} had been seen before it was sent")
                key.acknowledged.add(value)
                self.acknowledged += 1
                moment = time.monotonic()
                if self.last_acknowledged is not None:
                    self.longest_gap = max(self.longest_gap, moment - self.last_acknowledged)
                self.last_acknowledged = moment
            else:
                check(value >= floor, f"{what}, though {floor} had been seen before it was sent")
                self.reads += 1
            key.seen = max(key.seen, value)

    def check_final(self, read_value):
        """`read_value(key)` gives the value now, after all clients have stopped."""
        for name, key in self.keys.items():
            value = read_value(name)
            low, high = len(key.acknowledged), len(key.acknowledged) + key.unknown
            check(low <= value <= high,
                  f"{name} is {value} in the end; {low} increments were acknowledged, {key.unknown} are unknown")
            check(not key.acknowledged or max(key.acknowledged) <= value,
                  f"{name} is {value} in the end; {max(key.acknowledged, default=0)} was acknowledged")

    def unknown(self):
        return sum(key.unknown for key in self.keys.values())

"""Real connectd processes on loopback, and clients for them. Python's standard library only.

A Cluster writes configuration files into a directory of its own, starts nodes, kills and stops them
by their process ids, asks their status over HTTP, and waits for conditions, each with a deadline.
Nothing here sleeps to let something happen: a wait polls a condition.

A test is a function test_* of a file that ends with `harness.main(globals())`. It is run as

    CONNECTD_BUILD_DIR=build/release python3 tests/cluster/<file>.py [test ...] [--seed N] [--rounds N] [--keep]

On a failure the directory is kept, and the ends of the nodes' logs are printed.
"""

import argparse
import contextlib
import http.client
import inspect
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

SOURCE_DIR = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD_DIR = os.path.abspath(os.environ.get("CONNECTD_BUILD_DIR", os.path.join(SOURCE_DIR, "build", "release")))
CONNECTD = os.path.join(BUILD_DIR, "bin", "connectd")

POLL_SECONDS = 0.01
START_SECONDS = 20.0
CLIENT_SECONDS = 30.0  # longer than any answer may take: a client that waits so long has found a bug
LOG_LINES_SHOWN = 40

# Exit codes of connectd.
EXIT_OK, EXIT_USAGE, EXIT_DATA, EXIT_NO_INPUT, EXIT_CANNOT_CREATE, EXIT_STORAGE = 0, 64, 65, 66, 73, 74
EXIT_MISMATCH, EXIT_PERMISSION, EXIT_CONFIG, EXIT_PLUGIN = 76, 77, 78, 81

# Short timers, so that many failovers fit into a test.
FAST_RAFT = {"tick": "5ms", "heartbeat_interval": "20ms", "election_timeout": "150ms"}

_ports_claimed = []


class Failure(Exception):
    """A check of the test failed."""


class Skip(Exception):
    """The test cannot run here, for a reason outside of the daemon."""


SKIPPED = 77  # exit code, when nothing failed and something was skipped


def check(condition, text):
    if not condition:
        raise Failure(text)


def wait_until(condition, what, seconds=START_SECONDS):
    """Polls until the condition returns a true value, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds:g} s: {what() if callable(what) else what}")
        time.sleep(POLL_SECONDS)


def free_ports(count):
    """Ports below the range that the kernel assigns to clients, so that no client takes them. They also differ from those
    of tests that run at the same time, because a killed node leaves its ports free for a while."""
    ports = []
    while len(ports) < count:
        port = random.SystemRandom().randrange(15000, 32000)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0connectd-test-port-{port}")  # gone with this process, however that ends
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _ports_claimed.append(claim)
        ports.append(port)
    return ports


def plugin_path(name):
    return os.path.join(BUILD_DIR, "plugins", f"lib{name}.so")


def to_yaml(value, indent=0):
    """Supports maps of maps, lists and scalars, which is enough for a configuration."""
    lines = []
    for key, item in value.items():
        space = " " * indent
        if isinstance(item, dict):
            lines.append(f"{space}{key}:")
            lines.append(to_yaml(item, indent + 2))
        elif isinstance(item, list):
            lines.append(f"{space}{key}:")
            for element in item:
                lines.append(f"{space}  - {json.dumps(element) if isinstance(element, str) else flow(element)}")
        else:
            lines.append(f"{space}{key}: {scalar(item)}")
    return "\n".join(line for line in lines if line)


def flow(mapping):
    return "{" + ", ".join(f"{key}: {scalar(item)}" for key, item in mapping.items()) + "}"


def scalar(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and ":" in value:
        return json.dumps(value)
    return str(value)


class Node:
    def __init__(self, node_id, directory):
        self.id = node_id
        self.host = "127.0.0.1"
        self.wrap = []  # a command that runs its process: ["ip", "netns", "exec", ...]
        self.peer_port, self.client_port, self.http_port = free_ports(3)
        self.config_path = os.path.join(directory, f"node{node_id}.yaml")
        self.data_dir = os.path.join(directory, f"data{node_id}")
        self.log_path = os.path.join(directory, f"node{node_id}.log")
        self.process = None
        self.environment = {}  # of its process, beside the test's own
        self.binary = None  # another build than CONNECTD
        self.end_seen = False  # the test has seen the end of the process, and judged it

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def member(self):
        return {
            "id": self.id,
            "peer": f"{self.host}:{self.peer_port}",
            "client": f"{self.host}:{self.client_port}",
            "http": f"{self.host}:{self.http_port}",
        }

    def log(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""


def takes_clients(node):
    with socket.socket() as client:
        return client.connect_ex((node.host, node.client_port)) == 0


class Cluster:
    """`settings`: sections of the configuration that override those of the harness."""

    def __init__(self, plugin="counter", nodes=3, settings=None, directory=None):
        check(os.path.exists(CONNECTD), f"{CONNECTD} is not there: build it, or set CONNECTD_BUILD_DIR")
        self.directory = directory or tempfile.mkdtemp(prefix="connectd-cluster-")
        self.plugin = plugin if "/" in plugin else plugin_path(plugin)
        self.settings = settings or {}
        self.nodes = {}
        for node_id in range(1, nodes + 1):
            self.nodes[node_id] = Node(node_id, self.directory)
        for node in self.nodes.values():
            self.write_config(node)

    # ---- Configuration ------------------------------------------------------------------------

    def config(self, node, /, **changes):
        config = {
            "node": {"id": node.id, "data_dir": node.data_dir},
            "cluster": {"name": "test", "members": [n.member() for n in self.nodes.values()]},
            "plugin": {"path": self.plugin},
            "raft": {},
            "storage": {"segment_size": "4MiB", "min_free_disk": "16MiB"},
            "snapshot": {},
            "client": {},
        }
        for sections in (self.settings, changes):
            for section, values in sections.items():
                config.setdefault(section, {}).update(values)
        return {section: values for section, values in config.items() if values}

    def write_config(self, node, /, **changes):
        with open(node.config_path, "w", encoding="utf-8") as file:
            file.write(to_yaml(self.config(node, **changes)) + "\n")

    # ---- Processes ----------------------------------------------------------------------------

    def start(self, *ids):
        for node_id in ids or self.nodes:
            node = self.nodes[node_id]
            check(not node.running, f"node {node_id} runs already")
            node.end_seen = False
            with open(node.log_path, "ab") as log:
                log.write(f"---- start {time.strftime('%H:%M:%S')}\n".encode())
                log.flush()
                node.process = subprocess.Popen([*node.wrap, node.binary or CONNECTD, "--config",
                                                 node.config_path],
                                                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                env={**os.environ, **node.environment})

    def signal(self, node_id, number):
        node = self.nodes[node_id]
        check(node.running, f"node {node_id} is not running; its end was {node.process and node.process.returncode}")
        node.process.send_signal(number)

    def kill(self, *ids):
        """kill -9, and returns when the processes are gone."""
        for node_id in ids:
            self.signal(node_id, signal.SIGKILL)
        for node_id in ids:
            self.nodes[node_id].process.wait()
            self.nodes[node_id].end_seen = True

    def terminate(self, node_id, seconds=30.0):
        """SIGTERM; returns the exit code."""
        self.signal(node_id, signal.SIGTERM)
        return self.wait_exit(node_id, seconds)

    def wait_exit(self, node_id, seconds=START_SECONDS):
        node = self.nodes[node_id]
        try:
            code = node.process.wait(timeout=seconds)
            node.end_seen = True
            return code
        except subprocess.TimeoutExpired:
            raise Failure(f"node {node_id} did not end within {seconds:g} s") from None

    def check_alive(self):
        """Fails if a node has ended without being told to, and no test waited for it."""
        for node in self.nodes.values():
            if not node.end_seen and node.process is not None and node.process.poll() is not None:
                raise Failure(f"node {node.id} ended by itself with {node.process.returncode}")

    def close(self, keep=False):
        for node in self.nodes.values():
            if node.running:
                node.process.send_signal(signal.SIGCONT)
                node.process.kill()
                node.process.wait()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def print_logs(self):
        for node in self.nodes.values():
            code = node.process.poll() if node.process else None
            state = "running" if node.running else f"ended with {code}"
            print(f"---- node {node.id} ({state}), end of {node.log_path}", flush=True)
            for line in node.log().splitlines()[-LOG_LINES_SHOWN:]:
                print("    " + line, flush=True)

    # ---- What the nodes say of themselves -------------------------------------------------------

    def get(self, node_id, target, seconds=5.0):
        """(HTTP status, body), or None if the node does not answer."""
        connection = http.client.HTTPConnection(self.nodes[node_id].host, self.nodes[node_id].http_port,
                                                timeout=seconds)
        try:
            connection.request("GET", target)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return None
        except http.client.HTTPException:
            return None
        finally:
            connection.close()

    def status(self, node_id):
        answer = self.get(node_id, "/v1/status")
        return json.loads(answer[1]) if answer and answer[0] == 200 else None

    def running(self):
        return [node.id for node in self.nodes.values() if node.running]

    def statuses(self):
        found = {node_id: self.status(node_id) for node_id in self.running()}
        return {node_id: status for node_id, status in found.items() if status}

    def leader(self, seconds=START_SECONDS):
        """The id of the leader that a majority of all nodes names, in the same term."""
        def agreed():
            self.check_alive()
            statuses = self.statuses()
            for node_id, status in statuses.items():
                if status["role"] != "leader":
                    continue
                followers = [s for s in statuses.values()
                             if s["leader"] == node_id and s["term"] == status["term"]]
                if len(followers) * 2 > len(self.nodes):
                    return node_id
            return None
        return wait_until(agreed, lambda: f"a leader that a majority names; statuses: {self.brief()}", seconds)

    def brief(self):
        keys = ("role", "term", "leader", "last_index", "commit_index", "applied_index", "snapshot_index", "digest")
        return {node_id: {key: status.get(key) for key in keys} for node_id, status in self.statuses().items()}

    def wait_caught_up(self, node_id, index=None, seconds=START_SECONDS):
        """Until the node has applied what was committed when this was called (or `index`)."""
        if index is None:
            index = max((s["commit_index"] for s in self.statuses().values()), default=0)
        def caught_up():
            self.check_alive()
            return (self.status(node_id) or {"applied_index": -1})["applied_index"] >= index
        wait_until(caught_up,
                   lambda: f"node {node_id} applies index {index}; statuses: {self.brief()}", seconds)

    def wait_equal(self, seconds=START_SECONDS):
        """Until all nodes run, take clients and agree on the applied index; then their digests must agree too."""
        def settled():
            self.check_alive()
            statuses = self.statuses()
            if len(statuses) < len(self.nodes):
                return None
            if len({s["applied_index"] for s in statuses.values()}) > 1:
                return None
            # HTTP answers before the client port opens.
            return statuses if all(map(takes_clients, self.nodes.values())) else None
        statuses = wait_until(settled, lambda: f"equal applied indexes; statuses: {self.brief()}", seconds)
        check(len({s["digest"] for s in statuses.values()}) == 1, f"the digests differ: {self.brief()}")
        return next(iter(statuses.values()))

    # ---- Clients --------------------------------------------------------------------------------

    def wait_for_compaction_past(self, node_id, index, write_more):
        """Writes until the node's log on disk begins after `index`. Two snapshots are kept, and the log
        after the older one; a slow machine takes few of them."""
        seen = set()

        def far_enough():
            write_more()
            snapshot = self.status(node_id)["snapshot_index"]
            if snapshot > index:
                seen.add(snapshot)
            return len(seen) >= 4
        wait_until(far_enough, lambda: f"four snapshots on node {node_id} after index {index}; {self.brief()}", 120)

    def line_client(self, node_id, seconds=CLIENT_SECONDS):
        return LineClient(self.nodes[node_id].client_port, seconds)

    def resp_client(self, node_id, seconds=CLIENT_SECONDS):
        return RespClient(self.nodes[node_id].client_port, seconds)


class Disconnected(Exception):
    """The connection broke: what was sent and not answered has an unknown outcome."""


class ErrorReply(Exception):
    """The daemon, or for RESP the plugin, answered with an error."""

    @property
    def code(self):
        return str(self).split(" ", 1)[0]


class _Client:
    def __init__(self, port, seconds):
        try:
            self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        except OSError as error:
            raise Disconnected(str(error)) from None
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        try:
            self.socket.sendall(data)
        except socket.timeout:
            raise Failure("a client could not send within its time") from None
        except OSError as error:
            raise Disconnected(str(error)) from None

    def _read(self, read):
        try:
            data = read()
        except socket.timeout:
            raise Failure("a request was not answered, and its connection not closed") from None
        except OSError as error:
            raise Disconnected(str(error)) from None
        if not data:
            raise Disconnected("the server closed the connection")
        return data

    def close(self):
        with contextlib.suppress(OSError):
            self.file.close()
            self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class LineClient(_Client):
    def read_reply(self):
        """The reply without its line end, or an ErrorReply as a value."""
        line = self._read(self.file.readline)
        if not line.endswith(b"\n"):
            raise Disconnected("the connection broke within a reply")
        if line.startswith(b"ERR "):
            return ErrorReply(line[4:].decode(errors="backslashreplace").strip())
        return line[:-1]

    def pipeline(self, requests):
        self.send(b"".join(request + b"\n" for request in requests))
        return [self.read_reply() for _ in requests]

    def call(self, request):
        reply = self.pipeline([request])[0]
        if isinstance(reply, ErrorReply):
            raise reply
        return reply


def resp_command(words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class RespClient(_Client):
    def read_reply(self):
        line = self._read(self.file.readline)
        if not line.endswith(b"\r\n"):
            raise Disconnected("the connection broke within a reply")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ErrorReply(rest.decode(errors="backslashreplace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            if size < 0:
                return None
            data = self._read(lambda: self.file.read(size + 2))
            if len(data) < size + 2:
                raise Disconnected("the connection broke within a reply")
            return data[:-2]
        if kind == b"*":
            return [self.read_reply() for _ in range(int(rest))]
        raise Failure(f"not a reply: {line!r}")

    def pipeline(self, commands):
        self.send(b"".join(resp_command(command) for command in commands))
        return [self.read_reply() for _ in commands]

    def call(self, *words):
        reply = self.pipeline([words])[0]
        if isinstance(reply, ErrorReply):
            raise reply
        return reply


# ---- Looking at a process -----------------------------------------------------------------------

def memory_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise Failure(f"process {pid} shows no memory")


def descriptor_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def thread_count(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


# ---- Running tests ------------------------------------------------------------------------------

class Context:
    """What a test gets: options, a seeded random source, and clusters that end with the test."""

    def __init__(self, options):
        self.options = options
        self.random = random.Random(options.seed)
        self.clusters = []

    def cluster(self, *args, **kwargs):
        cluster = Cluster(*args, **kwargs)
        self.clusters.append(cluster)
        return cluster


def main(module):
    tests = {name: value for name, value in module.items()
             if name.startswith("test_") and inspect.isfunction(value)}
    parser = argparse.ArgumentParser()
    parser.add_argument("tests", nargs="*", help=", ".join(tests))
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--megabytes", type=int, default=64, help="of state, in snapshots.py")
    parser.add_argument("--keep", action="store_true", help="keep data and logs")
    options = parser.parse_args()
    unknown = [name for name in options.tests if name not in tests]
    if unknown:
        parser.error(f"no such test: {', '.join(unknown)}; there are: {', '.join(tests)}")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    failed = []
    skipped = []
    for name in options.tests or tests:
        print(f"==== {name}, seed {options.seed}", flush=True)
        context = Context(options)
        started = time.monotonic()
        good = False
        verdict = ""
        try:
            tests[name](context)
            for cluster in context.clusters:
                cluster.check_alive()
            good = True
        except Skip as skip:
            skipped.append(name)
            verdict = str(skip)
            good = True
        except Failure as failure:
            verdict = str(failure)
            print("failed at " + " < ".join(f"{frame.name}:{frame.lineno}"
                                         for frame in reversed(traceback.extract_tb(failure.__traceback__))))
        except Exception as error:  # the harness itself, or a node's answer it did not expect
            verdict = repr(error)
            traceback.print_exc()
        finally:
            for cluster in context.clusters:
                if not good:
                    cluster.print_logs()
                cluster.close(keep=options.keep or not good)
                if options.keep or not good:
                    print(f"kept: {cluster.directory}", flush=True)
        if name in skipped:
            print(f"SKIPPED: {verdict}", flush=True)
        elif good:
            print(f"passed, {time.monotonic() - started:.1f} s", flush=True)
        else:
            failed.append(name)
            print(f"FAILED: {verdict}")
            print(f"again: CONNECTD_BUILD_DIR={BUILD_DIR} python3 {sys.argv[0]} {name} "
                  f"--seed {options.seed} --rounds {options.rounds}", flush=True)
    sys.exit(1 if failed else SKIPPED if skipped else 0)

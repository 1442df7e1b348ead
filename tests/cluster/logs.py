"""Standard error, signals and systemd's socket: nobody outside holds up a node, and what ends one is written first."""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import time

import harness
from harness import CONNECTD, SOURCE_DIR, EXIT_CANNOT_CREATE, EXIT_CONFIG, EXIT_MISMATCH, FAST_RAFT, check, wait_until
from membership import patiently

F_SETPIPE_SZ = 1031


class Pipe:
    """A pipe of one page as the standard error of a node. It is read only when the test asks for it."""

    def __init__(self):
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, F_SETPIPE_SZ, 4096)

    def fill(self):
        flags = fcntl.fcntl(self.writer, fcntl.F_GETFL)
        fcntl.fcntl(self.writer, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.writer, b"x")
        fcntl.fcntl(self.writer, fcntl.F_SETFL, flags)

    def read(self):
        """The bytes that are available now."""
        os.set_blocking(self.reader, False)
        text = b""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self.reader, 65536):
                text += piece
        return text.decode()

    def close(self):
        for end in (self.reader, self.writer):
            with contextlib.suppress(OSError):
                os.close(end)


def start(cluster, node_id, stderr, **more):
    node = cluster.nodes[node_id]
    node.end_seen = False
    node.process = subprocess.Popen([CONNECTD, "--config", node.config_path], stdin=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL, stderr=stderr, **more)
    return node


def incr(cluster, node_id):
    with cluster.line_client(node_id) as client:
        return int(client.call(b"incr"))


def test_unread_stderr_holds_up_nobody(context):
    cluster = context.cluster("counter", nodes=1)
    pipe = Pipe()
    start(cluster, 1, pipe.writer)
    cluster.leader()
    flags = fcntl.fcntl(pipe.writer, fcntl.F_GETFL)
    dropped = lambda: cluster.status(1)["log_lines_dropped"]
    check(dropped() == 0, "lines are dropped from the start")

    def log_until_dropped():
        for _ in range(200):
            cluster.signal(1, signal.SIGUSR2)
        return dropped() > 0

    wait_until(log_until_dropped, "no line was dropped", 60)
    for count in range(1, 21):
        check(incr(cluster, 1) == count, "an increment was lost")
    check(cluster.status(1)["ready"], "the node is not ready")
    check(fcntl.fcntl(pipe.writer, fcntl.F_GETFL) == flags, "the node changed the flags of the pipe")
    text = []
    wait_until(lambda: text.append(pipe.read()) or "dropped lines=" in "".join(text), "the loss is not logged")
    pipe.fill()
    begin = time.monotonic()
    check(cluster.terminate(1, 10) == 0, "TERM does not end it with 0")
    print(f"ended in {time.monotonic() - begin:.2f} s")
    pipe.close()


def test_log_reader_that_goes_away(context):
    cluster = context.cluster("counter")
    for node_id in cluster.nodes:
        pipe = Pipe()
        start(cluster, node_id, pipe.writer)
        os.close(pipe.writer)
        os.close(pipe.reader)
    leader = cluster.leader()
    for node_id in cluster.nodes:
        cluster.signal(node_id, signal.SIGUSR2)
    check(incr(cluster, leader) == 1, "the first increment")
    wait_until(lambda: cluster.status(leader)["log_lines_dropped"] > 5, "lost lines are not counted")
    for node_id in cluster.nodes:
        check(cluster.terminate(node_id) == 0, "TERM does not end it with 0")


def test_errors_end_it_with_unread_stderr(context):
    """The exit code is right even if nobody reads the text."""
    cluster = context.cluster("counter", nodes=1)
    cluster.start()
    cluster.leader()
    other = context.cluster("counter", nodes=1)
    other.nodes[1].data_dir = cluster.nodes[1].data_dir
    other.write_config(other.nodes[1])
    pipe = Pipe()
    pipe.fill()
    start(other, 1, pipe.writer)
    code = other.wait_exit(1, 10)
    check(code == EXIT_CANNOT_CREATE, f"a locked directory ended it with {code}")
    with open(other.nodes[1].config_path, "a", encoding="utf-8") as file:
        file.write("unknown: 1\n")
    start(other, 1, pipe.writer)
    code = other.wait_exit(1, 10)
    check(code == EXIT_CONFIG, f"an unknown key ended it with {code}")
    pipe.close()


def test_closed_stderr_is_no_data_file(context):
    cluster = context.cluster("counter", nodes=1)
    node = cluster.nodes[1]
    node.end_seen = False
    node.process = subprocess.Popen(["sh", "-c", 'exec "$0" --config "$1" 0<&- 1>&- 2>&-', CONNECTD, node.config_path])
    cluster.leader()
    targets = [os.readlink(f"/proc/{node.process.pid}/fd/{number}") for number in (0, 1, 2)]
    check(targets == ["/dev/null"] * 3, f"the standard descriptors are {targets}")
    check(incr(cluster, 1) == 1, "the first increment")
    check(cluster.terminate(1) == 0, "TERM does not end it with 0")


def test_signals_without_meaning_are_ignored(context):
    cluster = context.cluster("counter", nodes=1)
    cluster.start()
    cluster.leader()
    names = ("PIPE", "USR1", "ALRM", "VTALRM", "PROF", "IO", "STKFLT", "PWR", "XFSZ", "URG", "WINCH", "CHLD", "CONT")
    for number in [*(getattr(signal, f"SIG{name}") for name in names), signal.SIGRTMIN, signal.SIGRTMAX]:
        cluster.signal(1, number)
    wait_until(lambda: "SIGUSR1 ignored" in cluster.nodes[1].log(), "USR1 is not named")
    check(incr(cluster, 1) == 1, "the first increment")


def test_unread_notify_socket_holds_up_nobody(context):
    cluster = context.cluster("counter", nodes=1)
    path = os.path.join(cluster.directory, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        cluster.nodes[1].environment = {"NOTIFY_SOCKET": path}
        cluster.start()
        cluster.leader()
        # Each new commit index is a new STATUS=: many more than a socket's queue holds.
        for count in range(1, 60):
            check(incr(cluster, 1) == count, "an increment was lost")
            time.sleep(0.06)
        systemd.settimeout(5)
        seen = []

        def has(text):
            seen.append(systemd.recv(4096).decode())
            return text in seen[-1]

        newest = f"commit_index={cluster.status(1)['commit_index']}"
        wait_until(lambda: has(newest), lambda: f"the newest status does not arrive: {seen[-3:]}")
        check(any("READY=1" in message for message in seen), f"no READY=1 in {seen}")
        cluster.signal(1, signal.SIGTERM)
        wait_until(lambda: has("STOPPING=1"), "STOPPING=1 does not arrive")
        check(cluster.wait_exit(1) == 0, "TERM does not end it with 0")


def test_first_line_has_the_version(context):
    cluster = context.cluster("counter", nodes=1)
    cluster.start()
    cluster.leader()
    first = [line for line in cluster.nodes[1].log().splitlines() if not line.startswith("----")][0]
    check(f" connectd: version={cluster.status(1)['version']} " in first, f"the first line is {first}")


def test_systemd_shows_why_a_node_failed(context):
    cluster = context.cluster("counter", nodes=2)
    cluster.nodes[2].data_dir = cluster.nodes[1].data_dir
    cluster.write_config(cluster.nodes[2])
    path = os.path.join(cluster.directory, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(5)
        cluster.start(1)
        wait_until(lambda: cluster.get(1, "/livez"), "HTTP does not open")
        cluster.nodes[2].environment = {"NOTIFY_SOCKET": path}
        cluster.start(2)
        check(cluster.wait_exit(2) == EXIT_CANNOT_CREATE, "a locked directory does not end it with 73")
        check(systemd.recv(4096).startswith(b"STATUS=failed: "), "systemd is not told")


def test_systemd_shows_why_a_node_was_refused(context):
    """It was ready before: without this the last status stays, and names a remedy that is none."""
    cluster = context.cluster("counter", settings={"raft": FAST_RAFT})
    cluster.start()
    cluster.leader()
    cluster.kill(3)
    patiently(cluster, "member", "remove", 3)  # it may have led
    path = os.path.join(cluster.directory, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.setblocking(False)
        cluster.nodes[3].environment = {"NOTIFY_SOCKET": path}
        cluster.start(3)
        check(cluster.wait_exit(3) == EXIT_MISMATCH, "a removed node does not end with 76")
        told = []
        with contextlib.suppress(BlockingIOError):
            while True:
                told.append(systemd.recv(4096).decode())
        check(told[-1].startswith("STATUS=failed: ") and "was removed" in told[-1], f"systemd is told {told}")

def json_lines(node):
    """Strict: each line is an object in valid UTF-8."""
    with open(node.log_path, "rb") as file:
        lines = [line for line in file.read().splitlines() if not line.startswith(b"----")]
    return [json.loads(line.decode("utf-8", errors="strict")) for line in lines]


def documented_events():
    with open(os.path.join(SOURCE_DIR, "docs", "log-events.md"), encoding="utf-8") as file:
        return set(re.findall(r"^\| `([a-z_.]+)` ", file.read(), re.MULTILINE))


def test_json_lines(context):
    cluster = context.cluster("counter", settings={"raft": FAST_RAFT, "log": {"format": "json"}})
    cluster.start()
    leader = cluster.leader()
    check(incr(cluster, leader) == 1, "the first increment")
    with socket.create_connection(("127.0.0.1", cluster.nodes[leader].peer_port)) as stranger:
        stranger.sendall(b"\xff\xfe node=7 \x00 is no hello\n" * 100)
    other = next(node_id for node_id in cluster.nodes if node_id != leader)
    cluster.kill(other)
    node = cluster.nodes[leader]
    has = lambda event: [line for line in json_lines(node) if line["event"] == event]
    wait_until(lambda: has("peer.lost") and has("peer.unreachable"), "the loss of a peer is not logged")
    cluster.signal(leader, signal.SIGUSR2)
    cluster.signal(leader, signal.SIGHUP)
    wait_until(lambda: has("state.line") and has("config.unchanged") and has("flight.written"), "a signal is not logged")
    check(cluster.terminate(leader) == 0, "TERM does not end it with 0")
    known = documented_events()
    for line in json_lines(node):
        check(line["event"] in known, f"docs/log-events.md lacks {line['event']}")
        check(line["node"] == leader and line["cluster"], f"no origin: {line}")
        check(line["priority"] in (3, 4, 6, 7) and line["area"] and "message" in line, f"a field is missing: {line}")
        check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"]), f"the time of {line}")
    lost = has("peer.lost")[0]
    check(lost["fields"]["node"] == other and lost["level"] == "warning", f"the fields of {lost}")
    roles = [line["fields"]["term"] for line in has("raft.role")]
    check(roles and all(isinstance(term, int) for term in roles), f"terms {roles}")
    wrong = has("peer.handshake_broken")
    check(wrong and all(line["fields"].get("node") is None for line in wrong), f"a stranger made a field: {wrong}")


def flight(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def test_flight_recorder_on_usr2(context):
    cluster = context.cluster("kv", nodes=1, settings={"log": {"level": "error"}})
    runtime = os.path.join(cluster.directory, "run")
    os.mkdir(runtime)
    cluster.nodes[1].environment = {"RUNTIME_DIRECTORY": runtime}
    cluster.start()
    cluster.leader()
    with cluster.line_client(1) as client:
        client.call(b"set MARKER-KEY MARKER-VALUE")
    cluster.signal(1, signal.SIGUSR2)
    path = os.path.join(runtime, "flight.json")
    wait_until(lambda: os.path.exists(path), "no flight.json")
    dump = flight(path)
    check(dump["reason"] == "SIGUSR2" and dump["node"] == 1 and dump["pid"] == cluster.nodes[1].process.pid,
          f"the head is {dump}")
    roles = [event for event in dump["events"] if event["event"] == "raft.role"]
    check(roles and roles[-1]["fate"] == "below_level" and roles[-1]["message"].startswith("leader term="),
          f"the roles are {roles}")
    check(not [event for event in dump["events"] if event["event"] == "state.line"], "the state pushes out events")
    with open(path, encoding="utf-8") as file:
        check("MARKER" not in file.read(), "a request is in the flight recorder")
    check(os.stat(path).st_mode & 0o777 == 0o600, "others may read it")
    check("raft: leader" not in cluster.nodes[1].log(), "the level was ignored")


def test_flight_recorder_on_a_crash(context):
    cluster = context.cluster("counter", nodes=1)
    cluster.start()
    cluster.leader()
    cluster.signal(1, signal.SIGSEGV)
    check(cluster.wait_exit(1) == -signal.SIGSEGV, "it does not end by the signal")
    path = os.path.join(cluster.nodes[1].data_dir, "flight-crash.json")
    check(f"the last events are in {path}" in cluster.nodes[1].log(), "the log does not name the file")
    dump = flight(path)
    check(dump["reason"] == "connectd crashed (signal 11, SIGSEGV)", f"the reason is {dump['reason']}")
    names = [event["event"] for event in dump["events"]]
    check("cluster.formed" in names and names[-1] == "process.fatal", f"the events are {names}")
    cluster.start(1)
    cluster.leader()
    check(incr(cluster, 1) == 1, "it does not start beside the file")


def test_down_peer_costs_few_lines(context):
    cluster = context.cluster("counter", settings={"raft": FAST_RAFT})
    cluster.start()
    leader = cluster.leader()
    down = next(node_id for node_id in cluster.nodes if node_id != leader)
    before = len(cluster.nodes[leader].log())
    cluster.kill(down)
    time.sleep(10)  # many dials
    lines = cluster.nodes[leader].log()[before:].splitlines()
    check(any("peer unreachable" in line for line in lines) and len(lines) <= 8, f"{len(lines)} lines: {lines}")


if __name__ == "__main__":
    harness.main(globals())

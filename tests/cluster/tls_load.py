"""Many handshakes, and many sessions of TLS that are idle, beside a client with small writes.

Larger, for docs/performance.md: TLS_SESSIONS=10000 TLS_HANDSHAKES=500 TLS_SECONDS=20 python3 tests/cluster/tls_load.py"""

import multiprocessing
import os
import socket
import ssl
import threading
import time

import harness
from harness import check, memory_bytes, wait_until
from metrics import scrape_text
from pki import Authority, port
from tls_clients import ANYBODY, TlsLineClient, context_of, https, ready, sections, three_nodes
from tls_peers import reload_with

SESSIONS = int(os.environ.get("TLS_SESSIONS", "1000"))
HANDSHAKES = int(os.environ.get("TLS_HANDSHAKES", "100"))  # a second
SECONDS = float(os.environ.get("TLS_SECONDS", "5"))


class Writer(threading.Thread):
    """One small write after the other on a connection of its own; its times in seconds."""

    def __init__(self, node, context):
        super().__init__()
        self.client = TlsLineClient(node, context, 30)
        self.times = []
        self.stop = threading.Event()

    def run(self):
        while not self.stop.is_set():
            begin = time.monotonic()
            check(self.client.call(b"incr").isdigit(), "a number")
            self.times.append(time.monotonic() - begin)
            time.sleep(0.002)

    def take(self):
        times, self.times = sorted(self.times), []
        return times

    def end(self):
        self.stop.set()
        self.join()
        self.client.close()


def shown(times):
    return (f"{len(times)} writes, p50 {times[len(times) // 2] * 1e3:.1f} ms, "
            f"p99 {times[len(times) * 99 // 100] * 1e3:.1f} ms, longest {times[-1] * 1e3:.1f} ms")


def shake_hands(number, rate, seconds, client_port, authority, result):
    """Full handshakes at a rate, each followed by its end; as a process of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority)
    begin = time.monotonic()
    done = failed = 0
    while time.monotonic() - begin < seconds:
        late = time.monotonic() - begin - (done + failed) / rate
        if late < 0:
            time.sleep(-late)
        try:
            with socket.create_connection(("127.0.0.1", client_port), timeout=10) as plain:
                with context.wrap_socket(plain, server_hostname="127.0.0.1"):
                    done += 1
        except (OSError, ssl.SSLError):
            failed += 1
    result.put((number, done, failed))


def test_handshakes_elect_nobody(context):
    cluster, authority, tls = three_nodes(context, {"auth": ANYBODY})

    def term():
        return scrape_text(https(cluster.nodes[1], tls, "/metrics")[1])["connectd_raft_term"]
    leader = next(node for node in cluster.nodes.values() if https(node, tls, "/leaderz")[0] == 200)
    writer = Writer(leader, tls)
    writer.start()
    time.sleep(SECONDS)
    before, alone = term(), writer.take()
    result = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=shake_hands, args=(
        number, HANDSHAKES / 2, SECONDS, leader.client_port, authority.certificate, result)) for number in range(2)]
    for process in processes:
        process.start()
    numbers = [result.get(timeout=SECONDS + 60) for _ in processes]
    for process in processes:
        process.join()
    beside = writer.take()
    writer.end()
    done, failed = sum(n[1] for n in numbers), sum(n[2] for n in numbers)
    print(f"alone: {shown(alone)}", flush=True)
    print(f"beside {done / SECONDS:.0f} handshakes a second: {shown(beside)}", flush=True)
    check(done > 0 and failed == 0, f"{failed} of {done + failed} handshakes failed")
    check(term() == before, "a leader was elected")


def test_reload_beside_idle_sessions(context):
    """Of clients with certificates: a reload that revokes one ends that one, and holds up nobody."""
    cluster = context.cluster("counter", nodes=1,
                              settings={"auth": ANYBODY, "client": {"max_connections": SESSIONS + 100}})
    authority = Authority(cluster.directory)
    files = authority.node(1)
    node = cluster.nodes[1]
    cluster.write_config(node, tls=sections("require", files, authority))
    cluster.start()
    tls = context_of(authority)
    ready(node, tls)
    kept = context_of(authority, authority.client("kept", "read,write"))
    lost_files = authority.client("lost", "read,write")
    before = memory_bytes(node.process.pid)
    begin = time.monotonic()
    sessions = []
    for _ in range(SESSIONS):
        plain = socket.create_connection(("127.0.0.1", node.client_port), timeout=30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sessions.append(kept.wrap_socket(plain, server_hostname="127.0.0.1"))
        sessions[-1].sendall(b"get\n")
        check(sessions[-1].recv(100), "an answer")
    print(f"{SESSIONS} sessions in {time.monotonic() - begin:.1f} s", flush=True)

    def each():
        return (memory_bytes(node.process.pid) - before) / SESSIONS / 1024
    # OpenSSL takes 21 of them with a certificate of the client, 15 without (cluster.tls_clients.idle_connections_are_small).
    wait_until(lambda: each() < 32, lambda: f"an idle session takes {each():.1f} KiB")
    print(f"{each():.1f} KiB each", flush=True)
    goes = TlsLineClient(node, context_of(authority, lost_files))
    check(goes.call(b"get").isdigit(), "served before")
    writer = Writer(node, kept)
    writer.start()
    time.sleep(2)
    alone = writer.take()
    crl = authority.revoke(lost_files[0])
    begin = time.monotonic()
    reload_with(cluster, 1, {"client": port("require", files, authority.certificate, crl),
                             "http": port("require", files, authority.certificate, crl)})
    check(goes.file.read(1) == b"", "the revoked one ends")
    took = time.monotonic() - begin
    time.sleep(1)
    beside = writer.take()
    writer.end()
    print(f"alone: {shown(alone)}", flush=True)
    print(f"with a reload, after which the revoked one ended within {took:.2f} s: {shown(beside)}", flush=True)
    for session in sessions:
        session.sendall(b"get\n")
        check(session.recv(100), "the others stay")
        session.close()


if __name__ == "__main__":
    harness.main(globals())

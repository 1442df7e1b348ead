"""TLS of the ports for clients and HTTP."""

import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree

import harness
from harness import BUILD_DIR, CONNECTD, EXIT_CONFIG, LineClient, check, memory_bytes, wait_until
from pki import Authority, port
from tls_peers import reload_with

CONNECTCTL = os.path.join(BUILD_DIR, "bin", "connectctl")


def context_of(authority, client=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.certificate)
    if client:
        context.load_cert_chain(*client)
    return context


class TlsLineClient(LineClient):
    def __init__(self, node, context, seconds=10):
        super().__init__(node.client_port, seconds)
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.file = self.socket.makefile("rb")


def https(node, context, target, seconds=5):
    """(status, body)."""
    url = f"https://127.0.0.1:{node.http_port}{target}"
    try:
        with urllib.request.urlopen(url, context=context, timeout=seconds) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


ANYBODY = {"anonymous": ["read", "write", "monitor"]}


def sections(mode, files, authority):
    return {"client": port(mode, files, authority.certificate), "http": port(mode, files, authority.certificate)}


def one_node(context, mode, auth=None):
    """Clients without a certificate may do everything, unless `auth` says otherwise."""
    cluster = context.cluster("counter", nodes=1, settings={"auth": ANYBODY if auth is None else auth})
    authority = Authority(cluster.directory)
    files = authority.node(1)
    cluster.write_config(cluster.nodes[1], tls=sections(mode, files, authority))
    cluster.start()
    return cluster, authority, files


def three_nodes(context, settings=None):
    """A cluster whose ports for clients and HTTP take TLS only, its authority, and the context of a client."""
    cluster = context.cluster("counter", settings=settings)
    authority = Authority(cluster.directory)
    for node_id, node in cluster.nodes.items():
        cluster.write_config(node, tls=sections("require", authority.node(node_id), authority))
    cluster.start()
    tls = context_of(authority)
    for node in cluster.nodes.values():
        ready(node, tls)
    return cluster, authority, tls


def ready(node, context):
    wait_until(lambda: answers(node, context), "the node is ready over HTTPS")


def answers(node, context):
    try:
        return https(node, context, "/readyz")[0] == 200
    except (OSError, ssl.SSLError):
        return False


def test_both_kinds_where_both_are_taken(context):
    cluster, authority, files = one_node(context, "accept")
    node = cluster.nodes[1]
    tls = context_of(authority)
    ready(node, tls)
    with TlsLineClient(node, tls) as secure, cluster.line_client(1) as plain:
        check(secure.call(b"incr") == b"1", "inside TLS")
        check(plain.call(b"incr") == b"2", "plain")
        check(cluster.get(1, "/readyz")[0] == 200, "plain HTTP")
        # Connections that are open stay when plain ones are not taken any longer, but for those.
        reload_with(cluster, 1, sections("require", files, authority))
        check(secure.call(b"incr") == b"3", "inside TLS after the reload")
        wait_until(lambda: plain.file.read(1) == b"", "the plain connection ends")


def test_length_framing_needs_one_kind(context):
    """The first byte of a length may be that of TLS. The plugin declares the framing, so the files alone look good."""
    cluster = context.cluster(os.path.join(BUILD_DIR, "tests", "plugins", "libchain_length.so"), nodes=1,
                              settings={"auth": ANYBODY})
    node = cluster.nodes[1]
    authority = Authority(cluster.directory)
    files = authority.node(1)
    text = "'tls.client.mode' must be off or require with the framing length"
    for mode in ("accept", "prefer"):
        cluster.write_config(node, tls=sections(mode, files, authority))
        cluster.start()
        check(cluster.wait_exit(1) == EXIT_CONFIG and text in node.log(), f"a start with {mode}")
        checked = subprocess.run([CONNECTD, "--config", node.config_path, "--check"], capture_output=True, text=True, check=False)
        check(checked.returncode == EXIT_CONFIG and text in checked.stderr, f"--check: {checked}")
    cluster.write_config(node, tls=sections("require", files, authority))
    cluster.start()
    ready(node, context_of(authority))
    log = reload_with(cluster, 1, sections("accept", files, authority))
    check("reload rejected" in log and text in log, log)
    # In the file alone: this process goes on with the framing that it has.
    cluster.settings["client"] = {"framing": "line"}
    log = reload_with(cluster, 1, sections("accept", files, authority))
    check("reload rejected" in log and text in log, log)
    cluster.terminate(1)
    cluster.start()
    ready(node, context_of(authority))
    with cluster.line_client(1) as plain:
        check(plain.call(b"get") == b"0" * 16 + b" 0", "another framing than the plugin declares")


def test_plain_clients_are_told_that_tls_is_needed(context):
    cluster, authority, _ = one_node(context, "require")
    node = cluster.nodes[1]
    tls = context_of(authority)
    ready(node, tls)
    with cluster.line_client(1) as plain:
        plain.send(b"incr\n")
        reply = plain.file.readline()
        check(reply.startswith(b"ERR TLS this port takes TLS only"), f"a plain client gets {reply}")
    connection = socket.create_connection(("127.0.0.1", node.http_port), timeout=5)
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    text = connection.makefile("rb").read()
    check(text.startswith(b"HTTP/1.1 400") and b"takes TLS only" in text, f"plain HTTP gets {text}")
    with TlsLineClient(node, tls) as secure:
        check(secure.call(b"incr") == b"1", "inside TLS")
        replies = secure.pipeline([b"incr"] * 500)
        check(replies[-1] == b"501", "pipelined inside TLS")


def test_certificates_of_others_are_refused(context):
    cluster, authority, _ = one_node(context, "require")
    node = cluster.nodes[1]
    tls = context_of(authority)
    ready(node, tls)
    foreign = Authority(cluster.directory, "foreign")
    stranger = context_of(authority, foreign.client("stranger"))
    try:
        with TlsLineClient(node, stranger) as client:
            client.call(b"incr")
        check(False, "a foreign certificate was accepted")
    except (harness.Disconnected, ssl.SSLError, OSError):
        pass
    wait_until(lambda: "issuer" in node.log(), "the log names the certificate")
    good = context_of(authority, authority.client("app"))
    with TlsLineClient(node, good) as client:
        check(client.call(b"incr") == b"1", "a good certificate")
    try:
        TlsLineClient(node, context_of(foreign))
        check(False, "the server's certificate is of another authority")
    except (ssl.SSLError, OSError):
        pass


def test_silent_connections_keep_nobody_out(context):
    cluster, authority, _ = one_node(context, "require")
    node = cluster.nodes[1]
    tls = context_of(authority)
    ready(node, tls)
    silent = []
    for number in range(600):
        connection = socket.create_connection(("127.0.0.1", node.client_port), timeout=5)
        if number % 2:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a handshake
        silent.append(connection)
    begin = time.monotonic()
    for value in range(1, 21):
        with TlsLineClient(node, tls) as client:
            check(client.call(b"incr") == str(value).encode(), "a good client beside silent ones")
    took = time.monotonic() - begin
    print(f"20 connections beside {len(silent)} silent ones took {took:.2f} s")
    check(answers(node, tls), "HTTP answers beside them")
    for connection in silent:
        connection.close()


def test_connectctl_speaks_tls(context):
    cluster, authority, _ = one_node(context, "require")
    node = cluster.nodes[1]
    ready(node, context_of(authority))

    def run(*words):
        return subprocess.run([CONNECTCTL, *words, "-e", f"127.0.0.1:{node.http_port}"], capture_output=True,
                              text=True, check=False)
    good = run("status", "-o", "json", "--cacert", authority.certificate)
    check(good.returncode == 0, f"{good.returncode} {good.stderr}")
    check(json.loads(good.stdout), "status as JSON")
    plain = run("status")
    check(plain.returncode != 0 and "--cacert" in plain.stderr, f"plain: {plain.returncode} {plain.stderr}")
    foreign = Authority(cluster.directory, "foreign")
    wrong = run("status", "--cacert", foreign.certificate)
    check(wrong.returncode != 0 and "issuer" in wrong.stderr, f"another CA: {wrong.returncode} {wrong.stderr}")
    call = run("call", "incr", "--cacert", authority.certificate)
    check(call.returncode == 0 and call.stdout.strip() == "1", f"{call.returncode} {call.stdout} {call.stderr}")


def test_members_ask_each_other_inside_tls(context):
    cluster, authority, _ = three_nodes(context)
    watcher = context_of(authority, authority.client("watcher", "monitor"))
    answer = json.loads(https(cluster.nodes[1], watcher, "/v1/cluster")[1])
    check(all(node["reachable"] for node in answer["nodes"]), f"{answer}")


def test_roles_of_certificates(context):
    cluster, authority, files = one_node(context, "require", auth={"certificates": {"CN=ops": "monitor,admin"}})
    node = cluster.nodes[1]
    nobody = context_of(authority)
    ready(node, nobody)
    reader = context_of(authority, authority.client("reader", "read"))
    writer = context_of(authority, authority.client("writer", "read,write"))
    watcher = context_of(authority, authority.client("watcher", "monitor"))
    with TlsLineClient(node, nobody) as client:
        for request in (b"get", b"incr", b"nonsense"):
            client.send(request + b"\n")
            reply = client.file.readline()
            check(reply.startswith(b"ERR NOPERM"), f"{request} of nobody: {reply}")
    with TlsLineClient(node, writer) as client:
        check(client.call(b"incr") == b"1", "the writer writes")
    with TlsLineClient(node, reader) as client:
        check(client.call(b"get") == b"1", "the reader reads")
        client.send(b"incr\n")
        check(client.file.readline().startswith(b"ERR NOPERM"), "the reader does not write")
        # Changed roles count from the next request on.
        cluster.write_config(node, tls=sections("require", files, authority),
                             auth={"certificates": {"URI=connectd://test/client/reader": "write"}})
        cluster.signal(1, signal.SIGHUP)
        wait_until(lambda: "changed auth.certificates" in node.log(), "the reload")
        check(client.call(b"incr") == b"2", "the reader has become a writer")
    check(https(node, nobody, "/v1/status")[0] == 403, "the status to nobody")
    check(https(node, reader, "/v1/status")[0] == 403, "the status to a reader")
    check(https(node, watcher, "/v1/status")[0] == 200, "the status to a watcher")
    admin = authority.client("admin", "admin,monitor")
    ctl = [CONNECTCTL, "-e", f"127.0.0.1:{node.http_port}", "--cacert", authority.certificate]
    change = ["settings", "set", "raft.lease_reads", "true"]
    refused = subprocess.run(ctl + change, capture_output=True, text=True, check=False)
    check(refused.returncode != 0, f"without a certificate: {refused.stdout}")
    done = subprocess.run(ctl + ["--cert", admin[0], "--key", admin[1]] + change, capture_output=True, text=True,
                          check=False)
    check(done.returncode == 0, f"an administrator: {done.returncode} {done.stderr}")
    wait_until(lambda: "principal=cert:admin" in node.log(), "the audit line")


class Asker(threading.Thread):
    """One connection inside TLS that is never given up: adds one again and again."""

    def __init__(self, node, context):
        super().__init__()
        self.client = TlsLineClient(node, context, 30)
        self.done = 0
        self.error = None
        self.stop = threading.Event()

    def run(self):
        try:
            while not self.stop.is_set():
                check(self.client.call(b"incr").isdigit(), "a number")
                self.done += 1
        except (OSError, harness.Failure, harness.Disconnected) as error:
            self.error = error

    def end(self):
        self.stop.set()
        self.join()
        self.client.close()


def test_rotation_of_everything_under_load(context):
    """Another authority, and other certificates and keys of all ports: no request fails, no connection ends."""
    cluster = context.cluster("counter", settings={"auth": ANYBODY})
    old, new = Authority(cluster.directory), Authority(cluster.directory, "new")
    both = os.path.join(cluster.directory, "both.pem")
    with open(both, "w", encoding="utf-8") as file:
        for one in (old, new):
            with open(one.certificate, encoding="utf-8") as source:
                file.write(source.read())
    files = {authority: {node_id: authority.node(node_id) for node_id in cluster.nodes} for authority in (old, new)}

    def sections_of(authority, trusted, node_id):
        own = files[authority][node_id]
        return {name: port("require", own, trusted) for name in ("peer", "client", "http")}
    for node_id, node in cluster.nodes.items():
        cluster.write_config(node, tls=sections_of(old, old.certificate, node_id))
    cluster.start()
    trusts = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusts.load_verify_locations(both)
    for node in cluster.nodes.values():
        ready(node, trusts)
    askers = [Asker(node, trusts) for node in cluster.nodes.values() for _ in range(3)]
    for asker in askers:
        asker.start()
    for authority, trusted in ((old, both), (new, both), (new, new.certificate)):
        for node_id in cluster.nodes:
            log = reload_with(cluster, node_id, sections_of(authority, trusted, node_id))
            check("rejected" not in log, log)
        before = [asker.done for asker in askers]
        wait_until(lambda before=before: all(a.error or a.done > b + 20 for a, b in zip(askers, before)),
                   "all connections are served", 60)
    for asker in askers:
        asker.end()
    check(not any(asker.error for asker in askers), f"errors: {[a.error for a in askers if a.error][:3]}")
    for node_id, node in cluster.nodes.items():
        trusts_new = context_of(new)
        check(https(node, trusts_new, "/readyz")[0] == 200, "the new certificate is shown")
        try:
            TlsLineClient(node, context_of(old))
        except ssl.SSLError:
            continue
        raise harness.Failure(f"node {node_id} still shows the old certificate")
    total = sum(asker.done for asker in askers)
    with_all = TlsLineClient(cluster.nodes[1], trusts)
    check(with_all.call(b"get") == str(total).encode(), "each increment counted once")
    with_all.close()
    print(f"{total} increments")


def test_client_certificate_that_is_revoked(context):
    cluster, authority, files = one_node(context, "require")
    node = cluster.nodes[1]
    ready(node, context_of(authority))
    kept = context_of(authority, authority.client("kept", "read,write"))
    lost_files = authority.client("lost", "read,write")
    with TlsLineClient(node, kept) as stays, TlsLineClient(node, context_of(authority, lost_files)) as goes:
        check(stays.call(b"incr") == b"1" and goes.call(b"incr") == b"2", "both are served")
        crl = authority.revoke(lost_files[0])
        begin = time.monotonic()
        reload_with(cluster, 1, {"client": port("require", files, authority.certificate, crl),
                                 "http": port("require", files, authority.certificate, crl)})
        check(goes.file.read(1) == b"", "the revoked one ends")
        check(time.monotonic() - begin < 10, "it took long")
        check(stays.call(b"incr") == b"3", "the other one stays")


def test_idle_connections_are_small(context):
    """24 KiB each, when what they were read with has been given back."""
    cluster, authority, _ = one_node(context, "accept")
    node = cluster.nodes[1]
    tls = context_of(authority)
    ready(node, tls)
    connections = []
    before = memory_bytes(node.process.pid)
    for _ in range(600):
        connections.append(TlsLineClient(node, tls))
        connections[-1].call(b"get")

    def each():
        return (memory_bytes(node.process.pid) - before) / len(connections) / 1024
    wait_until(lambda: each() < 24, lambda: f"an idle connection takes {each():.1f} KiB")
    print(f"{each():.1f} KiB each", flush=True)
    for connection in connections:
        connection.close()


def test_a_plugin_that_misuses_openssl(context):
    """It has the same libcrypto. Afterwards new connections of clients and between nodes work, on all nodes."""
    cluster = context.cluster(os.path.join(BUILD_DIR, "tests", "plugins", "libopenssl.so"), settings={"auth": ANYBODY})
    authority = Authority(cluster.directory)
    for node_id, node in cluster.nodes.items():
        files = authority.node(node_id)
        cluster.write_config(node, tls={"peer": port("require", files, authority.certificate),
                                        **sections("require", files, authority)})
    cluster.start()
    tls = context_of(authority)
    for node in cluster.nodes.values():
        ready(node, tls)
    value = 0

    def write(node, request):
        nonlocal value
        value += 1
        with TlsLineClient(node, tls) as client:
            check(client.call(request) == str(value).encode(), f"{request} at node {node.id}")
    for request in (b"do queue", b"do thread", b"do null", b"do cleanup"):
        for node in cluster.nodes.values():
            write(node, request)
        for node in cluster.nodes.values():
            with TlsLineClient(node, tls) as client:
                check(client.call(b"get") == str(value).encode(), f"node {node.id} after {request}")
            check(answers(node, tls), f"HTTPS of node {node.id} after {request}")
    # A node that begins again applies the log, misuse included, and the others dial it.
    for node_id, node in cluster.nodes.items():
        cluster.kill(node_id)
        cluster.start(node_id)
        ready(node, tls)
        write(node, b"incr")


CIPHERS = {
    "TLSv1.3": {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"},
    "TLSv1.2": {f"ECDHE-{key}-{cipher}" for key in ("ECDSA", "RSA")
                for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")},
}


def test_scan_of_all_ports(context):
    """sslscan with a good certificate: without one it sees nothing of the port for peers, whatever that takes."""
    cluster = context.cluster("counter", nodes=1)
    authority = Authority(cluster.directory)
    files = authority.node(1)
    node = cluster.nodes[1]
    cluster.write_config(node, tls={"peer": port("require", files, authority.certificate),
                                    **sections("require", files, authority)})
    cluster.start()
    ready(node, context_of(authority))
    for name, number in (("peer", node.peer_port), ("client", node.client_port), ("http", node.http_port)):
        scan = subprocess.run(["sslscan", "--xml=-", "--show-times", f"--certs={files[0]}", f"--pk={files[1]}",
                               f"127.0.0.1:{number}"], capture_output=True, text=True, check=False, timeout=120)
        check(scan.returncode == 0, f"{name}: sslscan {scan.returncode} {scan.stderr}")
        test = xml.etree.ElementTree.fromstring(scan.stdout).find("ssltest")
        enabled = {f"{p.get('type')}{p.get('version')}" for p in test.findall("protocol") if p.get("enabled") == "1"}
        check(enabled == {"tls1.2", "tls1.3"}, f"{name}: {enabled}")
        found = {}
        for cipher in test.findall("cipher"):
            found.setdefault(cipher.get("sslversion"), set()).add(cipher.get("cipher"))
        check(set(found) == set(CIPHERS), f"{name}: ciphers of {set(found)}")
        for version, ciphers in found.items():
            check(ciphers <= CIPHERS[version], f"{name}: {version} takes {ciphers - CIPHERS[version]}")
        renegotiation = test.find("renegotiation")
        check(renegotiation is None or renegotiation.get("supported") == "0", f"{name}: renegotiation")
        compression = test.find("compression")
        check(compression is None or compression.get("supported") == "0", f"{name}: compression")
        for bleed in test.findall("heartbleed"):
            check(bleed.get("vulnerable") == "0", f"{name}: heartbleed")
    check(node.running, "the node ended")


if __name__ == "__main__":
    harness.main(globals())

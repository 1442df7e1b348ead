"""TLS between nodes: turned on and off under load, and what must be refused."""

import glob
import os
import signal
import socket

import harness
from harness import EXIT_CONFIG, EXIT_PERMISSION, Skip, check, wait_until
from load import CounterSpeech, Load
from pki import Authority, port

FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)


def peer(mode, files, authorities, crl=None):
    return {"peer": port(mode, files, authorities, crl)}


def reload_with(cluster, node_id, section):
    """The lines that the reload has logged."""
    node = cluster.nodes[node_id]
    begin = len(node.log())
    cluster.write_config(node, tls=section)
    cluster.signal(node_id, signal.SIGHUP)
    ends = ("changed tls.", "no changes", "reload rejected")
    wait_until(lambda: any(end in node.log()[begin:] for end in ends), f"node {node_id} reloads")
    return node.log()[begin:]


def warning(cluster, node_id):
    return (cluster.status(node_id) or {}).get("tls_warning")


def with_tls(context, nodes=3):
    """A cluster that begins with TLS, its authority, and the files of each node."""
    cluster = context.cluster("counter", nodes=nodes)
    authority = Authority(cluster.directory)
    files = {node_id: authority.node(node_id) for node_id in cluster.nodes}
    for node_id, node in cluster.nodes.items():
        cluster.write_config(node, tls=peer("require", files[node_id], authority.certificate))
    return cluster, authority, files


def count_up(cluster, node_id, value):
    with cluster.line_client(node_id) as client:
        check(client.call(b"incr") == value, f"node {node_id} does not count to {value}")


def terms(cluster):
    """Of all nodes, when they agree: a status may be a second old."""
    def agreed():
        found = {node_id: status["term"] for node_id, status in cluster.statuses().items()}
        return found if len(found) == len(cluster.nodes) and len(set(found.values())) == 1 else None
    return wait_until(agreed, "all nodes are in one term")


def says(cluster, node_id, *words):
    wait_until(lambda: all(word in cluster.nodes[node_id].log() for word in words),
               lambda: f"node {node_id} says {words}; it says:\n{cluster.nodes[node_id].log()[-3000:]}")


def test_turned_on_and_off_under_load(context):
    cluster = context.cluster("counter")
    authority = Authority(cluster.directory)
    files = {node_id: authority.node(node_id) for node_id in cluster.nodes}
    cluster.start()
    cluster.leader()
    before = terms(cluster)
    load = Load(cluster, CounterSpeech, clients=6, seed=context.options.seed).start()
    for mode in ("accept", "prefer", "require", "prefer", "accept", "off"):
        for node_id in cluster.nodes:
            log = reload_with(cluster, node_id, peer(mode, files[node_id], authority.certificate))
            check("rejected" not in log, log)
        if mode == "accept":
            wait_until(lambda: all("are plain" in (warning(cluster, n) or "") for n in cluster.nodes),
                       "accept: the status names the plain connections")
        else:
            wait_until(lambda: all(warning(cluster, n) is None for n in cluster.nodes),
                       lambda mode=mode: f"{mode}: no connection is plain: {[warning(cluster, n) for n in cluster.nodes]}")
        done = load.done()
        wait_until(lambda done=done: load.done() > done + 100, f"{mode}: clients are served")
    load.stop()
    check(not load.errors, f"errors: {load.errors[:3]}")
    check(load.disconnects == 0 and load.unknown() == 0, f"{load.disconnects} disconnects, {load.unknown()} unknown")
    check(terms(cluster) == before, f"there was an election: {before}, then {terms(cluster)}")
    for node_id, node in cluster.nodes.items():
        check("lost the connection" not in node.log(), f"node {node_id} has lost a connection")
    print(f"{load.done()} increments, longest gap {load.longest_gap:.3f} s")


def test_begins_with_require(context):
    cluster, _, _ = with_tls(context)
    cluster.start()
    count_up(cluster, cluster.leader(), b"1")
    for node_id in cluster.nodes:
        check(warning(cluster, node_id) is None, f"node {node_id}: {warning(cluster, node_id)}")
    victim = cluster.leader()
    cluster.kill(victim)
    rest = [node_id for node_id in cluster.nodes if node_id != victim]
    wait_until(lambda: (cluster.status(rest[0]) or {}).get("leader") in rest, "the rest elects")
    count_up(cluster, rest[0], b"2")
    cluster.start(victim)
    cluster.wait_equal()


def test_foreign_authority_is_refused_and_heals(context):
    cluster, authority, files = with_tls(context)
    foreign = Authority(cluster.directory, "foreign")
    cluster.start()
    count_up(cluster, cluster.leader(), b"1")
    cluster.kill(3)
    cluster.write_config(cluster.nodes[3], tls=peer("require", foreign.node(3), authority.certificate))
    cluster.start(3)
    for node_id in (1, 2):
        says(cluster, node_id, "TLS handshake failed", "issuer")
    check(cluster.nodes[3].running, "node 3 ended")
    check(not (cluster.status(3) or {}).get("ready"), "node 3 is ready")
    wait_until(lambda: (cluster.status(1) or {}).get("leader") in (1, 2), "the others go on")
    reload_with(cluster, 3, peer("require", files[3], authority.certificate))
    cluster.wait_equal()
    count_up(cluster, 3, b"2")


def test_plain_peer_and_tls_peer_name_each_other(context):
    cluster, authority, files = with_tls(context)
    cluster.write_config(cluster.nodes[3])
    cluster.start()
    says(cluster, 1, "takes peers only inside TLS")
    says(cluster, 3, "takes peers only inside TLS", "begins TLS, which is off here")
    check(cluster.nodes[3].running, "node 3 ended")
    reload_with(cluster, 3, peer("require", files[3], authority.certificate))
    cluster.wait_equal()
    count_up(cluster, 3, b"1")


def ends_with(cluster, section, code, *words):
    cluster.write_config(cluster.nodes[1], tls=section)
    cluster.start(1)
    found = cluster.wait_exit(1)
    check(found == code, f"ended with {found}, not {code}:\n{cluster.nodes[1].log()[-2000:]}")
    says(cluster, 1, *words)


def test_files_that_cannot_be_used(context):
    cluster, authority, files = with_tls(context, nodes=1)
    good = peer("require", files[1], authority.certificate)
    other = authority.node(2)
    ends_with(cluster, peer("require", other, authority.certificate), EXIT_CONFIG, "connectd://test/node/1")
    elsewhere = Authority(cluster.directory, "elsewhere", cluster="prod").node(1)
    ends_with(cluster, peer("require", elsewhere, authority.certificate), EXIT_CONFIG, "connectd://test/node/1")
    mixed = peer("require", (files[1][0], other[1]), authority.certificate)
    ends_with(cluster, mixed, EXIT_CONFIG, files[1][0])
    os.chmod(files[1][1], 0o644)
    ends_with(cluster, good, EXIT_PERMISSION, files[1][1])
    os.chmod(files[1][1], 0o600)
    # A reload with them changes nothing.
    cluster.write_config(cluster.nodes[1], tls=good)
    cluster.start(1)
    count_up(cluster, cluster.leader(), b"1")
    check("reload rejected" in reload_with(cluster, 1, mixed), "the reload was taken")
    count_up(cluster, 1, b"2")
    check("reload rejected" not in reload_with(cluster, 1, good), "the reload was not taken")


def test_changed_authority_and_revoked_node(context):
    cluster, authority, files = with_tls(context)
    cluster.start()
    cluster.leader()
    before = terms(cluster)
    new = Authority(cluster.directory, "new")
    both = os.path.join(cluster.directory, "both.pem")
    with open(both, "w", encoding="utf-8") as file:
        for one in (authority, new):
            with open(one.certificate, encoding="utf-8") as source:
                file.write(source.read())
    renewed = {node_id: new.node(node_id) for node_id in cluster.nodes}
    load = Load(cluster, CounterSpeech, clients=6, seed=context.options.seed).start()
    for node_id in cluster.nodes:
        reload_with(cluster, node_id, peer("require", files[node_id], both))
    for node_id in cluster.nodes:
        reload_with(cluster, node_id, peer("require", renewed[node_id], both))
    load.stop()
    check(not load.errors and load.unknown() == 0, f"errors: {load.errors[:3]}")
    check(terms(cluster) == before, "there was an election")
    # The old authority goes: connections that were made with its certificates end, and come again.
    for node_id in cluster.nodes:
        reload_with(cluster, node_id, peer("require", renewed[node_id], new.certificate))
    cluster.wait_equal()
    revoked = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
    crl = new.revoke(renewed[revoked][0])
    others = [node_id for node_id in cluster.nodes if node_id != revoked]
    for node_id in others:
        log = reload_with(cluster, node_id, peer("require", renewed[node_id], new.certificate, crl))
        check("rejected" not in log, log)
    for node_id in others:
        says(cluster, node_id, "revoked")
    with cluster.line_client(others[0]) as client:
        check(client.call(b"incr").isdigit(), "the others do not serve")
    wait_until(lambda: not (cluster.status(revoked) or {"ready": True})["ready"], "the revoked node is not ready")
    check(cluster.nodes[revoked].running, "the revoked node ended")


def test_wrong_clock_is_named(context):
    """A machine without a clock: the certificates of the others are not yet valid to it, which looks like their absence."""
    if FAKETIME is None:
        raise Skip("libfaketime is not installed")
    cluster, _, _ = with_tls(context)
    node = cluster.nodes[3]
    cause = "certificates are checked by the clock: this machine's clock shows 1970-"
    path = os.path.join(cluster.directory, "notify")
    right = node.environment
    wrong = {"LD_PRELOAD": FAKETIME, "FAKETIME": "@1970-01-02 00:00:00", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
             "NOTIFY_SOCKET": path}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(0.1)

        def told_to_systemd():
            try:
                while True:
                    lines = systemd.recv(4096).decode().splitlines()
                    if any(line.startswith("STATUS=") and cause in line for line in lines):
                        return True
            except TimeoutError:
                return False

        def readyz():
            answer = cluster.get(3, "/readyz")
            return answer[1].decode() if answer else ""

        def names_the_cause(state):
            wait_until(lambda: cause in readyz(), lambda: f"{state}: /readyz: {readyz()}")
            wait_until(told_to_systemd, f"{state}: STATUS= names no clock")
        # As the cluster forms, for which all must answer; and when it has.
        node.environment = wrong
        cluster.start()
        names_the_cause("forming")
        cluster.kill(3)
        node.environment = right
        cluster.start(3)
        cluster.leader()
        cluster.wait_equal()
        cluster.kill(3)
        node.environment = wrong
        cluster.start(3)
        names_the_cause("a member")
        check("start the others" in readyz(), "the remedy of a lost majority is gone")
    cluster.kill(3)


if __name__ == "__main__":
    harness.main(globals())

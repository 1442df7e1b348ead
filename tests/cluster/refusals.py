"""Nodes that must not take part are refused, with a line that says why, and without harm to the others."""

import os
import shutil
import subprocess
import time

import harness
from harness import (BUILD_DIR, CONNECTD, EXIT_DATA, EXIT_MISMATCH, check, plugin_path, wait_until)

CONNECTCTL = os.path.join(BUILD_DIR, "bin", "connectctl")


def refused(cluster, node_id, codes, *words):
    """The node ends with one of the codes, and has logged each of the words."""
    code = cluster.wait_exit(node_id)
    log = last_run(cluster, node_id)
    check(code in codes, f"node {node_id} ended with {code}, not with one of {codes}")
    for word in words:
        check(word in log, f"node {node_id} does not say '{word}'")


def waits(cluster, node_id, *words):
    """The node runs, is not ready, and its status says each of the words."""
    def reason():
        status = cluster.status(node_id) or {}
        return f"{status.get('reason', '')}: {status.get('remedy')}"
    wait_until(lambda: all(word in reason() for word in words),
               lambda: f"the status of node {node_id} says {words}: {reason()}")
    check(cluster.nodes[node_id].running and not cluster.status(node_id)["ready"], f"node {node_id} waits")


def last_run(cluster, node_id):
    return cluster.nodes[node_id].log().rsplit("---- start", 1)[1]


def still_serves(cluster, node_id, value):
    with cluster.line_client(node_id) as client:
        check(client.call(b"incr") == value, f"node {node_id} does not go on with {value}")


def counting(context):
    cluster = context.cluster("counter")
    cluster.start()
    with cluster.line_client(cluster.leader()) as client:
        check(client.call(b"incr") == b"1", "the counter does not begin with 1")
    cluster.wait_equal()
    return cluster


def test_second_daemon_on_one_directory(context):
    cluster = counting(context)
    other = harness.Node(1, cluster.directory)
    other.config_path = os.path.join(cluster.directory, "second.yaml")
    other.log_path = os.path.join(cluster.directory, "second.log")
    cluster.write_config(other, listen={"peer": f"127.0.0.1:{other.peer_port}",
                                        "client": f"127.0.0.1:{other.client_port}",
                                        "http": f"127.0.0.1:{other.http_port}"})
    first = cluster.nodes[1]
    cluster.nodes[9] = other
    try:
        cluster.start(9)
        refused(cluster, 9, (73, 75), "lock", str(first.process.pid))
    finally:
        del cluster.nodes[9]
    check(first.running, "the first daemon did not survive the second")
    still_serves(cluster, 1, b"2")


def test_wiped_disk(context):
    cluster = counting(context)
    victim = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
    cluster.kill(victim)
    shutil.rmtree(cluster.nodes[victim].data_dir)
    cluster.start(victim)
    waits(cluster, victim, f"member replace {victim}")
    survivor = cluster.leader()
    wait_until(lambda: "disk" in cluster.nodes[survivor].log(), f"node {survivor} says whom it refused and why")
    still_serves(cluster, survivor, b"2")


def test_data_without_their_identity(context):
    """A single node would found another cluster beside them."""
    cluster = context.cluster("counter", nodes=1)
    cluster.start()
    with cluster.line_client(cluster.leader()) as client:
        check(client.call(b"incr") == b"1", "the counter does not begin with 1")
    cluster.kill(1)
    directory = cluster.nodes[1].data_dir
    identity = os.path.join(directory, "identity")
    os.rename(identity, os.path.join(cluster.directory, "kept"))
    before = sorted(os.listdir(directory))
    cluster.start(1)
    refused(cluster, 1, (EXIT_DATA,), "identity is missing", "connectctl member replace 1", "snapshot restore FILE")
    check(sorted(os.listdir(directory)) == before, f"the start changed the directory: {os.listdir(directory)}")
    os.rename(os.path.join(cluster.directory, "kept"), identity)
    cluster.start(1)
    still_serves(cluster, cluster.leader(), b"2")


def test_another_cluster_name(context):
    cluster = counting(context)
    victim = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
    cluster.kill(victim)
    shutil.rmtree(cluster.nodes[victim].data_dir)
    cluster.write_config(cluster.nodes[victim], cluster={"name": "other"})
    cluster.start(victim)
    refused(cluster, victim, (EXIT_MISMATCH,), '"other"', '"test"', "cluster.name")
    wait_until(lambda: '"other"' in cluster.nodes[cluster.leader()].log(), "the leader says whom it refused")
    still_serves(cluster, cluster.leader(), b"2")


def test_another_cluster_name_over_existing_data(context):
    cluster = counting(context)
    victim = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
    cluster.kill(victim)
    cluster.write_config(cluster.nodes[victim], cluster={"name": "other"})
    cluster.start(victim)
    refused(cluster, victim, (EXIT_MISMATCH,), "belongs to cluster 'test'", "cluster.name is 'other'")
    still_serves(cluster, cluster.leader(), b"2")


def test_another_plugin_over_existing_data(context):
    cluster = counting(context)
    victim = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
    cluster.kill(victim)
    cluster.write_config(cluster.nodes[victim], plugin={"path": plugin_path("kv")})
    cluster.start(victim)
    # By itself, before any peer could: its log must not be applied to another plugin.
    refused(cluster, victim, (EXIT_MISMATCH,), "belongs to plugin 'counter'", "is plugin 'kv'")
    still_serves(cluster, cluster.leader(), b"2")


def test_another_plugin_on_an_empty_disk(context):
    """Before the cluster forms: the two matching nodes wait, and log which node they refused."""
    cluster = context.cluster("counter")
    cluster.write_config(cluster.nodes[3], plugin={"path": plugin_path("kv")})
    cluster.start()
    refused(cluster, 3, (EXIT_MISMATCH,), "counter", "kv")
    wait_until(lambda: '"kv"' in cluster.nodes[1].log(), "node 1 says whom it refused")
    check(cluster.nodes[1].running and cluster.nodes[2].running, "the two that fit did not stay")
    cluster.write_config(cluster.nodes[3])
    cluster.start(3)
    still_serves(cluster, cluster.leader(), b"1")


def test_data_of_another_node(context):
    """A directory copied, or mixed up, does not become a second node."""
    cluster = counting(context)
    for node_id in list(cluster.nodes):
        cluster.terminate(node_id)
    cluster.write_config(cluster.nodes[1], node={"data_dir": cluster.nodes[2].data_dir})
    cluster.start(1)
    refused(cluster, 1, (EXIT_DATA, EXIT_MISMATCH), "2")
    cluster.write_config(cluster.nodes[1])
    cluster.start()
    still_serves(cluster, cluster.leader(), b"2")


def strangers(cluster, *ids):
    """Each of these members is gone, and a cluster of one with another name has its addresses."""
    for node_id in ids:
        node = cluster.nodes[node_id]
        cluster.kill(node_id)
        node.data_dir += "-stranger"
        cluster.write_config(node, cluster={"name": f"other{node_id}", "bootstrap": "new", "members": [node.member()]})
        cluster.start(node_id)
    wait_until(lambda: all((cluster.status(node_id) or {}).get("ready") for node_id in ids), "the strangers serve")


def test_strangers_at_members_addresses_end_nobody(context):
    """First at one of three, then at two: the last member has no quorum, and waits."""
    cluster = counting(context)
    ids = list(cluster.nodes)
    context.random.shuffle(ids)
    strangers(cluster, ids[2])
    wait_until(lambda: f"other{ids[2]}" in cluster.nodes[ids[0]].log(), "the stranger is named")
    def shown():
        done = subprocess.run([CONNECTCTL, "-e", f"127.0.0.1:{cluster.nodes[ids[0]].http_port}", "status"],
                              capture_output=True, text=True, check=False)
        return done.stdout + done.stderr
    text = shown()
    check("CLUSTER test" in text and "STRANGER" in text and f"cluster 'other{ids[2]}'" in text, f"status shows {text}")
    with cluster.line_client(ids[0]) as client:
        check(client.call(b"incr") == b"2", "the two that are left do not go on")
    strangers(cluster, ids[1])
    waits(cluster, ids[0], "no known leader", "refused by node", "cluster.name")
    check(cluster.nodes[ids[0]].running, "the last member ended")
    for node_id in ids[1:]:
        cluster.terminate(node_id)
        cluster.nodes[node_id].data_dir = cluster.nodes[node_id].data_dir.removesuffix("-stranger")
        cluster.write_config(cluster.nodes[node_id])
        cluster.start(node_id)
    still_serves(cluster, cluster.leader(), b"3")


def test_copy_beside_its_original_is_refused(context):
    cluster = counting(context)
    original = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
    cluster.terminate(original)
    copy = harness.Node(original, cluster.directory)
    copy.config_path, copy.log_path, copy.data_dir = (f"{path}-copy" for path in
                                                      (copy.config_path, copy.log_path, copy.data_dir))
    copy.config_path += ".yaml"
    shutil.copytree(cluster.nodes[original].data_dir, copy.data_dir)
    members = [copy.member() if node.id == original else node.member() for node in cluster.nodes.values()]
    cluster.write_config(copy, cluster={"members": members})
    cluster.start(original)
    cluster.wait_equal()
    cluster.nodes[9] = copy
    try:
        cluster.start(9)
        refused(cluster, 9, (EXIT_MISMATCH,), f"two processes say that they are node {original}")
    finally:
        del cluster.nodes[9]
    still_serves(cluster, original, b"2")
    # A restart is no second process, also without a farewell.
    cluster.kill(original)
    cluster.start(original)
    cluster.wait_equal()
    still_serves(cluster, original, b"3")


def test_forming_waits_for_all_members_and_says_so(context):
    cluster = context.cluster("counter")
    cluster.start(1, 2)
    wait_until(lambda: "node 3" in (cluster.status(1) or {}).get("reason", ""),
               lambda: f"node 1 says that it waits for node 3; it says {cluster.status(1)}")
    check(cluster.get(1, "/readyz")[0] != 200, "/readyz says yes before there is a cluster")
    check(cluster.get(1, "/livez")[0] == 200, "/livez says no to a node that waits")
    cluster.start(3)
    still_serves(cluster, cluster.leader(), b"1")


def test_cluster_id_keeps_empty_disks_from_forming(context):
    """All three start without their disks; then two of them are mounted again, and let the third in."""
    cluster = context.cluster(nodes=3)
    cluster.start()
    leader = cluster.leader()
    with cluster.line_client(leader) as client:
        client.call(b"incr")
    found = cluster.status(leader)["cluster_id"]
    wait_until(lambda: any(f"cluster.id: {found}" in node.log() for node in cluster.nodes.values()), "the line to copy")
    for node in cluster.nodes.values():
        cluster.terminate(node.id)
        os.rename(node.data_dir, node.data_dir + ".disk")
        cluster.write_config(node, cluster={"id": found})
    cluster.start()
    for node in cluster.nodes.values():
        wait_until(lambda node=node: "this node forms no cluster" in node.log(), f"node {node.id} waits")
    time.sleep(1)
    for node in cluster.nodes.values():
        check(cluster.get(node.id, "/readyz")[0] == 503, f"node {node.id} is ready")
        check("is formed" not in node.log().rpartition("---- start")[2], f"node {node.id} formed a cluster")
    for node_id in (1, 2):
        node = cluster.nodes[node_id]
        cluster.terminate(node_id)
        shutil.rmtree(node.data_dir)
        os.rename(node.data_dir + ".disk", node.data_dir)
        cluster.start(node_id)
    leader = cluster.leader()
    with cluster.line_client(leader) as client:
        check(client.call(b"get") == b"1", "the value")
    done = subprocess.run([CONNECTCTL, "-e",
                           f"127.0.0.1:{cluster.nodes[leader].http_port}", "member", "replace", "3"], check=False)
    check(done.returncode == 0, f"member replace ends with {done.returncode}")
    wait_until(lambda: cluster.get(3, "/readyz")[0] == 200, "node 3 is let in")

    # The disk of another cluster.
    cluster.terminate(2)
    cluster.write_config(cluster.nodes[2], cluster={"id": "ab" * 16})
    cluster.start(2)
    check(cluster.wait_exit(2) == EXIT_MISMATCH, "the exit code")
    for text in (f"set cluster.id: {found}", "cluster.id is " + "ab" * 16):
        check(text in cluster.nodes[2].log(), f"the text: {text}")
    checked = subprocess.run([CONNECTD, "--config", cluster.nodes[2].config_path, "--check"], capture_output=True, text=True,
                             check=False)
    check(checked.returncode == EXIT_MISMATCH, f"--check ends with {checked.returncode}")
    check(f"set cluster.id: {found}" in checked.stderr, checked.stderr)
    cluster.write_config(cluster.nodes[2], cluster={"id": found})
    checked = subprocess.run([CONNECTD, "--config", cluster.nodes[2].config_path, "--check"], check=False)
    check(checked.returncode == 0, f"--check of the right id ends with {checked.returncode}")


if __name__ == "__main__":
    harness.main(globals())

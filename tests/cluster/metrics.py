"""GET /metrics of real nodes: what Prometheus takes, and numbers that are true."""

import glob
import json
import os
import re
import shutil
import signal
import subprocess
import time

import harness
from harness import Skip, check, wait_until
from membership import CONNECTCTL

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ALERTS = os.path.join(SOURCE, "conf", "prometheus", "connectd-alerts.yml")
DASHBOARD = os.path.join(SOURCE, "conf", "grafana", "connectd.json")
SAMPLE = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (\S+)$')


def promtool(*words, data=None, directory=SOURCE):
    path = shutil.which("promtool") or os.environ.get("PROMTOOL")
    if not path:
        raise Skip("promtool is not installed")
    done = subprocess.run([path, *words], input=data, capture_output=True, text=True, cwd=directory, timeout=120,
                          check=False)
    check(done.returncode == 0, f"promtool {' '.join(words)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def scrape(cluster, node_id):
    status, text = cluster.get(node_id, "/metrics")
    check(status == 200, f"/metrics is {status}")
    return scrape_text(text)


def scrape_text(text):
    """{name{labels}: value}"""
    samples = {}
    for line in text.decode().splitlines():
        if line.startswith("#"):
            continue
        found = SAMPLE.match(line)
        check(found, f"not a sample: {line}")
        samples[found[1] + ("{" + found[2] + "}" if found[2] else "")] = float(found[3])
    return samples


def test_numbers_are_true(context):
    cluster = context.cluster("counter")
    cluster.start()
    leader = cluster.leader()
    follower = next(node_id for node_id in cluster.nodes if node_id != leader)
    cluster.wait_equal()
    before = scrape(cluster, leader)
    with cluster.line_client(leader) as client:
        for _ in range(50):
            client.call(b"incr")
        for _ in range(20):
            client.call(b"get")
        after = scrape(cluster, leader)

        def grew(name):
            return after[name] - before[name]
        check(grew('connectd_requests_total{code="OK"}') == 70, "70 requests")
        check(grew('connectd_request_duration_seconds_count{op="write"}') == 50, "50 writes")
        check(grew('connectd_request_duration_seconds_count{op="read"}') == 20, "20 reads")
        check(grew('connectd_plugin_call_duration_seconds_count{call="apply"}') >= 50, "50 calls of apply")
        # The leader's disk may be behind those of the others.
        wait_until(lambda: scrape(cluster, leader)["connectd_raft_append_batch_entries_sum"] >=
                   before["connectd_raft_append_batch_entries_sum"] + 50, "50 entries are durable")
        check(scrape(cluster, leader)["connectd_wal_fsync_duration_seconds_count"] >
              before["connectd_wal_fsync_duration_seconds_count"], "by a sync")
        check(grew("connectd_commit_duration_seconds_count") >= 50, "50 commits")
        check(grew("connectd_wal_write_bytes_total") > 0, "bytes of the log")
        check(after["connectd_raft_elections_total"] >= 1, "the leader was elected")
        status = cluster.status(leader)
        wait_until(lambda: scrape(cluster, leader)["connectd_clients_connected"] == 1, "one client is connected")
    check(after["connectd_raft_is_leader"] == 1 and after["connectd_raft_term"] == status["term"], "leader and term")
    wait_until(lambda: scrape(cluster, leader)["connectd_raft_failure_tolerance"] == 1, "one of three may fail")
    other = scrape(cluster, follower)
    check(other["connectd_raft_is_leader"] == 0 and "connectd_raft_failure_tolerance" not in other, "a follower")
    check(other["connectd_raft_leader_changes_total"] >= 1, "it learned of a leader")
    check(other[f'connectd_net_received_bytes_total{{peer="{leader}"}}'] > 0, "it received bytes from the leader")
    cluster.kill(follower)
    wait_until(lambda: scrape(cluster, leader)["connectd_raft_failure_tolerance"] == 0, "one has failed")
    wait_until(lambda: scrape(cluster, leader)[f'connectd_net_connections_lost_total{{peer="{follower}"}}'] >= 1,
               "its connection was lost")


def test_outcome_of_the_last_reload(context):
    cluster = context.cluster("counter", nodes=1)
    node = cluster.nodes[1]
    cluster.start()
    cluster.leader()

    def reload(succeeds, **changes):
        cluster.write_config(node, **changes)
        cluster.signal(1, signal.SIGHUP)
        wait_until(lambda: scrape(cluster, 1)["connectd_config_last_reload_success"] == succeeds, f"a reload: {succeeds}")
        return scrape(cluster, 1)["connectd_config_last_reload_timestamp_seconds"]

    check(scrape(cluster, 1)["connectd_config_last_reload_timestamp_seconds"] == 0, "before the first one")
    refused = reload(0, auth={"tokens": os.path.join(cluster.directory, "none")})
    accepted = reload(1)
    check(time.time() - 60 < refused <= accepted <= time.time(), f"{refused}, then {accepted}")


def test_prometheus_takes_all(context):
    cluster = context.cluster("counter", nodes=1)
    cluster.start()
    cluster.leader()
    wait_until(lambda: cluster.get(1, "/readyz")[0] == 200, "it is ready")
    text = cluster.get(1, "/metrics")[1].decode()
    said = promtool("check", "metrics", data=text)
    check(not said.strip(), f"promtool says: {said}")
    promtool("check", "rules", ALERTS)
    promtool("test", "rules", "alerts_test.yml", directory=os.path.join(SOURCE, "tests", "prometheus"))


def test_metrics_of_the_plugin(context):
    """kv's own, on every node; they begin anew after a restart, and a gauge tells the state that was loaded."""
    cluster = context.cluster("kv")
    cluster.start()
    leader = cluster.leader()
    with cluster.resp_client(leader) as client:
        for number in range(20):
            client.call("SET", f"key{number}", "value")
        client.call("PEXPIRE", "key0", "1")
        wait_until(lambda: client.call("DBSIZE") == 19, "a key has expired")
    cluster.wait_equal()
    for node_id in cluster.nodes:
        wait_until(lambda node=node_id: scrape(cluster, node)["plugin_kv_keys"] == 19, f"19 keys on node {node_id}")
        samples = scrape(cluster, node_id)
        check(samples["plugin_kv_expired_total"] == 1, f"one expired on node {node_id}")
        check(samples["plugin_kv_memory_bytes"] > 19 * 9, f"memory of node {node_id}")
    taken = subprocess.run([CONNECTCTL, "-e", f"127.0.0.1:{cluster.nodes[leader].http_port}", "snapshot", "take"],
                           capture_output=True, text=True, timeout=30, check=False)
    check(taken.returncode == 0, f"snapshot take: {taken.stdout}{taken.stderr}")
    cluster.kill(leader)
    cluster.start(leader)
    wait_until(lambda: (cluster.get(leader, "/readyz") or (0,))[0] == 200, "it is ready again")
    wait_until(lambda: scrape(cluster, leader)["plugin_kv_keys"] == 19, "19 keys after the restart")
    said = promtool("check", "metrics", data=cluster.get(leader, "/metrics")[1].decode())
    check(not said.strip(), f"promtool says: {said}")


def test_names_that_others_use_exist(context):
    """Alerts and the dashboard: each metric of theirs is in docs/metrics.md, and each alert has its runbook and tests."""
    del context
    with open(os.path.join(SOURCE, "docs", "metrics.md"), encoding="utf-8") as file:
        known = set(re.findall(r"^\| `([a-z_]+)`", file.read(), re.M))
    with open(ALERTS, encoding="utf-8") as file:
        alerts = file.read()
    with open(DASHBOARD, encoding="utf-8") as file:
        dashboard = json.load(file)
    texts = [alerts] + [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = {re.sub(r"_(bucket|count|sum)$", "", name) for text in texts
            for name in re.findall(r"\b((?:connectd|process)_[a-z_]+)\b", text) if name != "connectd_token"}
    check(used and used <= known, f"unknown metrics: {used - known}")
    with open(os.path.join(SOURCE, "docs", "runbooks.md"), encoding="utf-8") as file:
        runbooks = file.read()
    with open(os.path.join(SOURCE, "tests", "prometheus", "alerts_test.yml"), encoding="utf-8") as file:
        tests = file.read()
    names = re.findall(r"- alert: (\w+)", alerts)
    for name in names:
        check(f"\n## {name}\n" in runbooks, f"{name} has no runbook")
        check(f"alertname: {name}," in tests, f"{name} has no test that it stays silent")
    check(f"value: {len(names)}" in tests, "the number of alerts that fire")
    check(len(glob.glob(os.path.join(SOURCE, "conf", "prometheus", "*.yml"))) == 1, "one file of alerts")


if __name__ == "__main__":
    harness.main(globals())

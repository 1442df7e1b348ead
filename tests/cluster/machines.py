"""Several machines: a network namespace for each node, joined by a bridge, each node with its own address.

Needs root, for the namespaces; without it every test says so and counts as skipped. The test itself moves into
the namespace of the bridge, which stands for a further machine. All namespaces end with the test.
"""

import contextlib
import ctypes
import json
import os
import subprocess
import time

import harness
from harness import BUILD_DIR, Skip, check, wait_until

CONNECTCTL = os.path.join(BUILD_DIR, "bin", "connectctl")
CLONE_NEWNET = 0x40000000
PEER, CLIENT, HTTP = 7101, 7201, 7301
FURTHER_MACHINE = "10.99.0.1"


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    check(done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


class Machines:
    """Node i is alone on a machine at 10.99.0.1i, with the ports of the manual."""

    def __init__(self, cluster, further=()):
        self.cluster = cluster
        self.name = f"connectd-{os.getpid()}"
        self.made = []
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.further = list(further)  # ids of machines without a node yet

    def __enter__(self):
        hub = self._namespace("hub")
        run("ip", "-n", hub, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", hub, "addr", "add", f"{FURTHER_MACHINE}/24", "dev", "br0")
        run("ip", "-n", hub, "link", "set", "br0", "up")
        for machine in [*self.cluster.nodes, *self.further]:
            space = self._namespace(str(machine))
            run("ip", "-n", hub, "link", "add", f"m{machine}", "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "-n", hub, "link", "set", f"m{machine}", "master", "br0", "up")
            run("ip", "-n", space, "addr", "add", f"{address(machine)}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "eth0", "up")
        for node in self.cluster.nodes.values():
            self.place(node)
        for node in self.cluster.nodes.values():
            self.cluster.write_config(node)
        self._enter(os.open(f"/run/netns/{hub}", os.O_RDONLY))
        return self

    def __exit__(self, *_):
        for node in self.cluster.nodes.values():
            if node.running:
                self.cluster.kill(node.id)
        self._enter(self.home)
        for space in reversed(self.made):
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)

    def place(self, node):
        node.host = address(node.id)
        node.peer_port, node.client_port, node.http_port = PEER, CLIENT, HTTP
        node.wrap = ["ip", "netns", "exec", self.space(node.id)]

    def space(self, machine):
        return f"{self.name}-{machine}"

    def on(self, machine, *command, seconds=60, **options):
        """(exit code, standard output, standard error) of a command that an operator types there."""
        done = subprocess.run(["ip", "netns", "exec", self.space(machine), *command], capture_output=True, text=True,
                              check=False, timeout=seconds, **options)
        return done.returncode, done.stdout, done.stderr

    def cut(self, one, other):
        """No packet passes between the two any more."""
        for here, there in ((one, other), (other, one)):
            run("ip", "-n", self.space(here), "route", "add", "blackhole", address(there) + "/32")

    def connectctl(self, machine, *words, seconds=60):
        """With the node's configuration where the package puts it, in a mount namespace of the command's own."""
        config = self.cluster.nodes[machine].config_path
        script = f"mount -t tmpfs none /etc && mkdir /etc/connectd && cp {config} /etc/connectd/ && exec \"$@\""
        return self.on(machine, "unshare", "-m", "sh", "-c", script, "sh", CONNECTCTL, *words, seconds=seconds)

    def _namespace(self, name):
        space = f"{self.name}-{name}"
        run("ip", "netns", "add", space)
        self.made.append(space)
        run("ip", "-n", space, "link", "set", "lo", "up")
        return space

    def _enter(self, descriptor):
        library = ctypes.CDLL(None, use_errno=True)
        check(library.setns(descriptor, CLONE_NEWNET) == 0, f"setns: {os.strerror(ctypes.get_errno())}")
        os.close(descriptor)


def address(machine):
    return f"10.99.0.1{machine}"


@contextlib.contextmanager
def machines_of(cluster, further=()):
    if os.geteuid() != 0:
        raise Skip("network namespaces need root")
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode != 0:
        raise Skip("no network namespaces here")
    with Machines(cluster, further) as machines:
        yield machines


def good(outcome, what):
    code, out, err = outcome
    check(code == 0, f"{what}: exit {code}: {out}{err}")
    return out


def test_every_verb_on_the_nodes_own_machine(context):
    """As an operator types them: no -e, the configuration in /etc/connectd, nothing listens on 127.0.0.1."""
    cluster = context.cluster("counter")
    with machines_of(cluster, further=[4]) as machines:
        cluster.start()
        leader = cluster.leader()
        for machine in cluster.nodes:
            out = good(machines.connectctl(machine, "status"), "status")
            check("healthy" in out, f"status on machine {machine}: {out}")
        good(machines.connectctl(leader, "call", "incr"), "call")
        good(machines.connectctl(leader, "member", "list"), "member list")
        good(machines.connectctl(leader, "leader", "show"), "leader show")
        good(machines.connectctl(leader, "settings", "list"), "settings list")
        # From a follower's machine: its node passes the change on.
        follower = next(node_id for node_id in cluster.nodes if node_id != leader)
        good(machines.connectctl(follower, "settings", "set", "raft.lease_reads", "true"), "settings set")
        good(machines.connectctl(follower, "leader", "transfer"), "leader transfer")
        cluster.leader()
        good(machines.connectctl(follower, "snapshot", "take"), "snapshot take")
        good(machines.connectctl(follower, "snapshot", "list"), "snapshot list")
        backup = os.path.join(cluster.directory, "backup.snapshot")
        good(machines.connectctl(follower, "snapshot", "save", backup, "--fresh"), "snapshot save")
        check(os.path.getsize(backup) > 0, "the backup is empty")

        # A fourth machine.
        node = harness.Node(4, cluster.directory)
        machines.place(node)
        cluster.nodes[4] = node
        cluster.write_config(node, cluster={"bootstrap": "join"})
        cluster.start(4)
        where = [f"--{name}={address(4)}:{port}" for name, port in (("peer", PEER), ("client", CLIENT), ("http", HTTP))]
        good(machines.connectctl(1, "member", "add", "4", *where, "--learner"), "member add")
        good(machines.connectctl(1, "member", "promote", "4"), "member promote")
        cluster.kill(4)
        os.rename(node.data_dir, node.data_dir + ".lost")
        done = subprocess.Popen(["ip", "netns", "exec", machines.space(1), CONNECTCTL, "-e", f"{address(1)}:{HTTP}",
                                 "member", "replace", "4"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait_until(lambda: not disk_of(cluster, 4), "the disk of node 4 is forgotten")
        cluster.start(4)
        check(done.wait(60) == 0, f"member replace: {done.stdout.read()}")
        good(machines.connectctl(1, "member", "remove", "4"), "member remove")
        check(cluster.wait_exit(4) == harness.EXIT_MISMATCH, "the removed node ends with 76")
        # The commands that ask every node's port also work from anywhere.
        check(subprocess.run([CONNECTCTL, "-e", f"{address(1)}:{HTTP}", "status"], check=False,
                             capture_output=True).returncode == 0, "status from a further machine")


def disk_of(cluster, member):
    for status in cluster.statuses().values():
        if status["role"] == "leader":
            return next(m["disk"] for m in status["members"] if m["id"] == member)
    return "unknown"


def test_other_machines_change_nothing(context):
    """The admin routes are closed to other machines; of several nodes connectctl asks the local one."""
    cluster = context.cluster("counter")
    with machines_of(cluster) as machines:
        cluster.start()
        cluster.leader()
        backup = os.path.join(cluster.directory, "backup.snapshot")
        all_nodes = ",".join(f"{address(i)}:{HTTP}" for i in cluster.nodes)
        verbs = (["settings", "set", "raft.lease_reads", "true"], ["leader", "transfer"],
                 ["member", "remove", "3"], ["snapshot", "take"], ["snapshot", "list"], ["snapshot", "save", backup])
        for verb in verbs:
            done = subprocess.run([CONNECTCTL, "-e", all_nodes, *verb], capture_output=True, text=True, check=False,
                                  timeout=60)
            check(done.returncode == 1, f"{verb} from a further machine: exit {done.returncode}: {done.stderr}")
            check("this machine only" in done.stderr, f"{verb} does not say why: {done.stderr}")
        check(not os.path.exists(backup), "a backup was written")
        for verb in (verbs[0], verbs[3], verbs[4], verbs[5]):
            code, out, err = machines.on(3, CONNECTCTL, "-e", all_nodes, *verb)
            check(code == 0, f"{verb} on machine 3: exit {code}: {out}{err}")
            check(f"{address(3)}:{HTTP}" in out + err, f"{verb} does not say which node it asked: {out}{err}")
        # An address of this machine that is not the one the connection was made to is no proof.
        code, out, _ = machines.on(3, "curl", "-s", "-H", "X-Connect-Request: 1", "-H",
                                   "Content-Type: application/json", "-d", json.dumps({"action": "list"}),
                                   "-H", f"Host: {address(1)}:{HTTP}", f"http://{address(1)}:{HTTP}/v1/admin/snapshot")
        check(code == 0 and json.loads(out)["code"] == "NOTLOCAL", f"node 1 answered machine 3: {out}")


NGINX = """
daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/t; proxy_temp_path {directory}/t; fastcgi_temp_path {directory}/t;
  uwsgi_temp_path {directory}/t; scgi_temp_path {directory}/t;
  server {{ listen {host}:80; location / {{ proxy_pass http://{host}:7301; }} }}
  server {{ listen {host}:81; location / {{ proxy_pass http://{host}:7301; proxy_set_header Host $host;
                                           proxy_set_header X-Forwarded-For $remote_addr; }} }}
}}
"""


def test_a_proxy_on_the_machine(context):
    """What nginx lets other machines do: a proxy that names itself opens calls only; one that does not is this machine,
    unless http.admin is off."""
    if subprocess.run(["sh", "-c", "command -v nginx"], capture_output=True, check=False).returncode != 0:
        raise Skip("nginx is not installed")
    cluster = context.cluster("counter", nodes=1, settings={"http": {"hosts": ["db.example.org"]}})
    with machines_of(cluster) as machines:
        cluster.start()
        cluster.leader()
        os.makedirs(os.path.join(cluster.directory, "t"))
        config = os.path.join(cluster.directory, "nginx.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(NGINX.format(directory=cluster.directory, host=address(1)))
        proxy = subprocess.Popen(["ip", "netns", "exec", machines.space(1), "nginx", "-p", cluster.directory, "-c", config])
        try:
            def ask(port, path, body, host=None):
                done = subprocess.run(["curl", "-s", "-m", "10", "-w", "\n%{http_code}", "-H", "X-Connect-Request: 1",
                                       "-H", "Content-Type: application/json", *(["-H", f"Host: {host}"] if host else []),
                                       "-d", body, f"http://{address(1)}:{port}{path}"],
                                      capture_output=True, text=True, check=False)
                text, _, code = done.stdout.rpartition("\n")
                return int(code or 0), text
            wait_until(lambda: ask(80, "/v1/call", "get")[0] == 200, "nginx passes a call on")
            listing = json.dumps({"action": "list"})
            # Plain: the Host is the node's own address, and so is the source address.
            check(ask(80, "/v1/admin/snapshot", listing)[0] == 200, "a proxy that does not name itself is this machine")
            # With the client's Host and the usual header.
            check(ask(81, "/v1/call", "incr", host="db.example.org")[0] == 200, "a name of http.hosts opens calls")
            code, text = ask(81, "/v1/call", "incr", host="evil.example")
            check(code == 403 and "http.hosts" in text, f"a foreign name: {code} {text}")
            for host in ("db.example.org", f"{address(1)}:{HTTP}", None):
                code, text = ask(81, "/v1/admin/snapshot", listing, host=host)
                check(code == 403, f"through a proxy that names itself, as {host}: {code} {text}")

            cluster.terminate(1)
            cluster.write_config(cluster.nodes[1], http={"admin": "off", "hosts": ["db.example.org"]})
            cluster.start(1)
            cluster.leader()
            code, text = ask(80, "/v1/admin/snapshot", listing)
            check(code == 403 and "http.admin: off" in text, f"http.admin: off: {code} {text}")
            check(ask(80, "/v1/call", "get")[0] == 200, "calls are not its matter")
        finally:
            proxy.terminate()
            proxy.wait(10)


def test_given_up_disk_is_no_second_voter(context):
    """Node 3 is replaced on machine 4, without its old process being stopped; node 2 hears of the new one, but can
    reach only the old one. When node 2 is cut off from node 1, it must not win an election with the old one's vote:
    node 1 leads with the new one, and there would be two histories."""
    cluster = context.cluster("counter")
    with machines_of(cluster, further=[4]) as machines:
        cluster.start()
        if cluster.leader() != 1:
            good(machines.connectctl(2, "leader", "transfer", "--to", "1"), "leader transfer")
            wait_until(lambda: cluster.leader() == 1, "node 1 leads")
        new = harness.Node(3, cluster.directory)
        new.config_path, new.data_dir, new.log_path = (path + ".new" for path in (new.config_path, new.data_dir,
                                                                                  new.log_path))
        new.host, new.wrap = address(4), ["ip", "netns", "exec", machines.space(4)]
        new.peer_port, new.client_port, new.http_port = PEER, CLIENT, HTTP
        members = [cluster.nodes[1].member(), cluster.nodes[2].member(), new.member()]
        with open(new.config_path, "w", encoding="utf-8") as file:
            file.write(harness.to_yaml(cluster.config(new, cluster={"members": members})) + "\n")
        machines.cut(1, 3)
        machines.cut(2, 4)
        wait_until(lambda: not next(peer for peer in cluster.status(1)["peers"] if peer["id"] == 3)["active"],
                   "node 1 has lost node 3")
        # Node 2 reaches the HTTP ports of both; the leader has lost node 3.
        out, err = machines.connectctl(2, "status")[1:]
        check("degraded   can lose 0 more" in out and "gets no answer from it" in err, f"{out} {err}")

        def third(status, voter):
            return status is not None and any(member["id"] == 3 and member["voter"] is voter and
                                              (bool(member["disk"]) or not voter) for member in status["members"])
        where = [f"--{name}={address(4)}:{port}" for name, port in (("peer", PEER), ("client", CLIENT), ("http", HTTP))]

        def replaced():
            machines.connectctl(1, "--timeout", "2s", "member", "replace", "3", *where)
            return third(cluster.status(1), False)
        wait_until(replaced, "node 3 votes no more")
        with open(new.log_path, "ab") as log:
            process = subprocess.Popen([*new.wrap, harness.CONNECTD, "--config", new.config_path],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_until(lambda: all(third(cluster.status(node_id), True) for node_id in (1, 2)),
                       "nodes 1 and 2 know node 3 with its new disk")
            check(cluster.nodes[3].running, "the old process of node 3 runs on")
            wait_until(lambda: "refuses it" in (cluster.status(3) or {}).get("reason", ""), lambda: f"{cluster.status(3)}")
            check(cluster.status(3)["remedy"] is None, "it is not told to recover a cluster that works")
            check(good(machines.connectctl(1, "call", "incr"), "call") == "1\n", "a write with the new node 3")
            machines.cut(1, 2)
            term = cluster.status(2)["term"]
            deadline = time.monotonic() + 5  # an election takes half a second here
            while time.monotonic() < deadline:
                status = cluster.status(2)
                check(status["role"] != "leader", f"node 2 leads in term {status['term']}, after {term}")
                time.sleep(0.05)
            check(cluster.status(1)["role"] == "leader", "node 1 leads with the new node 3")
            check(good(machines.connectctl(1, "call", "incr"), "call") == "2\n", "a second write with the new node 3")
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    harness.main(globals())

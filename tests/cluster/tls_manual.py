"""What docs/operations.md says of TLS and tokens, typed on the machines of three_machines.py.

The section "TLS on three machines" from its first command to its last: from a plain cluster to TLS, tokens, and an authority
of production. What must fail afterwards is the test's own. Then the commands of the sections that explain the parts. `scp` is
a stand-in that asks a server on the other machine. Needs root.
"""

import contextlib
import os
import shutil
import subprocess

import harness
import three_machines
from harness import BUILD_DIR, Skip, check, wait_until

SECTION = "## TLS on three machines\n"
NODES = ("db1", "db2", "db3")

# One file for a connection: a line of JSON, then its bytes, one way or the other.
FILE_SERVER = '''
import json, os, socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        line = self.rfile.readline()
        if not line:
            return
        asked = json.loads(line)
        path = asked["path"]
        if asked["verb"] == "get":
            self.wfile.write(open(path, "rb").read())
            return
        # As scp: a file that is there keeps its owner and its mode.
        with open(path, "wb", opener=lambda name, flags: os.open(name, flags, asked["mode"])) as file:
            file.write(self.rfile.read())
        self.wfile.write(b"ok")
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server(("0.0.0.0", 22), Handler).serve_forever()
'''
SCP = '''#!/usr/bin/env python3
import json, os, re, socket, sys
source, target = sys.argv[1:]
is_put = ":" in target
machine, path = (target if is_put else source).split(":", 1)
address = "10.0.0.1" + re.fullmatch(r"db([1-3])", machine).group(1)
mode = os.stat(source).st_mode & 0o777 if is_put else 0
with socket.create_connection((address, 22), timeout=20) as link:
    link.sendall(json.dumps({"verb": "put" if is_put else "get", "path": path, "mode": mode}).encode() + b"\\n")
    if is_put:
        link.sendall(open(source, "rb").read())
    link.shutdown(socket.SHUT_WR)
    answer = link.makefile("rb").read()
if is_put and answer != b"ok" or not is_put and not answer:
    sys.exit(f"scp {source} {target}: failed")
if not is_put:
    open(target, "wb").write(answer)
'''


@contextlib.contextmanager
def copies_by_scp(by_name):
    """`scp` on admin, to and from the nodes."""
    scp = by_name["admin"].root / "usr/bin/scp"
    scp.unlink(missing_ok=True)
    scp.write_text(SCP, encoding="utf-8")
    scp.chmod(0o755)
    servers = []
    try:
        for name in NODES:
            enter = ["nsenter", "--target", by_name[name].pid, "--mount", "--net", "--root", "--wd=/"]
            servers.append(subprocess.Popen([*enter, "python3", "-c", FILE_SERVER]))
        wait = "for n in 1 2 3; do until (: < /dev/tcp/10.0.0.1$n/22) 2> /dev/null; do sleep 0.05; done; done"
        check(by_name["admin"].type(wait)[0] == 0, "the file servers")
        yield
    finally:
        for server in servers:
            server.kill()
            server.wait()


def plain_cluster(by_name, home):
    """As "Three machines" makes it, until it adds a machine."""
    for block in three_machines.blocks_of_the_manual():
        if block.where == ["build"]:
            three_machines.type_build_block(block, home, by_name)
        elif block.where == ["db4"]:
            return
        else:
            three_machines.type_block(block, by_name)
    check(False, "the section 'Three machines' adds no machine")


def fails_with(machine, command, *words):
    code, printed, errors = machine.type(command)
    said = " ".join(printed) + errors
    check(code not in (0, 127) and all(word in said for word in words), f"{command}: exit {code}: {said}")


def old_credentials_fail(by_name):
    """On each node: the certificate of the operator, that of the nodes, and the removed token."""
    admin = by_name["admin"]
    old = "--cert /root/dev/client-operator.pem --key /root/dev/client-operator.key"
    for number in (1, 2, 3):
        ask = f"connectctl -e 10.0.0.1{number}:7301 --cacert /root"
        fails_with(admin, f"{ask}/prod/ca.pem {old} call get", "unknown CA")
        fails_with(admin, f"{ask}/dev/ca.pem --token-file /root/backup02 snapshot list", "is of no CA in /root/dev/ca.pem")
        fails_with(admin, f"{ask}/prod/ca.pem --token-file /root/backup01 snapshot list", "the token is not good")
        fails_with(admin, f"curl -sSf http://10.0.0.1{number}:7301/readyz", "400")
    # A node that comes back with its old files is refused by the others, which serve without it.
    db1, db3 = by_name["db1"], by_name["db3"]
    typed(db3, "cd /etc/connectd/tls && mkdir aside && mv node.pem node.key aside")
    for kind in ("pem", "key"):
        (db3.root / f"etc/connectd/tls/node.{kind}").write_bytes((admin.root / f"root/dev/node-3.{kind}").read_bytes())
    typed(db3, "cd /etc/connectd/tls && chown connectd: node.key && chmod 600 node.key")
    begin = len(db1.log())
    typed(db3, "systemctl restart connectd@orders")
    wait_until(lambda: "TLS handshake failed" in db1.log()[begin:] and "orders development" in db1.log()[begin:],
               "db1 refuses the old certificate of db3")
    fails_with(db3, "curl -sSf -o /dev/null --cacert /etc/connectd/tls/ca.pem https://10.0.0.13:7301/readyz", "certificate")
    check(typed(admin, "connectctl --context prod call get") == ["2"], "the others do not serve")
    typed(db3, "cd /etc/connectd/tls && mv aside/node.pem aside/node.key . && systemctl reload connectd@orders")
    ready = "curl -sSf -o /dev/null --cacert /root/prod/ca.pem https://10.0.0.13:7301/readyz"
    wait_until(lambda: admin.type(ready)[0] == 0, "db3 is ready with its new files")


def typed(machine, command):
    code, printed, errors = machine.type(command)
    check(code == 0, f"{machine.name}: {command}: exit {code}: {errors}")
    return printed


def test_section_of_the_manual(context):
    blocks = three_machines.blocks_of_the_manual(SECTION)
    directory = context.cluster("counter", nodes=1).directory
    home = three_machines.build_machine(directory)
    with three_machines.machines(directory) as by_name:
        by_name["admin"] = by_name["db4"]
        plain_cluster(by_name, home)
        with copies_by_scp(by_name):
            for block in blocks:
                three_machines.type_block(block, by_name)
        for name in NODES:
            log = by_name[name].log()
            check("reload rejected" not in log, f"{name} rejected a reload:\n{log[-3000:]}")
            check("begins TLS" not in log and "only inside TLS" not in log, f"{name} refused another one:\n{log[-3000:]}")
        status = "\n".join(typed(by_name["admin"], "connectctl --context prod status"))
        check("healthy" in status and "plain" not in status, status)
        old_credentials_fail(by_name)


# Sections whose commands are examples of one thing each.
OTHER_SECTIONS = ("## TLS between nodes\n", "## TLS for clients and HTTP\n", "## Who may do what\n", "## Certificates\n")
DEMO = """
node: {id: 1, data_dir: /root/demo/data}
cluster: {name: demo, members: [{id: 1, peer: "10.0.0.11:7101", client: "10.0.0.11:7201", http: "10.0.0.11:7301"}]}
plugin: {path: /usr/lib/connectd/plugins/libkv.so}
tls:
  client: {mode: require, cert: pki/node-1.pem, key: pki/node-1.key}
  http: {mode: require, cert: pki/node-1.pem, key: pki/node-1.key, ca: pki/ca.pem}
auth: {anonymous: [read, write, monitor]}
"""


def begin_demo(machine):
    """A node of kv at db1.example.org, with the certificates that "TLS between nodes" makes."""
    (machine.root / "root/demo/demo.yaml").write_text(DEMO, encoding="utf-8")
    typed(machine, "cd /root/demo && cp pki/ca.pem . && connectd --check --config demo.yaml && "
                   "(setsid connectd --config demo.yaml < /dev/null > node.log 2>&1 &) && "
                   "curl -fsS --retry 60 --retry-delay 1 --retry-all-errors --cacert ca.pem https://db1.example.org:7301/readyz")


def test_commands_of_other_sections(context):
    if shutil.which("redis-cli") is None:
        raise Skip("redis-cli is not installed")
    directory = context.cluster("kv", nodes=1).directory
    home = three_machines.build_machine(directory)
    with three_machines.machines(directory) as by_name:
        db1 = by_name["db1"]
        for block in three_machines.blocks_of_the_manual()[:2]:
            if block.where == ["build"]:
                three_machines.type_build_block(block, home, by_name)
            else:
                block.where = ["db1"]
                three_machines.type_block(block, by_name)
        shutil.copy(os.path.join(BUILD_DIR, "plugins", "libkv.so"), db1.root / "usr/lib/connectd/plugins")
        typed(db1, "mkdir /root/demo && echo 10.0.0.11 db1.example.org >> /etc/hosts")
        for section in OTHER_SECTIONS:
            for block in three_machines.blocks_of_the_manual(section):
                three_machines.type_block(block, by_name, directory="/root/demo")
            if section == "## TLS between nodes\n":
                begin_demo(db1)


if __name__ == "__main__":
    harness.main(globals())

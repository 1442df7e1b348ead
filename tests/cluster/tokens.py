"""Tokens: each role against each route, what a reload takes and refuses, the audit lines, and no secret anywhere."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time

import harness
from harness import BUILD_DIR, CONNECTD, EXIT_CONFIG, EXIT_PERMISSION, check, wait_until

CONNECTCTL = os.path.join(BUILD_DIR, "bin", "connectctl")
ROLES = ("read", "write", "admin", "monitor", "backup")
PROBES = ("/livez", "/readyz", "/leaderz")
# (method, target, body) -> roles of which one is enough. The bodies of admin verbs are refused after the check.
ROUTES = {
    ("GET", "/livez", b""): None,
    ("GET", "/readyz", b""): None,
    ("GET", "/leaderz", b""): None,
    ("GET", "/livez?verbose", b""): {"monitor"},
    ("GET", "/readyz?verbose", b""): {"monitor"},
    ("GET", "/leaderz?verbose", b""): {"monitor"},
    ("GET", "/metrics", b""): {"monitor"},
    ("GET", "/v1/status", b""): {"monitor"},
    ("GET", "/v1/cluster", b""): {"monitor"},
    ("POST", "/v1/call", b"get"): {"read"},
    ("POST", "/v1/call", b"incr"): {"write"},
    ("POST", "/v1/admin/members", b"{}"): {"admin"},
    ("POST", "/v1/admin/leader", b"{}"): {"admin"},
    ("POST", "/v1/admin/settings", b"{}"): {"admin"},
    ("POST", "/v1/admin/snapshot", b'{"action": "list"}'): {"backup"},
}


def ctl(*words, token=None, code=0, text=""):
    environment = {k: v for k, v in os.environ.items() if k != "CONNECTCTL_TOKEN"}
    if token is not None:
        environment["CONNECTCTL_TOKEN"] = token
    done = subprocess.run([CONNECTCTL, *words], input=text, env=environment, capture_output=True, text=True, timeout=60)
    check(done.returncode == code, f"connectctl {words} ended with {done.returncode}: {done.stderr}")
    return done


class Tokens:
    """A token file, and the texts of its tokens."""

    def __init__(self, context, plugin="counter"):
        self.cluster = context.cluster(plugin, nodes=1)
        self.path = os.path.join(self.cluster.directory, "tokens")
        self.texts = {}
        for role in ROLES:
            self.new(role, role)

    def new(self, name, roles, *options):
        made = ctl("token", "new", "--file", self.path, "--id", f"{name}0000"[:12], "--roles", roles, *options)
        self.texts[name] = made.stdout.strip()
        return self.texts[name]

    def start(self, *ids, anonymous=(), **changes):
        """`anonymous`: the roles of callers without a token; `changes`: sections of the configuration."""
        auth = {"tokens": self.path, **({"anonymous": list(anonymous)} if anonymous else {})}
        for node in self.cluster.nodes.values():
            self.cluster.write_config(node, auth=auth, **changes)
        self.cluster.start(*ids)
        wait_until(lambda: all(self.answer(node_id, "GET", "/readyz")[0] == 200 for node_id in self.cluster.nodes),
                   "all are ready")
        return self.cluster

    def answer(self, node_id, method, target, body=b"", token=None, headers=None):
        """(status, headers, body)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.cluster.nodes[node_id].http_port, timeout=10)
        all_headers = {"X-Connect-Request": "1", "Content-Type": "application/octet-stream"}
        if token is not None:
            all_headers["Authorization"] = f"Bearer {token}"
        all_headers.update(headers or {})
        try:
            connection.request(method, target, body, all_headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        except OSError:
            return 0, {}, b""
        finally:
            connection.close()

    def reload(self, expected):
        """Until the log has one more line with this text."""
        node = self.cluster.nodes[1]
        before = node.log().count(expected)
        self.cluster.signal(1, signal.SIGHUP)
        wait_until(lambda: node.log().count(expected) > before, f"the log says '{expected}'")


def audit_lines(cluster):
    return [line for line in cluster.nodes[1].log().splitlines() if "audit" in line]


def test_each_role_on_each_route(context):
    tokens = Tokens(context)
    tokens.start()
    for (method, target, body), needed in ROUTES.items():
        for role in (None,) + ROLES:
            token = tokens.texts[role] if role else None
            status, headers, answer = tokens.answer(1, method, target, body, token)
            what = f"{method} {target} {body!r} with {role}: {status} {answer!r}"
            if needed is None or role in needed:
                check(status in (200, 400), what)
            elif role is None:
                check(status == 401, what)
                check(headers["WWW-Authenticate"] == 'Bearer realm="connectd"', what)
            else:
                check(status == 403, what)
    for role, body in (("read", b"incr"), ("write", b"get")):
        status, _, answer = tokens.answer(1, "POST", "/v1/call", body, tokens.texts[role])
        check(status == 403 and b"NOPERM" in answer, f"{role} may not {body!r}: {status} {answer!r}")
    status, _, answer = tokens.answer(1, "POST", "/v1/call", b"get", tokens.texts["read"])
    check(answer == b"1\n", f"one increment was permitted: {answer!r}")


def test_bad_tokens_get_one_answer(context):
    tokens = Tokens(context)
    tokens.start()
    good = tokens.texts["monitor"]
    wrong = good[:-1] + ("1" if good[-1] == "0" else "0")
    answers = set()
    for token in (wrong, wrong.replace("monitor", "somebod"), "nonsense"):
        status, _, answer = tokens.answer(1, "GET", "/v1/status", token=token)
        check(status == 401, f"{token}: {status}")
        answers.add(answer)
    check(len(answers) == 1, f"the answers differ: {answers}")
    for probe in PROBES:
        check(tokens.answer(1, "GET", probe, token="nonsense")[0] == 200, f"{probe} with a bad token")
    statuses = [tokens.answer(1, "GET", "/v1/status", token=wrong)[0] for _ in range(12)]
    check(statuses[0] == 401 and statuses[-1] == 429, f"failures are limited: {statuses}")
    check(tokens.answer(1, "GET", "/v1/status", token=tokens.texts["monitor"])[0] == 429, "the same id waits, too")
    check(tokens.answer(1, "POST", "/v1/call", b"get", tokens.texts["read"])[0] == 200, "others do not wait")


def test_tokens_that_are_removed_or_end(context):
    tokens = Tokens(context)
    cluster = tokens.start()
    connection = http.client.HTTPConnection("127.0.0.1", cluster.nodes[1].http_port, timeout=10)

    def status(name):
        connection.request("GET", "/v1/status", headers={"Authorization": f"Bearer {tokens.texts[name]}"})
        response = connection.getresponse()
        response.read()
        return response.status

    check(status("monitor") == 200, "a good token")
    end = time.time() + 12
    tokens.new("ending", "monitor", "--expires", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end)))
    check(status("ending") == 401, "a new token counts after a reload")
    tokens.reload("tokens=6")
    check(status("ending") == 200, "a new token")
    ctl("token", "remove", "monitor0000", "--file", tokens.path)
    check(status("monitor") == 200, "a removed token counts until a reload")
    tokens.reload("tokens=5")
    wait_until(lambda: status("monitor") == 401, "a request after the reload, on the same connection")
    wait_until(lambda: status("ending") == 401, "a token ends")
    check(time.time() >= int(end), "it ended early")
    connection.close()


def test_a_bad_file_keeps_the_tokens(context):
    tokens = Tokens(context)
    cluster = tokens.start()
    with open(tokens.path, "a", encoding="utf-8") as file:
        file.write("nonsense\n")
    tokens.reload("reload rejected")
    check(f"{tokens.path}:7: must be: ID SHA256 ROLES" in cluster.nodes[1].log(), "the log names the line")
    check(tokens.answer(1, "GET", "/v1/status", token=tokens.texts["monitor"])[0] == 200, "the old tokens are good")
    os.chmod(tokens.path, 0o640)
    tokens.reload("chmod 600")
    check(tokens.answer(1, "GET", "/v1/status", token=tokens.texts["monitor"])[0] == 200, "the old tokens are good")
    cluster.terminate(1)
    cluster.start(1)
    check(cluster.wait_exit(1) == EXIT_PERMISSION, "a file that others may read")
    os.chmod(tokens.path, 0o600)
    cluster.start(1)
    check(cluster.wait_exit(1) == EXIT_CONFIG, "a file with an error")


def test_local_callers(context):
    """admin.local: auto is off with tokens; `on` gives administration, and no data."""
    tokens = Tokens(context)
    cluster = tokens.start()
    verb = ("POST", "/v1/admin/leader", b"{}")
    check(tokens.answer(1, *verb)[0] == 401, "auto")
    cluster.write_config(cluster.nodes[1], auth={"tokens": tokens.path}, admin={"local": "on"})
    tokens.reload("admin.local")
    check(tokens.answer(1, *verb)[0] == 400, "on")
    check(tokens.answer(1, *verb, headers={"X-Forwarded-For": "10.0.0.9"})[0] == 403, "on, through a proxy")
    check(tokens.answer(1, "POST", "/v1/call", b"get")[0] == 401, "administration is no data")
    cluster.write_config(cluster.nodes[1], auth={"tokens": tokens.path, "anonymous": ["read"]})
    tokens.reload("auth.anonymous")
    check(tokens.answer(1, "POST", "/v1/call", b"get")[0] == 200, "anonymous reads")
    check(tokens.answer(1, "POST", "/v1/call", b"incr")[0] == 403, "anonymous writes")
    check(tokens.answer(1, *verb)[0] == 401, "auto again")


def test_audit_and_no_secret(context):
    tokens = Tokens(context)
    cluster = tokens.start()
    address = f"127.0.0.1:{cluster.nodes[1].http_port}"
    file = os.path.join(cluster.directory, "admin-token")
    with open(file, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
        out.write(tokens.new("operator", "admin,monitor") + "\n")
    tokens.reload("tokens=6")
    ctl("-e", address, "settings", "set", "raft.lease_reads", "true", "--token-file", file)
    ctl("-e", address, "settings", "set", "raft.lease_reads", "false", token=tokens.texts["operator"])
    ctl("-e", address, "status", token=tokens.texts["monitor"])
    ctl("-e", address, "call", "get", token=tokens.texts["read"])
    ctl("-e", address, "call", "incr", token=tokens.texts["read"], code=1)
    refused = ctl("-e", address, "settings", "set", "raft.lease_reads", "true", token=tokens.texts["read"], code=1)
    check("has not the role admin" in refused.stderr, refused.stderr)
    tokens.answer(1, "GET", "/v1/status", token=tokens.texts["operator"][:-2] + "zz")
    tokens.answer(1, "GET", "/v1/status?token=" + tokens.texts["admin"])

    verbs = [line for line in audit_lines(cluster) if "token:operator" in line and "/v1/admin/settings" in line]
    check(len(verbs) == 2 and all("address=127.0.0.1 outcome=200 index=" in line for line in verbs), f"verbs: {verbs}")
    refusals = [line for line in audit_lines(cluster) if "principal=token:read" in line and "outcome=403" in line]
    check(len(refusals) == 1 and "needs the role admin" in refusals[0], f"refusals: {refusals}")
    check(any("malformed token" in line for line in audit_lines(cluster)), "a malformed token")

    os.chmod(file, 0o644)
    ctl("-e", address, "status", "--token-file", file, code=EXIT_PERMISSION)
    printed = subprocess.run([CONNECTD, "--config", cluster.nodes[1].config_path, "--print-config"], capture_output=True,
                             text=True, timeout=60, check=True).stdout
    cluster.signal(1, signal.SIGUSR2)
    wait_until(lambda: "the last events" in cluster.nodes[1].log() or "state" in cluster.nodes[1].log(), "the state")
    status = tokens.answer(1, "GET", "/v1/status", token=tokens.texts["monitor"])[2].decode()
    with open(f"/proc/{cluster.nodes[1].process.pid}/cmdline", encoding="utf-8") as shown:
        places = {"log": cluster.nodes[1].log(), "status": status, "print-config": printed, "ps": shown.read()}
    for folder, _, names in os.walk(cluster.nodes[1].data_dir):
        for name in names:
            with open(os.path.join(folder, name), encoding="latin-1") as stored:
                places[name] = places.get(name, "") + stored.read()
    for name, text in tokens.texts.items():
        for place, content in places.items():
            check(text[-32:] not in content, f"the token {name} is in {place}")


class RedisClient:
    """A connection to the client port, and its replies of one line."""

    def __init__(self, node):
        self.socket = socket.create_connection(("127.0.0.1", node.client_port), timeout=20)
        self.file = self.socket.makefile("rb")

    def ask(self, line):
        self.socket.sendall(line.encode() + b"\r\n")
        return self.line()

    def line(self):
        return self.file.readline().decode().strip()

    def close(self):
        self.file.close()
        self.socket.close()


def test_redis_clients(context):
    """AUTH and HELLO of the framing: each role, bad tokens, and what ends with a reload."""
    tokens = Tokens(context, plugin="kv")
    cluster = tokens.start()
    node = cluster.nodes[1]
    good, no_auth = tokens.texts["write"], "-NOAUTH Authentication required."
    client = RedisClient(node)
    check(client.ask("SET k v") == no_auth, "nobody has said who asks")
    check(client.ask("HELLO 3").startswith("-NOAUTH HELLO must be called"), "HELLO")
    check(client.ask("AUTH nonsense") == "-WRONGPASS invalid username-password pair or user is disabled.", "nonsense")
    check(client.ask(f"AUTH somebody {good}").startswith("-WRONGPASS"), "the name of another")
    check(client.ask(f"AUTH {good}") == "+OK", "a good token")
    check(client.ask("SET k v") == "+OK", "a write")
    check(client.ask("GET k").startswith("-NOPERM"), "write does not include read")
    check(client.ask(f"AUTH read0000 {tokens.texts['read']}") == "+OK", "another one")
    check(client.ask("SET k v2").startswith("-NOPERM"), "read does not include write")
    check(client.ask("GET k") == "$1" and client.line() == "v", "a read")
    check(client.ask("RESET") == "+RESET" and client.ask("GET k") == no_auth, "as at the beginning")
    check(client.ask(f"HELLO 2 AUTH default {tokens.texts['read']}").startswith("*"), "HELLO with credentials")
    client.close()

    reader, writer = RedisClient(node), RedisClient(node)
    check(reader.ask(f"AUTH {tokens.texts['read']}") == "+OK", "a reader")
    check(writer.ask(f"AUTH {good}") == "+OK", "a writer")
    ctl("token", "remove", "read0000", "--file", tokens.path)
    tokens.reload("tokens=4")
    check(reader.line() == "", "the connection of a removed token ends")
    check(writer.ask("SET k v3") == "+OK", "the other one goes on")
    check(reader.file.read() == b"", "nothing more")
    for client in (reader, writer):
        client.close()
    lines = audit_lines(cluster)
    check(any("outcome=NOPERM" in line and "principal=token:write000" in line for line in lines), f"NOPERM: {lines}")
    check(any("malformed token" in line and "what=AUTH" in line for line in lines), f"AUTH: {lines}")
    for text in tokens.texts.values():
        check(text[-32:] not in node.log(), "the log has a token")


def test_failures_count_on_both_ports(context):
    tokens = Tokens(context, plugin="kv")
    node = tokens.start().nodes[1]
    good = tokens.texts["monitor"]
    wrong = good[:-1] + ("1" if good[-1] == "0" else "0")
    client = RedisClient(node)
    for i in range(5):
        check(client.ask(f"AUTH {wrong}").startswith("-WRONGPASS invalid"), f"AUTH {i}")
        check(tokens.answer(1, "GET", "/v1/status", token=wrong)[0] == 401, f"HTTP {i}")
    check(tokens.answer(1, "GET", "/v1/status", token=good)[0] == 429, "HTTP after ten on both")
    check(client.ask(f"AUTH {good}").startswith("-WRONGPASS too many"), "AUTH after ten on both")
    check(client.ask(f"AUTH {tokens.texts['read']}") == "+OK", "others do not wait")
    client.close()


def test_redis_cli(context):
    if shutil.which("redis-cli") is None:
        raise harness.Skip("redis-cli is not installed")
    tokens = Tokens(context, plugin="kv")
    node = tokens.start().nodes[1]

    def cli(*words, **environment):
        done = subprocess.run(["redis-cli", "-p", str(node.client_port), *words], capture_output=True, text=True,
                              env={**os.environ, **environment}, timeout=60, check=False)
        return (done.stdout + done.stderr).strip()
    check("NOAUTH" in cli("SET", "k", "v"), "without a token")
    check(cli("SET", "k", "v", REDISCLI_AUTH=tokens.texts["write"]) == "OK", "with a token")
    check(cli("-3", "--user", "read0000", "GET", "k", REDISCLI_AUTH=tokens.texts["read"]) == "v",
          "RESP3, with the id as the user")


def test_silent_clients_end(context):
    """Who must say who it is has ten seconds, and half of the connections."""
    tokens = Tokens(context, plugin="kv")
    node = tokens.start(client={"max_connections": 20}).nodes[1]
    known = RedisClient(node)
    check(known.ask(f"AUTH {tokens.texts['write']}") == "+OK", "a client that is known")
    begin = time.time()
    silent = [RedisClient(node) for _ in range(60)]
    others = [RedisClient(node) for _ in range(5)]
    for other in others:
        check(other.ask(f"AUTH {tokens.texts['write']}") == "+OK", "silent clients keep out nobody")
    check(known.ask("SET k v") == "+OK", "nor those that are known")
    last = RedisClient(node)
    check(last.file.read() == b"", "a silent client is closed")
    check(8 < time.time() - begin < 60, f"after {time.time() - begin:.1f} s")
    check(known.ask("SET k v") == "+OK", "one that is known stays")
    for client in [known, last] + silent + others:
        client.close()


def test_cluster_status_with_a_token(context):
    """The node that is asked shows the token to the others, over loopback."""
    tokens = Tokens(context)
    tokens.cluster = context.cluster("counter", nodes=3)
    tokens.start()
    endpoint = f"127.0.0.1:{tokens.cluster.nodes[2].http_port}"

    def all_ready():
        status, _, body = tokens.answer(2, "GET", "/v1/cluster", token=tokens.texts["monitor"])
        return status == 200 and all(node["reachable"] for node in json.loads(body)["nodes"])
    wait_until(all_ready, "all members answer")
    ctl("-e", endpoint, "member", "list", token=tokens.texts["monitor"])
    refused = ctl("-e", endpoint, "member", "list", code=69)
    check("needs a token with the role monitor" in refused.stderr, refused.stderr)


if __name__ == "__main__":
    harness.main(globals())

"""Starting: probes and signals are answered while a node waits for its machine and reads its data."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

import harness
import pki
from harness import (BUILD_DIR, CONNECTD, EXIT_CANNOT_CREATE, EXIT_CONFIG, EXIT_DATA, EXIT_NO_INPUT, EXIT_PERMISSION, Skip,
                     check, wait_until)

PLUGIN = os.path.join(BUILD_DIR, "tests", "plugins", "libstubborn.so")


def take_snapshot(cluster, node_id):
    subprocess.run([os.path.join(BUILD_DIR, "bin", "connectctl"), "-e",
                    f"127.0.0.1:{cluster.nodes[node_id].http_port}", "snapshot", "take"],
                   check=True, stdout=subprocess.DEVNULL)


def starting(cluster, text):
    """The answers of a node that starts: alive, not ready because of `text`, and it takes no calls."""
    check(cluster.get(1, "/livez")[0] == 200, "/livez is not 200")
    status, body = cluster.get(1, "/readyz")
    check(status == 503 and text in body.decode(), f"/readyz is {status}: {body}")
    curl = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "X-Connect-Request: 1", "-H",
                           "Content-Type: application/octet-stream", "-d", "incr",
                           f"http://127.0.0.1:{cluster.nodes[1].http_port}/v1/call"],
                          check=True, capture_output=True, text=True).stdout
    check(curl == "503", f"/v1/call is {curl}")


def test_loading_node_answers_and_ends(context):
    """The plugin's restore hangs: nothing but the plugin stands still."""
    cluster = context.cluster(PLUGIN, nodes=1)
    path = os.path.join(cluster.directory, "notify")
    cluster.start()
    cluster.leader()
    with cluster.line_client(1) as client:
        client.call(b"incr")
    take_snapshot(cluster, 1)
    cluster.kill(1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(5)
        cluster.nodes[1].environment = {"STUBBORN_RESTORE": "1", "NOTIFY_SOCKET": path}
        cluster.start()
        wait_until(lambda: cluster.get(1, "/readyz"), "HTTP does not open")
        wait_until(lambda: "% of the snapshot read" in str(cluster.get(1, "/readyz")), "nothing is read")
        starting(cluster, "starting: ")
        said = ""
        while "% of the snapshot read" not in said or "EXTEND_TIMEOUT_USEC=600000000" not in said:
            said += systemd.recv(4096).decode() + "\n"
        # A reload is carried out, but does not make a node ready.
        cluster.signal(1, signal.SIGHUP)
        wait_until(lambda: "reload found no changes" in cluster.nodes[1].log(), "the reload is not carried out")
        cluster.signal(1, signal.SIGUSR2)
        wait_until(lambda: "no cluster yet" in cluster.nodes[1].log(), "SIGUSR2 is not answered")
        systemd.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                said += systemd.recv(4096).decode() + "\n"
        check("READY=1" not in said, f"systemd was told that it is ready: {said}")
        # Whoever connects hears at once that nobody listens yet.
        for port in (cluster.nodes[1].client_port, cluster.nodes[1].peer_port):
            with socket.socket() as client:
                check(client.connect_ex(("127.0.0.1", port)) != 0, f"port {port} accepts connections")
    begin = time.monotonic()
    check(cluster.terminate(1) == 0, "TERM does not end it with 0")
    check(time.monotonic() - begin < 20, "TERM took twenty seconds")
    check("does not return" in cluster.nodes[1].log(), "the log does not say why it ended so")
    cluster.nodes[1].environment = {}
    cluster.start()
    cluster.leader()
    with cluster.line_client(1) as client:
        check(client.call(b"incr") == b"2", "the increment is lost")


def in_own_names(cluster, hosts):
    """Node 1 gets a mount namespace in which `hosts` is /etc/hosts, and no name server answers."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        raise Skip("needs root and unshare")
    resolv = os.path.join(cluster.directory, "resolv.conf")
    with open(resolv, "w", encoding="utf-8") as file:
        file.write("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    script = f'mount --bind {hosts} /etc/hosts && mount --bind {resolv} /etc/resolv.conf && exec "$@"'
    wrap = ["unshare", "-m", "sh", "-c", script, "sh"]
    if subprocess.run([*wrap, "true"], check=False, capture_output=True).returncode != 0:
        raise Skip("no mount namespace")
    cluster.nodes[1].wrap = wrap


def named_cluster(context, key):
    cluster = context.cluster("counter", nodes=1)
    hosts = os.path.join(cluster.directory, "hosts")
    with open(hosts, "w", encoding="utf-8") as file:
        file.write("127.0.0.1 localhost\n")
    in_own_names(cluster, hosts)
    port = getattr(cluster.nodes[1], f"{key}_port")
    cluster.write_config(cluster.nodes[1], listen={key: f"db1.late.test:{port}"})
    return cluster, hosts


def test_late_name_is_waited_for(context):
    cluster, hosts = named_cluster(context, "peer")
    cluster.start()
    wait_until(lambda: cluster.get(1, "/readyz"), "HTTP does not open")
    wait_until(lambda: "waiting for the name db1.late.test (listen.peer)" in cluster.nodes[1].log(),
               "the log does not say what it waits for")
    starting(cluster, "waiting for the name db1.late.test (listen.peer)")
    begin = time.monotonic()
    check(cluster.terminate(1) == 0, "TERM does not end it with 0")
    check(time.monotonic() - begin < 20, "TERM took twenty seconds")
    cluster.start()
    time.sleep(0.5)
    with open(hosts, "a", encoding="utf-8") as file:
        file.write("127.0.1.1 db1.late.test\n")
    cluster.leader()
    log = cluster.nodes[1].log()
    port = cluster.nodes[1].peer_port
    check(f"listening for peers address=db1.late.test:{port} bound=127.0.1.1:{port}" in log, "the address is not logged")
    check("knows only 127.0.1.1 for it" in log, "no warning about the loopback address")


def test_check_ends_as_the_start_would(context):
    """For data that cannot start: the same exit code and text, and nothing is written."""
    cluster = context.cluster("counter", nodes=1)
    node = cluster.nodes[1]
    cluster.start()
    cluster.leader()
    command = [CONNECTD, "--config", node.config_path, "--check"]
    running = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    check(running.returncode == EXIT_CANNOT_CREATE and "is locked by process" in running.stderr, f"{running}")
    cluster.terminate(1)
    directory, kept = node.data_dir, node.data_dir + ".kept"
    shutil.copytree(directory, kept)
    segment = os.path.join(directory, "log", "0000000000000001.wal")

    def replace(path, content):
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.remove(path)
        with open(path, "wb") as file:
            file.write(content)

    def flip():
        with open(segment, "r+b") as file:
            file.seek(200)
            byte = file.read(1)[0]
            file.seek(200)
            file.write(bytes([byte ^ 1]))

    log, identity = os.path.join(directory, "log"), os.path.join(directory, "identity")
    for damage, words in (
            (lambda: os.remove(identity), ("identity is missing", "member replace 1")),
            (lambda: replace(identity, b"x"), ("is damaged", "member replace 1")),
            (lambda: (os.remove(identity), os.mkdir(identity)), ("is a directory, not a file",)),
            (lambda: shutil.rmtree(log), ("the log is empty", "member replace 1", "snapshot restore FILE")),
            (lambda: replace(log, b"x"), ("is a file, not a directory",)),
            (flip, ("the log is damaged", "member replace 1"))):
        damage()
        before = sorted(os.listdir(directory))
        checked = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
        check(checked.returncode == EXIT_DATA and all(word in checked.stderr for word in words), f"{words}: {checked}")
        check(sorted(os.listdir(directory)) == before, f"--check changed the directory: {words}")
        cluster.start(1)
        check(cluster.wait_exit(1) == EXIT_DATA, f"the start: {words}")
        check(all(word in node.log() for word in words), f"the start does not say {words}")
        shutil.rmtree(directory)
        shutil.copytree(kept, directory)
    good = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    check(good.returncode == 0, f"{good}")


class CredentialFiles:
    """A node with TLS on all ports and a token file, and what is wrong with the files."""

    def __init__(self, context):
        self.cluster = context.cluster("counter", nodes=1)
        self.node = self.cluster.nodes[1]
        self.authority = pki.Authority(self.cluster.directory)
        foreign = pki.Authority(self.cluster.directory, "foreign")
        self.certificate, self.key = self.authority.node(1)
        self.other_key = self.authority.node(2)[1]
        self.leaf = self.authority.client("app")[0]
        self.list = self.authority.revoke(self.leaf)
        self.foreign_list = foreign.revoke(foreign.client("app")[0])
        self.tokens = os.path.join(self.cluster.directory, "tokens")
        subprocess.run([pki.CONNECTCTL, "token", "new", "--roles", "read", "--file", self.tokens], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.configure(self.authority.certificate)

    def configure(self, authorities):
        port = pki.port("require", (self.certificate, self.key), authorities, self.list)
        plugin = {"path": self.cluster.plugin, "allow_writable": "on"}  # a developer's own, of which --check would warn
        self.cluster.write_config(self.node, tls={"peer": port, "client": port, "http": port}, auth={"tokens": self.tokens},
                                  plugin=plugin)

    def check(self):
        return subprocess.run([CONNECTD, "--config", self.node.config_path, "--check"], check=False, capture_output=True,
                              text=True, timeout=20)

    def ends(self, code, *words):
        """--check and a start end with this code, and the same text."""
        checked = self.check()
        check(checked.returncode == code and all(word in checked.stderr for word in words), f"{words}: {checked}")
        begin = len(self.node.log())
        self.cluster.start(1)
        found = self.cluster.wait_exit(1)
        log = self.node.log()[begin:]
        check(found == code, f"{words}: the start ends with {found}: {log}")
        for line in checked.stderr.splitlines():
            check(line in log or "warning: " in line, f"the start does not say: {line}\n{log}")


@contextlib.contextmanager
def changed(path, content=None, mode=None):
    """The file is missing, or another one, or has another mode."""
    os.rename(path, path + ".good")
    if content is not None:
        shutil.copy2(path + ".good", path)
        if content != path:
            with open(path, "wb") as file:
                file.write(content)
        if mode is not None:
            os.chmod(path, mode)
    try:
        yield
    finally:
        os.replace(path + ".good", path)


def content_of(path):
    with open(path, "rb") as file:
        return file.read()


def test_check_reads_the_files_of_credentials(context):
    """Those of TLS and of tokens, as a start does: code and text are the same."""
    files = CredentialFiles(context)
    good = files.check()
    check(good.returncode == 0 and good.stderr == "", f"{good}")
    authorities = files.authority.certificate
    for path in (files.key, files.certificate, authorities, files.list, files.tokens):
        with changed(path):
            files.ends(EXIT_NO_INPUT, path, "No such file")
        with changed(path, b"garbage\n"):
            files.ends(EXIT_CONFIG, path)
    for path in (files.key, files.tokens):
        with changed(path, path, 0o640):
            files.ends(EXIT_PERMISSION, path, "chmod 600")
    with changed(files.key, content_of(files.other_key)):
        files.ends(EXIT_CONFIG, files.key, "is not the key of")
    with changed(authorities, content_of(files.leaf)):
        files.ends(EXIT_CONFIG, authorities, "only CAs belong here")
    with changed(files.list, content_of(files.foreign_list)):
        files.ends(EXIT_CONFIG, files.list, "signed by no CA")
    # All that is wrong at once, and each once.
    with changed(files.list), changed(files.tokens, b"garbage\n"):
        files.ends(EXIT_NO_INPUT, files.list, f"auth.tokens: {files.tokens}:1: must be")
        check(files.check().stderr.count(files.list) == 1, "the list is named for each port")
    # A start warns only.
    short = files.authority.run("renew", "1", "--dir", files.authority.directory, "--days", "9")
    check(files.certificate in short, short)
    warned = files.check()
    check(warned.returncode == 0 and "warning: peers: " in warned.stderr and "expires in " in warned.stderr, f"{warned}")


def test_check_reads_files_as_the_service_would(context):
    """Root reads everything, and the user of the data directory does not."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        raise Skip("needs root and setpriv")
    files = CredentialFiles(context)
    os.chmod(files.cluster.directory, 0o755)
    os.chmod(files.authority.directory, 0o755)
    os.mkdir(files.node.data_dir)
    service = 65534
    os.chown(files.node.data_dir, service, service)
    for path in (files.key, files.tokens):
        os.chown(path, service, service)
    good = files.check()
    check(good.returncode == 0, f"{good}")
    os.chown(files.tokens, 0, 0)
    denied = files.check()
    text = f"auth.tokens: {files.tokens}: cannot be opened: Permission denied (13)\n(as user "
    check(denied.returncode == EXIT_PERMISSION and text in denied.stderr, f"{denied}")
    check(os.stat(os.path.join(files.node.data_dir, "lock")).st_uid == service, "what root made stays root's")
    files.node.wrap = ["setpriv", f"--reuid={service}", f"--regid={service}", "--clear-groups"]
    files.cluster.start(1)
    check(files.cluster.wait_exit(1) == EXIT_PERMISSION, "a start as the service")
    check(text.split("\n", maxsplit=1)[0] in files.node.log(), files.node.log())


def test_check_does_not_wait_for_names(context):
    cluster, hosts = named_cluster(context, "http")
    node = cluster.nodes[1]
    command = [*node.wrap, CONNECTD, "--config", node.config_path, "--check"]
    bad = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    check(bad.returncode == EXIT_CONFIG and "check listen.http" in bad.stderr, f"{bad.returncode}: {bad.stderr}")
    with open(hosts, "a", encoding="utf-8") as file:
        file.write("127.0.1.1 db1.late.test\n")
    good = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    check(good.returncode == 0, f"{good.returncode}: {good.stderr}")
    check("warning: listen.http is db1.late.test" in good.stderr, f"no warning: {good.stderr}")


def test_late_address_is_waited_for(context):
    """An address that an interface gets late, in a network namespace."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise Skip("needs root and ip")
    cluster = context.cluster("counter", nodes=1)
    name = f"connectd-start-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode != 0:
        raise Skip("no network namespace")
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        cluster.nodes[1].wrap = ["ip", "netns", "exec", name]
        cluster.write_config(cluster.nodes[1], listen={"peer": f"10.99.0.1:{cluster.nodes[1].peer_port}"})
        cluster.start()
        wait_until(lambda: "waiting for 10.99.0.1:" in cluster.nodes[1].log(), "the log does not say what it waits for")
        check(cluster.nodes[1].running, "it ended")
        subprocess.run(["ip", "-n", name, "address", "add", "10.99.0.1/32", "dev", "lo"], check=True)
        wait_until(lambda: "leader term=" in cluster.nodes[1].log(), "it does not start")
        check(cluster.terminate(1) == 0, "TERM does not end it with 0")
    finally:
        cluster.close(keep=True)
        subprocess.run(["ip", "netns", "del", name], check=False)


def test_check_as_root_leaves_nothing_of_root(context):
    """In the directory of the service's user, who could not open it."""
    if os.geteuid() != 0:
        raise Skip("only root can give files away")
    cluster = context.cluster("counter", nodes=1)
    node = cluster.nodes[1]
    home = os.path.join(cluster.directory, "home")
    os.mkdir(home)
    os.chown(home, 65534, 65534)
    node.data_dir = os.path.join(home, "data", "1")
    cluster.write_config(node)
    checked = subprocess.run([CONNECTD, "--config", node.config_path, "--check"], capture_output=True, text=True, check=False)
    check(checked.returncode == 0, f"--check: {checked}")
    made = [os.path.join(directory, name) for directory, names, files in os.walk(home) for name in names + files]
    check(len(made) >= 3 and all(os.stat(path).st_uid == 65534 for path in made), f"files of root: {made}")
    # What root leaves all the same is named with its owner, and so is the user of the service.
    os.chown(os.path.join(node.data_dir, "lock"), 0, 0)
    os.chmod(os.path.join(node.data_dir, "lock"), 0o600)
    for path in (cluster.directory, node.config_path):
        os.chmod(path, 0o755)
    started = subprocess.run([CONNECTD, "--config", node.config_path], capture_output=True, text=True, check=False, user=65534,
                             group=65534, extra_groups=[])
    check(started.returncode == EXIT_PERMISSION, f"as the service: {started}")
    check("belongs to user root, and this process runs as nobody" in started.stderr, started.stderr)


def test_port_in_use_ends_it_after_ten_seconds(context):
    cluster = context.cluster("counter", nodes=1)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", cluster.nodes[1].client_port))
        other.listen()
        begin = time.monotonic()
        cluster.start()
        wait_until(lambda: cluster.get(1, "/readyz"), "HTTP does not open")
        wait_until(lambda: "Address already in use" in str(cluster.get(1, "/readyz")), "/readyz does not say why")
        code = cluster.wait_exit(1, 100)
        took = time.monotonic() - begin
    check(code == EXIT_CANNOT_CREATE, f"it ended with {code}")
    check(took > 9, f"it ended after {took:.1f} s")
    # Nothing is formed before all ports are there.
    check("is formed" not in cluster.nodes[1].log(), "a cluster was formed")
    cluster.start()
    cluster.leader()
    check(cluster.terminate(1) == 0, "TERM does not end it with 0")


if __name__ == "__main__":
    harness.main(globals())

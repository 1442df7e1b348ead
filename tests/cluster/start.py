"""Starting: probes and signals are answered while a node waits for its machine and reads its data."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

import harness
from harness import BUILD_DIR, CONNECTD, EXIT_CANNOT_CREATE, EXIT_CONFIG, EXIT_DATA, EXIT_PERMISSION, Skip, check, wait_until

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

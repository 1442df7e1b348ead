"""The plugin's file: overwritten while nodes run it, with a library beside it, in a place without execute permission."""

import hashlib
import os
import shutil
import subprocess
import threading

import harness
from harness import BUILD_DIR, CONNECTD, EXIT_PERMISSION, Disconnected, Skip, check, wait_until
from refusals import last_run

CONNECTCTL = os.path.join(BUILD_DIR, "bin", "connectctl")
PLUGINS = os.path.join(BUILD_DIR, "tests", "plugins")
CHANGED = "file changed since start"
# A constructor and a compiler differ; the name does not.
OTHER = "plugins/libkv.so"


def installed(context, *files):
    """Copies of the plugin, and of what belongs to it, that may be changed."""
    cluster = context.cluster("counter")
    for file in files:
        shutil.copy(os.path.join(BUILD_DIR, file), cluster.directory)
    cluster.plugin = os.path.join(cluster.directory, os.path.basename(files[0]))
    for node in cluster.nodes.values():
        cluster.write_config(node)
    return cluster


def overwrite(target, source):
    """Into the same file, as cp does: it is empty for a moment, and then another."""
    with open(source, "rb") as new, open(target, "r+b") as old:
        old.truncate(0)
        old.write(new.read())


class Writer(threading.Thread):
    """Adds one, again and again, at one node."""

    def __init__(self, cluster, node_id):
        super().__init__()
        self.client = cluster.line_client(node_id)
        self.done = 0
        self.error = None
        self.stop = threading.Event()

    def run(self):
        try:
            while not self.stop.is_set():
                value = self.client.call(b"incr")
                check(value.isdigit(), f"the reply is {value}")
                self.done += 1
        except (Disconnected, harness.Failure, OSError) as error:
            self.error = error

    def end(self):
        self.stop.set()
        self.join()
        self.client.close()
        check(self.error is None, f"a write failed: {self.error}")


def test_overwritten_in_place(context):
    cluster = installed(context, "plugins/libcounter.so")
    cluster.start()
    leader = cluster.leader()
    writer = Writer(cluster, leader)
    writer.start()
    wait_until(lambda: writer.done > 50, "writes succeed")
    overwrite(cluster.plugin, os.path.join(BUILD_DIR, OTHER))
    before = writer.done
    for node_id in cluster.nodes:
        wait_until(lambda node_id=node_id: (cluster.status(node_id) or {}).get("plugin", {}).get("warning") == CHANGED,
                   f"node {node_id} shows that its plugin's file was changed")
        check("changed since start" in last_run(cluster, node_id), "it is not logged")
    wait_until(lambda: writer.done > before + 50, "writes go on")
    writer.end()
    cluster.check_alive()
    shown = subprocess.run([CONNECTCTL, "-e", f"127.0.0.1:{cluster.nodes[1].http_port}", "status"], capture_output=True,
                           text=True, check=False)
    check(shown.returncode == 0, f"status: {shown}")
    for node_id in cluster.nodes:
        check(f"node {node_id}: plugin counter 1.0.0: {CHANGED}" in shown.stdout + shown.stderr, f"status: {shown}")
    cluster.wait_equal()
    # As it was: the same bytes are the same plugin.
    overwrite(cluster.plugin, os.path.join(BUILD_DIR, "plugins/libcounter.so"))
    wait_until(lambda: cluster.status(leader)["plugin"]["warning"] is None, "the warning goes")
    # A snapshot runs code that has not run before.
    overwrite(cluster.plugin, os.path.join(BUILD_DIR, OTHER))
    taken = subprocess.run([CONNECTCTL, "-e", f"127.0.0.1:{cluster.nodes[1].http_port}", "snapshot", "take"],
                           capture_output=True, text=True, check=False)
    check(taken.returncode == 0, f"snapshot take: {taken}")
    for node_id in cluster.nodes:
        check(cluster.terminate(node_id) == 0, f"node {node_id} did not end as told")


def test_library_beside_the_plugin(context):
    """$ORIGIN: the file is mapped where it lies, and the log says so; so does --check."""
    cluster = installed(context, "tests/plugins/liborigin.so", "tests/plugins/libbeside.so")
    cluster.start()
    with cluster.line_client(cluster.leader()) as client:
        check(client.call(b"x") == b"31", "the library beside the plugin does not answer")
    for node_id in cluster.nodes:
        check("its library search path uses $ORIGIN, so it is mapped from the file" in last_run(cluster, node_id),
              "the log does not warn")
        check(cluster.terminate(node_id) == 0, f"node {node_id} did not end as told")
    checked = subprocess.run([CONNECTD, "--config", cluster.nodes[1].config_path, "--check"], capture_output=True,
                             text=True, check=False)
    check(checked.returncode == 0 and "warning: plugin file" in checked.stderr and "$ORIGIN" in checked.stderr,
          f"--check: {checked}")


def test_exports_are_warned_of(context):
    cluster = installed(context, "tests/plugins/libcrowded.so")
    cluster.start(1)
    wait_until(lambda: "symbols besides connectd_plugin_v1: " in last_run(cluster, 1), "a warning")
    check("-fvisibility=hidden" in last_run(cluster, 1), "the warning names no remedy")
    cluster.kill(1)
    quiet = installed(context, "plugins/libcounter.so")
    quiet.write_config(quiet.nodes[1], plugin={"path": quiet.plugin, "allow_writable": "on"})
    checked = subprocess.run([CONNECTD, "--config", quiet.nodes[1].config_path, "--check"], capture_output=True,
                             text=True, check=False)
    check(checked.returncode == 0 and checked.stderr == "", f"--check of a plugin of the SDK: {checked}")


def test_no_execute_permission_refused(context):
    """Memory could be executed from; the file's place counts all the same."""
    if os.geteuid() != 0:
        raise Skip("a mount needs root")
    cluster = context.cluster("counter", nodes=1)
    place = os.path.join(cluster.directory, "noexec")
    os.mkdir(place)
    script = (f"mount -t tmpfs -o noexec none {place} && cp {BUILD_DIR}/plugins/libcounter.so {place}/ && "
              f"exec \"$@\" --plugin {place}/libcounter.so")
    for more in ([], ["--check"]):
        done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", CONNECTD, "--config",
                               cluster.nodes[1].config_path, *more],
                              capture_output=True, text=True, check=False, timeout=60)
        if "unshare" in done.stderr or "mount:" in done.stderr:
            raise Skip("no mount namespaces here")
        check(done.returncode == EXIT_PERMISSION, f"exit code, after which systemd does not restart: {done}")
        check("failed to map segment as code: Operation not permitted" in done.stderr and "noexec" in done.stderr
              and "ExecPaths=" in done.stderr, f"the text: {done.stderr}")


def test_file_that_the_service_could_exchange(context):
    """Refused under systemd, unless it is pinned; taken in development."""
    cluster = context.cluster("counter", nodes=1)
    node = cluster.nodes[1]
    shutil.copy(cluster.plugin, cluster.directory)
    own = os.path.join(cluster.directory, os.path.basename(cluster.plugin))
    os.chmod(own, 0o666)
    with open(own, "rb") as file:
        sha256 = hashlib.sha256(file.read()).hexdigest()
    systemd = {"NOTIFY_SOCKET": os.path.join(cluster.directory, "notify"), "INVOCATION_ID": "0" * 32}

    def check_plugin(code, environment=None, **options):
        cluster.write_config(node, plugin={"path": own, **options})
        done = subprocess.run([CONNECTD, "--config", node.config_path, "--check"], capture_output=True, text=True,
                              env={**os.environ, **(environment or {})}, timeout=60, check=False)
        check(done.returncode == code, f"{options} {environment}: {done.returncode} {done.stderr}")
        return done.stderr
    # A check in a shell says what the service will do.
    for environment in ({}, {"NOTIFY_SOCKET": systemd["NOTIFY_SOCKET"]}):
        said = check_plugin(0, environment)
        check(f"warning: plugin file {own}: under systemd this plugin is refused (77)" in said
              and f"{own} may be changed by connectd's user" in said, f"no warning: {said}")
    check(check_plugin(0, sha256=sha256) + check_plugin(0, allow_writable="on") == "", "a warning of what is permitted")
    said = check_plugin(EXIT_PERMISSION, systemd)
    check(own in said and "plugin.allow_writable: on" in said, f"the text names the file and the remedy: {said}")
    check_plugin(0, systemd, sha256=sha256)
    check_plugin(0, systemd, allow_writable="on")
    check_plugin(EXIT_PERMISSION, allow_writable="off")
    check_plugin(0, allow_writable="off", sha256=sha256)


if __name__ == "__main__":
    harness.main(globals())

"""Bad plugins, bad configurations, bad command lines: the message and the exit code of each."""

import os
import subprocess
import tempfile

import harness
from harness import (BUILD_DIR, CONNECTD, EXIT_CONFIG, EXIT_DATA, EXIT_MISMATCH, EXIT_NO_INPUT, EXIT_OK, EXIT_PLUGIN,
                     EXIT_USAGE, Cluster, check, free_ports, plugin_path)


def run(*arguments, directory=None, seconds=20):
    """(exit code, standard output, standard error)."""
    try:
        done = subprocess.run([CONNECTD, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=seconds, cwd=directory, check=False)
    except subprocess.TimeoutExpired:
        raise harness.Failure(f"connectd {' '.join(arguments)} did not end") from None
    return done.returncode, done.stdout, done.stderr


def expect(arguments, code, *words, directory=None):
    got, out, err = run(*arguments, directory=directory)
    text = out + err
    command = "connectd " + " ".join(arguments)
    check(got == code, f"{command} ended with {got}, not {code}; it said: {text[-600:]}")
    for word in words:
        check(word in text, f"{command} does not say '{word}'; it said: {text[-600:]}")
    return text


def bad_plugin(defect):
    path = os.path.join(BUILD_DIR, "abi", f"libabi_bad_{defect}.so")
    check(os.path.exists(path), f"{path} is not built")
    return path


def test_bad_plugins(context):
    cluster = context.cluster("counter", nodes=1)
    config = cluster.nodes[1].config_path
    text_file = os.path.join(cluster.directory, "text.so")
    with open(text_file, "w", encoding="ascii") as file:
        file.write("this is not a shared object\n" * 100)
    truncated = os.path.join(cluster.directory, "truncated.so")
    with open(plugin_path("counter"), "rb") as whole, open(truncated, "wb") as file:
        file.write(whole.read()[:3000])
    empty = os.path.join(cluster.directory, "empty.so")
    open(empty, "wb").close()
    cases = [
        (text_file, EXIT_PLUGIN, "text.so"),
        (truncated, EXIT_PLUGIN, "truncated.so"),
        (empty, EXIT_PLUGIN, "empty.so"),
        (cluster.directory, EXIT_PLUGIN, cluster.directory),
        (os.path.join(cluster.directory, "none.so"), EXIT_NO_INPUT, "none.so"),
        (bad_plugin("symbol"), EXIT_PLUGIN, "connectd_plugin_v1"),
        (bad_plugin("only_v2"), EXIT_MISMATCH, "ABI 2"),
        (bad_plugin("major"), EXIT_MISMATCH, "ABI"),
        (bad_plugin("demand"), EXIT_PLUGIN, "requires unknown features"),
        (bad_plugin("size"), EXIT_PLUGIN, "bytes"),
        (bad_plugin("null"), EXIT_PLUGIN, "returned nothing"),
        (bad_plugin("no_apply"), EXIT_PLUGIN, "apply"),
        (bad_plugin("framing"), EXIT_PLUGIN, "framing"),
    ]
    for path, code, word in cases:
        for check_only in (["--check"], []):
            expect([*check_only, "--config", config, "--plugin", path], code, word, os.path.basename(path))
    data_dir = cluster.nodes[1].data_dir
    left = set(os.listdir(data_dir)) if os.path.exists(data_dir) else set()
    check(left <= {"lock"}, f"a daemon whose plugin was refused left {left} in the data directory")


def test_pinned_plugin(context):
    cluster = context.cluster("counter", nodes=1, settings={"plugin": {"sha256": "0" * 64}})
    expect(["--check", "--config", cluster.nodes[1].config_path], EXIT_DATA, "sha256")


def test_plugin_refuses_its_options(context):
    cluster = context.cluster("kv", nodes=1, settings={"plugin": {"options": {"limits": {"value": "lots"}}}})
    expect(["--config", cluster.nodes[1].config_path], EXIT_CONFIG, "limits.value", "lots")


def test_bad_configurations(context):
    directory = tempfile.mkdtemp(dir=context.cluster("counter", nodes=1).directory)
    peer, client, http = free_ports(3)
    member = f'{{id: 1, peer: "127.0.0.1:{peer}", client: "127.0.0.1:{client}", http: "127.0.0.1:{http}"}}'
    good = (f"node: {{id: 1, data_dir: {directory}/data}}\n"
            f"cluster:\n  name: test\n  members:\n    - {member}\n"
            f"plugin: {{path: {plugin_path('counter')}}}\n")
    path = os.path.join(directory, "config.yaml")

    def write(text):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return ["--check", "--config", path]

    expect(write(good), EXIT_OK)
    expect(write(good + "raft:\n  hearbeat_interval: 50ms\n"), EXIT_CONFIG, "config.yaml:8:3", "heartbeat_interval", "^")
    expect(write(good + "raft:\n  tick: 10\n"), EXIT_CONFIG, "config.yaml:8:", "tick")
    expect(write(good + "raft:\n  tick: 5ms\n  tick: 5ms\n"), EXIT_CONFIG, "config.yaml:9:", "tick")
    expect(write(good + "client: {max_connections: 010}\n"), EXIT_CONFIG, "config.yaml:7:", "010")
    expect(write(good.replace(str(peer), "70000")), EXIT_CONFIG, "70000")
    expect(write(good.replace("node: {id: 1", "node: {id: 2")), EXIT_CONFIG, "2")
    expect(write(good.replace("node: {id: 1", "node: {id: -1")), EXIT_CONFIG, "-1")
    expect(write(good + "---\nnode: {}\n"), EXIT_CONFIG, "document")
    expect(write(""), EXIT_CONFIG, "empty")
    expect(write("node: [\n"), EXIT_CONFIG, "config.yaml:")
    # All errors at once.
    expect(write(good + "raft:\n  tick: fast\n  elections: 3\nstorge: {}\n"), EXIT_CONFIG, "fast", "elections",
           "storge", "storage")
    expect(["--check", "--config", os.path.join(directory, "none.yaml")], EXIT_NO_INPUT, "none.yaml")


def test_command_line(context):
    cluster = context.cluster("counter", nodes=1)
    config = cluster.nodes[1].config_path
    expect(["--version"], EXIT_OK, "connectd")
    expect(["--help"], EXIT_OK, "--config", "--plugin", "--check")
    expect(["--conf", config], EXIT_USAGE)  # no abbreviations
    expect(["--nonsense"], EXIT_USAGE, "nonsense")
    expect(["--config", config, "--set", "raft.tick=never", "--check"], EXIT_CONFIG, "raft.tick", "never")
    expect(["--config", config, "--print-config"], EXIT_OK, "election_timeout")
    expect(["--config", config, "--check"], EXIT_OK)


def test_errors_in_the_journal_have_a_priority(context):
    """journalctl -p err shows why a unit did not start, whatever it is."""
    config = context.cluster("counter", nodes=1).nodes[1].config_path
    for arguments, code in ((["--nonsense"], EXIT_USAGE), (["--conf", config], EXIT_USAGE), ([], EXIT_USAGE),
                            (["--config", config, "--set", "raft.tick=never"], EXIT_CONFIG),
                            (["--config", config + ".none"], EXIT_NO_INPUT),
                            (["--config", config, "--plugin", config], EXIT_PLUGIN)):
        reader, writer = os.pipe()
        pipe = os.fstat(writer)
        done = subprocess.run([CONNECTD, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=writer, timeout=20, check=False,
                              env={**os.environ, "JOURNAL_STREAM": f"{pipe.st_dev}:{pipe.st_ino}"})
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as file:
            lines = file.read().splitlines()
        check(done.returncode == code, f"{arguments} ended with {done.returncode}, not {code}: {lines}")
        check(lines and lines[-1].startswith("<3>"), f"{arguments}: no error in the journal: {lines}")
        check(all(line[:1] == "<" and line[2:3] == ">" for line in lines), f"{arguments}: no priority: {lines}")


def test_ports_in_use(context):
    cluster = context.cluster("counter", nodes=1)
    cluster.start()
    cluster.leader()
    other = Cluster("counter", nodes=1)
    context.clusters.append(other)
    other.nodes[1].client_port = cluster.nodes[1].client_port
    other.write_config(other.nodes[1])
    other.start(1)
    code = other.wait_exit(1)
    check(code == harness.EXIT_CANNOT_CREATE, f"a port in use ended the daemon with {code}")
    check(str(cluster.nodes[1].client_port) in other.nodes[1].log(), "the message does not name the port")


def test_one_node_without_a_file(context):
    """connectd --plugin libcounter.so, without a configuration file."""
    directory = tempfile.mkdtemp(dir=context.cluster("counter", nodes=1).directory)
    process = subprocess.Popen([CONNECTD, "--plugin", plugin_path("counter")], cwd=directory,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        def answered():
            if process.poll() is not None:
                raise harness.Failure(f"connectd --plugin ended with {process.returncode}: {process.stderr.read()}")
            try:
                with harness.LineClient(7201, 10) as client:
                    return client.call(b"incr") == b"1"
            except (harness.Disconnected, harness.ErrorReply):
                return False
        harness.wait_until(answered, "the single node answers")
        check(os.path.isdir(os.path.join(directory, "connectd-data")), "the data is not in ./connectd-data")
    finally:
        process.terminate()
        process.communicate(timeout=30)
    check(process.returncode == 0, f"SIGTERM ended it with {process.returncode}")


if __name__ == "__main__":
    harness.main(globals())

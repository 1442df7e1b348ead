"""`systemctl reload`: the command of the unit against real nodes."""

import os
import re
import shutil
import signal
import stat
import subprocess

import harness
from harness import BUILD_DIR, EXIT_CONFIG, SOURCE_DIR, START_SECONDS, check, wait_until

CONNECTCTL = os.path.join(BUILD_DIR, "bin", "connectctl")
EXIT_NO_INPUT = 66
EXIT_UNAVAILABLE = 69
EXIT_TRY_AGAIN = 75


def unit_command(runtime_directory):
    """ExecReload= of the unit as systemd runs it for instance NAME, with %t for the place of /run."""
    with open(os.path.join(SOURCE_DIR, "conf", "connectd@.service"), encoding="utf-8") as file:
        line = re.search(r"^ExecReload=(.*)$", file.read(), re.MULTILINE)[1]
    top, name = os.path.dirname(os.path.dirname(runtime_directory)), os.path.basename(runtime_directory)
    words = line.replace("%t", top).replace("%i", name).split()
    check(words[0] == "/usr/bin/connectctl", f"another program: {words}")
    return [CONNECTCTL, *words[1:]]


def run(command, *more, **options):
    return subprocess.run([*command, *more], capture_output=True, text=True, check=False, timeout=START_SECONDS, **options)


def node_of_the_unit(context):
    """A node with a runtime directory, as RuntimeDirectory=connectd/%i makes it."""
    cluster = context.cluster("counter", nodes=1)
    directory = os.path.join(cluster.directory, "connectd", "n1")
    os.makedirs(directory)
    cluster.nodes[1].environment = {"RUNTIME_DIRECTORY": directory}
    return cluster, directory


def test_reload_returns_when_files_are_taken(context):
    cluster, directory = node_of_the_unit(context)
    cluster.start()
    cluster.leader()
    command = unit_command(directory)
    done = run(command)
    check((done.returncode, done.stdout) == (0, "reload found no changes\n"), str(done))
    # Nothing is waited for afterwards: what the command printed is so.
    for level in ("debug", "info", "debug"):
        cluster.write_config(cluster.nodes[1], log={"level": level}, raft={"tick": "7ms"})
        done = run(command)
        check(done.returncode == 0 and f"-> {level}\n" in done.stdout, str(done))
        check("restart required: raft.tick" in done.stdout, str(done))
        change = done.stdout.splitlines()[0]
        wait_until(lambda line=change: line in cluster.nodes[1].log(), "the log does not say so")
    # Many at once: each one's files have been read after it began.
    several = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(20)]
    check([one.wait(START_SECONDS) for one in several] == [0] * 20, "one of 20 reloads at once failed")
    for name in os.listdir(directory):
        check(stat.S_IMODE(os.stat(os.path.join(directory, name)).st_mode) == 0o600, f"others may read {name}")


def test_refused_reload_fails_with_the_reason(context):
    cluster, directory = node_of_the_unit(context)
    cluster.start()
    cluster.leader()
    command = unit_command(directory)
    cluster.write_config(cluster.nodes[1], log={"level": "loud"})
    done = run(command)
    check(done.returncode == EXIT_CONFIG and not done.stdout, str(done))
    check("nothing was changed" in done.stderr and "log.level" in done.stderr and "loud" in done.stderr, done.stderr)
    # Each file that the configuration names belongs to it. The exit code is that of a start with it.
    tokens = os.path.join(cluster.directory, "tokens")
    with open(tokens, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write("billing not-a-hash read\n")
    certificates = {"mode": "accept", "cert": "/nonexistent/cert.pem", "key": "/nonexistent/key.pem", "ca": "/nonexistent/ca.pem"}
    for options, code, reason in (({"tls": {"peer": certificates}}, EXIT_NO_INPUT, "/nonexistent/"),
                                  ({"auth": {"tokens": tokens}}, EXIT_CONFIG, f"{tokens}:1"),
                                  ({"auth": {"tokens": tokens + ".gone"}}, EXIT_NO_INPUT, "tokens.gone")):
        cluster.write_config(cluster.nodes[1], log={"level": "debug"}, **options)
        done = run(command)
        check(done.returncode == code and not done.stdout and reason in done.stderr, str(done))
        check("changed log.level" not in cluster.nodes[1].log(), "half of it was taken")
    cluster.write_config(cluster.nodes[1])
    check(run(command).returncode == 0, "the node does not take good files after bad ones")


def test_reload_of_a_dead_or_hanging_node_fails(context):
    cluster, directory = node_of_the_unit(context)
    command = unit_command(directory)
    done = run(command)
    check(done.returncode == EXIT_NO_INPUT and "no node of this version has run" in done.stderr, str(done))
    cluster.start()
    cluster.leader()
    cluster.signal(1, signal.SIGSTOP)
    done = run(command, "--timeout", "300ms")
    check(done.returncode == EXIT_TRY_AGAIN and "has not answered in time" in done.stderr, str(done))
    # It ends while it is waited for.
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as waiting:
        cluster.kill(1)
        text = waiting.communicate(timeout=START_SECONDS)[1]
    check(waiting.returncode == EXIT_UNAVAILABLE, f"{waiting.returncode}: {text}")
    done = run(command)
    check(done.returncode == EXIT_UNAVAILABLE and "no node runs" in done.stderr, str(done))
    # What the dead process left is not taken for an answer of the next one.
    cluster.start()
    wait_until(lambda: run(command).returncode == 0, "the next process does not answer")


def test_copies_of_the_start_are_named(context):
    """Files of LoadCredential=: the reload reads systemd's copy, so a token that was removed still works, and it says so."""
    cluster, directory = node_of_the_unit(context)
    copies = os.path.join(cluster.directory, "credentials")
    os.mkdir(copies)
    original, copy = os.path.join(cluster.directory, "tokens"), os.path.join(copies, "tokens")
    token = run([CONNECTCTL, "token", "new", "--file", original, "--id", "monitor1", "--roles", "monitor"]).stdout
    shutil.copy2(original, copy)
    os.chmod(copy, 0o400)
    node = cluster.nodes[1]
    node.environment["CREDENTIALS_DIRECTORY"] = copies
    cluster.write_config(node, auth={"tokens": copy})
    cluster.start()
    status = [CONNECTCTL, "-e", f"127.0.0.1:{node.http_port}", "status"]
    environment = {**os.environ, "CONNECTCTL_TOKEN": token.strip()}
    wait_until(lambda: run(status, env=environment).returncode == 0, "a good token")
    warning = f"{copy} is systemd's copy of the start: a changed original counts after a restart\n"
    removed = run([CONNECTCTL, "token", "remove", "monitor1", "--file", original])
    check(removed.returncode == 0 and "after a restart if systemd hands the file over" in removed.stderr, str(removed))
    command = unit_command(directory)
    done = run(command)
    check((done.returncode, done.stdout) == (0, "reload found no changes\n" + warning), str(done))
    wait_until(lambda: warning in node.log(), "the log does not warn")
    check(run(status, env=environment).returncode == 0, "the copy of the start does not count")
    # A rejected reload, too: the new file may have been meant for it.
    cluster.write_config(node, auth={"tokens": copy}, log={"level": "loud"})
    done = run(command)
    check(done.returncode == EXIT_CONFIG and "loud" in done.stderr and warning.strip() in done.stderr, str(done))
    # A file of its own is read again.
    cluster.write_config(node, auth={"tokens": original})
    done = run(command)
    check(done.returncode == 0 and "systemd" not in done.stdout, str(done))
    refused = run(status, env=environment)
    check(refused.returncode != 0, f"the removed token still works: {refused}")


def test_reload_in_the_data_directory(context):
    """Without systemd."""
    cluster = context.cluster("counter", nodes=1)
    cluster.start()
    cluster.leader()
    done = run([CONNECTCTL, "reload", cluster.nodes[1].data_dir])
    check(done.returncode == 0, str(done))
    check(cluster.terminate(1) == 0, "TERM does not end it with 0")
    check(run([CONNECTCTL, "reload", cluster.nodes[1].data_dir]).returncode == EXIT_UNAVAILABLE, "it is dead")
    # What it has left in the data directory is no data.
    cluster.start()
    cluster.leader()


if __name__ == "__main__":
    harness.main(globals())

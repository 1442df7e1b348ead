"""The commands of the section "Three machines" in docs/operations.md, typed on four machines.

A machine is a network, mount, host name and process namespace: it sees this machine's files, and what it changes is its
own (an overlay). There is no systemd in it: `systemctl` is a stand-in that starts what the unit's ExecStart= says, as the
unit's user, and waits for READY=1, and runs its ExecReload=. Needs root.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import harness
from harness import BUILD_DIR, SOURCE_DIR, Skip, check, wait_until

sys.path.insert(0, os.path.join(SOURCE_DIR, "tests", "docs"))
import readme_test  # noqa: E402 pylint: disable=wrong-import-position

SECTION = "## Three machines\n"
NUMBERS = (1, 2, 3, 4)

# What systemd does for Type=notify: the directory, the user, READY=1.
SYSTEMCTL = '''#!/usr/bin/env python3
import os, pwd, re, signal, socket, subprocess, sys, time
words = [word for word in sys.argv[1:] if word != "--now"]
verb, units = words[0], words[1:]
if verb == "daemon-reload":
    sys.exit(0)
name, instance = units[0].split("@")
unit = open(f"/usr/lib/systemd/system/{name}@.service").read().replace("%i", instance).replace("%t", "/run")
def setting(key):
    return re.search(rf"^{key}=(.*)$", unit, re.M).group(1)
user = pwd.getpwnam(setting("User"))
pid_file = f"/run/{units[0]}.pid"
def stop():
    if not os.path.exists(pid_file):
        return
    pid = int(open(pid_file).read())
    os.unlink(pid_file)
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    for _ in range(600):
        # The machine's first process does not wait for others' children.
        if not os.path.exists(f"/proc/{pid}") or ") Z" in open(f"/proc/{pid}/stat").read():
            return
        time.sleep(0.1)
    sys.exit(f"{units[0]} does not stop")
def start():
    state = os.path.join("/var/lib", setting("StateDirectory"))
    runtime = os.path.join("/run", setting("RuntimeDirectory"))
    for directory in (os.path.dirname(state), state, os.path.dirname(runtime), runtime):
        os.makedirs(directory, exist_ok=True)
        os.chown(directory, user.pw_uid, user.pw_gid)
    os.chmod(state, int(setting("StateDirectoryMode"), 8))
    path = f"/run/{units[0]}.notify"
    if os.path.exists(path):
        os.unlink(path)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(path)
    os.chmod(path, 0o777)
    notify.settimeout(60)
    log = open(f"/var/log/{units[0]}.log", "ab")
    child = subprocess.Popen(setting("ExecStart").split(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                             start_new_session=True, cwd="/", user=user.pw_uid, group=user.pw_gid, extra_groups=[],
                             env={"PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": path, "RUNTIME_DIRECTORY": runtime})
    open(pid_file, "w").write(str(child.pid))
    while b"READY=1" not in notify.recv(65536):
        pass
    if os.fork() == 0:  # systemd goes on to read
        os.setsid()
        for standard in range(3):
            os.dup2(os.open("/dev/null", os.O_RDWR), standard)
        notify.settimeout(None)
        while True:
            notify.recv(65536)
if verb in ("stop", "restart"):
    stop()
if verb in ("start", "restart", "enable"):
    start()
if verb == "reload":
    sys.exit(subprocess.run(setting("ExecReload").split(), user=user.pw_uid, group=user.pw_gid, extra_groups=[]).returncode)
if verb not in ("start", "stop", "restart", "enable", "disable"):
    sys.exit(f"systemctl {verb}: not in this test")
'''

MACHINE = """
set -e
mount --make-rprivate /
mount -t tmpfs none {directory}
mkdir {directory}/upper {directory}/work {directory}/root
mount -t overlay overlay -o lowerdir=/,upperdir={directory}/upper,workdir={directory}/work {directory}/root
mount --rbind /dev {directory}/root/dev
mount -t proc proc {directory}/root/proc
mount -t tmpfs none {directory}/root/run
mount -t tmpfs none {directory}/root/tmp
hostname {name}
touch {directory}/root/run/made
exec chroot {directory}/root sleep infinity
"""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")


class Machine:
    """db1 at 10.0.0.11, and so on."""

    def __init__(self, prefix, number, directory):
        self.name, self.space = f"db{number}", f"{prefix}-{number}"
        os.makedirs(directory)
        run("ip", "netns", "add", self.space)
        run("ip", "-n", self.space, "link", "set", "lo", "up")
        run("ip", "-n", f"{prefix}-hub", "link", "add", f"m{number}", "type", "veth", "peer", "name", "eth0", "netns",
            self.space)
        run("ip", "-n", f"{prefix}-hub", "link", "set", f"m{number}", "master", "br0", "up")
        run("ip", "-n", self.space, "addr", "add", f"10.0.0.1{number}/24", "dev", "eth0")
        run("ip", "-n", self.space, "link", "set", "eth0", "up")
        self.process = subprocess.Popen(["ip", "netns", "exec", self.space, "unshare", "--mount", "--uts", "--pid", "--fork",
                                         "--kill-child", "sh", "-c", MACHINE.format(directory=directory, name=self.name)],
                                        stderr=subprocess.PIPE, text=True)
        self.pid = wait_until(self._first_process, f"{self.name} is made")
        self.root = pathlib.Path(f"/proc/{self.pid}/root")
        wait_until(lambda: (self.root / "run/made").exists(), f"{self.name} has its files")
        systemctl = self.root / "usr/bin/systemctl"
        systemctl.unlink(missing_ok=True)
        systemctl.write_text(SYSTEMCTL, encoding="utf-8")
        systemctl.chmod(0o755)

    def _first_process(self):
        if self.process.poll() is not None:
            raise Skip(f"no namespaces, or no overlay, here: {self.process.stderr.read().strip()}")
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="utf-8") as children:
            found = children.read().split()
        if not found:
            return None
        with contextlib.suppress(FileNotFoundError):
            with open(f"/proc/{found[0]}/comm", encoding="utf-8") as command:
                return found[0] if command.read().strip() == "sleep" else None
        return None

    def type(self, text, seconds=200):
        """(exit code, lines of standard output, standard error)"""
        done = subprocess.run(["nsenter", "--target", self.pid, "--mount", "--uts", "--net", "--pid", "--root", "--wd=/", "bash",
                               "-euo", "pipefail", "-c", text], capture_output=True, text=True, check=False,
                              timeout=seconds, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"})
        return done.returncode, done.stdout.splitlines(), done.stderr

    def log(self):
        with contextlib.suppress(OSError):
            return (self.root / "var/log/connectd@orders.log").read_text(errors="replace")
        return ""

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(self.pid), signal.SIGKILL)
        self.process.wait(10)


@contextlib.contextmanager
def machines(directory):
    if os.geteuid() != 0:
        raise Skip("namespaces need root")
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode != 0:
        raise Skip("no network namespaces here")
    if any(shutil.which(tool) is None for tool in ("systemd-sysusers", "systemd-tmpfiles", "runuser", "curl")):
        raise Skip("systemd's tools, or curl, are not installed")
    prefix = f"connectd-db-{os.getpid()}"
    made = []
    try:
        run("ip", "netns", "add", f"{prefix}-hub")
        run("ip", "-n", f"{prefix}-hub", "link", "add", "br0", "type", "bridge")
        run("ip", "-n", f"{prefix}-hub", "link", "set", "br0", "up")
        for number in NUMBERS:
            made.append(Machine(prefix, number, os.path.join(directory, f"db{number}")))
        yield {machine.name: machine for machine in made}
    finally:
        for machine in made:
            machine.end()
        for name in [*(str(number) for number in NUMBERS), "hub"]:
            subprocess.run(["ip", "netns", "del", f"{prefix}-{name}"], check=False, capture_output=True)


def blocks_of_the_manual(heading=SECTION):
    with open(os.path.join(SOURCE_DIR, "docs", "operations.md"), encoding="utf-8") as file:
        page = file.read()
    check(page.count(heading) == 1, f"docs/operations.md has no section '{heading.strip()}'")
    before, section = page.split(heading)
    section = section.split("\n## ")[0]
    blocks = readme_test.parse("\n" * (before.count("\n") + 1) + section)
    for block in blocks:
        check(block.where, f"operations.md:{block.line}: on which machine?")
    return blocks


def build_machine(directory):
    """The repository's root as far as the commands name it, with this build as build/release."""
    home = pathlib.Path(directory) / "build-machine"
    shutil.copytree(os.path.join(SOURCE_DIR, "conf"), home / "conf")
    for file in ("bin/connectd", "bin/connectctl", "plugins/libcounter.so"):
        (home / "build/release" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.join(BUILD_DIR, file), home / "build/release" / file)
    return home


# Packages of libraries that each machine with apt has.
WITH_EVERY_DEBIAN = {"libc6", "libgcc-s1", "libstdc++6"}


def test_page_installs_every_library(_context):
    """What the programs need beyond a bare Debian is in the page's apt-get line, by the names of this machine's packages."""
    if shutil.which("dpkg") is None or shutil.which("objdump") is None:
        raise Skip("no dpkg, or no objdump, to ask")
    with open(os.path.join(SOURCE_DIR, "docs", "operations.md"), encoding="utf-8") as file:
        lines = re.findall(r"^apt-get install (.*)$", file.read(), re.MULTILINE)
    check(len(lines) == 1, f"docs/operations.md has these lines: {lines}")
    installed = set(lines[0].split())
    for program in ("connectd", "connectctl"):
        path = os.path.join(BUILD_DIR, "bin", program)
        needed = re.findall(r"NEEDED +(\S+)", subprocess.check_output(["objdump", "-p", path], text=True))
        check(needed, f"{program} names no libraries")
        for library in needed:
            packages = re.findall(r"^([^:]+):.*/" + re.escape(library) + "$",
                                  subprocess.check_output(["dpkg", "-S", f"*/{library}"], text=True), re.MULTILINE)
            check((WITH_EVERY_DEBIAN | installed).intersection(packages),
                  f"{program} needs {library} of {packages}, and docs/operations.md installs {sorted(installed)}")


def stops_without_an_id(machine, block):
    """Typed while no node answers, in a shell that continues after a command that failed."""
    def file():
        return machine.type("cat /etc/connectd/orders.yaml || true")[1]
    before = file()
    code, printed, errors = machine.type("set +eu +o pipefail\nconnectctl() { return 69; }\n" + block.text)
    check(code != 0 and file() == before and "good" not in " ".join(printed), f"without an id: {code} {printed} {errors}")


def type_build_block(block, home, by_name):
    done = subprocess.run(["bash", "-euc", block.text], cwd=home, capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"operations.md:{block.line}, on build: {done.stderr}")
    for machine in by_name.values():
        shutil.copy(home / "connectd.tar.gz", machine.root / "root")


def type_block(block, by_name, directory="/"):
    """On each of its machines in turn; what it prints must be what the manual says."""
    for name in block.where:
        where = f"operations.md:{block.line}, on {name}"
        code, printed, errors = by_name[name].type(f"cd {directory}\n{block.text}")
        logs = "\n".join(f"-- {other}:\n" + "\n".join(by_name[other].log().splitlines()[-8:]) for other in by_name)
        check(code == 0, f"{where}: exit {code}\n{block.text}\n{printed}\n{errors}\n{logs}")
        wrong = readme_test.difference(block, printed)
        check(wrong is None, f"{where}: another output\n{wrong}\n{errors}\n{logs}")


def test_section_of_the_manual(context):
    blocks = blocks_of_the_manual()
    directory = context.cluster("counter", nodes=1).directory
    home = build_machine(directory)
    with machines(directory) as by_name:
        for block in blocks:
            if block.where == ["build"]:
                type_build_block(block, home, by_name)
                continue
            if "id=$(" in block.text:
                for name in block.where:
                    stops_without_an_id(by_name[name], block)
            type_block(block, by_name)
        # The removed node ended by itself, and the others serve.
        wait_until(lambda: "stops for good" in by_name["db4"].log() or "was removed" in by_name["db4"].log(),
                   "db4 knows that it was removed")
        code, printed, errors = by_name["db3"].type("connectctl status")
        check(code == 0 and "healthy" in printed[0] and "can lose 1 more" in printed[0], f"{printed} {errors}")


if __name__ == "__main__":
    harness.main(globals())

#!/usr/bin/env python3
"""Checks who includes whom.

    scripts/check-layering.py [ROOT]       check the tree; exit 1 with one line for each violation
    scripts/check-layering.py --self-test  show that each rule catches a deliberate violation

The rules are the tables below. Modules of daemon/ include strictly downward, and so do the rooms of
daemon/node; each third-party library is included only by the listed modules; the consensus core
includes only base/ and pure standard headers; a plugin includes only connect/plugin.h.
"""
import pathlib
import re
import sys
import tempfile

# Module of daemon/ -> what it may include besides itself: a module, or one header of it.
MAY_INCLUDE = {
    "base": [],
    "auth": ["base"],
    "tls": ["base"],
    "config": ["base", "auth"],
    "raft": ["base"],
    "wire": ["base", "raft/types.h"],
    "plugin": ["base"],
    "storage": ["base", "raft/types.h", "wire"],
    "net": ["base", "auth", "tls", "wire"],
    "transport": ["base", "raft/types.h", "tls", "wire", "net"],
    "node": ["base", "config", "raft", "wire", "plugin", "storage", "transport"],
    "offline": ["base", "config", "raft", "wire", "plugin", "storage", "node"],
    "client": ["base", "auth", "tls", "config", "wire", "net", "node"],
    "admin": ["base", "auth", "tls", "config", "wire", "net", "node", "plugin/metric_table.h"],
    "sim": ["base", "config", "raft", "wire", "plugin", "storage", "transport", "node",
            "client/conversation.h", "client/client_port_options.h"],
    "app": ["base", "auth", "config", "raft", "tls", "wire", "plugin", "storage", "net", "transport", "node",
            "offline", "client", "admin", "sim"],
    "ctl": ["base", "auth", "tls", "config", "raft", "wire", "plugin", "storage", "transport", "node",
            "offline", "client", "admin", "sim"],
}

# Header of daemon/ -> the only modules that may include it, whatever lies below them.
ONLY_FOR = {
    # Below them an error says what went wrong, not how a process ends.
    "base/exit_code.h": ["app", "ctl"],
}

# The rooms of daemon/node, and the public headers of each: those that the node's other files may
# include.
ROOMS = {
    "requests": ["holder.h", "limits.h", "request.h"],
    "apply": ["applier.h", "replicated_state.h", "restored_state.h", "ticks.h"],
    "snapshots": ["snapshot_schedule.h", "snapshots.h", "snapshotter.h"],
    "membership": ["feature_levels.h", "genesis.h", "members.h", "membership.h"],
    "disk": ["disks.h", "log_writer.h", "worker.h"],
    "divergence": ["divergence.h"],
}
# The headers of daemon/node itself that all rooms may include. All others there are above them.
NODE_SHARED = ["effects.h", "jobs.h", "metrics.h", "service.h"]

# Files that may include less than their module does: nothing that leads to a socket.
FILE_MAY_INCLUDE = {
    "client/client_port_options.h": ["node/service.h"],
    "client/shared.h": ["node/service.h", "client/client_port_options.h"],
    "client/shared.cc": ["client/shared.h", "client/conversation.h"],
    "client/conversation.h": ["base", "wire", "node", "client/client_port_options.h",
                              "client/shared.h"],
    "client/conversation.cc": ["base", "wire", "node", "client/client_port_options.h",
                               "client/shared.h", "client/conversation.h"],
}

# In transport and client, only what drives the protocol: the simulator runs the rest.
NETWORK = ["net", "transport/link.h", "transport/link.cc", "transport/peer_network.h",
           "transport/peer_network.cc", "client/connection.h", "client/connection.cc",
           "client/client_port.h", "client/client_port.cc", "admin", "app", "ctl"]
# Third-party or system header (a prefix) -> modules or files of daemon/ that may include it.
# The first matching prefix counts.
LIBRARIES = [
    # Takes 10 seconds to compile: in three files only.
    ("boost/beast", ["admin/connection.cc", "admin/http_client.cc", "admin/request_parser.h"]),
    ("boost/json", ["admin", "ctl"]),
    ("boost/program_options", ["app", "ctl"]),
    ("boost/asio", NETWORK),
    ("boost/system", NETWORK),
    ("boost/", []),
    ("yaml-cpp/", ["config"]),
    ("glog/", ["base/log.h", "base/log.cc"]),
    ("prometheus/", ["admin/metrics.cc"]),
    ("dlfcn.h", ["plugin"]),
    ("openssl/", ["base", "tls"]),
    ("xxhash.h", ["base"]),
    ("connect/plugin.hpp", ["sim"]),
    ("connect/plugin.h", ["plugin", "sim"]),
    ("sys/socket.h", NETWORK + ["tls"]),
    ("netinet/", NETWORK),
    ("arpa/", NETWORK),
    ("netdb.h", NETWORK),
]

# Standard headers that bring threads, files or a console into the consensus core, and the only
# other headers it may include.
NOT_IN_CORE = {"thread", "mutex", "shared_mutex", "condition_variable", "future", "atomic",
               "semaphore", "fstream", "iostream", "filesystem", "ctime", "random", "cstdio"}
IN_CORE = {"tl/expected.hpp", "fmt/format.h"}
STANDARD = re.compile(r"^[a-z_0-9]+$")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SUFFIXES = {".h", ".hpp", ".cc", ".cpp", ".c", ".inc"}


def covers(entry, module, name):
    """Whether a table's entry, a module or one of its files, covers this file."""
    return name == entry if "/" in entry else module == entry


def daemon_violation(module, name, quoted, header):
    """Why the file `name` ("raft/core.cc") may not include `header`; None if it may."""
    target = header.split("/")[0]
    if quoted:
        if "/" not in header or target not in MAY_INCLUDE:
            return "quoted includes begin with a module of daemon/, as in \"base/error.h\""
        if header in ONLY_FOR and module not in ONLY_FOR[header]:
            return f"may be included only in: {', '.join(ONLY_FOR[header])}"
        if name in FILE_MAY_INCLUDE:
            if any(covers(entry, target, header) for entry in FILE_MAY_INCLUDE[name]):
                return None
            return f"{name} may include only: {', '.join(FILE_MAY_INCLUDE[name])}"
        if target == module:
            return None
        if any(covers(entry, target, header) for entry in MAY_INCLUDE[module]):
            return None
        allowed = ", ".join(MAY_INCLUDE[module]) or "nothing"
        return f"{module}/ may include only itself and: {allowed}"
    for prefix, places in LIBRARIES:
        if header.startswith(prefix):
            if any(covers(place, module, name) for place in places):
                break
            return f"<{prefix}...> may be included only in: {', '.join(places) or 'no module'}"
    if module == "raft" and header not in IN_CORE:
        if header in NOT_IN_CORE or not STANDARD.match(header):
            return "the consensus core is pure: no I/O, threads, clock or system headers"
    return None


def room_of(name):
    """The room of "node/apply/ticks.h" is "apply", that of "node/node.h" none."""
    parts = name.split("/")
    return parts[1] if len(parts) > 2 else None


def node_violation(name, header):
    """Why the file `name` of daemon/node may not include `header` of daemon/node; None if it may."""
    here, there = room_of(name), room_of(header)
    for room in (here, there):
        if room and room not in ROOMS:
            return f"node/{room} is not a room known to the layering check"
    leaf = header.split("/")[-1]
    if there == here:
        return None
    if not there:
        return None if leaf in NODE_SHARED else (
            f"a room includes nothing above it; of daemon/node itself only: {', '.join(NODE_SHARED)}")
    if not here and name.split("/")[-1].replace(".cc", ".h") in NODE_SHARED:
        return "the rooms include this, so it includes none of them"
    if leaf not in ROOMS[there]:
        return f"private to another room, whose public headers are: {', '.join(ROOMS[there])}"
    return None


def cycle(edges):
    """A cycle in {(from, to): where}, as a list of rooms that begins and ends with the same one."""
    def walk(path):
        for origin, target in sorted(edges):
            if origin != path[-1]:
                continue
            if target in path:
                return path[path.index(target):] + [target]
            found = walk(path + [target])
            if found:
                return found
        return None

    for start in sorted({origin for origin, _ in edges}):
        found = walk([start])
        if found:
            return found
    return None


def outside_violation(quoted, header):
    """The same for plugins/ and sdk/include, which are programs of others."""
    if header.split("/")[0] in MAY_INCLUDE and "/" in header:
        return "plugins and the SDK do not know the daemon"
    if any(header.startswith(prefix) for prefix in ("boost/", "glog/", "yaml-cpp/")):
        return "plugins and the SDK do not share the daemon's libraries"
    if quoted and header.startswith(".."):
        return "no includes upward out of the folder"
    return None


def sources(folder):
    return sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES and p.is_file())


def check(root):
    """All violations, as "file:line: text"; and the number of includes checked."""
    violations, seen, uses = [], 0, {}
    for top in ("daemon", "plugins", "sdk/include"):
        base = root / top
        for path in sources(base):
            name = path.relative_to(base).as_posix()
            module = name.split("/")[0]
            where = path.relative_to(root).as_posix()
            if top == "daemon" and ("/" not in name or module not in MAY_INCLUDE):
                violations.append(f"{where}: not in a module of daemon/ known to the layering check")
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
            for number, line in enumerate(text.splitlines(), start=1):
                if module == "raft" and top == "daemon" and re.search(r"\blog_(event|event_of|line)\(", line):
                    violations.append(f"{where}:{number}: the consensus core does not log")
                match = INCLUDE.match(line)
                if not match:
                    continue
                seen += 1
                quoted, header = match.group(1) == '"', match.group(2)
                why = (daemon_violation(module, name, quoted, header) if top == "daemon"
                       else outside_violation(quoted, header))
                if not why and top == "daemon" and quoted and module == "node" == header.split("/")[0]:
                    why = node_violation(name, header)
                    here, there = room_of(name), room_of(header)
                    if here and there and here != there:
                        uses.setdefault((here, there), f"{where}:{number}")
                if why:
                    violations.append(f"{where}:{number}: includes {header}: {why}")
    around = cycle(uses)
    if around:
        steps = ", ".join(uses[step] for step in zip(around, around[1:]))
        violations.append(f"daemon/node: rooms in a cycle: {' -> '.join(around)} ({steps})")
    return violations, seen


# file -> (its only line, is it a violation)
SELF_TEST = {
    "daemon/base/a.h": ('#include "raft/types.h"', True),
    "daemon/base/b.h": ('#include "base/error.h"', False),
    "daemon/base/e.cc": ('#include "base/exit_code.h"', True),
    "daemon/base/c.h": ("#include <glog/logging.h>", True),
    "daemon/base/log.h": ("#include <glog/logging.h>", False),
    "daemon/base/d.cc": ("#include <openssl/evp.h>", False),
    "daemon/auth/a.cc": ('#include "base/sha256.h"', False),
    "daemon/auth/b.cc": ('#include "config/config.h"', True),
    "daemon/auth/c.cc": ("#include <openssl/evp.h>", True),
    "daemon/node/f.h": ('#include "auth/roles.h"', True),
    "daemon/tls/a.cc": ("#include <openssl/ssl.h>", False),
    "daemon/tls/b.cc": ("#include <boost/asio/io_context.hpp>", True),
    "daemon/tls/c.h": ('#include "config/config.h"', True),
    "daemon/raft/a.h": ('#include "wire/peer_messages.h"', True),
    "daemon/raft/b.h": ("#include <mutex>", True),
    "daemon/raft/c.h": ("#include <unistd.h>", True),
    "daemon/raft/d.h": ("#include <vector>", False),
    "daemon/raft/e.cc": ('  log_event(LogEvent::kRaftRole, "x");', True),
    "daemon/raft/f.cc": ("  CHECK(x);", False),
    "daemon/wire/a.h": ('#include "raft/core.h"', True),
    "daemon/wire/b.h": ('#include "raft/types.h"', False),
    "daemon/wire/c.h": ("#include <sys/socket.h>", True),
    "daemon/plugin/a.cc": ("#include <dlfcn.h>", False),
    "daemon/plugin/b.cc": ('#include "config/config.h"', True),
    "daemon/node/a.cc": ("#include <dlfcn.h>", True),
    "daemon/node/b.cc": ("#include <boost/asio/io_context.hpp>", True),
    "daemon/node/c.cc": ('#include "client/port.h"', True),
    "daemon/node/d.cc": ('#include "plugin/instance.h"', False),
    "daemon/node/e.cc": ('#include "error.h"', True),
    "daemon/node/f.cc": ('#include "base/exit_code.h"', True),
    "daemon/node/requests/a.cc": ('#include "node/service.h"', False),
    "daemon/node/requests/b.cc": ('#include "node/node.h"', True),
    "daemon/node/disk/a.cc": ('#include "node/threads.h"', True),
    "daemon/node/disk/b.cc": ('#include "node/options.h"', True),
    "daemon/node/disk/c.cc": ('#include "node/disk/disk_watch.h"', False),
    "daemon/node/disk/d.cc": ('#include "node/apply/restored_state.h"', False),
    "daemon/node/disk/e.cc": ('#include "node/apply/session_table.h"', True),
    "daemon/node/parts.cc": ('#include "node/requests/stream.h"', True),
    "daemon/node/parts.h": ('#include "node/requests/holder.h"', False),
    "daemon/node/jobs.h": ('#include "node/disk/worker.h"', True),
    "daemon/node/cellar/a.cc": ('#include "node/service.h"', True),
    "daemon/storage/a.cc": ('#include "plugin/plugin.h"', True),
    "daemon/storage/b.cc": ("#include <yaml-cpp/yaml.h>", True),
    "daemon/config/a.cc": ("  #  include <yaml-cpp/yaml.h>", False),
    "daemon/transport/link.cc": ("#include <boost/asio/io_context.hpp>", False),
    "daemon/transport/peers.cc": ("#include <boost/asio/io_context.hpp>", True),
    "daemon/transport/b.cc": ("#include <boost/beast/http.hpp>", True),
    "daemon/sim/a.cc": ('#include "client/conversation.h"', False),
    "daemon/sim/b.cc": ('#include "client/connection.h"', True),
    "daemon/client/a.cc": ('#include "admin/http.h"', True),
    "daemon/client/b.cc": ('#include "node/service.h"', False),
    "daemon/client/c.cc": ("#include <boost/asio/ip/tcp.hpp>", True),
    "daemon/client/connection.h": ("#include <boost/asio/ip/tcp.hpp>", False),
    "daemon/client/client_port.cc": ("#include <boost/asio/io_context.hpp>", False),
    "daemon/client/conversation.cc": ("#include <sys/socket.h>", True),
    "daemon/client/conversation.h": ('#include "client/connection.h"', True),
    "daemon/admin/a.cc": ("#include <boost/json.hpp>", False),
    "daemon/admin/b.cc": ("#include <openssl/ssl.h>", True),
    "daemon/admin/c.cc": ("#include <boost/beast/http.hpp>", True),
    "daemon/admin/connection.cc": ("#include <boost/beast/http.hpp>", False),
    "daemon/app/a.cc": ('#include "ctl/commands.h"', True),
    "daemon/app/b.cc": ("#include <boost/program_options.hpp>", False),
    "daemon/ctl/a.cc": ('#include "app/main.h"', True),
    "daemon/app/c.cc": ('#include "base/exit_code.h"', False),
    "daemon/ctl/c.cc": ('#include "base/exit_code.h"', False),
    "daemon/ctl/b.cc": ("#include <boost/filesystem.hpp>", True),
    "daemon/extra/a.cc": ("int x;", True),
    "plugins/kv/a.cc": ('#include "base/bytes.h"', True),
    "plugins/kv/b.cc": ("#include <connect/plugin.hpp>", False),
    "plugins/kv/c.cc": ("#include <glog/logging.h>", True),
    "sdk/include/connect/a.h": ('#include "plugin/plugin.h"', True),
}

# Trees of more than one file -> are they a violation.
SELF_TEST_TREES = [
    ({"daemon/node/disk/a.h": '#include "node/apply/restored_state.h"',
      "daemon/node/apply/a.h": '#include "node/requests/request.h"'}, False),
    ({"daemon/node/disk/a.h": '#include "node/apply/restored_state.h"',
      "daemon/node/apply/a.h": '#include "node/disk/worker.h"'}, True),
    ({"daemon/node/disk/a.h": '#include "node/apply/restored_state.h"',
      "daemon/node/apply/a.h": '#include "node/requests/request.h"',
      "daemon/node/requests/a.h": '#include "node/disk/worker.h"'}, True),
]


def self_test():
    wrong = []
    trees = [({name: line}, expected) for name, (line, expected) in SELF_TEST.items()]
    trees += SELF_TEST_TREES
    for files, expected in trees:
        with tempfile.TemporaryDirectory() as folder:
            for name, line in files.items():
                path = pathlib.Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("// a comment\n" + line + "\n", encoding="utf-8")
            violations, _ = check(pathlib.Path(folder))
            if bool(violations) != expected:
                tree = "; ".join(f"{name}: {line.strip()}" for name, line in files.items())
                wrong.append(f"{tree}: {'not caught' if expected else 'refused: ' + violations[0]}")
    for line in wrong:
        print(line)
    print(f"self-test: {len(trees)} cases, {len(wrong)} wrong")
    return 1 if wrong else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) > 1 or any(a.startswith("-") for a in arguments):
        print(__doc__.strip(), file=sys.stderr)
        return 64
    root = pathlib.Path(arguments[0]) if arguments else pathlib.Path(__file__).resolve().parent.parent
    violations, seen = check(root)
    for line in violations:
        print(line)
    if seen == 0:
        print(f"no includes found under {root}: is it the root of the source tree?")
        return 1
    print(f"layering: {seen} includes, {len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

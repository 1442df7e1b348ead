"""redis-cli and redis-benchmark, as Debian ships them, against three nodes with kv."""

import re
import shutil
import subprocess

import harness
from harness import check, wait_until


def tool(name):
    path = shutil.which(name)
    check(path is not None, f"{name} is not installed: run scripts/install-deps.sh (package redis-tools)")
    return path


def run(*arguments, data=None, seconds=120):
    done = subprocess.run(arguments, input=data, capture_output=True, text=True, timeout=seconds, check=False)
    return done.returncode, done.stdout + done.stderr


def serving(context):
    cluster = context.cluster("kv")
    cluster.start()
    cluster.leader()
    return cluster


def test_redis_cli(context):
    cluster = serving(context)
    cli = tool("redis-cli")

    def ask(node_id, *words, data=None):
        code, out = run(cli, "-p", str(cluster.nodes[node_id].client_port), *words, data=data)
        check(code == 0, f"redis-cli {' '.join(words)} ended with {code}: {out}")
        return out.rstrip("\n")

    def equal(got, wanted):
        check(got == wanted, f"redis-cli says {got!r}, not {wanted!r}")

    equal(ask(1, "SET", "greeting", "hello world"), "OK")
    for node_id in cluster.nodes:
        equal(ask(node_id, "GET", "greeting"), "hello world")
    equal(ask(2, "INCR", "n"), "1")
    equal(ask(3, "INCRBY", "n", "41"), "42")
    equal(ask(1, "GET", "none"), "")
    equal(ask(1, "LPUSH", "l", "x"), "ERR unknown command 'LPUSH', with args beginning with: 'l' 'x' ")
    equal(ask(2, "SET", "n"), "ERR wrong number of arguments for 'set' command")
    equal(ask(1, "CAS", "n", "42", "43"), "1")
    equal(ask(1, "SET", "short", "x", "PX", "50"), "OK")
    # The log's time goes on with its entries; a tick comes once the deadline has passed.
    wait_until(lambda: ask(2, "EXISTS", "short") == "0", "the key expires on node 2")
    # As a terminal session would, with the commands' documentation asked for on connecting; and
    # inline commands, which a person types into nc.
    equal(ask(1, data="SET a 1\nINCR a\nGET a\n"), "OK\n2\n2")
    # A whole file of commands at once, pipelined.
    commands = "".join(f"*3\r\n$3\r\nSET\r\n${len(f'p{i}')}\r\np{i}\r\n$1\r\nx\r\n" for i in range(2000))
    out = ask(3, "--pipe", data=commands)
    check("errors: 0, replies: 2000" in out, f"redis-cli --pipe says {out!r}")
    equal(ask(1, "DBSIZE"), "2003")
    equal(ask(2, "PING"), "PONG")
    with cluster.line_client(1) as client:
        client.send(b"PING\r\n")
        equal(client._read(client.file.readline), b"+PONG\r\n")


def test_redis_benchmark(context):
    cluster = serving(context)
    benchmark = tool("redis-benchmark")
    for node_id in cluster.nodes:
        for arguments in (["-t", "ping,set,get,incr,mset", "-n", "2000", "-c", "20"],
                          ["-t", "set,get,incr", "-n", "20000", "-c", "8", "-P", "32", "-d", "128"],
                          ["-t", "set", "-n", "300", "-c", "1"]):
            code, out = run(benchmark, "-p", str(cluster.nodes[node_id].client_port), "-q", "--csv", *arguments)
            check(code == 0, f"redis-benchmark {' '.join(arguments)} ended with {code}: {out}")
            check("error" not in out.lower(), f"redis-benchmark {' '.join(arguments)} says {out}")
            rates = re.findall(r'^"([A-Z_]+[^"]*)","([0-9.]+)"', out, re.M)
            check(len(rates) >= arguments[1].count(",") + 1, f"redis-benchmark gave no figures: {out}")
            print(f"node {node_id}: {' '.join(arguments)}: " + ", ".join(f"{name} {rate}/s" for name, rate in rates))
    # 3 nodes x (2000 + 20000) increments of one key.
    with cluster.resp_client(1) as client:
        count = int(client.call("GET", "counter:__rand_int__"))
        check(count == 3 * 22000, f"{count} increments were counted, 66000 were acknowledged")
    cluster.wait_equal()


if __name__ == "__main__":
    harness.main(globals())

"""Clients that misbehave: they cost bounded memory, get an error, and do not disturb others."""

import http.client
import os
import signal
import socket
import subprocess
import time

import harness
from harness import ErrorReply, FAST_RAFT, Disconnected, check, memory_bytes, wait_until

MIB = 1 << 20
# More than client.max_request, and more than twice that.
GIANT = b"x" * (3 * MIB)


def raw(cluster, node_id, receive_buffer=None):
    client = socket.socket()
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(harness.CLIENT_SECONDS)
    client.connect(("127.0.0.1", cluster.nodes[node_id].client_port))
    return client


def read_to_end(client):
    """Everything that the server sent until it closed the connection."""
    data = b""
    try:
        while True:
            part = client.recv(65536)
            if not part:
                return data
            data += part
            check(len(data) < 4 * MIB, "the server does not stop talking")
    except socket.timeout:
        raise harness.Failure(f"the connection was not closed; so far it said {data[:100]!r}") from None
    except ConnectionError:
        return data


def offer(client, data):
    """Sends as much as the server accepts; the server may close at any time."""
    try:
        client.sendall(data)
    except OSError:
        pass


def running(context, plugin, **client):
    cluster = context.cluster(plugin, settings={"raft": FAST_RAFT, "client": client})
    cluster.start()
    return cluster, cluster.leader()


def test_large_value_by_default(context):
    """A value of 1 MiB fits; one over the limit is refused with the name of the key that binds."""
    cluster = context.cluster("kv", settings={"raft": FAST_RAFT, "storage": {"segment_size": "64MiB"}})
    cluster.start()
    with cluster.resp_client(cluster.leader()) as client:
        check(client.call("SET", "large", "x" * MIB) == b"OK", "SET of 1 MiB failed")
        check(client.call("STRLEN", "large") == MIB, "the value is not there")
        try:
            client.call("SET", "larger", "x" * (2 * MIB))
            check(False, "SET of 2 MiB was taken")
        except ErrorReply as error:
            check("TOOLARGE" in str(error) and "client.max_request" in str(error), f"not named: {error}")
        check(client.call("STRLEN", "large") == MIB, "the connection is of no use any more")


def test_slow_readers_cost_bounded_memory(context):
    """Clients that send as fast as they can and never read one reply."""
    cluster, leader = running(context, "kv")
    pid = cluster.nodes[leader].process.pid
    with cluster.resp_client(leader) as client:
        check(client.call("SET", "large", "x" * 100_000) == b"OK", "SET failed")
        before = memory_bytes(pid)
        readers = [raw(cluster, leader, receive_buffer=4096) for _ in range(50)]
        requests = harness.resp_command(("GET", "large")) * 2000  # 200 MB of replies for each
        for reader in readers:
            reader.setblocking(False)
        left = {reader: requests for reader in readers}
        stuck_since = time.monotonic()

        def all_stuck():
            """No client could send anything for a second: the server has stopped reading."""
            nonlocal stuck_since
            for reader, rest in left.items():
                try:
                    sent = reader.send(rest) if rest else 0
                except BlockingIOError:
                    sent = 0
                if sent > 0:
                    left[reader] = rest[sent:]
                    stuck_since = time.monotonic()
            return time.monotonic() - stuck_since > 1.0
        wait_until(all_stuck, "the slow readers come to a stop", 60)
        started = time.monotonic()
        check(client.call("INCR", "n") == 1, "INCR beside slow readers failed")
        check(time.monotonic() - started < 50, "an honest client waits behind slow readers")
        grown = memory_bytes(pid) - before
        print(f"50 slow readers cost {grown / MIB:.1f} MiB")
        check(grown < 200 * MIB, f"50 slow readers cost {grown / MIB:.0f} MiB")
        for reader in readers:
            reader.close()
        check(client.call("INCR", "n") == 2, "INCR after slow readers failed")


def read_nothing(cluster, node_id, clients, *requests):
    """Clients that send these requests, one piece after the other, and read no reply."""
    sockets = [raw(cluster, node_id, receive_buffer=4096) for _ in range(clients)]
    for piece in requests:
        for client in sockets:
            client.sendall(piece)
        time.sleep(0.5)
    return sockets


def peak_memory(pid, seconds):
    end, peak = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        peak = max(peak, memory_bytes(pid))
        time.sleep(0.01)
    return peak


def test_unread_replies_cost_bounded_memory(context):
    """Replies are made when their clients have room for them, whatever the earlier ones were like; freed memory goes
    back to the system."""
    cluster = context.cluster("kv", nodes=1, settings={"client": {"max_request": "2MiB"}, "storage": {"segment_size": "64MiB"}})
    cluster.start()
    leader = cluster.leader()
    pid = cluster.nodes[leader].process.pid
    with cluster.resp_client(leader) as client:
        check(client.call("SET", "large", "x" * MIB) == b"OK", "SET failed")
        check(client.call("SET", "small", "x") == b"OK", "SET failed")
        before = memory_bytes(pid)
        small = harness.resp_command(("GET", "small"))
        large = harness.resp_command(("GET", "large"))
        few = read_nothing(cluster, leader, 5, small * 80, large * 256)
        grown = peak_memory(pid, 3) - before
        print(f"5 clients that ask for 256 MiB each cost {grown / MIB:.0f} MiB")
        check(grown < (5 * 4 + 50) * MIB, f"5 clients cost {grown / MIB:.0f} MiB")
        many = read_nothing(cluster, leader, 200, large * 10)
        grown = peak_memory(pid, 3) - before
        print(f"200 clients that ask for 10 MiB each cost {grown / MIB:.0f} MiB")
        check(grown < 400 * MIB, f"200 clients cost {grown / MIB:.0f} MiB")
        check(client.call("INCR", "n") == 1, "INCR beside clients that do not read failed")
        for reader in few + many:
            reader.close()
        wait_until(lambda: memory_bytes(pid) < before + 64 * MIB,
                   lambda: f"memory is given back; it is {memory_bytes(pid) / MIB:.0f} MiB, {before / MIB:.0f} before", 15)


def test_long_pipeline_is_answered_whole(context):
    """A client writes all its requests before it reads the first reply."""
    cluster, leader = running(context, "kv")
    count = 300_000
    with raw(cluster, leader) as client:
        client.sendall(harness.resp_command(("SET", "a", "x" * 100)))
        with client.makefile("rb") as replies:
            check(replies.readline() == b"+OK\r\n", "SET failed")
            client.sendall(harness.resp_command(("GET", "a")) * count)
            for number in range(count):
                reply = replies.readline() + replies.readline()
                check(reply == b"$100\r\n" + b"x" * 100 + b"\r\n", f"reply {number} is {reply[:80]!r}")


def test_pipelines_take_turns(context):
    """Beside connections that pipeline without end, another client's write waits for few requests, not for all."""
    cluster, leader = running(context, "kv")
    piece = harness.resp_command(("SET", "p", "v")) * 20_000
    floods = []
    for _ in range(20):
        flood = raw(cluster, leader)
        flood.setblocking(False)
        floods.append(flood)
    left = {flood: b"" for flood in floods}
    answered = dict.fromkeys(floods, 0)

    def pump():
        for flood in floods:
            try:
                left[flood] = left[flood] or piece
                left[flood] = left[flood][flood.send(left[flood]):]
            except BlockingIOError:
                pass
            try:
                answered[flood] += flood.recv(1 << 20).count(b"\n")
            except BlockingIOError:
                pass

    # How many requests of the others are answered while a write of this client is: a number, not a time.
    between = []
    with raw(cluster, leader) as client:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            pump()
        client.setblocking(False)
        for _ in range(30):
            before = sum(answered.values())
            client.send(harness.resp_command(("SET", "mine", "v")))
            while True:
                try:
                    check(client.recv(100) == b"+OK\r\n", "SET beside pipelines failed")
                    break
                except BlockingIOError:
                    pump()
            between.append(sum(answered.values()) - before)
    for flood in floods:
        flood.close()
    between.sort()
    print(f"answered to 20 pipelines during one write of another client: median {between[15]}, at most {between[-1]}; "
          f"each pipeline {min(answered.values())} to {max(answered.values())}")
    check(between[15] < 20_000, f"a write waits for {between[15]} requests of others")
    check(min(answered.values()) * 4 > max(answered.values()), f"the pipelines differ: {sorted(answered.values())}")


def test_half_sent_requests_leave_room(context):
    """Clients that send most of a large request, and then nothing, do not keep others out."""
    cluster, leader = running(context, "kv", max_inflight_bytes="16MiB")  # 64 MiB of requests that are not begun
    value = "x" * 900_000
    half = harness.resp_command(("SET", "k", value))[:530_000]
    pid = cluster.nodes[leader].process.pid
    before = memory_bytes(pid)
    senders = [raw(cluster, leader) for _ in range(150)]
    for sender in senders:
        offer(sender, half)
    grown = peak_memory(pid, 2) - before
    print(f"150 half-sent requests cost {grown / MIB:.0f} MiB")
    check(grown < 160 * MIB, f"150 half-sent requests cost {grown / MIB:.0f} MiB")
    with cluster.resp_client(leader) as client:
        started = time.monotonic()
        check(client.call("SET", "k", value) == b"OK", "a large SET beside half-sent ones failed")
        print(f"a large SET beside them took {time.monotonic() - started:.1f} s")
    for sender in senders:
        sender.close()


def test_slow_senders_do_not_block_others(context):
    cluster, leader = running(context, "counter")
    tricklers = [raw(cluster, leader) for _ in range(200)]
    with cluster.line_client(leader) as client:
        value = 0
        for byte in b"incr x":
            for trickler in tricklers:
                trickler.send(bytes([byte]))
            value += 1
            check(int(client.call(b"incr")) == value, "an increment of a trickler came before its line end")
        for trickler in tricklers:
            trickler.send(b"\n")
        values = set()
        for trickler in tricklers:
            with trickler.makefile("rb") as file:
                values.add(int(file.readline()))
        check(values == set(range(value + 1, value + 201)), "the tricklers' increments are not each counted once")
    for trickler in tricklers:
        trickler.close()


def processor_seconds(node):
    with open(f"/proc/{node.process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_floods_do_not_stop_others(context):
    """One connection per node always has a request and reads its replies: consensus and other clients get their share."""
    cluster = context.cluster("kv")
    cluster.start()
    leader = cluster.leader()
    term = cluster.status(leader)["term"]
    floods = [subprocess.Popen(["sh", "-c", f"exec yes PING | exec nc 127.0.0.1 {node.client_port} >/dev/null"],
                               start_new_session=True, stderr=subprocess.DEVNULL) for node in cluster.nodes.values()]
    try:
        before = {node.id: processor_seconds(node) for node in cluster.nodes.values()}
        wait_until(lambda: all(processor_seconds(node) > before[node.id] + 0.3 for node in cluster.nodes.values()),
                   "the floods keep every node busy")
        took = {}
        for node_id in cluster.nodes:
            with cluster.resp_client(node_id) as client:
                for number in range(20):
                    started = time.monotonic()
                    check(client.call("SET", f"k{number}", "v") == b"OK", f"a write at node {node_id}")
                    took[node_id, number] = time.monotonic() - started
        check(all(flood.poll() is None for flood in floods), "a flood has ended")
    finally:
        for flood in floods:
            os.killpg(flood.pid, signal.SIGKILL)
            flood.wait()
    check(cluster.status(cluster.leader())["term"] == term, "the leader lost its leadership")
    print(f"60 writes beside three floods: the slowest took {max(took.values()) * 1000:.0f} ms")


def test_giant_requests_are_refused(context):
    cluster, leader = running(context, "counter")
    pid = cluster.nodes[leader].process.pid
    before = memory_bytes(pid)
    clients = [cluster.line_client(leader) for _ in range(20)]
    for client in clients:
        client.send(GIANT)  # no end yet: the server must not hold on to it
    grown = memory_bytes(pid) - before
    check(grown < 48 * MIB, f"giant lines cost {grown / MIB:.0f} MiB")
    for client in clients:
        client.send(b"\nget\n")
        reply = client.read_reply()
        check(isinstance(reply, ErrorReply) and reply.code == "TOOLARGE", f"a giant line was answered {reply!r}")
        check(client.read_reply() == b"0", "the request behind a giant line was not answered")
        client.send(b"incr " + b"x" * (1 << 20) + b"\n")
        reply = client.read_reply()
        check(isinstance(reply, ErrorReply) and reply.code == "TOOLARGE", f"a line just over the limit was answered {reply!r}")
        client.close()
    grown = memory_bytes(pid) - before
    check(grown < 48 * MIB, f"giant lines cost {grown / MIB:.0f} MiB")
    with cluster.line_client(leader) as honest:
        check(honest.call(b"get") == b"0", "a giant request was applied")


def test_bad_resp_frames(context):
    cluster, leader = running(context, "kv")
    pid = cluster.nodes[leader].process.pid
    before = memory_bytes(pid)
    frames = [
        b"*4294967295\r\n", b"*-2\r\n", b"*x\r\n", b"*99999999999999999999\r\n",
        b"*1\r\n$4294967295\r\n", b"*1\r\n$-5\r\n", b"*1\r\n$x\r\n", b"*1\r\n:1\r\n",
        b"*1\r\n$99999999999999999999\r\n", b"*2\r\n$3\r\nGET\r\n$536870912\r\n",
        b"*1\r\n$1\r\nxyz\r\n", b"*1048577\r\n" + b"$1\r\nx\r\n" * 1000,
        b"*" + b"1" * 100_000, b"x" * (2 * MIB),
    ]
    for frame in frames:
        client = raw(cluster, leader)
        offer(client, frame)
        client.shutdown(socket.SHUT_WR)
        said = read_to_end(client)
        check(said == b"" or said.startswith(b"-"), f"{frame[:40]!r} was answered {said[:80]!r}")
        client.close()
    # A good command before the bad bytes is answered first.
    client = raw(cluster, leader)
    offer(client, harness.resp_command(("SET", "a", "1")) + b"*1\r\n:nonsense\r\n")
    said = read_to_end(client)
    check(said.startswith(b"+OK\r\n-"), f"a command before a bad frame was answered {said[:80]!r}")
    client.close()
    for _ in range(200):
        client = raw(cluster, leader)
        offer(client, bytes(context.random.randrange(256) for _ in range(context.random.randrange(1, 2000))))
        client.close()
    with cluster.resp_client(leader) as honest:
        check(honest.call("GET", "a") == b"1", "the store does not serve after bad frames")
    grown = memory_bytes(pid) - before
    check(grown < 48 * MIB, f"bad frames cost {grown / MIB:.0f} MiB")


def test_bytes_for_nobody_on_the_peer_port(context):
    cluster, leader = running(context, "counter")
    pid = cluster.nodes[leader].process.pid
    before = memory_bytes(pid)
    for _ in range(200):
        client = socket.create_connection(("127.0.0.1", cluster.nodes[leader].peer_port), timeout=harness.CLIENT_SECONDS)
        size = context.random.choice((1, 8, 100, 5000))
        offer(client, context.random.choice((b"\xff" * size, b"\0" * size, context.random.randbytes(size), b"GET / HTTP/1.1\r\n\r\n")))
        client.close()
    with cluster.line_client(leader) as honest:
        check(honest.call(b"incr") == b"1", "the counter does not serve after nonsense at the peer port")
    grown = memory_bytes(pid) - before
    check(grown < 48 * MIB, f"nonsense at the peer port cost {grown / MIB:.0f} MiB")
    check(cluster.leader() == leader, "nonsense at the peer port changed the leader")


def test_too_many_connections(context):
    cluster, leader = running(context, "counter", max_connections=20)
    clients = [cluster.line_client(leader) for _ in range(20)]
    for client in clients:
        client.call(b"get")
    extra = raw(cluster, leader)
    said = read_to_end(extra)
    check(said.startswith(b"ERR OVERLOADED ") or said == b"", f"the 21st connection was told {said[:80]!r}")
    extra.close()
    clients.pop().close()

    def room_again():
        try:
            with cluster.line_client(leader) as client:
                return client.call(b"get") == b"0"
        except (Disconnected, ErrorReply):
            return False
    wait_until(room_again, "a connection is free again")
    for client in clients:
        client.close()


def test_no_leader(context):
    """Without a quorum, reads and writes wait for the request timeout, then report their outcome."""
    cluster, leader = running(context, "counter", request_timeout="1s")
    cluster.kill(*[node_id for node_id in cluster.nodes if node_id != leader])
    with cluster.line_client(leader) as client:
        reply = client.pipeline([b"incr"])[0]
        check(isinstance(reply, ErrorReply) and reply.code in ("NOLEADER", "UNKNOWN"), f"a write was answered {reply!r}")
        wait_until(lambda: (cluster.status(leader) or {}).get("role") != "leader", "the lonely leader steps down")
        started = time.monotonic()
        replies = client.pipeline([b"get", b"incr"])
        check(all(isinstance(reply, ErrorReply) for reply in replies), f"without a quorum, answers are {replies}")
        check(replies[0].code == "NOLEADER", f"a read without a leader was answered {replies[0]}")
        check(0.9 < time.monotonic() - started < 80, "the request timeout of 1 s is not kept")
    check(cluster.get(leader, "/livez")[0] == 200, "/livez says no without a quorum")
    check(cluster.get(leader, "/readyz")[0] == 503, "/readyz says yes without a quorum")
    check(cluster.get(leader, "/leaderz")[0] != 200, "/leaderz says yes without a quorum")
    check(cluster.status(leader) is not None, "/v1/status needs a quorum")



def call_over_http(cluster, node_id, body):
    """(status, code, answer) of one POST /v1/call."""
    connection = http.client.HTTPConnection("127.0.0.1", cluster.nodes[node_id].http_port, timeout=30)
    try:
        connection.request("POST", "/v1/call", body=body,
                           headers={"X-Connect-Request": "1", "Content-Type": "application/octet-stream"})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, answer.getheader("X-Connect-Code"), text
    finally:
        connection.close()


def test_a_call_is_one_request(context):
    """The body of a call is one request: lines are not run one by one; RESP commands are, as one."""
    cluster, leader = running(context, "counter")
    for body, expected in ((b"incr", b"1\n"), (b"incr\n", b"2\n"), (b"incr\r\n", b"3\n")):
        status, _, answer = call_over_http(cluster, leader, body)
        check((status, answer) == (200, expected), f"{body!r} was answered {status} {answer!r}")
    for body in (b"incr\nincr", b"incr\nincr\n", b"\nincr"):
        status, _, answer = call_over_http(cluster, leader, body)
        check(status == 400 and b"BADFRAME" in answer, f"{body!r} was answered {status} {answer!r}")
    check(call_over_http(cluster, leader, b"get")[2] == b"3\n", "a refused body had an effect")

    cluster, leader = running(context, "kv")
    two = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n5\r\n*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n6\r\n"
    status, _, answer = call_over_http(cluster, leader, two)
    check((status, answer) == (200, b"*2\r\n+OK\r\n+OK\r\n"), f"two commands were answered {status} {answer!r}")
    status, _, answer = call_over_http(cluster, leader, b"*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n")
    check(answer == b"*2\r\n$1\r\n5\r\n$1\r\n6\r\n", f"the two were not both run: {answer!r}")


if __name__ == "__main__":
    harness.main(globals())

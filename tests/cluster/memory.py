"""The memory, descriptors and threads of a node after a million writes."""

import threading

import harness
from harness import check, descriptor_count, memory_bytes, thread_count, wait_until

MIB = 1 << 20
WRITES = 1_000_000
CLIENTS = 4
BATCH = 2500
MEMORY_MAX = 64 * MIB


def test_a_million_counter_writes(context):
    cluster = context.cluster("counter", settings={"storage": {"segment_size": "64MiB"}})
    cluster.start()
    leader = cluster.leader()
    clients = [cluster.line_client(node_id) for node_id in cluster.nodes for _ in range(CLIENTS)]
    for client in clients:
        client.pipeline([b"incr"] * 100)
    written = 100 * len(clients)
    cluster.wait_equal()
    pids = {node_id: node.process.pid for node_id, node in cluster.nodes.items()}
    before = {node_id: (descriptor_count(pid), thread_count(pid), memory_bytes(pid)) for node_id, pid in pids.items()}

    failures = []

    def write(client):
        request = b"incr\n" * BATCH
        try:
            for _ in range(WRITES // CLIENTS // BATCH):
                client.send(request)
                for _ in range(BATCH):
                    reply = client.read_reply()
                    check(not isinstance(reply, Exception), f"an increment was answered {reply}")
        except Exception as failure:
            failures.append(failure)
    chosen = [client for client in clients if client.socket.getpeername()[1] == cluster.nodes[leader].client_port]
    threads = [threading.Thread(target=write, args=(client,), daemon=True) for client in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    check(int(clients[0].call(b"get")) == written + WRITES, "the counter has not counted each write once")
    cluster.wait_equal()
    used = {}
    for node_id, pid in pids.items():
        # Threads for snapshots come and go.
        wait_until(lambda: thread_count(pid) <= before[node_id][1],
                   lambda: f"node {node_id} is back at {before[node_id][1]} threads; it has {thread_count(pid)}", 10)
        descriptors = descriptor_count(pid)
        # A log that rolls may have a segment or two more open than at first.
        check(descriptors <= before[node_id][0] + 4,
              f"node {node_id} has {descriptors} descriptors, {before[node_id][0]} before")
        used[node_id] = memory_bytes(pid)
        print(f"node {node_id}: {before[node_id][2] / MIB:.1f} MiB before, {used[node_id] / MIB:.1f} MiB after, "
              f"{descriptors} descriptors, {thread_count(pid)} threads, {'leader' if node_id == leader else 'follower'}",
              flush=True)
    for node_id, size in used.items():
        check(size <= MEMORY_MAX, f"node {node_id} takes {size / MIB:.1f} MiB after a million writes")
    for client in clients:
        client.close()


if __name__ == "__main__":
    harness.main(globals())

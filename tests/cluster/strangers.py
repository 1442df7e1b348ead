"""Strangers hold connections of the peer port. No member is kept out."""

import selectors
import socket
import threading
import time

import harness
from harness import check, wait_until

CONNECTIONS = 200  # to each peer port: more than there are places
READY_SECONDS = 20.0


class SilentConnections(threading.Thread):
    """Keeps so many connections to each port that say nothing: what is closed comes again at once."""

    def __init__(self, ports):
        super().__init__(daemon=True)
        self.ports = ports
        self.opened = 0
        self._ends = False
        self._selector = selectors.DefaultSelector()

    def _open(self, port):
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=1)
        except OSError:
            return False
        self._selector.register(connection, selectors.EVENT_READ, port)
        self.opened += 1
        return True

    def run(self):
        missing = {port: CONNECTIONS for port in self.ports}
        while not self._ends:
            for port in self.ports:
                while missing[port] and self._open(port):
                    missing[port] -= 1
            for key, _ in self._selector.select(timeout=0.01):
                self._selector.unregister(key.fileobj)
                key.fileobj.close()
                missing[key.data] += 1
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ends = True
        self.join()


def test_silent_connections_keep_no_member_out(context):
    cluster = context.cluster("counter")
    cluster.start()
    leader = cluster.leader()
    follower = next(node_id for node_id in cluster.nodes if node_id != leader)
    with SilentConnections([node.peer_port for node in cluster.nodes.values()]) as silent:
        wait_until(lambda: silent.opened > CONNECTIONS * len(cluster.nodes), "the places are full, and fought for")
        for _ in range(3):
            cluster.kill(follower)
            began = time.monotonic()
            cluster.start(follower)
            wait_until(lambda: (cluster.status(follower) or {}).get("ready"),
                       f"node {follower} is ready among silent connections", READY_SECONDS)
            print(f"ready after {time.monotonic() - began:.1f} s, {silent.opened} connections so far")
        with cluster.line_client(leader) as client:
            check(client.call(b"incr") == b"1", "the counter does not serve among silent connections")
    check("too many handshakes in progress" in cluster.nodes[leader].log(), "the log does not name the flood")


if __name__ == "__main__":
    harness.main(globals())

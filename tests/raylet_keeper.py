"""The process that holds the raylets of ``tests.raylets``: orders in, answers out, a line each.

It stands between a test and Ray because Ray's own handles end the process that holds them once the
head is gone, and because the kernel ends what it started when it dies, however it dies.
"""

import json
import os
import sys

from ray.cluster_utils import Cluster

_OBJECT_STORE = 80 * 2**20
"""Bytes; little more than the least that Ray takes (75 MiB, its OBJECT_STORE_MINIMUM_MEMORY_BYTES),
since every raylet here takes it from one machine."""


def main() -> None:
    """Start the head, then a raylet an order, until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Ray prints is no answer
    cluster = Cluster(shutdown_at_exit=True)
    for line in sys.stdin:
        node = cluster.add_node(
            # The switch alone makes this the default; said here, a Ray that changes it fails.
            node_ip_address="127.0.0.1",
            object_store_memory=_OBJECT_STORE,
            include_log_monitor=False,
            no_monitor=True,  # of what Ray would have to start in a cloud
            **json.loads(line),
        )
        started = {
            "id": node.node_id,
            "address": node.gcs_address,
            "dashboard": node.webui_url if node.head else None,
            "processes": {
                kind: started[0].process.pid for kind, started in node.all_processes.items()
            },
        }
        print(json.dumps(started), file=answers, flush=True)


if __name__ == "__main__":
    main()

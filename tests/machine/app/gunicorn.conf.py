"""gunicorn as a container's first process: on a read-only root, by a user without rights."""

import os
import socket

# Both families where there are both: a name may stand for an address of each.
bind = "[::]:8000" if socket.has_dualstack_ipv6() else "0.0.0.0:8000"
workers = int(os.environ.get("WORKERS", "2"))
# As many as the pool of a worker has connections.
threads = 4
# Where the workers show that they are alive: memory, as a disk may keep them waiting.
worker_tmp_dir = "/dev/shm"
# Requests that have begun are finished when it is told to end.
graceful_timeout = 5
errorlog = "-"
accesslog = None
wsgi_app = "app:application"

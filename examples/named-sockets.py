"""Serves two sockets that systemd has opened (sd_listen_fds(3)), with a process for each."""

import os
import signal
import socket
import sys


def tell(*lines):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.connect(os.environ["NOTIFY_SOCKET"])
        systemd.send("\n".join(lines).encode())


def serve(name, listener):
    """A process of its own, which says by itself how far it is."""
    answered = 0
    while True:
        client, _ = listener.accept()
        answered += 1
        with client:
            client.recv(4096)
            client.sendall(f"HTTP/1.0 200 OK\r\n\r\n{name} here\n".encode())
        tell(f"STATUS={name} has answered {answered} times")


# As process 1 it gets only the signals that it handles.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
# Numbered from 3, and named in the same order.
names = os.environ["LISTEN_FDNAMES"].split(":")
for number, name in enumerate(names, start=3):
    if os.fork() == 0:
        serve(name, socket.socket(fileno=number))
tell("READY=1")
# One that ends takes all with it.
os.wait()
sys.exit(1)

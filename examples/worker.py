"""Works through a folder of files, one after the other, and tells systemd how it is (sd_notify(3))."""

import os
import pathlib
import signal
import socket
import sys
import time

QUEUE = pathlib.Path("/queue")


def tell(*lines):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.connect(os.environ["NOTIFY_SOCKET"])
        systemd.send("\n".join(lines).encode())


def stop(*_):
    tell("STOPPING=1")
    sys.exit(0)


# As process 1 it gets only the signals that it handles.
signal.signal(signal.SIGTERM, stop)
# Half of the time after which systemd takes it for stuck.
pause = min(1, int(os.environ.get("WATCHDOG_USEC", "2000000")) / 2e6)
done = 0
tell("READY=1", "STATUS=0 done")
while True:
    for file in sorted(QUEUE.iterdir()):
        print("works on", file.name, flush=True)
        file.unlink()
        done += 1
        tell("WATCHDOG=1", f"STATUS={done} done")
    tell("WATCHDOG=1")
    time.sleep(pause)

"""Works through a folder of files, one after the other, and tells systemd how it is (sd_notify(3))."""

import os
import pathlib
import signal
import socket
import sys
import time

HERE = pathlib.Path(__file__).parent
QUEUE = pathlib.Path("/queue")


def tell(*lines, fds=()):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.connect(os.environ["NOTIFY_SOCKET"])
        socket.send_fds(systemd, ["\n".join(lines).encode()], list(fds))


def kept():
    """A file in memory that systemd keeps for us while we are restarted, and whether it comes from an earlier run."""
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    if "done" in names:
        return 3 + names.index("done"), True
    file = os.memfd_create("done")
    tell("FDSTORE=1", "FDNAME=done", fds=[file])
    return file, False


def settings():
    """Seconds between two looks: what the file `pause` says, and at most half of what systemd gives us to show life."""
    file = HERE / "pause"
    wanted = float(file.read_text()) if file.exists() else 1.0
    return min(wanted, int(os.environ.get("WATCHDOG_USEC", "2000000")) / 2e6)


def status():
    return f"STATUS={done} done, a look every {pause:g} s"


def reload(*_):
    global pause
    tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
    try:
        pause = settings()
    except ValueError as error:
        print("the settings stay as they were:", error, flush=True)
    tell("READY=1", status())


def stop(*_):
    global stopping
    stopping = True
    # The file in hand is finished, however long it takes: systemd is asked for a minute.
    tell("STOPPING=1", "EXTEND_TIMEOUT_USEC=60000000")


# As process 1 it gets only the signals that it handles.
stopping = False
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGHUP, reload)
memory, again = kept()
done = int(os.pread(memory, 20, 0)) if again else 0
pause = settings()
tell("READY=1", status())
while not stopping:
    for file in sorted(QUEUE.iterdir()):
        print("works on", file.name, flush=True)
        # What is to be done takes as many seconds as the file says.
        time.sleep(float(file.read_text().strip() or 0))
        file.unlink()
        done += 1
        os.pwrite(memory, str(done).encode(), 0)
        tell("WATCHDOG=1", status())
        if stopping:
            sys.exit(0)
    tell("WATCHDOG=1")
    time.sleep(pause)

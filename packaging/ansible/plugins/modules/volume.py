#!/usr/bin/python
# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: volume
short_description: Begin and remove volumes of Wharf containers
version_added: 0.1.0
description:
  - A volume is made at the first start of a container that names it, with what the image has in its place. This module is
    for the two other ends of its life, one that is to begin with something else, a backup for instance, and one that isn't
    needed any more.
  - A volume that is there is never changed.
options:
  name:
    description:
      - The volume.
    type: str
    required: true
  src:
    description:
      - What it begins with, on the host, a folder or an archive of tar(1).
      - User ids are those inside, so user 101 of a container owns what user 101 owns in C(src).
      - Without it a volume begins empty, with O(mode), O(owner) and O(group).
    type: path
  mode:
    description:
      - The mode of an empty volume's folder, in octal.
    type: str
    default: "0755"
  owner:
    description:
      - The user id that owns an empty volume's folder, as it is in the container.
    type: int
    default: 0
  group:
    description:
      - The group id of an empty volume's folder, as it is in the container.
    type: int
    default: 0
  state:
    description:
      - Whether there is such a volume. V(absent) removes all that is in it, and fails while something has it mounted.
    type: str
    choices: [present, absent]
    default: present
  root:
    description:
      - Another root directory, to fill an image of a host.
    type: path
    default: /
attributes:
  check_mode:
    description: Can run in check mode and say what it would change.
    support: full
  diff_mode:
    description: Shows whether the volume is there.
    support: full
requirements:
  - Python 3.9 or later, tar(1) and cp(1) on the host
author:
  - The Wharf authors (@wharf)
"""

EXAMPLES = r"""
- name: The database begins with last night's backup, where it isn't there yet
  wharf.wharf.volume:
    name: db
    src: /srv/backup/db.tar.zst

- name: What was tried is over
  wharf.wharf.volume:
    name: trial
    state: absent
"""

RETURN = r"""
path:
  description: Where it is.
  returned: success
  type: str
  sample: /var/lib/wharf/volumes/db
"""

import contextlib
import fcntl
import glob
import os
import re
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wharf.wharf.plugins.module_utils.wharf import (
    WharfError,
    below,
    make_folder,
    sync,
)

VOLUMES = "/var/lib/wharf/volumes"

# As Wharf itself has it: nothing that leads elsewhere, or is one of its own files there.
NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")


@contextlib.contextmanager
def locked(path, how):
    """Holds a lock, as Wharf does while it makes or mounts a volume."""
    with open(path, "a", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, how)
        except BlockingIOError as error:
            raise WharfError("a container that has this volume starts right now; try again") from error
        yield


def mount(line):
    """A line of a list of mounts, proc_pid_mountinfo(5), as device, folder of its file system, and place."""
    fields = line.split(" ")

    def path(field):
        return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), field)

    return fields[2], path(fields[3]), path(fields[4])


def is_below(path, folder):
    """Whether a path is a folder, or below it."""
    return os.path.commonpath([path, folder]) == folder


def inside(mounts, path):
    """The device that a path is on, and what it is called in that file system."""
    # Of mounts in one place the last covers the others, and the longest place is the nearest.
    around = [entry for entry in map(mount, mounts) if is_below(path, entry[2])]
    device, root, place = max(enumerate(around), key=lambda entry: (len(entry[1][2]), entry[0]))[1]
    return device, os.path.normpath(os.path.join(root, os.path.relpath(path, place)))


def lines(path):
    """A list of mounts; of a process that has ended, none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []


def user_of(volume):
    """A process that has the volume mounted, or a folder of it; None where none has."""
    device, folder = inside(lines("/proc/self/mountinfo"), os.path.realpath(volume))
    for path in glob.glob("/proc/[0-9]*/mountinfo"):
        mounts = map(mount, lines(path))
        if any(other == device and is_below(root, folder) for other, root, dummy in mounts if root.startswith("/")):
            return path.split("/")[2]
    return None


def begin(module, incoming):
    """Fills a volume that is being made."""
    src = module.params["src"]
    os.mkdir(incoming, 0o700)
    if src is None:
        os.chown(incoming, module.params["owner"], module.params["group"])
        os.chmod(incoming, int(module.params["mode"], 8))
        return
    if os.path.isdir(src):
        command = ["cp", "--archive", "--no-target-directory", "--", src, incoming]
    else:
        command = ["tar", "--extract", "--numeric-owner", "--same-permissions", "--same-owner", "--xattrs"]
        command += ["--xattrs-include=*", "--acls", "--directory", incoming, "--file", src]
    status, dummy, err = module.run_command(command)
    if status != 0:
        raise WharfError("can't begin with %s: %s" % (src, err.strip()))


def present(module, volumes, volume, incoming):
    """Makes it, so that it is there whole or not at all: volumes of Wharf's own come in the same way."""
    src = module.params["src"]
    if src is not None and not os.path.exists(src):
        raise WharfError("there is no %s on this host to begin with" % src)
    if module.check_mode:
        return
    make_folder(os.path.dirname(volumes), 0o700)
    make_folder(volumes, 0o700)
    with locked(os.path.join(volumes, ".lock"), fcntl.LOCK_EX):
        # A start may have been quicker.
        if os.path.isdir(volume):
            return
        # Left by one that was killed: the lock is ours.
        shutil.rmtree(incoming, ignore_errors=True)
        try:
            begin(module, incoming)
            os.sync()
            os.rename(incoming, volume)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        sync(volumes)


def absent(module, volumes, volume, incoming):
    """Removes it, unless something has it mounted."""
    locks = os.path.join(volumes, ".locks")
    if module.check_mode:
        refuse_users(volume)
        return
    make_folder(locks, 0o700)
    with locked(os.path.join(locks, os.path.basename(volume)), fcntl.LOCK_EX | fcntl.LOCK_NB):
        refuse_users(volume)
        with locked(os.path.join(volumes, ".lock"), fcntl.LOCK_EX):
            shutil.rmtree(incoming, ignore_errors=True)
            # From here on there is no such volume; should this be cut off, whoever makes one sweeps the rest.
            os.rename(volume, incoming)
            sync(volumes)
            shutil.rmtree(incoming)


def refuse_users(volume):
    """Fails while somebody has the volume."""
    user = user_of(volume)
    if user is not None:
        raise WharfError("%s is in use, process %s has it mounted; stop its container first" % (volume, user))


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "src": {"type": "path"},
            "mode": {"type": "str", "default": "0755"},
            "owner": {"type": "int", "default": 0},
            "group": {"type": "int", "default": 0},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    name, state = module.params["name"], module.params["state"]
    if not NAME.match(name):
        module.fail_json(msg="`%s` can't be a volume's name; use ASCII letters, digits, -, _ and ., a letter or digit first" % name)
    if not re.match(r"\A0?[0-7]{3,4}\Z", module.params["mode"]):
        module.fail_json(msg="`%s` is no mode; write it in octal, as 0750" % module.params["mode"])
    volumes = below(os.path.abspath(module.params["root"]), VOLUMES)
    volume, incoming = os.path.join(volumes, name), os.path.join(volumes, ".incoming-%s" % name)
    there = os.path.isdir(volume)
    changed = there != (state == "present")
    try:
        if changed:
            (present if state == "present" else absent)(module, volumes, volume, incoming)
    except (OSError, WharfError) as error:
        module.fail_json(msg=str(error))
    words = {True: "%s is there\n" % name, False: ""}
    module.exit_json(
        changed=changed,
        path=volume,
        diff={"before": words[there], "after": words[state == "present"]},
    )


if __name__ == "__main__":
    main()

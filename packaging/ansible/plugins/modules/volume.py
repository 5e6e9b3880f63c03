#!/usr/bin/python
# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0

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
      - What it begins with, a tar on the host, plain or compressed by gzip, zstd or xz, as C(wharf volume export) writes one.
      - User ids are those inside, so user 101 of a container owns what user 101 owns in the tar.
      - Without it a volume begins empty, with I(mode), I(owner) and I(group).
    type: path
  mode:
    description:
      - The mode of an empty volume's folder, in octal and in quotes; without them it is a number to YAML, and refused.
    type: raw
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
      - Whether there is such a volume.
      - C(absent) removes all that is in it, for good. It fails while a container has it or a file declares it, so it comes
        after the container's file is gone and M(wharf.wharf.apply) has stopped it, and while it has snapshots.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description:
      - Can run in check mode and say what it would change. It warns of what is in the way then, as another task may make
        way before.
    support: full
  diff_mode:
    description: Shows whether the volume is there.
    support: full
extends_documentation_fragment:
  - wharf.wharf.wharf
  - wharf.wharf.wharf.executable
  - wharf.wharf.wharf.root
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

import io
import os
import re
import tarfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wharf.wharf.plugins.module_utils.wharf import COMMON, Wharf, WharfError, below

VOLUMES = "/var/lib/wharf/volumes"

# As Wharf itself has it: nothing that leads elsewhere, or is one of its own files there.
NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")


def mode_of(value):
    """A mode, by its octal digits. Of a number nobody can tell whether YAML has read them as such: 0644 is 420 then, as
    420 is."""
    if isinstance(value, str) and re.match(r"\A[0-7]{3,5}\Z", value):
        mode = int(value, 8)
        if mode <= 0o7777:
            return mode
    raise WharfError('`%s` is no mode; write it in octal and in quotes, as "0750"' % value)


def nothing(mode, owner, group):
    """A tar of an empty folder."""
    folder = tarfile.TarInfo("./")
    folder.type, folder.mode, folder.uid, folder.gid, folder.mtime = tarfile.DIRTYPE, mode, owner, group, int(time.time())
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(folder)
    return out.getvalue()


def present(module, wharf, name):
    """Makes it, so that it is there whole or not at all."""
    params = module.params
    first = nothing(mode_of(params["mode"]), params["owner"], params["group"])
    src = params["src"]
    if src is not None and not os.path.exists(src):
        if not module.check_mode:
            raise WharfError("there is no %s on this host to begin with" % src)
        module.warn("there is no %s on this host to begin with, unless another task brings it before" % src)
    if module.check_mode:
        return
    if src is None:
        wharf.do(["volume", "import", "--", name, "-"], data=first)
    else:
        wharf.do(["volume", "import", "--", name, src])


def absent(module, wharf, name):
    """Removes it, where nobody needs it; in check mode only asks, as a container's file may go before."""
    if module.check_mode and wharf.find() is None:
        return
    try:
        prune(module, wharf, name)
    except WharfError as error:
        # Refused, and not asked in a wrong way.
        if not module.check_mode or error.more.get("rc", 1) != 1:
            raise
        module.warn("wharf would refuse this now, unless another task makes way before: %s" % error)


def prune(module, wharf, name):
    """Has Wharf remove it, or in check mode say what it would do."""
    really = [] if module.check_mode else ["--yes"]
    answer = wharf.read_json(["volume", "prune", *really, "--json", "--", name], good=(0, 1))[0]
    if answer["kept"]:
        raise WharfError("; ".join(answer["kept"]))
    if [volume["name"] for volume in answer["volumes"]] != [name]:
        raise WharfError("`wharf volume prune` says nothing of volume %s" % name)


def main():
    module = AnsibleModule(
        argument_spec={
            **COMMON,
            "name": {"type": "str", "required": True},
            "src": {"type": "path"},
            "mode": {"type": "raw", "default": "0755"},
            "owner": {"type": "int", "default": 0},
            "group": {"type": "int", "default": 0},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    name, state = module.params["name"], module.params["state"]
    if not NAME.match(name):
        module.fail_json(msg="`%s` can't be a volume's name; use ASCII letters, digits, -, _ and ., a letter or digit first" % name)
    wharf = Wharf(module)
    volume = os.path.join(below(wharf.root, VOLUMES), name)
    there = os.path.isdir(volume)
    changed = there != (state == "present")
    try:
        if changed:
            (present if state == "present" else absent)(module, wharf, name)
    except WharfError as error:
        module.fail_json(msg=str(error), **error.more)
    words = {True: "%s is there\n" % name, False: ""}
    module.exit_json(
        changed=changed,
        path=volume,
        diff={"before": words[there], "after": words[state == "present"]},
    )


if __name__ == "__main__":
    main()

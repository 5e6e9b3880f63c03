# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the modules' pages have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Found by its name, `wharf.wharf.wharf`, and those below it."""

    # Of every module.
    DOCUMENTATION = r"""
options: {}
requirements:
  - Python 3.9 or later on the host
author:
  - The Wharf authors (@wharf)
"""

    # Of those that run the program.
    EXECUTABLE = r"""
options:
  executable:
    description:
      - The program C(wharf), a name to be looked for or a path.
    type: path
    default: wharf
requirements:
  - Wharf on the host
"""

    ROOT = r"""
options:
  root:
    description:
      - Another root directory, as C(wharf --root) takes it, to fill an image of a host.
    type: path
    default: /
"""

    # Of those that keep files of /etc/wharf.
    KEEPS = r"""
options:
  backup:
    description:
      - Whether to copy what a file was before it is changed or removed. The copies lie beside it, and Wharf doesn't read
        them.
    type: bool
    default: false
attributes:
  check_mode:
    description: Can run in check mode and say what it would change. The check of the files is made then, too.
    support: full
  diff_mode:
    description: >-
      Shows what changes in the files, with all that is in them. Where that isn't for everybody who sees what Ansible says,
      give the task C(diff: false).
    support: full
notes:
  - Nothing is reloaded or restarted. M(wharf.wharf.apply) at the end of a play does that once, and only what has changed.
"""

    # Of those that keep one.
    FILE = r"""
options:
  name:
    description:
      - The name of the file without its end C(.toml).
    type: str
    required: true
  spec:
    description:
      - What the file says, as a table of the keys that C(wharf keys) lists.
      - No key is known here. C(wharf check) judges the file before it is put in place, and its schema is
        C(/usr/share/wharf/schema) on each host.
      - A key without a value is left out.
      - Before ansible-core 2.19 a template that is more than a variable's name makes a text, also of a number, unless
        C(jinja2_native) is set. Where a key wants a number, write I(content) then.
    type: dict
  content:
    description:
      - The whole file, as TOML, for instance by the lookup C(ansible.builtin.template).
    type: str
  drop_in:
    description:
      - Keep a drop-in over the file, C(NAME.toml.d/DROP_IN.toml), and not the file itself.
      - A drop-in C(50-autostart) is what C(wharf enable) and C(wharf disable) write.
    type: str
  state:
    description:
      - Whether there is such a file in C(/etc/wharf).
      - With C(absent), its drop-ins in C(/etc/wharf) go with it.
    type: str
    choices: [present, absent]
    default: present
"""

#!/usr/bin/python
# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0

DOCUMENTATION = r"""
module: settings
short_description: Keep the settings of Wharf on a host
version_added: 0.1.0
description:
  - Keeps C(/etc/wharf/wharf.toml), or a drop-in over it, with registries, aliases, trust and limits of unpacking.
  - C(wharf check) judges the new settings with all containers and images in view. What it refuses is never written.
options:
  spec:
    description:
      - What the file says, as a table of the keys that C(wharf keys) lists for C(wharf.toml).
      - A key without a value is left out.
    type: dict
  content:
    description:
      - The whole file, as TOML.
    type: str
  drop_in:
    description:
      - Keep a drop-in, C(wharf.toml.d/DROP_IN.toml), and not the file itself.
    type: str
  state:
    description:
      - Whether there is such a file in C(/etc/wharf).
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - wharf.wharf.wharf
  - wharf.wharf.wharf.executable
  - wharf.wharf.wharf.root
  - wharf.wharf.wharf.keeps
  - ansible.builtin.files
"""

EXAMPLES = r"""
- name: Only what is signed runs here
  wharf.wharf.settings:
    spec:
      aliases:
        nginx: registry.example/library/nginx
      registries:
        registry.example:
          signatures: https://signatures.example/sigstore
      trust:
        policy: signed
"""

RETURN = r"""
files:
  description: The files that were changed, or would be in check mode. On failure those that were changed before it.
  returned: success
  type: list
  elements: str
  sample: [/etc/wharf/wharf.toml]
backup_files:
  description: The copies of what they were.
  returned: success, with I(backup)
  type: list
  elements: str
  sample: ["/etc/wharf/wharf.toml.1234.2026-11-21@12:00:00~"]
findings:
  description: What C(wharf check) found. On failure what it refused, else warnings and notes.
  returned: always when the files were checked
  type: list
  elements: dict
  contains:
    level:
      description: C(error), C(warning) or C(note).
      type: str
    file:
      description: The file.
      type: str
    line:
      description: The line, from 1; none where the file as a whole is meant.
      type: int
    column:
      description: The column, from 1.
      type: int
    message:
      description: What is the matter.
      type: str
    hint:
      description: What to do about it, if anything is known.
      type: str
"""


from ansible_collections.wharf.wharf.plugins.module_utils.declared import settings


def main():
    settings()


if __name__ == "__main__":
    main()

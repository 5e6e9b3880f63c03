#!/usr/bin/python
# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0

DOCUMENTATION = r"""
module: image
short_description: Keep the file of a Wharf image
version_added: 0.1.0
description:
  - Keeps C(/etc/wharf/images/NAME.toml), which says where an image comes from and what it must be, or a drop-in over it.
  - C(wharf check) judges the new file where it will be. What it refuses is never written.
  - The image itself is fetched by M(wharf.wharf.apply) before anything is stopped for it, or by its unit
    C(NAME-image.service) at a start.
extends_documentation_fragment:
  - wharf.wharf.wharf
  - wharf.wharf.wharf.executable
  - wharf.wharf.wharf.root
  - wharf.wharf.wharf.keeps
  - wharf.wharf.wharf.file
  - ansible.builtin.files
seealso:
  - module: wharf.wharf.apply
  - module: wharf.wharf.files
"""

EXAMPLES = r"""
- name: An application that a web server of our own has, and nothing but that
  wharf.wharf.image:
    name: app
    spec:
      image: app:1
      from: https://images.example/app/#v1
      digest: sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824

- name: That isn't needed any more
  wharf.wharf.image:
    name: old
    state: absent
"""

RETURN = r"""
files:
  description: The files that were changed, or would be in check mode. On failure those that were changed before it.
  returned: success
  type: list
  elements: str
  sample: [/etc/wharf/images/app.toml]
backup_files:
  description: The copies of what they were.
  returned: success, with I(backup)
  type: list
  elements: str
  sample: ["/etc/wharf/images/app.toml.1234.2026-11-21@12:00:00~"]
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


from ansible_collections.wharf.wharf.plugins.module_utils.declared import declared


def main():
    declared("images")


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0

DOCUMENTATION = r"""
module: container
short_description: Keep the file of a Wharf container
version_added: 0.1.0
description:
  - Keeps C(/etc/wharf/containers/NAME.toml), of which systemd's C(NAME-container.service) is made, or a drop-in over it.
  - C(wharf check) judges the new file where it will be, with its drop-ins and all other containers in view. What it
    refuses is never written, and the old file goes on.
  - What links to another container comes after it in a play. Several that are checked at once are for M(wharf.wharf.files).
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
- name: The web server
  wharf.wharf.container:
    name: web
    spec:
      image: nginx:1.26
      publish: ["8080:80"]
      links: [app]
      mounts:
        /etc/nginx/nginx.conf: { bind: /srv/nginx/nginx.conf, read-only: true }

- name: An application, from a template
  wharf.wharf.container:
    name: app
    content: "{{ lookup('ansible.builtin.template', 'app.toml.j2') }}"
    mode: "0600"

- name: Less memory on this host
  wharf.wharf.container:
    name: app
    drop_in: 50-memory
    spec:
      limits: { memory: 256M }

- name: What was tried is over
  wharf.wharf.container:
    name: trial
    state: absent

- name: What has changed is restarted, and is ready when this is over
  wharf.wharf.apply:
"""

RETURN = r"""
files:
  description: The files that were changed, or would be in check mode. On failure those that were changed before it.
  returned: success
  type: list
  elements: str
  sample: [/etc/wharf/containers/web.toml]
backup_files:
  description: The copies of what they were.
  returned: success, with I(backup)
  type: list
  elements: str
  sample: ["/etc/wharf/containers/web.toml.1234.2026-11-21@12:00:00~"]
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
    declared("containers")


if __name__ == "__main__":
    main()

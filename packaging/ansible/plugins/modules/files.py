#!/usr/bin/python
# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0

DOCUMENTATION = r"""
module: files
short_description: Keep all files of Wharf on a host
version_added: 0.1.0
description:
  - Keeps any number of files of containers and images, and the settings, at once.
  - All are checked together before the first is written, so they may be new and link to each other in any order.
    With a mistake in one of them nothing is changed.
options:
  containers:
    description:
      - Files of C(/etc/wharf/containers) by their names without C(.toml), each a table of keys, or a text of TOML.
      - A drop-in is C(NAME.toml.d/DROP-IN), one for all containers C(container.toml.d/DROP-IN).
    type: dict
    default: {}
  images:
    description:
      - Files of C(/etc/wharf/images), likewise.
    type: dict
    default: {}
  settings:
    description:
      - C(/etc/wharf/wharf.toml), a table of keys, or a text of TOML.
      - Without it that file is left alone.
    type: raw
  purge:
    description:
      - Whether files of containers and images in C(/etc/wharf) that aren't listed are removed, with their drop-ins.
      - M(wharf.wharf.apply) then stops such containers. Their volumes stay.
    type: bool
    default: false
  purge_drop_ins:
    description:
      - Whether drop-ins that aren't listed are removed also where what they are for is listed.
      - They may be somebody's word on this host alone, as C(wharf disable) writes them.
    type: bool
    default: false
extends_documentation_fragment:
  - wharf.wharf.wharf
  - wharf.wharf.wharf.executable
  - wharf.wharf.wharf.root
  - wharf.wharf.wharf.keeps
  - ansible.builtin.files
seealso:
  - module: wharf.wharf.apply
"""

EXAMPLES = r"""
- name: All that runs here, and nothing else
  wharf.wharf.files:
    purge: true
    containers:
      web:
        image: nginx:1.26
        links: [app]
        publish: ["8080:80"]
      app: "{{ lookup('ansible.builtin.file', 'app.toml') }}"
      container.toml.d/10-all:
        limits: { tasks: 500 }
    images:
      app:
        image: app:1
        from: /srv/images/app.tar.zst
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


from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wharf.wharf.plugins.module_utils.wharf import (
    KEEPS,
    Wharf,
    WharfError,
    keep,
    listed,
    place_of,
    purged,
    text_of,
)

FOLDERS = ("containers", "images")


def wanted(params, root):
    """Every file's text, or None where it is to go, by place."""
    files = {}
    for folder in FOLDERS:
        named = params[folder]
        for name, value in named.items():
            try:
                files[place_of(folder, name)] = text_of(value)
            except WharfError as error:
                raise WharfError("%s, %s: %s" % (folder, name, error)) from error
        mains, drop_ins = listed(root, folder)
        going = purged(named, mains if params["purge"] else (), drop_ins, params["purge_drop_ins"])
        files.update({place_of(folder, name): None for name in going})
    if params["settings"] is not None:
        files["/etc/wharf/wharf.toml"] = text_of(params["settings"])
    return files


def main():
    module = AnsibleModule(
        argument_spec={
            **KEEPS,
            "containers": {"type": "dict", "default": {}},
            "images": {"type": "dict", "default": {}},
            "settings": {"type": "raw"},
            "purge": {"type": "bool", "default": False},
            "purge_drop_ins": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
        add_file_common_args=True,
    )
    try:
        result = keep(module, wanted(module.params, Wharf(module).root))
    except WharfError as error:
        module.fail_json(msg=str(error), **error.more)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

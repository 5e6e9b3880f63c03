#!/usr/bin/python
# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0

DOCUMENTATION = r"""
module: host_facts
short_description: Facts of a host with Wharf
version_added: 0.1.0
description:
  - Gathers what Wharf says of a host in JSON, containers, images, findings and what isn't any more what its files say.
  - Nothing listens for this, and nothing is changed. It is what C(wharf ps), C(wharf image list), C(wharf changed) and
    C(wharf check) print.
  - On a host without Wharf the fact C(installed) is false, and the others are empty.
attributes:
  check_mode:
    description: Can run in check mode; it never changes anything.
    support: full
  facts:
    description: Returns C(ansible_facts).
    support: full
extends_documentation_fragment:
  - wharf.wharf.wharf
  - wharf.wharf.wharf.executable
  - wharf.wharf.wharf.root
"""

EXAMPLES = r"""
- name: Look
  wharf.wharf.host_facts:

- name: All that are declared run
  ansible.builtin.assert:
    that: ansible_facts.wharf.containers.web.state == 'active'
"""

RETURN = r"""
ansible_facts:
  description: Facts to be added to those of the host.
  returned: always
  type: dict
  contains:
    wharf:
      description: All that is said of Wharf.
      type: dict
      contains:
        installed:
          description: Whether there is a program C(wharf).
          type: bool
        version:
          description: Its version.
          type: str
          sample: 0.1.0
        containers:
          description: What C(wharf ps --json) says of each container, by name.
          type: dict
        images:
          description: What C(wharf image list --json) says of each image.
          type: list
          elements: dict
        changed:
          description: What C(wharf changed --json) says. Empty with another root.
          type: list
          elements: dict
        findings:
          description: What C(wharf check --json) found.
          type: list
          elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wharf.wharf.plugins.module_utils.wharf import COMMON, Wharf, WharfError


def gather(wharf):
    """All facts."""
    facts = {"installed": False, "version": None, "containers": {}, "images": [], "changed": [], "findings": []}
    if wharf.find() is None:
        return facts
    version = wharf.run(["--version"])[1].split()
    facts.update(installed=True, version=version[-1] if version else None)
    # Their status 1 says that something was found, which is what is asked for.
    containers = wharf.json(["ps"], good=(0, 1))[0]
    facts["containers"] = {row["name"]: row for row in containers}
    facts["images"] = wharf.json(["image", "list"], good=(0, 1))[0]
    facts["findings"] = wharf.json(["check"], good=(0, 1))[0]["findings"]
    if wharf.root == "/":
        facts["changed"] = wharf.json(["changed"], good=(0, 1))[0]
    return facts


def main():
    module = AnsibleModule(argument_spec=COMMON, supports_check_mode=True)
    try:
        facts = gather(Wharf(module))
    except WharfError as error:
        module.fail_json(msg=str(error), **error.more)
    module.exit_json(ansible_facts={"wharf": facts})


if __name__ == "__main__":
    main()

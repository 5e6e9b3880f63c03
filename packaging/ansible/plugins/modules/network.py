#!/usr/bin/python
# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0

DOCUMENTATION = r"""
module: network
short_description: Keep the pools of addresses of Wharf's network
version_added: 0.1.0
description:
  - Says from which networks containers on the network C(default) have their addresses.
  - Wharf chooses two that the host has no route to at the first start of a container. To have others they must be there
    before that, in C(/var/lib/wharf/leases/pools).
  - Once a container has an address of the pools they can't become others, and the task fails.
options:
  name:
    description:
      - The network. There is one.
    type: str
    choices: [default]
    default: default
  ipv4:
    description:
      - An IPv4 network of 8 to 65,536 addresses.
    type: str
    required: true
  ipv6:
    description:
      - An IPv6 network of 65,536 addresses or more.
    type: str
    required: true
attributes:
  check_mode:
    description: Can run in check mode and say what it would change.
    support: full
  diff_mode:
    description: Shows the pools before and after.
    support: full
extends_documentation_fragment:
  - wharf.wharf.wharf
  - wharf.wharf.wharf.root
"""

EXAMPLES = r"""
- name: Addresses that nobody else has at our place
  wharf.wharf.network:
    ipv4: 10.77.0.0/16
    ipv6: fd12:3456:789a::/64
"""

RETURN = r"""
ipv4:
  description: The IPv4 network, as it is written.
  returned: success
  type: str
  sample: 10.77.0.0/16
ipv6:
  description: The IPv6 network, as it is written.
  returned: success
  type: str
  sample: fd12:3456:789a::/64
"""

import fcntl
import ipaddress
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wharf.wharf.plugins.module_utils.wharf import (
    WharfError,
    below,
    make_folder,
    read,
    write,
)

LEASES = "/var/lib/wharf/leases"

# Lengths of prefixes that leave room for containers, and for as many as their numbers go: wharf-network(5).
IPV4_LENGTHS = range(16, 30)
IPV6_LENGTHS = range(8, 113)


def pools(ipv4, ipv6):
    """Both networks as the file has them."""
    networks = []
    for text, kind, lengths in (
        (ipv4, ipaddress.IPv4Network, IPV4_LENGTHS),
        (ipv6, ipaddress.IPv6Network, IPV6_LENGTHS),
    ):
        try:
            network = kind(text)
        except ValueError as error:
            raise WharfError("this is no network: %s" % error) from error
        if network.prefixlen not in lengths:
            raise WharfError("%s: its length must be from /%d to /%d" % (text, lengths[0], lengths[-1]))
        networks.append(str(network))
    return networks


def leased(folder):
    """The containers that have an address."""
    try:
        return sorted(name for name in os.listdir(os.path.join(folder, "addresses")) if not name.startswith("."))
    except FileNotFoundError:
        return []


def set_pools(module, folder, text):
    """Writes the pools, unless somebody has an address already; what was there."""
    path = os.path.join(folder, "pools")
    before = read(path)
    if before == text:
        return before
    have = leased(folder)
    if have:
        raise WharfError(
            "%s has %s, and containers have addresses of that: %s. With all of them stopped, removing %s and %s gives "
            "them new ones" % (path, (before or "nothing").strip(), ", ".join(have), path, os.path.join(folder, "addresses"))
        )
    if not module.check_mode:
        write(module, path, text)
    return before


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "choices": ["default"], "default": "default"},
            "ipv4": {"type": "str", "required": True},
            "ipv6": {"type": "str", "required": True},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    folder = below(os.path.abspath(module.params["root"]), LEASES)
    try:
        ipv4, ipv6 = pools(module.params["ipv4"], module.params["ipv6"])
        text = "%s %s\n" % (ipv4, ipv6)
        if module.check_mode:
            before = set_pools(module, folder, text)
        else:
            state = os.path.dirname(folder)
            if not os.path.isdir(state):
                make_folder(state, 0o700)
            make_folder(folder, 0o700)
            # A start that makes a lease right now has this lock, and chooses pools under it.
            with open(os.path.join(folder, "lock"), "a", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                before = set_pools(module, folder, text)
    except (OSError, WharfError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=before != text,
        ipv4=ipv4,
        ipv6=ipv6,
        diff={"before": before or "", "after": text},
    )


if __name__ == "__main__":
    main()

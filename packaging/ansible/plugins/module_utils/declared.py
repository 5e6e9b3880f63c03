# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0
"""The modules that keep one file each."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wharf.wharf.plugins.module_utils.wharf import (
    KEEPS,
    Wharf,
    WharfError,
    goes_with,
    keep,
    listed,
    place_of,
    text_of,
)

ONE_FILE = {
    "spec": {"type": "dict"},
    "content": {"type": "str"},
    "drop_in": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def _run(more, wanted):
    module = AnsibleModule(
        argument_spec={**KEEPS, **ONE_FILE, **more},
        supports_check_mode=True,
        add_file_common_args=True,
        mutually_exclusive=[("spec", "content")],
        required_if=[("state", "present", ("spec", "content"), True)],
    )
    try:
        result = keep(module, wanted(module))
    except WharfError as error:
        module.fail_json(msg=str(error), **error.more)
    module.exit_json(**result)


def _text(module):
    if module.params["state"] == "absent":
        return None
    spec, content = module.params["spec"], module.params["content"]
    return text_of(content if spec is None else spec)


def declared(folder):
    """A module that keeps NAME.toml in a folder of /etc/wharf."""

    def wanted(module):
        name, drop_in = module.params["name"], module.params["drop_in"]
        main = place_of(folder, name)
        text = _text(module)
        if drop_in is not None:
            return {place_of(folder, "%s.toml.d/%s" % (name, drop_in)): text}
        if text is not None:
            return {main: text}
        # Drop-ins over nothing would be left.
        mains, drop_ins = listed(Wharf(module).root, folder)
        own = [other for other in drop_ins if goes_with(other, name, mains)]
        return {place_of(folder, other): None for other in [name, *own]}

    _run({"name": {"type": "str", "required": True}}, wanted)


def settings():
    """The module that keeps wharf.toml."""

    def wanted(module):
        drop_in = module.params["drop_in"]
        place = "/etc/wharf/wharf.toml"
        if drop_in is not None:
            # Names of drop-ins are as those of a container's.
            place = place_of("", "wharf.toml.d/%s" % drop_in)
        return {place: _text(module)}

    _run({}, wanted)

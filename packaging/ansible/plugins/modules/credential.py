#!/usr/bin/python
# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0

DOCUMENTATION = r"""
module: credential
short_description: Keep a secret where systemd finds it for services
version_added: 0.1.0
description:
  - Keeps a file of C(/etc/credstore), readable for root alone, or of C(/etc/credstore.encrypted), encrypted with
    C(systemd-creds) for this host. A container that names it in C(credentials) or C(encrypted-credentials), or a
    service in C(LoadCredential=) or C(LoadCredentialEncrypted=), finds it in its C($CREDENTIALS_DIRECTORY). It is in no
    unit and in no environment.
  - The value is never shown, neither in a difference nor in what comes back.
  - Nothing is restarted. A container that lists the file in C(restart-on-change) is, by M(wharf.wharf.apply).
options:
  name:
    description:
      - The name that services load it by.
    type: str
    required: true
  value:
    description:
      - The secret, as it is. A line break at its end is part of it.
      - It is meant to come from ansible-vault(1), or from a lookup.
    type: str
  encrypted:
    description:
      - Whether it is in C(/etc/credstore.encrypted), encrypted, and so of no use on another host, or in a backup.
      - Where it was in the other one it goes away there.
    type: bool
    default: false
  with_key:
    description:
      - What it is encrypted with, as C(systemd-creds --with-key=) takes it. Without it systemd chooses, by whether there is a
        TPM.
      - One that is there with this value is left as it is, whatever it was encrypted with.
    type: str
  state:
    description:
      - Whether there is such a credential, encrypted or not.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Can run in check mode and say what it would change.
    support: full
  diff_mode:
    description: Shows that there is another value, and not which.
    support: full
requirements:
  - systemd 250 or later on the host, for encrypted ones
extends_documentation_fragment:
  - wharf.wharf.wharf
  - wharf.wharf.wharf.root
seealso:
  - module: wharf.wharf.apply
"""

EXAMPLES = r"""
- name: The database's password
  wharf.wharf.credential:
    name: db-password
    value: "{{ vault_db_password }}"
    encrypted: true

- name: What was tried is over
  wharf.wharf.credential:
    name: trial
    state: absent
"""

RETURN = r"""
files:
  description: The files that were changed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/credstore.encrypted/db-password]
"""

import os
import re
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wharf.wharf.plugins.module_utils.wharf import WharfError, below, make_folder, remove, write

PLAIN = "/etc/credstore"
ENCRYPTED = "/etc/credstore.encrypted"

# Of what systemd takes, what needs no quotes in a unit, and leads nowhere else.
NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9_.@+-]{0,254}\Z")


def creds(module, arguments, data=None):
    """Runs systemd-creds(1); status, stdout and stderr, as bytes."""
    program = module.get_bin_path("systemd-creds")
    if program is None:
        raise WharfError("there is no systemd-creds on this host, which encrypts; it comes with systemd 250 and later")
    return module.run_command([program, *arguments], data=data, binary_data=True, encoding=None)


def what_it_is(module, path, name, encrypted):
    """The value of a file; None where there is no file, or nobody here can read it."""
    if not os.path.isfile(path) or os.path.islink(path):
        return None
    if encrypted:
        status, out, dummy = creds(module, ["decrypt", "--name=%s" % name, "--newline=no", path, "-"])
        # Of another host, or damaged: it is of no use.
        return out if status == 0 else None
    with open(path, "rb") as file:
        return file.read()


def encrypt(module, name, value):
    """What is written of a value, encrypted."""
    key = ["--with-key=%s" % module.params["with_key"]] if module.params["with_key"] else []
    status, out, err = creds(module, ["encrypt", "--name=%s" % name, *key, "-", "-"], value)
    if status != 0:
        raise WharfError("systemd-creds can't encrypt %s: %s" % (name, err.decode(errors="replace").strip()))
    return out


def keep(module, name):
    """Has it be what it should; the files that change, and how."""
    params = module.params
    root = os.path.abspath(params["root"])
    places = {encrypted: below(root, "%s/%s" % (folder, name)) for encrypted, folder in ((False, PLAIN), (True, ENCRYPTED))}
    own = params["encrypted"] if params["state"] == "present" else None
    changes = []
    for encrypted, path in places.items():
        if encrypted == own:
            value = params["value"].encode("utf-8", "surrogateescape")
            there = os.path.lexists(path)
            same = what_it_is(module, path, name, encrypted) == value
            private = same and stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0
            if same and private:
                continue
            after = "a value for root alone" if same else "another value" if there else "a value"
            changes.append((path, "a value" if there else None, after))
            if not module.check_mode:
                make_folder(os.path.dirname(path), 0o700)
                write(module, path, encrypt(module, name, value) if encrypted else value, 0o600)
        elif os.path.lexists(path):
            changes.append((path, "a value", None))
    # What takes its place is there by now.
    for path, dummy, after in changes:
        if after is None and not module.check_mode:
            remove(path)
    return changes


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "value": {"type": "str", "no_log": True},
            "encrypted": {"type": "bool", "default": False},
            "with_key": {"type": "str", "no_log": False},
            "root": {"type": "path", "default": "/"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
        required_if=[("state", "present", ("value",))],
    )
    name = module.params["name"]
    if not NAME.match(name):
        why = "use ASCII letters, digits, -, _, +, @ and ., a letter or digit first"
        module.fail_json(msg="`%s` can't be a credential's name; %s" % (name, why))
    if module.params["encrypted"] and os.path.abspath(module.params["root"]) != "/":
        module.fail_json(msg="what is encrypted here is of no use to another root; leave `encrypted` out, or `root`")
    try:
        changes = keep(module, name)
    except OSError as error:
        module.fail_json(msg="can't change the credential %s: %s" % (name, error))
    except WharfError as error:
        module.fail_json(msg=str(error))

    def shown(text):
        return "%s\n" % text if text else ""

    module.exit_json(
        changed=bool(changes),
        files=[path for path, dummy, after in changes],
        diff=[
            {"before_header": path, "after_header": path, "before": shown(before), "after": shown(after)}
            for path, before, after in changes
        ],
    )


if __name__ == "__main__":
    main()

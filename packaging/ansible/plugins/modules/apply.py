#!/usr/bin/python
# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0

DOCUMENTATION = r"""
module: apply
short_description: Have what runs become what the files of Wharf say
version_added: 0.1.0
description:
  - Runs C(wharf apply), once, and so has systemd reload at most once before anything is restarted.
  - Exactly the containers that changed are restarted, what links to others after them; new ones are started, and what no
    file declares any more is stopped.
  - It waits until each is ready and stays so for a while. One that isn't gets what ran before back, and the task fails.
  - It looks at what runs, and not at what this play has done. So as the last task of a play it also finishes what an
    earlier run was cut off from; as a handler it runs only where this run has changed something.
options:
  names:
    description:
      - Only these containers.
    type: list
    elements: str
    default: []
  retry:
    description:
      - Whether to try once more what failed before.
    type: bool
    default: false
  settle:
    description:
      - How long a container must stay ready, as C(10s), whatever its checks are.
    type: str
  wait:
    description:
      - Whether to wait while another C(wharf apply) is under way, and not to fail.
    type: bool
    default: true
attributes:
  check_mode:
    description: Can run in check mode and say what it would do.
    support: partial
    details: >-
      It looks at the files as they are on the host, and those that the play would have written before aren't there. A
      play that wants to know says C(changed_when) by what came of those tasks, as the role C(wharf.wharf.wharf) does.
  diff_mode:
    description: Shows each container with what would be done, or was.
    support: full
extends_documentation_fragment:
  - wharf.wharf.wharf
  - wharf.wharf.wharf.executable
seealso:
  - module: wharf.wharf.files
  - module: wharf.wharf.container
"""

EXAMPLES = r"""
- name: What has changed is restarted, and is ready when this is over
  wharf.wharf.apply:

- name: One of them, which must stay ready for a minute
  wharf.wharf.apply:
    names: [web]
    settle: 60s

# In a play with serial: 1 and max_fail_percentage: 0 nobody else gets what doesn't work here.
- name: What doesn't work is told by name
  block:
    - name: What has changed is restarted
      wharf.wharf.apply:
      register: applied
  rescue:
    - name: The old version runs
      ansible.builtin.fail:
        msg: "put back: {{ applied.containers | selectattr('outcome', 'equalto', 'rolled-back') | map(attribute='name') | join(', ') }}"
"""

RETURN = r"""
containers:
  description:
    - Each container that was not as its files say, as C(wharf apply --json) has it, but for C(changed_keys), which is
      C(keys) there, a word that templates have for something else.
    - Also where the task fails, so that a C(rescue) knows what runs now.
  returned: whenever C(wharf apply) could decide, on failure as well
  type: list
  elements: dict
  contains:
    name:
      description: The container.
      type: str
    unit:
      description: Its unit.
      type: str
    action:
      description: C(stop), C(restart), C(start), or C(held) where it failed before and is left alone.
      type: str
    changed_keys:
      description: The keys of its files that changed.
      type: list
      elements: str
    files:
      description: Which files that it reads changed, of those that C(restart-on-change) lists.
      type: list
      elements: str
    image:
      description: Which image runs and which one its reference names by now; none where that is the same.
      type: dict
    why:
      description: Why, where that isn't told by the other keys.
      type: str
    snapshot:
      description: The volumes that a snapshot is taken of before.
      type: list
      elements: str
    outcome:
      description:
        - C(applied); C(rolled-back) where what ran before runs again; C(failed) where nothing runs; C(not-tried) where it was
          left as it was.
        - None where nothing was done, in check mode and with the action C(held).
      type: str
    problem:
      description: What went wrong.
      type: str
  sample:
    - name: web
      unit: web-container.service
      action: restart
      changed_keys: [environment]
      files: []
      image: null
      why: null
      snapshot: []
      outcome: applied
      problem: null
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wharf.wharf.plugins.module_utils.wharf import (
    COMMON,
    Wharf,
    WharfError,
    problems,
    what_to_do,
)


def main():
    module = AnsibleModule(
        argument_spec={
            "executable": COMMON["executable"],
            "names": {"type": "list", "elements": "str", "default": []},
            "retry": {"type": "bool", "default": False},
            "settle": {"type": "str"},
            "wait": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    wharf = Wharf(module)
    if module.check_mode and wharf.find() is None:
        module.exit_json(changed=True, containers=[], msg="wharf isn't installed yet")
    arguments = ["apply"]
    arguments += ["--retry"] if params["retry"] else []
    arguments += [] if params["settle"] is None else ["--settle", params["settle"]]
    arguments += [] if params["wait"] else ["--no-wait"]
    arguments += ["--dry-run"] if module.check_mode else []
    # What begins with a dash is no option.
    arguments += ["--json", "--", *params["names"]]
    try:
        rows, status = wharf.read_json(arguments, good=(0, 1))
    except WharfError as error:
        module.fail_json(msg=str(error), **error.more)
    acted = [row for row in rows if row["action"] != "held" and row.get("outcome") != "not-tried"]
    if module.check_mode:
        acted = [row for row in acted if not row.get("problem")]
    difference = {"before": "", "after": what_to_do(acted)}
    wrong = problems(rows)
    for row in rows:
        row["changed_keys"] = row.pop("keys", [])
    result = {"changed": bool(acted), "containers": rows, "diff": difference}
    if wrong and module.check_mode:
        module.warn("\n".join(wrong))
        module.exit_json(**result)
    if wrong:
        module.fail_json(msg="not everything is as the files say:\n%s" % "\n".join(wrong), **result)
    if status != 0:
        module.fail_json(msg="`wharf apply` ended with %d and doesn't say why" % status, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the modules share: files of Wharf's, checked by `wharf check --as` and put in place, and its JSON."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tempfile

from ansible_collections.wharf.wharf.plugins.module_utils import toml

# Says whose a file is that was made from values. What was given as text is written as it is.
HEADING = "# Ansible keeps this file: what is changed here is gone after its next run.\n"

# What most modules take.
COMMON = {
    "executable": {"type": "path", "default": "wharf"},
    "root": {"type": "path", "default": "/"},
}

# What modules take that keep files.
KEEPS = {**COMMON, "backup": {"type": "bool", "default": False}}

# The names of files, without their end: a container's, a template's, an instance's or an image's. `wharf check`
# knows them exactly; this keeps what is no name from being a path to somewhere else.
NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9@_.:\\-]*\Z")


class WharfError(Exception):
    """What a person is to be told, with more for programs."""

    def __init__(self, message, **more):
        super().__init__(message)
        self.more = more


def text_of(value, heading=HEADING):
    """A file's text, of values or of a text."""
    if isinstance(value, dict):
        try:
            return heading + toml.dumps(value)
        except toml.TomlError as error:
            raise WharfError("this can't be written as TOML: %s" % error) from error
    if isinstance(value, str):
        if not value:
            raise WharfError(
                "an empty file would hide the one of its name in /usr/lib/wharf; to do that, make it a link to /dev/null "
                "by ansible.builtin.file; to have no file, leave it out, or say state: absent"
            )
        return value if value.endswith("\n") else value + "\n"
    raise WharfError("a table of keys or the text of a file is wanted, not %s" % type(value).__name__)


def place_of(folder, name):
    """The path of what is called `name` in a folder of /etc/wharf: `web`, or a drop-in `web.toml.d/10-more`."""
    words = name.split("/")
    good = all(NAME.match(word) for word in words) and (
        len(words) == 1 or (len(words) == 2 and words[0].endswith(".toml.d"))
    )
    if not good:
        where = os.path.normpath("/etc/wharf/%s" % folder)
        raise WharfError(
            "`%s` can't be the name of a file in %s: write NAME, or NAME.toml.d/DROP-IN, without .toml" % (name, where)
        )
    if name.endswith(".toml"):
        raise WharfError("`%s` is to be written without .toml" % name)
    return os.path.normpath("/etc/wharf/%s/%s.toml" % (folder, name))


def below(root, place):
    """A path of the host's, below another root."""
    return os.path.join(root, place.lstrip("/"))


def read(path):
    """A file's text, of a link what it leads to; None where there is no file."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise WharfError("can't read %s: %s" % (path, error.strerror)) from error


def listed(root, folder):
    """The files of a folder of /etc/wharf, by name: what is declared, and drop-ins apart."""
    mains, drop_ins = set(), set()
    top = below(root, "/etc/wharf/%s" % folder)
    try:
        entries = sorted(os.listdir(top))
    except FileNotFoundError:
        return mains, drop_ins
    for entry in entries:
        if entry.startswith("."):
            continue
        if entry.endswith(".toml"):
            mains.add(entry[: -len(".toml")])
        elif entry.endswith(".toml.d") and os.path.isdir(os.path.join(top, entry)):
            inner = sorted(os.listdir(os.path.join(top, entry)))
            drop_ins.update("%s/%s" % (entry, file[: -len(".toml")]) for file in inner if file.endswith(".toml"))
    return mains, drop_ins


def goes_with(drop_in, main, others):
    """Whether a drop-in says nothing without that file: it is for it, or for an instance of it that has no file among
    `others`."""
    owner = drop_in.split("/")[0][: -len(".toml.d")]
    return owner == main or (main.endswith("@") and owner.startswith(main) and owner not in others)


def purged(wanted, mains, drop_ins, with_drop_ins):
    """Of what is there, what goes: files that aren't wanted, and their drop-ins; with `with_drop_ins` any drop-in."""
    gone = set(mains) - set(wanted)
    going = set(gone)
    for drop_in in drop_ins:
        over_nothing = any(goes_with(drop_in, main, wanted) for main in gone)
        if drop_in not in wanted and (with_drop_ins or over_nothing):
            going.add(drop_in)
    return sorted(going)


def words(finding):
    """One finding of `wharf check --json` on one line."""
    at = [finding["file"]] + [str(finding[key]) for key in ("line", "column") if finding.get(key) is not None]
    hint = "; %s" % finding["hint"] if finding.get("hint") else ""
    return "%s: %s%s" % (":".join(at), finding["message"], hint)


def problems(rows):
    """What came of `wharf apply` and isn't as it should be, a line for each container."""
    said = []
    for row in rows:
        if row["action"] == "held":
            why = row.get("why") or "it failed before"
            said.append("%s: held back: %s; to try it again: retry: true" % (row["name"], why))
        # Before anything is done there is no outcome, and there may be a reason already why nothing will be.
        elif row.get("outcome") not in ("applied", None) or row.get("problem"):
            outcome = row.get("outcome") or "can't be tried"
            said.append("%s: %s: %s" % (row["name"], outcome, row.get("problem") or "nothing more is known"))
    return said


def what_to_do(rows):
    """The steps of `wharf apply --dry-run`, as text to be shown as a difference."""
    lines = []
    for row in rows:
        files = row.get("files") or []
        why = ", ".join(list(row.get("keys") or []) + list(files)) or row.get("why") or "its image is another one"
        lines.append("%s %s: %s\n" % (row["action"], row["name"], why))
    return "".join(lines)


class Wharf:
    """The command, on the host that a module runs on."""

    def __init__(self, module):
        self.module = module
        self.root = os.path.abspath(module.params.get("root") or "/")

    def find(self):
        """Where the program is; None where it isn't."""
        executable = self.module.params["executable"]
        if "/" in executable:
            return executable if os.access(executable, os.X_OK) else None
        return self.module.get_bin_path(executable)

    def run(self, arguments, data=None):
        """Runs it, with `data` to read; status, stdout and stderr."""
        program = self.find()
        if program is None:
            raise WharfError(
                "there is no program `%s` on this host; the role wharf.wharf.wharf installs it" % self.module.params["executable"]
            )
        root = [] if self.root == "/" else ["--root", self.root]
        # What is read here is for programs: no colours, and no pages in another language.
        return self.module.run_command(
            [program, *root, *arguments],
            data=data,
            binary_data=True,
            environ_update={"NO_COLOR": "1", "LC_ALL": "C.UTF-8"},
        )

    def do(self, arguments, data=None):
        """Runs it, and wants it to end well."""
        status, out, err = self.run(arguments, data)
        if status != 0:
            raise self.failed(arguments, status, out, err)

    def failed(self, arguments, status, out, err):
        """What a person is told of one that didn't end well."""
        told = err.strip() or out.strip() or "nothing was said"
        message = "`wharf %s` ended with %d: %s" % (" ".join(arguments), status, told)
        return WharfError(message, rc=status, stdout=out, stderr=err)

    def json(self, arguments, good=(0,)):
        """Runs it with --json; what that says, and the status."""
        return self.read_json([*arguments, "--json"], good)

    def read_json(self, arguments, good=(0,)):
        """Runs it; its JSON, and the status."""
        status, out, err = self.run(arguments)
        if status not in good:
            raise self.failed(arguments, status, out, err)
        try:
            return json.loads(out), status
        except ValueError:
            raise self.failed(arguments, status, out, err) from None

    def check(self, texts):
        """Refuses what `wharf check` refuses. `texts` are by place; None is a file that goes.

        All stand in for what is there at once, with everything else in view. Gives the other findings.
        """
        if not texts:
            return []
        if self.find() is None and self.module.check_mode:
            self.module.warn("wharf isn't installed yet, so nothing checked these files: %s" % ", ".join(sorted(texts)))
            return []
        # For root only, as there may be secrets in what is checked.
        with tempfile.TemporaryDirectory(dir=self.module.tmpdir) as folder:
            pairs = []
            for at, place in enumerate(sorted(texts)):
                pairs += ["--as", place, self.stand_in(folder, "%d.toml" % at, place, texts[place])]
            report, status = self.json(["check", *pairs], good=(0, 1))
            if status == 0:
                return report["findings"]
            shown = self.run(["check", *pairs])[1].strip()
            by_themselves = self.module.check_mode and self.are_good_alone(folder, texts)
        if by_themselves:
            errors = [words(finding) for finding in report["findings"] if finding["level"] == "error"]
            self.module.warn(
                "wharf would refuse this now, unless another task brings what is missing before: %s" % "; ".join(errors)
            )
            return []
        raise WharfError(
            "wharf refuses this, and nothing was changed:\n%s" % shown,
            findings=report["findings"],
        )

    def stand_in(self, folder, name, place, text):
        """A file to be checked in that place; of one that goes, what then comes to light on the search path."""
        if text is None:
            lower = [below(self.root, place.replace("/etc/", above, 1)) for above in ("/run/", "/usr/lib/")]
            return next((path for path in lower if os.path.exists(path)), "/dev/null")
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            stream.write(text)
        return path

    def are_good_alone(self, folder, texts):
        """Whether nothing is wrong with files but their neighbours, which another task may bring."""
        files = []
        for place, text in texts.items():
            kind, name = place.split("/")[-2:]
            if text is None or kind not in ("containers", "images"):
                return False
            files.append(self.stand_in(folder, os.path.join(kind, name), place, text))
        return self.run(["check", *files])[0] == 0


def write(module, path, text, mode=None):
    """Puts a file in its place so that a power cut leaves the old one or the new one, and never an empty one.

    An empty file would say that there is no such container. Owner and mode are those given here or that the task wants,
    else those of the file before, from the first moment on: what nobody may read is never there for everybody.
    """
    folder = os.path.dirname(path)
    make_folder(folder)
    # Not .toml: Wharf reads this folder while the file is being written.
    handle, aside = tempfile.mkstemp(prefix=".ansible-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
            file.flush()
            if mode is None:
                take_attributes(module, aside, path)
            else:
                os.chmod(aside, mode)
                module.set_default_selinux_context(aside, False)
            os.fsync(file.fileno())
        move(module, aside, path)
    finally:
        if os.path.exists(aside):
            os.remove(aside)
    sync(folder)


def take_attributes(module, aside, path):
    """Gives a new file what the one before has, or what new ones have, and then what the task wants."""
    # Of a link, neither its own mode nor that of what it leads to, which may be /dev/null.
    before = os.lstat(path) if os.path.isfile(path) and not os.path.islink(path) else None
    if before is not None:
        os.chown(aside, before.st_uid, before.st_gid)
        os.chmod(aside, stat.S_IMODE(before.st_mode))
    else:
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(aside, 0o666 & ~umask)
    module.set_default_selinux_context(aside, False)
    # Modules that keep no files of people's have no such arguments.
    if "mode" in module.params:
        attributes = module.load_file_common_arguments(module.params, path=aside)
        module.set_fs_attributes_if_different(attributes, False)


def move(module, aside, path):
    """Renames. Where that can't be, and the task allows it, what is there is overwritten."""
    try:
        os.rename(aside, path)
    except OSError:
        if not module.params.get("unsafe_writes"):
            raise
        module.atomic_move(aside, path, unsafe_writes=True)


def make_folder(folder, mode=0o755):
    """Makes sure of a folder, and of those above it, whose mode is 0755."""
    if os.path.isdir(folder):
        return
    make_folder(os.path.dirname(folder))
    os.mkdir(folder, mode)
    sync(os.path.dirname(folder))


def remove(path):
    """Takes a file away, and the folder of drop-ins with its last one."""
    folder = os.path.dirname(path)
    os.remove(path)
    sync(folder)
    if folder.endswith(".toml.d") and not os.listdir(folder):
        os.rmdir(folder)
        sync(os.path.dirname(folder))


def sync(folder):
    """What a folder lists is on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def keep(module, wanted):
    """Has files be what they should: `wanted` has a text, or None, by place. The result for `exit_json`.

    All are checked before the first is written.
    """
    wharf = Wharf(module)
    there = {place: read(below(wharf.root, place)) for place in wanted}
    # A link, even one to nowhere, is to become a file, or to go.
    linked = {place for place in wanted if os.path.islink(below(wharf.root, place))}
    changing = sorted(place for place in wanted if wanted[place] != there[place] or place in linked)
    texts = {place: text for place, text in wanted.items() if text is not None or place in changing}
    findings = wharf.check(texts)
    for finding in findings:
        if finding["level"] == "warning":
            module.warn(words(finding))
    backups = [] if module.check_mode else change(module, wharf.root, {place: wanted[place] for place in changing})
    differences = [
        {
            "before_header": place,
            "after_header": place,
            "before": there[place] or "",
            "after": wanted[place] or "",
        }
        for place in changing
    ]
    # Of those whose text stays: who may read them may be something else.
    others = []
    for place in sorted(place for place in wanted if wanted[place] is not None and place not in changing):
        attributes = module.load_file_common_arguments(module.params, path=below(wharf.root, place))
        difference = {}
        if module.set_fs_attributes_if_different(attributes, False, difference):
            others.append(place)
            differences.append({"before_header": place, "after_header": place, **difference})
    files = sorted(changing + others)
    result = {"changed": bool(files), "diff": differences, "findings": findings, "files": files}
    if module.params["backup"]:
        result["backup_files"] = backups
    return result


def change(module, root, wanted):
    """Writes files, and takes away those whose text is None; where the task wants them, the copies of what was there."""
    done, backups = [], []
    for place, text in wanted.items():
        path = below(root, place)
        try:
            if module.params["backup"] and os.path.isfile(path):
                # Its end is no .toml, so Wharf doesn't read it.
                backups.append(module.backup_local(path))
            if text is not None:
                write(module, path, text)
            else:
                remove(path)
        except OSError as error:
            so_far = "; changed before: %s" % ", ".join(done) if done else ""
            raise WharfError("can't change %s: %s%s" % (path, error.strerror, so_far), files=done) from error
        done.append(place)
    return backups

# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Names, texts, what is purged, and what a person is told."""

from __future__ import annotations

import os
import shutil
import stat

import pytest
from ansible_collections.wharf.wharf.plugins.module_utils import wharf


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("web", "/etc/wharf/containers/web.toml"),
        ("web@", "/etc/wharf/containers/web@.toml"),
        ("web@blue.toml.d/50-more", "/etc/wharf/containers/web@blue.toml.d/50-more.toml"),
        ("container.toml.d/10-all", "/etc/wharf/containers/container.toml.d/10-all.toml"),
    ],
)
def test_places(name, place):
    assert wharf.place_of("containers", name) == place


@pytest.mark.parametrize(
    "name", ["", "web.toml", "../web", "a/b", "a.toml.d/b/c", "a.toml.d/", "a.toml.d/..", "/etc/x", ".web", "web\n"]
)
def test_names_that_lead_elsewhere(name):
    with pytest.raises(wharf.WharfError):
        wharf.place_of("containers", name)


def test_texts():
    assert wharf.text_of("image = 'x'") == "image = 'x'\n"
    assert wharf.text_of({"image": "x"}) == wharf.HEADING + 'image = "x"\n'
    for wrong in ("", 3, ["a"], {"a": [None]}):
        with pytest.raises(wharf.WharfError):
            wharf.text_of(wrong)


def test_what_is_listed_and_purged(tmp_path):
    folder = tmp_path / "etc/wharf/containers"
    for name in ("web.toml", "old.toml", "old.toml.d/10.toml", "web.toml.d/50-autostart.toml", "notes.txt", ".x.toml"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    mains, drop_ins = wharf.listed(str(tmp_path), "containers")
    assert mains == {"web", "old"}
    assert drop_ins == {"old.toml.d/10", "web.toml.d/50-autostart"}
    assert wharf.listed(str(tmp_path), "images") == (set(), set())
    assert wharf.purged({"web": {}}, mains, drop_ins, False) == ["old", "old.toml.d/10"]
    assert wharf.purged({"web": {}}, mains, drop_ins, True) == ["old", "old.toml.d/10", "web.toml.d/50-autostart"]
    assert wharf.purged({"web": {}}, (), drop_ins, False) == []
    assert wharf.purged({"web": {}, "old.toml.d/10": {}}, mains, drop_ins, True) == ["old", "web.toml.d/50-autostart"]


def test_drop_ins_of_instances_go_with_their_template():
    drop_ins = {"web@.toml.d/10", "web@blue.toml.d/10", "web@red.toml.d/10", "web.toml.d/10"}
    # One that has a file of its own needs no template.
    mains = {"web@", "web", "web@red"}
    gone = ["web@", "web@.toml.d/10", "web@blue.toml.d/10"]
    assert wharf.purged({"web": {}, "web@red": {}}, mains, drop_ins, False) == gone
    assert wharf.purged({"web@": {}}, mains, drop_ins, False) == ["web", "web.toml.d/10", "web@red", "web@red.toml.d/10"]
    assert [drop_in for drop_in in sorted(drop_ins) if wharf.goes_with(drop_in, "web@", mains)] == gone[1:]


def test_findings_on_a_line():
    finding = {"file": "/x.toml", "line": 2, "column": 1, "message": "`memroy` is not a key", "hint": "did you mean `memory`?"}
    assert wharf.words(finding) == "/x.toml:2:1: `memroy` is not a key; did you mean `memory`?"
    whole = {"file": "/x.toml", "line": None, "column": None, "message": "it is empty", "hint": None}
    assert wharf.words(whole) == "/x.toml: it is empty"


def test_what_came_of_an_apply():
    rows = [
        {"name": "a", "action": "restart", "keys": ["environment"], "files": [], "outcome": "applied", "problem": None},
        {"name": "b", "action": "restart", "keys": [], "files": ["/etc/b"], "outcome": "rolled-back", "problem": "it ended"},
        {"name": "c", "action": "held", "keys": [], "files": [], "why": "status 7", "outcome": None, "problem": None},
        {"name": "d", "action": "start", "keys": [], "files": [], "why": "new", "outcome": None, "problem": None},
    ]
    assert wharf.problems(rows) == ["b: rolled-back: it ended", "c: held back: status 7; to try it again: retry: true"]
    assert wharf.what_to_do(rows[:2] + rows[3:]) == "restart a: environment\nrestart b: /etc/b\nstart d: new\n"


def test_what_an_apply_would_refuse():
    row = {"name": "db", "action": "restart", "keys": [], "files": [], "outcome": None, "problem": "no room"}
    assert wharf.problems([row]) == ["db: can't be tried: no room"]


class Module:
    """As much of a module as keeping files takes; what a file shall be is the mode in `params`."""

    check_mode = False
    tmpdir = None

    def __init__(self, root, **params):
        self.params = {"root": str(root), "executable": "/nowhere/wharf", "backup": False, "mode": None, **params}
        self.warnings = []

    def set_default_selinux_context(self, path, changed):
        return changed

    def load_file_common_arguments(self, params, path):
        return {"path": path, "mode": params["mode"]}

    def set_fs_attributes_if_different(self, attributes, changed, diff=None):
        path, mode = attributes["path"], attributes["mode"]
        before = stat.S_IMODE(os.stat(path).st_mode)
        if mode is None or before == mode:
            return changed
        if diff is not None:
            diff.update(before={"mode": "%04o" % before}, after={"mode": "%04o" % mode})
        if not self.check_mode:
            os.chmod(path, mode)
        return True

    def backup_local(self, path):
        shutil.copy2(path, path + ".1~")
        return path + ".1~"

    def warn(self, text):
        self.warnings.append(text)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(name="good")
def _good(monkeypatch):
    """`wharf check` has nothing against anything."""
    monkeypatch.setattr(wharf.Wharf, "check", lambda self, texts: [])


PLACE = "/etc/wharf/containers/web.toml"


def test_files_come_and_go_with_their_folder(tmp_path):
    path = tmp_path / "etc/wharf/containers/web.toml.d/10.toml"
    wharf.write(Module(tmp_path), str(path), "init = true\n")
    assert path.read_text() == "init = true\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["10.toml"]
    wharf.remove(str(path))
    assert not path.parent.exists() and path.parent.parent.exists()


def test_a_file_keeps_its_mode_or_gets_the_task_s(tmp_path, good):
    path = tmp_path / PLACE[1:]
    umask = os.umask(0o027)
    try:
        wharf.keep(Module(tmp_path), {PLACE: "a\n"})
    finally:
        os.umask(umask)
    assert mode(path) == 0o640
    path.chmod(0o604)
    wharf.keep(Module(tmp_path), {PLACE: "b\n"})
    assert mode(path) == 0o604
    assert wharf.keep(Module(tmp_path, mode=0o600), {PLACE: "c\n"})["changed"] and mode(path) == 0o600
    assert not wharf.keep(Module(tmp_path, mode=0o600), {PLACE: "c\n"})["changed"]
    # The mode alone, looked at and then done.
    looking = Module(tmp_path, mode=0o640)
    looking.check_mode = True
    for module in (looking, Module(tmp_path, mode=0o640)):
        result = wharf.keep(module, {PLACE: "c\n"})
        assert (result["changed"], result["files"]) == (True, [PLACE])
        assert result["diff"] == [
            {"before_header": PLACE, "after_header": PLACE, "before": {"mode": "0600"}, "after": {"mode": "0640"}}
        ]
    assert mode(path) == 0o640


def test_nobody_reads_a_secret_between(tmp_path, good, monkeypatch):
    path = tmp_path / PLACE[1:]
    wharf.keep(Module(tmp_path), {PLACE: "open\n"})
    seen = []
    rename = os.rename
    monkeypatch.setattr(os, "rename", lambda a, b: (seen.append(stat.S_IMODE(os.stat(a).st_mode)), rename(a, b)))
    wharf.keep(Module(tmp_path, mode=0o600), {PLACE: "secret\n"})
    assert seen == [0o600] and path.read_text() == "secret\n"


def test_links_become_files_and_copies_stay(tmp_path, good):
    path = tmp_path / PLACE[1:]
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/null")
    result = wharf.keep(Module(tmp_path, backup=True), {PLACE: "a\n"})
    assert result["backup_files"] == [] and not path.is_symlink() and path.read_text() == "a\n"
    assert mode(path) & 0o600 == 0o600
    result = wharf.keep(Module(tmp_path, backup=True), {PLACE: None})
    assert [open(copy, encoding="utf-8").read() for copy in result["backup_files"]] == ["a\n"] and not path.exists()


def test_what_cannot_be_written_is_named_with_what_was(tmp_path, good):
    other = "/etc/wharf/containers/zoo.toml"
    (tmp_path / other[1:]).mkdir(parents=True)
    (tmp_path / other[1:] / "x").write_text("")
    with pytest.raises(wharf.WharfError) as error:
        wharf.change(Module(tmp_path), str(tmp_path), {PLACE: "a\n", other: "b\n"})
    assert "zoo.toml" in str(error.value) and PLACE in str(error.value) and error.value.more == {"files": [PLACE]}
    assert sorted(entry.name for entry in (tmp_path / PLACE[1:]).parent.iterdir()) == ["web.toml", "zoo.toml"]

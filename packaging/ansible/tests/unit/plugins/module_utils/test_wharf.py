# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Names, texts, what is purged, and what a person is told."""

from __future__ import annotations

import os

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


class Moves:
    """As much of a module as writing takes."""

    @staticmethod
    def atomic_move(aside, path):
        os.rename(aside, path)


def test_files_come_and_go_with_their_folder(tmp_path):
    path = tmp_path / "etc/wharf/containers/web.toml.d/10.toml"
    wharf.write(Moves, str(path), "init = true\n")
    assert path.read_text() == "init = true\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["10.toml"]
    wharf.remove(str(path))
    assert not path.parent.exists() and path.parent.parent.exists()

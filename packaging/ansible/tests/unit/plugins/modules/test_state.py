# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Pools, volumes and credentials: what is refused, what is made, and what is left as it is."""

from __future__ import annotations

import io
import tarfile

import pytest
from ansible_collections.wharf.wharf.plugins.module_utils.wharf import Wharf, WharfError
from ansible_collections.wharf.wharf.plugins.modules import credential, network, volume


class Module:
    """As much of one as this takes."""

    check_mode = False
    params = {}

    @staticmethod
    def set_default_selinux_context(path, changed):
        return changed


def test_pools():
    assert network.pools("10.77.0.0/16", "FD12::/64") == ["10.77.0.0/16", "fd12::/64"]
    for ipv4, ipv6 in (
        ("10.0.0.0/8", "fd12::/64"),
        ("10.0.0.0/30", "fd12::/64"),
        ("10.0.0.1/16", "fd12::/64"),
        ("10.77.0.0/16", "fd12::/120"),
        ("fd12::/64", "10.77.0.0/16"),
        ("nonsense", "fd12::/64"),
    ):
        with pytest.raises(WharfError):
            network.pools(ipv4, ipv6)


def test_pools_stay_once_somebody_has_an_address(tmp_path):
    folder = str(tmp_path)
    assert network.set_pools(Module, folder, "a\n") is None
    assert network.set_pools(Module, folder, "b\n") == "a\n"
    (tmp_path / "addresses").mkdir()
    (tmp_path / "addresses/web").write_text("2")
    assert network.set_pools(Module, folder, "b\n") == "b\n"
    with pytest.raises(WharfError) as error:
        network.set_pools(Module, folder, "c\n")
    assert "web" in str(error.value) and (tmp_path / "pools").read_text() == "b\n"


def test_an_empty_volume(tmp_path):
    with tarfile.open(fileobj=io.BytesIO(volume.nothing(0o750, 33, 34))) as tar:
        [folder] = tar.getmembers()
    assert folder.isdir() and (folder.name, folder.mode, folder.uid, folder.gid) == (".", 0o750, 33, 34)


@pytest.mark.parametrize(("value", "mode"), [("0750", 0o750), ("750", 0o750), ("01777", 0o1777)])
def test_modes(value, mode):
    assert volume.mode_of(value) == mode


@pytest.mark.parametrize("value", ["u=rwx", "0789", "", None, True, 755, 0o755, 0o20000, "77777"])
def test_no_modes(value):
    with pytest.raises(WharfError):
        volume.mode_of(value)


class Pruning(Module):
    """With a wharf that says this of a volume."""

    def __init__(self, check_mode, status, out="", err="", **params):
        self.check_mode = check_mode
        self.params = {"executable": "/bin/sh", "root": "/", **params}
        self.answer, self.calls, self.warnings = (status, out, err), [], []

    def run_command(self, command, **dummy):
        self.calls.append(command[1:])
        return self.answer

    def warn(self, text):
        self.warnings.append(text)


NEEDED = (1, "", "error: volume db stays: app is running with it")
SNAPSHOTS = (1, '{"volumes": [], "kept": ["db stays, as it has snapshots"]}', "")


@pytest.mark.parametrize(("answer", "why"), [(NEEDED, "app is running with it"), (SNAPSHOTS, "it has snapshots")])
def test_a_volume_that_is_needed(answer, why):
    module = Pruning(False, *answer)
    with pytest.raises(WharfError, match=why):
        volume.absent(module, Wharf(module), "db")
    assert module.calls == [["volume", "prune", "--yes", "--json", "--", "db"]]
    # Another task may make way for it, which in check mode it hasn't.
    module = Pruning(True, *answer)
    volume.absent(module, Wharf(module), "db")
    assert module.calls == [["volume", "prune", "--json", "--", "db"]]
    assert len(module.warnings) == 1 and why in module.warnings[0]


def test_a_volume_that_wharf_knows_nothing_of():
    for answer in ((2, "", "error: unexpected argument"), (101, "", "it panicked")):
        module = Pruning(True, *answer)
        with pytest.raises(WharfError):
            volume.absent(module, Wharf(module), "db")
    module = Pruning(True, 0, '{"volumes": [{"name": "db"}], "kept": []}')
    volume.absent(module, Wharf(module), "db")
    assert module.warnings == []


def test_what_a_volume_begins_with_may_come(tmp_path):
    new = {"src": str(tmp_path / "later.tar"), "mode": "0755", "owner": 0, "group": 0}
    module = Pruning(False, 0, **new)
    with pytest.raises(WharfError, match="later.tar"):
        volume.present(module, Wharf(module), "db")
    module = Pruning(True, 0, **new)
    volume.present(module, Wharf(module), "db")
    assert module.calls == [] and "later.tar" in module.warnings[0]


class Secrets(Module):
    """With a systemd-creds that turns values around."""

    def __init__(self, root, **params):
        self.params = {"root": str(root), "state": "present", "encrypted": False, "with_key": None, **params}
        self.calls = []

    def set_default_selinux_context(self, path, changed):
        return changed

    def get_bin_path(self, name):
        return name

    def run_command(self, command, data, binary_data, encoding):
        self.calls.append(command[1])
        if command[1] == "encrypt":
            return 0, data[::-1], b""
        with open(command[-2], "rb") as file:
            return 0, file.read()[::-1], b""


def test_credentials(tmp_path):
    plain, encrypted = tmp_path / "etc/credstore/db", tmp_path / "etc/credstore.encrypted/db"

    def keep(**params):
        return [(path, after) for path, dummy, after in credential.keep(Secrets(tmp_path, **params), "db")]

    assert keep(value="abc") == [(str(plain), "a value")]
    assert plain.read_text() == "abc" and plain.stat().st_mode & 0o777 == 0o600
    assert plain.parent.stat().st_mode & 0o777 == 0o700
    assert keep(value="abc") == []
    plain.chmod(0o644)
    assert keep(value="abc") == [(str(plain), "a value for root alone")] and plain.stat().st_mode & 0o777 == 0o600
    # From the one store into the other.
    assert keep(value="abc", encrypted=True) == [(str(plain), None), (str(encrypted), "a value")]
    assert encrypted.read_bytes() == b"cba" and not plain.exists()
    assert keep(value="abc", encrypted=True) == []
    assert keep(value="abd", encrypted=True) == [(str(encrypted), "another value")]
    assert keep(state="absent") == [(str(encrypted), None)] and not encrypted.exists()
    assert keep(state="absent") == []


def test_credentials_are_only_looked_at(tmp_path):
    module = Secrets(tmp_path, value="abc", encrypted=True)
    module.check_mode = True
    assert len(credential.keep(module, "db")) == 1
    assert list(tmp_path.iterdir()) == [] and module.calls == []

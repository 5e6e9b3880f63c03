# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Pools and volumes: what is refused, and what is found in the kernel's lists."""

from __future__ import annotations

import pytest
from ansible_collections.wharf.wharf.plugins.module_utils.wharf import WharfError
from ansible_collections.wharf.wharf.plugins.modules import network, volume


class Module:
    """As much of one as this takes."""

    check_mode = False

    @staticmethod
    def atomic_move(aside, path):
        import os

        os.rename(aside, path)


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


MOUNTS = [
    "21 1 98:0 /root / rw,noatime shared:1 - ext4 /dev/vda rw",
    "22 21 98:1 / /var rw - ext4 /dev/vdb rw",
    "23 22 98:2 /a\\040b /var/lib/wharf rw - ext4 /dev/vdc rw",
    "24 22 98:3 / /var/lib/wharf rw - ext4 /dev/vdd rw",
    "25 21 0:4 mnt:[4026532000] /run/ns rw - nsfs nsfs rw",
]


def test_where_a_volume_is_in_its_file_system():
    path = "/var/lib/wharf/volumes/db"
    assert volume.inside(MOUNTS[:1], path) == ("98:0", "/root/var/lib/wharf/volumes/db")
    assert volume.inside(MOUNTS[:2], path) == ("98:1", "/lib/wharf/volumes/db")
    assert volume.inside(MOUNTS[:3], path) == ("98:2", "/a b/volumes/db")
    assert volume.inside(MOUNTS, path) == ("98:3", "/volumes/db")


def test_below():
    assert volume.is_below("/volumes/db", "/volumes/db") and volume.is_below("/volumes/db/x", "/volumes/db")
    assert not volume.is_below("/volumes/db2", "/volumes/db") and not volume.is_below("/", "/volumes/db")


def test_a_volume_that_nobody_has(tmp_path):
    assert volume.user_of(str(tmp_path)) is None

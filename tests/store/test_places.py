"""Which folders are the network's."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.store import is_network_folder, places

MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /home rw - nfs4 server:/home rw
31 30 8:2 / /home/ada/local\040disk rw - xfs /dev/sdb1 rw
32 22 0:33 / /mnt/share rw shared:7 master:3 - cifs //server/share rw
33 22 0:34 / /mnt/far rw - fuse.sshfs ada@host:/ rw
34 22 0:35 / /mnt/share rw - tmpfs tmpfs rw
a line that is cut
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/data/x", "ext4"),
        ("/home/ada/project", "nfs4"),
        ("/home/ada/local disk/project", "xfs"),
        ("/homely", "ext4"),
        ("/mnt/far/a", "fuse.sshfs"),
        ("/mnt/share/a", "tmpfs"),
    ],
)
def test_the_deepest_mount_holds_a_path(place: str, kind: str) -> None:
    assert places.file_system(Path(place), MOUNTS) == kind


def test_network_and_local_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    monkeypatch.setattr(places, "_MOUNTS", mounts)
    for kind, network in {
        "nfs": True,
        "nfs4": True,
        "cifs": True,
        "smb3": True,
        "fuse.sshfs": True,
        "ext4": False,
        "overlay": False,
        "fuseblk": False,
    }.items():
        mounts.write_text(f"1 1 0:1 / / rw - {kind} x rw\n")
        assert is_network_folder(tmp_path / "not made yet") is network, kind


def test_where_the_system_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_MOUNTS", tmp_path / "missing")
    assert not is_network_folder(tmp_path)

"""Where a database must not stand: a folder of the network, whose locks and syncs cannot be trusted."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

_NETWORK = re.compile(
    r"^(nfs\d?|cifs|smb\w*|afs|afpfs|webdav|davfs2?|9p|ceph|glusterfs|lustre|gpfs|beegfs|pvfs2|ncpfs|coda"
    r"|fuse\.(sshfs|glusterfs|ceph|cephfs|davfs2?|rclone|s3fs|gcsfuse|smbnetfs|nfs\w*))$"
)
_MOUNTS = Path("/proc/self/mountinfo")
_REMOTE_DRIVE = 4  # DRIVE_REMOTE of the Windows call GetDriveType


def is_network_folder(path: Path) -> bool:
    """Whether `path`, or the folder it will be made in, is on a network file system.

    False where the system cannot say.
    """
    place = Path(os.path.realpath(path))
    if sys.platform == "win32":
        return _is_remote_drive(place)
    if not _MOUNTS.exists():
        return False
    kind = file_system(place, _MOUNTS.read_text(errors="replace"))
    return bool(_NETWORK.match(kind))


def file_system(place: Path, mountinfo: str) -> str:
    """The kind of file system that holds an absolute path, such as `ext4`; empty where no mount holds it.

    Args:
        place: An absolute path without symbolic links.
        mountinfo: Lines as in `/proc/self/mountinfo`; of two mounts on one folder the later counts.
    """
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split()
        if not dash or len(fields) < 5 or not after.strip():
            continue
        mount = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[4]))
        if place.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), after.split()[0]
    return kind


def _is_remote_drive(place: Path) -> bool:
    if place.drive.startswith("\\\\"):
        return True
    import ctypes

    call = getattr(getattr(ctypes, "windll", None), "kernel32", None)
    return call is not None and call.GetDriveTypeW(place.drive + "\\") == _REMOTE_DRIVE

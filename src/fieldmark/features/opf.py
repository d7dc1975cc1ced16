"""Data-set files of libIFT (`DATASET_0`): a zip archive of features and labels, one member for each field.

A member `X.data` is the line `rows,columns` and the values, row by row, little-endian. The members are written in the
order of libIFT, stored and not deflated, with one fixed date, so that equal data are equal bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from fieldmark.core.files import atomic_file
from fieldmark.errors import BadFile, BadInput, TooLarge
from fieldmark.images.faults import decoding
from fieldmark.images.source import DEFAULT_MAX_BYTES

if TYPE_CHECKING:
    from typing import IO

TEST, TRAIN, OUTLIER, ERROR, SUPERVISED = 0x02, 0x04, 0x08, 0x10, 0x40
"""Bits of a sample's status."""

VERSION = 1
"""The number that libIFT gives to `DATASET_0`."""

_FILE_SET = 4  # what `ref_data_type` says where `ref_data.csv` names a file for each sample
_EUCLIDEAN = 1
_NAMES = "ref_data.csv"
_WHEN = (1980, 1, 1, 0, 0, 0)
_MODE = 0o644 << 16
_MOST_MEMBERS = 64
_MOST_EXPANSION = 1040  # above what deflate can reach
_HEADER = 64
_PIECE = 1 << 20

_TYPES = {
    "feat": "<f4",
    "projection": "<f8",
    "alpha": "<f4",
    "true_label": "<i4",
    "label": "<i4",
    "id": "<i4",
    "group": "<i4",
    "status": "u1",
    "n_checked": "<i4",
    "is_supervised": "u1",
    "is_label_propagated": "u1",
    "weight": "<f4",
    "n_classes": "<i4",
    "function_number": "<i4",
    "n_labels": "<i4",
    "n_train_samples": "<i4",
    "ref_data_type": "<i4",
}
"""Fields in the order of the archive, and the type of their values."""

_OF_SAMPLES = ("true_label", "label", "id", "group", "status", "weight")


@dataclass(frozen=True, eq=False)
class OpfData:
    """N samples of F features; labels from 1, 0 for none.

    Args:
        feat: (N, F) float32.
        true_label: (N,) int32, what is known of each sample.
        label: (N,) int32, what was predicted for it.
        id: (N,) int32.
        group: (N,) int32, its cluster.
        status: (N,) uint8, the bits `TEST`, `TRAIN`, ...
        weight: (N,) float32.
        alpha: (F,) float32, the weights of features in distances.
        classes: How many classes there are.
        function: Number of the distance; 1 is the Euclidean one.
        names: The file that each sample came from; empty where the archive does not say.
        projection: (N, 2) float64 places on a map; None where there are none.
    """

    feat: np.ndarray
    true_label: np.ndarray
    label: np.ndarray
    id: np.ndarray
    group: np.ndarray
    status: np.ndarray
    weight: np.ndarray
    alpha: np.ndarray
    classes: int
    function: int = _EUCLIDEAN
    names: tuple[str, ...] = ()
    projection: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.feat)


def write_opf(
    path: Path,
    feat: np.ndarray,
    true_label: np.ndarray,
    *,
    label: np.ndarray | None = None,
    ids: np.ndarray | None = None,
    group: np.ndarray | None = None,
    status: np.ndarray | int = TEST,
    weight: np.ndarray | None = None,
    classes: int | None = None,
    names: Sequence[str] = (),
    projection: np.ndarray | None = None,
) -> None:
    """Write a data set, whole or not at all.

    Args:
        path: The archive; one of that name is replaced.
        feat: (N, F) real numbers, written as float32.
        true_label: (N,) labels from 1; 0 for a sample whose class is not known.
        label: (N,) predicted labels; 0 for none if None.
        ids: (N,) ids; 0, 1, 2, ... if None.
        group: (N,) clusters; 0 for none if None.
        status: (N,) bits, or one value for all.
        weight: (N,) weights; 0 if None.
        classes: How many there are; the highest true label if None.
        names: The file that each sample came from, or none at all.
        projection: (N, 2) places on a map, or None.

    Raises:
        BadInput: Sizes do not agree, or there is no sample or no feature.
    """
    values = np.asarray(feat)
    if values.ndim != 2 or not values.size or values.dtype.kind not in "biuf":
        raise BadInput(f"{path}: features of {values.shape} {values.dtype}; give (N, F) real numbers, at least one.")
    many = len(values)
    columns = {
        "true_label": true_label,
        "label": np.zeros(many) if label is None else label,
        "id": np.arange(many) if ids is None else ids,
        "group": np.zeros(many) if group is None else group,
        "status": np.broadcast_to(np.asarray(status), (many,)) if np.ndim(status) == 0 else status,
        "weight": np.zeros(many) if weight is None else weight,
    }
    fields = {name: _column(path, name, np.asarray(column), many) for name, column in columns.items()}
    most = int(fields["true_label"].max()) if classes is None else classes
    _write(path, _fields(path, values, fields, most, projection, names), names)


def _column(path: Path, name: str, values: np.ndarray, many: int) -> np.ndarray:
    """The values of one field, (N, 1), in the type of the archive."""
    if values.shape != (many,):
        raise BadInput(f"{path}: {name} has the shape {values.shape}; there are {many} samples, so give ({many},).")
    kind = np.dtype(_TYPES[name])
    if kind.kind in "iu" and (values.min() < np.iinfo(kind).min or values.max() > np.iinfo(kind).max):
        raise BadInput(f"{path}: {name} goes from {values.min()} to {values.max()}; the format holds {kind} values.")
    column: np.ndarray = values.astype(kind).reshape(many, 1)
    return column


def _fields(
    path: Path,
    feat: np.ndarray,
    columns: dict[str, np.ndarray],
    classes: int,
    projection: np.ndarray | None,
    names: Sequence[str],
) -> dict[str, np.ndarray]:
    """Every member's array, in the order of the archive."""
    many, features = feat.shape
    if len(names) not in {0, many} or any("\n" in name or "\r" in name for name in names):
        raise BadInput(f"{path}: {len(names)} file names for {many} samples; give one line for each, or none.")
    if projection is not None and projection.shape != (many, 2):
        raise BadInput(f"{path}: a projection of {projection.shape}; give ({many}, 2).")
    training = int((columns["status"] & TRAIN > 0).sum())
    facts = {
        "n_classes": classes,
        "function_number": _EUCLIDEAN,
        "n_labels": int(columns["group"].max()),
        "n_train_samples": training,
        "ref_data_type": _FILE_SET if names else 0,
    }
    empty = dict.fromkeys(("n_checked", "is_supervised", "is_label_propagated"), np.zeros((many, 1)))
    supervised = (columns["status"] & SUPERVISED > 0).astype(np.uint8)
    found = columns | empty | {"feat": feat, "alpha": np.ones((features, 1)), "is_supervised": supervised}
    found |= {name: np.full((1, 1), value) for name, value in facts.items()}
    if projection is not None:
        found["projection"] = projection
    return {name: found[name] for name in _TYPES if name in found}


def _write(path: Path, fields: dict[str, np.ndarray], names: Sequence[str]) -> None:
    with atomic_file(path) as out, ZipFile(out, "w", ZIP_STORED) as archive:
        _put(archive, "version.data", f"{VERSION}\n".encode())
        for name, array in fields.items():
            rows, columns = array.shape
            values = np.ascontiguousarray(array, dtype=_TYPES[name])
            _put(archive, f"{name}.data", f"{rows},{columns}\n".encode(), values)
        if names:
            _put(archive, _NAMES, "".join(f"{name}\n" for name in names).encode())


def _put(archive: ZipFile, name: str, head: bytes, values: np.ndarray | None = None) -> None:
    info = ZipInfo(name, _WHEN)
    info.create_system, info.external_attr = 3, _MODE  # the same on every system
    info.file_size = len(head) + (0 if values is None else values.nbytes)
    with archive.open(info, "w") as member:
        member.write(head)
        if values is not None:
            member.write(values.reshape(-1).view(np.uint8).data)


def read_opf(path: Path, *, shown: str | None = None, max_bytes: int = DEFAULT_MAX_BYTES) -> OpfData:
    """Read a data set, member by member; nothing is unpacked to the disk.

    Args:
        path: The archive.
        shown: Its name as the user typed it; `path` if None.
        max_bytes: Most bytes that all members together may take.

    Raises:
        BadFile: It is no such archive, a member is missing or damaged, or sizes do not agree.
        TooLarge: More than `max_bytes`.
    """
    name = shown or str(path)
    try:
        with decoding(name, "OPF data set"), open(path, "rb") as file, ZipFile(file) as archive:
            members = _members(archive, name, path.stat().st_size, max_bytes)
            _check_version(archive, members, name)
            arrays = {field: _array(archive, members, field, name) for field in _TYPES if f"{field}.data" in members}
            names = _file_names(archive, members)
    except BadZipFile as error:
        raise BadFile(name, f"it is no zip archive, or a damaged one ({error}). Copy or export it again.") from error
    return _assemble(arrays, names, name)


def _members(archive: ZipFile, shown: str, size: int, max_bytes: int) -> dict[str, ZipInfo]:
    """The members by name; refuses what is no data set and what would not fit, before anything is read."""
    infos = archive.infolist()
    members = {info.filename: info for info in infos}
    if len(infos) > _MOST_MEMBERS or len(members) < len(infos):
        raise BadFile(shown, f"it holds {len(infos)} members, {len(members)} of different names: it is no data set.")
    for info in infos:
        known = info.compress_type in {ZIP_STORED, ZIP_DEFLATED} and not info.flag_bits & 1
        most = info.compress_size * (1 if info.compress_type == ZIP_STORED else _MOST_EXPANSION)
        if not known or info.file_size > most or info.compress_size > size:
            raise BadFile(
                shown, f"its member {info.filename[:60]!r} is encrypted, or larger than its content can be. Export it."
            )
    total = sum(info.file_size for info in infos)
    if total > max_bytes:
        raise TooLarge(shown, f"its members take {total:,} bytes; the limit is {max_bytes:,}. Raise it, or split it.")
    return members


def _check_version(archive: ZipFile, members: dict[str, ZipInfo], shown: str) -> None:
    if "version.data" not in members:
        old = " (it is one of the older kind, with info.data)" if "info.data" in members else ""
        raise BadFile(
            shown, f"it has no version.data: it is no data set of this kind{old}. Save it with a newer libIFT."
        )
    with archive.open(members["version.data"]) as member:
        text = member.read(_HEADER).strip()
    if text not in {str(VERSION).encode(), b"DATASET_0"}:
        raise BadFile(shown, f"its version is {text[:20]!r}; this version of Fieldmark reads {VERSION} (DATASET_0).")


def _array(archive: ZipFile, members: dict[str, ZipInfo], field: str, shown: str) -> np.ndarray:
    """One member as (rows, columns)."""
    info, kind = members[f"{field}.data"], np.dtype(_TYPES[field])
    with archive.open(info) as member:
        rows, columns, head = _shape(member, field, shown)
        if rows * columns * kind.itemsize != info.file_size - head:
            raise BadFile(
                shown,
                f"its member {field}.data declares {rows} x {columns} {kind} and has {info.file_size - head:,} bytes "
                "of them: it is damaged. Copy or export it again.",
            )
        values = np.empty((rows, columns), kind)
        _fill(member, values.reshape(-1).view(np.uint8))
    return values.astype(kind.newbyteorder("="), copy=False)


def _shape(member: IO[bytes], field: str, shown: str) -> tuple[int, int, int]:
    """Rows, columns, and the length of the line that says so."""
    line = member.readline(_HEADER)
    words = line.strip().split(b",")
    if not line.endswith(b"\n") or len(words) != 2 or not all(word.isdigit() and len(word) < 14 for word in words):
        raise BadFile(shown, f"its member {field}.data begins with {line[:30]!r}; it must be `rows,columns`.")
    return int(words[0]), int(words[1]), len(line)


def _fill(member: IO[bytes], target: np.ndarray) -> None:
    view, filled = target.data, 0
    while filled < len(view) and (piece := member.read(min(_PIECE, len(view) - filled))):
        view[filled : filled + len(piece)] = piece
        filled += len(piece)
    if filled < len(view):
        raise EOFError(f"{filled:,} of {len(view):,} bytes")
    member.read(1)  # at the end, this compares the checksum


def _file_names(archive: ZipFile, members: dict[str, ZipInfo]) -> tuple[str, ...]:
    if _NAMES not in members:
        return ()
    with archive.open(members[_NAMES]) as member:
        text = member.read().decode("utf-8", "replace")
    return tuple(text.removesuffix("\n").split("\n"))  # the last line may end or not


def _assemble(arrays: dict[str, np.ndarray], names: tuple[str, ...], shown: str) -> OpfData:
    if "feat" not in arrays or not arrays["feat"].size:
        raise BadFile(shown, "it has no features (feat.data). Export it again.")
    many, features = arrays["feat"].shape
    wanted = dict.fromkeys(_OF_SAMPLES, (many, 1)) | {"alpha": (features, 1), "projection": (many, 2)}
    for field, shape in wanted.items():
        if field in arrays and arrays[field].shape != shape:
            raise BadFile(shown, f"its {field}.data has {arrays[field].shape} values for {many} x {features} features.")
    columns = {name: arrays.get(name, np.zeros((many, 1), _TYPES[name]))[:, 0] for name in _OF_SAMPLES}
    facts = {name: int(arrays[name].flat[0]) if name in arrays else 0 for name in ("n_classes", "function_number")}
    return OpfData(
        feat=arrays["feat"],
        **columns,
        alpha=arrays.get("alpha", np.ones((features, 1), np.float32))[:, 0],
        classes=facts["n_classes"],
        function=facts["function_number"],
        names=names if len(names) == many else (),
        projection=arrays.get("projection"),
    )

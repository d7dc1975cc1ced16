"""Which formats Fieldmark reads, and how it tells them apart: by content first, by name second."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fieldmark.core.registry import Entry, Registry
from fieldmark.errors import TooLarge

_HOME = "fieldmark.images.readers"
FRAMES_MAGIC = b"# fieldmark frames"
PLANES_MAGIC = b"# fieldmark planes"
FRAMES_SUFFIX = ".frames"
"""Of listings of either."""

READERS = Registry(
    "image format",
    {
        "bmp": Entry(f"{_HOME}.simple:open_bmp", "BMP, decoded whole"),
        "frames": Entry(
            f"{_HOME}.frames:open_frames", "A position of a folder of frames (add --layout frames), lazily"
        ),
        "gif": Entry(f"{_HOME}.simple:open_gif", "GIF, first frame, decoded whole"),
        "jpeg": Entry(f"{_HOME}.jpeg:open_jpeg", "JPEG, 8 bits, decoded whole; EXIF orientation is not applied"),
        "mimg": Entry(f"{_HOME}.mimg:open_mimg", "libIFT multi-band image (.mimg), read lazily"),
        "nifti": Entry(f"{_HOME}.nifti:open_nifti", "NIfTI volume, lazily; .nii.gz is decoded whole", "nifti"),
        "npy": Entry(f"{_HOME}.npy:open_npy", "NumPy array of 2 to 5 axes, read lazily"),
        "ome-zarr": Entry(f"{_HOME}.ome_zarr:open_ome_zarr", "OME-Zarr 0.4 and 0.5 with pyramid levels, read lazily"),
        "planes": Entry(f"{_HOME}.planes:open_planes", "Chosen planes of a field of a plate (microDL's files), lazily"),
        "png": Entry(f"{_HOME}.png:open_png", "PNG, 1 to 16 bits, decoded whole"),
        "pnm": Entry(f"{_HOME}.pnm:open_pnm", "PBM, PGM and PPM, 1 to 16 bits, decoded whole"),
        "tiff": Entry(f"{_HOME}.tiff:open_tiff", "TIFF, BigTIFF, OME-TIFF, GeoTIFF and SVS, read tile by tile"),
        "webp": Entry(f"{_HOME}.simple:open_webp", "WebP, still images, decoded whole"),
    },
)
"""Each is called with an `OpenRequest` and returns an `ImageSource`."""

SUFFIXES = {
    "bmp": (".bmp", ".dib"),
    "gif": (".gif",),
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "mimg": (".mimg",),
    "nifti": (".nii", ".nii.gz"),
    "npy": (".npy",),
    "ome-zarr": (".zarr",),
    "png": (".png", ".apng"),
    "pnm": (".pnm", ".pbm", ".pgm", ".ppm"),
    "tiff": (".tif", ".tiff", ".svs", ".btf", ".tf8", ".lsm"),
    "webp": (".webp",),
}

_FORMAT_OF = {suffix: form for form, suffixes in SUFFIXES.items() for suffix in suffixes}

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\x93NUMPY", "npy"),
    (FRAMES_MAGIC, "frames"),
    (PLANES_MAGIC, "planes"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
)

_WEAK_MAGIC = (
    (b"BM", "bmp"),
    (b"MIG\n", "mimg"),
    (b"MIG\r\n", "mimg"),
    *((size, "nifti") for size in (b"\x5c\1\0\0", b"\0\0\1\x5c", b"\x1c\2\0\0", b"\0\0\2\x1c", b"\x1f\x8b")),
    *((b"P%d" % n + space, "pnm") for n in range(1, 7) for space in (b"\n", b" ", b"\t", b"\r", b"#")),
)
"""Beginnings that ordinary text can have too: believed only where the name agrees."""


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """What a reader is asked for."""

    path: Path
    shown: str
    """The name as the user typed it; every error begins with it."""
    max_bytes: int
    """Most bytes that may be decoded at once."""
    expand_palette: bool = True
    """Give a palette image as its colors; if not, as its palette indices (uint8)."""

    def check_encoded(self) -> None:
        """Refuse a file that is decoded whole and is larger than that even before.

        Raises:
            TooLarge: It is.
        """
        size = self.path.stat().st_size
        if size > self.max_bytes:
            raise TooLarge(
                self.shown,
                f"the file has {size:,} bytes and can only be decoded whole; the limit is {self.max_bytes:,}. "
                "Raise it with --max-bytes, or convert the image to tiled TIFF or OME-Zarr.",
            )


def format_of_name(name: str) -> str | None:
    """The format that a file's name promises, by its suffix; None for a name that promises no image."""
    suffixes = "".join(Path(name).suffixes[-2:]).lower()
    return _FORMAT_OF.get(suffixes) or _FORMAT_OF.get(Path(name).suffix.lower())


def is_image_name(name: str) -> bool:
    """Whether a file or folder of this name is read as an image."""
    return format_of_name(name) is not None


def format_of_content(head: bytes) -> str | None:
    """The format that a file's first bytes (16 or more) prove."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return next((form for magic, form in _MAGIC if head.startswith(magic)), None)


def content_agrees(head: bytes, form: str) -> bool:
    """Whether first bytes that prove nothing at least fit the format that the name promises."""
    return any(form == weak and head.startswith(magic) for magic, weak in _WEAK_MAGIC)

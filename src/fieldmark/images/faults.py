"""Where other people's decoders end and our errors begin."""

from __future__ import annotations

import logging
import struct
import tokenize
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from fieldmark.errors import BadFile, BadInput, TooLarge

DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,  # every codec's own error derives from it
    SyntaxError,  # from array headers, and from XML
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,  # from array headers
    zlib.error,
)
"""What decoders raise when they are fed damaged or hostile bytes."""

for _library in ("tifffile", "PIL"):
    # They log what they also raise or what we check ourselves; without a handler of
    # the user's own it would land on standard error beside our one-line answer.
    logging.getLogger(_library).addHandler(logging.NullHandler())


@contextmanager
def decoding(shown: str, kind: str) -> Iterator[None]:
    """Turn what a decoder raises over damaged content into one error that names the file.

    Only calls into a decoder belong inside; our own errors pass unchanged.
    """
    try:
        yield
    except BadInput:
        raise
    except MemoryError as error:
        raise TooLarge(shown, f"there is not enough memory to decode this {kind}. Convert it to OME-Zarr.") from error
    except DECODER_ERRORS as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadFile(shown, f"this {kind} is damaged or incomplete ({detail}). Copy or export it again.") from error

"""Pictures of witnesses as PNG files, the same bytes every time."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np


def is_picture(shape: tuple[int, ...]) -> bool:
    """Tells whether numbers of this shape are shown as an image: height, width, and one or three channels."""
    return len(shape) == 3 and shape[2] in (1, 3) and min(shape[:2]) >= 4 and max(shape[:2]) <= 512


def data_url(image: np.ndarray, low: float, high: float) -> str:
    """An image ``[height, width, channels]`` as an address that holds it; ``low`` is black and ``high`` white."""
    wide = high - low if high > low else 1.0
    shades = np.rint(255 * np.clip((image.astype(np.float64) - low) / wide, 0, 1)).astype(np.uint8)
    height, width, channels = shades.shape
    rows = b"".join(b"\0" + shades[row].tobytes() for row in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    content = (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    )
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

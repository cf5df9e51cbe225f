"""Reads a picture's size in pixels from its header, so that the demo can check the thumbnail without the
library that made it.

JPEG: the start-of-frame segment (ITU T.81, B.2.2). PNG: the IHDR chunk (PNG specification, 11.2.2).
"""

import struct

_PNG = b"\x89PNG\r\n\x1a\n"
# Start of frame 0-15, without the tables and the reserved marker between them.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height). Raises ValueError for what is no complete JPEG or PNG header."""
    if data.startswith(_PNG) and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    raise ValueError("this is neither a JPEG nor a PNG file")


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker in _FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ValueError("this JPEG file has no start of frame")

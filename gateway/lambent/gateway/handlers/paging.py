"""Markers and page sizes of the List operations, because every one of them pages alike.

AWS: Marker is opaque, at most 50 rows a page, NextMarker is absent on the last page.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from lambent.kernel.errors import InvalidParameterValueException

PAGE = 50
_KEY = re.compile(r"[a-zA-Z0-9-_]{1,140}(:[0-9]{1,18})?")
_Row = TypeVar("_Row")


def page_size(members: Mapping[str, Any]) -> int:
    """How many rows to answer: MaxItems, at most 50."""
    return min(int(members.get("MaxItems") or PAGE), PAGE)


def after(members: Mapping[str, Any]) -> str | None:
    """The key that the page starts after, or None for the first page.

    Raises InvalidParameterValueException for a Marker that no page of ours ended with.
    """
    marker = members.get("Marker")
    if not marker:
        return None
    try:
        key = base64.b64decode(marker, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):  # UnicodeDecodeError is a ValueError
        key = ""
    if _KEY.fullmatch(key) is None:
        raise invalid_marker(marker)
    return key


def invalid_marker(marker: str) -> InvalidParameterValueException:
    """The error for a Marker that is not ours."""
    return InvalidParameterValueException(
        f"Invalid Marker: {marker}. Send the NextMarker of the previous page, or none for the first page."
    )


def cut(rows: Sequence[_Row], size: int, keys: Sequence[str]) -> tuple[Sequence[_Row], str | None]:
    """The first `size` rows, and the marker for the rest if there is one. `keys[i]` belongs to `rows[i]`."""
    if len(rows) <= size:
        return rows, None
    return rows[:size], base64.urlsafe_b64encode(keys[size - 1].encode()).decode()

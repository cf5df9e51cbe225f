"""Folders that stand for AWS's file systems, as the operator names them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_ACCESS_POINT = re.compile(r"fsap-[0-9a-f]{17,40}")


class Shared(NamedTuple):
    """A folder of the host, the same one on every executor."""

    folder: Path
    read_only: bool = False


def parse(text: str) -> Mapping[str, Shared]:
    """`ACCESS_POINT=FOLDER[:ro]`, by commas. Raises ValueError."""
    found: dict[str, Shared] = {}
    for entry in (part.strip() for part in text.split(",")):
        if not entry:
            continue
        name, equals, folder = entry.partition("=")
        read_only = folder.endswith(":ro")
        path = Path(folder.removesuffix(":ro"))
        if not equals or _ACCESS_POINT.fullmatch(name) is None or not path.is_absolute():
            raise ValueError(
                f"{entry!r} is no file system: write ACCESS_POINT=FOLDER[:ro], as "
                "fsap-0123456789abcdef0=/srv/models:ro"
            )
        if name in found:
            raise ValueError(f"{name} is named twice")
        found[name] = Shared(path, read_only)
    return found

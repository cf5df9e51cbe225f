"""What names an image: a registry's `host[:port]/name[:tag][@digest]`, or `oci-layout:/folder-or-tar[:tag]`."""

import re
from dataclasses import dataclass

_LAYOUT = "oci-layout:"
_HOST = re.compile(r"(?:[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")
_NAME = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """`registry`: host and port, "" for a layout, whose place is `name`; `wanted`: a tag or a digest."""

    registry: str
    name: str
    wanted: str

    @property
    def is_layout(self) -> bool:
        return not self.registry


def parse(text: str) -> Reference:
    """Raises ValueError, for a person."""
    if text.startswith(_LAYOUT):
        folder, colon, tag = text.removeprefix(_LAYOUT).partition(":")
        if (
            not folder.startswith("/")
            or not folder.isprintable()
            or (colon and not (_TAG.fullmatch(tag) or DIGEST.fullmatch(tag)))
        ):
            raise ValueError(f"{text} names no layout: oci-layout:/FOLDER or oci-layout:/FOLDER:TAG")
        return Reference("", folder, tag)
    registry, slash, rest = text.partition("/")
    if not slash or not ("." in registry or ":" in registry or registry == "localhost"):
        raise ValueError(f"{text} names no registry: HOST/NAME:TAG, HOST:PORT/NAME:TAG or oci-layout:/FOLDER")
    named, at, digest = rest.partition("@")
    name, colon, tag = named.partition(":")
    wanted = digest if at else tag if colon else "latest"
    if not _HOST.fullmatch(registry):
        raise ValueError(f"{text} names no registry that can be")
    if not _NAME.fullmatch(name) or not (DIGEST.fullmatch(wanted) if at else _TAG.fullmatch(wanted)):
        raise ValueError(f"{text} is no name of an image")
    return Reference(registry, name, wanted)

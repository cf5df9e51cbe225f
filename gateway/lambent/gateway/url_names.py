"""Where a function URL is: a host name of its own that needs no DNS on the same machine, since *.localhost is
loopback to browsers and curl; and a path on the server's own name for whoever cannot resolve that.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from lambent.kernel.settings import Settings

PREFIX = b"/_lambent/url/"
_LABEL = b".lambda-url."
_ID = 32


class Asked(NamedTuple):
    """A request to a function URL: its id, and the path behind it as it was sent."""

    id: str
    path: bytes


def address_of(url_id: str, settings: Settings, base_url: str) -> str:
    """The FunctionUrl that a client is told. `base_url`: how it addressed the server. On an address of a
    network without a domain of one's own, where no name of ours resolves, it is a path."""
    if settings.url_base:
        scheme, _, domain = settings.url_base.partition("://")
        return f"{scheme}://{url_id}.lambda-url.{settings.region}.{domain}/"
    parts = urlsplit(base_url)
    if not _is_this_machine(parts.hostname or ""):
        return f"{base_url}{PREFIX.decode()}{url_id}/"
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{url_id}.lambda-url.{settings.region}.localhost{port}/"


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def asked_of(path: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Asked | None:
    """None: the request is to the server itself. Quick, for every request is asked."""
    for name, value in headers:
        if name == b"host":  # first: every path of a URL's host is its function's
            if value[_ID : _ID + len(_LABEL)].lower() == _LABEL:
                return Asked(value[:_ID].decode("latin-1").lower(), path)
            break
    if path.startswith(PREFIX):
        url_id, slash, rest = path[len(PREFIX) :].partition(b"/")
        return Asked(url_id.decode("latin-1"), slash + rest or b"/")
    return None

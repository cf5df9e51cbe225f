"""Keeps web pages off the server, because any key works for now and a browser on this machine reaches loopback:
a page that somebody looks at could deploy and run code.

SDKs and command lines send neither `Origin` nor `Sec-Fetch-Site`; a page's requests carry one of them. No page
is ours, not even one of our own origin: that is a function's, at the path of its URL. Against DNS rebinding (a
foreign name that resolves to loopback, so that the page counts as ours) a server on loopback answers only to
`localhost`, to addresses and to the host it was told to listen on.
"""

import ipaddress
from collections.abc import Sequence

from lambent.kernel.errors import AccessDeniedException

_KNOWN = 1024


class WebPages:
    """`host`: what the server listens on."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._check_names = host == "localhost" or _is_loopback(host)
        self._known: dict[bytes, bool] = {}

    def refuse(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Raises AccessDeniedException for a request that a web page made. Header names in lower case."""
        for name, value in headers:
            if name == b"host":
                if self._check_names and not self._is_ours(value):
                    raise AccessDeniedException(
                        f"{value.decode('latin-1')!r} is no name of this server. Use http://127.0.0.1:PORT or "
                        "http://localhost:PORT, or listen on another address with --host."
                    )
            elif name == b"origin" or (name == b"sec-fetch-site" and value != b"none"):
                raise AccessDeniedException("Requests of web pages are refused.")

    def _is_ours(self, value: bytes) -> bool:
        known = self._known.get(value)
        if known is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            known = self._known[value] = self._named(value.decode("latin-1").lower())
        return known

    def _named(self, value: str) -> bool:
        name = value.rpartition("]")[0].lstrip("[") if value.startswith("[") else value.partition(":")[0]
        return name in ("localhost", self._host) or name.endswith(".localhost") or _is_address(name)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(text: str) -> bool:
    return _is_address(text) and ipaddress.ip_address(text).is_loopback

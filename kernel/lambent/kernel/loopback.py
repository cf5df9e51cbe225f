"""Which URLs lead to this machine, because what is on loopback must never be asked for through an HTTP_PROXY:
the proxy's loopback is another one."""

import ipaddress
from urllib.parse import urlsplit


def is_loopback(url: str | None) -> bool:
    """Whether the URL's host is this machine by its name or address; False for None and for what is no URL."""
    try:
        host = urlsplit(url or "").hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxies_for(url: str | None) -> dict[str, str] | None:
    """For botocore's Config(proxies=...): none at all for loopback, else None, which is as the environment
    says."""
    return {} if is_loopback(url) else None

"""Who may speak to an executor: whoever can invoke by frames can run code, so nothing listens beyond loopback
without a proof.

A cluster key is proved by both sides, each over the other's nonce (HMAC-SHA256), and never sent; it does not
hide or seal what follows. Where the network is not trusted, use an SSLContext with certificates on both sides.
"""

import hmac
import ipaddress
import secrets
import ssl
from dataclasses import dataclass, field

PROTOCOL = 1
NONCE = 32
_MIN_KEY = 16
_HOW = "give both sides the same cluster key, or TLS contexts with certificates of their own"


@dataclass(frozen=True, slots=True)
class Access:
    """What a side has: a cluster key of at least 16 bytes, a TLS context, both or (on loopback) neither.
    `server_name`: what the other side's certificate is of, if not of its address. Raises ValueError."""

    key: bytes | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if self.key is not None and len(self.key) < _MIN_KEY:
            raise ValueError(f"A cluster key has at least {_MIN_KEY} bytes: make one of 32 random bytes.")

    def check(self, host: str, what: str) -> None:
        """Raises ValueError if `what` ("Executor frames on", "A connection to") must not be without a proof."""
        if self.key is not None or (self.tls is not None and self.tls.verify_mode is ssl.CERT_REQUIRED):
            return
        if self.tls is not None:
            raise ValueError(
                f"{what} {host}: the TLS context asks for no certificate, and no key is set: {_HOW}."
            )
        if not _is_loopback(host):
            raise ValueError(f"{what} {host}, which is not loopback, without a key or TLS: {_HOW}.")

    def proof(self, side: str, *, nonces: tuple[bytes, bytes], executor: str) -> bytes:
        """What `side` ("client" or "executor") says, over the client's nonce and the server's; b"" without a
        key."""
        if self.key is None:
            return b""
        said = b"lambent frames 1 %b\0%b%b%b" % (side.encode(), *nonces, executor.encode())
        return hmac.digest(self.key, said, "sha256")

    def proved(self, mac: bytes, side: str, *, nonces: tuple[bytes, bytes], executor: str) -> bool:
        """In constant time. Without a key only an empty proof will do: the other side wants one."""
        return hmac.compare_digest(mac, self.proof(side, nonces=nonces, executor=executor))


def nonce() -> bytes:
    return secrets.token_bytes(NONCE)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

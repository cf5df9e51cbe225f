"""Signed, expiring download URLs of code archives (`Code.Location`, a layer's `Content.Location`), because a
client follows that URL without credentials, as it does AWS's presigned one.

AWS: the URL is valid for 10 minutes.
"""

import hashlib
import hmac

from lambent.kernel.ports import Clock

VALID_SECONDS = 600


class CodeUrls:
    """Signs and checks `/_lambent/code/DIGEST?expires=EPOCH&signature=HEX`."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def sign(self, base_url: str, digest: str) -> str:
        expires = int(self._clock.now()) + VALID_SECONDS
        return (
            f"{base_url}/_lambent/code/{digest}?expires={expires}&signature={self._signature(digest, expires)}"
        )

    def valid(self, digest: str, expires: str, signature: str) -> bool:
        """Whether a signature is ours and has not expired."""
        if not expires.isdigit() or int(expires) < self._clock.now():
            return False
        return hmac.compare_digest(self._signature(digest, int(expires)), signature)

    def _signature(self, digest: str, expires: int) -> str:
        return hmac.new(self._key, f"{digest}:{expires}".encode(), hashlib.sha256).hexdigest()

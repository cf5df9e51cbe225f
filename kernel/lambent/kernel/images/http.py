"""How registries are spoken to: where a redirect may lead, and which failures are worth another attempt."""

import email.utils
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any, TypeVar

from lambent.kernel.images.source import ImageError

_SECONDS = 60.0  # of silence
_PAUSES = (0.5, 1.0, 2.0)
_MOST_PAUSE = 30.0
_PART = 1 << 18
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_T = TypeVar("_T")


class Passing(Exception):
    """It may go well the next time. `after`: seconds that the registry wants to be left alone, or None."""

    def __init__(self, text: str, after: float | None = None) -> None:
        super().__init__(text)
        self.after = after


def is_loopback(host: str) -> bool:
    """`host`: with a port or without."""
    return urllib.parse.urlsplit(f"//{host}").hostname in _LOOPBACK


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Blobs are often elsewhere: who is asked there gets nothing that was meant for the registry, and hears
    nothing that others could listen to."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        plainly = after.scheme == "http" and before.scheme == "http" and is_loopback(after.netloc)
        if after.scheme != "https" and not plainly:
            raise ImageError(
                f"{before.netloc} sends for it to {after.scheme}://{after.netloc}, and only HTTPS may carry it"
            )
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None and (before.scheme, before.netloc) != (after.scheme, after.netloc):
            made.remove_header("Authorization")
        return made


class Http:
    """`until`: when all of it must have ended (monotonic), or None. `pause` waits some seconds."""

    def __init__(self, host: str, *, until: float | None = None, pause: Callable[[float], None]) -> None:
        self._host = host
        self._until = until
        self._pause = pause
        self._opener = urllib.request.build_opener(_Redirects)

    def patiently(self, attempt: Callable[[], _T]) -> _T:
        """`attempt`, again as long as it raises Passing, a few times. Raises ImageError."""
        for pause in (*_PAUSES, None):
            try:
                return attempt()
            except Passing as failure:
                if pause is None:
                    raise ImageError(str(failure)) from failure
                wanted = pause if failure.after is None else min(failure.after, _MOST_PAUSE)
                left = self._left()
                if left <= wanted:
                    raise ImageError(str(failure)) from failure
                self._pause(wanted)
        raise AssertionError("the last attempt has no pause")

    def open(self, request: urllib.request.Request) -> HTTPResponse:
        """Raises Passing, ImageError, HTTPError (closed) for a refusal that will not change."""
        try:
            answer: HTTPResponse = self._opener.open(request, timeout=min(_SECONDS, self._left()))
            return answer
        except urllib.error.HTTPError as refusal:
            refusal.close()
            if refusal.code in (408, 429) or refusal.code >= 500:
                after = _seconds(refusal.headers.get("Retry-After"))
                raise Passing(f"{self._host} answers {refusal.code}", after) from None
            raise
        except (OSError, HTTPException) as failure:
            raise Passing(f"{self._host} does not answer: {failure}") from failure
        except ValueError as failure:  # a redirect to what is no address
            raise ImageError(f"{self._host} does not answer as registries do: {failure}") from failure

    def read(self, answer: HTTPResponse, size: int) -> bytes:
        """Up to so much; nothing at the end alone. Raises Passing, ImageError."""
        self._left()
        try:
            part = answer.read1(min(size, _PART))
            if not part and answer.length:
                raise IncompleteRead(b"", answer.length)
            return part
        except (OSError, HTTPException) as failure:
            raise Passing(f"{self._host} broke off: {failure}") from failure

    def whole(self, answer: HTTPResponse, most: int) -> bytes:
        """All of it, or one byte more than the most."""
        data = bytearray()
        while len(data) <= most and (part := self.read(answer, most + 1 - len(data))):
            data += part
        return bytes(data)

    def _left(self) -> float:
        if self._until is None:
            return float("inf")
        left = self._until - time.monotonic()
        if left <= 0:
            raise ImageError(f"{self._host} takes too long")
        return left


def _seconds(after: str | None) -> float | None:
    """Of Retry-After: seconds, or a date."""
    if after is None:
        return None
    try:
        return max(0.0, float(int(after)))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None

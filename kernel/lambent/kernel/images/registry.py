"""Images in a registry: the pull side of the OCI Distribution API, with the tokens that registries give for it.

HTTPS, but for this machine's own loopback. What breaks off is tried again, and a token that has expired in the
middle of a long pull is fetched anew.
"""

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPResponse
from pathlib import Path

from lambent.kernel.images import credentials
from lambent.kernel.images.http import Http, Passing, is_loopback
from lambent.kernel.images.reference import DIGEST
from lambent.kernel.images.source import (
    INDEXES,
    MANIFESTS,
    MAX_MANIFEST,
    ImageDenied,
    ImageError,
    ImageMissing,
    Takes,
    check,
    copy_checked,
    member,
)

_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_MAX_TOKEN = 1 << 16
_HUB_REGISTRY = "registry-1.docker.io"


def address(host: str, name: str) -> str:
    """Where a repository is asked for. Docker's own registry is not where its images are said to be."""
    if host == credentials.HUB:
        host, name = _HUB_REGISTRY, name if "/" in name else f"library/{name}"
    return f"{'http' if is_loopback(host) else 'https'}://{host}/v2/{name}"


class Registry:
    """See `source.Source`. `name`: the repository; `until` and `pause`: see `Http`."""

    def __init__(
        self,
        host: str,
        name: str,
        *,
        until: float | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._base = address(host, name)
        self._host = host
        self._authorization: str | None = None
        self._http = Http(host, until=until, pause=pause)

    def manifest(self, wanted: str) -> bytes:
        def take() -> bytes:
            with self._get(f"manifests/{wanted}", accept=", ".join((*MANIFESTS, *INDEXES))) as answer:
                return self._http.whole(answer, MAX_MANIFEST)

        data = self._http.patiently(take)
        if len(data) > MAX_MANIFEST:
            raise ImageError(f"the manifest of {wanted} is larger than {MAX_MANIFEST >> 20} MB")
        return check(data, wanted) if DIGEST.fullmatch(wanted) else data

    def blob(self, digest: str, size: int, into: Path, room: Takes) -> None:
        def take() -> None:
            with self._get(f"blobs/{digest}") as answer, open(into, "wb") as target:
                copy_checked(lambda wanted: self._http.read(answer, wanted), target, digest, size, room)

        self._http.patiently(take)

    def _get(self, what: str, accept: str = "*/*") -> HTTPResponse:
        """Raises Passing, ImageError."""
        url = f"{self._base}/{what}"
        for again in (True, False):
            request = urllib.request.Request(url, headers={"Accept": accept, "User-Agent": "lambent"})
            if self._authorization is not None:
                request.add_header("Authorization", self._authorization)
            try:
                return self._http.open(request)
            except urllib.error.HTTPError as refusal:
                challenge = refusal.headers.get("WWW-Authenticate", "")
                # Only the registry itself may ask for a password, not who it has sent us to.
                itself = _place(refusal.url or "") == _place(self._base)
                if refusal.code != 401 or not again or not challenge or not itself:
                    raise self._refused(what, refusal.code) from None
            self._authorization = None  # it may have expired
            self._authorization = self._authorize(challenge)
        raise AssertionError("the second refusal is the last")

    def _refused(self, what: str, code: int) -> ImageError:
        if code in (401, 403):
            return ImageDenied(
                f"{self._host} lets nobody have {what} without a password: log in to it (docker login, skopeo "
                "login), or name the file that has it in REGISTRY_AUTH_FILE"
            )
        if code == 404:
            return ImageMissing(f"{self._host} has no {what}")
        return ImageError(f"{self._host} answers {code} for {what}")

    def _authorize(self, challenge: str) -> str:
        """Raises Passing, ImageError."""
        kind, _, rest = challenge.partition(" ")
        password = credentials.basic(self._host)
        if kind.lower() == "basic":
            if password is None:
                raise ImageDenied(f"{self._host} wants a password: log in to it (docker login, skopeo login)")
            return f"Basic {password}"
        asked = dict(_CHALLENGE.findall(rest))
        realm = asked.pop("realm", "")
        if kind.lower() != "bearer" or not self._may_be_asked(realm):
            raise ImageError(f"{self._host} wants an authorization that is not known here ({kind})")
        query = urllib.parse.urlencode({name: asked[name] for name in ("service", "scope") if name in asked})
        request = urllib.request.Request(
            f"{realm}{'&' if '?' in realm else '?'}{query}", headers={"User-Agent": "lambent"}
        )
        if password is not None:
            request.add_header("Authorization", f"Basic {password}")
        try:
            with self._http.open(request) as answer:
                document = json.loads(self._http.whole(answer, _MAX_TOKEN))
        except urllib.error.HTTPError as refusal:
            if refusal.code in (401, 403):
                raise self._refused("a token", refusal.code) from None
            raise ImageError(f"{self._host} gives no token: its server answers {refusal.code}") from None
        except Passing as failure:
            raise Passing(f"{self._host} gives no token: {failure}", failure.after) from failure
        except (ValueError, RecursionError):
            raise ImageError(f"{self._host} gives no token") from None
        token = member(document, "token") or member(document, "access_token")
        if not isinstance(token, str) or not token.isprintable():
            raise ImageError(f"{self._host} gives no token")
        return f"Bearer {token}"

    def _may_be_asked(self, realm: str) -> bool:
        """A password goes over HTTPS, or to this machine if the registry is on it."""
        scheme, netloc = _place(realm)
        return scheme == "https" or (
            scheme == "http" and self._base.startswith("http://") and is_loopback(netloc)
        )


def _place(url: str) -> tuple[str, str]:
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return "", ""
    return parts.scheme, parts.netloc

"""Images in a registry: the pull side of the OCI Distribution API, with the tokens that registries give for it.

Passwords are those of `docker login` and its like: ~/.docker/config.json, or the file that REGISTRY_AUTH_FILE
names. HTTPS, but for this machine's own loopback.
"""

import base64
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from lambent.kernel.images.reference import DIGEST
from lambent.kernel.images.source import (
    INDEXES,
    MANIFESTS,
    MAX_MANIFEST,
    ImageError,
    check,
    copy_checked,
    member,
)

_SECONDS = 60.0
_TRIES = 3
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_MAX_TOKEN = 1 << 16


class _KeepsNoPassword(urllib.request.HTTPRedirectHandler):
    """Blobs are often elsewhere: who is asked there gets nothing that was meant for the registry."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if (
            made is not None
            and urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc
        ):
            made.remove_header("Authorization")
        return made


class Registry:
    """See `source.Source`. `name`: the repository."""

    def __init__(self, host: str, name: str) -> None:
        plain = host.rpartition(":")[0] in _LOOPBACK or host in _LOOPBACK
        self._base = f"{'http' if plain else 'https'}://{host}/v2/{name}"
        self._host = host
        self._authorization: str | None = None
        self._opener = urllib.request.build_opener(_KeepsNoPassword)

    def manifest(self, wanted: str) -> bytes:
        with self._get(f"manifests/{wanted}", accept=", ".join((*MANIFESTS, *INDEXES))) as answer:
            data = answer.read(MAX_MANIFEST + 1)
        if len(data) > MAX_MANIFEST:
            raise ImageError(f"the manifest of {wanted} is larger than {MAX_MANIFEST >> 20} MB")
        return check(data, wanted) if DIGEST.fullmatch(wanted) else data

    def blob(self, digest: str, size: int, into: Path) -> None:
        for attempt in range(_TRIES):
            try:
                with self._get(f"blobs/{digest}") as answer, open(into, "wb") as target:
                    copy_checked(answer.read, target, digest, size)
                return
            except (OSError, HTTPException) as failure:
                if attempt == _TRIES - 1:
                    raise ImageError(f"{self._host} broke off in {digest}: {failure}") from failure

    def _get(self, what: str, accept: str = "*/*") -> HTTPResponse:
        try:
            return self._open(f"{self._base}/{what}", accept)
        except urllib.error.HTTPError as refusal:
            refusal.close()
            challenge = refusal.headers.get("WWW-Authenticate", "")
            if refusal.code != 401 or self._authorization is not None or not challenge:
                raise self._refused(what, refusal) from None
            self._authorization = self._authorize(challenge)
        try:
            return self._open(f"{self._base}/{what}", accept)
        except urllib.error.HTTPError as refusal:
            refusal.close()
            raise self._refused(what, refusal) from None

    def _open(self, url: str, accept: str) -> HTTPResponse:
        request = urllib.request.Request(url, headers={"Accept": accept, "User-Agent": "lambent"})
        if self._authorization is not None:
            request.add_header("Authorization", self._authorization)
        try:
            answer: HTTPResponse = self._opener.open(request, timeout=_SECONDS)
            return answer
        except urllib.error.HTTPError:
            raise
        except (OSError, HTTPException) as failure:
            raise ImageError(f"{self._host} does not answer: {failure}") from failure

    def _refused(self, what: str, refusal: urllib.error.HTTPError) -> ImageError:
        if refusal.code in (401, 403):
            return ImageError(
                f"{self._host} lets nobody have {what} without a password: log in to it (docker login, skopeo "
                "login), or name the file that has it in REGISTRY_AUTH_FILE"
            )
        if refusal.code == 404:
            return ImageError(f"{self._host} has no {what}")
        return ImageError(f"{self._host} answers {refusal.code} for {what}")

    def _authorize(self, challenge: str) -> str:
        kind, _, rest = challenge.partition(" ")
        basic = _password(self._host)
        if kind.lower() == "basic":
            if basic is None:
                raise ImageError(f"{self._host} wants a password: log in to it (docker login, skopeo login)")
            return f"Basic {basic}"
        asked = dict(_CHALLENGE.findall(rest))
        realm = asked.pop("realm", "")
        if kind.lower() != "bearer" or not realm.startswith(("https://", self._base.partition("/v2/")[0])):
            raise ImageError(f"{self._host} wants an authorization that is not known here ({kind})")
        query = urllib.parse.urlencode({name: asked[name] for name in ("service", "scope") if name in asked})
        request = urllib.request.Request(f"{realm}?{query}", headers={"User-Agent": "lambent"})
        if basic is not None:
            request.add_header("Authorization", f"Basic {basic}")
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                document = json.loads(answer.read(_MAX_TOKEN))
        except (OSError, HTTPException, ValueError) as failure:
            raise ImageError(f"{self._host} gives no token: {failure}") from failure
        token = member(document, "token") or member(document, "access_token")
        if not isinstance(token, str):
            raise ImageError(f"{self._host} gives no token")
        return f"Bearer {token}"


def _password(host: str) -> str | None:
    """As Basic authorization has it."""
    named = os.environ.get("REGISTRY_AUTH_FILE")
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    path = Path(named) if named else folder / "config.json"
    try:
        auths = member(json.loads(path.read_text()), "auths") or {}
    except (OSError, ValueError):
        return None
    for name in (host, f"https://{host}", f"https://{host}/v1/"):
        auth = member(auths, name, "auth")
        if isinstance(auth, str):
            try:
                base64.b64decode(auth, validate=True)
            except ValueError:
                continue
            return auth
    return None

"""Pulling from a real registry: what it wants to know of who asks, and what of it is checked."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from images import MANIFEST, Made, layer, registry

from lambent.kernel.images import pull, reference
from lambent.kernel.images.source import ImageError

# Of "user:secret", by bcrypt.
PASSWORDS = "user:$2b$05$hCDBo5fNFUNlLWMG0pN7A.xoG6IWjPPe/KWKCmO4Mr2zmq0oBmpbG\n"


def taken(folder: Path, text: str) -> bytes:
    """The file x of the image."""
    root, work = folder / "root", folder / "work"
    for each in (root, work):
        each.mkdir(parents=True)
    pull.pull(reference.parse(text), root, work)
    return (root / "x").read_bytes()


def test_an_image_is_pulled_by_tag_and_by_digest(tmp_path: Path) -> None:
    one, two = Made([layer({"x": b"one"})]), Made([layer({"x": b"two"})])
    with registry(tmp_path) as address:
        one.push(address, "some/thing", "tag")
        assert taken(tmp_path / "1", f"{address}/some/thing:tag") == b"one"
        two.push(address, "some/thing", "tag")
        assert taken(tmp_path / "2", f"{address}/some/thing:tag") == b"two"
        assert taken(tmp_path / "3", f"{address}/some/thing@{one.manifest['digest']}") == b"one"
        with pytest.raises(ImageError, match="has no manifests/other"):
            taken(tmp_path / "4", f"{address}/some/thing:other")


def test_a_password_is_taken_from_where_logins_leave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made([layer({"x": b"kept"})])
    (tmp_path / "passwords").write_text(PASSWORDS)
    secret = base64.b64encode(b"user:secret").decode()
    with registry(tmp_path, passwords=tmp_path / "passwords") as address:
        made.push(address, "own", "tag", authorization=f"Basic {secret}")
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "none.json"))
        with pytest.raises(ImageError, match="wants a password: log in to it"):
            taken(tmp_path / "1", f"{address}/own:tag")
        for auth, number in ((secret, 2), (base64.b64encode(b"user:wrong").decode(), 3)):
            (tmp_path / "auth.json").write_text(json.dumps({"auths": {address: {"auth": auth}}}))
            monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
            if number == 2:
                assert taken(tmp_path / str(number), f"{address}/own:tag") == b"kept"
            else:
                with pytest.raises(ImageError, match="without a password") as failure:
                    taken(tmp_path / str(number), f"{address}/own:tag")
                assert "wrong" not in str(failure.value) and auth not in str(failure.value)


@contextmanager
def tokens(made: Made, *, elsewhere: bool) -> Iterator[tuple[str, list[str]]]:
    """A registry that wants a token, and sends for blobs to another port; what was asked with authorization."""
    seen: list[str] = []

    class Blobs(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(f"blobs {self.headers.get('Authorization')}")
            self._say(200, made.blobs[self.path.rpartition("/")[2]])

        def _say(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    blobs = ThreadingHTTPServer(("127.0.0.1", 0), Blobs)

    class Registry(Blobs):
        def do_GET(self) -> None:
            here = f"127.0.0.1:{own.server_address[1]}"
            if self.path.startswith("/token?"):
                seen.append(self.path)
                self._say(200, b'{"token": "given"}')
            elif self.headers.get("Authorization") != "Bearer given":
                challenge = f'Bearer realm="http://{here}/token",service="s",scope="repository:a:pull"'
                self._say(401, b"", WWW_Authenticate=challenge)
            elif "/manifests/" in self.path:
                self._say(200, made.blobs[made.manifest["digest"]], Content_Type=MANIFEST)
            elif elsewhere:
                where = f"http://127.0.0.1:{blobs.server_address[1]}/{self.path.rpartition('/')[2]}"
                self._say(307, b"", Location=where)
            else:
                self._say(200, b"not what was promised")

    own = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    try:
        for server in (blobs, own):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{own.server_address[1]}", seen
    finally:
        for server in (blobs, own):
            server.shutdown()
            server.server_close()


def test_a_token_is_asked_for_and_goes_nowhere_else(tmp_path: Path) -> None:
    made = Made([layer({"x": b"far"})])
    with tokens(made, elsewhere=True) as (address, seen):
        assert taken(tmp_path / "1", f"{address}/a:tag") == b"far"
    assert seen == ["/token?service=s&scope=repository%3Aa%3Apull", "blobs None", "blobs None"]


def test_what_is_not_what_was_promised_is_refused(tmp_path: Path) -> None:
    with tokens(Made([layer({"x": b""})]), elsewhere=False) as (address, _):
        with pytest.raises(ImageError, match="is something else"):
            taken(tmp_path / "1", f"{address}/a:tag")

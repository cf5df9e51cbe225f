"""A registry that breaks off, is busy, lets tokens expire or sends elsewhere: what is tried again, and what is
never sent.

The registry is one of few lines, since no real one fails when it is told to.
"""

import base64
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from images import MANIFEST, Asked, Made, layer, served

from lambent.kernel.images import credentials, pull, reference
from lambent.kernel.images.registry import Registry, address
from lambent.kernel.images.room import Room
from lambent.kernel.images.source import ImageError

LAYER = layer({"x": b"all of it"})
MADE = Made([LAYER])


def image(asked: Asked) -> None:
    """What it is asked for."""
    if "/manifests/" in asked.path:
        asked.say(200, MADE.blobs[MADE.manifest["digest"]], Content_Type=MANIFEST)
    else:
        asked.say(200, MADE.blobs[asked.path.rpartition("/")[2]])


class Taken:
    """What a registry gave, and how long it was left alone in between."""

    def __init__(self, at: str, *, until: float | None = None) -> None:
        self.paused: list[float] = []
        self.registry = Registry(at, "a", until=until, pause=self.paused.append)

    def layer(self, folder: Path) -> bytes:
        digest = next(digest for digest, data in MADE.blobs.items() if data == LAYER)
        self.registry.blob(digest, len(LAYER), folder / "layer", Room(folder))
        return (folder / "layer").read_bytes()


FAULTS: dict[str, Callable[[Asked], None]] = {
    "reset": Asked.reset,
    "short": lambda asked: asked.say(200, b"\x1f\x8b", length=4000),
    "broken": lambda asked: asked.say(502),
    "busy": lambda asked: asked.say(429, Retry_After="7"),
    "busy for hours": lambda asked: asked.say(503, Retry_After="100000"),
    "busy until a date": lambda asked: asked.say(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
    "busy until nonsense": lambda asked: asked.say(429, Retry_After="soon"),
}
PAUSES = {"busy": 7.0, "busy for hours": 30.0, "busy until a date": 0.0}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_breaks_off_is_tried_again(tmp_path: Path, fault: str) -> None:
    asked: list[str] = []

    def answer(request: Asked) -> None:
        asked.append(request.path)
        if asked.count(request.path) == 1:
            FAULTS[fault](request)
        else:
            image(request)

    with served(answer) as at:
        taken = Taken(at)
        assert taken.registry.manifest("tag") == MADE.blobs[MADE.manifest["digest"]]
        assert taken.layer(tmp_path) == LAYER
    assert len(asked) == 4
    assert taken.paused == [PAUSES.get(fault, 0.5)] * 2


@pytest.mark.parametrize("fault", ["reset", "short", "broken"])
def test_it_is_not_tried_for_ever(tmp_path: Path, fault: str) -> None:
    asked: list[str] = []

    def answer(request: Asked) -> None:
        asked.append(request.path)
        FAULTS[fault](request)

    with served(answer) as at:
        with pytest.raises(ImageError, match=r"broke off|does not answer|answers 502"):
            Taken(at).registry.manifest("tag")
        assert len(asked) == 4
        with pytest.raises(ImageError, match=r"broke off|does not answer|answers 502"):
            Taken(at).layer(tmp_path)
        assert len(asked) == 8


def test_a_refusal_is_asked_for_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: Asked) -> None:
        asked.append(request.path)
        request.say(404)

    with served(answer) as at, pytest.raises(ImageError, match="has no manifests/tag"):
        Taken(at).registry.manifest("tag")
    assert len(asked) == 1


def test_what_must_end_in_time_does(tmp_path: Path) -> None:
    ended = threading.Event()

    def drip(request: Asked) -> None:
        request.say(200, b"{", length=4000)
        while not ended.wait(0.05):
            request.wfile.write(b" ")

    try:
        with served(drip) as at, pytest.raises(ImageError, match="takes too long"):
            Taken(at, until=time.monotonic() + 0.5).registry.manifest("tag")
    finally:
        ended.set()
    with served(lambda request: request.say(429, Retry_After="7")) as at:
        taken = Taken(at, until=time.monotonic() + 5)
        with pytest.raises(ImageError, match="answers 429"):
            taken.registry.manifest("tag")
        assert taken.paused == [], "it would come too late"


def tokens(expired: set[str], asked: list[str]) -> Callable[[Asked], None]:
    """A registry that gives tokens, and takes those that have not expired."""

    def answer(request: Asked) -> None:
        given = request.headers.get("Authorization", "")
        asked.append(f"{request.path.split('/')[-2]} {given}")
        if request.path.startswith("/give/token?"):
            number = sum(each.startswith("give") for each in asked)
            request.say(200, json.dumps({"token": f"{number}"}).encode())
        elif given.startswith("Bearer ") and given not in expired:
            image(request)
        else:
            realm = f'Bearer realm="http://{request.headers["Host"]}/give/token",service="s"'
            request.say(401, WWW_Authenticate=realm)

    return answer


def test_a_token_that_expires_is_fetched_anew(tmp_path: Path) -> None:
    expired: set[str] = set()
    asked: list[str] = []
    with served(tokens(expired, asked)) as at:
        taken = Taken(at)
        taken.registry.manifest("tag")
        expired.add("Bearer 1")
        assert taken.layer(tmp_path) == LAYER
        expired.update(f"Bearer {number}" for number in range(10))
        count = len(asked)
        with pytest.raises(ImageError, match="lets nobody have"):
            taken.layer(tmp_path)
    assert asked[:3] == ["manifests ", "give ", "manifests Bearer 1"]
    assert asked[3:6] == ["blobs Bearer 1", "give ", "blobs Bearer 2"]
    assert len(asked) - count == 3, "once"


@pytest.mark.parametrize(
    "where", ["http://registry.example/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://["]
)
def test_nothing_is_fetched_where_others_can_listen(where: str) -> None:
    with served(lambda request: request.say(307, Location=where)) as at:
        with pytest.raises(ImageError, match=r"only HTTPS may carry it|does not answer|answers 307"):
            Taken(at).registry.manifest("tag")


def logged_in(folder: Path, monkeypatch: pytest.MonkeyPatch, **config: object) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(folder / "config.json"))


SECRET = base64.b64encode(b"user:secret").decode()


@pytest.mark.parametrize(
    "realm", ["http://registry.example/t", "http://127.0.0.1@registry.example/t", "ftp://127.0.0.1/t"]
)
def test_no_password_goes_where_others_can_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, realm: str
) -> None:
    with served(lambda request: request.say(401, WWW_Authenticate=f'Bearer realm="{realm}"')) as at:
        logged_in(tmp_path, monkeypatch, auths={at: {"auth": SECRET}})
        with pytest.raises(ImageError, match="not known here"):
            Taken(at).registry.manifest("tag")


def test_who_is_asked_instead_gets_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def elsewhere(request: Asked) -> None:
        asked.append(request.headers.get("Authorization"))
        request.say(401, WWW_Authenticate=f'Bearer realm="http://{request.headers["Host"]}/t"')

    def answer(request: Asked) -> None:
        if request.headers.get("Authorization") != f"Basic {SECRET}":
            request.say(401, WWW_Authenticate='Basic realm="here"')
        else:
            request.say(307, Location=f"http://{far}/x")

    with served(elsewhere) as far, served(answer) as at:
        logged_in(tmp_path, monkeypatch, auths={at: {"auth": SECRET}})
        with pytest.raises(ImageError, match="lets nobody have"):
            Taken(at).registry.manifest("tag")
    assert asked == [None]


def test_images_of_docker_are_asked_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert address("docker.io", "library/python") == "https://registry-1.docker.io/v2/library/python"
    assert address("docker.io", "python") == "https://registry-1.docker.io/v2/library/python"
    assert address("registry.example", "python") == "https://registry.example/v2/python"
    assert address("[::1]:5000", "python") == "http://[::1]:5000/v2/python"
    logged_in(tmp_path, monkeypatch, auths={"https://index.docker.io/v1/": {"auth": SECRET}})
    assert credentials.basic("docker.io") == SECRET
    assert credentials.basic("registry.example") is None


HELPER = """#!/bin/sh
read -r server
[ "$1 $server" = "get {server}" ] || exit 1
echo '{{"ServerURL": "{server}", "Username": "{user}", "Secret": "secret"}}'
"""


def test_a_helper_is_asked_for_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for name, server, user in (("one", "a.b", "user"), ("all", "c.d", "user"), ("token", "e.f", "<token>")):
        program = tmp_path / f"docker-credential-{name}"
        program.write_text(HELPER.format(server=server, user=user))
        program.chmod(0o755)
    kept = {"g.h": {"auth": "a2VwdA=="}}
    logged_in(tmp_path, monkeypatch, credHelpers={"a.b": "one", "e.f": "token"}, credsStore="all", auths=kept)
    assert [credentials.basic(host) for host in ("a.b", "c.d", "e.f")] == [SECRET, SECRET, None]
    assert credentials.basic("g.h") == "a2VwdA==", "the helper has none"
    for wrong in ("missing", "../../bin/sh", 1):
        logged_in(tmp_path, monkeypatch, credsStore=wrong)
        assert credentials.basic("a.b") is None


def test_a_helper_that_hangs_is_not_awaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_HELPER_SECONDS", 0.2)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    program = tmp_path / "docker-credential-slow"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    logged_in(tmp_path, monkeypatch, credsStore="slow")
    assert credentials.basic("a.b") is None


def test_a_whole_image_comes_through_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambent.kernel.images.http._PAUSES", (0.0, 0.0, 0.0))
    asked: list[str] = []

    def answer(request: Asked) -> None:
        asked.append(request.path)
        if (count := asked.count(request.path)) < 3:
            FAULTS["short" if count == 1 else "reset"](request)
        else:
            image(request)

    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    work.mkdir()
    with served(answer) as at:
        pull.pull(reference.parse(f"{at}/a:tag"), root, work)
    assert (root / "x").read_bytes() == b"all of it"

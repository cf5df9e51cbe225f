"""Images for tests, made here: an OCI layout of layers given as files, and a real registry to push it to."""

import functools
import gzip
import hashlib
import io
import json
import platform
import re
import socket
import struct
import subprocess
import sysconfig
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support import debian_program, free_port, require

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
Entry = bytes | str | tarfile.TarInfo
"""Of a layer: a file's content; "-> TARGET", a symbolic link; "=> TARGET", a hard link; or any entry."""


def layer(files: Mapping[str, Entry], *, mode: int = 0o644, compressed: bool = True) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            entry = tarfile.TarInfo(name)
            entry.mode = mode
            if isinstance(content, str):
                entry.type = tarfile.SYMTYPE if content.startswith("-> ") else tarfile.LNKTYPE
                entry.linkname = content[3:]
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(data.getvalue(), 1) if compressed else data.getvalue()


class Made:
    """An image: its blobs by digest, and the digest of its manifest."""

    def __init__(self, layers: Sequence[bytes], **config: Any) -> None:
        self.blobs: dict[str, bytes] = {}
        described = [self._add(data, "application/vnd.oci.image.layer.v1.tar+gzip") for data in layers]
        document = {"architecture": ARCHITECTURE, "os": "linux", **config.pop("top", {}), "config": config}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._add(json.dumps(document).encode(), "application/vnd.oci.image.config.v1+json"),
            "layers": described,
        }
        self.manifest = self._add(json.dumps(manifest).encode(), MANIFEST)

    def _add(self, data: bytes, kind: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    def write(self, folder: Path, tag: str = "latest") -> Path:
        """As a layout."""
        blobs = folder / "blobs/sha256"
        blobs.mkdir(parents=True)
        for digest, data in self.blobs.items():
            (blobs / digest.removeprefix("sha256:")).write_bytes(data)
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        entry = {**self.manifest, "annotations": {"org.opencontainers.image.ref.name": tag}}
        (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        return folder

    def push(self, address: str, name: str, tag: str, *, authorization: str = "") -> None:
        manifest: str = self.manifest["digest"]
        headers = {"Authorization": authorization} if authorization else {}
        for digest, data in self.blobs.items():
            if digest != manifest:
                where = _ask("POST", f"http://{address}/v2/{name}/blobs/uploads/", b"", headers)["Location"]
                _ask("PUT", f"{where}{'&' if '?' in where else '?'}digest={digest}", data, headers)
        headers["Content-Type"] = MANIFEST
        _ask("PUT", f"http://{address}/v2/{name}/manifests/{tag}", self.blobs[manifest], headers)


def _ask(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Any:
    sent = {"Content-Type": "application/octet-stream", **headers}
    request = urllib.request.Request(url, body, sent, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers


@contextmanager
def registry(folder: Path, *, passwords: Path | None = None) -> Iterator[str]:
    """Debian's docker-registry; its address. `passwords`: a file of bcrypt hashes of those who may use it."""
    program = debian_program("docker-registry")
    require("docker-registry", program, "apt-get install docker-registry")
    port = free_port()
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
        + (f"auth: {{htpasswd: {{realm: here, path: {passwords}}}}}\n" if passwords else "")
    )
    with open(folder / "registry.log", "wb") as log:
        process = subprocess.Popen([str(program), "serve", str(config)], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5).close()
                break
            except urllib.error.HTTPError as refusal:
                refusal.close()
                break  # it wants a password
            except (urllib.error.URLError, OSError):
                assert process.poll() is None and time.monotonic() < until, (
                    folder / "registry.log"
                ).read_text()
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


class Asked(BaseHTTPRequestHandler):
    """A request to a registry that does as a test says, since no real one fails when it is told to."""

    def say(self, status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def served(answer: Callable[[Asked], None]) -> Iterator[str]:
    class Handler(Asked):
        def do_GET(self) -> None:
            answer(self)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # of connections that were reset
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


PYTHON = Path("/usr/bin/python3")
BOOTSTRAP = b"#!/bin/sh\nexec /usr/bin/python3 -S /var/runtime/start.py\n"
START = b"""
import os, sys
sys.path[0:1] = ["/var/task", "/opt/python", "/var/runtime"]
from awslambdaric.__main__ import main
main([sys.argv[0], os.environ["_HANDLER"]])
"""
CLIENT = ("awslambdaric", "snapshot_restore_py", "simplejson")
ENTRYPOINT = b"""#!/bin/sh
[ $# -eq 1 ] || { echo "one argument is wanted: the handler"; exit 142; }
export _HANDLER="$1"
exec /var/runtime/bootstrap
"""


def _needs(program: Path) -> set[Path]:
    """The libraries that a program or library is linked with."""
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
    return {Path(path) for path in re.findall(r"(/\S+) \(0x", said)}


@functools.cache
def _base() -> tuple[bytes, bytes]:
    """Two layers: a system of this machine's parts, and the runtime."""
    require("/usr/bin/python3", PYTHON.exists(), "the image is made of it: apt-get install python3")
    version = subprocess.run(
        [str(PYTHON), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True
    ).stdout.strip()
    own = sysconfig.get_python_version()
    require(f"/usr/bin/python{own}", version == own, "the image has the client for this Python")
    site = Path(sysconfig.get_path("purelib"))
    client = [path for name in CLIENT for path in (site / name).rglob("*") if path.is_file()]
    client += list(site.glob("runtime_client*.so"))
    standard = Path(f"/usr/lib/python{own}")
    parts = [path for path in standard.rglob("*") if path.is_file() and not path.is_symlink()]
    parts = [path for path in parts if not {"__pycache__", "test", "dist-packages"} & set(path.parts)]
    programs = [
        PYTHON.resolve(),
        Path("/bin/sh").resolve(),
        *(path for path in [*parts, *client] if path.suffix == ".so"),
    ]
    libraries = set().union(*(_needs(program) for program in programs))
    files: dict[str, Any] = {str(path).lstrip("/"): path.read_bytes() for path in [*parts, *libraries]}
    files["usr/bin/python3"] = PYTHON.resolve().read_bytes()
    files["bin/sh"] = Path("/bin/sh").resolve().read_bytes()
    files["etc/os-release"] = b"NAME=Made\n"
    runtime: dict[str, Any] = {f"var/runtime/{path.relative_to(site)}": path.read_bytes() for path in client}
    runtime |= {"var/runtime/bootstrap": BOOTSTRAP, "var/runtime/start.py": START}
    runtime["lambda-entrypoint.sh"] = ENTRYPOINT
    return layer(files, mode=0o755), layer(runtime, mode=0o755)


def as_aws_makes_them(task: Mapping[str, bytes], **config: Any) -> Made:
    """An image of three layers, the last one with `task` below /var/task, started as AWS's base images are."""
    code = layer({f"var/task/{name}": content for name, content in {".keep": b"", **task}.items()})
    own = {"Entrypoint": ["/lambda-entrypoint.sh"], "WorkingDir": "/var/task", "Env": ["PATH=/usr/bin:/bin"]}
    return Made([*_base(), code], **{**own, **config})

"""gRPC clients of other languages, made of the same .proto files and kept in `clients/`. What is made is kept
in .venv/clients, by what it is made of, so that only the first run has to wait for compilers and registries."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from support import TESTS, require

ROOT = TESTS.parent
PROTO = ROOT / "proto"
_KEPT = ROOT / ".venv/clients"
_SECONDS = 240


def go_client() -> list[str]:
    """The command of a client whose stubs protoc-gen-go and -go-grpc have made."""
    go = shutil.which("go")
    require("go", go, "no Go compiler on PATH: https://go.dev/dl or apt-get install golang-go")
    folder, new = _folder("go")
    if new:
        assert go is not None
        for name in (
            "google.golang.org/protobuf/cmd/protoc-gen-go",
            "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
        ):
            _run([go, "build", "-o", name.rsplit("/", 1)[1], name], folder)
        kinds = [f"--{kind}_{what}" for kind in ("go", "go-grpc") for what in ("out=.", "opt=module=lambent")]
        _run([sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", *kinds, *_protos()], folder)
        _run([go, "build", "-o", "client", "."], folder)
        _done(folder)
    return [str(folder / "client")]


def node_client() -> list[str]:
    """The command of a client that reads the .proto files themselves."""
    node, npm = shutil.which("node"), shutil.which("npm")
    require("node", node and npm, "no Node.js with npm on PATH: https://nodejs.org or apt-get install npm")
    assert node is not None and npm is not None
    folder, new = _folder("node")
    if new:
        _run([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], folder)
        _done(folder)
    return [node, str(folder / "client.js"), str(PROTO)]


def _protos() -> Sequence[str]:
    return sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("lambent/v1/*.proto"))


def _folder(language: str) -> tuple[Path, bool]:
    """A copy of the client's files, and whether it is still to be made."""
    sources = TESTS / "clients" / language
    digest = hashlib.sha256()
    for path in [*sorted(sources.iterdir()), *(PROTO / name for name in _protos())]:
        digest.update(path.name.encode() + path.read_bytes())
    folder = _KEPT / f"{language}-{digest.hexdigest()[:16]}"
    if (folder / "made").exists():
        return folder, False
    for old in _KEPT.glob(f"{language}-*"):  # one that a change has left, or half of one
        shutil.rmtree(old)
    shutil.copytree(sources, folder)
    return folder, True


def _done(folder: Path) -> None:
    (folder / "made").touch()


def _run(command: Sequence[str], folder: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "GOFLAGS": "-mod=readonly",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"

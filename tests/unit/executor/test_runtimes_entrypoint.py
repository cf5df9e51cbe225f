"""Which of a function's files starts it, and why one does not run, before an environment is made."""

import platform
import struct
from pathlib import Path

import pytest

from lambent.executor.runtimes import entrypoint
from lambent.executor.runtimes.family import RuntimeCommand

MACHINE = {"x86_64": 62, "aarch64": 183}.get(platform.machine(), 0)
OTHER = 183 if MACHINE == 62 else 62
COMMAND = RuntimeCommand(
    argv=(),
    prefixes=(),
    runtime_dir=Path("/runtime"),
    env={},
    version_text="provided:al2023",
    entrypoints=("/var/task/bootstrap", "/opt/bootstrap"),
)


def written(path: Path, content: bytes = b"#!/bin/sh\n", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path.parent


def elf(machine: int, loader: str | None = None) -> bytes:
    """The head of a 64-bit program."""
    head = bytearray(64)
    head[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<H", head, 18, machine)
    if loader is None:
        return bytes(head)
    text = loader.encode() + b"\0"
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 56, 1)
    entry = bytearray(56)
    struct.pack_into("<I", entry, 0, 3)
    struct.pack_into("<Q", entry, 8, 120)
    struct.pack_into("<Q", entry, 32, len(text))
    return bytes(head + entry) + text


def problem(task: Path, opt: Path | None = None) -> str:
    """Why nothing of these folders runs."""
    with pytest.raises(entrypoint.InvalidEntrypoint) as refused:
        entrypoint.resolve(COMMAND, task, opt)
    return str(refused.value)


def test_a_runtime_of_the_machine_is_left_alone(tmp_path: Path) -> None:
    command = RuntimeCommand(("/usr/bin/node",), (), tmp_path, {}, "nodejs:22.1.0")
    assert entrypoint.resolve(command, tmp_path, None) is command


def test_the_functions_own_comes_before_a_layers(tmp_path: Path) -> None:
    task, opt = written(tmp_path / "task/bootstrap"), written(tmp_path / "opt/bootstrap")
    found = entrypoint.resolve(COMMAND, task, opt)
    assert found.argv == ("/var/task/bootstrap",)
    (task / "bootstrap").unlink()
    assert entrypoint.resolve(COMMAND, task, opt).argv == ("/opt/bootstrap",)
    assert problem(task) == ("Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")


def test_one_that_does_not_run_is_not_passed_over(tmp_path: Path) -> None:
    task, opt = written(tmp_path / "task/bootstrap", mode=0o644), written(tmp_path / "opt/bootstrap")
    assert problem(task, opt) == "fork/exec /var/task/bootstrap: permission denied"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "exec format error"),
        (b"echo hello\n", "exec format error"),
        (b"\x7fELF", "exec format error"),
        (elf(OTHER), "exec format error"),
        (b"#!/usr/bin/no-such-shell\n", "no such file or directory"),
        (b"#! /srv/python/bin/python3 -u\n", "no such file or directory"),
        (b"#!/var/task/own\n", "no such file or directory"),
        (elf(MACHINE, "/lib/ld-musl-none.so.1"), "no such file or directory"),
    ],
)
def test_what_the_kernel_would_refuse(tmp_path: Path, content: bytes, text: str) -> None:
    task = written(tmp_path / "bootstrap", content)
    said = problem(task)
    assert said == f"fork/exec /var/task/bootstrap: {text}"


@pytest.mark.parametrize(
    "content",
    [
        b"#!/bin/sh\n",
        b"#! /usr/bin/env python3\n",
        b"#!/var/task/bootstrap\n",
        elf(MACHINE),
        elf(MACHINE, "/bin/sh"),
        elf(MACHINE)[:32]
        + struct.pack("<Q", 1 << 40)
        + elf(MACHINE)[40:54]
        + struct.pack("<HH", 56, 9)
        + b"\0" * 6,
    ],
    ids=["script", "by env", "an interpreter of its own", "static", "dynamic", "its table lies elsewhere"],
)
def test_what_runs(tmp_path: Path, content: bytes) -> None:
    task = written(tmp_path / "bootstrap", content)
    assert entrypoint.resolve(COMMAND, task, None).argv == ("/var/task/bootstrap",)


def test_a_folder_or_a_link_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "folder/bootstrap").mkdir(parents=True)
    assert "permission denied" in problem(tmp_path / "folder")
    (tmp_path / "link").mkdir()
    (tmp_path / "link/bootstrap").symlink_to("/var/task/real")  # means something inside only
    assert entrypoint.resolve(COMMAND, tmp_path / "link", None).argv == ("/var/task/bootstrap",)


def test_a_wrapper_runs_the_runtime_but_never_a_bootstrap(tmp_path: Path) -> None:
    command = RuntimeCommand(("/usr/bin/node", "start"), (), tmp_path, {}, "nodejs:22.1.0")
    wrapped = entrypoint.resolve(command, tmp_path, None, wrapper="/opt/wrap")
    assert wrapped.argv[:2] == ("/bin/sh", "-c")
    assert wrapped.argv[3:] == ("/opt/wrap", "/usr/bin/node", "start")
    task = written(tmp_path / "task/bootstrap")
    own = entrypoint.resolve(COMMAND, task, None, wrapper="/opt/wrap")
    assert own.argv == ("/var/task/bootstrap",)

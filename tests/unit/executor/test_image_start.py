"""How a function that is an image is started, or in AWS's words why it cannot be."""

import platform
from collections.abc import Sequence
from pathlib import Path

import pytest

from lambent.executor import image_start
from lambent.executor.image_cache import ImageCache, Unpacked
from lambent.executor.runtimes.entrypoint import NotStartable
from lambent.kernel.images.pull import Image
from lambent.kernel.models import ImageUse

ENTRY, FOLDER = "Runtime.InvalidEntrypoint", "Runtime.InvalidWorkingDir"
ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00%b" + bytes(44)
MACHINE = {"x86_64": b"\x3e\x00", "aarch64": b"\xb7\x00"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for folder in ("usr/bin", "opt/own", "var/task", "mnt", "proc"):
        (root / folder).mkdir(parents=True)
    own = MACHINE[platform.machine()]
    other = next(each for each in MACHINE.values() if each != own)
    for name, content, mode in (
        ("usr/bin/sh", ELF % own, 0o755),
        ("usr/bin/other", ELF % other, 0o755),
        ("usr/bin/plain", ELF % own, 0o644),
        ("opt/own/plain", ELF % own, 0o755),
        ("usr/bin/text", b"text", 0o755),
        ("usr/bin/script", b"#!/bin/sh -e\n", 0o755),
        ("usr/bin/lost", b"#!/bin/none\n", 0o755),
        ("var/task/run", b"#!/bin/sh\n", 0o755),
    ):
        (root / name).write_bytes(content)
        (root / name).chmod(mode)
    (root / "bin").symlink_to("/usr/bin")
    (root / "loop").symlink_to("loop")
    (root / "work").symlink_to("/var/task")
    (root / "out").symlink_to(tmp_path)
    (tmp_path / "outside").write_bytes(ELF % own)
    (tmp_path / "outside").chmod(0o755)
    return root


def started(root: Path, image: Image, use: ImageUse | None = None) -> tuple[Sequence[str], str]:
    unpacked = Unpacked(root, image, ImageCache(root.parent / "cache"))
    return image_start.started(use or ImageUse("x.y/z", image.digest), unpacked)


def of(*words: str, folder: str = "/", path: str = "/opt/none:/usr/bin:/opt/own") -> Image:
    return Image("sha256:0", words, (), {"PATH": path} if path else {}, folder)


@pytest.mark.parametrize(
    ("image", "argv", "folder"),
    [
        (of("/bin/sh", "-c"), ["/bin/sh", "-c"], "/"),
        (of("sh", path=""), ["/usr/bin/sh"], "/"),
        (of("script"), ["/usr/bin/script"], "/"),
        (of("plain"), ["/opt/own/plain"], "/"),
        (of("./run", folder="/work"), ["/work/./run"], "/work"),
        (of("sh", folder="/mnt/shared"), ["/usr/bin/sh"], "/mnt/shared"),
        (of("sh", folder="/proc/self"), ["/usr/bin/sh"], "/proc/self"),
    ],
)
def test_what_starts_it_is_found_in_it(root: Path, image: Image, argv: list[str], folder: str) -> None:
    assert started(root, image) == (argv, folder)


def test_the_functions_own_words_come_first(root: Path) -> None:
    image = Image("sha256:0", ["/none"], ["a"], {}, "/none")
    use = ImageUse("x.y/z", "sha256:0", ("sh",), ("b", "c"), "/work")
    assert started(root, image, use) == (["/usr/bin/sh", "b", "c"], "/work")


@pytest.mark.parametrize(
    ("image", "kind", "why"),
    [
        (of(), ENTRY, "Couldn't find valid bootstrap(s): []"),
        (of(""), ENTRY, "Couldn't find valid bootstrap(s): []"),
        (of("nowhere"), ENTRY, "Couldn't find valid bootstrap(s): [nowhere]"),
        (of("/loop/x"), ENTRY, "Couldn't find valid bootstrap(s): [/loop/x]"),
        (of("/out/outside"), ENTRY, "Couldn't find valid bootstrap(s): [/out/outside]"),
        (of("x" * 5000), ENTRY, f"Couldn't find valid bootstrap(s): [{'x' * 5000}]"),
        (of("a\0b"), ENTRY, "Couldn't find valid bootstrap(s): [a\0b]"),
        (of("/usr/bin/plain"), ENTRY, "fork/exec /usr/bin/plain: permission denied"),
        (of("/usr"), ENTRY, "fork/exec /usr: permission denied"),
        (of("other"), ENTRY, "fork/exec /usr/bin/other: exec format error"),
        (of("text"), ENTRY, "fork/exec /usr/bin/text: exec format error"),
        (of("lost"), ENTRY, "fork/exec /usr/bin/lost: no such file or directory"),
        (of("sh", folder="/none"), FOLDER, "the working directory doesn't exist: /none"),
        (of("sh", folder="/loop"), FOLDER, "the working directory doesn't exist: /loop"),
        (of("sh", folder="/bin/sh"), FOLDER, "the working directory doesn't exist: /bin/sh"),
        (of("sh", folder="w"), FOLDER, "the working directory 'w' is invalid, it needs to be an absolute path"),
    ],
)
def test_what_cannot_start_is_told_in_awss_words(root: Path, image: Image, kind: str, why: str) -> None:
    with pytest.raises(NotStartable) as refused:
        started(root, image)
    assert (refused.value.kind, str(refused.value)) == (kind, why)
    assert refused.value.line == (
        f"IMAGE\tLaunch error: {why}\tEntrypoint: [{','.join(image.entrypoint)}]\tCmd: []"
        f"\tWorkingDir: [{image.working_directory}]"
    )

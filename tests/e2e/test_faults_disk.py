"""A full disk: what cannot be stored is refused in words, what was accepted stays, and room brings everything
back without a restart."""

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from running import ROLE, RUNTIME, Functions, Server, zipped
from traces import until

Start = Callable[..., Server]
HELLO = "def handler(event, context):\n    return event\n"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small filesystem, which root alone may")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A sparse filesystem of 4 GB, for environments want 1.5 GB of free space before they start; on a loop
    device, for fsync means nothing on a tmpfs."""
    image, disk = tmp_path / "disk.ext4", tmp_path / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(4 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Takes the last byte of it; the file that does."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size, end = 1 << 30, 0
        while size >= 4096:
            try:
                os.posix_fallocate(file.fileno(), end, size)  # takes the blocks and writes none
                end += size
            except OSError as failure:
                assert failure.errno == errno.ENOSPC
                size //= 2
    return ballast


def refusal(functions: Functions, operation: str, **members: object) -> ClientError | None:
    """The error of a call, which must not take long; None if it succeeded."""
    began = time.monotonic()
    with closing(functions.server.client()) as aws:
        try:
            answer = getattr(aws, operation)(**members)
            if "Payload" in answer:
                answer["Payload"].read()
        except ClientError as failure:
            assert failure.response["ResponseMetadata"]["HTTPStatusCode"] >= 500, failure
            assert failure.response["Error"]["Message"]
            return failure
        finally:
            assert time.monotonic() - began < 10
    return None


def test_a_full_disk_refuses_what_it_cannot_keep_and_recovers_when_there_is_room(
    own_server: Start, small_disk: Path
) -> None:
    server = own_server("--no-s3", data_dir=small_disk / "data")
    functions = Functions(server)
    assert "uid separation" not in server.output()
    name = functions.create(HELLO)
    assert functions.invoke(name, 1).result == 1
    big = zipped({"app.py": HELLO, "noise": os.urandom(2 << 20)})
    create = {"Runtime": RUNTIME, "Handler": "app.handler", "Role": ROLE, "Code": {"ZipFile": big}}
    event = {"FunctionName": name, "InvocationType": "Event", "Payload": b'"%s"' % (b"x" * 65_536)}

    ballast = fill(small_disk)
    failed = refusal(functions, "create_function", FunctionName="late", **create)
    assert failed is not None
    # Redis may still have some room of its own: it is full soon.
    accepted = 0
    while refusal(functions, "invoke", **event) is None:
        accepted += 1
        assert accepted < 500, "events are accepted for ever on a full disk"
    # What is warm goes on; what is there can be read.
    assert functions.invoke(name, 2).result == 2

    ballast.unlink()
    until(lambda: refusal(functions, "invoke", **event) is None, 20, "events are accepted again")
    until(
        lambda: refusal(functions, "create_function", FunctionName="late", **create) is None, 20, "creates too"
    )
    functions.active("late")
    assert functions.invoke("late", 3).result == 3
    assert functions.invoke(name, 4).result == 4
    assert health_is_back(server)
    assert "Traceback" not in server.output()
    server.kill()
    server.start()
    assert functions.invoke("late", 5).result == 5
    assert server.stop() == 0


def health_is_back(server: Server) -> bool:
    from urllib.request import urlopen

    with urlopen(f"{server.url}/healthz", timeout=10) as answer:
        return bool(answer.status == 200)

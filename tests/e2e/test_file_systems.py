"""FileSystemConfigs: folders of the host that functions share, under /mnt."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from running import Functions, Server

POINT = "fsap-0123456789abcdef0"
READ_ONLY = "fsap-0123456789abcdef1"
MISSING = "fsap-0123456789abcdef2"
ARN = "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/{}"
CODE = """
import os, stat

def handler(event, context):
    path = event["path"]
    try:
        if event["do"] == "write":
            with open(path, "a") as file:
                file.write(event["text"])
            return "written"
        if event["do"] == "read":
            with open(path) as file:
                return file.read()
        if event["do"] == "owner":
            found = os.stat(path)
            return [found.st_uid, found.st_gid, os.getuid(), os.getgid()]
        if event["do"] == "mounts":
            return [line.split()[:2] + line.split()[3:4] for line in open("/proc/mounts") if " /mnt" in line]
        if event["do"] == "mkdir":
            os.mkdir(path)
            return "made"
    except OSError as failure:
        return failure.strerror
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shared")
    (made / "models").mkdir()
    (made / "models" / "one.txt").write_text("from the host")
    (made / "models" / "one.txt").chmod(0o600)
    return made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Functions]:
    named = f"{POINT}={folder}, {READ_ONLY}={folder}:ro, {MISSING}={folder}/none"
    server = Server(
        tmp_path_factory.mktemp("lambent") / "data", "--no-s3", environment={"LAMBENT_FILE_SYSTEMS": named}
    ).start()
    yield Functions(server)
    assert server.stop() == 0, server.output()


def _with(functions: Functions, point: str = POINT, path: str = "/mnt/data", **members: Any) -> str:
    config = [{"Arn": ARN.format(point), "LocalMountPath": path}]
    return functions.create(CODE, FileSystemConfigs=config, **members)


@pytest.fixture
def do(shared: Functions) -> Callable[..., Any]:
    def ask(name: str, what: str, path: str = "/mnt/data/file", text: str = "") -> Any:
        answer = shared.invoke(name, {"do": what, "path": path, "text": text})
        assert answer.error is None, answer.result
        return answer.result

    return ask


def test_functions_share_a_folder(shared: Functions, folder: Path, do: Callable[..., Any]) -> None:
    writer, reader = _with(shared), _with(shared, path="/mnt/other.name-1")
    assert do(writer, "read", "/mnt/data/models/one.txt") == "from the host"
    assert do(writer, "write", text="a") == "written"
    assert do(reader, "read", "/mnt/other.name-1/file") == "a"
    assert do(reader, "write", "/mnt/other.name-1/file", text="b") == "written"
    assert (folder / "file").read_text() == "ab"
    found, owner = (folder / "file").stat(), folder.stat()
    assert (found.st_uid, found.st_gid) == (owner.st_uid, owner.st_gid), (
        "what is written is the folder's owner's"
    )
    uid, gid, own_uid, own_gid = do(writer, "owner")
    assert (uid, gid) == (own_uid, own_gid), "and the function's, inside"
    configuration = shared.aws.get_function_configuration(FunctionName=writer)
    assert configuration["FileSystemConfigs"] == [{"Arn": ARN.format(POINT), "LocalMountPath": "/mnt/data"}]


def test_a_read_only_one_takes_nothing(shared: Functions, do: Callable[..., Any]) -> None:
    name = _with(shared, READ_ONLY)
    assert do(name, "read", "/mnt/data/models/one.txt") == "from the host"
    assert do(name, "write", text="x") == "Read-only file system"


def test_what_is_mounted_lends_no_power(shared: Functions, folder: Path, do: Callable[..., Any]) -> None:
    name = _with(shared)
    assert do(name, "mkdir", "/mnt/more") == "Read-only file system"
    for device, place, options in do(name, "mounts"):
        assert {"nosuid", "nodev"} <= set(options.split(",")), (device, place, options)
    assert do(name, "write", "/mnt/data/mode", text="x") == "written"
    assert stat.S_IMODE((folder / "mode").stat().st_mode) == 0o644


def test_a_change_takes_it_away_and_brings_it_back(shared: Functions, do: Callable[..., Any]) -> None:
    name = _with(shared)
    assert do(name, "read", "/mnt/data/models/one.txt") == "from the host"
    shared.aws.update_function_configuration(FunctionName=name, FileSystemConfigs=[])
    shared.active(name)
    assert do(name, "read", "/mnt/data/models/one.txt") == "No such file or directory"
    assert "FileSystemConfigs" not in shared.aws.get_function_configuration(FunctionName=name)


def test_one_that_is_not_named_is_refused(shared: Functions) -> None:
    with pytest.raises(ClientError, match="stands for no folder here. Name one in LAMBENT_FILE_SYSTEMS"):
        _with(shared, "fsap-0123456789abcdeff")


def test_one_whose_folder_is_gone_says_so(shared: Functions) -> None:
    name = _with(shared, MISSING)
    with pytest.raises(ClientError, match="is no folder on this executor"):
        shared.invoke(name, {})

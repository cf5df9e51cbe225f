"""Functions that are container images, from a real registry and from a layout, without Docker."""

import shutil
import socket
import tarfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from commands import Command
from images import Made, as_aws_makes_them, registry
from isolation_powers import ATTEMPTS, CALLS, NOT_THERE, OTHERS, SOCKETS
from isolation_world import CODE as CODE_OF_ATTEMPTS
from isolation_world import need_root, on_host
from running import ROLE, Functions, Server

pytestmark = pytest.mark.timeout(240)
CODE = """
import os, sys
def handler(event, context):
    return {"event": event, "said": %r, "cwd": os.getcwd(), "handler": os.environ["_HANDLER"],
            "variables": [os.environ.get(name) for name in ("OWN", "LAMBDA_TASK_ROOT", "AWS_EXECUTION_ENV")],
            "ids": [os.getuid(), os.getgid()], "file": __file__, "top": sorted(os.listdir("/"))}
def other(event, context):
    return "other"
"""


def image(said: str, **config: Any) -> Made:
    return as_aws_makes_them({"app.py": (CODE % said).encode()}, Cmd=["app.handler"], **config)


class World:
    def __init__(self, functions: Functions, address: str, layouts: Path) -> None:
        self.functions = functions
        self.address = address
        self.layouts = layouts

    def create(self, uri: str, **members: Any) -> str:
        name = f"image-{uuid.uuid4().hex[:12]}"
        given = {"PackageType": "Image", "Code": {"ImageUri": uri}, "Role": ROLE, "Timeout": 10, **members}
        self.functions.aws.create_function(FunctionName=name, **given)
        self.functions.active(name)
        return name


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("image-functions")
    layouts = folder / "layouts"
    layouts.mkdir()
    with registry(folder) as address:
        settings = {"LAMBENT_IMAGE_REGISTRIES": address, "LAMBENT_IMAGE_LAYOUTS": str(layouts)}
        server = Server(folder / "data", "--no-s3", environment=settings).start()
        yield World(Functions(server), address, layouts)
        assert server.stop() == 0, server.output()


def test_a_function_is_an_image(world: World) -> None:
    made = image("one")
    made.push(world.address, "team/one", "v1")
    uri = f"{world.address}/team/one:v1"
    name = world.create(uri, Environment={"Variables": {"OWN": "mine"}})
    aws = world.functions.aws
    told = aws.get_function(FunctionName=name)
    configuration, digest = told["Configuration"], made.manifest["digest"]
    assert configuration["PackageType"] == "Image" and configuration["CodeSize"] == 0
    assert configuration["CodeSha256"] == digest.removeprefix("sha256:")
    assert not {"Runtime", "Handler", "Layers", "RuntimeVersionConfig"} & configuration.keys()
    assert told["Code"] == {
        "RepositoryType": "ECR",
        "ImageUri": uri,
        "ResolvedImageUri": f"{world.address}/team/one@{digest}",
    }
    for number in (1, 2):
        answer = world.functions.invoke(name, {"n": number})
        assert answer.error is None, f"{answer.payload!r}\n{answer.log}"
        found = answer.result
    assert found.pop("event") == {"n": 2}
    assert "srv" not in found.pop("top"), "nothing of this machine is there"
    assert found == {
        "said": "one",
        "cwd": "/var/task",
        "handler": "app.handler",
        "variables": ["mine", "/var/task", None],
        "ids": [993, 990],
        "file": "/var/task/app.py",
    }
    listed = [row for page in aws.get_paginator("list_functions").paginate() for row in page["Functions"]]
    assert next(row for row in listed if row["FunctionName"] == name)["PackageType"] == "Image"
    version = aws.publish_version(FunctionName=name)["Version"]
    assert world.functions.invoke(name, Qualifier=version).result["said"] == "one"


def test_a_tag_that_moves_changes_nothing_until_the_code_is_updated(world: World) -> None:
    uri = f"{world.address}/team/two:latest"
    image("old").push(world.address, "team/two", "latest")
    name = world.create(uri)
    image("new").push(world.address, "team/two", "latest")
    assert world.functions.invoke(name).result["said"] == "old"
    aws = world.functions.aws
    aws.update_function_code(FunctionName=name, ImageUri=uri)
    world.functions.active(name)
    assert world.functions.invoke(name).result["said"] == "new"
    with pytest.raises(ClientError, match="Please provide ImageUri when updating a function"):
        aws.update_function_code(FunctionName=name, ZipFile=b"x")


def test_its_configuration_replaces_the_images(world: World) -> None:
    image("three").write(world.layouts / "three", "tag")
    name = world.create(
        f"oci-layout:{world.layouts}/three:tag",
        ImageConfig={"Command": ["app.other"], "WorkingDirectory": "/tmp"},
    )
    assert world.functions.invoke(name).result == "other"
    aws = world.functions.aws
    shown = aws.get_function_configuration(FunctionName=name)["ImageConfigResponse"]
    assert shown == {"ImageConfig": {"Command": ["app.other"], "WorkingDirectory": "/tmp"}}
    entry = ["/bin/sh", "-c", "cd / && _HANDLER=app.handler exec /var/runtime/bootstrap"]
    aws.update_function_configuration(FunctionName=name, ImageConfig={"EntryPoint": entry})
    world.functions.active(name)
    found = world.functions.invoke(name).result
    assert (found["cwd"], found["said"]) == ("/", "three")
    aws.update_function_configuration(FunctionName=name, ImageConfig={})
    world.functions.active(name)
    assert world.functions.invoke(name).result["cwd"] == "/var/task"
    assert "ImageConfigResponse" not in aws.get_function_configuration(FunctionName=name)


def test_a_layout_in_an_archive_is_a_function(world: World) -> None:
    layout = image("archived").write(world.layouts / "archived", "tag")
    with tarfile.open(world.layouts / "archived.tar", "w") as archive:
        archive.add(layout, ".")
    shutil.rmtree(layout)
    name = world.create(f"oci-layout:{world.layouts}/archived.tar:tag")
    assert world.functions.invoke(name).result["said"] == "archived"


def test_what_cannot_be_an_image_is_refused(world: World) -> None:
    good = f"{world.address}/team/refused:v1"
    image("x").push(world.address, "team/refused", "v1")
    (world.layouts / "loop").symlink_to("loop")
    package = "intended function PackageType is"
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"Code": {"ImageUri": f"{world.address}/team/none:v1"}}, "is not valid. Provide a valid source image"),
        ({"Code": {"ImageUri": "other.example/x:v1"}}, "LAMBENT_IMAGE_REGISTRIES"),
        ({"Code": {"ImageUri": "oci-layout:/etc"}}, "LAMBENT_IMAGE_LAYOUTS"),
        ({"Code": {"ImageUri": f"oci-layout:{world.layouts}/loop"}}, "LAMBENT_IMAGE_LAYOUTS"),
        ({"Code": {"ImageUri": f"oci-layout:{world.layouts}/{'x' * 300}"}}, "cannot be read"),
        ({"Code": {"ImageUri": f"oci-layout:{world.layouts}/../../etc"}}, "LAMBENT_IMAGE_LAYOUTS"),
        ({"Code": {"ImageUri": "python"}}, "names no registry"),
        ({"Handler": "x.y"}, f"{package} Image"),
        ({"PackageType": "Zip"}, f"{package} Zip"),
        ({"Code": {"ZipFile": b"x"}}, "Please provide ImageUri"),
        ({"SnapStart": {"ApplyOn": "PublishedVersions"}}, "SnapStart does not support"),
    )
    for members, why in refused:
        with pytest.raises(ClientError, match=why) as failure:
            world.create(good, **members)
        assert failure.value.response["Error"]["Code"] == "InvalidParameterValueException"
    name = world.create(good)
    for members, why in (
        ({"Handler": "x.y"}, f"{package} Image"),
        ({"Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:x:1"]}, package),
    ):
        with pytest.raises(ClientError, match=why):
            world.functions.aws.update_function_configuration(FunctionName=name, **members)


def test_a_registry_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(12) as callers:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        server = Server(tmp_path / "data", "--no-s3", environment={"LAMBENT_IMAGE_REGISTRIES": address}).start()
        functions = Functions(server)

        def create(number: int) -> str:
            code = {"ImageUri": f"{address}/x:v1"}
            with pytest.raises(ClientError) as failure:
                functions.aws.create_function(
                    FunctionName=f"hangs-{number}", PackageType="Image", Code=code, Role=ROLE
                )
            return str(failure.value)

        creating = [callers.submit(create, number) for number in range(12)]
        connected = [silent.accept()[0] for _ in range(8)]
        for _ in range(20):
            functions.aws.list_functions()
        assert not any(each.done() for each in creating)
        for one in (*connected, silent):
            one.close()
        for each in creating:
            assert "Source image" in each.result() and "InvalidParameterValueException" in each.result()
        assert server.stop() == 0, server.output()


def test_no_system_call_gives_it_power(world: World) -> None:
    """The attempts of `test_isolation_syscalls`, with the image's own Python."""
    need_root()
    here = on_host(ATTEMPTS)
    made = as_aws_makes_them(CODE_OF_ATTEMPTS, Cmd=["app.handler"])
    made.write(world.layouts / "attempts", "tag")
    name = world.create(f"oci-layout:{world.layouts}/attempts:tag", MemorySize=512, Timeout=110)
    answer = world.functions.invoke(name, {**ATTEMPTS, "facts": {"do": "facts"}})
    assert answer.error is None, f"{answer.payload!r}\n{answer.log}"
    there: dict[str, Any] = answer.result
    assert there.pop("facts")[1]["ids"] == [993] * 3 + [990] * 3
    # What this machine has not, or not even root may do, shows nothing.
    shown = [name for name in {**CALLS, **SOCKETS} if here[name][1] not in (*NOT_THERE, "EPERM", "EACCES")]
    shown += [name for name in OTHERS if here[name][0] == "done"]
    assert len(shown) > len(ATTEMPTS) * 0.7, here
    assert {name: there[name] for name in shown if there[name][0] != "refused"} == {}


@pytest.mark.parametrize(
    ("config", "kind", "why"),
    [
        (
            {"EntryPoint": ["nowhere"]},
            "Runtime.InvalidEntrypoint",
            "Couldn't find valid bootstrap(s): [nowhere]",
        ),
        (
            {"EntryPoint": ["/etc/os-release", "x"], "Command": ["y", "z"]},
            "Runtime.InvalidEntrypoint",
            "fork/exec /etc/os-release: exec format error",
        ),
        (
            {"WorkingDirectory": "/nowhere"},
            "Runtime.InvalidWorkingDir",
            "the working directory doesn't exist: /nowhere",
        ),
    ],
)
def test_what_is_started_wrongly_is_told_to_who_invokes_it(
    world: World, config: dict[str, Any], kind: str, why: str
) -> None:
    image("x").push(world.address, "team/wrong", "v1")
    name = world.create(f"{world.address}/team/wrong:v1", ImageConfig=config)
    for _ in range(2):
        answer = world.functions.invoke(name)
        assert answer.error == "Unhandled"
        told = f"RequestId: {answer.request_id} Error: {why}"
        assert answer.result == {"errorType": kind, "errorMessage": told}
        assert f"IMAGE\tLaunch error: {why}\tEntrypoint: [" in answer.log
        report = next(line for line in answer.log.splitlines() if line.startswith("INIT_REPORT"))
        assert report.endswith(f"Phase: invoke\tStatus: error\tError Type: {kind}"), report
        assert f"{told}\n{kind}\n" in answer.log
    world.functions.aws.update_function_configuration(FunctionName=name, ImageConfig={})
    world.functions.active(name)
    assert world.functions.invoke(name).result["said"] == "x"


def test_an_image_of_which_a_part_is_gone_fails_the_function(world: World) -> None:
    layout = image("gone").write(world.layouts / "gone", "tag")
    max((layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size).unlink()
    name = f"image-{uuid.uuid4().hex[:12]}"
    aws = world.functions.aws
    uri = f"oci-layout:{layout}:tag"
    aws.create_function(FunctionName=name, PackageType="Image", Code={"ImageUri": uri}, Role=ROLE)
    with pytest.raises(Exception, match="Failed"):
        aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    told = aws.get_function_configuration(FunctionName=name)
    assert (told["State"], told["StateReasonCode"]) == ("Failed", "ImageDeleted")
    assert "cannot be read (No such file or directory)" in told["StateReason"]


def test_an_image_is_deployed_by_the_command(world: World, tmp_path: Path) -> None:
    lambent = Command(tmp_path, LAMBENT_ENDPOINT=world.functions.server.url)
    image("of the command").push(world.address, "team/deployed", "v1")
    uri = f"{world.address}/team/deployed:v1"
    said = lambent("deploy", "--image", uri, "--memory", "256", "--alias", "live")
    assert "Created deployed" in said.out and "@sha256:" in "".join(said.out.split())
    assert world.functions.invoke("deployed", Qualifier="live").result["said"] == "of the command"
    said = lambent("deploy", "--image", uri, "--command", "app.other")
    assert "Updated deployed" in said.out
    assert world.functions.invoke("deployed").result == "other"
    kept = world.functions.aws.get_function_configuration(FunctionName="deployed")
    assert kept["MemorySize"] == 256, "what is not asked for stays"
    assert world.functions.invoke("deployed", Qualifier="live").result["said"] == "of the command"
    refused = {
        ("--image", f"{world.address}/team/deployed:v9"): "has no manifests/v9",
        ("--image", "elsewhere.example/x:1"): "LAMBENT_IMAGE_REGISTRIES",
        ("--image", "nonsense"): "names no registry",
        ("--image", uri, "--handler", "a.b"): "--handler",
        ("--image", uri, str(tmp_path)): "one of the two",
        (): "one of the two",
        (str(tmp_path), "--command", "x"): "--command is an image's",
    }
    for arguments, why in refused.items():
        said = lambent("deploy", *arguments, code=1)
        assert "".join(why.split()) in "".join(said.err.split()), (arguments, said.err)

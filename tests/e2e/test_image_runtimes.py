"""A runtime in an image, as AWS's base images are built: a root file system of its own with an interpreter,
AWS's unmodified client and /var/runtime/bootstrap. AWS's own images cannot be had here; this one is made of
this machine's Python, and comes from a real registry."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Command
from images import Made, as_aws_makes_them, layer, registry
from installed_runtimes import server_with
from running import Functions, zipped

pytestmark = pytest.mark.timeout(240)
CODE = """
    import os, sys
    print("printed")

    def text(path):
        with open(path) as file:
            return file.read()

    def refused(attempt):
        try:
            attempt()
        except OSError as failure:
            return failure.strerror

    def handler(event, context):
        with open("/tmp/own", "w") as file:
            file.write("mine")
        return {
            "event": event,
            "os": text("/etc/os-release"),
            "top": sorted(os.listdir("/")),
            "ids": [os.getuid(), os.getgid()],
            "hosts": "sandbox" in text("/etc/hosts"),
            "variable": os.environ.get("OF_THE_IMAGE"),
            "execution": os.environ["AWS_EXECUTION_ENV"],
            "write": refused(lambda: open("/usr/new", "w")),
            "write dev": refused(lambda: open("/dev/new", "w")),
            "mount": refused(lambda: os.chroot("/tmp")),
            "proc": sorted(name for name in os.listdir("/proc") if name.isdigit()),
            "random": len(os.urandom(4)),
            "power": [line.split()[1] for line in text("/proc/self/status").splitlines() if "CapEff" in line],
            "layer": text("/opt/said") if os.path.exists("/opt/said") else None,
        }
"""


@pytest.fixture(scope="module")
def image() -> Made:
    return as_aws_makes_them({}, Env=["PATH=/usr/bin:/bin", "OF_THE_IMAGE=yes"])


RUNTIME = "python3.13"


@pytest.fixture(scope="module")
def functions(image: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Functions]:
    folder = tmp_path_factory.mktemp("images")
    lambent = Command(folder)
    data = folder / "installed"
    with registry(folder) as address:
        image.push(address, "lambda/python", "one")
        done = lambent(
            *("runtimes", "install", RUNTIME, "--image", f"{address}/lambda/python:one"),
            *("--data-dir", str(data)),
        )
        assert f"{RUNTIME} is ready in {data}" in " ".join(done.out.split()), done.out
    listed = lambent("runtimes", "--data-dir", str(data)).out
    assert re.search(rf"{RUNTIME}.*yes", listed), listed
    with server_with(folder / "data", data) as server:
        yield Functions(server)


def test_a_function_runs_in_the_image_with_the_unmodified_client(functions: Functions) -> None:
    content = {"said": "from a layer"}
    given = functions.aws.publish_layer_version(LayerName="said", Content={"ZipFile": zipped(content)})
    name = functions.create(CODE, Runtime=RUNTIME, Layers=[given["LayerVersionArn"]], Timeout=10)
    for number in (1, 2):
        answer = functions.invoke(name, {"n": number})
        assert answer.error is None, f"{answer.payload!r}\n{answer.log}"
        found = answer.result
        assert found.pop("event") == {"n": number}
    functions.logged(name, until="printed")
    assert found["os"] == "NAME=Made\n" and "home" not in found["top"] and "srv" not in found["top"]
    assert found["ids"] == [993, 990] and found["power"] == ["0" * 16]
    assert (found["hosts"], found["variable"], found["random"]) == (True, "yes", 4)
    assert found["execution"] == f"AWS_Lambda_{RUNTIME}"
    assert found["write"] == found["write dev"] == "Read-only file system"
    assert found["mount"] == "Operation not permitted"
    assert found["proc"] == ["1", "2"] and found["layer"] == "from a layer"
    lines = functions.logged(name, until="INIT_START Runtime Version: image:")
    assert len([line for line in lines if line.startswith("INIT_START")]) == 1


def test_what_ends_a_function_ends_it_there_too(functions: Functions) -> None:
    code = "import time\ndef handler(event, context):\n    x = [b'x' * (1 << 20) for _ in range(event or 0)]\n"
    name = functions.create(code, Runtime=RUNTIME)
    assert functions.invoke(name, 10).error is None
    assert functions.invoke(name, 1000).result["errorType"] == "Runtime.OutOfMemory"
    slow = functions.create("import time\ndef handler(e, c): time.sleep(30)\n", Runtime=RUNTIME, Timeout=1)
    assert functions.invoke(slow).result["errorType"] == "Sandbox.Timedout"


def test_an_image_that_cannot_be_had_says_why(tmp_path: Path) -> None:
    lambent = Command(tmp_path)
    nothing = Made([layer({"etc/x": b""})]).write(tmp_path / "nothing")
    for reference, why in (
        ("python:3.13", "names no registry"),
        (f"oci-layout:{tmp_path}/none", "is no OCI image layout"),
        (f"oci-layout:{nothing}", "nothing can be started in it"),
        ("127.0.0.1:1/x", "does not answer"),
    ):
        done = lambent(
            "runtimes", "install", RUNTIME, "--image", reference, "--data-dir", str(tmp_path / "data"), code=1
        )
        assert why in " ".join(done.err.split()), done.err
    left = [path.name for path in (tmp_path / "data/runtimes").iterdir()]
    assert [name for name in left if name.startswith((".new", RUNTIME))] == []

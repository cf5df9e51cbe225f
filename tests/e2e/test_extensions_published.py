"""An extension as it is published: AWS's Lambda Web Adapter, which serves a web application as a function."""

import os
import shutil
import uuid

import pytest
from installed_runtimes import compiled
from running import Functions, zipped
from running import request as asked
from support import TESTS, require

_VERSION = "1.0.0-rc1"
_QUICKLY = ("--debug", "--config", "profile.dev.debug=0")


@pytest.mark.timeout(600)
def test_aws_web_adapter_serves_a_web_application(functions: Functions, request: pytest.FixtureRequest) -> None:
    if os.environ.get("LAMBENT_TEST_BUILD") != "1":
        pytest.skip("compiling it takes a minute or two: `make runtimes-test` does")
    found = shutil.which("cargo")
    require("cargo", found, "no Rust compiler on PATH: https://rustup.rs or apt-get install cargo")
    assert request.config.cache is not None
    source = TESTS / "functions/web-app"
    adapter = compiled(
        request.config.cache.mkdir("runtimes"),
        source,
        [str(found), "install", f"lambda_web_adapter@{_VERSION}", *_QUICKLY, "--locked", "--root", "."],
        "bin/lambda-adapter",
    )
    # As in its layer.
    start = '#!/bin/sh\nexec "$LAMBDA_TASK_ROOT/$_HANDLER"\n'
    layer = functions.aws.publish_layer_version(
        LayerName=f"web-{uuid.uuid4().hex[:8]}",
        Content={"ZipFile": zipped({"extensions/lambda-adapter": adapter, "bootstrap": start}, 0o755)},
    )
    name = functions.create_from(
        {"ZipFile": zipped({path.name: path.read_bytes() for path in source.iterdir()}, 0o755)},
        Handler="run.sh",
        Layers=[layer["LayerVersionArn"]],
        Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap"}},
        MemorySize=512,
        Timeout=20,
    )
    url = functions.aws.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
    host = {"Host": url.split("/")[2]}
    for _ in range(2):
        assert asked(functions.server, "GET", "/a/b?c=d", headers=host)[::2] == (200, b"/a/b?c=d")
        assert asked(functions.server, "POST", "/", b"\x00\xffab", headers=host)[::2] == (201, b"ba\xff\x00")
    lines = functions.logged(name, until="REPORT", count=4)
    assert any(line.startswith("EXTENSION\tName: lambda-adapter\tState: Ready") for line in lines)
    assert sum("Init Duration" in line for line in lines) == 1, "one environment served all"

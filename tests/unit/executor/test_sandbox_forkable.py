"""Which starts may be forks, and of which zygote."""

from dataclasses import replace
from pathlib import Path

import pytest

from lambent.executor.drivers.base import EnvironmentSpec
from lambent.executor.drivers.sandbox import forkable

OWN = {"LANG": "en_US.UTF-8", "LD_LIBRARY_PATH": "/lib64", "PATH": "/bin", "TZ": ":UTC"}
SPEC = EnvironmentSpec(
    "one", ("/usr/bin/python3",), OWN, Path("/task"), Path("/runtime"), None, (), 128, 512, OWN
)


def setting(**variables: str) -> EnvironmentSpec:
    return replace(SPEC, env={**OWN, **variables})


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"GREETING": "hello", "AWS_LAMBDA_LOG_FORMAT": "JSON"},
        {"TZ": "Europe/Berlin", "PATH": "/opt/bin"},
        {"PYTHONPATH": "/opt/python:/var/task/lib"},
        {"LD_LIBRARY_PATH": "/lib64"},
    ],
)
def test_these_may_be_forked(variables: dict[str, str]) -> None:
    assert forkable.obstacle(setting(**variables)) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_LAMBDA_EXEC_WRAPPER", "/opt/wrapper"),
        ("PYTHONOPTIMIZE", "1"),
        ("PYTHONHASHSEED", "0"),
        ("PYTHONWARNINGS", "error"),
        ("PYTHONPATH", "lib:/opt/python"),
        ("PYTHONPATH", "/opt/python:"),
        ("LD_LIBRARY_PATH", "/opt/lib"),
        ("LD_PRELOAD", "/opt/lib/it.so"),
        ("LANG", "C"),
        ("LC_ALL", "C"),
        ("MALLOC_ARENA_MAX", "2"),
        ("OPENSSL_CONF", "/opt/openssl.cnf"),
    ],
)
def test_a_variable_that_acts_when_a_process_starts_stands_in_the_way(name: str, value: str) -> None:
    assert forkable.obstacle(setting(**{name: value})) == name


NODE_OWN = {**OWN, "NODE_PATH": "/var/runtime/node_modules"}
NODE = replace(SPEC, argv=("/var/runtime/bin/node",), env=NODE_OWN, fork_env=None, ahead_env=NODE_OWN)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"NODE_ENV": "production", "NODE_TLS_REJECT_UNAUTHORIZED": "0", "AWS_LAMBDA_LOG_FORMAT": "JSON"},
        {"TZ": "Europe/Berlin", "PYTHONPATH": "lib", "PYTHONOPTIMIZE": "1"},
        {"NODE_OPTIONS": "--enable-source-maps  --stack-trace-limit=50"},
        {"NODE_OPTIONS": ""},
    ],
)
def test_these_of_node_may_be_made_ahead(variables: dict[str, str]) -> None:
    spec = forkable.started_with(replace(NODE, env={**NODE_OWN, **variables}))
    assert forkable.obstacle(spec) is None
    assert (spec.ahead_env or {}).get("NODE_OPTIONS") == variables.get("NODE_OPTIONS")
    same = not {"NODE_OPTIONS", "AWS_LAMBDA_LOG_FORMAT"} & set(variables)
    assert (forkable.key(spec) == forkable.key(NODE)) == same


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_LAMBDA_EXEC_WRAPPER", "/opt/wrapper"),
        ("NODE_OPTIONS", "--enable-source-maps --require /opt/first.js"),
        ("NODE_OPTIONS", "--enable-source-maps=/opt/first.js"),
        ("NODE_OPTIONS", '"--no-warnings --import=x"'),
        ("NODE_PATH", "/opt/mine"),
        ("NODE_EXTRA_CA_CERTS", "/var/task/ca.pem"),
        ("NODE_COMPILE_CACHE", "/tmp/cache"),
        ("UV_THREADPOOL_SIZE", "8"),
        ("SSL_CERT_FILE", "/opt/ca.pem"),
        ("AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA", "1"),
        ("AWS_LAMBDA_RUNTIME_VERBOSE", "3"),
        ("LANG", "C"),
        ("LD_PRELOAD", "/opt/lib/it.so"),
    ],
)
def test_a_variable_that_node_reads_when_it_starts_stands_in_the_way(name: str, value: str) -> None:
    assert forkable.obstacle(forkable.started_with(replace(NODE, env={**NODE_OWN, name: value}))) == name


def test_starts_of_one_runtime_share_a_zygote_and_others_do_not() -> None:
    key = forkable.key(SPEC)
    assert forkable.key(replace(setting(A="b"), id="two", memory_mb=1024, task_dir=Path("/other"))) == key
    assert forkable.key(replace(SPEC, argv=("/usr/bin/python3.13",))) != key
    assert forkable.key(replace(SPEC, runtime_dir=Path("/another"))) != key
    assert forkable.key(replace(SPEC, fork_env={**OWN, "LANG": "C"})) != key


def test_boto3_is_loaded_for_a_handler_whose_module_names_it(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/uses.py").write_text("import json, boto3\n")
    (tmp_path / "plain.py").write_text("import json\n")
    assert "boto3" in forkable.preload(tmp_path, "src.uses.handler")
    assert "boto3" in forkable.preload(tmp_path, "src/uses.handler")
    for handler in ("plain.handler", "missing.handler", "nothing", ""):
        assert forkable.preload(tmp_path, handler) == ()

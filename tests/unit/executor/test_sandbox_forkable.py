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

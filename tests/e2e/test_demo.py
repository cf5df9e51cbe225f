"""The parts of `make demo` that need no package index; all of it is run by itself."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import require

from lambent.cli.s3_server import ABSENT, binary

EXAMPLE = Path(__file__).parents[2] / "examples" / "image_resize"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A demo whose server is stopped at the end."""
    require("weed", binary(), ABSENT)
    monkeypatch.syspath_prepend(EXAMPLE)
    module = importlib.import_module("demo")
    server = module.Server(tmp_path)
    yield module.Demo(server, module.PHOTO, tmp_path)
    server.stop()


def test_it_reaches_its_own_servers_although_there_is_a_proxy(
    demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    demo.connect()
    demo.make_buckets()
    demo.upload()
    assert demo._fetch() is None
    assert demo._lambda.list_functions()["Functions"] == []

"""The example's own pieces: reading a picture's size, and a layer zip that is the same each time."""

import importlib.util
import struct
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "image_resize"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"image_resize_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


image_size = _load("image_size").image_size
build_layer = _load("build_layer")


def test_the_committed_photograph_has_its_size() -> None:
    photo = EXAMPLE.parent / "photo" / "grace_hopper.jpg"

    assert image_size(photo.read_bytes()) == (512, 600)


def test_a_progressive_jpeg_behind_tables_and_padding_is_read() -> None:
    tables = b"\xff\xc4\x00\x04ab" + b"\xff\xe1\x00\x06\xff\xc0zz"
    frame = b"\xff\xff\xc2" + struct.pack(">HBHH", 8, 8, 300, 400)

    assert image_size(b"\xff\xd8" + tables + frame + b"\x00\x00") == (400, 300)


def test_a_png_is_read() -> None:
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 128, 64)

    assert image_size(header) == (128, 64)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\n"])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="JPEG"):
        image_size(data)


def test_the_layer_is_the_same_whatever_the_files_times(tmp_path: Path) -> None:
    import os

    made = []
    for turn in (1, 2):
        folder = tmp_path / str(turn)
        (folder / "python" / "PIL" / "__pycache__").mkdir(parents=True)
        (folder / "python" / "PIL" / "__pycache__" / "x.pyc").write_bytes(b"x")
        for name in ("b.py", "a.py"):
            (folder / "python" / "PIL" / name).write_text("pass\n")
            os.utime(folder / "python" / "PIL" / name, (turn * 10**8, turn * 10**8))
        build_layer._pack(folder, tmp_path / f"{turn}.zip")
        made.append((tmp_path / f"{turn}.zip").read_bytes())

    assert made[0] == made[1]
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert archive.namelist() == ["python/PIL/a.py", "python/PIL/b.py"]

"""Archives that no one should send: each answer is AWS's own, what ran before runs on, and nothing is left."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator

import pytest
from refusals import ECHO, create, refused
from running import Functions, zipped

pytestmark = pytest.mark.usefixtures("unharmed")

NOT_A_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."
TOO_LARGE = "Unzipped size must be smaller than 262144000 bytes"


def entry(name: str, content: bytes, mode: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", ECHO)
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        info.create_system = 3
        archive.writestr(info, content)
    return buffer.getvalue()


def bomb(size: int) -> bytes:
    """`size` zeros, which deflate to a thousandth."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("zeros", "w") as file:
            for _ in range(size >> 20):
                file.write(bytes(1 << 20))
            file.write(bytes(size & ((1 << 20) - 1)))
    return buffer.getvalue()


def lying(archive: bytes, claimed: int) -> bytes:
    """Every header says that the entry has `claimed` bytes."""
    data = bytearray(archive)
    data[22:26] = struct.pack("<I", claimed)
    at = data.rfind(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<I", claimed)
    return bytes(data)


def truncated() -> bytes:
    whole = zipped({"app.py": ECHO, "more": b"x" * 1000})
    return whole[: len(whole) // 2]


def flipped() -> bytes:
    """One byte of the data is wrong, so its checksum is."""
    data = bytearray(zipped({"app.py": ECHO * 20}))
    data[60] ^= 0xFF
    return bytes(data)


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "no zip at all": (lambda: b"this is no zip", NOT_A_ZIP),
    "cut off": (truncated, NOT_A_ZIP),
    "a flipped byte": (flipped, NOT_A_ZIP),
    "no entries": (lambda: zipped({}), "Uploaded file must be a non-empty zip"),
    "no bytes": (lambda: b"", "Uploaded file must be a non-empty zip"),
    "parent folder": (
        lambda: zipped({"../evil.py": ECHO}),
        "Could not unzip uploaded file. The entry ../evil.py lies outside the archive.",
    ),
    "parent folder inside": (
        lambda: zipped({"a/../../evil.py": ECHO}),
        "Could not unzip uploaded file. The entry a/../../evil.py lies outside the archive.",
    ),
    "absolute name": (
        lambda: zipped({"/etc/evil": b"x"}),
        "Could not unzip uploaded file. The entry /etc/evil has an absolute name.",
    ),
    "symlink to an absolute path": (
        lambda: entry("link", b"/etc/shadow", stat.S_IFLNK | 0o777),
        "Could not unzip uploaded file. The symlink link leads out of the archive.",
    ),
    "symlink out": (
        lambda: entry("link", b"../../etc/shadow", stat.S_IFLNK | 0o777),
        "Could not unzip uploaded file. The symlink link leads out of the archive.",
    ),
    "device": (
        lambda: entry("null", b"", stat.S_IFCHR | 0o666),
        "Could not unzip uploaded file. null is neither a file, a folder nor a symlink.",
    ),
    "bomb": (lambda: bomb(262_144_001), TOO_LARGE),
    "bomb whose headers lie": (lambda: lying(bomb(262_144_001), 1000), TOO_LARGE),
    "headers that lie a little": (lambda: lying(bomb(1 << 20), 1000), NOT_A_ZIP),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_bad_archive_is_no_function(functions: Functions, kind: str) -> None:
    make, message = ARCHIVES[kind]
    assert refused(create, functions, make()) == (400, "InvalidParameterValueException", message)


@pytest.mark.parametrize("kind", ["cut off", "parent folder"])
def test_a_bad_archive_is_no_update_and_no_layer(functions: Functions, kind: str) -> None:
    make, message = ARCHIVES[kind]
    name = functions.create(ECHO)
    wanted = (400, "InvalidParameterValueException", message)
    assert refused(functions.aws.update_function_code, FunctionName=name, ZipFile=make()) == wanted
    assert functions.invoke(name, 1).result == 1, "what ran before runs on"
    layer = functions.aws.publish_layer_version
    assert refused(layer, LayerName="bad", Content={"ZipFile": make()}) == wanted
    assert functions.aws.list_layer_versions(LayerName="bad")["LayerVersions"] == []


def test_code_and_layers_together_have_the_same_bound(functions: Functions) -> None:
    half = functions.aws.publish_layer_version(LayerName="half", Content={"ZipFile": bomb(200 << 20)})
    try:
        status, code, said = refused(create, functions, bomb(100 << 20), Layers=[half["LayerVersionArn"]])
        assert (status, code, said) == (400, "InvalidParameterValueException", TOO_LARGE)
    finally:
        functions.aws.delete_layer_version(LayerName="half", VersionNumber=half["Version"])


@pytest.fixture(autouse=True)
def _layers_of_this_test(functions: Functions) -> Iterator[None]:
    """No layer of a test is left, whatever became of it."""
    yield
    for row in functions.aws.list_layer_versions(LayerName="half")["LayerVersions"]:
        functions.aws.delete_layer_version(LayerName="half", VersionNumber=row["Version"])

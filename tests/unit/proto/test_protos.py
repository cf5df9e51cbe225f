"""proto/: the stubs are those of the files, and the files keep the rules of the field's guides (as `buf lint`
STANDARD with comments has them), since others generate code from them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

ROOT = Path(__file__).parents[3]
PROTO = ROOT / "proto"
FILES = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
PASCAL = re.compile(r"([A-Z][a-z0-9]*)+")


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    """The files with their comments."""
    out = tmp_path_factory.mktemp("proto") / "set"
    arguments = [f"-I{PROTO}", "--include_source_info", f"--descriptor_set_out={out}", *FILES]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True)
    return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def test_the_stubs_are_those_of_the_files(tmp_path: Path, parsed: list[FileDescriptorProto]) -> None:
    script = ROOT / "scripts/generate_stubs.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)
    made = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*_pb2*")}
    stubs = [path for path in PROTO.rglob("*_pb2*") if path.suffix in (".py", ".pyi")]
    there = {str(path.relative_to(PROTO)): path.read_text() for path in stubs}
    with_services = [file for file in parsed if file.service]
    assert len(made) == 2 * len(FILES) + len(with_services) > 2 * len(FILES) > 0
    assert made == there, "run: make proto"


def test_packages_are_their_folders_and_versioned(parsed: list[FileDescriptorProto]) -> None:
    assert len(parsed) == len(FILES)
    for file in parsed:
        assert file.package == str(Path(file.name).parent).replace("/", ".")
        assert re.fullmatch(r".*\.v[0-9]+", file.package) and file.syntax == "proto3"
        assert SNAKE.fullmatch(Path(file.name).stem)


def test_everything_has_a_comment(parsed: list[FileDescriptorProto]) -> None:
    silent = []
    for file in parsed:
        said = {tuple(place.path) for place in file.source_code_info.location if place.leading_comments.strip()}
        silent += [f"{file.name}: {name}" for name, path in _places(file) if path not in said]
    assert silent == []


def test_names_are_as_the_guides_want_them(parsed: list[FileDescriptorProto]) -> None:
    for file in parsed:
        for message in file.message_type:
            _check_message(message)
        for enum in file.enum_type:
            _check_enum(enum)
        for service in file.service:
            assert PASCAL.fullmatch(service.name) and service.name.endswith("Service")


def test_each_rpc_has_a_request_and_a_response_of_its_own(parsed: list[FileDescriptorProto]) -> None:
    used: list[str] = []
    for file in parsed:
        for method in (method for service in file.service for method in service.method):
            assert method.input_type == f".{file.package}.{method.name}Request"
            assert method.output_type == f".{file.package}.{method.name}Response"
            used += [method.input_type, method.output_type]
    assert len(used) == len(set(used)) > 0


def _check_message(message: DescriptorProto) -> None:
    assert PASCAL.fullmatch(message.name), message.name
    for field in message.field:
        assert SNAKE.fullmatch(field.name), f"{message.name}.{field.name}"
    assert all(nested.options.map_entry for nested in message.nested_type), "names are found on the top level"


def _check_enum(enum: EnumDescriptorProto) -> None:
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    assert PASCAL.fullmatch(enum.name)
    assert (enum.value[0].name, enum.value[0].number) == (f"{prefix}UNSPECIFIED", 0)
    assert all(value.name.startswith(prefix) for value in enum.value), enum.name


def _places(file: FileDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(name, path) of all that must have a comment; the numbers are descriptor.proto's."""
    for i, message in enumerate(file.message_type):
        yield message.name, (4, i)
        yield from ((f"{message.name}.{f.name}", (4, i, 2, j)) for j, f in enumerate(message.field))
        for j, oneof in enumerate(message.oneof_decl):
            if not oneof.name.startswith("_"):  # that of an `optional` field
                yield f"{message.name}.{oneof.name}", (4, i, 8, j)
    for i, enum in enumerate(file.enum_type):
        yield enum.name, (5, i)
        yield from ((value.name, (5, i, 2, j)) for j, value in enumerate(enum.value))
    for i, service in enumerate(file.service):
        yield service.name, (6, i)
        yield from ((f"{service.name}.{m.name}", (6, i, 2, j)) for j, m in enumerate(service.method))

"""AWS's own description of the Lambda API, read from botocore, because a new operation should arrive by an
upgrade and not by writing shapes down again. This package is the only importer of botocore's model.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape

API_VERSION = "2015-03-31"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation as others may see it. `path` is the model's requestUri; `fields` are the dotted paths of
    every input field, structures and their members both, lists of structures without an index."""

    name: str
    method: str
    path: str
    status: int
    fields: tuple[str, ...]
    deprecated: bool


@dataclass(frozen=True, slots=True)
class ExceptionShape:
    """An exception of the model: its HTTP status and how it spells its message member."""

    name: str
    status: int
    message_member: str
    members: tuple[str, ...]
    headers: Mapping[str, str]


@functools.cache
def service_model() -> ServiceModel:
    """The model that ships with botocore. A user's `~/.aws/models` may hold another one for *clients*: a
    server that followed it would change its API with the home folder that it was started from."""
    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    return ServiceModel(loader.load_service_model("lambda", "service-2", API_VERSION), "lambda")


@functools.cache
def operations() -> Mapping[str, Operation]:
    model = service_model()
    return {name: _operation(model.operation_model(name)) for name in model.operation_names}


@functools.cache
def exceptions() -> Mapping[str, ExceptionShape]:
    """Exceptions of the model by name."""
    model = service_model()
    shapes = (model.shape_for(name) for name in model.shape_names)
    return {shape.name: _exception(shape) for shape in shapes if shape.metadata.get("exception")}


def members_under(shape: Shape) -> Mapping[str, Shape]:
    """The members of a structure, or of the structures in a list or map; empty for all else."""
    while shape.type_name in ("list", "map"):
        shape = shape.member if shape.type_name == "list" else shape.value
    members: Mapping[str, Shape] = shape.members if shape.type_name == "structure" else {}
    return members


def wire_name(member: str, shape: Shape) -> str:
    """The member's name in JSON, in the query string or as a header."""
    name: str = shape.serialization.get("name", member)
    return name


def lower_first(member: str) -> str:
    """As AWS's messages write a member: only its first letter changes (`KMSKeyArn` is `kMSKeyArn`)."""
    return member[:1].lower() + member[1:]


def _operation(operation: OperationModel) -> Operation:
    http: Mapping[str, Any] = operation.http
    fields = _fields(operation.input_shape, "", ()) if operation.input_shape is not None else ()
    return Operation(
        name=operation.name,
        method=http["method"],
        path=http["requestUri"],
        status=http.get("responseCode", 200),
        fields=tuple(fields),
        deprecated=bool(operation.deprecated),
    )


def _fields(shape: Shape, prefix: str, above: tuple[str, ...]) -> Iterator[str]:
    for member, inner in members_under(shape).items():
        yield prefix + member
        if inner.name not in above:  # a shape that holds itself is listed once
            yield from _fields(inner, f"{prefix}{member}.", (*above, inner.name))


def _exception(shape: Shape) -> ExceptionShape:
    members = tuple(shape.members)
    return ExceptionShape(
        name=shape.name,
        status=shape.metadata["error"]["httpStatusCode"],
        message_member=next((member for member in members if member.lower() == "message"), "Message"),
        members=members,
        headers={
            member: wire_name(member, inner)
            for member, inner in shape.members.items()
            if inner.serialization.get("location") == "header"
        },
    )
